/**
 * Undoes attachments by their journals alone: strictly backwards, links last and all at once, addresses after the links
 * that had them, the journal when nothing that it names is left.
 */
import { parseNetworkName, show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json } from "../base/json.ts";
import { parseCniArgs } from "../cni/env.ts";
import { formatResult, parseResult } from "../cni/result.ts";
import type { NetConf, Result } from "../cni/types.ts";
import { NEWEST } from "../cni/version.ts";
import { binaryDelegate } from "../delegate/binary.ts";
import type { Target } from "../delegate/delegate.ts";
import { GuestError } from "../delegate/guest.ts";
import { isIpamNumber } from "../delegate/ipam.ts";
import type { DelegateNode } from "../delegate/node.ts";
import { recordId, settledAuthor } from "../delegate/record.ts";
import { recordedGuest } from "../delegate/resolve.ts";
import { returnDevice } from "../host/device.ts";
import { undoLinks, undoStep } from "../host/undo.ts";
import { giveBack } from "../ipam/dhcp/lease.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { removeInfo } from "../state/device-info.ts";
import type { Entry, UndoStep } from "../state/entries.ts";
import type { Journal, PendingUndo } from "../state/journal.ts";
import { endGroup, isAlive } from "../sys/child.ts";
import { leaveObject } from "./objects.ts";

/** How long a delegate that outlived its process is given to end by itself. */
const OUTLIVED_MS = 500;

export interface UndoContext {
  readonly node: DelegateNode;
  /** The kernel of the pod's namespace, when that is the one of the journals and within reach. */
  readonly pod: Kernel | undefined;
  /** CNI_NETNS for the delegates' DEL: empty when the namespace is gone. */
  readonly netns: string;
  /** What the runtime gave with this call, for delegates of which no record is left. */
  readonly path: readonly string[];
}

interface Part {
  readonly journal: Journal;
  /** Addresses, to be freed when the links are gone. */
  readonly late: PendingUndo[];
  /** Why it stays as it is, for the retry. */
  failure: CniError | undefined;
  /** What a guest said, or was stopped for: it is told, and keeps nothing. */
  complaint: CniError | undefined;
}

/**
 * Undoes the attachments, the last first. One that fails keeps its links, its addresses and its journal for the
 * retry; the others go on.
 *
 * @param journals In the order of their ADD.
 * @returns The failures, none when nothing is left.
 */
export function undoAttachments(journals: readonly Journal[], context: UndoContext): readonly CniError[] {
  const parts = journals
    .toReversed()
    .map((journal): Part => ({ journal, late: [], failure: undefined, complaint: undefined }));
  for (const part of parts) {
    attempt(part, () => {
      endOutlived(part.journal);
      undoBeforeLinks(part, context);
    });
  }
  const whole = parts.filter((part) => part.failure === undefined);
  const places = { pod: context.pod, host: context.node.host() };
  for (const { part, cause } of undoLinks(
    whole.map((part) => part.journal),
    places,
  )) {
    const failed = whole[part];
    if (failed !== undefined) attempt(failed, () => fail(cause));
  }
  for (const part of whole) {
    attempt(part, () => {
      // Devices go home before the address that they had is free for another pod.
      const devices = part.late.filter(({ step }) => step.do === "device");
      for (const pending of devices) returnHome(part.journal, pending, context);
      for (const pending of part.late) if (!devices.includes(pending)) undoLate(part.journal, pending, context);
      forget(part.journal, context.node);
    });
  }
  return parts.flatMap((part) => part.failure ?? part.complaint ?? []);
}

function fail(cause: unknown): never {
  throw cause;
}

/** Runs a part's work unless the part has failed; what it throws is the part's failure. */
function attempt(part: Part, work: () => void): void {
  if (part.failure !== undefined) return;
  try {
    work();
  } catch (thrown) {
    part.failure = failureOf(part.journal, thrown);
  }
}

function failureOf({ header }: Journal, thrown: unknown): CniError {
  const { label, ifname } = header;
  const cause = CniError.from(thrown);
  return new CniError(cause.code, `Cannot detach "${ifname}" from network ${show(label)}: ${cause.message}`, {
    remedy: cause.remedy,
    cause: thrown,
  });
}

/** Ends delegates that our killed predecessor left running: what they still did would belong to nobody. */
export function endOutlived(journal: Journal): void {
  for (const process of running(journal.entries)) endGroup(process, isAlive(process) ? OUTLIVED_MS : 0);
}

function running(entries: readonly Entry[]): Extract<Entry, { is: "running" }>["process"][] {
  const left = new Map<number, Extract<Entry, { is: "running" }>["process"]>();
  for (const entry of entries) {
    if (entry.is === "running") left.set(entry.plugin, entry.process);
    else if (entry.is === "ended") left.delete(entry.plugin);
  }
  return [...left.values()];
}

/** Everything but links and addresses, the latest first. */
function undoBeforeLinks(part: Part, context: UndoContext): void {
  const { journal } = part;
  const places = { pod: context.pod, host: context.node.host() };
  for (const pending of journal.pending()) {
    const { step, id } = pending;
    if (step.do === "link" || step.do === "pod-link") continue;
    if (isLate(step)) {
      part.late.push(pending);
      continue;
    }
    if (step.do === "delegate") {
      try {
        deleteDelegate(journal, step.plugin, context);
      } catch (thrown) {
        if (!isLastWord(thrown)) throw thrown;
        part.complaint ??= failureOf(journal, thrown);
      }
      journal.undone(id);
      context.node.store.durable.remove(recordId(journal, step.plugin));
    } else if (step.do === "dhcp") {
      // While its link is there: the server is told on the link.
      giveBack(journal.header, context.node.store.dhcp, context.pod);
      journal.undone(id);
    } else undoStep(step, journal.entries, places);
  }
}

/** Addresses are free only when nothing has them. */
function isLate(step: UndoStep): boolean {
  if (step.do === "delegate") return isIpamNumber(step.plugin);
  return ["lease", "pool", "network-object", "device", "device-info"].includes(step.do);
}

/** A guest is asked once: unless it says "try again", the host undoes the rest, whatever became of the guest. */
const isLastWord = (thrown: unknown): boolean => thrown instanceof GuestError && thrown.code !== Code.TryAgainLater;

function undoLate(journal: Journal, { id, step }: PendingUndo, context: UndoContext): void {
  const { store } = context.node;
  const { container, ifname } = journal.header;
  if (step.do === "lease") releaseLease(step, { container, ifname }, context.node);
  else if (step.do === "pool")
    store.leases.open(step.pool, { create: false })?.[Symbol.dispose](); // goes when empty
  else if (step.do === "device-info") removeInfo(step.name);
  else if (step.do === "network-object") leaveObject(step, { container, key: journal.key }, context.node);
  else if (step.do === "delegate") {
    deleteDelegate(journal, step.plugin, context);
    store.durable.remove(recordId(journal, step.plugin));
  }
  journal.undone(id);
}

/** A device goes home, by the pod's namespace if that is there. */
function returnHome(journal: Journal, { id, step, facts }: PendingUndo, { node, pod }: UndoContext): void {
  if (step.do !== "device") return;
  const index = typeof facts?.index === "number" ? facts.index : undefined;
  const { container } = journal.header;
  returnDevice(step.device, { container, key: journal.key }, { pod, index }, node.devices());
  journal.undone(id);
}

function releaseLease(
  step: Extract<UndoStep, { do: "lease" }>,
  owner: { container: string; ifname: string },
  node: DelegateNode,
): void {
  if (node.store.leases.release(step.pool, step.address, owner) !== "unreadable") return;
  // The journal says whose it is, and the file no longer can.
  using pool = node.store.leases.open(step.pool, { create: false });
  pool?.reclaim(step.address);
}

/** Nothing that the journal names is left. */
function forget(journal: Journal, node: DelegateNode): void {
  for (const entry of journal.entries) {
    if (entry.is === "delegate" && entry.durable) node.store.durable.remove(recordId(journal, entry.plugin));
  }
  journal.remove();
}

/** Runs the DEL of a CNI binary, an IPAM, or a guest that asked to be run, with what it had on ADD. */
function deleteDelegate(journal: Journal, plugin: number, context: UndoContext): void {
  const entry = journal.entries.findLast((e) => e.is === "delegate" && e.plugin === plugin);
  if (entry?.is !== "delegate") return;
  const record = context.node.store.durable.get(recordId(journal, plugin));
  const { header } = journal;
  const target: Target = {
    containerId: header.container,
    ifname: header.ifname,
    netns: context.netns,
    args: parseCniArgs(record?.args ?? "", true),
    path: record === undefined || record.path === "" ? context.path : record.path.split(":"),
  };
  const network = parseNetworkName(header.network);
  const attachment = {
    node: context.node,
    network,
    ...settledAuthor(header),
    journal,
    ...(context.pod && { pod: context.pod }),
  };
  const delegate =
    entry.how === "guest"
      ? recordedGuest(entry.type, entry.sha256, context.node)
      : binaryDelegate(entry.type, target.path, context.node);
  const result = latestResult(journal, plugin);
  delegate.run({ command: "DEL", target, plugin, conf: withPrevious(entry.config, result) }, attachment);
}

/**
 * The final result when ADD succeeded; otherwise what the plugins came to, since a plugin that failed half way finds by
 * it what it made. An IPAM gets none.
 */
function latestResult(journal: Journal, plugin: number): Result | undefined {
  if (isIpamNumber(plugin)) return undefined;
  const latest = journal.done?.result ?? journal.entries.findLast((e) => e.is === "result")?.result;
  return isObject(latest) ? parseResult(latest as Json, NEWEST) : undefined;
}

export function withPrevious(config: NetConf, result: Result | undefined): NetConf {
  const { prevResult: _, ...conf } = config;
  if (result === undefined) return conf;
  const version = typeof conf.cniVersion === "string" ? conf.cniVersion : NEWEST;
  return { ...conf, prevResult: formatResult(result, version) };
}

/** One error for several attachments: the first one's code, all of their sentences. */
export function combined(failures: readonly CniError[]): CniError {
  const [first, ...rest] = failures;
  if (first === undefined) throw new TypeError("Cannot combine no failures");
  if (rest.length === 0) return first;
  return new CniError(first.code || Code.Internal, failures.map((f) => f.message).join("; "), {
    remedy: first.remedy,
    cause: first,
  });
}

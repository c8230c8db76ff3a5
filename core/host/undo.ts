/**
 * Takes back what journals say, without the guests that did it. Steps go backwards; the deletion of links is put off
 * to the end and done for all journals at once, because deleting several links in one message costs the kernel little
 * more than deleting one.
 */
import { parseCidr } from "../base/ip.ts";
import type { Json, JsonObject } from "../base/json.ts";
import { type Kernel, KernelError, type Link, type LinkChange } from "../kernel/kernel.ts";
import type { Entry, Place, UndoStep } from "../state/entries.ts";
import { SysError } from "../sys/error.ts";
import { neighbourFromRecord } from "./calls/address.ts";
import { removeFilter } from "./calls/filter.ts";
import { removeNft } from "./calls/nft.ts";
import { removePorts } from "./calls/port.ts";
import { routeFromRecord, ruleFromRecord } from "./calls/route.ts";
import { isBegun, isMade, type OwnLink, ownLinks } from "./facts.ts";

export interface UndoPart {
  readonly entries: readonly Entry[];
  /** Hears of each step that is taken back. */
  undone?(id: number): void;
}

export interface UndoFailure {
  /** Which of the parts. */
  readonly part: number;
  readonly id: number;
  readonly step: UndoStep;
  readonly cause: unknown;
}

export interface UndoPlaces {
  /** The pod's kernel, its namespace checked by cookie; undefined when that is gone, and with it all that was in it. */
  readonly pod: Kernel | undefined;
  readonly host: Kernel;
}

const gone = new Set(["ENOENT", "ENODEV", "ESRCH", "EADDRNOTAVAIL", "ENXIO"]);

/** What is no longer there needs no undoing. */
function tolerant(work: () => void): void {
  try {
    work();
  } catch (thrown) {
    const errno = thrown instanceof KernelError || thrown instanceof SysError ? thrown.errnoName : undefined;
    if (errno === undefined || !gone.has(errno)) throw thrown;
  }
}

const flags = ["up", "promisc", "allmulti", "isolated"] as const;
const numbers = ["mtu", "master", "txQueueLength"] as const;
const texts = ["mac", "name"] as const;

/** The former state of a link, as far as the record is one. */
function formerChange(former: JsonObject): LinkChange {
  const change: { [key: string]: Json } = {};
  for (const key of flags) if (typeof former[key] === "boolean") change[key] = former[key];
  for (const key of numbers) if (typeof former[key] === "number") change[key] = former[key];
  for (const key of texts) if (typeof former[key] === "string") change[key] = former[key];
  return change as LinkChange;
}

const RESTORE_WAIT_MS = 2500;

/**
 * Gives a link back what it had. What the kernel will not take is left out: it is there already, or what it stood on has
 * gone with somebody else, and no retry would mend that.
 */
function putBack(kernel: Kernel, step: Extract<UndoStep, { do: "restore" }>): void {
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (thrown) {
      if (!(thrown instanceof KernelError)) throw thrown;
    }
  };
  for (const text of step.addresses) {
    const address = parseCidr(text);
    // It was in use, so nobody else has it.
    if (address !== undefined) attempt(() => kernel.addAddress(step.link.index, { address, noDad: true }));
  }
  // One that stayed is looked at by the kernel anew, and no route can have it as its source until then.
  if (step.addresses.length > 0) attempt(() => kernel.waitAddresses(step.link.index, RESTORE_WAIT_MS));
  for (const record of step.routes) {
    const route = routeFromRecord(record);
    if (route !== undefined) attempt(() => kernel.addRoute(route, "append"));
  }
}

const refusals = new Set(["EINVAL", "EACCES", "EPERM", "EROFS", "ERANGE"]);

/** A value that the kernel gave and does not take back would keep a pod from ever being deleted. */
function restoreSysctl(kernel: Kernel, step: Extract<UndoStep, { readonly do: "sysctl" }>): void {
  try {
    kernel.setSysctl(step.key, step.former);
  } catch (thrown) {
    if (!(thrown instanceof SysError) || !refusals.has(thrown.errnoName)) throw thrown;
  }
}

/** One step that is not the deletion of a link. @returns False for a step that is not the kernel's. */
function takeBack(step: UndoStep, places: UndoPlaces): boolean {
  if (step.do === "nft") {
    tolerant(() => removeNft(places.host, step));
    return true;
  }
  if (step.do === "ports") {
    tolerant(() => removePorts(places.host, step));
    return true;
  }
  if (step.do === "filter") {
    tolerant(() => removeFilter(places.host, step));
    return true;
  }
  if (step.do === "link" || step.do === "pod-link" || step.do === "lease" || step.do === "pool") return false;
  if (step.do === "network-object" || step.do === "delegate" || step.do === "dhcp") return false;
  if (step.do === "device" || step.do === "device-info") return false;
  const kernel = step.in === "pod" ? places.pod : places.host;
  if (kernel === undefined) return true;
  tolerant(() => {
    switch (step.do) {
      case "unset": {
        const change = formerChange(step.former);
        if (Object.keys(change).length > 0) kernel.setLink(step.link.index, change);
        break;
      }
      case "address": {
        const address = parseCidr(step.address);
        if (address !== undefined) kernel.deleteAddress(step.link.index, { address });
        break;
      }
      case "route": {
        const route = routeFromRecord(step.route);
        if (route !== undefined) kernel.deleteRoute(route);
        break;
      }
      case "rule": {
        const rule = ruleFromRecord(step.rule);
        if (rule !== undefined) kernel.deleteRule(rule);
        break;
      }
      case "restore":
        putBack(kernel, step);
        break;
      case "neighbour": {
        const neighbour = neighbourFromRecord(step.neighbour, step.link.index);
        if (neighbour !== undefined) kernel.deleteNeighbour(neighbour);
        break;
      }
      case "sysctl":
        restoreSysctl(kernel, step);
        break;
      case "tc": {
        const link = kernel.linkByIndex(step.link.index);
        // Its address tells it from another attachment's that has its index by now.
        if (link?.mac === step.link.mac) kernel.clearTraffic(link.index, step.rule);
        break;
      }
    }
  });
  return true;
}

const onLinks: readonly string[] = ["unset", "address", "neighbour", "restore", "tc"];

/** Where a step's effect was on a link that this journal deletes anyway. */
function diesWithLink(step: UndoStep, own: readonly OwnLink[]): boolean {
  if (!onLinks.includes(step.do) || !("link" in step)) return false;
  return own.some((o) => o.made?.in === step.in && o.made.index === step.link.index);
}

/**
 * Takes one step back, unless what it did goes with a link that the same journal deletes anyway.
 *
 * @returns False for a step that is not the kernel's, or is a link's.
 * @throws {KernelError | SysError} when the kernel refuses; what is gone already is no refusal.
 */
export function undoStep(step: UndoStep, entries: readonly Entry[], places: UndoPlaces): boolean {
  return diesWithLink(step, ownLinks(entries)) || takeBack(step, places);
}

/**
 * Deletes the links of several journals, those in the pod all at once.
 *
 * @param parts In any order; each loses all its links.
 * @returns What could not be deleted.
 */
export function undoLinks(parts: readonly UndoPart[], places: UndoPlaces): UndoFailure[] {
  const failures: UndoFailure[] = [];
  const doomed = parts.flatMap((part, p) =>
    ownLinks(part.entries)
      .toReversed()
      .map((own) => ({ part: p, own })),
  );
  const shared = parts.flatMap((part, p) => podLinks(part.entries).map((link) => ({ part: p, ...link })));
  if (doomed.length > 0 || shared.length > 0) deleteAll(doomed, shared, parts, places, failures);
  return failures;
}

interface SharedLink {
  readonly part: number;
  readonly id: number;
  readonly step: Extract<UndoStep, { do: "pod-link" }>;
}

/** The pod's own links that a journal says the attachment uses. */
function podLinks(entries: readonly Entry[]): Omit<SharedLink, "part">[] {
  const over = new Set(entries.flatMap((e) => (e.is === "undone" ? [e.id] : [])));
  return entries.flatMap((e) =>
    e.is === "undo" && e.step.do === "pod-link" && !over.has(e.id) ? [{ id: e.id, step: e.step }] : [],
  );
}

/** Which of the pod's shared links nobody uses when `going` are gone. */
function unused(
  shared: readonly SharedLink[],
  going: readonly Link[],
  all: readonly Link[],
): { readonly by: SharedLink; readonly link: Link }[] {
  const found = new Map<number, { readonly by: SharedLink; readonly link: Link }>();
  for (const by of shared) {
    const { kind, name, mac } = by.step;
    const link = all.find((l) => l.kind === kind && l.name === name && l.mac === mac);
    if (link === undefined) continue;
    const members = all.filter((l) => l.master === link.index);
    if (members.every((m) => going.some((g) => g.index === m.index))) found.set(link.index, { by, link });
  }
  return [...found.values()];
}

interface Doomed {
  readonly part: number;
  readonly own: OwnLink;
}

/** The link that a record means, if it is there and still that link. */
function find(own: OwnLink, where: Place, kernel: Kernel, all: () => readonly Link[]): Link | undefined {
  if (own.made !== undefined) {
    if (own.made.in !== where) return undefined;
    const link = kernel.linkByIndex(own.made.index);
    return link !== undefined && isMade(own, where, link) ? link : undefined;
  }
  if (where === "pod") return all().find((link) => isBegun(own, link));
  for (const name of [own.step.name, own.step.temporary]) {
    const link = name === undefined ? undefined : kernel.linkByName(name);
    if (link !== undefined && isBegun(own, link)) return link;
  }
  return undefined;
}

function deleteAll(
  doomed: readonly Doomed[],
  shared: readonly SharedLink[],
  parts: readonly UndoPart[],
  places: UndoPlaces,
  failures: UndoFailure[],
): void {
  const left = new Map<number, unknown>();
  const attempt = (n: number, work: () => void): void => {
    try {
      tolerant(work);
    } catch (cause) {
      left.set(n, cause);
    }
  };
  // What is in the pod goes at once, and the node's ends of its veths with it. Where the node has other links too, its
  // own go at once, and the pod's ends with them: each deletion waits for a grace period of the kernel.
  const onNode = ({ own: { made, step } }: Doomed): boolean =>
    (made?.in ?? step.in) === "host" && (made?.kind ?? step.kind) !== "veth";
  const order = doomed.some(onNode) ? (["host", "pod"] as const) : (["pod", "host"] as const);
  for (const where of order) {
    const kernel = where === "pod" ? places.pod : places.host;
    if (kernel === undefined) continue;
    let listed: readonly Link[] | undefined;
    const all = (): readonly Link[] => (listed ??= kernel.links());
    const found: { readonly n: number; readonly link: Link }[] = [];
    for (const [n, d] of doomed.entries()) {
      attempt(n, () => {
        const link = find(d.own, where, kernel, all);
        if (link !== undefined && !found.some((f) => f.link.index === link.index)) found.push({ n, link });
      });
    }
    const last =
      where === "pod" && shared.length > 0
        ? unused(
            shared,
            found.map((f) => f.link),
            all(),
          )
        : [];
    if (found.length + last.length > 1) {
      try {
        kernel.deleteLinks([...found, ...last].map((f) => f.link));
        continue;
      } catch {
        // One of them stays: singly, the others go and the error is that one's.
      }
    }
    for (const { n, link } of found) attempt(n, () => void kernel.deleteLink(link.index));
    for (const { by, link } of last) {
      try {
        tolerant(() => void kernel.deleteLink(link.index));
      } catch (cause) {
        failures.push({ part: by.part, id: by.id, step: by.step, cause });
      }
    }
  }
  for (const [n, d] of doomed.entries()) {
    const cause = left.get(n);
    if (cause === undefined) parts[d.part]?.undone?.(d.own.id);
    else failures.push({ part: d.part, id: d.own.id, step: d.own.step, cause });
  }
}

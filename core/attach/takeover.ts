/**
 * Pods that another program attached before us: Multus, whose own cache says which delegates they have, or the runtime
 * itself, whose libcni keeps the list that it ran. Their DEL is ours to run, and their CHECK.
 */
import { parsePluginType, show } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { type AttachmentInvocation, delegateArgs } from "../cni/env.ts";
import { typeOf } from "../cni/list.ts";
import { deriveRequest } from "../cni/request.ts";
import { chooseVersion, isAtLeast } from "../cni/version.ts";
import { binaryDelegate, findBinary } from "../delegate/binary.ts";
import type { Delegate } from "../delegate/delegate.ts";
import { isOurselves } from "../delegate/resolve.ts";
import {
  type CachedAttachment,
  cachedAttachments,
  type FormerDelegate,
  LIBCNI_RESULTS,
  MULTUS_RESULTS,
  readMultusCache,
} from "../source/former.ts";
import { unlink } from "../sys/files.ts";
import { formerDelegate } from "./former.ts";
import type { Node } from "./node.ts";

type Invocation = Extract<AttachmentInvocation, { command: "ADD" | "CHECK" | "DEL" }>;

const CHECK_SINCE = "0.4.0";
/** Lists with one of these were ours, or Multus's, whose own records say more. */
const META_TYPES = ["patchbay", "multus", "multus-shim"];

interface Former extends Pick<FormerDelegate, "label" | "list" | "mac" | "ips"> {
  readonly ifname: string;
  /** Who attached it, for messages. */
  readonly by: "Multus" | "the container runtime";
  readonly cached?: CachedAttachment;
}

interface FormerPod {
  /** In the order of their ADD, as far as it is known. */
  readonly formers: readonly Former[];
  /** Records of the pod as a whole, which go when all that they name is gone. */
  readonly records: readonly string[];
}

/**
 * @param network The name of the runtime's configuration: the record of that name is libcni's to remove.
 * @returns What failed; its record then stays for the retry. Nothing when there is no record.
 */
export function takeOver(invocation: Invocation, network: string, node: Node): readonly CniError[] {
  const { formers, records } = findFormer(invocation, network, node);
  const failures: CniError[] = [];
  for (const former of formers.toReversed()) {
    try {
      runAll("DEL", former, invocation, node);
      const { cached, by } = former;
      if (cached !== undefined && (by === "Multus" || cached.network !== network)) unlink(cached.path);
    } catch (thrown) {
      const cause = CniError.from(thrown);
      const { label, by } = former;
      failures.push(
        new CniError(cause.code, `Cannot detach ${show(label)}, which ${by} attached: ${cause.message}`, {
          remedy: cause.remedy,
          cause: thrown,
        }),
      );
    }
  }
  if (failures.length === 0) for (const path of records) unlink(path);
  return failures;
}

/** @returns False when no record names the pod. @throws {CniError} The first plugin's own error. */
export function checkTakenOver(invocation: Invocation, network: string, node: Node): boolean {
  const { formers } = findFormer(invocation, network, node);
  for (const former of formers) if (!former.list.disableCheck) runAll("CHECK", former, invocation, node);
  return formers.length > 0;
}

function findFormer({ containerId, ifname }: Invocation, network: string, node: Node): FormerPod {
  const formers: Former[] = [];
  const records: string[] = [];
  const multus = readMultusCache(containerId, ifname);
  if (multus !== undefined) {
    formers.push(...multus.delegates.map((delegate): Former => ({ ...delegate, by: "Multus" })));
    if (multus.damaged.length === 0) records.push(multus.path);
    else {
      const which = multus.damaged.map((index) => `element ${index}`).join(", ");
      node.log("error", `"${multus.path}" stays: ${which} cannot be read, so what Multus attached is not all known`);
    }
  }
  // What Multus's list has lost, libcni may have kept.
  const listed = new Set(formers.flatMap(({ cached }) => cached?.path ?? []));
  for (const cached of cachedAttachments(containerId, MULTUS_RESULTS)) {
    if (!listed.has(cached.path)) formers.push(...fromCache(cached, "Multus"));
  }
  for (const cached of cachedAttachments(containerId, LIBCNI_RESULTS)) {
    if (cached.ifname !== ifname || cached.list === undefined) continue;
    if (!cached.list.plugins.some((plugin) => META_TYPES.includes(typeOf(plugin)))) {
      formers.push(...fromCache(cached, "the container runtime"));
    } else if (formers.length > 0 && cached.network !== network) records.push(cached.path);
  }
  return { formers, records };
}

function fromCache(cached: CachedAttachment, by: Former["by"]): readonly Former[] {
  const { list, network, ifname } = cached;
  return list === undefined ? [] : [{ label: network, ifname, list, by, cached }];
}

function runAll(command: "CHECK" | "DEL", former: Former, invocation: Invocation, node: Node): void {
  const { list, cached } = former;
  const context = { node, network: list.name, author: { node: true }, settled: true } as const;
  const delegates = list.plugins.map((plugin) => delegateOf(typeOf(plugin), invocation.path, node));
  const version = chooseVersion(
    list.name,
    list.cniVersion,
    delegates.map((d) => ({ type: d.type, supported: d.versions() })),
  );
  if (command === "CHECK" && !isAtLeast(version, CHECK_SINCE)) return;
  const requests = { ...(former.mac && { mac: former.mac }), ...(former.ips && { ips: former.ips }) };
  const target = {
    containerId: invocation.containerId,
    ifname: former.ifname,
    netns: invocation.netns ?? cached?.netns ?? "",
    args: delegateArgs(invocation.args, requests),
    path: invocation.path,
  };
  const order = [...delegates.entries()];
  for (const [plugin, delegate] of command === "DEL" ? order.toReversed() : order) {
    const conf = deriveRequest(list, plugin, version, {
      runtimeConfig: cached?.capabilityValues ?? {},
      ...(cached?.result && { prevResult: cached.result }),
    });
    delegate.run({ command, target, plugin, conf }, context);
  }
}

/** The program that made it where that is still there, which knows all that it did; else the built-in of its name. */
function delegateOf(type: string, path: readonly string[], node: Node): Delegate {
  const builtIn = node.builtIn(type);
  if (builtIn === undefined || hasProgram(type, path)) return binaryDelegate(type, path, node);
  return formerDelegate(builtIn, node);
}

function hasProgram(type: string, path: readonly string[]): boolean {
  try {
    findBinary(parsePluginType(type), path);
    return !isOurselves(parsePluginType(type), path);
  } catch (thrown) {
    if (thrown instanceof CniError) return false;
    throw thrown;
  }
}

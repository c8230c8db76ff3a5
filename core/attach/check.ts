/** CHECK: whether what the journals say is what the pod has. */

import { type NetworkName, parseIfName, parseNetworkName } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject } from "../base/json.ts";
import { type CniArgs, delegateArgs, parseCniArgs } from "../cni/env.ts";
import { parseResult } from "../cni/result.ts";
import { isAtLeast, NEWEST } from "../cni/version.ts";
import { ipamNumber, isIpamNumber } from "../delegate/ipam.ts";
import { recordId, settledAuthor } from "../delegate/record.ts";
import { resolveDelegate } from "../delegate/resolve.ts";
import type { Journal } from "../state/journal.ts";
import { type AddInvocation, isOf, openPodNetns } from "./add.ts";
import { requireTime } from "./chain.ts";
import { type FormerCall, runFormer } from "./former.ts";
import type { Node, PodNetns } from "./node.ts";
import type { Operation } from "./operation.ts";
import { checkTakenOver } from "./takeover.ts";
import { withPrevious } from "./undo.ts";

/** The command came with this version. */
const CHECK_SINCE = "0.4.0";

export interface CheckCaller {
  readonly type: string;
  readonly network: NetworkName;
  readonly version: string;
  /** Of a built-in that is called by its own name: what came on stdin. */
  readonly single?: Pick<FormerCall, "doc" | "author">;
}

/** @throws {CniError} 3 when nothing is known of the attachment; the first delegate's own error. */
export function checkCall(invocation: AddInvocation, caller: CheckCaller, operation: Operation): void {
  if (!isAtLeast(caller.version, CHECK_SINCE)) {
    throw new CniError(
      Code.IncompatibleVersion,
      `Cannot check network "${caller.network}": CNI version ${caller.version} does not allow CHECK`,
      { remedy: `Set cniVersion of the configuration to ${CHECK_SINCE} or later` },
    );
  }
  using container = operation.lock(invocation.containerId, false);
  const journals = container?.attachments().filter((journal) => isOf(journal, caller, invocation.ifname)) ?? [];
  if (journals.length === 0) {
    if (checkUnknown(invocation, caller, operation.node)) return;
    throw new CniError(
      Code.UnknownContainer,
      `Cannot check "${invocation.ifname}" of network "${caller.network}" in container "${invocation.containerId}": it was never added, or is deleted`,
      { remedy: "Start the pod again" },
    );
  }
  using netns = openPodNetns(invocation, operation);
  for (const journal of journals) checkAttachment(journal, invocation, netns, operation);
}

/** @returns False when no other program made it either. */
function checkUnknown(invocation: AddInvocation, caller: CheckCaller, node: Node): boolean {
  const { type, network, single } = caller;
  if (single === undefined) return checkTakenOver(invocation, network, node);
  return runFormer("CHECK", { type, network, ...single }, invocation, node);
}

function checkAttachment(journal: Journal, invocation: AddInvocation, netns: PodNetns, operation: Operation): void {
  const { header, done } = journal;
  const what = `"${header.ifname}" of network "${header.label}"`;
  if (header.netns.cookie !== netns.cookie) {
    throw new CniError(
      Code.UnknownContainer,
      `Cannot find ${what} in "${netns.path}": it was added to another network namespace`,
      {
        remedy: "Start the pod again",
      },
    );
  }
  if (done === undefined) {
    throw new CniError(Code.UnknownContainer, `Cannot use ${what}: its ADD did not end`, {
      remedy: "Start the pod again",
    });
  }
  if (header.disableCheck) return;
  const result = isObject(done.result) ? parseResult(done.result, NEWEST) : undefined;
  const network = parseNetworkName(header.network);
  for (const entry of journal.entries) {
    if (entry.is !== "delegate" || isIpamNumber(entry.plugin)) continue;
    const version = typeof entry.config.cniVersion === "string" ? entry.config.cniVersion : "";
    if (!isAtLeast(version, CHECK_SINCE)) continue; // a network of an older version stands behind ours
    requireTime(operation, `CHECK of plugin "${entry.type}"`);
    const context = {
      node: operation.node,
      network,
      identity: { container: invocation.containerId, ifname: parseIfName(header.ifname) },
      ...settledAuthor(header),
      pod: netns.kernel,
      journal,
    };
    const target = {
      containerId: header.container,
      ifname: header.ifname,
      netns: netns.path,
      args: argsOfAdd(journal, entry.plugin, invocation, operation),
      path: invocation.path,
    };
    const conf = withPrevious(entry.config, result);
    resolveDelegate(entry.type, invocation.path, context).run(
      { command: "CHECK", target, plugin: entry.plugin, conf },
      context,
    );
  }
}

/** What a binary, or a plugin's IPAM that is one, got on ADD: also the address that the pod asked for. */
function argsOfAdd(journal: Journal, plugin: number, invocation: AddInvocation, operation: Operation): CniArgs {
  const { durable } = operation.node.store;
  const recorded = journal.entries.find((e) => {
    return e.is === "delegate" && e.durable && (e.plugin === plugin || e.plugin === ipamNumber(plugin));
  });
  const record = recorded?.is === "delegate" ? durable.get(recordId(journal, recorded.plugin)) : undefined;
  if (record !== undefined) return parseCniArgs(record.args, true);
  return journal.header.type === "patchbay" ? delegateArgs(invocation.args) : invocation.args;
}

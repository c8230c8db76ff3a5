/** DEL: all that the call's ADD made goes, by the records alone, however often it is asked and whatever is already gone. */
import {
  type ContainerId,
  type NetnsPath,
  type NetworkName,
  parseContainerId,
  parseIfName,
  parseNetworkName,
} from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { isObject } from "../base/json.ts";
import { type AttachmentInvocation, parseCniArgs } from "../cni/env.ts";
import { parseResult } from "../cni/result.ts";
import { NEWEST } from "../cni/version.ts";
import { binaryDelegate } from "../delegate/binary.ts";
import type { DelegateCall } from "../delegate/delegate.ts";
import type { AttachmentContext } from "../delegate/node.ts";
import { settledAuthor } from "../delegate/record.ts";
import { recordedGuest } from "../delegate/resolve.ts";
import { returnUnknown } from "../host/device.ts";
import { giveBack } from "../ipam/dhcp/lease.ts";
import type { DhcpIdentity } from "../state/dhcp.ts";
import type { FoundRecord } from "../state/durable.ts";
import type { Journal } from "../state/journal.ts";
import { isOf } from "./add.ts";
import { type FormerCall, runFormer } from "./former.ts";
import type { Node } from "./node.ts";
import type { Operation } from "./operation.ts";
import { openPodOf, podOfJournals } from "./pod.ts";
import { salvage } from "./salvage.ts";
import { takeOver } from "./takeover.ts";
import { combined, undoAttachments, withPrevious } from "./undo.ts";

export type DeleteInvocation = Extract<AttachmentInvocation, { command: "DEL" }>;

export interface DeleteCaller {
  readonly type: string;
  readonly network: NetworkName;
  /** Of a built-in that is called by its own name: what came on stdin. */
  readonly single?: Pick<FormerCall, "doc" | "author">;
}

/** @throws {CniError} When something that the records name could not be undone; it stays recorded for the retry. */
export function deleteCall(invocation: DeleteInvocation, caller: DeleteCaller, operation: Operation): void {
  using container = operation.lock(invocation.containerId, false);
  const failures: CniError[] = [];
  const journals = container?.attachments() ?? [];
  const ours = journals.filter((journal) => isOf(journal, caller, invocation.ifname));
  failures.push(...deleteJournals(ours, invocation, operation));
  if (container !== undefined && container.damaged.length > 0) {
    operation.node.log("error", `damaged journals are put aside: ${container.damaged.join("; ")}`);
    const left = salvage(container, operation.node);
    if (left.length === 0) container.quarantine();
    failures.push(...left);
  }
  operation.step("undo");
  failures.push(...deleteOrphanRecords(invocation.containerId, journals, operation.node));
  if (ours.length === 0) failures.push(...deleteUnknown(invocation, caller, operation.node));
  if (failures.length > 0) throw combined(failures);
}

/** No journal says what there is, so another program made it, or nobody did. */
function deleteUnknown(invocation: DeleteInvocation, caller: DeleteCaller, node: Node): readonly CniError[] {
  const { type, network, single } = caller;
  if (single === undefined) return takeOver(invocation, network, node);
  try {
    runFormer("DEL", { type, network, ...single }, invocation, node);
    return [];
  } catch (thrown) {
    return [CniError.from(thrown)];
  }
}

/** Undoes journals whose pod may still be there. */
export function deleteJournals(
  journals: readonly Journal[],
  invocation: { readonly netns?: NetnsPath; readonly path: readonly string[] },
  operation: Operation,
): readonly CniError[] {
  if (journals.length === 0) return [];
  const { node } = operation;
  using pod = podOfJournals(journals, invocation.netns, node);
  return undoAttachments(journals, { node, pod: pod?.kernel, netns: pod?.path ?? "", path: invocation.path });
}

/**
 * Runs the DEL of recorded delegates that no journal knows: the journals went with a reboot, or were damaged. What the
 * kernel had is gone or salvaged; what such a delegate keeps elsewhere is not.
 */
export function deleteOrphanRecords(
  container: ContainerId,
  journals: readonly Journal[],
  node: Node,
): readonly CniError[] {
  const keys = new Set(journals.map((journal) => journal.key));
  const failures: CniError[] = [];
  for (const record of node.store.durable.list(container).toSorted((a, b) => b.plugin - a.plugin)) {
    if (keys.has(record.key)) continue;
    try {
      deleteRecorded(record, node);
      node.store.durable.remove(record);
    } catch (thrown) {
      failures.push(CniError.from(thrown));
    }
  }
  if (node.store.devices.used) failures.push(...returnUnknown(container, keys, node.devices()));
  return [...failures, ...dropLeases(container, journals, node)];
}

/** DHCP leases that no journal leads to any more, and those of a CNI binary whose namespace has gone. */
function dropLeases(container: ContainerId, journals: readonly Journal[], node: Node): readonly CniError[] {
  const isNamed = (id: DhcpIdentity): boolean =>
    journals.some(({ header }) => header.network === id.network && header.ifname === id.ifname);
  const { dhcp } = node.store;
  return dhcp.list(container).flatMap((record) => {
    if (isNamed(record)) return [];
    try {
      using pod = record.earlierBoot ? undefined : openPodOf(record.netns);
      if (record.journal || pod === undefined) giveBack(record, dhcp, pod?.kernel);
      return [];
    } catch (thrown) {
      return [CniError.from(thrown)];
    }
  });
}

function deleteRecorded(record: FoundRecord, node: Node): void {
  const path = record.path.split(":").filter((directory) => directory !== "");
  const { plugin } = record;
  const entries = Object.entries(record.notes).map(([key, value]) => ({ is: "note", plugin, key, value }) as const);
  const context: AttachmentContext = {
    node,
    network: parseNetworkName(record.network),
    ...settledAuthor(record),
    identity: { container: parseContainerId(record.container), ifname: parseIfName(record.ifname) },
    notes: { entries, append: () => {} }, // DEL sets none
  };
  const result = isObject(record.result) ? parseResult(record.result, NEWEST) : undefined;
  const call: DelegateCall = {
    command: "DEL",
    target: {
      containerId: record.container,
      ifname: record.ifname,
      netns: "",
      args: parseCniArgs(record.args, true),
      path,
    },
    plugin,
    conf: withPrevious(record.config, record.how === "ipam" ? undefined : result),
  };
  const delegate =
    record.how === "guest" ? recordedGuest(record.type, record.sha256, node) : binaryDelegate(record.type, path, node);
  delegate.run(call, context);
}

/** The IPAM of a network, run for the plugin that asks: ours in this process, or a CNI binary. */
import { CniError, Code } from "../base/error.ts";
import { isObject, member } from "../base/json.ts";
import { ipamTypeOf } from "../cni/list.ts";
import type { NetConf } from "../cni/types.ts";
import type { IpamNode, IpamRequest, IpamResult } from "../ipam/ipam.ts";
import { ipams, runOwn } from "../ipam/ipams.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Operation } from "../policy/decide.ts";
import { type Author, hasLeasesApart, isOfNode, type Policy, refuseBinary } from "../policy/policy.ts";
import { openRecorded } from "../sys/find-netns.ts";
import { binaryDelegate } from "./binary.ts";
import type { Delegate, DelegateCall } from "./delegate.ts";
import type { AttachmentContext, DelegateNode } from "./node.ts";
import { intendDelegate } from "./record.ts";

/** A plugin's IPAM binary has a number of its own in the journal, away from the plugins'. */
const IPAM_NUMBERS = 1000;

export const ipamNumber = (plugin: number): number => IPAM_NUMBERS + plugin;
export const isIpamNumber = (plugin: number): boolean => plugin >= IPAM_NUMBERS;

/**
 * @returns What an ADD gave; nothing for the other commands, and for a plugin without `ipam.type`.
 * @throws {CniError} Its own error, or ours when it is not there.
 */
export function runIpam(
  command: Operation,
  call: Pick<DelegateCall, "conf" | "target" | "plugin">,
  context: AttachmentContext,
): IpamResult | undefined {
  const own = ipams.get(ipamTypeOf(call.conf) ?? "");
  if (own !== undefined) {
    const leases = context.leases ?? context.node.store.leases;
    return runOwn(own, ownRequest(command, call, context), leases, context.journal);
  }
  const binary = ipamBinary(call.conf, call.target.path, context);
  return binary && runBinaryIpam(binary, command, call, context);
}

/**
 * The CNI binary that gives a built-in its addresses.
 *
 * @returns `undefined` where one of ours does, or none is asked for.
 * @throws {CniError} 7 when it is not there, 101 when the policy does not let this network run it.
 */
export function ipamBinary(
  conf: NetConf,
  path: readonly string[],
  context: Pick<AttachmentContext, "node" | "author" | "settled">,
): Delegate | undefined {
  const type = requireMayGiveAddresses(conf, context);
  return type === undefined ? undefined : binaryDelegate(type, path, context.node);
}

/**
 * @returns The type of the CNI binary that gives addresses; `undefined` where that is one of ours, or none.
 * @throws {CniError} 101 when the policy does not let this network run it.
 */
export function requireMayGiveAddresses(
  conf: NetConf,
  context: Pick<AttachmentContext, "node" | "author" | "settled">,
): string | undefined {
  const type = ipamTypeOf(conf);
  if (type === undefined || ipams.has(type)) return undefined;
  const refusal = context.settled ? undefined : refuseBinary(context.node.policy, context.author, type);
  if (refusal !== undefined) throw refusal;
  return type;
}

/** What an IPAM of ours may do for a configuration of this author, and whose its pool is. */
export function ipamRights(policy: Policy, author: Author): Pick<IpamRequest, "nodeFiles" | "pool"> {
  const nodeFiles = isOfNode(author);
  if ("node" in author || nodeFiles) return { nodeFiles };
  return { nodeFiles, pool: { namespace: author.namespace, apart: hasLeasesApart(policy, author) } };
}

function ownRequest(
  command: Operation,
  call: Pick<DelegateCall, "conf" | "target">,
  context: AttachmentContext,
): IpamRequest {
  const runtimeConfig = member(call.conf, "runtimeConfig");
  return {
    command,
    conf: call.conf,
    network: context.network,
    containerId: call.target.containerId,
    ifname: call.target.ifname,
    cookie: context.journal?.header.netns.cookie ?? "",
    args: call.target.args,
    runtimeConfig: isObject(runtimeConfig) ? runtimeConfig : {},
    ...ipamRights(context.node.policy, context.author),
    ...(context.gc && { gc: context.gc }),
    node: ipamNode(context.node, context.pod, call.target.netns),
  };
}

/** What an IPAM of ours needs that talks on the network. */
export function ipamNode(
  node: Pick<DelegateNode, "store" | "deadlineMs" | "stop">,
  pod: Kernel | undefined,
  netnsPath: string,
): IpamNode {
  return {
    dhcp: node.store.dhcp,
    pod,
    netnsPath,
    deadlineMs: node.deadlineMs,
    stop: node.stop,
    isNetnsAlive(netns) {
      using found = openRecorded(netns);
      return found !== undefined;
    },
  };
}

function runBinaryIpam(
  delegate: Delegate,
  command: Operation,
  call: Pick<DelegateCall, "conf" | "target" | "plugin">,
  context: AttachmentContext,
): IpamResult | undefined {
  const { conf, target } = call;
  const plugin = ipamNumber(call.plugin);
  const { type } = delegate;
  if (command === "ADD" && context.journal !== undefined) {
    intendDelegate({ plugin, type, how: "ipam", conf }, target, { node: context.node, journal: context.journal });
  }
  const result = delegate.run({ command, target, plugin, conf }, context);
  if (command !== "ADD") return undefined;
  if (result === undefined || result.ips.length === 0) {
    throw new CniError(Code.InvalidConfig, `Cannot use the answer of IPAM "${type}": it has no address`, {
      remedy: "Look at the configuration of the IPAM, and whether addresses are left",
    });
  }
  return { ips: result.ips.map(({ interface: _, ...ip }) => ip), routes: result.routes, dns: result.dns };
}

/**
 * Attachments that another program made with a plugin whose name is ours now: no journal knows them, but the result of
 * their ADD says what they are. A link is taken for theirs when it has the place, the kind and the address that the
 * result says; what is not so is left alone.
 */
import { type IfName, type NetworkName, parseContainerId, parseIfName, parseNetnsPath } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, member } from "../base/json.ts";
import type { AttachmentInvocation } from "../cni/env.ts";
import { ipamTypeOf } from "../cni/list.ts";
import { formatResult, parseResult } from "../cni/result.ts";
import type { NetConf, Result, ResultInterface } from "../cni/types.ts";
import { NEWEST, SUPPORTED } from "../cni/version.ts";
import type { Delegate, DelegateCall, Target } from "../delegate/delegate.ts";
import { guestDelegate } from "../delegate/guest.ts";
import { runIpam } from "../delegate/ipam.ts";
import type { AttachmentContext, BuiltIn } from "../delegate/node.ts";
import { undoLinks } from "../host/undo.ts";
import { referenceLeases } from "../ipam/reference.ts";
import type { Kernel, Link } from "../kernel/kernel.ts";
import { removeReferenceQueue } from "../kernel/reference-links.ts";
import { removeReferenceMacCheck, removeReferenceMasquerade, removeReferencePorts } from "../kernel/reference-rules.ts";
import { type Author, isOfNode } from "../policy/policy.ts";
import { type CachedAttachment, LIBCNI_RESULTS, MULTUS_RESULTS, readLibcniCache } from "../source/former.ts";
import type { Entry, Place } from "../state/entries.ts";
import { deleteFormerRules } from "./former-rules.ts";
import type { Node, PodNetns } from "./node.ts";

/** The kind of the interface that each plugin makes in a pod. */
const KINDS: ReadonlyMap<string, string> = new Map([
  ["bridge", "veth"],
  ["ptp", "veth"],
  ["macvlan", "macvlan"],
  ["ipvlan", "ipvlan"],
  ["vlan", "vlan"],
  ["dummy", "dummy"],
  ["tap", "tun"],
]);
/** As the reference plugins name the node's end. A network's own veth, `<bridge>.<vlan>`, is named otherwise. */
const HOST_END = /^veth[0-9a-f]{8}$/;
/** The reference keeps these in rules of iptables, or in tables of its own: CHECK looks for ours. */
const IN_RULES = ["ipMasq", "macspoofchk"];
/** It makes rules alone, and they are found by the names of network and container. */
const PORTS = "portmap";

/** A built-in, run for an attachment that is not in any journal. Only DEL and CHECK make sense. */
export function formerDelegate(plugin: BuiltIn, node: Node): Delegate {
  const type = plugin.manifest.name;
  return {
    type,
    how: "guest",
    versions: () => SUPPORTED,
    run(call, context) {
      using pod = openFormer(call.target.netns, node);
      if (call.command === "CHECK" && !KINDS.has(type)) return undefined;
      if (call.command === "CHECK") return checkFormer(plugin, call, { ...context, ...known(call, context, pod) });
      deleteFormer(type, call, { ...context, ...known(call, context, pod) });
      return undefined;
    },
  };
}

/** The pod's namespace, which no cookie proves: that it is not the node's own is all that can be asked. */
function openFormer(path: string, node: Node): PodNetns | undefined {
  if (path === "") return undefined;
  try {
    const pod = node.openPod(parseNetnsPath(path));
    if (pod?.cookie !== String(node.ownNetns.cookie)) return pod;
    pod[Symbol.dispose]();
  } catch (thrown) {
    if (!(thrown instanceof CniError)) throw thrown; // something else stands at the path
  }
  return undefined;
}

type Known = Pick<AttachmentContext, "identity" | "notes" | "leases"> & { readonly pod?: Kernel };

function known(call: DelegateCall, context: AttachmentContext, pod: PodNetns | undefined): Known {
  const { conf, target } = call;
  const result = previousOf(conf);
  const kind = KINDS.get(typeof conf.type === "string" ? conf.type : "");
  const places = { pod: pod?.kernel, host: context.node.host() };
  const entries = result && kind ? entriesOf(result, kind, parseIfName(target.ifname), places) : [];
  const nodeFiles = isOfNode(context.author);
  return {
    identity: { container: parseContainerId(target.containerId), ifname: parseIfName(target.ifname) },
    notes: { entries, append: () => {} },
    ...(ipamTypeOf(conf) === "host-local" && {
      leases: referenceLeases({ conf, network: context.network, nodeFiles }),
    }),
    ...(pod && { pod: pod.kernel }),
  };
}

/** The result as a journal would have it: the links that are still what it says. */
function entriesOf(
  result: Result,
  kind: string,
  ifname: IfName,
  places: { readonly pod: Kernel | undefined; readonly host: Kernel },
): readonly Entry[] {
  const found: { in: Place; link: Link }[] = [];
  // Results before 0.3.0 name no interfaces.
  const named: readonly ResultInterface[] =
    result.interfaces.length > 0 ? result.interfaces : [{ name: ifname, sandbox: "unknown" }];
  for (const { name, mac, sandbox } of named) {
    const where: Place = sandbox === undefined ? "host" : "pod";
    const isTheirs = where === "pod" ? name === ifname : kind === "veth" && mac !== undefined && HOST_END.test(name);
    const link = isTheirs ? places[where]?.linkByName(name) : undefined;
    if (link === undefined || link.kind !== kind || (mac !== undefined && link.mac !== mac)) continue;
    found.push({ in: where, link });
  }
  return found.flatMap(({ in: where, link: { name, index, mac } }, id): readonly Entry[] => [
    { is: "undo", id: id + 1, step: { do: "link", in: where, name, kind, mac: mac ?? "" } },
    { is: "made", id: id + 1, facts: { in: where, index, kind, mac: mac ?? "" } },
  ]);
}

function deleteFormer(type: string, call: DelegateCall, context: AttachmentContext & Known): void {
  const { pod, node, notes } = context;
  const result = previousOf(call.conf);
  if (type === "firewall" && result !== undefined) deleteFormerRules(call.conf, result, node);
  const [failure] = undoLinks([{ entries: notes?.entries ?? [] }], { pod, host: node.host() });
  if (failure !== undefined) throw failure.cause;
  const { containerId: container, ifname } = call.target;
  const attached = { network: context.network, container, ifname };
  if (call.conf.macspoofchk === true) removeReferenceMacCheck(node.host(), attached);
  if (type === PORTS) removeReferencePorts(node.host(), attached);
  runIpam("DEL", call, context);
  // As the reference does it: an address is hidden as long as the pod may have it.
  if (call.conf.ipMasq === true) removeReferenceMasquerade(node.host(), attached);
  if (type === "bandwidth") removeReferenceQueue(node.host(), attached);
  node.log("debug", `"${type}" was not ours: its links and addresses are gone`);
}

function checkFormer(plugin: BuiltIn, call: DelegateCall, context: AttachmentContext): undefined {
  if (plugin.manifest.name === PORTS) return;
  const conf = Object.fromEntries(Object.entries(call.conf).filter(([key]) => !IN_RULES.includes(key)));
  guestDelegate(plugin).run({ ...call, conf: conf as NetConf }, context);
}

function previousOf(conf: NetConf): Result | undefined {
  const previous = member(conf, "prevResult");
  const version = member(conf, "cniVersion");
  if (!isObject(previous)) return undefined;
  try {
    return parseResult(previous, typeof version === "string" && version !== "" ? version : "0.1.0");
  } catch (thrown) {
    if (thrown instanceof CniError) return undefined; // a record that cannot be read is no record
    throw thrown;
  }
}

// --- a built-in by the name of its link -----------------------------------------------------------------------------

/** What a runtime, or Multus, says of an attachment that it had made by the plugin whose name is ours. */
export interface FormerCall {
  readonly type: string;
  readonly network: NetworkName;
  /** The configuration on stdin. */
  readonly doc: Json;
  readonly author: Author;
}

/**
 * DEL or CHECK of an attachment without a journal.
 *
 * @returns False when neither the call nor a cache of libcni's has a result: then nobody says that it was ever made.
 * @throws {CniError} What the plugin or its IPAM says.
 */
export function runFormer(
  command: "DEL" | "CHECK",
  { type, network, doc, author }: FormerCall,
  invocation: Extract<AttachmentInvocation, { command: "DEL" | "CHECK" | "ADD" }>,
  node: Node,
): boolean {
  const builtIn = node.builtIn(type);
  if (builtIn === undefined || !isObject(doc)) return false;
  const { containerId, ifname, args, path } = invocation;
  const cached = cachedOf(network, containerId, ifname);
  const given = previousOf(doc as NetConf);
  const result = given ?? cached?.result;
  const target: Target = { containerId, ifname, netns: invocation.netns ?? cached?.netns ?? "", args, path };
  const context = { node, network, author, ...(command === "DEL" && { settled: true as const }) };
  const version = typeof doc.cniVersion === "string" && doc.cniVersion !== "" ? doc.cniVersion : NEWEST;
  const { prevResult: _, ...rest } = doc;
  const conf: NetConf = { ...rest, name: network, type, ...(result && { prevResult: formatResult(result, version) }) };
  const needsResult = type !== PORTS && ipamTypeOf(conf) !== "host-local";
  if (result === undefined && (command === "CHECK" || needsResult)) return false;
  if (command === "CHECK" && !KINDS.has(type)) return false;
  try {
    formerDelegate(builtIn, node).run({ command, target, plugin: 0, conf }, context);
  } catch (thrown) {
    // By a configuration that cannot be used nothing was made.
    if (result !== undefined || !(thrown instanceof CniError) || thrown.code !== Code.InvalidConfig) throw thrown;
  }
  return true;
}

function cachedOf(network: string, containerId: string, ifname: string): CachedAttachment | undefined {
  return (
    readLibcniCache(network, containerId, ifname, LIBCNI_RESULTS) ??
    readLibcniCache(network, containerId, ifname, MULTUS_RESULTS)
  );
}

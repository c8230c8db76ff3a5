/** `host-local`, `static` and `dhcp` by the names of their links, for CNI binaries that run an IPAM of their own. */
import type { Node, PodNetns } from "../core/attach/node.ts";
import { CniError, Code } from "../core/base/error.ts";
import { isObject, type Json, type JsonObject, member } from "../core/base/json.ts";
import type { Invocation } from "../core/cni/env.ts";
import { formatResult } from "../core/cni/result.ts";
import { knownVersion } from "../core/cni/version.ts";
import type { AuthorAbove } from "../core/delegate/author.ts";
import { ipamNode, ipamRights } from "../core/delegate/ipam.ts";
import { dhcp } from "../core/ipam/dhcp/dhcp.ts";
import type { IpamRequest } from "../core/ipam/ipam.ts";
import { ipams, runOwn } from "../core/ipam/ipams.ts";
import { referenceLeases } from "../core/ipam/reference.ts";
import { nameOfConf } from "../core/plan/conf.ts";
import { openPolicy } from "../core/policy/policy.ts";
import { validAttachments } from "./input.ts";
import { readPolicy } from "./policy.ts";

/**
 * Leases of host-local are written in the reference's own files: the plugin that runs us, and whatever it ran before us,
 * knows those.
 *
 * @param above Set for a network that a namespace wrote: it has no path on the node.
 * @returns The result of an ADD in the configuration's version; nothing for the other commands.
 * @throws {CniError}
 */
export function runIpamPlugin(
  type: string,
  invocation: Invocation,
  doc: Json,
  { above, node }: { readonly above: AuthorAbove | undefined; readonly node: Node },
): JsonObject | undefined {
  const ipam = ipams.get(type);
  if (ipam === undefined || !isObject(doc)) {
    throw new CniError(Code.Decode, `Cannot run "${type}": expected a JSON object on stdin`, {
      remedy: "Send the network configuration",
    });
  }
  const version = versionOf(doc);
  const { command } = invocation;
  if (command === "VERSION") return undefined; // answered before anything is loaded
  const runtimeConfig = member(doc, "runtimeConfig");
  const valid = command === "GC" ? (validAttachments(doc) ?? []) : [];
  using pod = type === dhcp.type ? openPod(invocation, node) : undefined;
  const request: IpamRequest = {
    command,
    conf: doc,
    network: nameOfConf(doc),
    containerId: "containerId" in invocation ? invocation.containerId : "",
    ifname: "ifname" in invocation ? invocation.ifname : "",
    cookie: "",
    args: invocation.args,
    runtimeConfig: isObject(runtimeConfig) ? runtimeConfig : {},
    ...rightsOf(above, command === "DEL"),
    ...(command === "GC" && { gc: { valid, isAlive: () => undefined, isNamed: () => false } }),
    ...(type === dhcp.type && { node: ipamNode(node, pod?.kernel, pod?.path ?? "") }),
  };
  const result = runOwn(ipam, request, referenceLeases(request));
  return result && formatResult({ interfaces: [], ...result }, version);
}

function rightsOf(above: AuthorAbove | undefined, isDel: boolean): Pick<IpamRequest, "nodeFiles" | "pool"> {
  if (above === undefined) return { nodeFiles: true };
  // DEL looks into every pool that may be the network's, so a policy that cannot be read does not keep it.
  const policy = isDel || above.policyFile === undefined ? openPolicy : readPolicy(above.policyFile);
  return ipamRights(policy, above.author);
}

/** What talks on the network works in the pod's namespace, and keeps what it leased in our own state. */
function openPod(invocation: Invocation, node: Node): PodNetns | undefined {
  if (invocation.command === "ADD" && node.stop === undefined) node.installStop();
  const netns = "netns" in invocation ? invocation.netns : undefined;
  return netns === undefined ? undefined : node.openPod(netns);
}

function versionOf(doc: JsonObject): string {
  const value = member(doc, "cniVersion") ?? "";
  const version = typeof value === "string" ? knownVersion(value) : undefined;
  if (version !== undefined) return version;
  throw new CniError(Code.IncompatibleVersion, `Cannot use CNI version ${JSON.stringify(value)}: it is not known`, {
    remedy: "Set cniVersion to a version from 0.1.0 to 1.1.0",
  });
}

/** A built-in that the runtime, or a CNI binary, calls by the name of its link: a network of one plugin. */
import { parseIfName } from "../base/brand.ts";
import type { Json, JsonObject } from "../base/json.ts";
import { isObject, member } from "../base/json.ts";
import { parseNetworkList } from "../cni/list.ts";
import { formatResult, parseResult } from "../cni/result.ts";
import { emptyResult, type Result } from "../cni/types.ts";
import { podOf } from "../plan/pod.ts";
import type { Author } from "../policy/policy.ts";
import {
  type AddInvocation,
  attachAll,
  type Caller,
  lockForAdd,
  openPodNetns,
  replaceDead,
  soleAttachment,
} from "./add.ts";
import type { Operation } from "./operation.ts";

/**
 * @param type The name that we were called by, such as "bridge".
 * @param author Who wrote the configuration.
 * @returns The result in the configuration's version.
 */
export function addSingle(
  invocation: AddInvocation,
  type: string,
  doc: Json,
  author: Author,
  operation: Operation,
): JsonObject {
  const list = parseNetworkList(doc);
  const pod = podOf(invocation.args);
  const caller: Caller = { type, network: list.name, ...(pod && { pod }) };
  const prevResult = previousOf(doc, list.cniVersion);
  using netns = openPodNetns(invocation, operation);
  using container = lockForAdd(invocation, operation);
  replaceDead(container, invocation, caller, netns, operation);
  const attachment = soleAttachment(
    list,
    { ...invocation, ifname: parseIfName(invocation.ifname) },
    runtimeConfigOf(doc),
  );
  const wanted = { attachment, author, ...(prevResult && { prevResult }) };
  const results = attachAll([wanted], {}, [], { invocation, caller, container, netns, operation });
  return formatResult(results.get(0) ?? emptyResult, list.cniVersion);
}

const runtimeConfigOf = (doc: Json): Json | undefined => (isObject(doc) ? member(doc, "runtimeConfig") : undefined);

function previousOf(doc: Json, version: string): Result | undefined {
  const previous = isObject(doc) ? member(doc, "prevResult") : undefined;
  return previous === undefined ? undefined : parseResult(previous, version, "prevResult");
}

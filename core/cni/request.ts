/** The configuration that one plugin of a list gets on stdin. */
import { type Json, type JsonObject, withoutNulls } from "../base/json.ts";
import { declares } from "./list.ts";
import { formatResult } from "./result.ts";
import type { NetConf, NetworkList, Result } from "./types.ts";

export interface ValidAttachment {
  readonly containerID: string;
  readonly ifname: string;
}

export interface RequestParts {
  /** Capability values, as the runtime gave them; the plugin gets those that it declares. */
  readonly runtimeConfig?: JsonObject;
  /** The result so far on ADD, the final one on CHECK and DEL. */
  readonly prevResult?: Result;
}

/** Keys that are made anew for each request: what the author wrote under them is left out. */
const OURS = new Set([
  "cniversion",
  "name",
  "prevresult",
  "runtimeconfig",
  "cni.dev/valid-attachments",
  "cni.dev/attachments",
]);

/**
 * Derives the request: version, name, the capability values that the plugin declares, the previous result. Every other
 * key goes through as its author wrote it.
 *
 * @param version The version that the list runs in, see `chooseVersion()`.
 * @throws {CniError} 1 when `prevResult` cannot be said in that version.
 * @see CNI SPEC.md, section "Deriving requests from network configuration"
 */
export function deriveRequest(list: NetworkList, index: number, version: string, parts: RequestParts = {}): NetConf {
  const plugin = list.plugins[index];
  if (plugin === undefined) throw new RangeError(`Cannot derive a request: the list has no plugin ${index}`);
  const out: Record<string, Json> = { cniVersion: version, name: list.name };
  const declared = declaredValues(plugin, parts.runtimeConfig ?? {});
  for (const [key, value] of Object.entries(plugin)) {
    // Go takes keys without regard to case, so a second "Name" would win over ours.
    if (!OURS.has(key.toLowerCase())) out[key] = value;
  }
  if (Object.keys(declared).length > 0) out.runtimeConfig = declared;
  if (parts.prevResult !== undefined) out.prevResult = formatResult(parts.prevResult, version);
  return out;
}

/** The values whose capability the plugin declares `true`; `null` counts as not supplied. */
export function declaredValues(plugin: NetConf, values: JsonObject): JsonObject {
  const out: Record<string, Json> = {};
  for (const [name, value] of Object.entries(values)) {
    if (value !== null && declares(plugin, name)) out[name] = value;
  }
  return out;
}

/** A plugin's configuration without `null` members, as a module reads it. A CNI binary gets them as they were. */
export function canonicalRequest(request: NetConf): NetConf {
  return withoutNulls(request) as NetConf;
}

/**
 * What libcni and Multus recorded of pods made before a migration, so that their DEL and CHECK find what to undo. Read
 * only: whoever acts on a record removes its file when all is undone.
 */
import { type ContainerId, type IfName, isIfName } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { isObject, type Json, JsonError, type JsonObject, member, parseJson } from "../base/json.ts";
import type { CniArgs } from "../cni/env.ts";
import { parseNetworkList } from "../cni/list.ts";
import { parseResult } from "../cni/result.ts";
import type { NetworkList, Result } from "../cni/types.ts";
import { isAbsentFile, namesInDirectory } from "../sys/files.ts";
import { readWhole } from "./file.ts";

export const LIBCNI_RESULTS = "/var/lib/cni/results";
export const MULTUS_DIR = "/var/lib/cni/multus";
/** libcni's cache for what Multus attached. */
export const MULTUS_RESULTS = `${MULTUS_DIR}/results`;
const LIMITS = { maxBytes: 4 << 20, maxTokens: 200_000 } as const;
const KIND = "cniCacheV1";

/** One file of libcni's cache. */
export interface CachedAttachment {
  readonly path: string;
  readonly network: string;
  readonly containerId: string;
  readonly ifname: string;
  readonly netns?: string;
  /** Absent in files of old versions, which hold the result alone. */
  readonly list?: NetworkList;
  readonly args: CniArgs;
  readonly capabilityValues: JsonObject;
  /** Absent when it cannot be read: DEL then goes on without, as libcni does. */
  readonly result?: Result;
}

/**
 * The record of one attachment.
 *
 * @param dir `/var/lib/cni/results` for a runtime's, `/var/lib/cni/multus/results` for Multus's delegates.
 * @returns `undefined` when there is none or it is damaged: what it said is then unknown, and DEL goes by names.
 */
export function readLibcniCache(
  network: string,
  containerId: ContainerId | string,
  ifname: string,
  dir = LIBCNI_RESULTS,
): CachedAttachment | undefined {
  const path = `${dir}/${network}-${containerId}-${ifname}`;
  const doc = readDocument(path);
  if (!isObject(doc)) return undefined;
  const base = { path, network, containerId, ifname };
  if (member(doc, "kind") !== KIND) {
    const result = attempt(() => parseResult(doc, "0.1.0"));
    return result === undefined ? undefined : { ...base, args: new Map(), capabilityValues: {}, result };
  }
  return fromRecord(path, doc, base);
}

function fromRecord(
  path: string,
  doc: JsonObject,
  base: Pick<CachedAttachment, "network" | "containerId" | "ifname">,
): CachedAttachment {
  const config = member(doc, "config");
  const list = typeof config === "string" ? attempt(() => fromBase64(config)) : undefined;
  const cached = member(doc, "result");
  const result = cached === undefined ? undefined : attempt(() => parseResult(cached, list?.cniVersion ?? "1.0.0"));
  const netns = member(doc, "netns");
  const values = member(doc, "capabilityArgs");
  return {
    ...base,
    path,
    args: argsOf(member(doc, "cniArgs")),
    capabilityValues: isObject(values) ? values : {},
    ...(typeof netns === "string" && netns !== "" ? { netns } : {}),
    ...(list === undefined ? {} : { list }),
    ...(result === undefined ? {} : { result }),
  };
}

function fromBase64(text: string): NetworkList {
  return parseNetworkList(parseJson(Uint8Array.fromBase64(text), LIMITS), { what: "the recorded network" });
}

function argsOf(value: Json | undefined): CniArgs {
  const args = new Map<string, string>();
  for (const pair of Array.isArray(value) ? value : []) {
    const [key, text] = Array.isArray(pair) ? pair : [];
    if (typeof key === "string" && typeof text === "string") args.set(key, text);
  }
  return args;
}

/** All records of one container, in the order of the file names. */
export function cachedAttachments(containerId: ContainerId, dir = LIBCNI_RESULTS): CachedAttachment[] {
  const part = `-${containerId}-`;
  return names(dir).flatMap((name) => {
    const at = name.indexOf(part);
    if (at <= 0 || at + part.length >= name.length) return [];
    const path = `${dir}/${name}`;
    const doc = readDocument(path);
    // A name can hold the id by chance; the record itself says whose it is.
    if (!isObject(doc) || member(doc, "kind") !== KIND || member(doc, "containerId") !== containerId) return [];
    const network = member(doc, "networkName");
    const ifname = member(doc, "ifName");
    if (typeof network !== "string" || typeof ifname !== "string" || !isIfName(ifname)) return [];
    return [fromRecord(path, doc, { network, containerId, ifname })];
  });
}

/** All records of one network that can be read, in the order of the file names. */
export function cachedOfNetwork(network: string, dir = LIBCNI_RESULTS): CachedAttachment[] {
  return names(dir).flatMap((name) => {
    if (!name.startsWith(`${network}-`)) return [];
    const path = `${dir}/${name}`;
    const doc = readDocument(path);
    if (!isObject(doc) || member(doc, "kind") !== KIND || member(doc, "networkName") !== network) return [];
    const containerId = member(doc, "containerId");
    const ifname = member(doc, "ifName");
    if (typeof containerId !== "string" || typeof ifname !== "string") return [];
    return [fromRecord(path, doc, { network, containerId, ifname })];
  });
}

/** One network of a pod that Multus attached. */
export interface FormerDelegate {
  /** `namespace/name`, or the name of the default network's configuration. */
  readonly label: string;
  readonly ifname: IfName;
  readonly isDefault: boolean;
  readonly list: NetworkList;
  readonly mac?: string;
  readonly ips?: readonly string[];
  readonly deviceID?: string;
  readonly resourceName?: string;
  /** libcni's record of the same attachment, with the last result. */
  readonly cached?: CachedAttachment;
}

/** What Multus recorded of one pod. */
export interface FormerPod {
  readonly path: string;
  /** In the order of attachment; undo them in reverse. */
  readonly delegates: readonly FormerDelegate[];
  /** Elements that could not be read, by their place. */
  readonly damaged: readonly number[];
}

/**
 * Multus's own cache, which knows every network of a pod by container id.
 *
 * @param runtimeIfname The interface name of the runtime's call: the default network's.
 * @returns `undefined` when there is none, or it is not the list that Multus writes.
 */
export function readMultusCache(
  containerId: ContainerId,
  runtimeIfname: IfName,
  cniDir = MULTUS_DIR,
): FormerPod | undefined {
  const path = `${cniDir}/${containerId}`;
  const doc = readDocument(path);
  if (!Array.isArray(doc)) return undefined;
  const delegates: FormerDelegate[] = [];
  const damaged: number[] = [];
  for (const [index, element] of doc.entries()) {
    const delegate = isObject(element) ? attempt(() => fromDelegate(element, index, runtimeIfname)) : undefined;
    if (delegate === undefined) {
      damaged.push(index);
      continue;
    }
    const cached = readLibcniCache(delegate.list.name, containerId, delegate.ifname, `${cniDir}/results`);
    delegates.push({ ...delegate, ...(cached === undefined ? {} : { cached }) });
  }
  return { path, delegates, damaged };
}

function fromDelegate(element: JsonObject, index: number, runtimeIfname: IfName): FormerDelegate {
  const list = delegateList(element);
  const text = (key: string): string | undefined => {
    const value = member(element, key);
    return typeof value === "string" && value !== "" ? value : undefined;
  };
  const requested = text("ifnameRequest");
  const ifname = requested ?? (index === 0 ? runtimeIfname : `net${index}`);
  if (!isIfName(ifname)) throw new JsonError(`no interface name: ${ifname}`);
  const ips = member(element, "ipRequest");
  const [mac, deviceID, resourceName] = [text("macRequest"), text("deviceID"), text("resourceName")];
  return {
    label: text("Name") ?? list.name,
    ifname: ifname as IfName,
    isDefault: index === 0,
    list,
    ...(mac === undefined ? {} : { mac }),
    ...(Array.isArray(ips) ? { ips: ips.filter((ip) => typeof ip === "string") } : {}),
    ...(deviceID === undefined ? {} : { deviceID }),
    ...(resourceName === undefined ? {} : { resourceName }),
  };
}

/** The configuration as it ran, in `Bytes`; without it what Multus made of it, which has CNI's own keys alone. */
function delegateList(element: JsonObject): NetworkList {
  const bytes = member(element, "Bytes");
  if (typeof bytes === "string" && bytes !== "") return fromBase64(bytes);
  for (const key of ["ConfList", "Conf"]) {
    const conf = member(element, key);
    if (isObject(conf) && (member(conf, "type") || member(conf, "plugins"))) {
      return parseNetworkList(conf, { what: "the recorded network" });
    }
  }
  throw new JsonError("no configuration");
}

function names(dir: string): string[] {
  try {
    return namesInDirectory(dir);
  } catch (cause) {
    if (isAbsentFile(cause)) return [];
    throw cause;
  }
}

function readDocument(path: string): Json | undefined {
  const bytes = attempt(() => readWhole(path, "the record", LIMITS.maxBytes));
  return bytes === undefined ? undefined : attempt(() => parseJson(bytes, LIMITS));
}

/** A record that cannot be read is no record: DEL must not fail on what another program left. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (thrown) {
    if (thrown instanceof CniError || thrown instanceof JsonError || thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

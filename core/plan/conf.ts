/** The meta-plugin's own configuration, as it arrives on stdin. An unknown key is an error: a typo must not pass. */
import { isDnsName, type NetworkName, parseNetworkName, show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, type JsonObject, member } from "../base/json.ts";
import { POD_ANNOTATIONS } from "../cni/capability.ts";
import { Document } from "../cni/document.ts";
import type { ValidAttachment } from "../cni/request.ts";
import { parseResult } from "../cni/result.ts";
import type { Result } from "../cni/types.ts";
import { knownVersion, type Version } from "../cni/version.ts";

/** Where the network that every pod gets first comes from. */
export type DefaultNetwork =
  | { readonly is: "inline"; readonly document: JsonObject }
  /** A file, or a directory whose first configuration is meant. */
  | { readonly is: "path"; readonly path: string }
  | { readonly is: "name"; readonly name: string; readonly namespace?: string };

export interface MetaConf {
  readonly cniVersion: Version;
  readonly name: NetworkName;
  /** The name that we are called by in the runtime's list, `patchbay` as a rule. */
  readonly type: string;
  /** Absent where another provider's list brings the default network, that is when `prevResult` comes. */
  readonly defaultNetwork?: DefaultNetwork;
  readonly networksDir: string;
  readonly namespaceIsolation: boolean;
  /** Namespaces whose networks every pod may select, for `namespaceIsolation`. */
  readonly globalNamespaces: readonly string[];
  /** Where default networks are looked up by name, in this order. */
  readonly systemNamespaces: readonly string[];
  readonly capabilities: Readonly<Record<string, boolean>>;
  readonly delegateTimeoutMs: number;
  readonly timeoutMs: number;
  readonly policyFile: string;
  /** Capability values as the runtime wrote them; `null` ones left out. */
  readonly runtimeConfig: JsonObject;
  /** The result of what stands before us in the list. */
  readonly prevResult?: Result;
  /** On GC: `undefined` when the runtime sent no list, or `null`. */
  readonly validAttachments?: readonly ValidAttachment[];
}

export const DEFAULTS = {
  networksDir: "/etc/patchbay/networks.d",
  globalNamespaces: ["default"],
  systemNamespaces: ["kube-system"],
  delegateTimeoutMs: 30_000,
  timeoutMs: 100_000,
  policyFile: "/etc/patchbay/policy.json",
} as const;

/** Ours. */
const OWN = [
  "defaultNetwork",
  "networksDir",
  "namespaceIsolation",
  "globalNamespaces",
  "systemNamespaces",
  "capabilities",
  "delegateTimeout",
  "timeout",
  "policyFile",
] as const;
/** What CNI itself puts into a plugin's configuration; what it does not mean for us is passed over. */
const CNI = [
  "cniVersion",
  "cniVersions",
  "name",
  "type",
  "runtimeConfig",
  "prevResult",
  "args",
  "dns",
  "ipMasq",
  "ipam",
  "disableCheck",
  "disableGC",
] as const;

/** Keys of the meta-plugin that Patchbay replaces, and what to write here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  delegates: 'write the first of them inline as "defaultNetwork", the others as networks',
  clusternetwork: 'it is "defaultNetwork" here',
  defaultnetworks: "select such networks in the pod's annotation",
  confdir: 'it is "networksDir" here',
  bindir: "delegates are looked for in the runtime's directory of plugins",
  cnidir: "state is kept in /run/patchbay and /var/lib/patchbay",
  kubeconfig: "none is needed",
  multusnamespace: 'it is the first of "systemNamespaces" here',
  readinessindicatorfile: "readiness is the default network's own STATUS here",
};

/** 24 days in milliseconds is the longest that a timer can hold; ten minutes is longer than any runtime waits. */
const MAX_TIMEOUT_MS = 600_000;

/**
 * Reads the configuration; every fault is in the one error.
 *
 * @throws {CniError} 7 with all faults; 1 for a version that is not ours; 6 for a `prevResult` that is no result.
 */
export function parseMetaConf(doc: Json): MetaConf {
  const d = new Document("network configuration", Code.InvalidConfig, "Compare with docs/configuration.md");
  const root = d.object("", doc);
  const cniVersion = parseVersion(root);
  const faults: string[] = [];
  const read = <T>(key: string, fallback: T, parse: (value: Json) => T): T => {
    const value = member(root, key);
    if (value === undefined) return fallback;
    try {
      return parse(value);
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown;
      faults.push(thrown.message.replace("Cannot use network configuration: ", ""));
      return fallback;
    }
  };
  const attachments = (key: string): readonly ValidAttachment[] | undefined =>
    read<readonly ValidAttachment[] | undefined>(key, undefined, (value) => parseAttachments(d, key, value));
  for (const key of Object.keys(root)) {
    const fault = unknownKey(key);
    if (fault !== undefined) faults.push(fault);
  }
  const conf = {
    cniVersion,
    name: read("name", "" as NetworkName, (value) => parseName(d, value)),
    type: read("type", "patchbay", (value) => d.text("type", value, 128)),
    defaultNetwork: read<DefaultNetwork | undefined>("defaultNetwork", undefined, (value) => parseDefault(d, value)),
    networksDir: read("networksDir", DEFAULTS.networksDir as string, (value) => absolute(d, "networksDir", value)),
    namespaceIsolation: read("namespaceIsolation", false, (value) => d.boolean("namespaceIsolation", value)),
    globalNamespaces: read<readonly string[]>("globalNamespaces", DEFAULTS.globalNamespaces, (value) =>
      namespaces(d, "globalNamespaces", value),
    ),
    systemNamespaces: read<readonly string[]>("systemNamespaces", DEFAULTS.systemNamespaces, (value) =>
      namespaces(d, "systemNamespaces", value),
    ),
    capabilities: read<Record<string, boolean>>("capabilities", {}, (value) => parseCapabilities(d, value)),
    delegateTimeoutMs: read("delegateTimeout", DEFAULTS.delegateTimeoutMs as number, (value) =>
      duration(d, "delegateTimeout", value),
    ),
    timeoutMs: read("timeout", DEFAULTS.timeoutMs as number, (value) => duration(d, "timeout", value)),
    policyFile: read("policyFile", DEFAULTS.policyFile as string, (value) => absolute(d, "policyFile", value)),
    runtimeConfig: read<JsonObject>("runtimeConfig", {}, (value) => values(d.object("runtimeConfig", value))),
    // libcni sent the list under the wrong key at first, and sends both now.
    validAttachments: attachments("cni.dev/valid-attachments") ?? attachments("cni.dev/attachments"),
  };
  if (member(root, "name") === undefined) faults.unshift("name: expected the network's name, found nothing");
  if (faults.length > 0) throw d.error(faults.join("; "));
  const prevResult = member(root, "prevResult");
  const { defaultNetwork, validAttachments, ...rest } = conf;
  return {
    ...rest,
    ...(defaultNetwork === undefined ? {} : { defaultNetwork }),
    ...(validAttachments === undefined ? {} : { validAttachments }),
    ...(prevResult === undefined ? {} : { prevResult: parseResult(prevResult, cniVersion, "prevResult") }),
  };
}

/** The name alone, for DEL: whatever else is wrong with a configuration, what was made under it must go. */
export function nameOfConf(doc: Json): NetworkName {
  return parseName(
    new Document("network configuration", Code.InvalidConfig, "Compare with docs/configuration.md"),
    isObject(doc) ? (member(doc, "name") ?? null) : null,
  );
}

function parseName(d: Document, value: Json): NetworkName {
  const text = d.text("name", value, 253);
  try {
    return parseNetworkName(text);
  } catch {
    throw d.refuse("name", "letters, digits, '_', '.', '-', a letter or digit first", text);
  }
}

function parseVersion(root: JsonObject): Version {
  const value = member(root, "cniVersion") ?? "";
  const version = typeof value === "string" ? knownVersion(value) : undefined;
  if (version !== undefined) return version;
  throw new CniError(
    Code.IncompatibleVersion,
    `Cannot use network configuration: CNI version ${show(value)} is not known`,
    {
      remedy: "Set cniVersion to a version from 0.1.0 to 1.1.0",
    },
  );
}

function unknownKey(key: string): string | undefined {
  if ((OWN as readonly string[]).includes(key) || (CNI as readonly string[]).includes(key)) return undefined;
  if (key.includes(".") || key.includes("/")) return undefined; // an extension's, under its own domain
  const folded = key.toLowerCase();
  const known = [...OWN, ...CNI];
  if (known.some((k) => k.toLowerCase() === folded)) return undefined;
  const elsewhere = ELSEWHERE[folded];
  if (elsewhere !== undefined) return `${show(key)} is not a key: ${elsewhere}`;
  let nearest: string = OWN[0];
  let best = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const far = distance(folded.slice(0, 40), candidate.toLowerCase());
    if (far < best) [nearest, best] = [candidate, far];
  }
  return best <= 4
    ? `${show(key)} is not a key; the nearest is "${nearest}"`
    : `${show(key)} is not a key; the keys are ${OWN.map((k) => `"${k}"`).join(", ")}`;
}

/** Levenshtein distance of two short texts. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

function parseDefault(d: Document, value: Json): DefaultNetwork {
  if (isObject(value)) return { is: "inline", document: value };
  if (typeof value !== "string")
    throw d.refuse("defaultNetwork", "a name, an absolute path, or a configuration", value);
  const text = d.text("defaultNetwork", value);
  if (text.startsWith("/")) return { is: "path", path: text };
  const parts = text.split("/");
  const [first = "", second] = parts;
  if (parts.length === 2 && second !== undefined && isDnsName(first, "label") && second !== "") {
    return { is: "name", name: second, namespace: first };
  }
  if (parts.length === 1) return { is: "name", name: text };
  throw d.refuse("defaultNetwork", "a name, namespace/name, or an absolute path", value);
}

function absolute(d: Document, path: string, value: Json): string {
  const text = d.text(path, value);
  if (text.startsWith("/")) return text;
  throw d.refuse(path, "an absolute path", value);
}

/** A list, or names joined by commas. */
function namespaces(d: Document, path: string, value: Json): readonly string[] {
  const items = typeof value === "string" ? value.split(",").map((item) => item.trim()) : d.texts(path, value, 1024);
  return items.map((item) => {
    if (isDnsName(item, "label")) return item;
    throw d.refuse(path, "names of namespaces", item);
  });
}

function parseCapabilities(d: Document, value: Json): Record<string, boolean> {
  const out: Record<string, boolean> = {};
  for (const [key, declared] of Object.entries(d.object("capabilities", value))) {
    if (declared !== null) out[key] = d.boolean(`capabilities.${key}`, declared);
  }
  return out;
}

/** Milliseconds. */
function duration(d: Document, path: string, value: Json): number {
  const match = typeof value === "string" ? /^([0-9]{1,9})(ms|s|m)$/.exec(value) : null;
  if (match === null) throw d.refuse(path, 'a duration such as "500ms" or "2s"', value);
  const ms = Number(match[1]) * (match[2] === "ms" ? 1 : match[2] === "s" ? 1000 : 60_000);
  if (ms < 1 || ms > MAX_TIMEOUT_MS) throw d.refuse(path, 'a duration from "1ms" to "10m"', value);
  return ms;
}

function values(config: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(config).filter(([, value]) => value !== null));
}

function parseAttachments(d: Document, path: string, value: Json): readonly ValidAttachment[] {
  return d.list(path, value, 100_000, "attachments").map((item, i) => {
    const entry = d.object(`${path}[${i}]`, item);
    return {
      containerID: d.text(`${path}[${i}].containerID`, member(entry, "containerID"), 128),
      ifname: d.text(`${path}[${i}].ifname`, member(entry, "ifname"), 64),
    };
  });
}

/**
 * The pod's annotations as the runtime gave them.
 *
 * @returns `undefined` when the configuration does not declare the capability, so that another source has to be asked;
 * an empty record when it does and the pod has none.
 * @throws {CniError} 7
 */
export function podAnnotations(conf: MetaConf): Readonly<Record<string, string>> | undefined {
  const given = member(conf.runtimeConfig, POD_ANNOTATIONS);
  if (given === undefined) return conf.capabilities[POD_ANNOTATIONS] === true ? {} : undefined;
  const d = new Document(
    `capability "${POD_ANNOTATIONS}"`,
    Code.InvalidConfig,
    "Check the container runtime's version",
  );
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(d.object("", given))) {
    if (typeof value === "string") out[key] = value;
    else if (value !== null) throw d.refuse(show(key), "a string", value);
  }
  return out;
}

/** Network configurations: a list, or a single configuration that becomes a list of one. Nothing in it is lost. */
import { parseNetworkName, parsePluginType, show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, type JsonObject, member } from "../base/json.ts";
import { Document } from "./document.ts";
import type { NetConf, NetworkList } from "./types.ts";
import { compareVersions, knownVersion, NEWEST, normaliseVersion } from "./version.ts";

/** More plugins than any list has; each costs a process or an instance. */
const MAX_PLUGINS = 32;
const MAX_VERSIONS = 32;

export interface ListOptions {
  /** As it stands in messages, such as `network "default/storage"`. */
  readonly what?: string;
  /** The name to give a configuration that has none: that of its NetworkAttachmentDefinition. */
  readonly nameIfMissing?: string;
  /**
   * The plugin objects that lie beside the file, in the directory named by the network; asked for only when the
   * configuration is a list that does not forbid it.
   */
  readonly siblings?: (name: string) => readonly NetConf[];
}

/**
 * Reads a configuration list, or a single configuration, told apart by the key `type`.
 *
 * @throws {CniError} 7 when it is neither, has no plugins, or a key of CNI's own has the wrong form; 1 when none of its
 * versions is one of ours.
 */
export function parseNetworkList(doc: Json, options: ListOptions = {}): NetworkList {
  const what = options.what ?? (isObject(doc) ? `network ${show(member(doc, "name") ?? "")}` : "the network");
  const d = new Document(what, Code.InvalidConfig, "Correct the network's configuration");
  const raw = d.object("", doc);
  const rawName = member(raw, "name");
  const name =
    (rawName === undefined || rawName === "") && options.nameIfMissing !== undefined
      ? options.nameIfMissing
      : d.text("name", rawName, 253);
  const network = named(d, name);
  const single = member(raw, "type") !== undefined && member(raw, "type") !== "";
  const versions = parseVersions(d, raw);
  const base = {
    ...versions,
    name: network,
    disableCheck: flag(d, raw, "disableCheck"),
    disableGC: flag(d, raw, "disableGC"),
    loadOnlyInlinedPlugins: flag(d, raw, "loadOnlyInlinedPlugins"),
    raw,
  };
  if (single) return { ...base, plugins: [checkPlugin(d, "", raw)] };
  const inline = member(raw, "plugins");
  if (inline === undefined && (options.siblings === undefined || base.loadOnlyInlinedPlugins)) {
    throw d.error('it has neither "type" (a single configuration) nor "plugins" (a list)');
  }
  const plugins: NetConf[] = [];
  if (inline !== undefined) {
    const items = d.list("plugins", inline, MAX_PLUGINS, "plugins");
    if (items.length === 0) throw d.error("plugins: expected at least one plugin, found an empty list");
    for (const [i, item] of items.entries()) plugins.push(checkPlugin(d, `plugins[${i}]`, item));
  }
  if (options.siblings !== undefined && !base.loadOnlyInlinedPlugins) {
    for (const item of options.siblings(network)) plugins.push(checkPlugin(d, "a plugin beside the list", item));
  }
  if (plugins.length === 0) throw d.error(`it has no plugins, and there are none in the directory "${name}" beside it`);
  if (plugins.length > MAX_PLUGINS) throw d.refuse("plugins", `at most ${MAX_PLUGINS} plugins`, plugins.length);
  return { ...base, plugins };
}

/** The name, with the document named in the refusal. */
function named(d: Document, name: string): NetworkList["name"] {
  try {
    return parseNetworkName(name);
  } catch {
    throw d.refuse("name", "letters, digits, '_', '.', '-', a letter or digit first", name);
  }
}

/** Checks what CNI itself says of a plugin object; every other key is its plugin's. */
function checkPlugin(d: Document, path: string, value: Json): NetConf {
  const at = (key: string): string => (path === "" ? key : `${path}.${key}`);
  const plugin = d.object(path, value);
  checkType(d, at("type"), member(plugin, "type"));
  const ipam = member(plugin, "ipam");
  if (isObject(ipam)) {
    const type = member(ipam, "type");
    if (type !== undefined && type !== "") checkType(d, at("ipam.type"), type);
  }
  const capabilities = member(plugin, "capabilities");
  if (capabilities !== undefined) {
    for (const [key, declared] of Object.entries(d.object(at("capabilities"), capabilities))) {
      if (declared !== null && typeof declared !== "boolean") {
        throw d.refuse(at(`capabilities.${key}`), "true or false", declared);
      }
    }
  }
  return plugin;
}

function checkType(d: Document, path: string, value: Json | undefined): void {
  const type = d.text(path, value, 128);
  try {
    parsePluginType(type);
  } catch {
    throw d.refuse(path, "a plugin's name without path characters", type);
  }
}

/** Ours of `cniVersion` and `cniVersions`, the highest of them first of all. */
function parseVersions(d: Document, raw: JsonObject): { cniVersion: string; cniVersions: string[] } {
  const version = (path: string, value: Json): string => {
    const normal = typeof value === "string" ? normaliseVersion(value) : undefined;
    if (normal === undefined) throw d.refuse(path, 'a CNI version such as "1.0.0"', value);
    return normal;
  };
  const single = member(raw, "cniVersion");
  const several = member(raw, "cniVersions");
  const all = new Set<string>();
  if (several !== undefined) {
    for (const [i, item] of d.list("cniVersions", several, MAX_VERSIONS, "versions").entries()) {
      all.add(version(`cniVersions[${i}]`, item));
    }
  }
  if (single !== undefined || all.size === 0) all.add(version("cniVersion", single ?? ""));
  const cniVersions = [...all].sort(compareVersions);
  const cniVersion = cniVersions.findLast((v) => knownVersion(v) !== undefined);
  if (cniVersion !== undefined) return { cniVersion, cniVersions };
  throw new CniError(
    Code.IncompatibleVersion,
    `Cannot use ${d.what}: its CNI version ${cniVersions.map((v) => `"${v}"`).join(", ")} is not one of ours, 0.1.0 to ${NEWEST}`,
    { remedy: "Name an older version in cniVersions beside it" },
  );
}

/** A boolean, or, as libcni has it, the string "true" or "false". */
function flag(d: Document, raw: JsonObject, key: string): boolean {
  const value = member(raw, key);
  if (value === undefined) return false;
  if (typeof value === "boolean") return value;
  const folded = typeof value === "string" ? value.toLowerCase() : "";
  if (folded === "true") return true;
  if (folded === "false") return false;
  throw d.refuse(key, "true or false", value);
}

/** The `type` of a plugin object that `parseNetworkList()` accepted. */
export function typeOf(plugin: NetConf): string {
  const type = member(plugin, "type");
  return typeof type === "string" ? type : "";
}

/** The `ipam.type` of a plugin object, or `undefined` when it asks for no addresses. */
export function ipamTypeOf(plugin: NetConf): string | undefined {
  const ipam = member(plugin, "ipam");
  const type = isObject(ipam) ? member(ipam, "type") : undefined;
  return typeof type === "string" && type !== "" ? type : undefined;
}

/** Whether the plugin declares the capability `true`. */
export function declares(plugin: NetConf, capability: string): boolean {
  const capabilities = member(plugin, "capabilities");
  return isObject(capabilities) && Object.hasOwn(capabilities, capability) && capabilities[capability] === true;
}

/**
 * Networks from files: NetworkAttachmentDefinition manifests and CNI configurations in the networks' directory, the
 * default network by name, by path or inline. One bad file never hides the others; what was passed over is said when a
 * network is not found.
 */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, JsonError, type JsonObject, member, parseJson } from "../base/json.ts";
import { parseNetworkList, typeOf } from "../cni/list.ts";
import type { NetConf, NetworkList } from "../cni/types.ts";
import { type NetworkAttachmentDefinition, networkOf } from "../multinet/nad.ts";
import { isAbsentFile, namesInDirectory } from "../sys/files.ts";
import { requireTrusted } from "../sys/trust.ts";
import { type CacheEntry, loadCache, maySettle, saveCache } from "./cache.ts";
import { fileState, readWhole } from "./file.ts";
import { type FileContent, hasEnding, LIST_ENDINGS, readManifest, SINGLE_ENDINGS, YAML_ENDINGS } from "./manifest.ts";

/** Where container runtimes keep their network configurations. */
export const RUNTIME_CONF_DIR = "/etc/cni/net.d";
const MAX_FILES = 4096;
const MAX_REASONS = 5;
/** Up to here reading the JSON files again is quicker than reading the cache. */
const FEW_FILES = 8;

export interface NetworksOptions {
  readonly networksDir: string;
  /** The runtime's directory, `/etc/cni/net.d` unless told: the last place where a default network's name is looked up. */
  readonly confDir?: string;
  /** State of this boot, for the cache; nothing is cached without. */
  readonly runDir?: string;
  /** Plugin types that are ourselves: a network with one of them would call us again. `patchbay` unless told. */
  readonly ownTypes?: readonly string[];
}

/** A network, ready to be planned. */
export interface FoundNetwork {
  readonly list: NetworkList;
  /** `namespace/name` of the NAD, else the configuration's name. */
  readonly label: string;
  readonly nad?: NetworkAttachmentDefinition;
}

/** The default network as a configuration asks for it; see `MetaConf`. */
export type DefaultNetworkRef =
  | { readonly is: "inline"; readonly document: JsonObject }
  | { readonly is: "path"; readonly path: string }
  | { readonly is: "name"; readonly name: string; readonly namespace?: string };

interface Entry {
  readonly file: string;
  readonly path: string;
  readonly content: FileContent;
}

/** Opens nothing yet: the directory is read at the first look-up, once. */
export function openNetworks(options: NetworksOptions): Networks {
  return new Networks(options);
}

export class Networks {
  readonly #options: NetworksOptions;
  readonly #confDir: string;
  readonly #ownTypes: readonly string[];
  readonly #directories = new Map<string, readonly Entry[]>();

  constructor(options: NetworksOptions) {
    this.#options = options;
    this.#confDir = options.confDir ?? RUNTIME_CONF_DIR;
    this.#ownTypes = options.ownTypes ?? ["patchbay"];
  }

  /**
   * The network of a NAD. One without a configuration stands for the CNI file whose `name` is the NAD's.
   *
   * @throws {CniError} 100 when there is none, 7 when its configuration is no network, 1 when its version is not ours.
   */
  nad(namespace: string, name: string): FoundNetwork {
    const found = this.#nad(namespace, name);
    if (found !== undefined) return found;
    const { networksDir } = this.#options;
    throw this.#notFound(
      `network "${namespace}/${name}": there is no NetworkAttachmentDefinition of that name and namespace in "${networksDir}"`,
      [networksDir],
      `Put its manifest into "${networksDir}", or correct the pod's annotation`,
    );
  }

  #nad(namespace: string, name: string): FoundNetwork | undefined {
    const { networksDir } = this.#options;
    for (const entry of this.#entries(networksDir)) {
      const nad = entry.content.nads.find((n) => n.name === name && n.namespace === namespace);
      if (nad === undefined) continue;
      const label = `${namespace}/${name}`;
      if (nad.config !== undefined) return { list: this.#foreign(networkOf(nad), label), label, nad };
      const file = this.#byName(networksDir, name);
      if (file !== undefined) return { list: this.#foreign(file, label), label, nad };
      throw this.#notFound(
        `the configuration of network "${label}": its NetworkAttachmentDefinition has no spec.config, and no file in "${networksDir}" has the name "${name}"`,
        [networksDir],
        `Write spec.config of "${label}", or put a CNI configuration named "${name}" into "${networksDir}"`,
      );
    }
    return undefined;
  }

  /**
   * The default network.
   *
   * A name with a namespace is that NAD's. One without is looked up among the NADs of `systemNamespaces`, then among the
   * CNI files of the networks' directory, then among those of the runtime's, ours left out, and last among the NADs of
   * `default`: many may write there, and what the node's administrator has named must not be replaced by them.
   *
   * @param base Version and name for a configuration written inline without its own.
   * @throws {CniError} 100, 7, 1
   */
  defaultNetwork(
    ref: DefaultNetworkRef,
    base: { readonly cniVersion: string; readonly name: string; readonly systemNamespaces: readonly string[] },
  ): FoundNetwork {
    if (ref.is === "inline") {
      const hasVersion = member(ref.document, "cniVersion") ?? member(ref.document, "cniVersions");
      const doc = hasVersion === undefined ? { cniVersion: base.cniVersion, ...ref.document } : ref.document;
      const list = parseNetworkList(doc, { what: "defaultNetwork", nameIfMissing: base.name });
      return { list: this.#foreign(list, list.name), label: list.name };
    }
    if (ref.is === "path") return this.#atPath(ref.path);
    const { networksDir } = this.#options;
    const searched = ref.namespace === undefined ? [networksDir, this.#confDir] : [networksDir];
    const found =
      ref.namespace === undefined
        ? (this.#firstNad(base.systemNamespaces, ref.name) ??
          this.#firstFile(searched, ref.name) ??
          this.#nad("default", ref.name))
        : this.#nad(ref.namespace, ref.name);
    if (found !== undefined) return found;
    const full = ref.namespace === undefined ? ref.name : `${ref.namespace}/${ref.name}`;
    throw this.#notFound(
      `the default network "${full}" in ${searched.map((dir) => `"${dir}"`).join(" or ")}`,
      searched,
      `Put its configuration into "${networksDir}", or correct "defaultNetwork"`,
    );
  }

  #firstNad(namespaces: readonly string[], name: string): FoundNetwork | undefined {
    for (const namespace of namespaces) {
      const found = this.#nad(namespace, name);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #firstFile(dirs: readonly string[], name: string): FoundNetwork | undefined {
    for (const dir of dirs) {
      const list = this.#byName(dir, name);
      if (list !== undefined) return { list: this.#foreign(list, list.name), label: list.name };
    }
    return undefined;
  }

  /** Every NAD and CNI file of the networks' directory, and what was passed over: for `patchbay check`. */
  survey(): {
    readonly nads: readonly string[];
    readonly files: readonly string[];
    readonly faults: readonly string[];
  } {
    const entries = this.#entries(this.#options.networksDir);
    const seen = new Map<string, string>();
    const faults = reasons(entries);
    for (const { content, file } of entries) {
      for (const nad of content.nads) {
        const label = `${nad.namespace}/${nad.name}`;
        const former = seen.get(label);
        if (former === undefined) seen.set(label, file);
        else faults.push(`${file}: network "${label}" is in ${former} already, which is the one that counts`);
      }
    }
    const files = entries.flatMap(({ content }) => (content.conf === undefined ? [] : [content.conf.name]));
    return { nads: [...seen.keys()], files, faults };
  }

  #atPath(path: string): FoundNetwork {
    const state = fileState(path, "the default network");
    if (state === undefined) {
      const first = ordered(this.#entries(path)).find(
        ({ content }) => content.conf !== undefined && !this.#isOurs(content),
      );
      const list = first === undefined ? undefined : this.#toList(path, first);
      if (list !== undefined) return { list: this.#foreign(list, list.name), label: list.name };
      throw this.#notFound(
        `the default network: no file or directory with a CNI configuration at "${path}"`,
        [path],
        'Correct "defaultNetwork", or put the file there',
      );
    }
    const bytes = readWhole(path, "the default network") ?? new Uint8Array();
    let doc: Json;
    try {
      doc = parseJson(bytes);
    } catch (cause) {
      if (!(cause instanceof JsonError)) throw cause;
      throw new CniError(Code.InvalidConfig, `Cannot use the default network "${path}": not JSON: ${cause.message}`, {
        remedy: `Correct "${path}"`,
        cause,
      });
    }
    const dir = path.slice(0, path.lastIndexOf("/")) || "/";
    const list = parseNetworkList(doc, {
      what: `the default network "${path}"`,
      siblings: (name) => siblings(dir, name),
    });
    return { list: this.#foreign(list, list.name), label: list.name };
  }

  /** A CNI file by the name in it: lists before single configurations, each in the order of the file names. */
  #byName(dir: string, name: string): NetworkList | undefined {
    const entry = ordered(this.#entries(dir)).find(
      ({ content }) => content.conf?.name === name && !(dir === this.#confDir && this.#isOurs(content)),
    );
    return entry === undefined ? undefined : this.#toList(dir, entry);
  }

  #toList(dir: string, entry: Entry): NetworkList {
    return parseNetworkList(entry.content.conf?.document ?? null, {
      what: `network ${show(entry.content.conf?.name)} in "${entry.path}"`,
      siblings: (name) => siblings(dir, name),
    });
  }

  #isOurs(content: FileContent): boolean {
    const doc = content.conf?.document;
    if (doc === undefined) return false;
    const plugins = member(doc, "plugins");
    const all = Array.isArray(plugins) ? plugins : [doc];
    return all.some((plugin) => isObject(plugin) && this.#ownTypes.includes(typeOf(plugin)));
  }

  /** A network that calls us would call us for ever. */
  #foreign(list: NetworkList, label: string): NetworkList {
    const own = list.plugins.map(typeOf).find((type) => this.#ownTypes.includes(type));
    if (own === undefined) return list;
    throw new CniError(Code.InvalidConfig, `Cannot use network "${label}": its plugin "${own}" is Patchbay itself`, {
      remedy: "Name the plugin that makes the interface, such as bridge or macvlan",
    });
  }

  #notFound(sentence: string, dirs: readonly string[], remedy: string): CniError {
    const faults = dirs.flatMap((dir) => reasons(this.#entries(dir)));
    const shown = faults.slice(0, MAX_REASONS).join("; ");
    const more = faults.length > MAX_REASONS ? `; and ${faults.length - MAX_REASONS} more` : "";
    const passed = faults.length === 0 ? "" : ` (passed over: ${shown}${more})`;
    return new CniError(Code.NetworkNotFound, `Cannot find ${sentence}${passed}`, { remedy });
  }

  #entries(dir: string): readonly Entry[] {
    const known = this.#directories.get(dir);
    if (known !== undefined) return known;
    const entries = readDirectory(dir, this.#options.runDir);
    this.#directories.set(dir, entries);
    return entries;
  }
}

function ordered(entries: readonly Entry[]): readonly Entry[] {
  const isList = ({ file }: Entry): boolean => hasEnding(file, LIST_ENDINGS);
  return [...entries.filter(isList), ...entries.filter((entry) => !isList(entry))];
}

function reasons(entries: readonly Entry[]): string[] {
  return entries.flatMap(({ file, content }) => (content.fault === undefined ? [] : [`${file}: ${content.fault}`]));
}

/** Names in a directory, sorted; an absent directory has none. @throws {CniError} 5, 7 */
function namesIn(dir: string, what: string): string[] {
  requireTrusted(dir, what, Code.InvalidConfig);
  try {
    return namesInDirectory(dir);
  } catch (cause) {
    if (isAbsentFile(cause)) return [];
    throw new CniError(
      Code.IoFailure,
      `Cannot read ${what} "${dir}": ${cause instanceof Error ? cause.message : cause}`,
      {
        remedy: `Check "${dir}", its owner and its mode`,
        cause,
      },
    );
  }
}

function readDirectory(dir: string, runDir: string | undefined): readonly Entry[] {
  const what = "the directory of networks";
  const names = namesIn(dir, what).filter(
    (name) => !name.startsWith(".") && hasEnding(name, [...LIST_ENDINGS, ...SINGLE_ENDINGS, ...YAML_ENDINGS]),
  );
  if (names.length === 0) return [];
  if (names.length > MAX_FILES) {
    throw new CniError(Code.InvalidConfig, `Cannot use ${what} "${dir}": more than ${MAX_FILES} files`, {
      remedy: "Put several manifests into one file",
    });
  }
  const worthwhile = names.length > FEW_FILES || names.some((name) => hasEnding(name, YAML_ENDINGS));
  const cacheDir = worthwhile ? runDir : undefined;
  const cached = loadCache(cacheDir);
  const kept = new Map<string, CacheEntry>();
  for (const [path, entry] of cached) if (!path.startsWith(`${dir}/`)) kept.set(path, entry);
  const now = Date.now();
  let fresh = 0;
  const entries = names.flatMap((file): Entry[] => {
    const path = `${dir}/${file}`;
    try {
      const state = fileState(path, "the file");
      if (state === undefined) return []; // a directory: plugin objects of the network of that name
      const former = cached.get(path);
      if (former?.key === state.key) {
        kept.set(path, former);
        return [{ file, path, content: former.content }];
      }
      const bytes = readWhole(path, "the file");
      if (bytes === undefined) return [];
      const content = readManifest(file, bytes);
      if (maySettle(state, now)) {
        kept.set(path, { key: state.key, content });
        fresh++;
      }
      return [{ file, path, content }];
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown;
      return [{ file, path, content: { nads: [], fault: `${thrown.message}; ${thrown.remedy}` } }];
    }
  });
  if (fresh > 0 || kept.size < cached.size) saveCache(cacheDir, kept);
  return entries;
}

/** The plugin objects in the directory beside a list that is named by the network: `<dir>/<name>/*.conf`, sorted. */
function siblings(dir: string, name: string): readonly NetConf[] {
  const beside = `${dir}/${name}`;
  return namesIn(beside, "the directory of plugins")
    .filter((file) => !file.startsWith(".") && hasEnding(file, [".conf"]))
    .flatMap((file) => {
      const path = `${beside}/${file}`;
      if (fileState(path, "the plugin's file") === undefined) return [];
      const bytes = readWhole(path, "the plugin's file");
      if (bytes === undefined) return [];
      let doc: Json;
      try {
        doc = parseJson(bytes);
      } catch (cause) {
        if (!(cause instanceof JsonError)) throw cause;
        throw new CniError(Code.InvalidConfig, `Cannot use the plugin's file "${path}": not JSON: ${cause.message}`, {
          remedy: `Correct "${path}"`,
          cause,
        });
      }
      if (isObject(doc)) return [doc];
      throw new CniError(Code.InvalidConfig, `Cannot use the plugin's file "${path}": expected an object`, {
        remedy: `Correct "${path}"`,
      });
    });
}

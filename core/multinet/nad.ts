/** NetworkAttachmentDefinitions: the object, and the configuration in it. */
import { isDnsName, show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, JsonError, parseJson } from "../base/json.ts";
import { Document } from "../cni/document.ts";
import { parseNetworkList } from "../cni/list.ts";
import type { NetworkList } from "../cni/types.ts";

export const NAD_GROUP = "k8s.cni.cncf.io";
export const NAD_KIND = "NetworkAttachmentDefinition";
/** The resource whose devices the network's pods get. */
export const RESOURCE_NAME = "k8s.v1.cni.cncf.io/resourceName";

export interface NetworkAttachmentDefinition {
  readonly namespace: string;
  readonly name: string;
  readonly annotations: Readonly<Record<string, string>>;
  /** The text of `spec.config`; absent when the configuration is a file of the node, found by the object's name. */
  readonly config?: string;
}

/** Whether a document says that it is one, so that other objects in the same file can be passed over. */
export function isNad(doc: Json): boolean {
  return isObject(doc) && doc.kind === NAD_KIND;
}

/**
 * Reads one object.
 *
 * @param where Names the file in errors.
 * @throws {CniError} 7
 */
export function parseNad(doc: Json, where: string): NetworkAttachmentDefinition {
  const d = new Document(`${NAD_KIND} in ${where}`, Code.InvalidConfig, `Correct ${where}`);
  const root = d.object("", doc);
  if (root.kind !== NAD_KIND) throw d.refuse("kind", `"${NAD_KIND}"`, root.kind);
  const version = d.text("apiVersion", root.apiVersion, 253);
  if (version !== `${NAD_GROUP}/v1`) throw d.refuse("apiVersion", `"${NAD_GROUP}/v1"`, version);
  const metadata = d.object("metadata", root.metadata);
  const name = d.text("metadata.name", metadata.name, 253);
  if (!isDnsName(name, "subdomain")) throw d.refuse("metadata.name", "a DNS-1123 name", name);
  const namespace = metadata.namespace ?? undefined;
  const inNamespace =
    namespace === undefined || namespace === "" ? "default" : d.text("metadata.namespace", namespace, 63);
  if (!isDnsName(inNamespace, "label")) throw d.refuse("metadata.namespace", "a DNS-1123 label", inNamespace);
  const annotations: Record<string, string> = {};
  if (isObject(metadata.annotations)) {
    for (const [key, value] of Object.entries(metadata.annotations))
      if (typeof value === "string") annotations[key] = value;
  }
  const spec = root.spec ?? undefined;
  const config = spec === undefined ? undefined : (d.object("spec", spec).config ?? undefined);
  if (config !== undefined && typeof config !== "string") {
    throw d.refuse("spec.config", "a string that holds the configuration as JSON", config);
  }
  return {
    namespace: inNamespace,
    name,
    annotations,
    ...(config === undefined || config.trim() === "" ? {} : { config }),
  };
}

/**
 * The configuration of a NAD that carries it itself. A configuration without a name gets the object's. Plugin objects
 * beside a file never join it: its author may not be the one who wrote them.
 *
 * @throws {CniError} 7; 1 for a version that is not ours.
 */
export function networkOf(nad: NetworkAttachmentDefinition): NetworkList {
  const what = `network "${nad.namespace}/${nad.name}"`;
  let doc: Json;
  try {
    doc = parseJson(nad.config ?? "");
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause;
    throw new CniError(Code.InvalidConfig, `Cannot use ${what}: spec.config is not JSON: ${cause.message}`, {
      remedy: `Correct spec.config of NetworkAttachmentDefinition ${show(nad.name)} in namespace ${show(nad.namespace)}`,
      cause,
    });
  }
  return parseNetworkList(doc, { what, nameIfMissing: nad.name });
}

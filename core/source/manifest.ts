/** What one file of the networks' directory holds: manifests, or a CNI configuration. */
import { CniError } from "../base/error.ts";
import { isObject, type Json, JsonError, type JsonObject, member, parseJson } from "../base/json.ts";
import { isNad, type NetworkAttachmentDefinition, parseNad } from "../multinet/nad.ts";

/** A CNI configuration under the name that its file gives it. */
export interface NamedConf {
  readonly name: string;
  readonly document: JsonObject;
}

export interface FileContent {
  readonly nads: readonly NetworkAttachmentDefinition[];
  readonly conf?: NamedConf;
  /** Why the file, or a part of it, was passed over. */
  readonly fault?: string;
}

export const LIST_ENDINGS = [".conflist", ".configlist"] as const;
export const SINGLE_ENDINGS = [".conf", ".config", ".json"] as const;
export const YAML_ENDINGS = [".yaml", ".yml"] as const;

const MAX_DOCUMENTS = 1024;

export function hasEnding(name: string, endings: readonly string[]): boolean {
  return endings.some((ending) => name.endsWith(ending) && name.length > ending.length);
}

/** Never throws for what is in the file: a bad file must not hide the good ones. */
export function readManifest(name: string, bytes: Uint8Array): FileContent {
  try {
    if (hasEnding(name, YAML_ENDINGS)) return fromObjects(yamlDocuments(bytes), name);
    if (hasEnding(name, LIST_ENDINGS)) return fromConf(parseJson(bytes), true);
    const documents = jsonDocuments(bytes);
    const [first] = documents;
    if (documents.length === 1 && isObject(first) && first.kind === undefined) return fromConf(first, false);
    return fromObjects(documents, name);
  } catch (thrown) {
    if (thrown instanceof JsonError || thrown instanceof CniError) return { nads: [], fault: thrown.message };
    throw thrown;
  }
}

function fromConf(doc: Json, list: boolean): FileContent {
  if (!isObject(doc)) throw new JsonError("expected an object");
  const fault = (text: string): FileContent => ({ nads: [], fault: text });
  if (list && member(doc, "plugins") === undefined && member(doc, "type") !== undefined) {
    return fault('it has "type" and no "plugins"; perhaps this is a .conf');
  }
  if (!list && member(doc, "type") === undefined) return fault("no 'type'; perhaps this is a .conflist?");
  const name = member(doc, "name");
  if (typeof name !== "string" || name === "") return fault('it has no "name"');
  return { nads: [], conf: { name, document: doc } };
}

/** Objects of other kinds in the same file are somebody else's and passed over. */
function fromObjects(documents: readonly Json[], file: string): FileContent {
  const nads: NetworkAttachmentDefinition[] = [];
  let fault: string | undefined;
  for (const object of documents.flatMap(itemsOf)) {
    if (!isNad(object)) continue;
    try {
      nads.push(parseNad(object, file));
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown;
      fault ??= thrown.message;
    }
  }
  return { nads, ...(fault === undefined ? {} : { fault }) };
}

/** A `List`, as `kubectl get -o json` prints it, and a JSON array stand for what is in them. */
function itemsOf(doc: Json): readonly Json[] {
  if (Array.isArray(doc)) return doc;
  if (isObject(doc) && typeof doc.kind === "string" && doc.kind.endsWith("List") && Array.isArray(doc.items))
    return doc.items;
  return [doc];
}

/** JSON documents one after the other, with or without lines of `---` between them. */
function jsonDocuments(bytes: Uint8Array): Json[] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new JsonError("not UTF-8");
  }
  const documents: Json[] = [];
  let start = 0;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      for (i++; i < text.length && text[i] !== '"'; i++) if (text[i] === "\\") i++;
    } else if (c === "{" || c === "[") depth++;
    else if ((c === "}" || c === "]") && --depth === 0) {
      if (documents.length >= MAX_DOCUMENTS) throw new JsonError(`more than ${MAX_DOCUMENTS} documents`);
      documents.push(parseJson(withoutSeparator(text.slice(start, i + 1))));
      start = i + 1;
    }
  }
  const rest = withoutSeparator(text.slice(start)).trim();
  if (rest !== "" || documents.length === 0) documents.push(parseJson(rest));
  return documents;
}

const withoutSeparator = (text: string): string => text.replace(/^\s*---[ \t]*(\r?\n|$)/, "");

/** The documents of a YAML file. The parser is loaded here, and only when such a file has to be read. */
function yamlDocuments(bytes: Uint8Array): Json[] {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new JsonError("not UTF-8");
  }
  const documents: Json[] = [];
  for (const value of parseYaml(text)) {
    if (value === null || value === undefined) continue;
    // Through the strict reader, so that both formats have the same limits and the same refusals.
    documents.push(parseJson(JSON.stringify(value)));
  }
  return documents;
}

function parseYaml(text: string): unknown[] {
  const yaml: typeof import("yaml") = require("yaml");
  try {
    const documents = yaml.parseAllDocuments(text, { logLevel: "silent" });
    if (documents.length > MAX_DOCUMENTS) throw new JsonError(`more than ${MAX_DOCUMENTS} documents`);
    return [...documents].map((document) => {
      const [flaw] = document.errors;
      if (flaw !== undefined) throw flaw;
      return document.toJS({ maxAliasCount: 100 });
    });
  } catch (cause) {
    // Beside bad syntax: aliases that multiply, or nesting deeper than the stack.
    throw new JsonError((cause instanceof Error ? cause.message : String(cause)).split("\n")[0] ?? "not YAML");
  }
}

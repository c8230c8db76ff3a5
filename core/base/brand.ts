/**
 * Names that must not be mixed up are types of their own, and a raw string becomes one only here. Every check is a
 * linear scan over a bounded string.
 */
import { CniError, Code } from "./error.ts";

declare const brand: unique symbol;
type Brand<Name extends string> = string & { readonly [brand]: Name };

export type ContainerId = Brand<"ContainerId">;
/** The `name` of a CNI configuration list. */
export type NetworkName = Brand<"NetworkName">;
/** A kernel interface name, 1 to 15 bytes. */
export type IfName = Brand<"IfName">;
export type NetnsPath = Brand<"NetnsPath">;
/** The `type` of a plugin object: a key into the plugins found, never a path. */
export type PluginType = Brand<"PluginType">;
export type PodName = Brand<"PodName">;
export type PodNamespace = Brand<"PodNamespace">;
export type PodUid = Brand<"PodUid">;

const alnum = (c: number): boolean => (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
const nameTail = (c: number): boolean => alnum(c) || c === 95 || c === 46 || c === 45;

/** `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, at most `max` characters: the grammar of container ids and network names. */
function isName(text: string, max: number): boolean {
  if (text.length === 0 || text.length > max || !alnum(text.charCodeAt(0))) return false;
  for (let i = 1; i < text.length; i++) if (!nameTail(text.charCodeAt(i))) return false;
  return true;
}

/** Text from outside as it may be printed in a message: quoted, shortened, control characters escaped. */
export function show(value: unknown): string {
  const text = typeof value === "string" ? JSON.stringify(value) : (JSON.stringify(value) ?? String(value));
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

const refuse = (code: Code, what: string, found: string, expected: string, remedy: string): CniError =>
  new CniError(code, `Cannot use ${show(found)} as ${what}: expected ${expected}`, { remedy });

/** @throws {CniError} 4 */
export function parseContainerId(text: string): ContainerId {
  if (isName(text, 128)) return text as ContainerId;
  throw refuse(
    Code.InvalidEnvironment,
    "the container id",
    text,
    "1 to 128 characters of a-z, A-Z, 0-9, '_', '.', '-', a letter or digit first",
    "Set CNI_CONTAINERID to the id that the runtime gave the sandbox",
  );
}

/** @throws {CniError} 7 */
export function parseNetworkName(text: string): NetworkName {
  if (isName(text, 253)) return text as NetworkName;
  throw refuse(
    Code.InvalidConfig,
    "a network name",
    text,
    "1 to 253 characters of a-z, A-Z, 0-9, '_', '.', '-', a letter or digit first",
    'Correct the key "name" of the network configuration',
  );
}

/** True for a name that the kernel takes: 1 to 15 printable bytes, no '/', ':', '%' or white space, not "." or "..". */
export function isIfName(text: string): boolean {
  if (text.length === 0 || text.length > 15 || text === "." || text === "..") return false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    // The kernel takes a name with "%" for a pattern, and makes up another one.
    if (c <= 32 || c >= 127 || c === 37 || c === 47 || c === 58) return false;
  }
  return true;
}

/** @throws {CniError} `code`, 4 unless told. */
export function parseIfName(text: string, code: Code = Code.InvalidEnvironment): IfName {
  if (isIfName(text)) return text as IfName;
  throw refuse(
    code,
    "an interface name",
    text,
    "1 to 15 printable ASCII characters without '/', ':', '%' or white space, and not '.' or '..'",
    code === Code.InvalidEnvironment ? "Correct CNI_IFNAME" : "Choose another interface name",
  );
}

/** @throws {CniError} 4 for an empty path, one over 4095 bytes, a relative one, or one with a control character. */
export function parseNetnsPath(text: string): NetnsPath {
  let good = text.length > 1 && text.length <= 4095 && text.charCodeAt(0) === 47;
  for (let i = 0; good && i < text.length; i++) good = text.charCodeAt(i) >= 32;
  if (good) return text as NetnsPath;
  throw refuse(Code.InvalidEnvironment, "a network namespace", text, "an absolute path", "Correct CNI_NETNS");
}

/** @throws {CniError} 7. No '/', so a type can never leave the directories of CNI_PATH. */
export function parsePluginType(text: string): PluginType {
  if (isName(text, 128)) return text as PluginType;
  throw refuse(
    Code.InvalidConfig,
    "a plugin type",
    text,
    "a plugin's name without path characters",
    'Correct the key "type" of the plugin configuration',
  );
}

/** A DNS-1123 label, at most 63 characters, or, with dots between labels, a subdomain of at most 253. */
export function isDnsName(text: string, kind: "label" | "subdomain"): boolean {
  if (text.length === 0 || text.length > (kind === "label" ? 63 : 253)) return false;
  let edge = true; // a label begins here, so '-' and '.' may not stand
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const lower = (c >= 97 && c <= 122) || (c >= 48 && c <= 57);
    if (lower) edge = false;
    else if (c === 45 && !edge) {
      if (i + 1 === text.length || text.charCodeAt(i + 1) === 46) return false;
    } else if (c === 46 && kind === "subdomain" && !edge) edge = true;
    else return false;
  }
  return !edge;
}

function podPart<T extends string>(what: string, kind: "label" | "subdomain"): (text: string) => T {
  return (text) => {
    if (isDnsName(text, kind)) return text as T;
    throw refuse(
      Code.InvalidEnvironment,
      what,
      text,
      `a DNS-1123 ${kind}`,
      "Correct the K8S_POD_* entries of CNI_ARGS",
    );
  };
}
/** @throws {CniError} 4 */
export const parsePodName: (text: string) => PodName = podPart("a pod name", "subdomain");
/** @throws {CniError} 4 */
export const parsePodNamespace: (text: string) => PodNamespace = podPart("a namespace", "label");

/** @throws {CniError} 4. A UID is opaque: static pods carry a hash, not a UUID. */
export function parsePodUid(text: string): PodUid {
  if (isName(text, 128)) return text as PodUid;
  throw refuse(Code.InvalidEnvironment, "a pod UID", text, "up to 128 letters, digits, '-'", "Correct K8S_POD_UID");
}

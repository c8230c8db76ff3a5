/**
 * Shapes of JSON as data: one value gives the check, the TypeScript type and the lines of documentation. Manifests
 * carry the same language in their "schema", so whoever writes a plugin learns one.
 *
 * It is this small because it runs on every host call.
 */
import { isIfName, show } from "../base/brand.ts";
import { parseCidr, parseIp, parseMac } from "../base/ip.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";

/**
 * What a string must read as. `ifname`: 1 to 15 bytes that the kernel takes; `ip`, `cidr`: IPv4 or IPv6; `mac`: six
 * bytes, `aa:bb:cc:dd:ee:ff`; `key`: 1 to 128 letters, digits, `_`, `.`, `-`.
 */
export type Format = "ifname" | "ip" | "cidr" | "mac" | "key";

/** `required` must be present, `doc` is one line for the reference page. */
interface Common {
  readonly required?: true;
  readonly doc?: string;
}

export type Schema =
  | (Common & { readonly type: "boolean"; readonly default?: boolean })
  | (Common & { readonly type: "integer"; readonly min?: number; readonly max?: number; readonly default?: number })
  | (Common & {
      readonly type: "string";
      readonly enum?: readonly string[];
      readonly format?: Format;
      /** In UTF-16 units, beside what a format asks for; 1024 when absent. */
      readonly maxLength?: number;
      readonly default?: string;
    })
  | (Common & { readonly type: "array"; readonly items: Schema; readonly maxItems?: number })
  | (Common & { readonly type: "object"; readonly keys: Keys })
  /** Any keys, all values of one shape. */
  | (Common & { readonly type: "map"; readonly values: Schema; readonly maxKeys?: number })
  | (Common & { readonly type: "any" });

export interface Keys {
  readonly [key: string]: Schema;
}

/** The type of the values that a schema lets pass. */
export type Value<S> = S extends { type: "boolean" }
  ? boolean
  : S extends { type: "integer" }
    ? number
    : S extends { type: "string"; enum: readonly (infer E)[] }
      ? E
      : S extends { type: "string" }
        ? string
        : S extends { type: "array"; items: infer I }
          ? readonly Value<I>[]
          : S extends { type: "object"; keys: infer K }
            ? ValueOfKeys<K>
            : S extends { type: "map"; values: infer V }
              ? { readonly [key: string]: Value<V> }
              : Json;

type Present = { readonly required: true } | { readonly default: unknown };
export type ValueOfKeys<K> = {
  readonly [P in keyof K as K[P] extends Present ? P : never]: Value<K[P]>;
} & {
  readonly [P in keyof K as K[P] extends Present ? never : P]?: Value<K[P]> | undefined;
};

/** Says which member is wrong, what it is and what was expected: `ips[0].address`, `expected …, got …`. */
export class SchemaError extends Error {
  override readonly name = "SchemaError";
  readonly member: string;
  constructor(member: string, message: string) {
    super(message);
    this.member = member;
  }
}

const refuse = (at: string, expected: string, value: unknown): SchemaError =>
  new SchemaError(at, `expected ${expected}, got ${show(value)}`);

function isKey(text: string): boolean {
  if (text.length === 0 || text.length > 128) return false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const alnum = (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
    if (!alnum && (i === 0 || (c !== 95 && c !== 46 && c !== 45))) return false;
  }
  return true;
}

const formats: { readonly [F in Format]: { readonly says: string; readonly test: (text: string) => boolean } } = {
  ifname: { says: "an interface name of 1 to 15 printable characters", test: isIfName },
  ip: { says: "an IP address", test: (t) => t.length <= 64 && parseIp(t) !== undefined },
  cidr: { says: "an IP address with a prefix length", test: (t) => t.length <= 64 && parseCidr(t) !== undefined },
  mac: { says: "a MAC address of six bytes", test: (t) => t.length === 17 && parseMac(t)?.length === 6 },
  key: { says: "1 to 128 letters, digits, '_', '.', '-'", test: isKey },
};

/** `an integer from 0 to 4094`: for messages and for the reference page. */
export function describe(s: Schema): string {
  switch (s.type) {
    case "boolean":
      return "a boolean";
    case "integer":
      return s.min === undefined && s.max === undefined
        ? "an integer"
        : `an integer from ${s.min ?? "-2^53"} to ${s.max ?? "2^53"}`;
    case "string":
      if (s.enum !== undefined) return `one of ${s.enum.map((e) => `"${e}"`).join(", ")}`;
      return s.format === undefined ? "a string" : formats[s.format].says;
    case "array":
      return "an array";
    case "object":
    case "map":
      return "an object";
    default:
      return "any JSON value";
  }
}

/** How objects are read: `closed` refuses a key that is not named; `open` keeps it, and reads names as Go does. */
type Mode = "closed" | "open";

function checkValue(s: Schema, value: Json, at: string, mode: Mode): Json {
  switch (s.type) {
    case "boolean":
      if (typeof value !== "boolean") throw refuse(at, describe(s), value);
      return value;
    case "integer":
      if (
        typeof value !== "number" ||
        !Number.isSafeInteger(value) ||
        (s.min !== undefined && value < s.min) ||
        (s.max !== undefined && value > s.max)
      ) {
        throw refuse(at, describe(s), value);
      }
      return value;
    case "string":
      if (typeof value !== "string") throw refuse(at, describe(s), value);
      if (s.enum !== undefined) {
        if (!s.enum.includes(value)) throw refuse(at, describe(s), value);
        return value;
      }
      if (s.format !== undefined && !formats[s.format].test(value)) throw refuse(at, describe(s), value);
      if (value.length > (s.maxLength ?? 1024)) {
        throw new SchemaError(at, `expected at most ${s.maxLength ?? 1024} characters, got ${value.length}`);
      }
      return value;
    case "array": {
      if (!Array.isArray(value)) throw refuse(at, describe(s), value);
      if (s.maxItems !== undefined && value.length > s.maxItems) {
        throw new SchemaError(at, `expected at most ${s.maxItems} elements, got ${value.length}`);
      }
      return value.map((item, i) => checkValue(s.items, item, `${at}[${i}]`, mode));
    }
    case "map": {
      if (!isObject(value)) throw refuse(at, describe(s), value);
      const names = Object.keys(value);
      if (s.maxKeys !== undefined && names.length > s.maxKeys) {
        throw new SchemaError(at, `expected at most ${s.maxKeys} keys, got ${names.length}`);
      }
      return Object.fromEntries(names.map((k) => [k, checkValue(s.values, value[k] ?? null, join(at, k), mode)]));
    }
    case "object":
      if (!isObject(value)) throw refuse(at, describe(s), value);
      return checkKeys(s.keys, value, at, mode);
    default:
      return value;
  }
}

const join = (at: string, key: string): string => (at === "" ? key : `${at}.${key}`);

/** In open objects Go's rules hold: a name matches without regard to case, and "" is an absent enum or format. */
function find(keys: Keys, value: JsonObject, mode: Mode): Map<string, string> {
  const found = new Map<string, string>();
  for (const name of Object.keys(value)) {
    if (Object.hasOwn(keys, name)) found.set(name, name);
    else if (mode === "open") {
      const lower = name.toLowerCase();
      const known = Object.keys(keys).find((k) => k.toLowerCase() === lower);
      if (known !== undefined && !found.has(known)) found.set(known, name);
    }
  }
  return found;
}

function checkKeys(keys: Keys, value: JsonObject, at: string, mode: Mode): JsonObject {
  const found = find(keys, value, mode);
  const out: { [key: string]: Json } = {};
  const read = new Set(found.values());
  for (const name of Object.keys(value)) {
    if (read.has(name)) continue;
    if (mode === "closed") throw new SchemaError(join(at, name), "expected no such member");
    const kept = value[name];
    if (kept !== undefined) out[name] = kept;
  }
  for (const key of Object.keys(keys)) {
    const s = keys[key];
    if (s === undefined) continue;
    const name = found.get(key);
    const given = name === undefined ? undefined : value[name];
    const empty = mode === "open" && given === "" && s.type === "string" && (s.enum ?? s.format) !== undefined;
    if (given === undefined || given === null || empty) {
      if (s.required) throw new SchemaError(join(at, key), `expected ${describe(s)}, got nothing`);
      const preset = "default" in s ? s.default : undefined;
      if (preset !== undefined) out[key] = preset;
    } else {
      out[key] = checkValue(s, given, join(at, key), mode);
    }
  }
  return out;
}

/**
 * A request, a manifest, a policy: a member that the schema does not name is an error.
 *
 * @throws {SchemaError} naming the first member that is wrong.
 */
export function checkClosed<const K extends Keys>(keys: K, value: Json, at = ""): ValueOfKeys<K> {
  if (!isObject(value)) throw refuse(at === "" ? "(top level)" : at, "an object", value);
  return checkKeys(keys, value, at, "closed") as ValueOfKeys<K>;
}

/**
 * A network configuration: unknown members are kept, defaults filled in, and a name written in another case becomes
 * the schema's, because the reference plugins read names so.
 *
 * @throws {SchemaError} naming the first member that is wrong.
 */
export function checkOpen(keys: Keys, value: JsonObject): JsonObject {
  return checkKeys(keys, value, "", "open");
}

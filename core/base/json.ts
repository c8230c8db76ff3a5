/**
 * Strict JSON: what two readers could understand differently is refused before anything acts on it. The value itself is
 * made by the engine's own parser.
 */

export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

export interface JsonLimits {
  readonly maxBytes?: number;
  readonly maxDepth?: number;
  readonly maxTokens?: number;
}

/** Why a document was refused, with the offset in UTF-16 units where the text shows it. */
export class JsonError extends Error {
  override readonly name = "JsonError";
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const FORBIDDEN = new Set(["__proto__", "constructor", "prototype"]);
const QUOTE = 34;
const BACKSLASH = 92;

/**
 * Parses one JSON document.
 *
 * Refused beside bad syntax: duplicate keys and keys equal but for case (Go readers take them for one), `__proto__`,
 * `constructor`, `prototype`, NUL and lone surrogates, integers that a double cannot hold exactly, and documents over
 * the limits (1 MiB, depth 32, 20,000 tokens unless told).
 *
 * @throws {JsonError}
 */
export function parseJson(input: string | Uint8Array, limits: JsonLimits = {}): Json {
  const { maxBytes = 1 << 20, maxDepth = 32, maxTokens = 20_000 } = limits;
  if (input.length > maxBytes) throw new JsonError(`more than ${maxBytes} bytes`);
  const text = typeof input === "string" ? input : decode(input);
  // No token is shorter than a character, so a text this short needs no count.
  const plain = text.length > maxTokens ? undefined : parsePlain(text, maxDepth);
  if (plain !== undefined) return plain;
  const flaw = scan(text, maxDepth, maxTokens);
  if (flaw !== undefined) throw new JsonError(flaw);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new JsonError(cause instanceof Error ? cause.message.replace(/^JSON Parse error: /, "") : String(cause));
  }
}

let decoder: TextDecoder | undefined;

function decode(bytes: Uint8Array): string {
  decoder ??= new TextDecoder("utf-8", { fatal: true });
  try {
    return decoder.decode(bytes);
  } catch {
    throw new JsonError("not UTF-8");
  }
}

/**
 * Most documents were written by a program and come out of `JSON.stringify` as they went in, but for blanks: then no
 * key was there twice and no number was changed, and the value shows the rest. The engine's own parser and writer do
 * in microseconds what the scan takes a millisecond for.
 *
 * @returns undefined for any other text, which may be in order all the same: the scan says what is wrong with it.
 */
function parsePlain(text: string, maxDepth: number): Json | undefined {
  if (text.includes("\\u")) return undefined; // NUL and lone surrogates come in no other way
  let value: Json;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const again = JSON.stringify(value);
  if (again !== text && withoutBlanks(again) !== withoutBlanks(text)) return undefined;
  return isPlain(value, maxDepth) ? value : undefined;
}

/** Blanks in strings go too: what is left has the same quotes, so still the same strings in the same places. */
const withoutBlanks = (text: string): string => text.replace(/[ \t\n\r]+/g, "");

function isPlain(value: Json, depthLeft: number): boolean {
  if (typeof value === "number") return Math.abs(value) <= Number.MAX_SAFE_INTEGER;
  if (typeof value !== "object" || value === null) return true;
  if (depthLeft === 0) return false;
  if (Array.isArray(value)) {
    for (const item of value) if (!isPlain(item, depthLeft - 1)) return false;
    return true;
  }
  const object = value as JsonObject;
  const keys = Object.keys(object);
  let anyCase = false;
  for (const key of keys) {
    if (FORBIDDEN.has(key)) return false;
    anyCase ||= key.toLowerCase() !== key;
    const inner = object[key];
    if (typeof inner !== "string" && inner !== undefined && !isPlain(inner, depthLeft - 1)) return false;
  }
  return !anyCase || new Set(keys.map((key) => key.toLowerCase())).size === keys.length;
}

/** Finds what `JSON.parse` would let pass. Syntax is left to it: on broken text the scan only has to end. */
function scan(text: string, maxDepth: number, maxTokens: number): string | undefined {
  const keys: (Set<string> | undefined)[] = []; // one an open bracket; undefined for an array
  let tokens = 0;
  let i = 0;
  while (i < text.length) {
    const c = text.charCodeAt(i);
    if (c === QUOTE) {
      const start = i;
      let escaped = false;
      for (i++; i < text.length; i++) {
        const s = text.charCodeAt(i);
        if (s === QUOTE) break;
        if (s === BACKSLASH) {
          escaped = true;
          i++;
        } else if (s === 0) return `a NUL byte at ${i}`;
        else if (s >= 0xd800 && s <= 0xdfff) {
          const next = text.charCodeAt(i + 1);
          if (s > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return `a lone surrogate at ${i}`;
          i++;
        }
      }
      i++;
      if (++tokens > maxTokens) return `more than ${maxTokens} tokens`;
      const names = keys[keys.length - 1];
      if (escaped || names !== undefined) {
        let content = text.slice(start + 1, i - 1);
        if (escaped) {
          try {
            content = JSON.parse(text.slice(start, i));
          } catch {
            return `a bad string at ${start}`;
          }
          if (content.includes("\0")) return `a NUL character at ${start}`;
          if (!content.isWellFormed()) return `a lone surrogate at ${start}`;
        }
        let after = i;
        while (isSpace(text.charCodeAt(after))) after++;
        if (names !== undefined && text.charCodeAt(after) === 58) {
          if (FORBIDDEN.has(content)) return `the key "${content}" at ${start}`;
          const folded = content.toLowerCase();
          if (names.has(folded)) return `the key ${JSON.stringify(content.slice(0, 64))} twice (at ${start})`;
          names.add(folded);
        }
      }
      continue;
    }
    if (c === 123 || c === 91) {
      if (keys.length >= maxDepth) return `nested deeper than ${maxDepth}`;
      if (++tokens > maxTokens) return `more than ${maxTokens} tokens`;
      keys.push(c === 123 ? new Set() : undefined);
    } else if (c === 125 || c === 93) keys.pop();
    else if (c === 45 || (c >= 48 && c <= 57)) {
      const start = i;
      let integer = true;
      for (i++; i < text.length; i++) {
        const d = text.charCodeAt(i);
        if (d === 46 || d === 101 || d === 69) integer = false;
        else if (!(d === 43 || d === 45 || (d >= 48 && d <= 57))) break;
      }
      if (++tokens > maxTokens) return `more than ${maxTokens} tokens`;
      const number = Number(text.slice(start, i));
      if (integer ? !Number.isSafeInteger(number) : !Number.isFinite(number)) {
        return `the number ${text.slice(start, Math.min(i, start + 32))} that cannot be kept exactly (at ${start})`;
      }
      continue;
    } else if (c > 96 && ++tokens > maxTokens) return `more than ${maxTokens} tokens`;
    i++;
  }
  return undefined;
}

const isSpace = (c: number): boolean => c === 32 || c === 10 || c === 13 || c === 9;

/** The same value with every `null` member dropped, at any depth: runtimes write `null` for absent. */
export function withoutNulls(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (!isObject(value)) return value;
  const out: Record<string, Json> = {};
  for (const key of Object.keys(value)) {
    const inner = value[key];
    if (inner !== null && inner !== undefined) out[key] = withoutNulls(inner);
  }
  return out;
}

/**
 * A member by name without regard to case, `null` counting as absent: runtimes write `HostPort` where the field's
 * name is `hostPort`, and Go readers take both.
 */
export function member(object: JsonObject, name: string): Json | undefined {
  const exact = object[name];
  if (exact !== undefined && exact !== null && Object.hasOwn(object, name)) return exact;
  const folded = name.toLowerCase();
  for (const key of Object.keys(object)) {
    if (key.length === name.length && key.toLowerCase() === folded) return object[key] ?? undefined;
  }
  return undefined;
}

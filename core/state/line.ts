/**
 * The one line format of our state files: a JSON value, a space, the CRC-32 of the JSON's bytes as eight hexadecimal
 * digits, a line feed. A line that a crash cut short has no line feed; a line that something else changed has the
 * wrong sum.
 */
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import type { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const LF = 10;
const SPACE = 32;

/** CRC-32 (IEEE) as eight lower-case hexadecimal digits. */
export function checksum(bytes: Uint8Array): string {
  return Bun.hash.crc32(bytes).toString(16).padStart(8, "0");
}

/** @param value Anything `JSON.stringify` writes; it never writes a line feed. */
export function formatLine(value: unknown): Uint8Array {
  const json = encoder.encode(JSON.stringify(value));
  const line = new Uint8Array(json.length + 10);
  line.set(json);
  encoder.encodeInto(` ${checksum(json)}\n`, line.subarray(json.length));
  return line;
}

export interface Lines {
  readonly values: readonly Json[];
  /** Bytes of the whole lines: where the next one belongs. */
  readonly wholeBytes: number;
  /** Set when a whole line is not what was written: its number, from 1. Lines from there on are not in `values`. */
  readonly damagedAt?: number;
}

/** Reads lines until the end, a torn last line (it is left out, that is no damage) or the first damaged one. */
export function parseLines(bytes: Uint8Array): Lines {
  const values: Json[] = [];
  let start = 0;
  for (;;) {
    const end = bytes.indexOf(LF, start);
    if (end < 0) return { values, wholeBytes: start };
    const value = parseLine(bytes.subarray(start, end));
    if (value === undefined) return { values, wholeBytes: start, damagedAt: values.length + 1 };
    values.push(value);
    start = end + 1;
  }
}

/**
 * Reads a file that is one line with an object.
 *
 * @returns undefined when there is no such file; "damaged" when it is not what was written
 */
export function readRecord(dir: Dir, name: string, maxBytes: number): JsonObject | "damaged" | undefined {
  let bytes: Uint8Array | undefined;
  try {
    bytes = dir.read(name, maxBytes);
  } catch (cause) {
    if (isErrno(cause, Errno.EFBIG, Errno.EINVAL, Errno.ELOOP)) return "damaged";
    throw cause;
  }
  if (bytes === undefined) return undefined;
  const { values, wholeBytes } = parseLines(bytes);
  const [value] = values;
  return wholeBytes === bytes.length && values.length === 1 && isObject(value) ? value : "damaged";
}

function parseLine(line: Uint8Array): Json | undefined {
  const split = line.length - 9;
  if (split < 1 || line[split] !== SPACE) return undefined;
  const json = line.subarray(0, split);
  try {
    if (decoder.decode(line.subarray(split + 1)) !== checksum(json)) return undefined;
    return JSON.parse(decoder.decode(json));
  } catch {
    return undefined;
  }
}

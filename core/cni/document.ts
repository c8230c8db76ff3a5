/**
 * Reading a document that somebody else wrote. Every refusal says which document, which key, what was expected and what
 * was found, so that its author can mend it without reading our code.
 */
import { show } from "../base/brand.ts";
import { CniError, type Code } from "../base/error.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";

export class Document {
  /** As it stands in messages after "Cannot use", such as `network "storage"`. */
  readonly what: string;
  readonly code: Code;
  readonly remedy: string;

  constructor(what: string, code: Code, remedy: string) {
    this.what = what;
    this.code = code;
    this.remedy = remedy;
  }

  /** @param path The key, such as `plugins[1].type`; empty for the document as a whole. */
  refuse(path: string, expected: string, found: unknown): CniError {
    return this.mismatch(path, expected, found === undefined ? "nothing" : show(found));
  }

  /** As `refuse()`, with what was found in words of ours. */
  mismatch(path: string, expected: string, found: string): CniError {
    return this.error(`${path === "" ? "" : `${path}: `}expected ${expected}, found ${found}`);
  }

  /** @param sentence What is wrong, after the colon. */
  error(sentence: string, cause?: unknown): CniError {
    return new CniError(this.code, `Cannot use ${this.what}: ${sentence}`, { remedy: this.remedy, cause });
  }

  object(path: string, value: Json | undefined): JsonObject {
    if (isObject(value)) return value;
    throw this.refuse(path, "an object", value);
  }

  list(path: string, value: Json | undefined, max: number, of = "items"): readonly Json[] {
    if (!Array.isArray(value)) throw this.refuse(path, `a list of ${of}`, value);
    if (value.length > max) throw this.refuse(path, `at most ${max} ${of}`, value.length);
    return value;
  }

  /** A string without control characters, 1 to `max` characters. */
  text(path: string, value: Json | undefined, max = 4096): string {
    const text = this.textOrEmpty(path, value, max);
    if (text === "") throw this.refuse(path, "a string that is not empty", value);
    return text;
  }

  textOrEmpty(path: string, value: Json | undefined, max = 4096): string {
    if (typeof value !== "string") throw this.refuse(path, "a string", value);
    if (value.length > max) throw this.mismatch(path, `at most ${max} characters`, `${value.length}`);
    if (!isPrintable(value)) throw this.refuse(path, "a string without control characters", value);
    return value;
  }

  integer(path: string, value: Json | undefined, min: number, max: number): number {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= min && value <= max) return value;
    throw this.refuse(path, `an integer from ${min} to ${max}`, value);
  }

  boolean(path: string, value: Json | undefined): boolean {
    if (typeof value === "boolean") return value;
    throw this.refuse(path, "true or false", value);
  }

  texts(path: string, value: Json | undefined, max: number, of = "strings"): string[] {
    return this.list(path, value, max, of).map((item, i) => this.text(`${path}[${i}]`, item));
  }
}

/** No C0 or C1 control character and no DEL: safe in an environment, a log line, a terminal. */
export function isPrintable(text: string): boolean {
  return !/\p{Cc}/u.test(text);
}

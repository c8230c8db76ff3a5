// A strict JSON reader: what it accepts is RFC 8259, each key once, at most 64 levels, whole surrogate pairs, valid UTF-8.
// Values stay where they were read; text is decoded when asked for.
import { fail } from "./process";
import { decimal, Writer } from "./writer";

export const enum Kind {
  Absent,
  Null,
  False,
  True,
  Number,
  Text,
  List,
  Object,
}

const MAX_DEPTH = 64;

/** What stands for a value that is not there. */
export const absent: Json = new Json();

/**
 * One value of a document. Members and elements form a list: `for (let e = v.first; e.here; e = e.next)`.
 *
 * A member that is not there reads as an absent value, so `conf().obj("ipam").str("type")` needs no test on the way. A
 * member of another type than asked for ends the run with error 7 and its name.
 */
export class Json {
  kind: Kind = Kind.Absent;
  head: Json | null = null;
  tail: Json | null = null;
  /** The value's own bytes; without the quotes for text. */
  start: usize = 0;
  end: usize = 0;
  keyStart: usize = 0;
  keyEnd: usize = 0;
  /** Text and key without escape sequences and beyond-ASCII bytes. */
  simple: bool = true;
  keySimple: bool = true;

  /** The first member or element; absent when there is none. */
  get first(): Json {
    const first = this.head;
    return first ? first : absent;
  }

  /** The member or element after this; absent behind the last. */
  get next(): Json {
    const next = this.tail;
    return next ? next : absent;
  }

  /** Neither absent nor null. */
  get exists(): bool {
    return this.kind > Kind.Null;
  }

  /** Not absent: the end of a list is. */
  get here(): bool {
    return this.kind != Kind.Absent;
  }

  get isObject(): bool {
    return this.kind == Kind.Object;
  }

  /** The name of this member; "" for an element. */
  get key(): string {
    return decode(this.keyStart, this.keyEnd, this.keySimple);
  }

  /** The content of a text value. */
  get text(): string {
    return decode(this.start, this.end, this.simple);
  }

  /** How many members or elements there are. */
  get size(): i32 {
    let n = 0;
    for (let e = this.first; e.here; e = e.next) n++;
    return n;
  }

  private named(name: string): bool {
    if (!this.keySimple) return this.key == name;
    const length = name.length;
    if (this.keyEnd - this.keyStart != length) return false;
    for (let i = 0; i < length; i++) {
      if (load<u8>(this.keyStart + i) != name.charCodeAt(i)) return false;
    }
    return true;
  }

  /** The member of that name; an absent value when there is none, or when it is null. */
  get(name: string): Json {
    for (let m = this.first; m.here; m = m.next) {
      if (m.named(name)) return m.kind == Kind.Null ? absent : m;
    }
    return absent;
  }

  has(name: string): bool {
    return this.get(name).exists;
  }

  str(name: string, fallback: string = ""): string {
    const v = this.get(name);
    if (v.kind == Kind.Text) return v.text;
    if (v.exists) v.unfit(name, "a string");
    return fallback;
  }

  bool(name: string, fallback: bool = false): bool {
    const v = this.get(name);
    if (v.kind == Kind.True) return true;
    if (v.exists && v.kind != Kind.False) v.unfit(name, "true or false");
    return v.exists ? false : fallback;
  }

  /** An integer, however written: `1500`, `1500.0` and `1.5e3` are one. */
  int(name: string, fallback: i64 = 0): i64 {
    const v = this.get(name);
    if (!v.exists) return fallback;
    if (v.kind != Kind.Number || !wholeNumber(v.start, v.end)) v.unfit(name, "an integer");
    return whole;
  }

  obj(name: string): Json {
    return this.kindred(name, Kind.Object, "an object");
  }

  arr(name: string): Json {
    return this.kindred(name, Kind.List, "an array");
  }

  private kindred(name: string, kind: Kind, expected: string): Json {
    const v = this.get(name);
    if (v.exists && v.kind != kind) v.unfit(name, expected);
    return v;
  }

  private unfit(name: string, expected: string): void {
    const out = new Writer();
    if (this.kind == Kind.Text) out.text(null, this.text);
    else out.raw(null, this.start, <i32>min(this.end - this.start, 60));
    fail(
      7,
      'Cannot use "' + name + '": expected ' + expected + ", got " + out.toString(),
      'Correct "' + name + '" in the network configuration',
    );
  }

  /** Puts this value, as it was read, behind `name` into a document. */
  copyTo(out: Writer, name: string | null): void {
    if (this.kind == Kind.Absent) return;
    const quote: usize = this.kind == Kind.Text ? 1 : 0;
    out.raw(name, this.start - quote, <i32>(this.end - this.start + 2 * quote));
  }
}

let at: usize = 0;
let limit: usize = 0;
let origin: usize = 0;
let subject: string = "";

/**
 * Reads one document that fills `length` bytes.
 *
 * @param what Names the document in the error (6) that ends the run when it is not JSON.
 * @param into The value to fill, for a class that extends `Json`.
 */
export function parse(start: usize, length: i32, what: string, into: Json = new Json()): Json {
  at = origin = start;
  limit = start + length;
  subject = what;
  space();
  value(into, 0);
  space();
  if (at != limit) malformed("the end");
  return into;
}

function malformed(expected: string): void {
  fail(
    6,
    "Cannot read " + subject + ": expected " + expected + " at byte " + decimal(at - origin),
    "Report this with the document: the host sends none like it",
  );
}

// @ts-ignore: decorator
@inline
function peek(): u32 {
  return at < limit ? load<u8>(at) : 0;
}

function space(): void {
  for (let c = peek(); c == 0x20 || c == 0x0a || c == 0x0d || c == 0x09; c = peek()) at++;
}

function word(text: string): void {
  for (let i = 0; i < text.length; i++) {
    if (peek() != text.charCodeAt(i)) malformed('"' + text + '"');
    at++;
  }
}

function value(v: Json, depth: i32): void {
  const c = peek();
  v.start = at;
  if (c == 0x22) {
    v.kind = Kind.Text;
    v.simple = text();
    v.start++;
    v.end = at - 1;
    return;
  }
  if (c == 0x7b || c == 0x5b) {
    if (depth == MAX_DEPTH) malformed("at most 64 levels");
    at++;
    v.kind = c == 0x7b ? Kind.Object : Kind.List;
    if (c == 0x7b) members(v, depth + 1);
    else elements(v, depth + 1);
  } else if (c == 0x74) {
    v.kind = Kind.True;
    word("true");
  } else if (c == 0x66) {
    v.kind = Kind.False;
    word("false");
  } else if (c == 0x6e) {
    v.kind = Kind.Null;
    word("null");
  } else {
    v.kind = Kind.Number;
    number();
  }
  v.end = at;
}

function members(parent: Json, depth: i32): void {
  let last = absent;
  space();
  if (peek() == 0x7d) {
    at++;
    return;
  }
  while (true) {
    const m = new Json();
    if (peek() != 0x22) malformed("a key");
    m.keyStart = at + 1;
    m.keySimple = text();
    m.keyEnd = at - 1;
    for (let e = parent.first; e.here; e = e.next) if (sameKey(e, m)) malformed("each key once");
    space();
    if (peek() != 0x3a) malformed('":"');
    at++;
    space();
    value(m, depth);
    if (last === absent) parent.head = m;
    else last.tail = m;
    last = m;
    space();
    const c = peek();
    if (c == 0x7d) break;
    if (c != 0x2c) malformed('"," or "}"');
    at++;
    space();
  }
  at++;
}

function sameKey(a: Json, b: Json): bool {
  if (!a.keySimple || !b.keySimple) return a.key == b.key;
  const length = a.keyEnd - a.keyStart;
  return length == b.keyEnd - b.keyStart && memory.compare(a.keyStart, b.keyStart, length) == 0;
}

function elements(parent: Json, depth: i32): void {
  let last = absent;
  space();
  if (peek() == 0x5d) {
    at++;
    return;
  }
  while (true) {
    const e = new Json();
    value(e, depth);
    if (last === absent) parent.head = e;
    else last.tail = e;
    last = e;
    space();
    const c = peek();
    if (c == 0x5d) break;
    if (c != 0x2c) malformed('"," or "]"');
    at++;
    space();
  }
  at++;
}

function digit(c: u32): bool {
  return c - 0x30 < 10;
}

function digits(): void {
  if (!digit(peek())) malformed("a digit");
  while (digit(peek())) at++;
}

function number(): void {
  if (peek() == 0x2d) at++;
  if (peek() == 0x30) at++;
  else if (digit(peek())) digits();
  else malformed("a value");
  if (peek() == 0x2e) {
    at++;
    digits();
  }
  if ((peek() | 0x20) == 0x65) {
    at++;
    if (peek() == 0x2b || peek() == 0x2d) at++;
    digits();
  }
}

/** Passes over text and its quotes; says whether its bytes are plain ASCII without escapes. */
function text(): bool {
  let simple = true;
  at++;
  while (true) {
    if (at >= limit) malformed("a closing quote");
    const c: u32 = load<u8>(at);
    if (c == 0x22) break;
    if (c < 0x20) malformed("no control character");
    if (c == 0x5c) {
      simple = false;
      escape();
    } else if (c < 0x80) {
      at++;
    } else {
      simple = false;
      sequence(c);
    }
  }
  at++;
  return simple;
}

function hex(from: usize): i32 {
  let v = 0;
  for (let i: usize = 0; i < 4; i++) {
    const c: u32 = from + i < limit ? load<u8>(from + i) : 0;
    const letter = (c | 0x20) - 0x61;
    if (digit(c)) v = (v << 4) | (c - 0x30);
    else if (letter < 6) v = (v << 4) | (letter + 10);
    else return -1;
  }
  return v;
}

function escape(): void {
  const c: u32 = at + 1 < limit ? load<u8>(at + 1) : 0;
  at += 2;
  if (c == 0x22 || c == 0x5c || c == 0x2f || c == 0x62 || c == 0x66 || c == 0x6e || c == 0x72 || c == 0x74) return;
  const first = c == 0x75 ? hex(at) : -1;
  if (first < 0) malformed("an escape sequence");
  at += 4;
  if ((first & 0xf800) != 0xd800) return;
  const second = first < 0xdc00 && at + 1 < limit && load<u16>(at) == 0x755c ? hex(at + 2) : -1;
  if (second < 0 || (second & 0xfc00) != 0xdc00) malformed("a whole surrogate pair");
  at += 6;
}

/** One UTF-8 sequence of more than one byte: shortest form, no surrogate, up to U+10FFFF. */
function sequence(lead: u32): void {
  let extra = 0;
  let low: u32 = 0x80;
  let high: u32 = 0xbf;
  if (lead >= 0xc2 && lead < 0xe0) extra = 1;
  else if (lead >= 0xe0 && lead < 0xf0) {
    extra = 2;
    if (lead == 0xe0) low = 0xa0;
    if (lead == 0xed) high = 0x9f;
  } else if (lead >= 0xf0 && lead < 0xf5) {
    extra = 3;
    if (lead == 0xf0) low = 0x90;
    if (lead == 0xf4) high = 0x8f;
  }
  at++;
  if (extra == 0) malformed("UTF-8");
  while (extra-- > 0) {
    const c = peek();
    if (c < low || c > high) malformed("UTF-8");
    low = 0x80;
    high = 0xbf;
    at++;
  }
}

/** Text between its quotes, which `text()` has checked. */
function decode(start: usize, end: usize, simple: bool): string {
  const length = end - start;
  if (length == 0) return "";
  const out = __new(length << 1, idof<string>());
  if (simple) {
    for (let i: usize = 0; i < length; i++) store<u16>(out + (i << 1), load<u8>(start + i));
    return changetype<string>(out);
  }
  let to = out;
  for (let from = start; from < end; ) {
    const c: u32 = load<u8>(from++);
    if (c == 0x5c) {
      const e: u32 = load<u8>(from++);
      let unit = e;
      if (e == 0x75) {
        unit = hex(from);
        from += 4;
      } else if (e == 0x62) unit = 8;
      else if (e == 0x66) unit = 12;
      else if (e == 0x6e) unit = 10;
      else if (e == 0x72) unit = 13;
      else if (e == 0x74) unit = 9;
      store<u16>(to, unit);
    } else if (c < 0x80) {
      store<u16>(to, c);
    } else {
      const second: u32 = load<u8>(from) & 63;
      if (c < 0xe0) {
        store<u16>(to, ((c & 31) << 6) | second);
        from += 1;
      } else {
        const third: u32 = load<u8>(from, 1) & 63;
        if (c < 0xf0) {
          store<u16>(to, ((c & 15) << 12) | (second << 6) | third);
          from += 2;
        } else {
          const rest = (((c & 7) << 18) | (second << 12) | (third << 6) | (load<u8>(from, 2) & 63)) - 0x10000;
          store<u16>(to, 0xd800 | (rest >> 10));
          to += 2;
          store<u16>(to, 0xdc00 | (rest & 0x3ff));
          from += 3;
        }
      }
    }
    to += 2;
  }
  return changetype<string>(__renew(out, to - out));
}

/** What `wholeNumber` read. */
export let whole: i64 = 0;

/** Reads a JSON number as an integer below 2^53; false when it has a fraction or is larger. */
export function wholeNumber(start: usize, end: usize): bool {
  let from = start;
  const negative = load<u8>(from) == 0x2d;
  if (negative) from++;
  let exponent: i64 = 0;
  let stop = from;
  while (stop < end && (load<u8>(stop) | 0x20) != 0x65) stop++;
  if (stop < end) {
    let e = stop + 1;
    const sign: u32 = load<u8>(e);
    if (sign == 0x2b || sign == 0x2d) e++;
    for (; e < end; e++) if (exponent < 1_000_000) exponent = exponent * 10 + (load<u8>(e) - 0x30);
    if (sign == 0x2d) exponent = -exponent;
  }
  let value: u64 = 0;
  let zeros: i64 = 0; // trailing zeros not yet put into `value`
  let fraction = false;
  for (let p = from; p < stop; p++) {
    const c: u32 = load<u8>(p);
    if (c == 0x2e) {
      fraction = true;
      continue;
    }
    if (fraction) exponent--;
    if (value == 0 && c == 0x30) continue;
    zeros++;
    if (c == 0x30) continue;
    for (; zeros > 0; zeros--) {
      if (value >= 900_719_925_474_100) return false;
      value *= 10;
    }
    value += c - 0x30;
  }
  exponent += zeros;
  whole = 0;
  if (value == 0) return true;
  if (exponent < 0) return false;
  for (; exponent > 0; exponent--) {
    value *= 10;
    if (value > 9_007_199_254_740_991) return false;
  }
  if (value > 9_007_199_254_740_991) return false;
  whole = negative ? -(<i64>value) : <i64>value;
  return true;
}

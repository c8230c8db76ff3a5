/**
 * Layouts as values. A layout is written once; its encoder, its decoder and its TypeScript types all come from it.
 *
 * Three rules hold everywhere: a present zero is sent and an absent field is not; an attribute that the layout does not
 * name lands in `other` and is sent back as it came; attributes go out in the order of the value's own keys, so a
 * decoded message encodes to the same bytes.
 */
import { Source, WireError, Writer } from "./buffer.ts";

/**
 * Bytes to a value and back. `In` is what `write` takes, `Out` what `read` gives: a decoded header is complete, while
 * fields left out when encoding are zero.
 */
export interface Codec<Out, In = Out> {
  /** Bytes, for a value of fixed size. */
  readonly size?: number;
  write(to: Writer, value: In): void;
  /** @throws {WireError} if the bytes from `start` to `end` are not such a value. */
  read(from: Source, start: number, end: number): Out;
}

/** What decoding gives. */
export type Of<C> = C extends { read(from: Source, start: number, end: number): infer Out } ? Out : never;
/** What encoding takes. */
export type Into<C> = C extends { write(to: Writer, value: infer In): void } ? In : never;

type AnyCodec = Codec<unknown, never>;

export function encode<Out, In>(codec: Codec<Out, In>, value: In): Uint8Array {
  const to = new Writer(256);
  codec.write(to, value);
  return to.written().slice();
}

export function decode<Out, In>(codec: Codec<Out, In>, bytes: Uint8Array): Out {
  return codec.read(new Source(bytes), 0, bytes.length);
}

// --- Numbers ---------------------------------------------------------------------------------------------------------

/** A number of fixed size; `zero` is what an absent struct field is written as. */
interface Fixed<T> extends Codec<T> {
  readonly size: number;
  readonly zero: T;
  /** Without a look at the bounds. */
  readonly get: Getter<T>;
  readonly set: Setter<T>;
}

type Getter<T> = (view: DataView, at: number) => T;
type Setter<T> = (view: DataView, at: number, value: T) => void;

function fixed<T>(size: number, zero: T, get: Getter<T>, set: Setter<T>): Fixed<T> {
  return {
    size,
    zero,
    get,
    set,
    write(to, value) {
      const at = to.reserve(size);
      set(to.view, at, value);
    },
    read(from, start, end) {
      if (end - start < size) throw short(`${size}-byte number`, start, end);
      return get(from.view, start);
    },
  };
}

const short = (what: string, start: number, end: number): WireError =>
  new WireError(`Cannot read ${what}: ${Math.max(0, end - start)} left (at byte ${start})`);

export const u8 = fixed<number>(
  1,
  0,
  (v, at) => v.getUint8(at),
  (v, at, n) => v.setUint8(at, n),
);
export const u16 = fixed<number>(
  2,
  0,
  (v, at) => v.getUint16(at, true),
  (v, at, n) => v.setUint16(at, n, true),
);
export const u32 = fixed<number>(
  4,
  0,
  (v, at) => v.getUint32(at, true),
  (v, at, n) => v.setUint32(at, n, true),
);
export const i32 = fixed<number>(
  4,
  0,
  (v, at) => v.getInt32(at, true),
  (v, at, n) => v.setInt32(at, n, true),
);
export const u64 = fixed<bigint>(
  8,
  0n,
  (v, at) => v.getBigUint64(at, true),
  (v, at, n) => v.setBigUint64(at, n, true),
);
/** Big-endian, as netfilter and everything that is also in a packet has it. */
export const u16be = fixed<number>(
  2,
  0,
  (v, at) => v.getUint16(at),
  (v, at, n) => v.setUint16(at, n),
);
export const u32be = fixed<number>(
  4,
  0,
  (v, at) => v.getUint32(at),
  (v, at, n) => v.setUint32(at, n),
);
export const i32be = fixed<number>(
  4,
  0,
  (v, at) => v.getInt32(at),
  (v, at, n) => v.setInt32(at, n),
);
export const u64be = fixed<bigint>(
  8,
  0n,
  (v, at) => v.getBigUint64(at),
  (v, at, n) => v.setBigUint64(at, n),
);

// --- Bytes and text --------------------------------------------------------------------------------------------------

/** All bytes up to the end, copied. */
export const bytes: Codec<Uint8Array> = {
  write: (to, value) => to.append(value),
  read: (from, start, end) => from.bytes.slice(start, end),
};

function checkText(value: string): void {
  if (value.includes("\0")) throw new TypeError(`Cannot write ${JSON.stringify(value)}: it has a NUL`);
}

/** Text without a NUL, where length alone ends it; one that comes with a NUL is read up to that. */
export const text: Codec<string> = {
  write(to, value) {
    checkText(value);
    to.appendText(value);
  },
  read: (from, start, end) => from.text(start, end),
};

/** Text with its NUL. A NUL inside would cut the name short without a word, so it is refused. */
export const cstr: Codec<string> = {
  write(to, value) {
    checkText(value);
    to.appendText(value);
    to.appendZero();
  },
  read: (from, start, end) => from.text(start, end),
};

// --- Structs ---------------------------------------------------------------------------------------------------------

type StructFields = Readonly<Record<string, Fixed<number>>>;
type StructOut<F extends StructFields> = { [K in keyof F]: number };
type StructIn<F extends StructFields> = { readonly [K in keyof F]?: number | undefined };

export interface Struct<F extends StructFields> extends Codec<StructOut<F>, StructIn<F>> {
  readonly size: number;
  readInto(from: Source, start: number, end: number, out: Record<string, unknown>): void;
}

/** A C struct of numbers without padding, its fields in order. */
export function struct<const F extends StructFields>(fields: F): Struct<F> {
  const members = Object.entries(fields);
  let size = 0;
  for (const [, codec] of members) size += codec.size;
  const self: Struct<F> = {
    size,
    write(to, value) {
      const given = value as Record<string, number | undefined>;
      let at = to.reserve(size);
      for (const [name, codec] of members) {
        codec.set(to.view, at, given[name] ?? 0);
        at += codec.size;
      }
    },
    read(from, start, end) {
      const out: Record<string, unknown> = {};
      self.readInto(from, start, end, out);
      return out as StructOut<F>;
    },
    readInto(from, start, end, out) {
      if (end - start < size) throw short(`${size}-byte struct`, start, end);
      let at = start;
      for (const [name, codec] of members) {
        out[name] = codec.get(from.view, at);
        at += codec.size;
      }
    },
  };
  return self;
}

// --- Attributes ------------------------------------------------------------------------------------------------------

/** An attribute as it came: its type with flag bits, and its content. */
export type RawAttribute = readonly [type: number, content: Uint8Array];

/** `NLA_F_NESTED`, which netfilter's tools set on containers and rtnetlink's do not. */
export const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

/**
 * How an attribute stands in its set: `many` when it repeats (its field is then a list), `when` when its content has
 * this layout only if a sibling that comes before it has that value, as `IFLA_INFO_DATA` after `IFLA_INFO_KIND`.
 */
interface FieldOptions {
  readonly many?: boolean;
  readonly when?: readonly [sibling: string, value: string];
}
type Field = readonly [type: number, codec: AnyCodec, options?: FieldOptions];
type Fields = Readonly<Record<string, Field>>;
type Content<F extends Field> = F extends readonly [number, infer C, ...unknown[]] ? C : never;
type IsMany<F extends Field> = F extends readonly [number, unknown, { readonly many: true }] ? true : false;

type AttrsOut<F extends Fields> = {
  [K in keyof F]?: IsMany<F[K]> extends true ? Of<Content<F[K]>>[] : Of<Content<F[K]>>;
} & { other?: RawAttribute[] };
type AttrsIn<F extends Fields> = {
  readonly [K in keyof F]?:
    | (IsMany<F[K]> extends true ? readonly Into<Content<F[K]>>[] : Into<Content<F[K]>>)
    | undefined;
} & { readonly other?: readonly RawAttribute[] | undefined };

export interface Attrs<F extends Fields> extends Codec<AttrsOut<F>, AttrsIn<F>> {
  readonly fields: F;
  readInto(from: Source, start: number, end: number, out: Record<string, unknown>): void;
}

interface Row {
  readonly name: string;
  readonly type: number;
  readonly codec: Codec<unknown>;
  readonly many: boolean;
  readonly when: readonly [string, string] | undefined;
}

function writeAttribute(to: Writer, type: number, codec: Codec<unknown>, value: unknown): void {
  const at = to.reserve(4);
  codec.write(to, value);
  const length = to.length - at;
  if (length > 0xffff) throw new RangeError(`Cannot write attribute ${type & TYPE_MASK}: ${length} bytes, 65535 fit`);
  to.view.setUint16(at, length, true);
  to.view.setUint16(at + 2, type, true);
  to.align();
}

/**
 * The length of the attribute at `at`, at least 4 and at most what is left, so that a walk goes forward with each step:
 * hostile lengths can neither loop nor overread.
 */
function attributeLength(from: Source, at: number, end: number): number {
  const length = from.view.getUint16(at, true);
  if (length >= 4 && length <= end - at) return length;
  throw wrongLength(from, at, end);
}

function wrongLength(from: Source, at: number, end: number): WireError {
  const length = from.view.getUint16(at, true);
  const type = from.view.getUint16(at + 2, true) & TYPE_MASK;
  return new WireError(`Cannot read attribute ${type}: length ${length}, ${end - at} left (at byte ${at})`);
}

/** The fields by name, for writing, and by type, for reading. */
function rowsOf(fields: Fields): { readonly byName: ReadonlyMap<string, Row>; readonly byType: readonly Row[][] } {
  const byName = new Map<string, Row>();
  const byType: Row[][] = [];
  for (const name in fields) {
    const [type, codec, options] = fields[name] as Field;
    const row = { name, type, codec: codec as Codec<unknown>, many: options?.many === true, when: options?.when };
    byName.set(name, row);
    const index = type & TYPE_MASK;
    const known = byType[index];
    if (known === undefined) byType[index] = [row];
    else known.push(row);
  }
  return { byName, byType };
}

/** Of the rows with one type, the one that holds given what was read before. */
function rowFor(rows: readonly Row[], soFar: Record<string, unknown>): Row | undefined {
  for (const row of rows) if (row.when === undefined || soFar[row.when[0]] === row.when[1]) return row;
  return undefined;
}

function append(out: Record<string, unknown>, name: string, value: unknown): void {
  const list = out[name];
  if (Array.isArray(list)) list.push(value);
  else out[name] = [value];
}

/** A set of netlink attributes, `struct nlattr` each: length, type, content, padded to four bytes. */
export function attrs<const F extends Fields>(fields: F): Attrs<F> {
  // Made at the first use: a process reads and writes few of all the layouts there are.
  let table: ReturnType<typeof rowsOf> | undefined;
  const self: Attrs<F> = {
    fields,
    write(to, value) {
      table ??= rowsOf(fields);
      const { byName } = table;
      const given = value as Record<string, unknown>;
      for (const name in given) {
        const content = given[name];
        if (content === undefined) continue;
        const row = byName.get(name);
        if (row === undefined) {
          if (name === "other")
            for (const [type, raw] of content as RawAttribute[]) writeAttribute(to, type, bytes as Codec<unknown>, raw);
        } else if (row.many) {
          for (const one of content as unknown[]) writeAttribute(to, row.type, row.codec, one);
        } else writeAttribute(to, row.type, row.codec, content);
      }
    },
    read(from, start, end) {
      const out: Record<string, unknown> = {};
      self.readInto(from, start, end, out);
      return out as AttrsOut<F>;
    },
    readInto(from, start, end, out) {
      table ??= rowsOf(fields);
      const { byType } = table;
      const { view } = from;
      let at = start;
      while (end - at >= 4) {
        const length = view.getUint16(at, true);
        if (length < 4 || length > end - at) throw wrongLength(from, at, end);
        const type = view.getUint16(at + 2, true);
        const rows = byType[type & TYPE_MASK];
        const row = rows === undefined ? undefined : rowFor(rows, out);
        if (row !== undefined) {
          const content = row.codec.read(from, at + 4, at + length);
          if (row.many) append(out, row.name, content);
          else out[row.name] = content;
        } else if (from.keepUnknown) {
          const raw: RawAttribute = [type, from.bytes.slice(at + 4, at + length)];
          append(out, "other", raw);
        }
        at += (length + 3) & ~3;
      }
    },
  };
  return self;
}

/** A container that holds one attribute type again and again, such as `NFTA_LIST_ELEM`. */
export function list<Out, In>(type: number, codec: Codec<Out, In>): Codec<Out[], readonly In[]> {
  return {
    write(to, values) {
      for (const value of values) writeAttribute(to, type, codec as Codec<unknown>, value);
    },
    read(from, start, end) {
      const out: Out[] = [];
      let at = start;
      while (end - at >= 4) {
        const length = attributeLength(from, at, end);
        const found = from.view.getUint16(at + 2, true);
        if ((found & TYPE_MASK) === (type & TYPE_MASK)) out.push(codec.read(from, at + 4, at + length));
        at += (length + 3) & ~3;
      }
      return out;
    },
  };
}

/** A fixed header, then attributes, in one flat value: the body of most netlink messages. */
export function body<H extends StructFields, F extends Fields>(
  header: Struct<H>,
  attributes: Attrs<F>,
): Codec<StructOut<H> & AttrsOut<F>, StructIn<H> & AttrsIn<F>> {
  return {
    write(to, value) {
      header.write(to, value);
      attributes.write(to, value);
    },
    read(from, start, end) {
      const out: Record<string, unknown> = {};
      header.readInto(from, start, end, out);
      attributes.readInto(from, start + header.size, end, out);
      return out as StructOut<H> & AttrsOut<F>;
    },
  };
}

/**
 * Records one after another, each a header whose first field `length` counts header and attributes together, as
 * `struct rtnexthop` has it. `length` is computed when writing.
 */
export function records<H extends StructFields & { readonly length: Fixed<number> }, F extends Fields>(
  header: Struct<H>,
  attributes: Attrs<F>,
): Codec<(StructOut<H> & AttrsOut<F>)[], readonly (StructIn<H> & AttrsIn<F>)[]> {
  const one = body(header, attributes);
  return {
    write(to, values) {
      for (const value of values) {
        const at = to.length;
        one.write(to, value);
        to.view.setUint16(at, to.length - at, true);
      }
    },
    read(from, start, end) {
      const out: (StructOut<H> & AttrsOut<F>)[] = [];
      let at = start;
      while (end - at >= header.size) {
        const length = from.view.getUint16(at, true);
        if (length < header.size || length > end - at) {
          throw new WireError(`Cannot read record: length ${length}, ${end - at} left (at byte ${at})`);
        }
        out.push(one.read(from, at, at + length));
        at += (length + 3) & ~3;
      }
      return out;
    },
  };
}

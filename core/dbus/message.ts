/**
 * Messages of D-Bus, as far as a client needs them that calls methods with text and hears text, booleans or nothing.
 * Source: the D-Bus specification, "Message Protocol"
 */

/** The bytes are not D-Bus, or more of it than we speak. */
export class DbusProtocolError extends Error {
  override readonly name = "DbusProtocolError";
}

export interface MethodCall {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly args: readonly string[];
}

export interface Message {
  /** 1 call, 2 answer, 3 error, 4 signal */
  readonly type: number;
  readonly replySerial: number | undefined;
  readonly errorName: string | undefined;
  /** The first value of the body, where it is text or a boolean. */
  readonly value: string | boolean | undefined;
}

export const MessageType = { CALL: 1, RETURN: 2, ERROR: 3, SIGNAL: 4 } as const;
/** The bus does not start a service for our sake. */
const NO_AUTO_START = 2;
const Field = {
  PATH: 1,
  INTERFACE: 2,
  MEMBER: 3,
  ERROR_NAME: 4,
  REPLY_SERIAL: 5,
  DESTINATION: 6,
  SIGNATURE: 8,
} as const;
const FIXED_BYTES = 16;
/** The specification allows 128 MiB; nothing that we ask for comes near this. */
const MAX_BYTES = 1 << 20;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

class Writer {
  readonly #bytes: number[] = [];

  get length(): number {
    return this.#bytes.length;
  }
  align(to: number): void {
    while (this.#bytes.length % to !== 0) this.#bytes.push(0);
  }
  byte(value: number): void {
    this.#bytes.push(value);
  }
  u32(value: number): void {
    this.align(4);
    for (let shift = 0; shift < 32; shift += 8) this.#bytes.push((value >>> shift) & 0xff);
  }
  /** STRING and OBJECT_PATH */
  text(value: string): void {
    const bytes = encoder.encode(value);
    if (bytes.includes(0)) throw new DbusProtocolError("text with a NUL");
    this.u32(bytes.length);
    this.#bytes.push(...bytes, 0);
  }
  signature(value: string): void {
    this.#bytes.push(value.length, ...encoder.encode(value), 0);
  }
  bytes(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

export function encodeCall(call: MethodCall, serial: number): Uint8Array {
  const body = new Writer();
  for (const arg of call.args) body.text(arg);
  const fields = new Writer();
  const field = (code: number, type: string, write: () => void): void => {
    fields.align(8);
    fields.byte(code);
    fields.signature(type);
    write();
  };
  field(Field.PATH, "o", () => fields.text(call.path));
  field(Field.INTERFACE, "s", () => fields.text(call.interface));
  field(Field.MEMBER, "s", () => fields.text(call.member));
  field(Field.DESTINATION, "s", () => fields.text(call.destination));
  if (call.args.length > 0) field(Field.SIGNATURE, "g", () => fields.signature("s".repeat(call.args.length)));

  const head = new Writer();
  for (const byte of [0x6c, MessageType.CALL, NO_AUTO_START, 1]) head.byte(byte); // "l": little-endian
  head.u32(body.length);
  head.u32(serial);
  head.u32(fields.length);
  const begin = head.bytes();
  const end = begin.length + fields.length;
  const padded = end + ((8 - (end % 8)) % 8);
  const out = new Uint8Array(padded + body.length);
  out.set(begin);
  out.set(fields.bytes(), begin.length);
  out.set(body.bytes(), padded);
  return out;
}

/** How long the message is that begins with these bytes; undefined while too few of them are there to tell. */
export function messageLength(bytes: Uint8Array): number | undefined {
  if (bytes.length < FIXED_BYTES) return undefined;
  const little = endianness(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields = FIXED_BYTES + view.getUint32(12, little);
  const length = fields + ((8 - (fields % 8)) % 8) + view.getUint32(4, little);
  if (length > MAX_BYTES) throw new DbusProtocolError(`a message of ${length} bytes`);
  return length;
}

function endianness(bytes: Uint8Array): boolean {
  if (bytes[0] === 0x6c) return true;
  if (bytes[0] === 0x42) return false;
  throw new DbusProtocolError(`a message that begins with ${bytes[0]}`);
}

/** Reads within bounds; every step goes forward. */
class Reader {
  at: number;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #little: boolean;

  constructor(bytes: Uint8Array, at: number) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#little = endianness(bytes);
    this.at = at;
  }
  align(to: number): void {
    this.at += (to - (this.at % to)) % to;
  }
  #need(count: number): void {
    if (this.at + count > this.#bytes.length) throw new DbusProtocolError("a message that is cut short");
  }
  byte(): number {
    this.#need(1);
    return this.#view.getUint8(this.at++);
  }
  u32(): number {
    this.align(4);
    this.#need(4);
    this.at += 4;
    return this.#view.getUint32(this.at - 4, this.#little);
  }
  #text(length: number): string {
    this.#need(length + 1);
    this.at += length + 1;
    return decoder.decode(this.#bytes.subarray(this.at - length - 1, this.at - 1));
  }
  text(): string {
    return this.#text(this.u32());
  }
  signature(): string {
    return this.#text(this.byte());
  }
}

/** @param bytes One whole message, as `messageLength()` tells. @throws {DbusProtocolError} */
export function decodeMessage(bytes: Uint8Array): Message {
  const from = new Reader(bytes, 1);
  const type = from.byte();
  from.at = 12;
  const end = FIXED_BYTES + from.u32();
  let replySerial: number | undefined;
  let errorName: string | undefined;
  let signature = "";
  while (from.at < end) {
    from.align(8);
    const code = from.byte();
    const of = from.signature();
    if (of === "u") {
      const value = from.u32();
      if (code === Field.REPLY_SERIAL) replySerial = value;
    } else if (of === "s" || of === "o") {
      const value = from.text();
      if (code === Field.ERROR_NAME) errorName = value;
    } else if (of === "g") {
      const value = from.signature();
      if (code === Field.SIGNATURE) signature = value;
    } else throw new DbusProtocolError(`a header field of type "${of}"`);
  }
  from.at = end;
  from.align(8);
  const value = signature.startsWith("s") ? from.text() : signature.startsWith("b") ? from.u32() !== 0 : undefined;
  return { type, replySerial, errorName, value };
}

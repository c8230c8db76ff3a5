/**
 * DHCP messages, RFC 2131 section 2: a fixed header, a cookie, options. The layouts are bytes as they come; what they
 * mean is in `options.ts`.
 */
import { type Source, WireError, type Writer } from "../../wire/buffer.ts";
import { type Codec, struct, u8, u16be, u32be } from "../../wire/codec.ts";

/** Option 53 */
export const MessageType = {
  DISCOVER: 1,
  OFFER: 2,
  REQUEST: 3,
  DECLINE: 4,
  ACK: 5,
  NAK: 6,
  RELEASE: 7,
  INFORM: 8,
} as const;

/** RFC 2132 and, for 121, RFC 3442; 249 is Microsoft's number for the same. */
export const OptionCode = {
  PAD: 0,
  SUBNET_MASK: 1,
  ROUTER: 3,
  DNS: 6,
  HOST_NAME: 12,
  DOMAIN: 15,
  STATIC_ROUTES: 33,
  NTP: 42,
  REQUESTED_ADDRESS: 50,
  LEASE_TIME: 51,
  OVERLOAD: 52,
  MESSAGE_TYPE: 53,
  SERVER: 54,
  REQUEST_LIST: 55,
  MESSAGE: 56,
  MAX_SIZE: 57,
  RENEWAL_TIME: 58,
  REBINDING_TIME: 59,
  VENDOR_CLASS: 60,
  CLIENT_ID: 61,
  USER_CLASS: 77,
  CLASSLESS_ROUTES: 121,
  CLASSLESS_ROUTES_MICROSOFT: 249,
  END: 255,
} as const;

export const BOOTREQUEST = 1;
export const BOOTREPLY = 2;
/** In `flags`: the answer is to be broadcast. */
export const BROADCAST_FLAG = 0x8000;

const COOKIE = 0x63825363;
/** Relays and servers from the days of BOOTP drop what is shorter. */
const MIN_BYTES = 300;

/** `op` to `giaddr`; addresses are numbers here. */
const header = struct({
  op: u8,
  hardwareType: u8,
  hardwareLength: u8,
  hops: u8,
  xid: u32be,
  seconds: u16be,
  flags: u16be,
  /** The client's, when it has one. */
  clientAddress: u32be,
  /** What the client gets. */
  yourAddress: u32be,
  nextServer: u32be,
  relay: u32be,
});

/** Options by their number; those of one number that came in parts are one, RFC 3396. */
export type Options = ReadonlyMap<number, Uint8Array>;

export interface Message {
  readonly op: number;
  readonly hardwareType: number;
  readonly hardwareLength: number;
  readonly hops: number;
  readonly xid: number;
  readonly seconds: number;
  readonly flags: number;
  readonly clientAddress: number;
  readonly yourAddress: number;
  readonly nextServer: number;
  readonly relay: number;
  /** 16 bytes, of which the first `hardwareLength` count. */
  readonly hardware: Uint8Array;
  readonly options: Options;
}

const HARDWARE_BYTES = 16;
const SERVER_NAME_BYTES = 64;
const FILE_BYTES = 128;
const HARDWARE_AT = header.size;
const SERVER_NAME_AT = HARDWARE_AT + HARDWARE_BYTES;
const FILE_AT = SERVER_NAME_AT + SERVER_NAME_BYTES;
const COOKIE_AT = FILE_AT + FILE_BYTES;
const OPTIONS_AT = COOKIE_AT + 4;

/** Number, length, content, one after another up to the end mark. A length that goes past the end is no option. */
const options: Codec<Map<number, Uint8Array>, Options> = {
  write(to, value) {
    for (const [code, content] of value) {
      for (let at = 0; at === 0 || at < content.length; at += 255) {
        const part = content.subarray(at, at + 255);
        to.append(Uint8Array.of(code, part.length));
        to.append(part);
      }
    }
    to.append(Uint8Array.of(OptionCode.END));
  },
  read(from, start, end) {
    const out = new Map<number, Uint8Array>();
    readOptions(from, start, end, out);
    return out;
  },
};

function readOptions(from: Source, start: number, end: number, out: Map<number, Uint8Array>): void {
  for (let at = start; at < end; ) {
    const code = from.view.getUint8(at++);
    if (code === OptionCode.PAD) continue;
    if (code === OptionCode.END) return;
    const length = at < end ? from.view.getUint8(at) : 256;
    if (length > end - at - 1) throw new WireError(`Cannot read option ${code}: it ends past byte ${end}`);
    const content = from.bytes.slice(at + 1, at + 1 + length);
    const before = out.get(code);
    out.set(code, before === undefined ? content : joined(before, content));
    at += 1 + length;
  }
}

function joined(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

const zeros = (to: Writer, count: number): void => to.append(new Uint8Array(count));

export const message: Codec<Message, Partial<Message>> = {
  write(to, value) {
    const start = to.length;
    header.write(to, value);
    const hardware = new Uint8Array(HARDWARE_BYTES);
    hardware.set((value.hardware ?? hardware).subarray(0, HARDWARE_BYTES));
    to.append(hardware);
    zeros(to, SERVER_NAME_BYTES + FILE_BYTES);
    u32be.write(to, COOKIE);
    options.write(to, value.options ?? new Map());
    const missing = MIN_BYTES - (to.length - start);
    if (missing > 0) zeros(to, missing);
  },
  read(from, start, end) {
    const size = end - start;
    if (size < OPTIONS_AT) throw new WireError(`Cannot read a message: ${size} bytes, its header has ${OPTIONS_AT}`);
    const cookie = from.view.getUint32(start + COOKIE_AT);
    if (cookie !== COOKIE) throw new WireError("Cannot read a message: it is BOOTP's and has no options");
    const found = options.read(from, start + OPTIONS_AT, end) as Map<number, Uint8Array>;
    // Option 52: the fields for a file's and a server's name hold options too, in this order.
    const overload = found.get(OptionCode.OVERLOAD)?.[0] ?? 0;
    if ((overload & 1) !== 0) readOptions(from, start + FILE_AT, start + COOKIE_AT, found);
    if ((overload & 2) !== 0) readOptions(from, start + SERVER_NAME_AT, start + FILE_AT, found);
    return {
      ...header.read(from, start, end),
      hardware: from.bytes.slice(start + HARDWARE_AT, start + SERVER_NAME_AT),
      options: found,
    };
  },
};

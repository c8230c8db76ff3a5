/** What every netlink message shares: its header, the acknowledgement, and the numbers of both. */
import type { Source, Writer } from "../wire/buffer.ts";
import { WireError } from "../wire/buffer.ts";
import { attrs, type Codec, cstr, i32, type Of, struct, u16, u32 } from "../wire/codec.ts";

/** `struct nlmsghdr`, 16 bytes. Source: linux/netlink.h */
export const nlmsghdr = struct({ length: u32, type: u16, flags: u16, seq: u32, port: u32 });
export type MessageHeader = Of<typeof nlmsghdr>;

/** `NLM_F_*`. The second half means one thing in a get and another in a new. */
export const Flag = {
  REQUEST: 0x1,
  MULTI: 0x2,
  ACK: 0x4,
  ECHO: 0x8,
  DUMP_INTERRUPTED: 0x10,
  DUMP: 0x300,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
  APPEND: 0x800,
  /** On an answer: the request inside it was cut to its header. */
  CAPPED: 0x100,
  /** On an answer: attributes follow, `NLMSGERR_ATTR_*`. */
  ACK_TLVS: 0x200,
} as const;

/** `NLMSG_*`: types below 16 belong to netlink itself. */
export const Control = { NOOP: 1, ERROR: 2, DONE: 3, OVERRUN: 4 } as const;

/** `RTM_*`. Source: linux/rtnetlink.h */
export const Rtm = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
  NEWRULE: 32,
  DELRULE: 33,
  GETRULE: 34,
  NEWQDISC: 36,
  DELQDISC: 37,
  GETQDISC: 38,
  NEWTFILTER: 44,
  GETTFILTER: 46,
  GETNSID: 90,
  NEWLINKPROP: 108,
  DELLINKPROP: 109,
} as const;

/** Address families as netlink writes them. */
export const Family = { UNSPEC: 0, INET: 2, BRIDGE: 7, INET6: 10 } as const;

/** `NLMSGERR_ATTR_*`: the extended acknowledgement. */
const ackAttrs = attrs({ message: [1, cstr], offset: [2, u32] });

/** The kernel's verdict on one request: `errno` 0 is yes. */
export interface Verdict {
  readonly errno: number;
  /** The kernel's own words, where it has any. */
  readonly text?: string;
  /** Which byte of the request the kernel did not like. */
  readonly offset?: number;
}

/**
 * Reads the verdict out of an `NLMSG_ERROR` or `NLMSG_DONE` body: `int error`, which the kernel sends negated, for
 * `NLMSG_ERROR` the header of the request (and, without `NLM_F_CAPPED`, all of it), then attributes if
 * `NLM_F_ACK_TLVS` says so.
 *
 * @throws {WireError} if the body is shorter than that, which no kernel sends
 */
export function readVerdict(header: MessageHeader, from: Source, start: number, end: number): Verdict {
  const errno = -i32.read(from, start, end);
  let at = start + 4;
  if (header.type === Control.ERROR) {
    if (end - at < nlmsghdr.size) throw new WireError(`Cannot read acknowledgement: ${end - at} left (at byte ${at})`);
    const request = from.view.getUint32(at, true);
    at += (header.flags & Flag.CAPPED) !== 0 ? nlmsghdr.size : (request + 3) & ~3;
  }
  if (errno === 0) return NO_ERROR;
  if ((header.flags & Flag.ACK_TLVS) === 0 || at >= end) return { errno };
  const { message, offset } = ackAttrs.read(from, at, end);
  return { errno, ...(message === undefined ? {} : { text: message }), ...(offset === undefined ? {} : { offset }) };
}

const NO_ERROR: Verdict = { errno: 0 };

/** Appends one message; its length is filled in when its body is known. */
export function writeMessage<In>(
  to: Writer,
  header: { readonly type: number; readonly flags: number; readonly seq: number },
  codec: { write(to: Writer, value: In): void },
  value: In,
): void {
  const at = to.length;
  nlmsghdr.write(to, header);
  codec.write(to, value);
  to.align();
  to.view.setUint32(at, to.length - at, true);
}

/**
 * Visits the messages of one datagram. A length that cannot be is an error, and every step goes at least 16 bytes on.
 *
 * @throws {WireError}
 */
export function eachMessage(from: Source, visit: (header: MessageHeader, start: number, end: number) => void): void {
  const total = from.bytes.length;
  let at = 0;
  while (at < total) {
    const header = nlmsghdr.read(from, at, total);
    if (header.length < nlmsghdr.size || header.length > total - at) {
      throw new WireError(`Cannot read message: length ${header.length}, ${total - at} left (at byte ${at})`);
    }
    visit(header, at + nlmsghdr.size, at + header.length);
    at += (header.length + 3) & ~3;
  }
}

/** The body of a message that has none. */
export const empty: Codec<Record<string, never>> = { write() {}, read: () => ({}) };

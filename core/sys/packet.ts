import { ptr } from "bun:ffi";
import { deadlineIn, leftMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { check, errno, libc, Open, restart } from "./libc.ts";
import { inNetns, type Netns } from "./netns.ts";
import { POLLIN, pollOne } from "./poll.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;
const ETH_P_IP = 0x0800;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;
/** The largest frame that is looked at; what is longer is dropped. */
const FRAME_BYTES = 4096;

function openSocket(ns: Netns | undefined, protocol: number): Fd {
  const type = SOCK_RAW | Open.CLOEXEC;
  const open = (): number => check(libc().socket(AF_PACKET, type, protocol), "socket", "packet");
  return Fd.adopt(ns === undefined ? open() : inNetns(ns, open), "packet socket");
}

/** `struct sockaddr_ll { u16 family; be16 protocol; i32 ifindex; u16 hatype; u8 pkttype; u8 halen; u8 addr[8] }` */
function linkAddress(ifindex: number, ethertype: number): DataView {
  const address = new DataView(new ArrayBuffer(20));
  address.setUint16(0, AF_PACKET, true);
  address.setUint16(2, ethertype, false);
  address.setInt32(4, ifindex, true);
  return address;
}

/**
 * Sends whole Ethernet frames out of a link, by a packet socket that receives nothing.
 *
 * @param ns The caller's namespace if absent.
 * @param ethertype As in the frame: 0x0806 ARP, 0x86dd IPv6.
 * @throws {SysError} ENXIO for no such link, ENETDOWN for one that is down
 */
export function sendRaw(ns: Netns | undefined, ifindex: number, ethertype: number, ...frames: Uint8Array[]): void {
  using socket = openSocket(ns, 0);
  const to = linkAddress(ifindex, ethertype);
  for (const frame of frames) {
    restart("send", () => libc().sendto(socket.raw, frame, frame, 0, to, to), `link ${ifindex}`);
  }
}

/** Whole frames out of and into a link. */
export interface Packets extends Disposable {
  /** For poll(2). */
  readonly fd: number;
  /** @throws {SysError} ENXIO for no such link, ENETDOWN for one that is down */
  send(frame: Uint8Array): void;
  /** @returns undefined when nothing came in time, or a signal did. @throws {SysError} as `send()` */
  receive(timeoutMs: number): Uint8Array | undefined;
}

/** `struct sock_fprog { u16 length; struct sock_filter *filter }` */
const PROGRAM_HEAD_BYTES = 16;

/**
 * Classic BPF that lets through IPv4, UDP, no later part of a packet, to the port; everything else that the link carries
 * never reaches us. The program's head and its instructions are one array, so that the call holds both.
 */
function udpFilter(port: number): Uint8Array {
  // struct sock_filter { u16 code; u8 jump_if_true; u8 jump_if_false; u32 k }
  const instructions = [
    [0x28, 0, 0, 12], //           ldh [12]             ethertype
    [0x15, 0, 8, ETH_P_IP], //     jeq #0x800, else drop
    [0x30, 0, 0, 23], //           ldb [23]             protocol
    [0x15, 0, 6, 17], //           jeq #17, else drop
    [0x28, 0, 0, 20], //           ldh [20]             offset of a part
    [0x45, 4, 0, 0x1fff], //       jset #0x1fff, then drop
    [0xb1, 0, 0, 14], //           ldxb 4*([14]&0xf)    length of the IP header
    [0x48, 0, 0, 16], //           ldh [x + 16]         destination port
    [0x15, 0, 1, port], //         jeq #port, else drop
    [0x06, 0, 0, 0x40000], //      ret #262144
    [0x06, 0, 0, 0], //            ret #0
  ] as const;
  const bytes = new Uint8Array(PROGRAM_HEAD_BYTES + instructions.length * 8);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, instructions.length, true);
  view.setBigUint64(8, BigInt(ptr(bytes, PROGRAM_HEAD_BYTES)), true);
  for (const [i, [code, yes, no, k]] of instructions.entries()) {
    const at = PROGRAM_HEAD_BYTES + i * 8;
    view.setUint16(at, code, true);
    view.setUint8(at + 2, yes);
    view.setUint8(at + 3, no);
    view.setUint32(at + 4, k, true);
  }
  return bytes;
}

/** A packet socket on one link that hears the UDP datagrams to one port. It holds the namespace that it is in. */
export class PacketSocket implements Packets {
  readonly #fd: Fd;
  readonly #what: string;
  readonly #buffer = new Uint8Array(FRAME_BYTES);
  readonly #to: DataView;
  /** The kernel writes the sender's address here; the frame has it too. */
  readonly #from = new Uint8Array(32);
  readonly #fromLength = new Uint32Array(1);

  private constructor(fd: Fd, to: DataView, what: string) {
    this.#fd = fd;
    this.#to = to;
    this.#what = what;
  }

  /** @param ns The caller's namespace if absent. @throws {SysError} ENODEV for no such link */
  static open(ns: Netns | undefined, ifindex: number, port: number): PacketSocket {
    // With no protocol it hears nothing until it is bound: neither other links nor what the filter is to keep out.
    const fd = openSocket(ns, 0);
    try {
      const program = udpFilter(port);
      const head = program.subarray(0, PROGRAM_HEAD_BYTES);
      check(libc().setsockopt(fd.raw, SOL_SOCKET, SO_ATTACH_FILTER, program, head), "setsockopt", "packet filter");
      const address = linkAddress(ifindex, ETH_P_IP);
      check(libc().bind(fd.raw, address, address), "bind", `link ${ifindex}`);
      return new PacketSocket(fd, address, `link ${ifindex}`);
    } catch (thrown) {
      fd[Symbol.dispose]();
      throw thrown;
    }
  }

  get fd(): number {
    return this.#fd.raw;
  }

  send(frame: Uint8Array): void {
    restart("send", () => libc().sendto(this.#fd.raw, frame, frame, 0, this.#to, this.#to), this.#what);
  }

  receive(timeoutMs: number): Uint8Array | undefined {
    const deadline = deadlineIn(timeoutMs);
    for (;;) {
      const got = this.#take();
      if (got !== undefined) return got;
      const left = leftMs(deadline);
      if (left === 0 || pollOne(this.#fd.raw, POLLIN, left) === 0) return undefined;
    }
  }

  #take(): Uint8Array | undefined {
    const buffer = this.#buffer;
    const flags = MSG_DONTWAIT | MSG_TRUNC;
    for (;;) {
      this.#fromLength[0] = this.#from.length;
      const got = Number(libc().recvfrom(this.#fd.raw, buffer, buffer, flags, this.#from, this.#fromLength));
      if (got > buffer.length) continue;
      if (got >= 0) return buffer.slice(0, got);
      const code = errno();
      if (code === Errno.EAGAIN) return undefined;
      if (code !== Errno.EINTR) throw new SysError("recv", code, this.#what);
    }
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

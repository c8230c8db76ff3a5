import { leftMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { check, errno, libc, Open, restart } from "./libc.ts";
import { inNetns, type Netns } from "./netns.ts";
import { POLLIN, pollOne } from "./poll.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const ADD_MEMBERSHIP = 1;
const CAP_ACK = 10;
const EXT_ACK = 11;
const GET_STRICT_CHK = 12;
const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

/** The kernel cuts a dump into parts of at most 32 KiB; an echo can be larger. */
const BUFFER_BYTES = 64 * 1024;
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** A netlink socket, bound to an address that the kernel chose. It stays in the namespace it was opened in. */
export class NetlinkSocket implements Disposable {
  readonly #fd: Fd;
  readonly #buffer = new Uint8Array(new ArrayBuffer(BUFFER_BYTES));
  /** `struct sockaddr_nl`: family, pad, pid, groups */
  readonly #kernel = new Uint32Array([AF_NETLINK, 0, 0]);
  readonly #sender = new Uint32Array(3);
  readonly #senderLength = new Uint32Array(1);
  #ready = false;

  private constructor(fd: Fd) {
    this.#fd = fd;
  }

  /**
   * @param family 0 route, 12 netfilter
   * @param ns The caller's namespace if absent.
   * @throws {SysError}
   */
  static open(family: 0 | 12, ns?: Netns): NetlinkSocket {
    const make = (): number => check(libc().socket(AF_NETLINK, SOCK_RAW | Open.CLOEXEC, family), "socket", "netlink");
    const fd = Fd.adopt(ns === undefined ? make() : inNetns(ns, make), "netlink socket");
    try {
      const socket = new NetlinkSocket(fd);
      check(libc().bind(fd.raw, socket.#kernel, socket.#kernel), "bind", "netlink");
      socket.#set(SOL_NETLINK, CAP_ACK, 1);
      socket.#set(SOL_NETLINK, EXT_ACK, 1);
      return socket;
    } catch (thrown) {
      fd[Symbol.dispose]();
      throw thrown;
    }
  }

  /** Makes ready for dumps and other long answers; before the first of them, once. @throws {SysError} */
  expectMany(): void {
    if (this.#ready) return;
    this.#set(SOL_NETLINK, GET_STRICT_CHK, 1);
    const size = Uint32Array.of(RECEIVE_BUFFER_BYTES);
    // The forced one needs CAP_NET_ADMIN in the first user namespace; without it the limit of the node applies.
    if (libc().setsockopt(this.#fd.raw, SOL_SOCKET, SO_RCVBUFFORCE, size, size) !== 0) {
      this.#set(SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER_BYTES);
    }
    this.#ready = true;
  }

  #set(level: number, name: number, value: number): void {
    const bytes = Uint32Array.of(value);
    check(libc().setsockopt(this.#fd.raw, level, name, bytes, bytes), "setsockopt", `netlink option ${name}`);
  }

  /** For poll(2). */
  get fd(): number {
    return this.#fd.raw;
  }

  /** Subscribes to a multicast group, by its number: `RTNLGRP_LINK` is 1. @throws {SysError} */
  join(group: number): void {
    this.expectMany();
    this.#set(SOL_NETLINK, ADD_MEMBERSHIP, group);
  }

  /** Sends one or more messages in one datagram. @throws {SysError} */
  send(bytes: Uint8Array): void {
    const raw = this.#fd.raw;
    restart("send", () => libc().sendto(raw, bytes, bytes, 0, this.#kernel, this.#kernel), "netlink");
  }

  /**
   * The next datagram from the kernel. One from another process is dropped: whoever is root in a pod's namespace can
   * send to a socket there.
   *
   * @param deadlineMs On the clock of `monotonicMs()`.
   * @returns a view that is good until the next `receive()` of this socket
   * @throws {SysError} ETIMEDOUT; ENOBUFS when the kernel had to drop messages; EMSGSIZE for one over 64 KiB
   */
  receive(deadlineMs: number): Uint8Array {
    const raw = this.#fd.raw;
    for (;;) {
      this.#senderLength[0] = 12;
      const flags = MSG_DONTWAIT | MSG_TRUNC;
      const got = libc().recvfrom(raw, this.#buffer, this.#buffer, flags, this.#sender, this.#senderLength);
      if (got >= 0) {
        if (this.#sender[1] !== 0) continue;
        if (got > BUFFER_BYTES) throw new SysError("recv", Errno.EMSGSIZE, "netlink");
        return this.#buffer.subarray(0, Number(got));
      }
      const code = errno();
      if (code === Errno.EINTR) continue;
      if (code !== Errno.EAGAIN) throw new SysError("recv", code, "netlink");
      const left = leftMs(deadlineMs);
      if (left === 0) throw new SysError("recv", Errno.ETIMEDOUT, "netlink");
      pollOne(raw, POLLIN, left);
    }
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

import { dlopen, FFIType } from "bun:ffi";
import { leftMs, sleepMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { check, errno, libc, Open } from "./libc.ts";
import { POLLIN, POLLOUT, pollOne } from "./poll.ts";

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const MSG_NOSIGNAL = 0x4000;
/** `sun_path` of `struct sockaddr_un`. */
const PATH_BYTES = 108;
const BUFFER_BYTES = 64 * 1024;

const open = () =>
  dlopen("libc.so.6", {
    // int connect(int fd, const struct sockaddr *addr, socklen_t length)
    connect: { args: ["i32", "buffer", "buffer_length"], returns: "i32" },
    // ssize_t send(int fd, const void *buf, size_t n, int flags)
    send: { args: ["i32", "buffer", "buffer_length", "i32"], returns: FFIType.i64_fast },
  }).symbols;
let symbols: ReturnType<typeof open> | undefined;

/** A stream to a process of this node. Every call ends by its deadline, on the clock of `monotonicMs()`. */
export class UnixStream implements Disposable {
  readonly #fd: Fd;
  readonly #name: string;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);

  private constructor(fd: Fd, name: string) {
    this.#fd = fd;
    this.#name = name;
  }

  /**
   * @param name A path, or a name in the abstract namespace with an `@` before it.
   * @throws {SysError} ENOENT, ECONNREFUSED: nobody listens; ETIMEDOUT
   */
  static connect(name: string, deadlineMs: number): UnixStream {
    symbols ??= open();
    const raw = check(libc().socket(AF_UNIX, SOCK_STREAM | Open.CLOEXEC | Open.NONBLOCK, 0), "socket", name);
    const fd = Fd.adopt(raw, `socket ${name}`);
    try {
      const address = addressOf(name);
      while (symbols.connect(fd.raw, address, address) !== 0) {
        const code = errno();
        // EAGAIN: its queue is full, and nothing but trying tells when it is not.
        if (code !== Errno.EINTR && code !== Errno.EAGAIN) throw new SysError("connect", code, name);
        if (leftMs(deadlineMs) === 0) throw new SysError("connect", Errno.ETIMEDOUT, name);
        if (code === Errno.EAGAIN) sleepMs(5);
      }
      return new UnixStream(fd, name);
    } catch (thrown) {
      fd[Symbol.dispose]();
      throw thrown;
    }
  }

  /** @throws {SysError} ETIMEDOUT, EPIPE */
  send(bytes: Uint8Array, deadlineMs: number): void {
    symbols ??= open();
    for (let sent = 0; sent < bytes.length; ) {
      const rest = bytes.subarray(sent);
      const put = symbols.send(this.#fd.raw, rest, rest, MSG_NOSIGNAL);
      if (put >= 0) sent += Number(put);
      else this.#await("send", POLLOUT, deadlineMs);
    }
  }

  /**
   * What has come, at least a byte of it.
   *
   * @returns a view that is good until the next `receive()`; empty when the other side has closed
   * @throws {SysError} ETIMEDOUT
   */
  receive(deadlineMs: number): Uint8Array {
    for (;;) {
      const got = libc().read(this.#fd.raw, this.#buffer, this.#buffer);
      if (got >= 0) return this.#buffer.subarray(0, Number(got));
      this.#await("read", POLLIN, deadlineMs);
    }
  }

  #await(call: string, events: number, deadlineMs: number): void {
    const code = errno();
    if (code === Errno.EINTR) return;
    if (code !== Errno.EAGAIN) throw new SysError(call, code, this.#name);
    const left = leftMs(deadlineMs);
    if (left === 0) throw new SysError(call, Errno.ETIMEDOUT, this.#name);
    pollOne(this.#fd.raw, events, left);
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }
}

/** `struct sockaddr_un`: a path ends with a NUL, an abstract name begins with one and ends where the address ends. */
function addressOf(name: string): Uint8Array {
  const abstract = name.startsWith("@");
  const text = new TextEncoder().encode(abstract ? name.slice(1) : name);
  if (text.length === 0 || text.length >= PATH_BYTES) throw new SysError("connect", Errno.ENAMETOOLONG, name);
  const address = new Uint8Array(2 + 1 + text.length);
  new DataView(address.buffer).setUint16(0, AF_UNIX, true);
  address.set(text, abstract ? 3 : 2);
  return address;
}

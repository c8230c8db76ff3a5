import type { NetnsPath } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { Owned } from "../base/owned.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { check, errno, fileSystemOf, libc, Open, stat, statTarget } from "./libc.ts";

const HERE = "/proc/thread-self/ns/net";
const NSFS_MAGIC = 0x6e736673;
const CLONE_NEWNET = 0x40000000;
const NS_GET_NSTYPE = 0xb703;
const SOL_SOCKET = 1;
const SO_NETNS_COOKIE = 71;
const AF_UNIX = 1;
const SOCK_DGRAM_CLOEXEC = 2 | Open.CLOEXEC;

/**
 * A network namespace, by one descriptor that was checked once: a path can lead elsewhere at the next look, a
 * descriptor cannot.
 */
export class Netns extends Owned<number> {
  #cookie: bigint | undefined;

  /** The namespace that the process is in. */
  static current(): Netns {
    return Netns.#adopt(Fd.open(HERE, Open.READ), "own netns");
  }

  /**
   * @throws {SysError} ENOENT and the like: the namespace is gone
   * @throws {CniError} 8: there is something at the path, and it is not a network namespace
   */
  static open(path: NetnsPath): Netns {
    // Not blocking: a fifo at the path must not stop us before we can refuse it.
    using fd = Fd.open(path, Open.READ | Open.NONBLOCK);
    const isNetns =
      fileSystemOf(fd.raw, path) === NSFS_MAGIC && libc().ioctl(fd.raw, NS_GET_NSTYPE, 0) === CLONE_NEWNET;
    if (!isNetns) {
      throw new CniError(Code.InvalidNetns, `Cannot use "${path}" as a network namespace: it is something else`, {
        remedy: "Set CNI_NETNS to the network namespace of the sandbox",
      });
    }
    return Netns.#adopt(fd, `netns ${path}`);
  }

  static #adopt(fd: Fd, what: string): Netns {
    return new Netns(what, fd.surrender(), (raw) => void libc().close(raw));
  }

  /**
   * The kernel's number of this namespace, never used again before a reboot: `SO_NETNS_COOKIE`, Linux 5.14.
   *
   * An older kernel has no such number. There it is device and inode with the top bit set: an inode comes back soon
   * after its namespace is gone, so a record that has it may be taken for a later namespace's.
   */
  get cookie(): bigint {
    this.#cookie ??= inNetns(this, cookieHere) ?? oldCookie(this.raw);
    return this.#cookie;
  }
}

function cookieHere(): bigint | undefined {
  using socket = Fd.adopt(check(libc().socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0), "socket"), "cookie socket");
  const value = new BigUint64Array(1);
  const length = Uint32Array.of(8);
  const result = libc().getsockopt(socket.raw, SOL_SOCKET, SO_NETNS_COOKIE, value, length);
  if (result === 0) return value[0];
  const code = errno();
  if (code === Errno.ENOPROTOOPT) return undefined;
  throw new SysError("getsockopt", code, "SO_NETNS_COOKIE");
}

function oldCookie(fd: number): bigint {
  const { device, inode } = stat(fd, "");
  const [major = 0, minor = 0] = device.split(":").map((part) => Number.parseInt(part, 16));
  return (1n << 63n) | (BigInt((major << 8) | minor) << 40n) | inode;
}

/** Our own namespace, from the first stay in another one to the end of the process; never closed, handed to nobody. */
let home: number | undefined;
/** Where the thread is now. */
let here: number | undefined;

/**
 * Runs `work` with the thread in another network namespace, and returns to the one it came from.
 *
 * `work` is synchronous: while it waited for a promise the thread would serve other tasks in the wrong namespace.
 * Keep it to opening what is needed there: a socket stays in the namespace it was opened in. If the way home fails
 * the process ends at once, with status 70: nothing it did from there on could be trusted.
 *
 * @throws {SysError} if the namespace cannot be entered; whatever `work` throws
 */
export function inNetns<T>(ns: Netns, work: () => T extends PromiseLike<unknown> ? never : T): T {
  const raw = ns.raw;
  home ??= openHome();
  const from = here ?? home;
  check(libc().setns(raw, CLONE_NEWNET), "setns", ns.what);
  here = raw;
  try {
    return work();
  } finally {
    if (libc().setns(from, CLONE_NEWNET) !== 0) end();
    here = from;
  }
}

/** Tries the way home once before anybody depends on it: later ones have the same descriptor, and setns(2)'s word. */
function openHome(): number {
  const fd = Fd.open(HERE, Open.READ);
  const inode = stat(fd.raw, "").inode;
  check(libc().setns(fd.raw, CLONE_NEWNET), "setns", "own netns");
  if (statTarget(HERE).inode !== inode) throw new SysError("setns", Errno.EXDEV, "own netns");
  return fd.surrender();
}

function end(): never {
  const words = new TextEncoder().encode("patchbay: cannot return to its own network namespace, so it ends here\n");
  libc().write(2, words, words);
  libc()._exit(70);
  throw new Error("unreachable");
}

import { Errno, isErrno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { fileSystemOf, Open, openat2, Resolve, readAll, writeAll } from "./libc.ts";
import { inNetns, type Netns } from "./netns.ts";

const PROC_SUPER_MAGIC = 0x9fa0;
const MAX_BYTES = 64 * 1024;

/** /proc, from the first use to the end of the process: what is mounted over it later changes nothing for us. */
let proc: number | undefined;

/**
 * Opens /proc/sys/<key>. Neither /proc nor what lies beneath may be anything but procfs: a mount or a link put there
 * would turn a write of ours to another file.
 */
function openSysctl(key: string, flags: number): Fd {
  proc ??= openProc();
  const resolve = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS;
  const file = Fd.adopt(openat2(proc, `sys/${key}`, flags, resolve), key);
  try {
    requireProc(file.raw, key);
    return file;
  } catch (thrown) {
    file[Symbol.dispose]();
    throw thrown;
  }
}

function openProc(): number {
  using fd = Fd.open("/proc", Open.PATH | Open.DIRECTORY | Open.NOFOLLOW);
  requireProc(fd.raw, "/proc");
  return fd.surrender();
}

function requireProc(fd: number, path: string): void {
  if (fileSystemOf(fd, path) !== PROC_SUPER_MAGIC) throw new SysError("fstatfs", Errno.EXDEV, path);
}

/** A key is a path below /proc/sys, so that an interface name with a dot stays one part of it. */
function requireKey(key: string): void {
  const isPart = (part: string): boolean => part !== "" && part !== "." && part !== "..";
  if (key.includes("\0") || !key.split("/").every(isPart)) throw new SysError("sysctl", Errno.EINVAL, key);
}

// Below net/ the kernel answers for the namespace of the calling thread, so all of it happens in there.
function within<T>(ns: Netns | undefined, work: () => T extends PromiseLike<unknown> ? never : T): T {
  return ns === undefined ? work() : inNetns(ns, work);
}

/**
 * Reads a sysctl, without its newline.
 *
 * @param ns The caller's namespace if absent.
 * @param key With slashes, such as "net/ipv6/conf/eth0/accept_ra".
 * @returns undefined for one that the kernel does not have
 * @throws {SysError}
 */
export function readProcSys(ns: Netns | undefined, key: string): string | undefined {
  requireKey(key);
  return within<string | undefined>(ns, () => {
    try {
      using file = openSysctl(key, Open.READ);
      const text = new TextDecoder().decode(readAll(file.raw, MAX_BYTES, key));
      return text.endsWith("\n") ? text.slice(0, -1) : text;
    } catch (thrown) {
      if (isErrno(thrown, Errno.ENOENT)) return undefined;
      throw thrown;
    }
  });
}

/** Writes a sysctl. Parameters as for `readProcSys()`. @throws {SysError} ENOENT for one that the kernel lacks */
export function writeProcSys(ns: Netns | undefined, key: string, value: string): void {
  requireKey(key);
  within<void>(ns, () => {
    using file = openSysctl(key, Open.WRITE);
    // In one write: the kernel takes each as a whole value.
    writeAll(file.raw, new TextEncoder().encode(`${value}\n`), key);
  });
}

/** One of several sysctls to write. */
export interface SysctlValue {
  readonly key: string;
  readonly value: string;
  /** What cannot be written is left as it is. */
  readonly optional?: boolean;
}

/**
 * Writes several sysctls in one stay in the namespace.
 *
 * @throws {SysError} for the first that cannot be written and is not optional.
 */
export function writeProcSysAll(ns: Netns | undefined, values: readonly SysctlValue[]): void {
  for (const { key } of values) requireKey(key);
  within<void>(ns, () => {
    for (const { key, value, optional } of values) {
      try {
        using file = openSysctl(key, Open.WRITE);
        writeAll(file.raw, new TextEncoder().encode(`${value}\n`), key);
      } catch (thrown) {
        if (optional !== true || !(thrown instanceof SysError)) throw thrown;
      }
    }
  });
}

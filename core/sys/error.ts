import { errnos } from "./errno.ts";

/** `errno` values that this project asks about. The numbers are the same on x86_64 and aarch64. */
export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  EROFS: 30,
  EPIPE: 32,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  EMSGSIZE: 90,
  ENOPROTOOPT: 92,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENETUNREACH: 101,
  ENOBUFS: 105,
  ETIMEDOUT: 110,
} as const;

/** The kernel's name of an errno, such as "EEXIST"; "E999" for a number it does not have. */
export function errnoName(errno: number): string {
  return errnos[errno]?.split(" ", 1)[0] ?? `E${errno}`;
}

/** What the errno means, such as "File exists"; empty for a number that Linux does not have. */
export function errnoText(errno: number): string {
  const entry = errnos[errno];
  return entry === undefined ? "" : entry.slice(entry.indexOf(" ") + 1);
}

/** A system call that failed. The layer that knows what was being done wraps it into a `CniError`. */
export class SysError extends Error {
  override readonly name = "SysError";
  readonly call: string;
  readonly errno: number;
  readonly path?: string;

  /** @param path What the call was about: a path, or a name below a directory held by descriptor. */
  constructor(call: string, errno: number, path?: string) {
    const about = path === undefined ? "" : ` ${JSON.stringify(path)}`;
    super(`${call}${about}: ${errnoName(errno)} (${errnoText(errno)})`);
    this.call = call;
    this.errno = errno;
    if (path !== undefined) this.path = path;
  }

  get errnoName(): string {
    return errnoName(this.errno);
  }
}

/** True for a `SysError` with one of these errno values. */
export function isErrno(thrown: unknown, ...errnos: readonly number[]): thrown is SysError {
  return thrown instanceof SysError && errnos.includes(thrown.errno);
}

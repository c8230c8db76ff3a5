/** The C library, and the one table of what we call in it. Nothing newer than glibc 2.31 is named here. */
import { dlopen, FFIType, read } from "bun:ffi";
import { Errno, SysError } from "./error.ts";

// Memory that comes from JavaScript is declared "buffer": the call then holds the array itself, not a number that
// nothing keeps alive; "buffer_length" is the byte length of the view passed in its place, so the two cannot differ.
// `i64_fast` answers a number whenever it fits one, which every result here does.
const table = {
  // int openat(int dirfd, const char *path, int flags, mode_t mode)
  openat: { args: ["i32", "buffer", "i32", "u32"], returns: "i32" },
  // int close(int fd)
  close: { args: ["i32"], returns: "i32" },
  // ssize_t read(int fd, void *buf, size_t count)
  read: { args: ["i32", "buffer", "buffer_length"], returns: FFIType.i64_fast },
  // ssize_t write(int fd, const void *buf, size_t count)
  write: { args: ["i32", "buffer", "buffer_length"], returns: FFIType.i64_fast },
  // off_t lseek(int fd, off_t offset, int whence)
  lseek: { args: ["i32", "i64", "i32"], returns: FFIType.i64_fast },
  // int ftruncate(int fd, off_t length)
  ftruncate: { args: ["i32", "i64"], returns: "i32" },
  // int fcntl(int fd, int cmd, long arg)
  fcntl: { args: ["i32", "i32", "i64"], returns: "i32" },
  // int ioctl(int fd, unsigned long request, long arg)
  ioctl: { args: ["i32", "u64", "i64"], returns: "i32" },
  // int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *buf)
  statx: { args: ["i32", "buffer", "i32", "u32", "buffer"], returns: "i32" },
  // int fstatfs(int fd, struct statfs *buf)
  fstatfs: { args: ["i32", "buffer"], returns: "i32" },
  // int fchmod(int fd, mode_t mode)
  fchmod: { args: ["i32", "u32"], returns: "i32" },
  // int faccessat(int dirfd, const char *path, int mode, int flags)
  faccessat: { args: ["i32", "buffer", "i32", "i32"], returns: "i32" },
  // int mkdirat(int dirfd, const char *path, mode_t mode)
  mkdirat: { args: ["i32", "buffer", "u32"], returns: "i32" },
  // int unlinkat(int dirfd, const char *path, int flags)
  unlinkat: { args: ["i32", "buffer", "i32"], returns: "i32" },
  // int linkat(int olddirfd, const char *old, int newdirfd, const char *new, int flags)
  linkat: { args: ["i32", "buffer", "i32", "buffer", "i32"], returns: "i32" },
  // int renameat(int olddirfd, const char *old, int newdirfd, const char *new)
  renameat: { args: ["i32", "buffer", "i32", "buffer"], returns: "i32" },
  // int symlinkat(const char *target, int dirfd, const char *path)
  symlinkat: { args: ["buffer", "i32", "buffer"], returns: "i32" },
  // ssize_t readlinkat(int dirfd, const char *path, char *buf, size_t size)
  readlinkat: { args: ["i32", "buffer", "buffer", "buffer_length"], returns: FFIType.i64_fast },
  // ssize_t getdents64(int fd, void *buf, size_t count)
  getdents64: { args: ["i32", "buffer", "buffer_length"], returns: FFIType.i64_fast },
  // int fsync(int fd)
  fsync: { args: ["i32"], returns: "i32" },
  // int fdatasync(int fd)
  fdatasync: { args: ["i32"], returns: "i32" },
  // int flock(int fd, int operation)
  flock: { args: ["i32", "i32"], returns: "i32" },
  // int poll(struct pollfd *fds, nfds_t count, int timeout_ms)
  poll: { args: ["buffer", "u64", "i32"], returns: "i32" },
  // int setns(int fd, int nstype)
  setns: { args: ["i32", "i32"], returns: "i32" },
  // int socket(int domain, int type, int protocol)
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  // int bind(int fd, const struct sockaddr *addr, socklen_t length)
  bind: { args: ["i32", "buffer", "buffer_length"], returns: "i32" },
  // int setsockopt(int fd, int level, int name, const void *value, socklen_t length)
  setsockopt: { args: ["i32", "i32", "i32", "buffer", "buffer_length"], returns: "i32" },
  // int getsockopt(int fd, int level, int name, void *value, socklen_t *length)
  getsockopt: { args: ["i32", "i32", "i32", "buffer", "buffer"], returns: "i32" },
  // ssize_t sendto(int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t length)
  sendto: { args: ["i32", "buffer", "buffer_length", "i32", "buffer", "buffer_length"], returns: FFIType.i64_fast },
  // ssize_t recvfrom(int fd, void *buf, size_t n, int flags, struct sockaddr *from, socklen_t *length)
  recvfrom: { args: ["i32", "buffer", "buffer_length", "i32", "buffer", "buffer"], returns: FFIType.i64_fast },
  // long syscall(long number, int dirfd, const char *path, struct open_how *how, size_t size): openat2, no wrapper
  syscall: { args: ["i64", "i64", "buffer", "buffer", "buffer_length"], returns: FFIType.i64_fast },
  // int sigaction(int signal, const struct sigaction *new, struct sigaction *old)
  sigaction: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  // int eventfd(unsigned int value, int flags)
  eventfd: { args: ["u32", "i32"], returns: "i32" },
  // void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
  mmap: { args: ["u64", "u64", "i32", "i32", "i32", "i64"], returns: FFIType.i64_fast },
  // int mprotect(void *address, size_t length, int protection)
  mprotect: { args: ["u64", "u64", "i32"], returns: "i32" },
  // void _exit(int status)
  _exit: { args: ["i32"], returns: "void" },
  // int *__errno_location(void)
  __errno_location: { args: [], returns: "ptr" },
} as const;

/** For processes: apart, because each function that is opened costs microseconds and most calls start none. */
const processTable = {
  // int pipe2(int fds[2], int flags)
  pipe2: { args: ["buffer", "i32"], returns: "i32" },
  // int kill(pid_t pid, int signal)
  kill: { args: ["i32", "i32"], returns: "i32" },
  // int waitid(idtype_t idtype, id_t id, siginfo_t *info, int options)
  waitid: { args: ["i32", "u32", "buffer", "i32"], returns: "i32" },
  // int posix_spawn(pid_t *pid, const char *path, file_actions *, attributes *, char *argv[], char *envp[])
  // It and its kin answer the error number, and leave errno alone.
  posix_spawn: { args: ["buffer", "buffer", "buffer", "buffer", "buffer", "buffer"], returns: "i32" },
  posix_spawn_file_actions_init: { args: ["buffer"], returns: "i32" },
  posix_spawn_file_actions_destroy: { args: ["buffer"], returns: "i32" },
  posix_spawn_file_actions_adddup2: { args: ["buffer", "i32", "i32"], returns: "i32" },
  posix_spawn_file_actions_addchdir_np: { args: ["buffer", "buffer"], returns: "i32" },
  posix_spawnattr_init: { args: ["buffer"], returns: "i32" },
  posix_spawnattr_destroy: { args: ["buffer"], returns: "i32" },
  posix_spawnattr_setflags: { args: ["buffer", "i32"], returns: "i32" },
  posix_spawnattr_setpgroup: { args: ["buffer", "i32"], returns: "i32" },
  posix_spawnattr_setsigmask: { args: ["buffer", "buffer"], returns: "i32" },
  posix_spawnattr_setsigdefault: { args: ["buffer", "buffer"], returns: "i32" },
} as const;

type Libc = ReturnType<typeof open>["symbols"];
const open = () => dlopen("libc.so.6", table);

let symbols: Libc | undefined;

/** The functions of the C library that we call; loaded at the first use, once. */
export function libc(): Libc {
  symbols ??= open().symbols;
  return symbols;
}

const openProcesses = () => dlopen("libc.so.6", processTable).symbols;
let processSymbols: ReturnType<typeof openProcesses> | undefined;

/** As `libc()`: what starts, signals and awaits processes. */
export function libcProcesses(): ReturnType<typeof openProcesses> {
  processSymbols ??= openProcesses();
  return processSymbols;
}

const openNumbers = () =>
  dlopen("libc.so.6", { syscall: { args: ["i64", "i64", "i64", "i64"], returns: FFIType.i64_fast } });

let numbers: ReturnType<typeof openNumbers>["symbols"] | undefined;

/** syscall(2) for a call that takes up to three numbers and has no wrapper in glibc 2.31. @returns -1 for a failure */
export function syscall(call: number, a: number, b: number, c: number): number {
  numbers ??= openNumbers().symbols;
  return Number(numbers.syscall(call, a, b, c));
}

/** `errno` of this thread. To be read right after the call that failed: anything in between may overwrite it. */
export function errno(): number {
  const at = libc().__errno_location();
  return at === null ? Errno.EIO : read.i32(at);
}

/** @throws {SysError} if a call answered -1. */
export function check(result: number | bigint, call: string, path?: string): number {
  if (result >= 0) return Number(result);
  throw new SysError(call, errno(), path);
}

/** As `check()`, for a call that a signal may interrupt: it is made again until it is not. */
export function restart(call: string, run: () => number | bigint, path?: string): number {
  for (;;) {
    const result = run();
    if (result >= 0) return Number(result);
    const code = errno();
    if (code !== Errno.EINTR) throw new SysError(call, code, path);
  }
}

const encoder = new TextEncoder();

/** A C string. @throws {SysError} EINVAL for text with a NUL, which C would cut short. */
export function cstring(text: string): Uint8Array {
  if (text.includes("\0")) throw new SysError("cstring", Errno.EINVAL, text);
  return encoder.encode(`${text}\0`);
}

// The flags below differ between the two architectures: arm64 keeps those of 32-bit arm.
const arm = process.arch === "arm64";

/** Flags of open(2). Source: asm-generic/fcntl.h, arch/arm64/include/uapi/asm/fcntl.h */
export const Open = {
  READ: 0,
  WRITE: 1,
  READ_WRITE: 2,
  CREATE: 0o100,
  EXCLUSIVE: 0o200,
  TRUNCATE: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  DIRECTORY: arm ? 0o40000 : 0o200000,
  NOFOLLOW: arm ? 0o100000 : 0o400000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
  /** `O_TMPFILE`, which includes `O_DIRECTORY` */
  UNNAMED: 0o20000000 | (arm ? 0o40000 : 0o200000),
} as const;

/** `AT_*` of linux/fcntl.h */
export const At = {
  CWD: -100,
  SYMLINK_NOFOLLOW: 0x100,
  REMOVEDIR: 0x200,
  SYMLINK_FOLLOW: 0x400,
  EMPTY_PATH: 0x1000,
} as const;

/** `RESOLVE_*` of linux/openat2.h */
export const Resolve = { NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8 } as const;

const SYS_openat2 = 437; // the same on every architecture, as all since 424

/**
 * openat2(2), Linux 5.6. `O_CLOEXEC` is always added.
 *
 * @returns a descriptor that the caller owns
 * @throws {SysError}
 */
export function openat2(dirfd: number, path: string, flags: number, resolve: number, mode = 0): number {
  const found = tryOpenat2(dirfd, path, flags, resolve, mode);
  if (found >= 0) return found;
  throw new SysError("openat2", -found, path);
}

/**
 * As `openat2()`, for where a failure is no surprise: an exception takes as long as ten calls that fail.
 *
 * @returns the descriptor, or an errno as a negative number
 */
export function tryOpenat2(dirfd: number, path: string, flags: number, resolve: number, mode = 0): number {
  how[0] = (flags | Open.CLOEXEC) >>> 0;
  how[2] = mode;
  how[4] = resolve;
  const name = cstring(path);
  for (;;) {
    const found = Number(libc().syscall(SYS_openat2, dirfd, name, how, how));
    if (found >= 0) return found;
    const code = errno();
    if (code !== Errno.EINTR) return -code;
  }
}

/** `struct open_how { u64 flags, mode, resolve }`, of which the upper halves stay 0. */
const how = new Uint32Array(6);
/** `struct statfs` is 120 bytes; `f_type` is its first word. */
const statfs = new Uint32Array(64);

/** What fstatfs(2) says the file system is: one of the magic numbers of linux/magic.h, as an unsigned number. */
export function fileSystemOf(fd: number, path?: string): number {
  check(libc().fstatfs(fd, statfs), "fstatfs", path);
  return statfs[0] ?? 0;
}

const S_IFMT = 0o170000;

/** Part of `struct statx`, decoded as it is asked for. `inode` and `device` together name a file as long as it exists. */
export class Stat {
  readonly #words: Uint32Array;

  constructor(words: Uint32Array) {
    this.#words = words;
  }

  #word(at: number): number {
    return this.#words[at / 4] ?? 0;
  }

  get uid(): number {
    return this.#word(20);
  }
  get mode(): number {
    return this.#word(28) & 0xffff;
  }
  get isFile(): boolean {
    return (this.mode & S_IFMT) === 0o100000;
  }
  get isDirectory(): boolean {
    return (this.mode & S_IFMT) === 0o040000;
  }
  get isLink(): boolean {
    return (this.mode & S_IFMT) === 0o120000;
  }
  get inode(): bigint {
    return (BigInt(this.#word(36)) << 32n) | BigInt(this.#word(32));
  }
  get size(): number {
    return this.#word(44) * 2 ** 32 + this.#word(40);
  }
  /** `major:minor`, hexadecimal, as /proc/locks has it */
  get device(): string {
    const hex = (number: number): string => number.toString(16).padStart(2, "0");
    return `${hex(this.#word(136))}:${hex(this.#word(140))}`;
  }
  /** Wall clock, milliseconds since 1970, rounded down */
  get mtimeMs(): number {
    return this.#ms(112);
  }
  get ctimeMs(): number {
    return this.#ms(96);
  }

  /** Whether both are of one file, which may have changed in between. */
  isSame(other: Stat): boolean {
    return [32, 36, 136, 140].every((at) => this.#word(at) === other.#word(at));
  }

  /** What tells one state of a file from another: device, inode, size, modification and change time. */
  get state(): string {
    return [136, 140, 32, 36, 40, 44, 112, 120, 96, 104].map((at) => this.#word(at).toString(36)).join(":");
  }

  /** Seconds, 64 bits, of which all that matter are in the lower half until 2106; nanoseconds. */
  #ms(at: number): number {
    return this.#word(at) * 1000 + Math.floor(this.#word(at + 8) / 1e6);
  }
}

const STATX_BASIC_STATS = 0x7ff;

/** statx(2); `path` "" means the descriptor itself. A symbolic link is never followed. @throws {SysError} */
export function stat(dirfd: number, path: string): Stat {
  return present(tryStat(dirfd, path, path === "" ? At.EMPTY_PATH : At.SYMLINK_NOFOLLOW), path);
}

/** As `stat()`, following links: what a path leads to. */
export function statTarget(path: string): Stat {
  return present(tryStat(At.CWD, path, 0), path);
}

/** As `stat()`. @returns undefined when nothing is there: ENOENT, ENOTDIR */
export function statIfThere(dirfd: number, path: string): Stat | undefined {
  return tryStat(dirfd, path, At.SYMLINK_NOFOLLOW);
}

/** As `statTarget()`. @returns undefined when nothing is there: ENOENT, ENOTDIR */
export function statTargetIfThere(path: string): Stat | undefined {
  return tryStat(At.CWD, path, 0);
}

function tryStat(dirfd: number, path: string, flags: number): Stat | undefined {
  const words = new Uint32Array(64);
  if (libc().statx(dirfd, cstring(path), flags, STATX_BASIC_STATS, words) === 0) return new Stat(words);
  const code = errno();
  if (code === Errno.ENOENT || code === Errno.ENOTDIR) return undefined;
  throw new SysError("statx", code, path);
}

function present(found: Stat | undefined, path: string): Stat {
  if (found === undefined) throw new SysError("statx", Errno.ENOENT, path);
  return found;
}

/** Writes all of `bytes`. @throws {SysError}, after a part may have been written. */
export function writeAll(fd: number, bytes: Uint8Array, path?: string): void {
  for (let done = 0; done < bytes.length; ) {
    const rest = bytes.subarray(done);
    done += restart("write", () => libc().write(fd, rest, rest), path);
  }
}

/**
 * Reads to the end.
 *
 * @throws {SysError} EFBIG if there is more than `maxBytes`.
 */
export function readAll(fd: number, maxBytes: number, path?: string): Uint8Array {
  let buffer = new Uint8Array(Math.min(maxBytes + 1, 4096));
  let length = 0;
  for (;;) {
    const rest = buffer.subarray(length);
    const got = restart("read", () => libc().read(fd, rest, rest), path);
    if (got === 0) return buffer.slice(0, length);
    length += got;
    if (length > maxBytes) throw new SysError("read", Errno.EFBIG, path);
    if (length === buffer.length) {
      const larger = new Uint8Array(Math.min(maxBytes + 1, length * 4));
      larger.set(buffer);
      buffer = larger;
    }
  }
}

/** The names in an open directory but "." and "..", in no order. Moves its offset. @throws {SysError} */
export function namesIn(fd: number, path?: string): string[] {
  const names: string[] = [];
  const buffer = new Uint8Array(4096);
  const view = new DataView(buffer.buffer);
  const decoder = new TextDecoder();
  for (;;) {
    const got = check(libc().getdents64(fd, buffer, buffer), "getdents64", path);
    if (got === 0) return names;
    // struct linux_dirent64 { u64 ino; s64 off; u16 reclen; u8 type; char name[] }
    for (let at = 0; at < got; at += view.getUint16(at + 16, true)) {
      const start = at + 19;
      const name = decoder.decode(buffer.subarray(start, buffer.indexOf(0, start)));
      if (name !== "." && name !== "..") names.push(name);
    }
  }
}

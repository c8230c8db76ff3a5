/**
 * Files by their paths: what administrators and the kernel wrote. Loading node:fs takes as long as several links take to
 * make, so a CNI call that goes well does without it.
 */
import { CniError, Code } from "../base/error.ts";
import { Errno, isErrno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import {
  At,
  check,
  cstring,
  errno,
  libc,
  namesIn,
  Open,
  readAll,
  type Stat,
  statIfThere,
  statTargetIfThere,
  tryOpenat2,
} from "./libc.ts";
import { POLLIN, POLLOUT, pollOne } from "./poll.ts";

/** How long a look at a descriptor of somebody else's that does not block takes at most, before the next one. */
const BLOCKED_MS = 1000;

/** node:fs itself, for what is rarely done. */
export const nodeFs = (): typeof import("node:fs") => process.getBuiltinModule("node:fs");

/** True for a failure that says that there is no such file. */
export const isAbsentFile = (thrown: unknown): boolean => isErrno(thrown, Errno.ENOENT, Errno.ENOTDIR);

/** What a path leads to. @returns undefined when nothing is there. @throws {SysError} */
export const statOf = statTargetIfThere;

/** What is at a path, a symbolic link too. @returns undefined when nothing is there. @throws {SysError} */
export const linkStatOf = (path: string): Stat | undefined => statIfThere(At.CWD, path);

/** @throws {SysError} EACCES for a file that we may not run. */
export function requireExecutable(path: string): void {
  check(libc().faccessat(At.CWD, cstring(path), 1, 0), "access", path);
}

/** A whole file. @throws {SysError} EFBIG for one of more than `maxBytes` */
export function readFile(path: string, maxBytes: number): Uint8Array {
  using file = Fd.open(path, Open.READ);
  return readAll(file.raw, maxBytes, path);
}

/** As `readFile()`; undefined when nothing is there. */
export function readFileIfThere(path: string, maxBytes: number): Uint8Array | undefined {
  const found = tryOpenat2(At.CWD, path, Open.READ, 0);
  if (found === -Errno.ENOENT || found === -Errno.ENOTDIR) return undefined;
  if (found < 0) throw new SysError("open", -found, path);
  using file = Fd.adopt(found, path);
  return readAll(file.raw, maxBytes, path);
}

/** As `readFile()`; what is not UTF-8 is replaced. */
export function readText(path: string, maxBytes: number): string {
  return new TextDecoder().decode(readFile(path, maxBytes));
}

/** A file that the binary carries, or that it will carry while Bun runs the sources. @throws as node:fs does */
export function readEmbedded(path: string): Uint8Array {
  // What is in the binary is in memory: its promise is kept before it is given.
  const bytes = path.startsWith("/$bunfs/") ? Bun.peek(Bun.file(path).bytes()) : undefined;
  return bytes instanceof Uint8Array ? bytes : nodeFs().readFileSync(path);
}

/** Names in a directory, sorted. @throws {SysError} */
export function namesInDirectory(path: string): string[] {
  using directory = Fd.open(path, Open.READ | Open.DIRECTORY);
  return namesIn(directory.raw, path).sort();
}

/** Makes a symbolic link. @throws {SysError} */
export function makeLink(text: string, path: string): void {
  check(libc().symlinkat(cstring(text), At.CWD, cstring(path)), "symlink", path);
}

/** The text of a symbolic link, cut after 4096 bytes. @throws {SysError} */
export function readLink(path: string): string {
  const buffer = new Uint8Array(4096);
  const length = check(libc().readlinkat(At.CWD, cstring(path), buffer, buffer), "readlink", path);
  return new TextDecoder().decode(buffer.subarray(0, length));
}

/** Removes a file or link. @throws {SysError} */
export function unlink(path: string): void {
  check(libc().unlinkat(At.CWD, cstring(path), 0), "unlink", path);
}

/**
 * Reads a descriptor to its end, and no more than `maxBytes`.
 *
 * @param what Names the input in the error, such as "the configuration on stdin".
 * @throws {CniError} 6 when there is more, 5 when the read fails.
 */
export function readBounded(fd: number, maxBytes: number, what: string): Uint8Array {
  let buffer = new Uint8Array(Math.min(maxBytes + 1, 16_384));
  let length = 0;
  for (;;) {
    if (length > maxBytes) {
      throw new CniError(Code.Decode, `Cannot read ${what}: more than ${maxBytes} bytes`, {
        remedy: "Send a smaller document",
      });
    }
    if (length === buffer.length) {
      const larger = new Uint8Array(Math.min(maxBytes + 1, buffer.length * 4));
      larger.set(buffer);
      buffer = larger;
    }
    const rest = buffer.subarray(length);
    const got = Number(libc().read(fd, rest, rest));
    if (got === 0) return buffer.subarray(0, length);
    if (got > 0) {
      length += got;
      continue;
    }
    const code = errno();
    if (code === Errno.EAGAIN) pollOne(fd, POLLIN, BLOCKED_MS);
    if (code === Errno.EINTR || code === Errno.EAGAIN) continue;
    const cause = new SysError("read", code);
    throw new CniError(Code.IoFailure, `Cannot read ${what}: ${cause.message}`, {
      remedy: "Check what started this process and how it passes the input",
      cause,
    });
  }
}

/** Writes all of a text, waiting where the other end is slow. @throws {SysError} */
export function writeText(fd: number, text: string): void {
  const bytes = new TextEncoder().encode(text);
  for (let done = 0; done < bytes.length; ) {
    const rest = bytes.subarray(done);
    const wrote = Number(libc().write(fd, rest, rest));
    if (wrote >= 0) {
      done += wrote;
      continue;
    }
    const code = errno();
    if (code === Errno.EAGAIN) pollOne(fd, POLLOUT, BLOCKED_MS);
    else if (code !== Errno.EINTR) throw new SysError("write", code);
  }
}

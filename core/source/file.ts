/** Reading a file that an administrator wrote, with nothing surprising on the way. */
import { CniError, Code } from "../base/error.ts";
import { SysError } from "../sys/error.ts";
import { Fd } from "../sys/fd.ts";
import { isAbsentFile, linkStatOf, readBounded } from "../sys/files.ts";
import { Open, stat } from "../sys/libc.ts";
import { requireTrusted } from "../sys/trust.ts";

export const MAX_FILE_BYTES = 1 << 20;

/** What tells one state of a file from another. */
export interface FileState {
  /** Device, inode, size, modification and change time: equal as long as nobody wrote to the file. */
  readonly key: string;
  /** When the file last changed in any way, milliseconds since 1970. */
  readonly changedMs: number;
}

/**
 * The state of a regular file that only root, or the user we run as, can write to.
 *
 * @returns `undefined` when it is absent, or is a directory.
 * @throws {CniError} 7 for a link, a device, a file that others could have written.
 */
export function fileState(path: string, what: string): FileState | undefined {
  const stat = linkStatOf(path);
  if (stat === undefined || stat.isDirectory) return undefined;
  if (!stat.isFile) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot use ${what} "${path}": expected a regular file, found ${stat.isLink ? "a symbolic link" : "a special file"}`,
      {
        remedy: `Put a copy of the file in place of "${path}"`,
      },
    );
  }
  if (stat.uid !== 0 || (stat.mode & 0o022) !== 0) requireTrusted(path, what, Code.InvalidConfig);
  return { key: stat.state, changedMs: stat.ctimeMs };
}

/**
 * A whole file. It may not be a link, and is looked at again once open, so it cannot be exchanged in between.
 *
 * @returns `undefined` when it is absent.
 * @throws {CniError} 5 when it cannot be read, 6 when it is larger than `maxBytes`, 7 when it is no regular file.
 */
export function readWhole(path: string, what: string, maxBytes = MAX_FILE_BYTES): Uint8Array | undefined {
  using fd = open(path, what);
  if (fd === undefined) return undefined;
  if (!stat(fd.raw, "").isFile) {
    throw new CniError(Code.InvalidConfig, `Cannot use ${what} "${path}": expected a regular file`, {
      remedy: `Remove "${path}"`,
    });
  }
  return readBounded(fd.raw, maxBytes, `${what} "${path}"`);
}

function open(path: string, what: string): Fd | undefined {
  try {
    return Fd.open(path, Open.READ | Open.NOFOLLOW | Open.NONBLOCK);
  } catch (cause) {
    if (isAbsentFile(cause)) return undefined;
    const why = cause instanceof SysError ? cause.errnoName : cause;
    throw new CniError(Code.IoFailure, `Cannot read ${what} "${path}": ${why}`, {
      remedy: `Check "${path}", its owner and its mode`,
      cause,
    });
  }
}

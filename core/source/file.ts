/** Reading a file that an administrator wrote, with nothing surprising on the way. */
import { closeSync, constants, fstatSync, lstatSync, openSync } from "node:fs";
import { readBounded } from "../base/bounded.ts";
import { CniError, Code } from "../base/error.ts";
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
  const stat = lstatSync(path, { throwIfNoEntry: false, bigint: true });
  if (stat === undefined || stat.isDirectory()) return undefined;
  if (!stat.isFile()) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot use ${what} "${path}": expected a regular file, found ${kindOf(stat)}`,
      {
        remedy: `Put a copy of the file in place of "${path}"`,
      },
    );
  }
  if (stat.uid !== 0n || (stat.mode & 0o022n) !== 0n) requireTrusted(path, what, Code.InvalidConfig);
  return {
    key: `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`,
    changedMs: Number(stat.ctimeMs),
  };
}

function kindOf(stat: { isSymbolicLink(): boolean }): string {
  return stat.isSymbolicLink() ? "a symbolic link" : "a special file";
}

/**
 * A whole file. It may not be a link, and is looked at again once open, so it cannot be exchanged in between.
 *
 * @returns `undefined` when it is absent.
 * @throws {CniError} 5 when it cannot be read, 6 when it is larger than `maxBytes`, 7 when it is no regular file.
 */
export function readWhole(path: string, what: string, maxBytes = MAX_FILE_BYTES): Uint8Array | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    if (hasCode(cause, "ENOENT") || hasCode(cause, "ENOTDIR")) return undefined;
    const why = cause instanceof Error && "code" in cause ? cause.code : cause;
    throw new CniError(Code.IoFailure, `Cannot read ${what} "${path}": ${why}`, {
      remedy: `Check "${path}", its owner and its mode`,
      cause,
    });
  }
  try {
    if (!fstatSync(fd).isFile()) {
      throw new CniError(Code.InvalidConfig, `Cannot use ${what} "${path}": expected a regular file`, {
        remedy: `Remove "${path}"`,
      });
    }
    return readBounded(fd, maxBytes, `${what} "${path}"`);
  } finally {
    closeSync(fd);
  }
}

export function hasCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === code;
}

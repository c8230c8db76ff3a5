import { CniError, Code } from "../base/error.ts";
import { SysError } from "../sys/error.ts";

/**
 * The error of the layer that knows what was being done, from the one of the layer that knows only the call.
 *
 * @param sentence Starts with "Cannot" and has no full stop; what the kernel said is put behind it.
 * @param remedy For any cause but a full disk, which has a remedy of its own.
 * @returns Code 5. Anything that is no `SysError` comes back as it is.
 */
export function ioFailure(sentence: string, remedy: string, cause: unknown): unknown {
  if (!(cause instanceof SysError)) return cause;
  const full = cause.errnoName === "ENOSPC" || cause.errnoName === "EDQUOT";
  return new CniError(Code.IoFailure, `${sentence}: ${full ? "no space left" : cause.message}`, {
    remedy: full ? "Free space on the file system of the state directory, then try again" : remedy,
    cause,
  });
}

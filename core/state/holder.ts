/**
 * Who holds the lock of a container id, so that a DEL can ask a live ADD to stop and a waiter can name whom it waits
 * for. The lock itself is the kernel's (it ends with its process); this is a symbolic link in the locked directory,
 * never followed, whose text is the record: one system call makes it whole, none can leave half of it. After a crash
 * it names a process that is gone, and the next holder replaces it.
 */
import { Errno, isErrno } from "../sys/error.ts";
import { makeLink, readLink, unlink } from "../sys/files.ts";
import type { ProcessId } from "../sys/process-id.ts";

export const HOLDER = "holder";

export interface Holder extends ProcessId {
  /** What it is doing: "ADD", "DEL", "attach" … */
  readonly command: string;
  /** The operation's id, as errors and the operations log show it. */
  readonly operation: string;
}

/** The caller holds the lock. A failure is none of the operation's: only the courtesy to waiters is lost. */
export function writeHolder(directory: string, holder: Holder): void {
  const text = `${holder.pid} ${holder.startTime} ${holder.command} ${holder.operation}`;
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      makeLink(text, `${directory}/${HOLDER}`);
      return;
    } catch (cause) {
      if (!isErrno(cause, Errno.EEXIST)) return;
      removeHolder(directory);
    }
  }
}

export function readHolder(directory: string): Holder | undefined {
  let text: string;
  try {
    text = readLink(`${directory}/${HOLDER}`);
  } catch {
    return undefined;
  }
  const [pid, startTime, command, operation, ...rest] = text.split(" ");
  if (startTime === undefined || command === undefined || operation === undefined || rest.length > 0) return undefined;
  const number = Number(pid);
  return Number.isSafeInteger(number) && number > 0 ? { pid: number, startTime, command, operation } : undefined;
}

export function removeHolder(directory: string): void {
  try {
    unlink(`${directory}/${HOLDER}`);
  } catch {
    // Gone already, or the directory is: then nobody can read it either.
  }
}

import { Errno, isErrno } from "./error.ts";
import { Fd } from "./fd.ts";
import { Open, readAll } from "./libc.ts";

/** A process for all time: a pid alone comes back after the process is gone. */
export interface ProcessId {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: clock ticks since boot, decimal. */
  readonly startTime: string;
}

/** What /proc/<pid>/stat says of a process. */
export interface ProcessStat extends ProcessId {
  /** "Z" is one that ended and that its parent has not asked about. */
  readonly state: string;
  readonly parent: number;
  readonly group: number;
}

/** @returns undefined when no such process exists */
export function processStat(pid: number): ProcessStat | undefined {
  const path = `/proc/${pid}/stat`;
  let text: string;
  try {
    using file = Fd.open(path, Open.READ);
    text = new TextDecoder().decode(readAll(file.raw, 4096, path));
  } catch (thrown) {
    if (isErrno(thrown, Errno.ENOENT, Errno.ESRCH)) return undefined;
    throw thrown;
  }
  // The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parent, group] = fields;
  const startTime = fields[19];
  if (state === undefined || group === undefined || startTime === undefined) return undefined;
  return { pid, startTime, state, parent: Number(parent), group: Number(group) };
}

let own: ProcessId | undefined;

export function ownProcessId(): ProcessId {
  own ??= { pid: process.pid, startTime: processStat(process.pid)?.startTime ?? "0" };
  return own;
}

/** True while that very process runs; a zombie does not. */
export function isAlive(id: ProcessId): boolean {
  const stat = processStat(id.pid);
  return stat !== undefined && stat.startTime === id.startTime && stat.state !== "Z" && stat.state !== "X";
}

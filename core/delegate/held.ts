/**
 * A CNI binary may run us again for the same container: flannel runs `bridge`, and the link of that name is ours. The
 * lock of the container id is held by the process above it, which waits for it, so the process below goes on under
 * that lock. A variable says so; what it says is checked, since an environment is easily inherited by strangers.
 */
import { readFileSync } from "node:fs";
import { isAlive, ownProcessId, type ProcessId } from "../sys/child.ts";

export const HELD = "PATCHBAY_HELD";
const MAX_ANCESTORS = 64;

/** The variable's value for the programs that we start. */
export function heldBy(container: string): string {
  const { pid, startTime } = ownProcessId();
  return `${container} ${pid} ${startTime}`;
}

/** Whether a living ancestor of this process holds the container's lock. */
export function isHeldAbove(environment: Readonly<Record<string, string | undefined>>, container: string): boolean {
  const [name, pid, startTime, ...rest] = (environment[HELD] ?? "").split(" ");
  if (name !== container || startTime === undefined || rest.length > 0) return false;
  const holder: ProcessId = { pid: Number(pid), startTime };
  if (!Number.isSafeInteger(holder.pid) || !isAlive(holder)) return false;
  let ancestor = process.ppid;
  for (let i = 0; i < MAX_ANCESTORS && ancestor > 1; i++) {
    if (ancestor === holder.pid) return true;
    ancestor = parentOf(ancestor);
  }
  return false;
}

function parentOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // "pid (name) state ppid …": the name may hold blanks and parentheses, so count from its end.
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
  } catch {
    return 0;
  }
}

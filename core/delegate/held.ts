/**
 * A CNI binary may run us again for the same container: flannel runs `bridge`, and the link of that name is ours. The
 * lock of the container id is held by the process above it, which waits for it, so the process below goes on under
 * that lock. A variable says so; what it says is checked, since an environment is easily inherited by strangers.
 */
import { isAlive, ownProcessId, type ProcessId, processStat } from "../sys/process-id.ts";

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
    ancestor = processStat(ancestor)?.parent ?? 0;
  }
  return false;
}

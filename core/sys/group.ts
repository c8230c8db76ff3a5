import { deadlineIn, leftMs, sleepMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { nodeFs } from "./files.ts";
import { errno, libcProcesses } from "./libc.ts";
import { type ProcessId, type ProcessStat, processStat } from "./process-id.ts";

const SIGTERM = 15;
const SIGKILL = 9;
/** A killed process may be in an uninterruptible call for a while. */
const KILLED_MS = 5000;

/**
 * Ends what still runs of the process group that `id` led: SIGTERM, `graceMs` later SIGKILL, and returns when all of it
 * is gone. The leader may have ended long ago; a group that got its number later is another and is left alone.
 *
 * @throws {SysError} ETIMEDOUT if something is still there 5 s after SIGKILL; EPERM
 */
export function endGroup(id: ProcessId, graceMs: number): void {
  if (id.pid <= 1 || members(id).length === 0) return;
  signal(id.pid, SIGTERM);
  if (gone(id, graceMs)) return;
  signal(id.pid, SIGKILL);
  if (!gone(id, KILLED_MS)) throw new SysError("kill", Errno.ETIMEDOUT, `process group ${id.pid}`);
}

function signal(group: number, number: number): void {
  if (libcProcesses().kill(-group, number) === 0) return;
  const code = errno();
  if (code !== Errno.ESRCH) throw new SysError("kill", code, `process group ${group}`);
}

function gone(id: ProcessId, withinMs: number): boolean {
  const deadline = deadlineIn(withinMs);
  for (let pause = 1; ; pause = Math.min(pause * 2, 20)) {
    if (members(id).length === 0) return true;
    const left = leftMs(deadline, pause);
    if (left === 0) return false;
    sleepMs(left);
  }
}

/**
 * The live processes of the group. The kernel gives no number to a new process while a group still has it; so where
 * one with the leader's number started at another time, or a member is older than the leader, the group is not ours.
 */
function members(id: ProcessId): ProcessStat[] {
  if (libcProcesses().kill(-id.pid, 0) !== 0 && errno() === Errno.ESRCH) return [];
  const found: ProcessStat[] = [];
  for (const name of nodeFs().readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue;
    const stat = processStat(Number(name));
    if (stat === undefined || stat.group !== id.pid) continue;
    if (stat.pid === id.pid && stat.startTime !== id.startTime) return [];
    if (Number(stat.startTime) < Number(id.startTime)) return [];
    if (stat.state !== "Z" && stat.state !== "X") found.push(stat);
  }
  return found;
}

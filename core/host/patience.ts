/** For drivers of real devices, which are sometimes at something else. */
import { KernelError } from "../kernel/kernel.ts";
import { deadlineIn, monotonicMs, sleepMs } from "../sys/clock.ts";

/** They say so in several ways. */
const BUSY = new Set(["EBUSY", "EAGAIN", "EADDRNOTAVAIL", "ENETDOWN"]);
const BUSY_MS = 2000;
const PAUSE_MS = 100;

/** Makes a change again while the driver is busy. @throws {KernelError} the last refusal */
export function patiently(work: () => void, withinMs: number = BUSY_MS): void {
  const deadline = deadlineIn(withinMs);
  for (;;) {
    try {
      work();
      return;
    } catch (thrown) {
      if (!(thrown instanceof KernelError) || !BUSY.has(thrown.errnoName) || monotonicMs() > deadline) throw thrown;
      sleepMs(PAUSE_MS);
    }
  }
}

/** Looks again until there is something. @returns undefined when the time ran out */
export function awaited<T>(look: () => T | undefined, withinMs: number): T | undefined {
  const deadline = deadlineIn(withinMs);
  for (;;) {
    const found = look();
    if (found !== undefined || monotonicMs() > deadline) return found;
    sleepMs(PAUSE_MS);
  }
}

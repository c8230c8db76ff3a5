/**
 * Time. A deadline is a point on the monotonic clock, never a wall clock time: `deadlineMs` anywhere in this project
 * is a value of `monotonicMs()`, mostly made by `deadlineIn()`; a length of time is named for what it is, `graceMs`.
 */

import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { errno, libc, Open, readAll } from "./libc.ts";

/** Milliseconds on a clock that never jumps; its zero is arbitrary and the process's own. */
export function monotonicMs(): number {
  return performance.now();
}

/** The deadline that is `ms` from now. */
export function deadlineIn(ms: number): number {
  return performance.now() + ms;
}

/** Milliseconds left, as poll(2) takes them: rounded up, at least 0, at most `most`. */
export function leftMs(deadlineMs: number, most = 0x7fffffff): number {
  const left = Math.ceil(deadlineMs - performance.now());
  return left <= 0 ? 0 : Math.min(left, most);
}

/** Blocks the thread for `ms` milliseconds, through any signal. */
export function sleepMs(ms: number): void {
  const deadline = deadlineIn(ms);
  const none = new Uint8Array(8);
  for (let left = leftMs(deadline); left > 0; left = leftMs(deadline)) {
    if (libc().poll(none, 0, left) < 0) {
      const code = errno();
      if (code !== Errno.EINTR) throw new SysError("poll", code);
    }
  }
}

let boot: string | undefined;

/** The kernel's random id of this boot, a UUID. */
export function bootId(): string {
  if (boot === undefined) {
    const path = "/proc/sys/kernel/random/boot_id";
    using file = Fd.open(path, Open.READ);
    boot = new TextDecoder().decode(readAll(file.raw, 64, path)).trim();
  }
  return boot;
}

/**
 * Milliseconds since the machine started, the time that it slept among them: for what several processes have to agree
 * on, in steps of 10 ms.
 */
export function bootTimeMs(): number {
  const path = "/proc/uptime";
  using file = Fd.open(path, Open.READ);
  const [seconds] = new TextDecoder().decode(readAll(file.raw, 128, path)).split(" ");
  return Math.round(Number(seconds) * 1000);
}

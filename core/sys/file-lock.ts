import { leftMs, monotonicMs, sleepMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { errno, libc, Open } from "./libc.ts";

const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Takes flock(2) on a file, for locks that another program defines by a file's name; ours are on directories.
 *
 * @param path Its last part may not be a link. Made if absent, mode 0600; never removed.
 * @param o.deadlineMs On the clock of `monotonicMs()`.
 * @returns undefined when the deadline passed
 * @throws {SysError}
 */
export function lockFile(path: string, o: { deadlineMs: number }): Disposable | undefined {
  const file = Fd.open(path, Open.READ | Open.CREATE | Open.NOFOLLOW, 0o600);
  for (let pause = 1; ; pause = Math.min(pause * 2, 20)) {
    if (libc().flock(file.raw, LOCK_EX | LOCK_NB) === 0) return file;
    const code = errno();
    if (code === Errno.EINTR) continue;
    if (code === Errno.EAGAIN && monotonicMs() < o.deadlineMs) {
      sleepMs(leftMs(o.deadlineMs, pause));
      continue;
    }
    file[Symbol.dispose]();
    if (code === Errno.EAGAIN) return undefined;
    throw new SysError("flock", code, path);
  }
}

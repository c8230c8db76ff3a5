import { Errno, SysError } from "./error.ts";
import { errno, libc } from "./libc.ts";

/** Source: asm-generic/poll.h */
export const POLLIN = 1;
export const POLLOUT = 4;

/** A set of descriptors for poll(2), made anew for each wait. */
export class Poll {
  /** `struct pollfd { int fd; short events; short revents; }` */
  readonly #view: DataView;
  #count = 0;

  /** @param capacity How many descriptors it has room for. */
  constructor(capacity = 8) {
    this.#view = new DataView(new ArrayBuffer(capacity * 8));
  }

  clear(): void {
    this.#count = 0;
  }

  /** Adds a descriptor. @returns its place, for `events()` */
  add(fd: number, events: number): number {
    const at = this.#count++;
    this.#view.setInt32(at * 8, fd, true);
    this.#view.setUint16(at * 8 + 4, events, true);
    this.#view.setUint16(at * 8 + 6, 0, true);
    return at;
  }

  /**
   * Waits until one is ready, a signal came, or the time is over; the caller looks at its conditions again.
   *
   * @returns how many are ready
   * @throws {SysError}
   */
  wait(timeoutMs: number): number {
    for (let i = 0; i < this.#count; i++) this.#view.setUint16(i * 8 + 6, 0, true);
    const ready = libc().poll(this.#view, this.#count, timeoutMs);
    if (ready >= 0) return ready;
    const code = errno();
    if (code !== Errno.EINTR) throw new SysError("poll", code);
    for (let i = 0; i < this.#count; i++) this.#view.setUint16(i * 8 + 6, 0, true);
    return 0;
  }

  /** What is ready at a place: `POLLIN` and so on; 0 for nothing, and for a place that is negative. */
  events(at: number): number {
    return at >= 0 && at < this.#count ? this.#view.getUint16(at * 8 + 6, true) : 0;
  }
}

/** Waits for one descriptor. @returns its events, 0 when the time is over or a signal came */
export function pollOne(fd: number, events: number, timeoutMs: number): number {
  const poll = new Poll();
  const at = poll.add(fd, events);
  poll.wait(timeoutMs);
  return poll.events(at);
}

/** Handles that are open now, with where they were taken: what `test/preload.ts` reads after each test file. */
const open = new Map<object, string>();
let tracking = false;

/** Turns on the record of open handles, for tests: it takes a stack trace of each handle. */
export function trackLeaks(): void {
  tracking = true;
}

/** The handles still open, one line each. Empty unless `trackLeaks()` was called before they were taken. */
export function leaks(): readonly string[] {
  return [...open.values()];
}

/**
 * A resource with one owner, released by `using` or `[Symbol.dispose]()`. Disposing twice is harmless; using it after
 * is an error, so a stale descriptor number can never reach the kernel.
 */
export class Owned<T> implements Disposable {
  readonly what: string;
  readonly #release: (value: T) => void;
  #value: T;
  #live = true;

  /** @param what Names the handle in errors and in the leak report, such as "socket" or "netns". */
  constructor(what: string, value: T, release: (value: T) => void) {
    this.what = what;
    this.#value = value;
    this.#release = release;
    if (tracking) open.set(this, `${what}: ${new Error("taken here").stack?.split("\n").slice(2, 5).join(" < ")}`);
  }

  /** The native value. @throws {TypeError} after release. */
  get raw(): T {
    if (!this.#live) throw new TypeError(`Cannot use ${this.what}: it was released`);
    return this.#value;
  }

  get released(): boolean {
    return !this.#live;
  }

  /** Gives the value away, to C or to another owner; this object no longer releases it. */
  surrender(): T {
    const value = this.raw;
    this.#live = false;
    open.delete(this);
    return value;
  }

  [Symbol.dispose](): void {
    if (!this.#live) return;
    const value = this.#value;
    this.#live = false;
    open.delete(this);
    this.#release(value);
  }
}

/**
 * Which attachment has which address. A lease is a file named by its address in the directory of its pool: it exists
 * complete or not at all, and that its name is taken is the allocation test. Nothing else is trusted: what an owner
 * holds is found by reading the files.
 */
import { CniError, Code } from "../base/error.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { ioFailure } from "./failure.ts";
import { checksum } from "./line.ts";
import type { Quarantine } from "./quarantine.ts";

/** How long a pool's lock is waited for. It is held for some file operations, never over a process or a request. */
const LOCK_MS = 10_000;
const MAX_LEASE_BYTES = 4096;

export interface LeaseOwner {
  readonly container: string;
  readonly ifname: string;
  /** Of the pod's network namespace, decimal digits; empty where it is not known. */
  readonly cookie: string;
}

export interface Lease {
  readonly address: string;
  /** `undefined`: the file is not as it was written, and the address counts as taken. */
  readonly owner: LeaseOwner | undefined;
}

/** "unreadable": the file is damaged and does not name this owner; it stays until `quarantine()`. */
export type Released = "released" | "absent" | "other" | "unreadable";

/** The leases of one pool, under its lock until it is disposed of. */
export interface LeasePool extends Disposable {
  readonly name: string;
  /** By one look at the name, without reading the file. */
  taken(address: string): boolean;
  /** @returns false when the address is taken. @throws {CniError} 5 */
  acquire(address: string, owner: LeaseOwner): boolean;
  /** @throws {CniError} 5 when the file cannot be removed: the address then stays taken and a retry frees it. */
  release(address: string, owner: Pick<LeaseOwner, "container" | "ifname">): Released;
  owner(address: string): Lease | undefined;
  list(): Lease[];
  /** Every taken address, by one reading of the directory: for whom many looks at one name would cost more. */
  addresses(): Set<string>;
  /** Frees an address whatever its file says, a damaged file by moving it to quarantine. @throws {CniError} 5 */
  reclaim(address: string): void;
  /** The address that was last given from a set of ranges, counted from 0. */
  last(set: number): string | undefined;
  /** To be called while a lease of the caller's own is in the pool. A failure is swallowed: it is only a hint. */
  setLast(set: number, address: string): void;
}

export interface OpenPool {
  readonly create: boolean;
  /** Another pool of the backend: what is leased there counts as taken. */
  readonly beside?: string | undefined;
}

/** Where leases are kept: by us, or in the files of the reference host-local. */
export interface LeaseBackend {
  /** Pools are directories that a configuration names, not names of ours. */
  readonly usesPaths: boolean;
  /** @returns `undefined` when there is no such pool and `create` is false. @throws {CniError} 5, 104 */
  open(pool: string, o: OpenPool): LeasePool | undefined;
  pools(): string[];
  /** @throws {CniError} 50 when no lease can be written. */
  probe(): void;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** `v1 <container> <ifname> <cookie> <crc32>` and a line feed. */
export function formatLease(owner: LeaseOwner): Uint8Array {
  const text = `v1 ${owner.container} ${owner.ifname} ${owner.cookie || "-"}`;
  return encoder.encode(`${text} ${checksum(encoder.encode(text))}\n`);
}

/** @returns the owner; `undefined` for anything but what `formatLease()` wrote. Never throws. */
export function parseLease(bytes: Uint8Array): LeaseOwner | undefined {
  const text = decoder.decode(bytes);
  const [version, container, ifname, cookie, sum, ...rest] = text.split(" ");
  if (version !== "v1" || container === undefined || ifname === undefined || cookie === undefined) return undefined;
  if (rest.length > 0 || sum !== `${checksum(encoder.encode(`v1 ${container} ${ifname} ${cookie}`))}\n`)
    return undefined;
  return { container, ifname, cookie: cookie === "-" ? "" : cookie };
}

/**
 * A file of the reference host-local: the container's id, a line break, the interface. Releases before 0.7 wrote the
 * id alone, and a crash leaves an empty file. Never throws.
 */
export function parseReferenceLease(bytes: Uint8Array): LeaseOwner | undefined {
  const [container, ifname = "", ...rest] = decoder.decode(bytes).trim().split(/\r?\n/);
  if (container === undefined || container === "" || rest.length > 0) return undefined;
  return { container, ifname, cookie: "" };
}

/** Whether a damaged lease still names its owner in the clear. */
function names(bytes: Uint8Array, owner: Pick<LeaseOwner, "container" | "ifname">): boolean {
  const [, container, ifname] = decoder.decode(bytes).split(/\s/);
  return container === owner.container && ifname === owner.ifname;
}

export class Leases implements LeaseBackend, Disposable {
  readonly usesPaths = false;
  readonly #path: string;
  readonly #referenceDir: string;
  readonly #quarantine: Quarantine;
  #root: Dir | undefined;
  #hints: Dir | undefined;

  /** @param path The generation's directory. @param referenceDir Files below it, `<pool>/<address>`, count as taken. */
  constructor(path: string, referenceDir: string, quarantine: Quarantine) {
    this.#path = path;
    this.#referenceDir = referenceDir;
    this.#quarantine = quarantine;
  }

  open(name: string, o: OpenPool): LeasePool | undefined {
    const deadlineMs = deadlineIn(LOCK_MS);
    try {
      for (;;) {
        const root = this.#openRoot(o.create);
        const dir = root && openSub(root, name, o.create, deadlineMs);
        if (root === undefined || dir === undefined) return undefined;
        let kept = false;
        try {
          const lock = dir.lock({ deadlineMs });
          if (lock === undefined) throw busy(name, dir);
          try {
            // The last lease of the pool may have gone meanwhile, and its directory with it.
            if (!dir.stillNamed(root, name)) continue;
            kept = true;
            return new OwnPool({
              name,
              root,
              dir,
              lock,
              hints: (create) => this.#openHints(create),
              others: this.#others(root, name, o.beside),
              quarantine: this.#quarantine,
            });
          } finally {
            if (!kept) lock[Symbol.dispose]();
          }
        } finally {
          if (!kept) dir[Symbol.dispose]();
        }
      }
    } catch (cause) {
      throw ioFailure(
        `Cannot open the leases of "${name}"`,
        `Check that "${this.#path}" is a writable directory on a local file system`,
        cause,
      );
    }
  }

  /** What counts as taken beside the pool's own. */
  #others(root: Dir, name: string, beside: string | undefined): OtherLeases[] {
    const names = beside === undefined ? [name] : [name, beside];
    const others = names.flatMap((each): OtherLeases[] => {
      const dir = openPath(`${this.#referenceDir}/${each}`, false);
      return dir === undefined ? [] : [{ dir, parse: parseReferenceLease }];
    });
    const dir = beside === undefined ? undefined : root.sub(beside);
    return dir === undefined ? others : [{ dir, parse: parseLease }, ...others];
  }

  /** As the pool's, for one lease. @throws {CniError} 5, 104 */
  acquire(pool: string, address: string, owner: LeaseOwner): boolean {
    using open = this.open(pool, { create: true });
    return open?.acquire(address, owner) ?? false;
  }

  /** As the pool's, for one lease: what an undo step names. @throws {CniError} 5, 104 */
  release(pool: string, address: string, owner: Pick<LeaseOwner, "container" | "ifname">): Released {
    using open = this.open(pool, { create: false });
    return open?.release(address, owner) ?? "absent";
  }

  /**
   * Every lease of a container, by reading all files: for a DEL whose journal is damaged.
   *
   * @throws {CniError} 5, 104
   */
  ofContainer(container: string): { readonly pool: string; readonly address: string; readonly owner: LeaseOwner }[] {
    const found: { pool: string; address: string; owner: LeaseOwner }[] = [];
    for (const name of this.pools()) {
      using pool = this.open(name, { create: false });
      for (const { address, owner } of pool?.list() ?? []) {
        if (owner?.container === container) found.push({ pool: name, address, owner });
      }
    }
    return found;
  }

  pools(): string[] {
    return this.#openRoot(false)?.list() ?? [];
  }

  probe(): void {
    try {
      this.#openRoot(true);
    } catch (cause) {
      throw new CniError(Code.NotAvailable, `Cannot keep leases in "${this.#path}"`, {
        remedy: "Make it a writable directory on a local file system",
        cause,
      });
    }
  }

  #openRoot(create: boolean): Dir | undefined {
    this.#root ??= openPath(`${this.#path}/leases`, create);
    return this.#root;
  }

  #openHints(create: boolean): Dir | undefined {
    this.#hints ??= openPath(`${this.#path}/cache/hints`, create);
    return this.#hints;
  }

  [Symbol.dispose](): void {
    this.#root?.[Symbol.dispose]();
    this.#hints?.[Symbol.dispose]();
    this.#root = undefined;
    this.#hints = undefined;
  }
}

/** Leases that are not the pool's to give or to free. */
interface OtherLeases {
  readonly dir: Dir;
  readonly parse: (bytes: Uint8Array) => LeaseOwner | undefined;
}

class OwnPool implements LeasePool {
  readonly name: string;
  readonly #root: Dir;
  readonly #dir: Dir;
  readonly #lock: Disposable;
  readonly #openHints: (create: boolean) => Dir | undefined;
  readonly #others: readonly OtherLeases[];
  readonly #quarantine: Quarantine;
  #hints: string[] | undefined;
  #open = true;

  constructor(parts: {
    name: string;
    root: Dir;
    dir: Dir;
    lock: Disposable;
    hints: (create: boolean) => Dir | undefined;
    others: readonly OtherLeases[];
    quarantine: Quarantine;
  }) {
    this.name = parts.name;
    this.#root = parts.root;
    this.#dir = parts.dir;
    this.#lock = parts.lock;
    this.#openHints = parts.hints;
    this.#others = parts.others;
    this.#quarantine = parts.quarantine;
  }

  taken(address: string): boolean {
    return this.#dir.mtimeMs(address) !== undefined || this.#takenByOthers(address);
  }

  acquire(address: string, owner: LeaseOwner): boolean {
    if (this.#takenByOthers(address)) return false;
    try {
      return this.#dir.createWhole(address, formatLease(owner));
    } catch (cause) {
      throw ioFailure(
        `Cannot lease "${address}" of "${this.name}"`,
        "Check that the state directory is writable",
        cause,
      );
    }
  }

  #takenByOthers(address: string): boolean {
    return this.#others.some(({ dir }) => dir.mtimeMs(address) !== undefined);
  }

  release(address: string, owner: Pick<LeaseOwner, "container" | "ifname">): Released {
    const bytes = this.#read(this.#dir, address);
    if (bytes === undefined) return "absent";
    const holder = parseLease(bytes);
    if (holder === undefined ? !names(bytes, owner) : !sameOwner(holder, owner)) {
      return holder === undefined ? "unreadable" : "other";
    }
    this.#remove(address);
    return "released";
  }

  owner(address: string): Lease | undefined {
    const bytes = this.#read(this.#dir, address);
    if (bytes !== undefined) return { address, owner: parseLease(bytes) };
    for (const { dir, parse } of this.#others) {
      const theirs = this.#read(dir, address);
      if (theirs !== undefined) return { address, owner: parse(theirs) };
    }
    return undefined;
  }

  list(): Lease[] {
    return this.#dir.list().flatMap((address) => {
      const bytes = this.#read(this.#dir, address);
      return bytes === undefined ? [] : [{ address, owner: parseLease(bytes) }];
    });
  }

  addresses(): Set<string> {
    return new Set([this.#dir, ...this.#others.map(({ dir }) => dir)].flatMap((dir) => dir.list()));
  }

  reclaim(address: string): void {
    const bytes = this.#read(this.#dir, address);
    if (bytes === undefined) return;
    if (parseLease(bytes) === undefined)
      this.#quarantine.take(`${this.#dir.path}/${address}`, `${this.name}@${address}`);
    if (this.#dir.mtimeMs(address) !== undefined) this.#remove(address);
  }

  #read(dir: Dir, address: string): Uint8Array | undefined {
    try {
      return dir.read(address, MAX_LEASE_BYTES);
    } catch (cause) {
      if (isErrno(cause, Errno.EFBIG, Errno.EINVAL, Errno.ELOOP)) return new Uint8Array();
      throw ioFailure(`Cannot read the lease of "${address}" of "${this.name}"`, "Check the state directory", cause);
    }
  }

  #remove(address: string): void {
    try {
      this.#dir.remove(address);
    } catch (cause) {
      throw ioFailure(
        `Cannot release "${address}" of "${this.name}"`,
        `Make "${this.#dir.path}/${address}" removable (lsattr shows whether it is immutable), then delete the pod again`,
        cause,
      );
    }
  }

  last(set: number): string | undefined {
    return this.#loadHints()[set] || undefined;
  }

  setLast(set: number, address: string): void {
    const hints = this.#loadHints();
    while (hints.length < set) hints.push("");
    hints[set] = address;
    try {
      this.#openHints(true)?.overwrite(this.name, encoder.encode(hints.join(" ")));
    } catch {
      // The next search begins at the start of the range: slower, not wrong.
    }
  }

  #loadHints(): string[] {
    if (this.#hints === undefined) {
      try {
        const bytes = this.#openHints(false)?.read(this.name, MAX_LEASE_BYTES);
        this.#hints = bytes === undefined ? [] : decoder.decode(bytes).split(" ");
      } catch {
        this.#hints = [];
      }
    }
    return this.#hints;
  }

  /**
   * Gives the lock back. With the pool's last lease its directory goes too. Its hint stays, so that the next pod does not
   * get the address that its neighbours still know the last one by.
   */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      this.#root.removeDir(this.name);
    } finally {
      this.#lock[Symbol.dispose]();
      for (const { dir } of this.#others) dir[Symbol.dispose]();
      this.#dir[Symbol.dispose]();
    }
  }
}

export function sameOwner(
  a: Pick<LeaseOwner, "container" | "ifname">,
  b: Pick<LeaseOwner, "container" | "ifname">,
): boolean {
  return a.container === b.container && a.ifname === b.ifname;
}

/** @returns undefined when it is absent and not to be made */
function openPath(path: string, create: boolean): Dir | undefined {
  try {
    return Dir.open(path);
  } catch (cause) {
    if (!isErrno(cause, Errno.ENOENT)) throw cause;
    return create ? Dir.open(path, { create }) : undefined;
  }
}

function openSub(root: Dir, name: string, create: boolean, deadlineMs: number): Dir | undefined {
  for (;;) {
    try {
      return root.sub(name, { create });
    } catch (cause) {
      // Made by another process and removed by it again before we could open it.
      if (!isErrno(cause, Errno.ENOENT) || deadlineIn(0) > deadlineMs) throw cause;
    }
  }
}

function busy(pool: string, dir: Dir): CniError {
  const [holder] = dir.lockHolders();
  const who = holder === undefined ? "another process holds them" : `process ${holder.pid} holds them`;
  return new CniError(Code.Busy, `Cannot open the leases of "${pool}": ${who}`, {
    remedy: holder === undefined ? "Try again" : `Try again; if process ${holder.pid} hangs, end it`,
  });
}

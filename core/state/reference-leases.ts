/**
 * Leases in the files of the reference host-local, for when a foreign plugin runs us by that name: one file an
 * address, `last_reserved_ip.<set>`, and flock on `lock`. Both programs can work on one directory at the same time.
 * Source: containernetworking/plugins, plugins/ipam/host-local/backend/disk
 */
import { CniError, Code } from "../base/error.ts";
import { parseIp } from "../base/ip.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { lockFile } from "../sys/file-lock.ts";
import { ioFailure } from "./failure.ts";
import {
  type Lease,
  type LeaseBackend,
  type LeaseOwner,
  type LeasePool,
  type OpenPool,
  parseReferenceLease,
  type Released,
  sameOwner,
} from "./leases.ts";

const LOCK_MS = 10_000;
const MAX_LEASE_BYTES = 4096;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export class ReferenceLeases implements LeaseBackend {
  readonly usesPaths = true;
  readonly #dataDir: string;

  /** @param dataDir As the configuration has it: the administrator's, never a tenant's. */
  constructor(dataDir: string) {
    this.#dataDir = dataDir;
  }

  open(name: string, o: OpenPool): LeasePool | undefined {
    const path = `${this.#dataDir}/${name}`;
    try {
      const dir = Dir.open(path, { create: o.create });
      let lock: Disposable | undefined;
      try {
        lock = lockFile(`${path}/lock`, { deadlineMs: deadlineIn(LOCK_MS) });
        if (lock === undefined) {
          throw new CniError(Code.Busy, `Cannot open the leases of "${name}": another process holds "${path}/lock"`, {
            remedy: `Try again; "fuser ${path}/lock" names the process`,
          });
        }
        return new ReferencePool(name, dir, lock, this.#beside(o.beside));
      } finally {
        if (lock === undefined) dir[Symbol.dispose]();
      }
    } catch (cause) {
      if (isErrno(cause, Errno.ENOENT) && !o.create) return undefined;
      throw ioFailure(`Cannot open the leases of "${name}"`, `Check that "${path}" can be read and written`, cause);
    }
  }

  #beside(name: string | undefined): Dir | undefined {
    try {
      return name === undefined ? undefined : Dir.open(`${this.#dataDir}/${name}`);
    } catch (cause) {
      if (isErrno(cause, Errno.ENOENT)) return undefined;
      throw cause;
    }
  }

  pools(): string[] {
    try {
      using dir = Dir.open(this.#dataDir);
      return dir.list();
    } catch (cause) {
      if (isErrno(cause, Errno.ENOENT)) return [];
      throw ioFailure(`Cannot list the leases in "${this.#dataDir}"`, "Check that the directory is readable", cause);
    }
  }

  probe(): void {
    try {
      using _ = Dir.open(this.#dataDir, { create: true });
    } catch (cause) {
      throw new CniError(Code.NotAvailable, `Cannot keep leases in "${this.#dataDir}"`, {
        remedy: "Make it a writable directory on a local file system",
        cause,
      });
    }
  }
}

class ReferencePool implements LeasePool {
  readonly name: string;
  readonly #dir: Dir;
  readonly #lock: Disposable;
  readonly #beside: Dir | undefined;
  #open = true;

  constructor(name: string, dir: Dir, lock: Disposable, beside: Dir | undefined) {
    this.#beside = beside;
    this.name = name;
    this.#dir = dir;
    this.#lock = lock;
  }

  taken(address: string): boolean {
    return this.#dir.mtimeMs(address) !== undefined || this.#beside?.mtimeMs(address) !== undefined;
  }

  acquire(address: string, owner: LeaseOwner): boolean {
    if (this.#beside?.mtimeMs(address) !== undefined) return false;
    try {
      return this.#dir.createWhole(address, encoder.encode(`${owner.container}\r\n${owner.ifname}`));
    } catch (cause) {
      throw ioFailure(
        `Cannot lease "${address}" of "${this.name}"`,
        `Check that "${this.#dir.path}" is writable`,
        cause,
      );
    }
  }

  release(address: string, owner: Pick<LeaseOwner, "container" | "ifname">): Released {
    const found = this.owner(address);
    if (found === undefined) return "absent";
    if (found.owner === undefined) return "unreadable";
    const old = found.owner.ifname === "" && found.owner.container === owner.container;
    if (!old && !sameOwner(found.owner, owner)) return "other";
    this.#remove(address);
    return "released";
  }

  owner(address: string): Lease | undefined {
    let bytes: Uint8Array | undefined;
    try {
      bytes = this.#dir.read(address, MAX_LEASE_BYTES);
    } catch (cause) {
      if (isErrno(cause, Errno.EFBIG, Errno.EINVAL, Errno.ELOOP)) return { address, owner: undefined };
      throw ioFailure(`Cannot read the lease of "${address}" of "${this.name}"`, "Check the directory", cause);
    }
    return bytes && { address, owner: parseReferenceLease(bytes) };
  }

  list(): Lease[] {
    return this.#dir.list().flatMap((name) => (parseIp(name) === undefined ? [] : (this.owner(name) ?? [])));
  }

  addresses(): Set<string> {
    return new Set([...this.#dir.list(), ...(this.#beside?.list() ?? [])]);
  }

  reclaim(address: string): void {
    this.#remove(address);
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
    const bytes = this.#dir.read(`last_reserved_ip.${set}`, MAX_LEASE_BYTES);
    return bytes && decoder.decode(bytes).trim();
  }

  setLast(set: number, address: string): void {
    try {
      this.#dir.replace(`last_reserved_ip.${set}`, encoder.encode(address));
    } catch {
      // The next search begins where an earlier one did: slower, not wrong.
    }
  }

  /** Gives the lock back; the directory and what the reference keeps in it stay, as it leaves them. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#lock[Symbol.dispose]();
    this.#dir[Symbol.dispose]();
    this.#beside?.[Symbol.dispose]();
  }
}

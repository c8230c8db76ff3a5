/**
 * The state of this node: journals, leases, network objects below `/run/patchbay/<generation>`, records that outlive
 * the kernel below `/var/lib/patchbay`. A generation is one boot and one network namespace of ours; what another one
 * left is listed, never used.
 */
import { type ContainerId, parseContainerId } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { leftMs, monotonicMs } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { namesInDirectory, nodeFs } from "../sys/files.ts";
import { isAlive } from "../sys/process-id.ts";
import { ContainerState, readJournals } from "./container.ts";
import { Devices } from "./devices.ts";
import { DhcpLeases } from "./dhcp.ts";
import { Durable } from "./durable.ts";
import { ioFailure } from "./failure.ts";
import { type Holder, readHolder, writeHolder } from "./holder.ts";
import type { Journal } from "./journal.ts";
import { Leases } from "./leases.ts";
import { NetworkObjects } from "./networks.ts";
import { OperationsLog } from "./oplog.ts";
import { Quarantine } from "./quarantine.ts";

/** How long one look at a busy lock lasts before `onBusy` hears of it again. */
const BUSY_SLICE_MS = 100;

export interface StoreOptions {
  /** `/run/patchbay` unless told. */
  readonly runDir?: string;
  /** `/var/lib/patchbay` unless told. */
  readonly libDir?: string;
  /** Where the reference host-local keeps its files: `/var/lib/cni/networks` unless told. */
  readonly referenceDir?: string;
  /** The identity of our own network namespace. */
  readonly netnsCookie: bigint;
  readonly bootId: string;
}

export interface ContainerOptions {
  /** False: a container that nothing is known of is `undefined`, and no file is made. */
  readonly create: boolean;
  /** A point on the monotonic clock. */
  readonly deadlineMs: number;
  /** A process above us holds the lock and waits for us: go on under it. */
  readonly held?: boolean;
  /** Who we are, for those who wait for us. */
  readonly as: Holder;
  /** Called about ten times a second while another process holds the lock. What it throws ends the wait. */
  onBusy?(holder: Holder, waitedMs: number): void;
}

/** What an earlier boot, or a process in another network namespace, left below the run directory. */
export interface Generation {
  readonly name: string;
  /** The first 8 hexadecimal digits of the boot id. */
  readonly boot: string;
  /** Decimal digits. */
  readonly netnsCookie: string;
  readonly earlierBoot: boolean;
}

const GENERATION = /^([0-9a-f]{8})-(\d{1,20})$/;

export class Store implements Disposable {
  /** `/run/patchbay/<generation>` */
  readonly path: string;
  readonly leases: Leases;
  readonly networks: NetworkObjects;
  readonly durable: Durable;
  readonly dhcp: DhcpLeases;
  readonly devices: Devices;
  readonly log: OperationsLog;
  readonly #runDir: string;
  readonly #boot: string;
  readonly #generation: string;
  readonly #quarantine: Quarantine;
  #containers: Dir | undefined;

  private constructor(o: StoreOptions) {
    this.#runDir = o.runDir ?? "/run/patchbay";
    const libDir = o.libDir ?? "/var/lib/patchbay";
    this.#boot = o.bootId.slice(0, 8).toLowerCase();
    this.#generation = `${this.#boot}-${o.netnsCookie}`;
    this.path = `${this.#runDir}/${this.#generation}`;
    this.#quarantine = new Quarantine(`${this.path}/quarantine`);
    this.leases = new Leases(this.path, o.referenceDir ?? "/var/lib/cni/networks", this.#quarantine);
    this.networks = new NetworkObjects(`${this.path}/networks`);
    this.durable = new Durable(libDir, o.bootId);
    this.dhcp = new DhcpLeases(libDir, this.path, o.bootId);
    this.devices = new Devices(libDir, o.bootId);
    this.log = new OperationsLog(this.#runDir);
  }

  /** Makes nothing until something is to be kept. */
  static open(o: StoreOptions): Store {
    return new Store(o);
  }

  /**
   * Takes the lock of a container id, waiting for it until the deadline.
   *
   * @returns The state under that lock, to be disposed of; `undefined` when there is none and `create` is false.
   * @throws {CniError} 104 when another process still holds the lock at the deadline, 5 when the directory cannot be
   * made or locked.
   */
  container(id: ContainerId, o: ContainerOptions): ContainerState | undefined {
    try {
      return this.#lockContainer(id, o);
    } catch (cause) {
      throw ioFailure(
        `Cannot open the state of container "${id}"`,
        `Check that "${this.path}" is a writable directory on a local file system`,
        cause,
      );
    }
  }

  #lockContainer(id: ContainerId, o: ContainerOptions): ContainerState | undefined {
    const parent = this.#openContainers(o.create);
    if (parent === undefined) return undefined;
    const path = `${this.path}/containers/${id}`;
    const startMs = monotonicMs();
    for (;;) {
      const dir = openSub(parent, id, o);
      if (dir === undefined) return undefined;
      let lock: Disposable | undefined;
      try {
        if (o.held) return new ContainerState({ id, dir, path, parent, quarantine: this.#quarantine });
        lock = waitForLock(dir, path, id, o, startMs);
        // The former holder may have removed the directory with its last journal: then ours has no name.
        if (dir.stillNamed(parent, id)) {
          writeHolder(path, o.as);
          const state = new ContainerState({ id, dir, path, lock, parent, quarantine: this.#quarantine });
          lock = undefined;
          return state;
        }
      } catch (cause) {
        lock?.[Symbol.dispose]();
        dir[Symbol.dispose]();
        throw cause;
      }
      lock[Symbol.dispose]();
      dir[Symbol.dispose]();
    }
  }

  #openContainers(create: boolean): Dir | undefined {
    if (this.#containers !== undefined) return this.#containers;
    const path = `${this.path}/containers`;
    try {
      this.#containers = Dir.open(path);
    } catch (cause) {
      if (!isErrno(cause, Errno.ENOENT)) throw cause;
      if (!create) return undefined;
      this.#containers = Dir.open(path, { create: true });
    }
    return this.#containers;
  }

  /** The containers that have a journal now, or had one when a process was killed. */
  containers(): ContainerId[] {
    const ids: ContainerId[] = [];
    for (const name of this.#openContainers(false)?.list() ?? []) {
      try {
        ids.push(parseContainerId(name));
      } catch {
        // Nothing of ours: every name there has passed the same check.
      }
    }
    return ids;
  }

  /** A container's journals as they are now, without its lock: for showing them, never for acting on them. */
  peek(id: ContainerId): readonly Journal[] {
    try {
      using dir = this.#openContainers(false)?.sub(id);
      return dir === undefined ? [] : readJournals(dir);
    } catch (cause) {
      if (isErrno(cause, Errno.ENOENT)) return [];
      throw ioFailure(`Cannot read the state of container "${id}"`, `Check that "${this.path}" is readable`, cause);
    }
  }

  /** Directories of earlier boots and of other network namespaces. */
  foreign(): Generation[] {
    let names: string[];
    try {
      names = namesInDirectory(this.#runDir);
    } catch {
      return [];
    }
    return names.flatMap((name) => {
      const [, boot, netnsCookie] = GENERATION.exec(name) ?? [];
      if (boot === undefined || netnsCookie === undefined || name === this.#generation) return [];
      return [{ name, boot, netnsCookie, earlierBoot: boot !== this.#boot }];
    });
  }

  /**
   * Deletes what an earlier boot left: its links, addresses and rules went with that kernel.
   *
   * @throws {CniError} 101 for a generation of this boot, whose namespace may be in use.
   */
  removeForeign(generation: Generation): void {
    if (!GENERATION.test(generation.name) || !generation.earlierBoot || generation.name.startsWith(this.#boot)) {
      throw new CniError(Code.NotAllowed, `Cannot remove "${generation.name}": it is of this boot`, {
        remedy: "Run patchbay in the network namespace that it belongs to, and delete its containers",
      });
    }
    nodeFs().rmSync(`${this.#runDir}/${generation.name}`, { recursive: true, force: true });
  }

  /** Names of files that were not as we wrote them; they lie in `<path>/quarantine`. */
  quarantined(): string[] {
    return this.#quarantine.list();
  }

  [Symbol.dispose](): void {
    this.#containers?.[Symbol.dispose]();
    this.#containers = undefined;
    this.leases[Symbol.dispose]();
  }
}

/** The former holder may remove the directory between our finding it and our opening it. */
function openSub(parent: Dir, id: ContainerId, o: ContainerOptions): Dir | undefined {
  for (;;) {
    try {
      return parent.sub(id, { create: o.create });
    } catch (cause) {
      if (!isErrno(cause, Errno.ENOENT) || leftMs(o.deadlineMs) === 0) throw cause;
    }
  }
}

function waitForLock(dir: Dir, path: string, id: ContainerId, o: ContainerOptions, startMs: number): Disposable {
  for (let first = true; ; first = false) {
    const now = monotonicMs();
    const slice = first ? now : Math.min(o.deadlineMs, now + BUSY_SLICE_MS);
    const lock = dir.lock({ deadlineMs: slice });
    if (lock !== undefined) return lock;
    const holder = holderOf(dir, path);
    if (leftMs(o.deadlineMs) === 0) throw busy(id, holder);
    if (holder !== undefined) o.onBusy?.(holder, monotonicMs() - startMs);
  }
}

/** By its own record, else by what the kernel knows: a holder that was just now started has not written it yet. */
function holderOf(dir: Dir, path: string): Holder | undefined {
  const recorded = readHolder(path);
  if (recorded !== undefined && isAlive(recorded)) return recorded;
  const [process] = dir.lockHolders();
  return process === undefined ? undefined : { ...process, command: "", operation: "" };
}

function busy(id: ContainerId, holder: Holder | undefined): CniError {
  const doing = holder?.command ? ` (${holder.command} ${holder.operation})` : "";
  const who = holder === undefined ? "another process" : `process ${holder.pid}${doing}`;
  return new CniError(Code.Busy, `Cannot work on container "${id}": ${who} is at it`, {
    remedy: holder === undefined ? "Try again" : `Try again; if process ${holder.pid} hangs, end it`,
  });
}

/**
 * DHCP leases of attachments. They outlive every process: a server counts a lease until it runs out or is given back,
 * and what renews them has to find them again after a restart. A record is on the disk before a server is asked for
 * what it offered, and goes when the lease was given back or is nobody's any more.
 */
import { derive } from "../base/hash.ts";
import type { JsonObject } from "../base/json.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { statOf } from "../sys/files.ts";
import { sweepUnfinished } from "./durable.ts";
import { ioFailure } from "./failure.ts";
import { formatLine, readRecord } from "./line.ts";
import { Quarantine } from "./quarantine.ts";

const MAX_RECORD_BYTES = 256 << 10;
const RECORD = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,127})@([0-9a-f]{16})\.lease$/;
/** Holders are quick: they write one file, or send one packet. */
const LOCK_MS = 10_000;
/** Whoever only looks holds the lock for less. */
const RENEWER_MS = 2000;

export interface DhcpIdentity {
  readonly container: string;
  /** The name of the configuration list. */
  readonly network: string;
  readonly ifname: string;
}

export interface DhcpRecord extends DhcpIdentity {
  readonly format: 1;
  readonly bootId: string;
  /** A journal leads to it; else it is a CNI binary's that runs us by the name of a link. */
  readonly journal: boolean;
  readonly netns: { readonly path: string /** Decimal digits. */; readonly cookie: string };
  readonly link: { readonly index: number; readonly mac: string };
  /** How we ask: option 61 and further ones in hexadecimal digits, option 55. */
  readonly client: {
    readonly id: string;
    readonly requested: readonly number[];
    readonly provided: readonly (readonly [number, string])[];
  };
  /** "asked": a server may have leased it to us. "expired": it ran out or was refused, and the link was set down. */
  readonly state: "asked" | "bound" | "expired";
  /** With its prefix length. */
  readonly address: string;
  readonly server: string;
  readonly serverMac: string;
  /** Milliseconds since boot, and seconds from there; `0xffffffff` for never. */
  readonly askedMs: number;
  readonly times: { readonly lease: number; readonly renew: number; readonly rebind: number };
  /** What ADD answered. */
  readonly result: JsonObject;
  readonly timeServers: readonly string[];
}

export type FoundDhcpRecord = DhcpRecord & { readonly earlierBoot: boolean };

export class DhcpLeases {
  readonly #path: string;
  readonly #renewerPath: string;
  readonly #bootId: string;
  readonly #quarantine: Quarantine;

  /** @param libDir `/var/lib/patchbay` @param runPath `/run/patchbay/<generation>` */
  constructor(libDir: string, runPath: string, bootId: string) {
    this.#path = `${libDir}/dhcp`;
    this.#renewerPath = `${runPath}/dhcp`;
    this.#bootId = bootId;
    this.#quarantine = new Quarantine(`${libDir}/quarantine`);
  }

  /** Returns when the record is on the disk. @throws {CniError} 5 */
  put(record: Omit<DhcpRecord, "format" | "bootId">): void {
    try {
      using dir = Dir.open(this.#path, { create: true });
      write(dir, { ...record, format: 1, bootId: this.#bootId });
    } catch (cause) {
      throw this.#failure("write", record, cause);
    }
  }

  /** @throws {CniError} 5 */
  get(id: DhcpIdentity): FoundDhcpRecord | undefined {
    try {
      using dir = this.#open();
      return dir && this.#read(dir, fileName(id));
    } catch (cause) {
      throw this.#failure("read", id, cause);
    }
  }

  /** All records, or a container's. One that is damaged is moved to quarantine and left out. @throws {CniError} 5 */
  list(container?: string): FoundDhcpRecord[] {
    try {
      using dir = this.#open();
      return (dir?.list() ?? []).flatMap((name) => {
        const [, owner] = RECORD.exec(name) ?? [];
        if (dir === undefined || owner === undefined || (container !== undefined && owner !== container)) return [];
        return this.#read(dir, name) ?? [];
      });
    } catch (cause) {
      throw ioFailure(`Cannot read the DHCP leases in "${this.#path}"`, "Check the file system", cause);
    }
  }

  /** As `Durable.sweep()`. */
  sweep(): void {
    sweepUnfinished(this.#path);
  }

  /** What a change to the records changes: whoever watches them looks at this often. */
  version(): string {
    return statOf(this.#path)?.state ?? "";
  }

  /**
   * Does something with a lease that no other process does meanwhile, so that nobody prolongs what another gives back.
   * It must not take long. Where there is no such record, nothing is done.
   *
   * @param work Gets the record as it is now. What it returns takes the record's place; "remove" removes it.
   * @throws {CniError} 5; whatever `work` throws
   */
  alone(id: DhcpIdentity, work: (record: FoundDhcpRecord) => DhcpRecord | "remove" | undefined): void {
    try {
      using dir = this.#open();
      if (dir === undefined) return;
      // Without the lock the work is done too: what cannot be had in ten seconds must not keep a lease from its end.
      using _ = dir.lock({ deadlineMs: deadlineIn(LOCK_MS) });
      const record = this.#read(dir, fileName(id));
      const next = record === undefined ? "remove" : work(record); // what a kill left of a record that never was
      if (next === "remove") dir.removeReplaced(fileName(id));
      else if (next !== undefined) write(dir, next);
    } catch (cause) {
      throw this.#failure("change", id, cause);
    }
  }

  // --- what renews them --------------------------------------------------------------------------------------------

  /**
   * Is what renews the leases of this node, until it is disposed of or the process ends, however it ends.
   *
   * @returns undefined when another process is that already. @throws {CniError} 5
   */
  becomeRenewer(): Disposable | undefined {
    try {
      using dir = Dir.open(this.#renewerPath, { create: true });
      return dir.lock({ deadlineMs: deadlineIn(RENEWER_MS) });
    } catch (cause) {
      throw ioFailure(`Cannot lock "${this.#renewerPath}"`, "Check that the state directory is writable", cause);
    }
  }

  /** Whether a process renews the leases now: the lock is the kernel's, so no file of a dead one can say so. */
  get isRenewed(): boolean {
    try {
      using dir = Dir.open(this.#renewerPath);
      using free = dir.lock({ deadlineMs: 0, shared: true });
      return free === undefined;
    } catch (thrown) {
      if (isErrno(thrown, Errno.ENOENT, Errno.ENOTDIR)) return false;
      throw ioFailure(`Cannot look at "${this.#renewerPath}"`, "Check that the state directory can be read", thrown);
    }
  }

  /** Most nodes have no DHCP lease: a look is cheaper than an exception. */
  #open(): Dir | undefined {
    return statOf(this.#path) && Dir.open(this.#path);
  }

  #read(dir: Dir, name: string): FoundDhcpRecord | undefined {
    const record = readRecord(dir, name, MAX_RECORD_BYTES);
    if (record === undefined) return undefined;
    // The sum shows that we wrote it, and the format number that it was in this shape.
    const known = record as unknown as DhcpRecord;
    if (record !== "damaged" && record.format === 1 && fileName(known) === name) {
      return { ...known, earlierBoot: known.bootId !== this.#bootId };
    }
    this.#quarantine.take(`${dir.path}/${name}`, name);
    return undefined;
  }

  #failure(verb: string, { container, ifname }: DhcpIdentity, cause: unknown): unknown {
    return ioFailure(
      `Cannot ${verb} the DHCP lease of "${ifname}" of container "${container}"`,
      `Check that "${this.#path}" can be read and written`,
      cause,
    );
  }
}

function fileName({ container, network, ifname }: DhcpIdentity): string {
  return `${container}@${derive(16, container, network, ifname)}.lease`;
}

function write(dir: Dir, record: DhcpRecord): void {
  const { earlierBoot: _, ...plain } = record as FoundDhcpRecord;
  dir.replace(fileName(record), formatLine(plain), { durable: true });
}

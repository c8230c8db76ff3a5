/**
 * Devices of the node that attachments have borrowed: whose each is now, and what it was before. A device outlives the
 * pod's namespace, our process and, in its firmware, the boot, so this is on the disk before anything of it is changed.
 *
 * A device has a directory of its own, whose lock is held for as long as somebody decides about the device or brings it
 * home, and in it one file, the record of who has it.
 */
import { CniError, Code } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { statOf } from "../sys/files.ts";
import type { AttachmentHeader } from "./entries.ts";
import { ioFailure } from "./failure.ts";
import { formatLine, readRecord } from "./line.ts";
import { Quarantine } from "./quarantine.ts";

const RECORD = "record";
const MAX_RECORD_BYTES = 64 << 10;
const LOCK_MS = 10_000;

/** Which attachment has a device. */
export interface DeviceOwner {
  readonly container: string;
  readonly network: string;
  readonly ifname: string;
  /** `Journal.key` */
  readonly key: string;
  readonly netns: AttachmentHeader["netns"];
  readonly pod?: AttachmentHeader["pod"];
}

export interface DeviceRecord {
  readonly format: 1;
  readonly bootId: string;
  readonly owner: DeviceOwner;
  /** Absent for a link that is no device's, such as one end of a veth. */
  readonly device?: { readonly bus: string; readonly name: string; readonly driver?: string };
  /** Its interface on the node, as it was; absent for a device that a program drives. */
  readonly link?: JsonObject & { readonly name: string };
  /** The virtual function, as its physical function had it. */
  readonly vf?: { readonly of: string; readonly number: number; readonly former: JsonObject };
}

/** One device, under its lock. */
export interface LockedDevice {
  readonly key: string;
  /** Undefined when nobody has it. */
  read(): (DeviceRecord & { readonly earlierBoot: boolean }) | undefined;
  /** Returns when it is on the disk. @throws {CniError} 5 */
  write(record: Omit<DeviceRecord, "format" | "bootId">): void;
  remove(): void;
}

export class Devices {
  readonly #path: string;
  readonly #bootId: string;
  readonly #quarantine: Quarantine;

  /** @param libDir `/var/lib/patchbay` */
  constructor(libDir: string, bootId: string) {
    this.#path = `${libDir}/devices`;
    this.#bootId = bootId;
    this.#quarantine = new Quarantine(`${libDir}/quarantine`);
  }

  /**
   * Works on one device, which nobody else does meanwhile.
   *
   * @param o.create false answers undefined for a device that nobody has.
   * @throws {CniError} 5, 104 when somebody else is at it for 10 s; whatever `work` throws
   */
  locked<T>(key: string, o: { readonly create: boolean }, work: (device: LockedDevice) => T): T | undefined {
    const name = encodeURIComponent(key);
    const deadlineMs = deadlineIn(LOCK_MS);
    for (;;) {
      using root = this.#guard(key, () => this.#open(o.create));
      using dir = this.#guard(key, () => root?.sub(name, { create: o.create }));
      if (root === undefined || dir === undefined) return undefined;
      using lock = this.#guard(key, () => dir.lock({ deadlineMs }));
      if (lock === undefined) throw busy(key, dir);
      if (!dir.stillNamed(root, name)) continue;
      try {
        return work(this.#device(key, dir));
      } finally {
        // With what a killed writer left beside the record that it never finished.
        if (this.#guard(key, () => this.#read(dir, key)) === undefined) dir.removeReplaced(RECORD);
        root.removeDir(name); // says no while there is a record
      }
    }
  }

  /** Whether a device was ever lent on this node; asked on every DEL. */
  get used(): boolean {
    return statOf(this.#path) !== undefined;
  }

  /** Every device that somebody has, without its lock: for showing, and for finding what to lock. @throws {CniError} 5 */
  list(): readonly (DeviceRecord & { readonly key: string; readonly earlierBoot: boolean })[] {
    return this.#guard("", () => {
      using root = this.#open(false);
      return (root?.list() ?? []).flatMap((name) => {
        using dir = root?.sub(name);
        const key = decodeURIComponent(name);
        const record = dir && this.#read(dir, key);
        return record === undefined ? [] : [{ ...record, key }];
      });
    });
  }

  #device(key: string, dir: Dir): LockedDevice {
    return {
      key,
      read: () => this.#guard(key, () => this.#read(dir, key)),
      write: (record) =>
        this.#guard(key, () => {
          dir.replace(RECORD, formatLine({ ...record, format: 1, bootId: this.#bootId }), { durable: true });
        }),
      // Not waited for: a record that a power failure brings back is of an earlier boot, which means nothing.
      remove: () => this.#guard(key, () => void dir.removeReplaced(RECORD)),
    };
  }

  #read(dir: Dir, key: string): (DeviceRecord & { readonly earlierBoot: boolean }) | undefined {
    const value = readRecord(dir, RECORD, MAX_RECORD_BYTES);
    if (value === undefined) return undefined;
    if (value === "damaged" || value.format !== 1) {
      this.#quarantine.take(`${dir.path}/${RECORD}`, `device@${key}`);
      return undefined;
    }
    // The sum shows that we wrote it, and the format number that it was in this shape.
    const record = value as unknown as DeviceRecord;
    return { ...record, earlierBoot: record.bootId !== this.#bootId };
  }

  #open(create: boolean): Dir | undefined {
    try {
      return Dir.open(this.#path, { create });
    } catch (cause) {
      if (!create && isErrno(cause, Errno.ENOENT)) return undefined;
      throw cause;
    }
  }

  #guard<T>(key: string, work: () => T): T {
    try {
      return work();
    } catch (cause) {
      const what = key === "" ? "the records of devices" : `the record of device "${key}"`;
      throw ioFailure(`Cannot use ${what}`, `Check that "${this.#path}" can be read and written`, cause);
    }
  }
}

function busy(key: string, dir: Dir): CniError {
  const [holder] = dir.lockHolders();
  return new CniError(Code.Busy, `Cannot use device "${key}": process ${holder?.pid ?? "?"} is at it`, {
    remedy: "Try again",
  });
}

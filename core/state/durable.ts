/**
 * What must outlive the kernel: for every delegate that is a CNI binary or a module with `"undo": "guest"`, all that
 * its DEL needs. A record is on the disk before its delegate runs. The result that the delegate gave is put beside it
 * without waiting for the disk: a DEL after a power failure may lack it, as CNI allows, and a DEL after a reboot needs
 * it for nothing that the reboot did not take.
 */
import type { JsonObject } from "../base/json.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { linkStatOf, namesInDirectory, unlink } from "../sys/files.ts";
import { ioFailure } from "./failure.ts";
import { formatLine, readRecord } from "./line.ts";
import { Quarantine } from "./quarantine.ts";

const MAX_RECORD_BYTES = 4 << 20;
const RECORD = /^([A-Za-z0-9][A-Za-z0-9_.-]{0,127})@([0-9a-f]{16})-(\d{1,4})\.record$/;

/** As `Dir.replace()` names what it is writing. */
const UNFINISHED = /^\..*\.new$/;
/** No writer takes that long. */
const WRITER_MS = 3_600_000;

/** Which delegate's record it is. */
export interface RecordId {
  readonly container: string;
  /** `Journal.key` */
  readonly key: string;
  /** The delegate's place in its list. */
  readonly plugin: number;
}

export interface DurableRecord extends RecordId {
  readonly format: 1;
  readonly bootId: string;
  readonly network: string;
  readonly ifname: string;
  readonly type: string;
  readonly how: "guest" | "binary" | "ipam";
  readonly sha256?: string;
  /** As CNI_NETNS had it; DEL of an earlier boot's attachment gets "" instead. */
  readonly netns: string;
  /** The configuration as the delegate got it, byte for byte the same value. */
  readonly config: JsonObject;
  /** As CNI_ARGS had it. */
  readonly args: string;
  /** As CNI_PATH had it. */
  readonly path: string;
  /** As in the header of the journal. */
  readonly author?: { readonly namespace: string; readonly nodeFile?: true };
  readonly pod?: { readonly namespace: string; readonly name: string; readonly uid?: string };
}

/** A record with what its delegate last answered, and the notes of a module that undoes itself. */
export type FoundRecord = DurableRecord & {
  readonly result?: JsonObject;
  readonly notes: Readonly<Record<string, string>>;
  readonly earlierBoot: boolean;
};

export class Durable {
  readonly #path: string;
  readonly #bootId: string;
  readonly #quarantine: Quarantine;

  /** @param libDir `/var/lib/patchbay` */
  constructor(libDir: string, bootId: string) {
    this.#path = `${libDir}/records`;
    this.#bootId = bootId;
    this.#quarantine = new Quarantine(`${libDir}/quarantine`);
  }

  /** Returns when the record is on the disk: one flush of the file, one of its directory. @throws {CniError} 5 */
  put(record: Omit<DurableRecord, "format" | "bootId">): void {
    try {
      using dir = Dir.open(this.#path, { create: true });
      dir.replace(recordName(record), formatLine({ ...record, format: 1, bootId: this.#bootId }), { durable: true });
    } catch (cause) {
      throw this.#failure("write", record, cause);
    }
  }

  /** @throws {CniError} 5 */
  putResult(id: RecordId, result: JsonObject): void {
    try {
      using dir = Dir.open(this.#path, { create: true });
      dir.replace(resultName(id), formatLine(result));
    } catch (cause) {
      throw this.#failure("write", id, cause);
    }
  }

  /**
   * Replaces the notes of a module that undoes itself. They speak of effects outside the kernel, so they are on the
   * disk when this returns.
   *
   * @throws {CniError} 5
   */
  putNotes(id: RecordId, notes: Readonly<Record<string, string>>): void {
    try {
      using dir = Dir.open(this.#path, { create: true });
      dir.replace(notesName(id), formatLine(notes), { durable: true });
    } catch (cause) {
      throw this.#failure("write", id, cause);
    }
  }

  /** @throws {CniError} 5 */
  get(id: RecordId): FoundRecord | undefined {
    try {
      using dir = this.#open();
      return dir && this.#read(dir, recordName(id));
    } catch (cause) {
      throw this.#failure("read", id, cause);
    }
  }

  /** All records, or a container's. One that is damaged is moved to quarantine and left out. @throws {CniError} 5 */
  list(container?: string): FoundRecord[] {
    try {
      using dir = this.#open();
      return (dir?.list() ?? []).flatMap((name) => {
        const [, owner] = RECORD.exec(name) ?? [];
        if (dir === undefined || owner === undefined || (container !== undefined && owner !== container)) return [];
        return this.#read(dir, name) ?? [];
      });
    } catch (cause) {
      throw ioFailure(`Cannot read the records in "${this.#path}"`, "Check the file system", cause);
    }
  }

  /**
   * Its delegate's DEL is done. The disk is not waited for: a record that a power failure brings back leads to a
   * second DEL, which CNI makes harmless.
   *
   * @returns whether there was one. @throws {CniError} 5
   */
  remove(id: RecordId): boolean {
    try {
      using dir = this.#open();
      dir?.removeReplaced(resultName(id));
      dir?.removeReplaced(notesName(id));
      return dir?.removeReplaced(recordName(id)) ?? false;
    } catch (cause) {
      throw this.#failure("remove", id, cause);
    }
  }

  /**
   * Removes what is left of records that a killed process, or a power failure, kept from their place, when no writer can
   * still be at them. A DEL of the same boot has removed its own already.
   */
  sweep(): void {
    sweepUnfinished(this.#path);
  }

  #open(): Dir | undefined {
    try {
      return Dir.open(this.#path);
    } catch (cause) {
      if (isErrno(cause, Errno.ENOENT)) return undefined;
      throw cause;
    }
  }

  #read(dir: Dir, name: string): FoundRecord | undefined {
    const record = readRecord(dir, name, MAX_RECORD_BYTES);
    if (record === undefined) return undefined;
    const [, container, key, plugin] = RECORD.exec(name) ?? [];
    const good =
      record !== "damaged" &&
      record.format === 1 &&
      record.container === container &&
      record.key === key &&
      record.plugin === Number(plugin);
    if (!good) {
      this.#quarantine.take(`${dir.path}/${name}`, name);
      return undefined;
    }
    // The sum shows that we wrote it, and the format number that it was in this shape.
    const known = record as unknown as DurableRecord;
    const result = readRecord(dir, resultName(known), MAX_RECORD_BYTES);
    const found = {
      ...known,
      notes: textsOf(readRecord(dir, notesName(known), MAX_RECORD_BYTES)),
      earlierBoot: known.bootId !== this.#bootId,
    };
    return result === undefined || result === "damaged" ? found : { ...found, result };
  }

  #failure(verb: string, id: RecordId, cause: unknown): unknown {
    return ioFailure(
      `Cannot ${verb} the record of plugin ${id.plugin} of container "${id.container}"`,
      `Check that "${this.#path}" can be read and written`,
      cause,
    );
  }
}

export function sweepUnfinished(directory: string): void {
  const before = Date.now() - WRITER_MS;
  try {
    for (const name of namesInDirectory(directory)) {
      const path = `${directory}/${name}`;
      if (UNFINISHED.test(name) && (linkStatOf(path)?.mtimeMs ?? before) < before) unlink(path);
    }
  } catch {
    // No records yet, or one that another process has just put in its place: there is a next time.
  }
}

const recordName = (id: RecordId): string => `${id.container}@${id.key}-${id.plugin}.record`;
const notesName = (id: RecordId): string => `${id.container}@${id.key}-${id.plugin}.notes`;
const resultName = (id: RecordId): string => `${id.container}@${id.key}-${id.plugin}.result`;

function textsOf(value: JsonObject | "damaged" | undefined): Readonly<Record<string, string>> {
  if (value === undefined || value === "damaged") return {};
  return Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === "string"),
  );
}

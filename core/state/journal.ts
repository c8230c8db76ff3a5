/**
 * The record of one attachment: a header, then one line an entry, appended before each effect and after it. A journal
 * is whole or it is quarantined; a crash leaves a prefix of what was written.
 */
import { CniError, Code } from "../base/error.ts";
import { derive } from "../base/hash.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import type { Appender, Dir } from "../sys/dir.ts";
import type { AttachmentHeader, Entry, UndoStep } from "./entries.ts";
import { ioFailure } from "./failure.ts";
import { formatLine, parseLines } from "./line.ts";

/** A journal grows no further: a guest that sets notes for ever fills no file system. */
export const MAX_JOURNAL_BYTES = 4 << 20;

/** Where an effect's undo is registered before the effect. */
export interface UndoLog {
  readonly entries: readonly Entry[];
  /** Records how to undo what is about to be done. @returns the id for `made()` and `undone()` */
  intend(step: UndoStep): number;
  /** Records that nothing of it is left. Never fails: undoing twice is harmless, so a lost entry costs nothing. */
  undone(id: number): void;
}

/** An undo step that may still have something to undo, with what the kernel made of it. */
export interface PendingUndo {
  readonly id: number;
  readonly step: UndoStep;
  readonly facts: JsonObject | undefined;
}

/** The identity of an attachment as a file name and in derived names: 16 hexadecimal digits. */
export function attachmentKey(of: Pick<AttachmentHeader, "container" | "network" | "ifname" | "type">): string {
  return derive(16, of.container, of.network, of.ifname, of.type);
}

export function journalFileName(header: AttachmentHeader): string {
  return `${header.seq}-${attachmentKey(header)}.journal`;
}

export type ParsedJournal =
  | {
      readonly header: AttachmentHeader;
      readonly entries: readonly Entry[];
      readonly wholeBytes: number;
      readonly torn: boolean;
    }
  | Damaged;

/** Why a file is no journal, and whose it was where its first line is as it was written. */
export interface Damaged {
  readonly damage: string;
  readonly header?: AttachmentHeader;
}

/** Never throws. A line cut short at the end is left out; anything else that is not as written is damage. */
export function parseJournal(bytes: Uint8Array): ParsedJournal {
  const lines = parseLines(bytes);
  const [first, ...rest] = lines.values;
  // The sums show that we wrote these lines, and the format number that it was in these shapes.
  const header = isObject(first) && first.format === 1 ? (first as unknown as AttachmentHeader) : undefined;
  const damaged = (damage: string): Damaged => (header === undefined ? { damage } : { damage, header });
  if (lines.damagedAt !== undefined) return damaged(`line ${lines.damagedAt} is not as it was written`);
  if (first === undefined) return damaged("it has no header");
  if (!isObject(first)) return damaged("its header is no object");
  if (header === undefined) return damaged(`its format is ${JSON.stringify(first.format)}, not 1`);
  if (!rest.every((entry) => isObject(entry) && typeof entry.is === "string")) return damaged("an entry has no kind");
  const entries = rest as unknown as Entry[];
  return { header, entries, wholeBytes: lines.wholeBytes, torn: lines.wholeBytes < bytes.length };
}

export class Journal implements UndoLog, Disposable {
  readonly header: AttachmentHeader;
  readonly key: string;
  readonly fileName: string;
  readonly #dir: Dir;
  readonly #entries: Entry[];
  #nextId: number;
  #bytes: number;
  /** A torn line is at the end of the file: it goes before the next entry is written. */
  #torn: boolean;
  #removed = false;
  #file: Appender | undefined;

  private constructor(
    dir: Dir,
    fileName: string,
    header: AttachmentHeader,
    entries: Entry[],
    bytes: number,
    torn: boolean,
  ) {
    this.#dir = dir;
    this.fileName = fileName;
    this.header = header;
    this.key = attachmentKey(header);
    this.#entries = entries;
    this.#nextId = 1 + entries.reduce((most, entry) => ("id" in entry ? Math.max(most, entry.id) : most), 0);
    this.#bytes = bytes;
    this.#torn = torn;
  }

  /**
   * Makes the file with its header, before anything else is done for the attachment.
   *
   * @param dir Stays the caller's, and outlives the journal.
   * @throws {CniError} 5
   */
  static begin(dir: Dir, header: AttachmentHeader): Journal {
    const fileName = journalFileName(header);
    const line = formatLine(header);
    const sentence = `Cannot begin the journal of "${header.ifname}" in container "${header.container}"`;
    try {
      if (!dir.createWhole(fileName, line)) {
        throw new CniError(Code.Internal, `${sentence}: "${fileName}" is there already`, {
          remedy: "Report this with the log lines of the same container",
        });
      }
    } catch (cause) {
      throw ioFailure(sentence, "Check that the state directory is writable", cause);
    }
    return new Journal(dir, fileName, header, [], line.length, false);
  }

  /** @returns the journal, or why the file is none; `undefined` when it is not there. @throws {SysError} */
  static open(dir: Dir, fileName: string): Journal | Damaged | undefined {
    const bytes = dir.read(fileName, MAX_JOURNAL_BYTES);
    if (bytes === undefined) return undefined;
    const parsed = parseJournal(bytes);
    if (parsed.header !== undefined && journalFileName(parsed.header) !== fileName)
      return { damage: "its header belongs to another file" };
    if ("damage" in parsed) return parsed;
    return new Journal(dir, fileName, parsed.header, [...parsed.entries], parsed.wholeBytes, parsed.torn);
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** The answer of ADD, once it succeeded. */
  get done(): Extract<Entry, { is: "done" }> | undefined {
    return this.#entries.findLast((entry) => entry.is === "done");
  }

  /** What is to undo, the latest first. */
  pending(): PendingUndo[] {
    const undone = new Set<number>();
    const facts = new Map<number, JsonObject>();
    for (const entry of this.#entries) {
      if (entry.is === "undone") undone.add(entry.id);
      else if (entry.is === "made") facts.set(entry.id, { ...facts.get(entry.id), ...entry.facts });
    }
    const pending: PendingUndo[] = [];
    for (const entry of this.#entries) {
      if (entry.is !== "undo" || undone.has(entry.id)) continue;
      pending.push({ id: entry.id, step: entry.step, facts: facts.get(entry.id) });
    }
    return pending.reverse();
  }

  /**
   * Appends one entry with one write(2). When it throws, the file holds what it held, or a torn line that the next
   * reader leaves out: the effect that the entry announces must not be begun.
   *
   * @throws {CniError} 5 when it cannot be written, 125 when the journal would pass `MAX_JOURNAL_BYTES`.
   */
  append(entry: Entry): void {
    if (this.#removed) throw new TypeError(`Cannot append to "${this.fileName}": it was removed`);
    const line = formatLine(entry);
    const sentence = `Cannot record what is done for "${this.header.ifname}" in container "${this.header.container}"`;
    if (this.#bytes + line.length > MAX_JOURNAL_BYTES) {
      throw new CniError(Code.Limit, `${sentence}: the journal would pass ${MAX_JOURNAL_BYTES} bytes`, {
        remedy: "Let the plugins of this network keep fewer or shorter notes",
      });
    }
    try {
      if (this.#torn) this.#cutTornLine();
      this.#file ??= this.#dir.openAppend(this.fileName);
      this.#torn = true; // until the write is known to be whole
      this.#file.write(line);
      this.#torn = false;
    } catch (cause) {
      throw ioFailure(sentence, "Check that the state directory is writable", cause);
    }
    this.#bytes += line.length;
    this.#entries.push(entry);
    if ("id" in entry) this.#nextId = Math.max(this.#nextId, entry.id + 1);
  }

  #cutTornLine(): void {
    const bytes = this.#dir.read(this.fileName, MAX_JOURNAL_BYTES);
    if (bytes === undefined) return;
    this.#file?.[Symbol.dispose]();
    this.#file = undefined;
    if (bytes.length > this.#bytes) this.#dir.replace(this.fileName, bytes.subarray(0, this.#bytes));
    this.#torn = false;
  }

  intend(step: UndoStep): number {
    const id = this.#nextId;
    this.append({ is: "undo", id, step });
    return id;
  }

  /** Records what the kernel made of an intent. @throws {CniError} as `append()` */
  made(id: number, facts: JsonObject): void {
    this.append({ is: "made", id, facts });
  }

  undone(id: number): void {
    try {
      this.append({ is: "undone", id });
    } catch {
      // On a full or read-only disk the undo goes on. In memory it counts, so this process does not undo twice.
      this.#entries.push({ is: "undone", id });
    }
  }

  /** Records that a delegate's process has ended. Never fails: whoever reads looks whether the process lives. */
  ended(plugin: number): void {
    try {
      this.append({ is: "ended", plugin });
    } catch {
      this.#entries.push({ is: "ended", plugin });
    }
  }

  /** ADD succeeded: from here on the attachment is whole. @throws {CniError} as `append()` */
  commit(result: JsonObject, status: readonly Json[]): void {
    this.append({ is: "done", result, status });
  }

  /** The last act of an undo, when nothing of what it names is left. Removing twice is harmless. @throws {CniError} 5 */
  remove(): void {
    this[Symbol.dispose]();
    try {
      this.#dir.remove(this.fileName);
    } catch (cause) {
      throw ioFailure(
        `Cannot remove the journal "${this.fileName}" of container "${this.header.container}"`,
        "Make the file removable (lsattr shows whether it is immutable), then delete the pod again",
        cause,
      );
    }
    this.#removed = true;
  }

  get removed(): boolean {
    return this.#removed;
  }

  [Symbol.dispose](): void {
    this.#file?.[Symbol.dispose]();
    this.#file = undefined;
  }
}

/** What the node knows of one container id, under its lock. */
import type { ContainerId } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import type { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { namesInDirectory, unlink } from "../sys/files.ts";
import type { AttachmentHeader } from "./entries.ts";
import { ioFailure } from "./failure.ts";
import { HOLDER, removeHolder } from "./holder.ts";
import { attachmentKey, type Damaged, Journal } from "./journal.ts";
import type { Quarantine } from "./quarantine.ts";

const JOURNAL = /^(\d{1,9})-[0-9a-f]{16}\.journal$/;

/** Held by the caller from `Store.container()` until it is disposed of; nobody else touches the container's state. */
export class ContainerState implements Disposable {
  readonly id: ContainerId;
  readonly #dir: Dir;
  readonly #path: string;
  readonly #lock: Disposable | undefined;
  readonly #parent: Dir;
  readonly #quarantine: Quarantine;
  #journals: Journal[] | undefined;
  #damaged: (Damaged & { readonly name: string })[] = [];
  #open = true;

  /** Only for `Store`. Takes over `dir` and `lock`; `parent` stays the store's. Without a lock, its holder tidies up. */
  constructor(parts: {
    id: ContainerId;
    dir: Dir;
    path: string;
    lock?: Disposable;
    parent: Dir;
    quarantine: Quarantine;
  }) {
    this.id = parts.id;
    this.#dir = parts.dir;
    this.#path = parts.path;
    this.#lock = parts.lock;
    this.#parent = parts.parent;
    this.#quarantine = parts.quarantine;
  }

  /**
   * The journals, in the order of their ADD. They are this object's to dispose of.
   *
   * @throws {CniError} 5 when the directory cannot be read.
   */
  attachments(): Journal[] {
    if (this.#journals === undefined) {
      try {
        this.#journals = this.#load();
      } catch (cause) {
        throw ioFailure(
          `Cannot read the state of container "${this.id}"`,
          `Check that "${this.#path}" is readable`,
          cause,
        );
      }
    }
    return this.#journals.filter((journal) => !journal.removed);
  }

  /**
   * What was found damaged, one line each. When there is any, DEL must also go by derived names and by the container id
   * in the lease files. It stays in its place until `quarantine()`: whoever else looks must not take it from DEL.
   *
   * @throws {CniError} 5
   */
  get damaged(): readonly string[] {
    this.attachments();
    return this.#damaged.map(({ name, damage }) => `${name}: ${damage}`);
  }

  /** Whose the damaged journals were, as far as they can tell. */
  get lost(): readonly AttachmentHeader[] {
    return this.#damaged.flatMap(({ header }) => header ?? []);
  }

  /** Puts aside what is damaged: all that it can have named is gone. */
  quarantine(): void {
    for (const { name } of this.#damaged.splice(0))
      this.#quarantine.take(`${this.#path}/${name}`, `${this.id}@${name}`);
  }

  #load(): Journal[] {
    const journals: Journal[] = [];
    for (const name of this.#dir.list()) {
      if (name === HOLDER) continue;
      const opened = JOURNAL.test(name) ? this.#openJournal(name) : { damage: "it is none of our files" };
      if (opened === undefined) continue;
      if (opened instanceof Journal) journals.push(opened);
      else this.#damaged.push({ name, ...opened });
    }
    return journals.sort((a, b) => a.header.seq - b.header.seq);
  }

  #openJournal(name: string): Journal | Damaged | undefined {
    try {
      const opened = Journal.open(this.#dir, name);
      if (opened?.header !== undefined && opened.header.container !== this.id)
        return { damage: "it is another container's" };
      return opened;
    } catch (cause) {
      if (isErrno(cause, Errno.EFBIG, Errno.EINVAL, Errno.ELOOP)) return { damage: "it is too large, or no file" };
      throw cause;
    }
  }

  /**
   * Begins the journal of a new attachment; its number follows the highest there is.
   *
   * @throws {CniError} 5 when it cannot be written, 4 when the same attachment has a journal: undo that first.
   */
  begin(header: Omit<AttachmentHeader, "format" | "seq">): Journal {
    const journals = this.attachments();
    const key = attachmentKey(header);
    if (journals.some((journal) => journal.key === key)) {
      throw new CniError(
        Code.InvalidEnvironment,
        `Cannot add "${header.ifname}" of network "${header.network}" to container "${this.id}": it is there already`,
        { remedy: "Delete the attachment before adding it again" },
      );
    }
    const damaged = this.#damaged.map(({ name }) => Number(JOURNAL.exec(name)?.[1] ?? 0));
    const seq = 1 + Math.max(0, ...journals.map((journal) => journal.header.seq), ...damaged);
    const journal = Journal.begin(this.#dir, { ...header, format: 1, seq });
    this.#journals?.push(journal);
    return journal;
  }

  /** Gives the lock back, and leaves no file when no attachment is left. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    for (const journal of this.#journals ?? []) journal[Symbol.dispose]();
    if (this.#lock === undefined) {
      this.#dir[Symbol.dispose]();
      return;
    }
    removeHolder(this.#path);
    try {
      // Says no while a journal is left, or what a crash kept from its place: that begins with a dot.
      if (!this.#parent.removeDir(this.id) && this.#dir.list().length === 0) {
        sweep(this.#path);
        this.#parent.removeDir(this.id);
      }
    } catch {
      // An empty directory says nothing, and the caller has to hear of what went wrong before, not of this.
    } finally {
      this.#lock[Symbol.dispose]();
      this.#dir[Symbol.dispose]();
    }
  }
}

function sweep(directory: string): void {
  for (const name of namesInDirectory(directory)) if (name.startsWith(".")) unlink(`${directory}/${name}`);
}

/** The journals of a container's directory that can be read, without its lock; nothing is moved or mended. */
export function readJournals(dir: Dir): readonly Journal[] {
  const journals: Journal[] = [];
  for (const name of dir.list()) {
    const opened = JOURNAL.test(name) ? Journal.open(dir, name) : undefined;
    if (opened instanceof Journal) journals.push(opened);
  }
  return journals.sort((a, b) => a.header.seq - b.header.seq);
}

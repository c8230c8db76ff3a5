/**
 * Objects on this node that belong to a network and not to one attachment: a bridge, `ip_forward`. They are kept when
 * the last attachment goes, as the reference plugins keep them; what is known of them lies in `networks/`, one
 * directory an object with one empty file an attachment, so that `patchbay status --networks` can list them.
 */

import { CniError, Code } from "../base/error.ts";
import { isObject, type JsonObject } from "../base/json.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { ioFailure } from "./failure.ts";
import { formatLine, parseLines } from "./line.ts";

const OBJECT = "object";
const MAX_OBJECT_BYTES = 64 << 10;
const LOCK_MS = 10_000;

export interface AttachmentRef {
  readonly container: string;
  /** `Journal.key` */
  readonly key: string;
}

export interface NetworkObject {
  /** "bridge", "sysctl" … */
  readonly kind: string;
  /** A link's name, a sysctl's key. */
  readonly name: string;
  /** What was known when it was first used: the network, whether we made it, its former value. Empty when damaged. */
  readonly facts: JsonObject;
  readonly attachments: readonly AttachmentRef[];
}

export class NetworkObjects {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Notes that an attachment uses the object. Its `network-object` undo step is to be in the journal before.
   *
   * @param facts Kept from the first use on; those of a later call are not.
   * @throws {CniError} 5, 104
   */
  use(kind: string, name: string, ref: AttachmentRef, facts: JsonObject): void {
    this.#locked(kind, name, true, (dir) => {
      dir.createWhole(OBJECT, formatLine({ format: 1, kind, name, facts }));
      dir.createWhole(refName(ref), new Uint8Array());
    });
  }

  /** The attachment uses it no longer. The object's record stays. @returns whether it was noted. @throws {CniError} 5, 104 */
  leave(kind: string, name: string, ref: AttachmentRef): boolean {
    const was = this.#locked(kind, name, false, (dir, root) => {
      const removed = dir.remove(refName(ref));
      root.removeDir(directoryName(kind, name)); // where a kill came before the record, or in the middle of forget()
      return removed;
    });
    return was ?? false;
  }

  /** @throws {CniError} 5, 104 */
  find(kind: string, name: string): NetworkObject | undefined {
    return this.#locked(kind, name, false, (dir) => read(dir, kind, name));
  }

  /** @throws {CniError} 5, 104 */
  list(): NetworkObject[] {
    let names: string[];
    try {
      using root = Dir.open(this.#path);
      names = root.list();
    } catch (cause) {
      if (isErrno(cause, Errno.ENOENT)) return [];
      throw failure(this.#path, cause);
    }
    return names.flatMap((directory) => {
      const split = directory.indexOf("@");
      const kind = directory.slice(0, split);
      const name = decodeURIComponent(directory.slice(split + 1));
      return this.find(kind, name) ?? [];
    });
  }

  /**
   * Forgets an object that no attachment uses, for one that is removed with its last attachment.
   *
   * @param remove Takes the object itself away, under the object's lock; when it throws, the record stays.
   * @returns false when an attachment still uses it, or there is no record. @throws {CniError} 5, 104
   */
  forget(kind: string, name: string, remove: (object: NetworkObject) => void): boolean {
    const gone = this.#locked(kind, name, false, (dir, root) => {
      const object = read(dir, kind, name);
      if (object.attachments.length > 0) return false;
      remove(object);
      dir.remove(OBJECT);
      root.removeDir(directoryName(kind, name));
      return true;
    });
    return gone ?? false;
  }

  #locked<T>(kind: string, name: string, create: boolean, work: (dir: Dir, root: Dir) => T): T | undefined {
    const directory = directoryName(kind, name);
    const deadlineMs = deadlineIn(LOCK_MS);
    try {
      using root = create ? Dir.open(this.#path, { create }) : openIfThere(this.#path);
      for (;;) {
        using dir = root?.sub(directory, { create });
        if (root === undefined || dir === undefined) return undefined;
        using lock = dir.lock({ deadlineMs });
        if (lock === undefined) throw busy(kind, name, dir);
        if (dir.stillNamed(root, directory)) return work(dir, root);
      }
    } catch (cause) {
      throw failure(`${this.#path}/${directory}`, cause);
    }
  }
}

function read(dir: Dir, kind: string, name: string): NetworkObject {
  const bytes = dir.read(OBJECT, MAX_OBJECT_BYTES);
  const value = bytes && parseLines(bytes).values[0];
  const facts = isObject(value) && isObject(value.facts) ? value.facts : {};
  const attachments = dir.list().flatMap((file): AttachmentRef[] => {
    const split = file.lastIndexOf("@");
    return split < 0 ? [] : [{ container: file.slice(0, split), key: file.slice(split + 1) }];
  });
  return { kind, name, facts, attachments };
}

const refName = (ref: AttachmentRef): string => `${ref.container}@${ref.key}`;
const directoryName = (kind: string, name: string): string => `${kind}@${encodeURIComponent(name)}`;

function openIfThere(path: string): Dir | undefined {
  try {
    return Dir.open(path);
  } catch (cause) {
    if (isErrno(cause, Errno.ENOENT)) return undefined;
    throw cause;
  }
}

function failure(path: string, cause: unknown): unknown {
  return ioFailure(
    "Cannot use the record of a network's object",
    `Check that "${path}" can be read and written`,
    cause,
  );
}

function busy(kind: string, name: string, dir: Dir): CniError {
  const [holder] = dir.lockHolders();
  return new CniError(Code.Busy, `Cannot use ${kind} "${name}": process ${holder?.pid ?? "?"} holds its record`, {
    remedy: "Try again",
  });
}

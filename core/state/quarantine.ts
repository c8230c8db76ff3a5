/**
 * Where state files go that are not as we wrote them: kept for a person to look at, out of the way of DEL. Bounded, so
 * that a failing disk does not fill another.
 */
import { namesInDirectory, nodeFs } from "../sys/files.ts";

/** The oldest go first. */
export const MAX_QUARANTINED = 32;

export class Quarantine {
  readonly #path: string;

  /** @param path Of the directory, on the file system of what will be put there; made when first needed. */
  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Moves a file away. If that fails (a full disk has no room for the directory) it is deleted: DEL must go on.
   *
   * @param file The path of the file. @param label Tells people where it was; path characters are replaced.
   * @throws Nothing; what can be neither moved nor deleted stays.
   */
  take(file: string, label: string): void {
    const name = label.replaceAll("/", "_").slice(0, 255);
    try {
      nodeFs().mkdirSync(this.#path, { recursive: true, mode: 0o700 });
      this.#makeRoom();
      nodeFs().renameSync(file, `${this.#path}/${name}`);
    } catch {
      try {
        nodeFs().rmSync(file, { force: true, recursive: true });
      } catch {
        // An immutable file, say. It is read again next time, and again treated as absent.
      }
    }
  }

  list(): string[] {
    try {
      return namesInDirectory(this.#path);
    } catch {
      return [];
    }
  }

  #makeRoom(): void {
    const names = this.list();
    if (names.length < MAX_QUARANTINED) return;
    const aged = names.map((name) => ({ name, ms: nodeFs().lstatSync(`${this.#path}/${name}`).ctimeMs }));
    aged.sort((a, b) => a.ms - b.ms);
    for (const { name } of aged.slice(0, names.length - MAX_QUARANTINED + 1)) {
      nodeFs().rmSync(`${this.#path}/${name}`, { force: true, recursive: true });
    }
  }
}

/** The operations log: one JSON line an operation, for `patchbay status` and people. Nothing is ever decided by it. */
import { isObject, type JsonObject } from "../base/json.ts";
import { Fd } from "../sys/fd.ts";
import { nodeFs, statOf } from "../sys/files.ts";
import { libc, Open, stat } from "../sys/libc.ts";

/** One file's limit; the former one is kept beside it, so at most twice this. */
export const MAX_LOG_BYTES = 1 << 20;
/** A longer line is left out: it would be some delegate's message, not an operation. */
const MAX_LINE_BYTES = 16 << 10;

export class OperationsLog {
  readonly #directory: string;
  readonly #maxBytes: number;

  /** @param directory `/run/patchbay`; made when the first line is written. */
  constructor(directory: string, maxBytes: number = MAX_LOG_BYTES) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
  }

  get path(): string {
    return `${this.#directory}/ops.jsonl`;
  }

  get formerPath(): string {
    return `${this.#directory}/ops.1.jsonl`;
  }

  /**
   * One write(2) with `O_APPEND`, no lock. It never throws and never waits: a log that cannot be written must not fail
   * the operation that it tells of.
   */
  append(record: JsonObject): void {
    try {
      const line = new TextEncoder().encode(`${JSON.stringify(record)}\n`);
      if (line.length > MAX_LINE_BYTES) return;
      using file = this.#open();
      libc().write(file.raw, line, line);
      const written = stat(file.raw, "");
      // Of several processes that see the limit passed, those that come late find another file at the path.
      if (written.size >= this.#maxBytes && statOf(this.path)?.isSame(written) === true) {
        nodeFs().renameSync(this.path, this.formerPath);
      }
    } catch {
      // On purpose, see above.
    }
  }

  #open(): Fd {
    const flags = Open.WRITE | Open.APPEND | Open.CREATE | Open.NOFOLLOW | Open.NONBLOCK;
    try {
      return Fd.open(this.path, flags, 0o600);
    } catch {
      nodeFs().mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      return Fd.open(this.path, flags, 0o600);
    }
  }

  /** The last `count` records, oldest first; a line cut short by a full disk is left out. */
  tail(count: number): JsonObject[] {
    const records: JsonObject[] = [];
    for (const path of [this.formerPath, this.path]) {
      let text: string;
      try {
        text = nodeFs().readFileSync(path, "utf8");
      } catch {
        continue;
      }
      for (const line of text.split("\n")) {
        try {
          const record: unknown = JSON.parse(line);
          if (isObject(record)) records.push(record);
        } catch {
          // Torn, or the empty text after the last line feed.
        }
      }
    }
    return records.slice(Math.max(0, records.length - count));
  }
}

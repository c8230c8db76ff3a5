/** Servers that say who asked, and clients that ask, in namespaces of a test. */
import { join } from "node:path";
import { sh, type TestNetns } from "./netns.ts";

/** Arguments: "serve NAME PORT…" or "ask MILLISECONDS QUESTION…". */
export const program = join(import.meta.dir, "echo-program.ts");

/** A server on TCP and UDP ports of a namespace, for both families. It answers "NAME ADDRESS PORT": who it is, who asked, and where. */
export class Echo implements Disposable {
  readonly #process: Bun.Subprocess<"ignore", "pipe", "inherit">;

  private constructor(process: Bun.Subprocess<"ignore", "pipe", "inherit">) {
    this.#process = process;
  }

  static async start(ns: TestNetns, name: string, ...ports: readonly number[]): Promise<Echo> {
    const command = ns.argv(process.execPath, program, "serve", name, ...ports.map(String));
    const started = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    const echo = new Echo(started);
    const reader = started.stdout.getReader();
    const { value } = await reader.read();
    if (value === undefined) throw new Error(`no server "${name}"`);
    reader.releaseLock();
    return echo;
  }

  [Symbol.dispose](): void {
    this.#process.kill();
  }
}

/**
 * Asks from a namespace, all at once.
 *
 * @param questions "tcp ADDRESS PORT" or "udp ADDRESS PORT [SOURCE-PORT]"
 * @returns for each the answer, "silence", or the error's name such as "ECONNREFUSED"
 */
export function ask(ns: TestNetns, questions: readonly string[], waitMs = 800): string[] {
  return JSON.parse(sh(ns.argv(process.execPath, program, "ask", String(waitMs), ...questions)));
}

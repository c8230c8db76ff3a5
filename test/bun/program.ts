/** Programs compiled as `npm run build` compiles ours, to see what Bun does with them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const root = join(import.meta.dir, "../..");
export const linkFlags: readonly string[] = readFileSync(join(root, "scripts/link.flags"), "utf8").trim().split("\n");

/** A directory that goes with the `using` block. */
export class Scratch implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "patchbay-bun-"));

  write(files: Readonly<Record<string, string>>): string {
    for (const [name, content] of Object.entries(files)) writeFileSync(join(this.path, name), content);
    return this.path;
  }

  /** Compiles `entry`, a path or the name of a file here. @returns the program's path. */
  compile(entry: string, flags: readonly string[] = linkFlags): string {
    const program = join(this.path, `${entry.split("/").at(-1)?.replace(/\.ts$/, "")}-${flags.length}`);
    const built = Bun.spawnSync([process.execPath, "build", ...flags, resolve(this.path, entry), "--outfile", program]);
    if (built.exitCode !== 0) throw new Error(`${built.stdout}${built.stderr}`);
    return program;
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}

/** Runs a program with nothing in its environment but `env`. */
export function run(argv: readonly string[], options: { cwd?: string; env?: Record<string, string> } = {}) {
  const ended = Bun.spawnSync([...argv], { cwd: options.cwd ?? "/", env: options.env ?? {}, stdin: "ignore" });
  return { exit: ended.exitCode, stdout: ended.stdout.toString(), stderr: ended.stderr.toString() };
}

/** The shortest of several runs: what the program costs when nothing else disturbs it. */
export function shortestMs(argv: readonly string[], times = 25): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < times; i++) {
    const start = performance.now();
    const ended = Bun.spawnSync([...argv], { cwd: "/", env: {}, stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    if (ended.exitCode !== 0) throw new Error(`${argv[0]} ended with ${ended.exitCode}`);
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

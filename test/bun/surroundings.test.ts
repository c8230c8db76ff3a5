/** What a compiled program takes from its surroundings: nothing from its directory, and what its environment may do. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { built, distBinary, has, requires } from "../support/requires.ts";
import { linkFlags, run, Scratch } from "./program.ts";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** Everything that Bun, run as such, looks for in a directory. Each leaves a trace when it is obeyed. */
const hostile = new Scratch();
afterAll(() => hostile[Symbol.dispose]());
const marker = join(hostile.path, "was-here");
const evil = `require("node:fs").writeFileSync(${JSON.stringify(marker)}, "evil");`;
hostile.write({
  "bunfig.toml": 'preload = ["./evil.ts"]\n[run]\npreload = ["./evil.ts"]\n',
  ".env": "PATCHBAY_EVIL=env\nBUN_OPTIONS=--preload=./evil.ts\n",
  ".env.local": "PATCHBAY_EVIL=env\n",
  ".env.production": "PATCHBAY_EVIL=env\n",
  "tsconfig.json": '{ "compilerOptions": { "paths": { "node:fs": ["./evil.ts"], "*": ["./evil.ts"] } } }',
  "package.json": '{ "type": "commonjs", "imports": { "#x": "./evil.ts" }, "preload": "./evil.ts" }',
  "evil.ts": evil,
  "index.ts": evil,
});
const leftTrace = (): boolean => existsSync(marker);

scratch.write({
  "tell.ts": `import { writeSync } from "node:fs";
    writeSync(1, JSON.stringify({ evil: process.env.PATCHBAY_EVIL ?? null, args: process.argv.slice(2) }));
    process.exit(0);`,
});
let program: string;
beforeAll(() => {
  program = scratch.compile("tell.ts");
});

describe("a compiled program in a hostile directory", () => {
  test("reads no .env and runs no preload", () => {
    expect(run([program], { cwd: hostile.path })).toEqual({ exit: 0, stdout: '{"evil":null,"args":[]}', stderr: "" });
    expect(leftTrace()).toBe(false);
  });

  test("would obey both, were it not for two flags of the build", () => {
    const careless = scratch.compile(
      "tell.ts",
      linkFlags.filter((flag) => !flag.startsWith("--no-compile-autoload")),
    );
    const ended = run([careless], { cwd: hostile.path });
    expect(ended.stdout).toContain('"evil":"env"');
    expect(leftTrace()).toBe(true);
    rmSync(marker);
  });

  const opened = (argv: readonly string[], env: Record<string, string>): string[] => {
    const trace = join(scratch.path, "trace");
    run([Bun.which("strace") ?? "strace", "-f", "-e", "trace=%file", "-o", trace, ...argv], { cwd: hostile.path, env });
    const lines = readFileSync(trace, "utf8").split("\n");
    expect(lines.length).toBeGreaterThan(5);
    return lines.filter((line) => /bunfig|\.env|tsconfig|package\.json|evil|index\.ts/.test(line));
  };

  requires("strace", has("strace"))("under strace", () => {
    test("asks for none of the files there", () => {
      expect(opened([program], {})).toEqual([]);
    });
  });

  requires(
    "strace",
    has("strace"),
    built,
  )("dist/patchbay under strace", () => {
    test("asks for none of the files there", () => {
      expect(opened([distBinary], { CNI_COMMAND: "VERSION" })).toEqual([]);
      expect(leftTrace()).toBe(false);
    });
  });
});

// It is root's environment, so these are no holes; they are why delegates get no BUN_* and doctor warns of them.
describe("the environment can still change a compiled program", () => {
  test("BUN_BE_BUN=1 makes it Bun itself", () => {
    const { stdout } = run([program, "--version"], { env: { BUN_BE_BUN: "1" } });
    expect(stdout.trim()).toBe(Bun.version);
  });

  test("BUN_OPTIONS can make it run another file first", () => {
    const loud = scratch.write({ "loud.ts": 'require("node:fs").writeSync(2, "loud");' });
    const { stdout, stderr } = run([program], { env: { BUN_OPTIONS: `--preload=${loud}/loud.ts` } });
    expect(stderr).toContain("loud");
    expect(stdout).toContain('"evil":null');
  });
});

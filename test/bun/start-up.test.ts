/** Why the build's flags are what they are: what they save at each start. */
import { afterAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { built, distBinary, requires } from "../support/requires.ts";
import { linkFlags, root, Scratch, shortestMs } from "./program.ts";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** A module with many functions that run once: to parse it costs more than to run it. */
function heavy(functions: number): string {
  const lines = Array.from({ length: functions }, (_, i) => {
    const cases = Array.from(
      { length: 12 },
      (_unused, k) => `case ${k}: return [x, ${i * k}, { a: x + ${k}, b: "text ${i}" }];`,
    );
    return `export function f${i}(x) { switch (x) { ${cases.join(" ")} default: return x; } }`;
  });
  const all = Array.from({ length: functions }, (_, i) => `f${i}(${i % 12})`);
  return `${lines.join("\n")}\nexport const all = () => [${all.join(", ")}].length;\nglobalThis.loaded = true;\n`;
}
const end = 'import { writeSync } from "node:fs"; writeSync(1, String(globalThis.loaded)); process.exit(0);';

scratch.write({
  "heavy.ts": heavy(2000),
  "eager.ts": `import { all } from "./heavy.ts"; globalThis.n = all(); ${end}`,
  "lazy.ts": `if (process.argv[2] === "load") { import("./heavy.ts").then((m) => { globalThis.n = m.all(); ${end.replace(/^.*?; /, 'require("node:fs").')} }); } else { ${end.replace(/^.*?; /, 'require("node:fs").')} }`,
  "empty.ts": end,
});

test("--bytecode makes an eager program start sooner", () => {
  const precompiled = shortestMs([scratch.compile("eager.ts")]);
  const parsed = shortestMs([
    scratch.compile(
      "eager.ts",
      linkFlags.filter((flag) => flag !== "--bytecode"),
    ),
  ]);
  console.log(`start with bytecode ${precompiled.toFixed(1)} ms, without ${parsed.toFixed(1)} ms`);
  expect(precompiled).toBeLessThan(parsed);
}, 60_000);

test("--splitting: what is imported later costs nothing until then", () => {
  const lazy = scratch.compile("lazy.ts");
  const empty = shortestMs([scratch.compile("empty.ts")]);
  const notReached = shortestMs([lazy]);
  const reached = shortestMs([lazy, "load"]);
  console.log(`start empty ${empty.toFixed(1)} ms, lazy ${notReached.toFixed(1)} ms, loaded ${reached.toFixed(1)} ms`);
  expect(Bun.spawnSync([lazy], { env: {} }).stdout.toString()).toBe("undefined");
  expect(Bun.spawnSync([lazy, "load"], { env: {} }).stdout.toString()).toBe("true");
  // The module's cost is what loading it adds. Before it is reached, hardly any of that may show.
  expect(notReached - empty).toBeLessThan(Math.max(0.5, (reached - empty) / 4));
}, 60_000);

requires(...built)("dist/patchbay", () => {
  test("has no path of the checkout in it, so it is the same wherever it is built", () => {
    expect(readFileSync(distBinary).includes(root)).toBe(false);
  });
});

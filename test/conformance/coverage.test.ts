/** Which rule is shown where. A rule without a case here is a rule that nobody holds us to. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { attachCases } from "./attach-cases.ts";

const rules: readonly number[] = [...Array.from({ length: 46 }, (_, i) => i + 1), 53, 54, 55];

/** Rules that ask nothing of this program, or not of this part of it. */
const elsewhere: Readonly<Record<number, string>> = {
  7: "for implementations that do not delegate",
  29: "the default network's plugin sets the default route; rule 22 has the exception",
  30: "readiness is STATUS: test/netns/runtime-calls.test.ts",
  46: "we add no key of our own to the status: rule 42 lists them all",
};

const text = (file: string): string => readFileSync(join(import.meta.dir, file), "utf8");

/** Rules by the names of the tests, and by the rows of tables whose tests are named "rule %d". */
const shown = new Set([
  ...[...(text("rules.test.ts") + text("attach.test.ts")).matchAll(/"rule (\d+):|'rule (\d+):/g)].map((m) =>
    Number(m[1] ?? m[2]),
  ),
  ...[...text("rules.test.ts").matchAll(/^\s*\[\s*(\d+),/gm)].map((m) => Number(m[1])),
  ...attachCases.map((given) => given.rule),
]);

describe("every rule has a case", () => {
  test.each(rules.map((rule) => [rule]))("rule %d", (rule) => {
    expect(shown.has(rule) || elsewhere[rule] !== undefined).toBe(true);
  });
});

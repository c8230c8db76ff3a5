import { describe, expect, test } from "bun:test";
import { countsOf, skipsOf } from "./test.ts";

describe("countsOf()", () => {
  test.each([
    ["all kinds", " 2 pass\n 3 skip\n 1 todo\n 3 fail\n 1 error\n", { passed: 2, failed: 3 }],
    ["the last summary counts", " 9 pass\n 9 fail\nx\n 1 pass\n 0 fail\n", { passed: 1, failed: 0 }],
    ["nothing", "", { passed: 0, failed: 0 }],
    ["text of a test that looks alike", "said 5 pass\n 1 pass\n", { passed: 1, failed: 0 }],
  ])("%s", (_, stderr, want) => {
    expect(countsOf(stderr)).toEqual(want);
  });
});

describe("skipsOf()", () => {
  const one = (attributes: string, inside: string): string => `<testcase ${attributes}>\n  ${inside}\n</testcase>`;
  test.each([
    ["none", '<testcase name="ok" classname="" file="a.test.ts" />', []],
    ["a failure", one('name="bad" classname="" file="a.test.ts"', "<failure/>"), []],
    [
      "a reason from the describe around it",
      one('name="n" classname="inner &gt; outer [needs root &lt;1&gt;]" file="a.test.ts"', "<skipped />"),
      [{ file: "a.test.ts", reason: "root <1>" }],
    ],
    ["a hook of a skipped suite", one('name="(unnamed)" classname="[needs root]" file="a.test.ts"', "<skipped />"), []],
    [
      "no reason",
      one('name="later" classname="" file="a.test.ts"', '<skipped message="TODO" />'),
      [{ file: "a.test.ts", reason: "no reason given" }],
    ],
    [
      "a passed test before it",
      `<testcase name="ok" classname="" file="a.test.ts" />\n${one('name="x" classname="[needs nft]" file="a.test.ts"', "<skipped/>")}`,
      [{ file: "a.test.ts", reason: "nft" }],
    ],
  ])("%s", (_, junit, want) => {
    expect(skipsOf(junit)).toEqual(want);
  });
});

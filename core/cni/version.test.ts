import { describe, expect, test } from "bun:test";
import type { Json } from "../base/json.ts";
import { chooseVersion, compareVersions, highestCommon, normaliseVersion, parseVersionAnswer } from "./version.ts";

describe("normaliseVersion()", () => {
  test.each([
    ["", "0.1.0"],
    ["1", "1.0.0"],
    ["1.0", "1.0.0"],
    ["0.3.1", "0.3.1"],
    ["01.2.3", "1.2.3"],
    ["1.2.3.4", undefined],
    ["1.x", undefined],
    ["-1.0.0", undefined],
    ["1..0", undefined],
    ["9".repeat(64), undefined],
  ])("%p is %p", (text, want) => expect(normaliseVersion(text)).toBe(want));
});

test("compareVersions() orders by number, not by text", () => {
  expect(["1.10.0", "0.3.1", "1.2", "0.10.0", "nonsense"].sort(compareVersions)).toEqual([
    "nonsense",
    "0.3.1",
    "0.10.0",
    "1.2",
    "1.10.0",
  ]);
});

describe("highestCommon()", () => {
  const table: ReadonlyArray<readonly [string, string, string[][], string | undefined]> = [
    ["all support the ceiling", "1.0.0", [["0.4.0", "1.0.0", "1.1.0"], ["1.0.0"]], "1.0.0"],
    [
      "one is older",
      "1.1.0",
      [
        ["0.4.0", "1.0.0", "1.1.0"],
        ["0.3.1", "0.4.0"],
      ],
      "0.4.0",
    ],
    ["never above the ceiling", "0.3.1", [["0.3.1", "0.4.0", "1.0.0"]], "0.3.1"],
    ["a ceiling of the future", "2.0.0", [["1.1.0", "2.0.0"]], "1.1.0"],
    ["short forms", "1.1.0", [["1.0"], ["1.0.0"]], "1.0.0"],
    ["nothing in common", "1.1.0", [["0.2.0"], ["1.0.0"]], undefined],
    ["a plugin without versions", "1.1.0", [[]], undefined],
  ];
  test.each(table)("%s", (_, ceiling, supported, want) =>
    expect(highestCommon(ceiling, supported)).toBe(want as never),
  );
});

test("chooseVersion() names what each plugin supports", () => {
  const plugins = [
    { type: "bridge", supported: ["0.2.0"] },
    { type: "tuning", supported: ["1.0.0"] },
  ];
  expect(() => chooseVersion("blue", "1.1.0", plugins)).toThrow(
    'Cannot run network "blue": its plugins have no CNI version in common up to 1.1.0: "bridge" supports 0.2.0; "tuning" supports 1.0.0',
  );
});

describe("parseVersionAnswer()", () => {
  const table: ReadonlyArray<readonly [string, Json, readonly string[]]> = [
    ["a list", { cniVersion: "1.0.0", supportedVersions: ["0.4.0", "1.0.0"] }, ["0.4.0", "1.0.0"]],
    ["0.2.0 without a list", { cniVersion: "0.2.0" }, ["0.1.0", "0.2.0"]],
    ["older than VERSION", { code: 4, msg: "unknown CNI_COMMAND: VERSION" }, ["0.1.0"]],
  ];
  test.each(table)("reads %s", (_, answer, want) => expect(parseVersionAnswer("x", answer)).toEqual(want));
  test.each([
    ["no list", { cniVersion: "1.0.0" }, 'the key "supportedVersions" is missing'],
    ["another error", { code: 4, msg: "boom" }, 'it failed with "boom"'],
    ["a bad entry", { supportedVersions: [1] }, "supportedVersions[0]: expected a version, found 1"],
    ["no object", [], "expected an object, found []"],
  ])("refuses %s", (_, answer, want) => expect(() => parseVersionAnswer("x", answer as Json)).toThrow(want));
});

import { describe, expect, test } from "bun:test";
import { groups, subjects } from "./plan.ts";
import { budgets, budgetTable, judge, type Measure, page, readmeTable, withTable } from "./report.ts";

const measure = (
  Group: string,
  Subject: string,
  Step: string,
  WallMs: number,
  more: Partial<Measure> = {},
): Measure => ({
  Group,
  Subject,
  Step,
  Runs: 50,
  Failed: 0,
  WallMs,
  WallMinMs: WallMs,
  WallP95Ms: WallMs,
  CPUMs: WallMs,
  PeakBytes: 10 << 20,
  ReadBytes: 0,
  ...more,
});
const pod = (ours: number, more?: Partial<Measure>): Measure[] => [
  measure(groups.pod, subjects.ours, "add", ours, more),
  measure(groups.pod, subjects.floor, "add", 8),
];
const verdict = (measures: readonly Measure[], peer: string): boolean | undefined =>
  judge(measures).find((v) => v.what === "three networks, ADD" && v.peer.startsWith(peer))?.met;

describe("judge()", () => {
  test.each([
    ["at the budget", 24, true],
    ["above it", 24.1, false],
  ])("%s", (_, ours, met) => {
    expect(verdict(pod(ours), subjects.floor)).toBe(met);
  });
  test("one failed run misses, however fast the others", () => {
    expect(verdict(pod(1, { Failed: 1 }), subjects.floor)).toBe(false);
  });
  test("without a peer's figure nothing is claimed", () => {
    expect(verdict(pod(1), subjects.multus)).toBeUndefined();
    expect(judge([]).every((v) => v.met === undefined)).toBe(true);
  });
  test.each([
    ["slow", { PerSecond: 59 }, false],
    ["failing", { PerSecond: 90, Failed: 1 }, false],
    ["good", { PerSecond: 60 }, true],
  ])("32 at once: %s", (_, more, met) => {
    const burst = measure(groups.burst, subjects.ours, "add", 300, more);
    expect(judge([burst]).find((v) => v.what.startsWith("32"))?.met).toBe(met);
  });
  test("too much memory misses", () => {
    const large = measure(groups.podAlone, subjects.ours, "add", 20, { PeakBytes: 65 << 20 });
    const found = judge([large]).find((v) => v.what.includes("memory"));
    expect(found?.met).toBe(false);
  });
});

test("budgetTable() has a row for each budget and says what was missed", () => {
  const text = budgetTable(judge(pod(30)));
  expect(text.split("\n").length).toBe(2 + budgets.length + 2);
  expect(text).toContain("| 3.75 × | ≤ 3 × | **missed** |");
});

test("page() names the command, the machine and the rounds", () => {
  const worker = { operations: 10, cpuMs: 50, peakBytes: 90 << 20, idleBytes: 70 << 20, idleOwnBytes: 20 << 20 };
  const text = page(pod(20), worker, { cpu: "a CPU", cores: 2, kernel: "6.1" }, 50);
  for (const part of [
    "`npm run bench`",
    "50 rounds",
    "2 cores of a CPU, Linux 6.1",
    "| 2.50 × | ≤ 3 × | met |",
    "5.0 ms of CPU",
  ]) {
    expect(text).toContain(part);
  }
});

test("withTable() puts the figures between the marks of the README and keeps the rest", () => {
  const measures = [...pod(20), measure(groups.pod, subjects.multus, "add", 148)];
  const text = "a\n<!-- bench -->\nold\n<!-- /bench -->\nb\n";
  const made = withTable(text, readmeTable(measures));
  expect(made).toMatch(/^a\n<!-- bench -->\n\|[\s\S]*\n<!-- \/bench -->\nb\n$/);
  expect(made).toContain("| pod with three networks, ADD | 20.0 ms | – | 148.0 ms |");
  expect(made).toContain("| VERSION | – | – | – |");
  expect(withTable(made, "x")).toBe(withTable(text, "x"));
  expect(() => withTable("none", "x")).toThrow(/marks/);
});

import { expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { isAlive, ownProcessId, processStat } from "./process-id.ts";

test("ownProcessId() is alive, and another of the same number is not", () => {
  const own = ownProcessId();
  expect(own.pid).toBe(process.pid);
  expect(Number(own.startTime)).toBeGreaterThan(0);
  expect(isAlive(own)).toBe(true);
  expect(isAlive({ ...own, startTime: `${Number(own.startTime) - 1}` })).toBe(false);
  expect(isAlive({ pid: 0x3ffffff, startTime: "1" })).toBe(false);
});

test("processStat() is not misled by a program's name", async () => {
  const dir = mkdtempSync("/tmp/patchbay-pid-");
  const program = `${dir}/a) Z 1 (b`;
  copyFileSync("/bin/sleep", program);
  const child = Bun.spawn([program, "60"]);
  try {
    const stat = processStat(child.pid);
    expect(stat?.state).toMatch(/^[RSD]$/);
    expect(Number(stat?.startTime)).toBeGreaterThanOrEqual(Number(ownProcessId().startTime));
    expect(Number.isInteger(stat?.group)).toBe(true);
  } finally {
    child.kill("SIGKILL");
    await child.exited;
    rmSync(dir, { recursive: true });
  }
  expect(processStat(child.pid)).toBeUndefined();
});

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { deadlineIn } from "./clock.ts";
import { lockFile } from "./file-lock.ts";

test("lockFile() lets one in at a time, and follows no link", () => {
  const path = mkdtempSync("/tmp/patchbay-lock-");
  try {
    {
      using first = lockFile(`${path}/lock`, { deadlineMs: deadlineIn(1000) });
      expect(first).toBeDefined();
      expect(lockFile(`${path}/lock`, { deadlineMs: deadlineIn(20) })).toBeUndefined();
    }
    using again = lockFile(`${path}/lock`, { deadlineMs: deadlineIn(0) });
    expect(again).toBeDefined();
    symlinkSync("lock", `${path}/link`);
    expect(() => lockFile(`${path}/link`, { deadlineMs: deadlineIn(0) })).toThrow(/ELOOP/);
    expect(() => lockFile(`${path}/none/lock`, { deadlineMs: deadlineIn(0) })).toThrow(/ENOENT/);
  } finally {
    rmSync(path, { recursive: true });
  }
});

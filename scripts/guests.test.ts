import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "./plugins.ts";

test("a guest built again is the same, byte for byte", () => {
  const scratch = mkdtempSync(join(tmpdir(), "patchbay-guests-"));
  const build = (name: string): string => {
    const out = join(scratch, name, "guests");
    const ended = Bun.spawnSync([process.execPath, "scripts/guests.ts", out, "loopback"], { cwd: root });
    expect({ exit: ended.exitCode, said: ended.stderr.toString() }).toEqual({ exit: 0, said: "guests: loopback\n" });
    return out;
  };
  try {
    const [one, two] = [build("one"), build("two")];
    for (const file of ["loopback.wasm", "loopback.cwasm", "loopback.manifest", "../embedded.json"]) {
      expect(readFileSync(join(one, file)).equals(readFileSync(join(two, file)))).toBe(true);
    }
  } finally {
    rmSync(scratch, { recursive: true });
  }
}, 60_000);

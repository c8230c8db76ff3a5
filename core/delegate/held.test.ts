import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { processStat } from "../sys/process-id.ts";
import { HELD, heldBy, isHeldAbove } from "./held.ts";

/** What a process below this one says of the container, with the variable given. */
function below(value: string, container: string, throughShell = false): string {
  const module = JSON.stringify(join(import.meta.dir, "held.ts"));
  const program = `import { isHeldAbove } from ${module}; console.log(isHeldAbove(process.env, ${JSON.stringify(container)}));`;
  const command = [process.execPath, "-e", program];
  const argv = throughShell ? ["sh", "-c", '"$@"; true', "sh", ...command] : command;
  return Bun.spawnSync(argv, { env: { ...process.env, [HELD]: value } })
    .stdout.toString()
    .trim();
}

describe("isHeldAbove()", () => {
  test("a child, and a child's child, go on under the lock of their ancestor", () => {
    expect(below(heldBy("c1"), "c1")).toBe("true");
    expect(below(heldBy("c1"), "c1", true)).toBe("true");
  });

  test("for that container alone", () => {
    expect(below(heldBy("c1"), "c2")).toBe("false");
  });

  test("a variable that is no more than inherited is not believed", () => {
    // A living process that is not above: a sibling's.
    const sibling = Bun.spawn(["sleep", "60"]);
    const startTime = processStat(sibling.pid)?.startTime;
    expect(below(`c1 ${sibling.pid} ${startTime}`, "c1")).toBe("false");
    sibling.kill();
  });

  test.each(["", "c1", "c1 1", `c1 ${process.pid} 1`, `c1 x 5`, `c1 -1 5`, `${heldBy("c1")} more`, "c1 999999999 5"])(
    "%p says nothing",
    (value) => {
      expect(isHeldAbove({ [HELD]: value }, "c1")).toBe(false);
      expect(below(value, "c1")).toBe("false");
    },
  );
});

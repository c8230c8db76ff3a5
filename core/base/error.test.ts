import { describe, expect, test } from "bun:test";
import { CniError, Code } from "./error.ts";

describe("CniError.from()", () => {
  const first = new CniError(Code.InvalidConfig, "Cannot do the first thing", { remedy: "Do it" });

  test("keeps a CniError", () => {
    expect(CniError.from(first)).toBe(first);
  });

  test("takes whatever else for our own bug, and keeps it as the cause", () => {
    const cause = new RangeError("out of range");
    expect(CniError.from(cause)).toMatchObject({ code: 999, message: "Internal error: out of range", cause });
    expect(CniError.from("text").message).toBe("Internal error: text");
  });

  test("finds the first failure behind one that a disposal threw", () => {
    const fail = (): never => {
      using _late = {
        [Symbol.dispose]() {
          throw new Error("late");
        },
      };
      throw first;
    };
    let thrown: unknown;
    try {
      fail();
    } catch (caught) {
      thrown = caught;
    }
    expect(thrown).not.toBe(first);
    expect(CniError.from(thrown)).toBe(first);
  });
});

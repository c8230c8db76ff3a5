import { describe, expect, test } from "bun:test";
import { errnoName, errnoText, isErrno, SysError } from "./error.ts";

describe("SysError", () => {
  test.each([
    ["open", 2, "/x", 'open "/x": ENOENT (No such file or directory)'],
    ["setns", 1, undefined, "setns: EPERM (Operation not permitted)"],
    ["open", 2, 'a"\n\u001b', 'open "a\\"\\n\\u001b": ENOENT (No such file or directory)'],
    ["x", 9999, undefined, "x: E9999 ()"],
  ])("says %s %d %p", (call, errno, path, message) => {
    expect(new SysError(call, errno, path).message).toBe(message);
  });

  test("errnoName() and errnoText() know the aliases that Linux has once", () => {
    expect([errnoName(11), errnoName(35), errnoName(95)]).toEqual(["EAGAIN", "EDEADLK", "EOPNOTSUPP"]);
    expect(errnoText(17)).toBe("File exists");
  });

  test("isErrno() is for our error only", () => {
    expect(isErrno(new SysError("x", 2), 1, 2)).toBe(true);
    expect(isErrno(new SysError("x", 3), 1, 2)).toBe(false);
    expect(isErrno({ errno: 2 }, 2)).toBe(false);
  });
});

import { describe, expect, test } from "bun:test";
import { has, requires, root } from "./requires.ts";

describe("requires()", () => {
  test("has() finds a command of PATH and no other", () => {
    expect(has("sh")).toBe(true);
    expect(has("no-such-command-here")).toBe(false);
  });
  test("root says who runs", () => {
    expect(root[1]).toBe(process.getuid?.() === 0);
  });
});

let ran = 0;
requires("nothing", true)("a met need", () => {
  test("runs", () => {
    expect(++ran).toBe(1);
  });
});

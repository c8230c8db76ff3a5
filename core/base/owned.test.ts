import { expect, test } from "bun:test";
import { leaks, Owned } from "./owned.ts";

test("Owned releases once, refuses use after release, and shows what is left open", () => {
  const released: number[] = [];
  const handle = new Owned("thing", 7, (value) => released.push(value));
  expect(handle.raw).toBe(7);
  expect(leaks().some((line) => line.startsWith("thing: "))).toBe(true);
  handle[Symbol.dispose]();
  handle[Symbol.dispose]();
  expect(released).toEqual([7]);
  expect(() => handle.raw).toThrow("Cannot use thing: it was released");
  expect(leaks()).toEqual([]);
});

test("surrender() gives the value away unreleased", () => {
  const released: number[] = [];
  const handle = new Owned("thing", 7, (value) => released.push(value));
  expect(handle.surrender()).toBe(7);
  handle[Symbol.dispose]();
  expect(released).toEqual([]);
});

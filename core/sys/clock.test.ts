import { expect, test } from "bun:test";
import { bootId, deadlineIn, leftMs, monotonicMs, sleepMs } from "./clock.ts";

test("bootId() is a UUID, the same each time", () => {
  expect(bootId()).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  expect(bootId()).toBe(bootId());
});

test.each([0, 1, 20])("sleepMs() sleeps at least %d ms", (ms) => {
  const began = monotonicMs();
  sleepMs(ms);
  expect(monotonicMs() - began).toBeGreaterThanOrEqual(ms);
  expect(monotonicMs() - began).toBeLessThan(ms + 500);
});

test.each([
  [-5, undefined, 0, 0],
  [100, undefined, 99, 101],
  [100, 20, 20, 20],
  [Number.POSITIVE_INFINITY, undefined, 0x7fffffff, 0x7fffffff],
])("leftMs() of a deadline in %d ms, at most %p", (ms, most, least, greatest) => {
  const left = leftMs(deadlineIn(ms), most);
  expect(left).toBeGreaterThanOrEqual(least);
  expect(left).toBeLessThanOrEqual(greatest);
});

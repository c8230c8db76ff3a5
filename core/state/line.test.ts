import { describe, expect, test } from "bun:test";
import { checksum, formatLine, parseLines } from "./line.ts";

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const bytes = (s: string): Uint8Array => new TextEncoder().encode(s);

describe("formatLine()", () => {
  test.each([
    ["an object", { a: 1 }, '{"a":1} '],
    ["a line feed", "a\nb", '"a\\nb" '],
    ["more than ASCII", "Grüße 🌍", '"Grüße 🌍" '],
  ])("writes %s and its sum on one line", (_, value, start) => {
    const line = text(formatLine(value));
    expect(line.startsWith(start)).toBe(true);
    expect(line.slice(start.length)).toMatch(/^[0-9a-f]{8}\n$/);
    expect(parseLines(bytes(line)).values).toEqual([value]);
  });

  test("the sum is CRC-32 as everybody counts it", () => {
    expect(checksum(bytes("123456789"))).toBe("cbf43926");
  });
});

describe("parseLines()", () => {
  const good = text(formatLine({ n: 1 }));
  test.each([
    ["nothing", "", 0, undefined],
    ["a torn line alone", good.slice(0, -1), 0, undefined],
    ["a torn line at the end", good + good.slice(0, 5), 1, undefined],
    ["a changed byte", good.replace("1", "2"), 0, 1],
    ["a changed byte in the second line", good + good.replace("1", "2") + good, 1, 2],
    ["a changed sum", `${good.slice(0, -2)}${good.at(-2) === "0" ? "1" : "0"}\n`, 0, 1],
    ["an empty line", `${good}\n`, 1, 2],
    ["a right sum of what is no JSON", `x ${checksum(bytes("x"))}\n`, 0, 1],
    ["NULs, as a crash may leave them", `${good}\0\0\0\0\0\0\0\0\0\0\0\0\n`, 1, 2],
  ])("reads %s", (_, input, count, damagedAt) => {
    const lines = parseLines(bytes(input));
    expect(lines.values.length).toBe(count);
    expect(lines.damagedAt).toBe(damagedAt as number);
    expect(lines.wholeBytes).toBe(count * good.length);
  });
});

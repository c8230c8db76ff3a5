import { describe, expect, test } from "bun:test";
import { Code } from "../base/error.ts";
import { formatIp, parseIp } from "../base/ip.ts";
import type { Json } from "../base/json.ts";
import { Document } from "../cni/document.ts";
import { candidates, capacity, parseRangeSet } from "./ranges.ts";

const d = new Document("it", Code.InvalidConfig, "Mend it");
const one = { subnet: "10.1.0.0/29" };
const two = { subnet: "10.2.0.0/29", rangeStart: "10.2.0.2", rangeEnd: "10.2.0.3" };

function order(ranges: Json, last?: string): string {
  const found = candidates(parseRangeSet(d, "r", ranges), last === undefined ? undefined : parseIp(last));
  return [...found].map(({ ip }) => formatIp(ip)).join(" ");
}

describe("candidates() gives each address once", () => {
  test.each([
    ["from the start", [one], undefined, "10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6"],
    ["from the one after the last", [one], "10.1.0.4", "10.1.0.5 10.1.0.6 10.1.0.2 10.1.0.3 10.1.0.4"],
    ["round from the last", [one], "10.1.0.6", "10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6"],
    ["when the last was a gateway", [one], "10.1.0.1", "10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6"],
    ["from the start when the last is elsewhere", [two], "10.9.0.1", "10.2.0.2 10.2.0.3"],
    ["through all ranges", [one, two], "10.1.0.5", "10.1.0.6 10.2.0.2 10.2.0.3 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5"],
    ["from the second range", [one, two], "10.2.0.3", "10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.2.0.2 10.2.0.3"],
    [
      "at the end of the family",
      [{ subnet: "255.255.255.248/29", rangeEnd: "255.255.255.255" }],
      "255.255.255.255",
      "255.255.255.250 255.255.255.251 255.255.255.252 255.255.255.253 255.255.255.254 255.255.255.255",
    ],
    ["where the gateway is all there is", [{ ...one, rangeEnd: "10.1.0.1" }], undefined, ""],
    ["in IPv6 with its last address", [{ subnet: "fd00::/126" }], undefined, "fd00::2 fd00::3"],
  ] as [string, Json, string | undefined, string][])("%s", (_, ranges, last, want) => {
    expect(order(ranges, last)).toBe(want);
  });

  test("a large range is not counted out", () => {
    const set = parseRangeSet(d, "r", [{ subnet: "fd00::/64" }]);
    expect(candidates(set, undefined).next().value?.ip).toEqual(parseIp("fd00::2") as never);
    expect(capacity(set)).toBe(2n ** 64n - 2n);
  });
});

test.each([
  [[one], 5n],
  [[two], 2n],
  [[one, two], 7n],
  [[{ ...two, gateway: "10.2.0.2" }], 1n],
] as [Json, bigint][])("capacity() counts %j", (ranges, count) => {
  expect(capacity(parseRangeSet(d, "r", ranges))).toBe(count);
});

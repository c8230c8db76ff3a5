import { describe, expect, test } from "bun:test";
import type { Json, JsonObject } from "../base/json.ts";
import { checkClosed, checkOpen, describe as describeSchema, type Keys, SchemaError } from "./schema.ts";

const keys = {
  name: { type: "string", format: "ifname", required: true },
  mtu: { type: "integer", min: 68, max: 9000 },
  mode: { type: "string", enum: ["bridge", "private"], default: "bridge" },
  up: { type: "boolean", default: false },
  at: { type: "string", format: "cidr" },
  to: { type: "string", format: "ip" },
  mac: { type: "string", format: "mac" },
  pool: { type: "string", format: "key" },
  short: { type: "string", format: "key", maxLength: 4 },
  text: { type: "string", maxLength: 4 },
  vlans: { type: "array", maxItems: 2, items: { type: "object", keys: { id: { type: "integer", required: true } } } },
  peer: { type: "object", keys: { mtu: { type: "integer", default: 1500 } } },
  limits: { type: "map", values: { type: "integer" }, maxKeys: 2 },
  any: { type: "any" },
} as const satisfies Keys;

describe("checkClosed()", () => {
  test("fills in defaults, also of objects that are there", () => {
    const read = checkClosed(keys, { name: "eth0", peer: {} });
    expect(read).toEqual({ name: "eth0", mode: "bridge", up: false, peer: { mtu: 1500 } });
    const mode: "bridge" | "private" = read.mode; // the types come from the schema
    const mtu: number | undefined = read.mtu;
    expect([mode, mtu]).toEqual(["bridge", undefined]);
  });

  test.each([
    [[], "(top level)", "expected an object, got []"],
    [{}, "name", "expected an interface name of 1 to 15 printable characters, got nothing"],
    [{ name: null }, "name", "expected an interface name of 1 to 15 printable characters, got nothing"],
    [{ name: "a/b" }, "name", 'expected an interface name of 1 to 15 printable characters, got "a/b"'],
    [{ name: "e", mtu: 67 }, "mtu", "expected an integer from 68 to 9000, got 67"],
    [{ name: "e", mtu: 1500.5 }, "mtu", "expected an integer from 68 to 9000, got 1500.5"],
    [{ name: "e", mtu: "1500" }, "mtu", 'expected an integer from 68 to 9000, got "1500"'],
    [{ name: "e", mode: "vepa" }, "mode", 'expected one of "bridge", "private", got "vepa"'],
    [{ name: "e", up: 1 }, "up", "expected a boolean, got 1"],
    [{ name: "e", at: "10.0.0.1" }, "at", 'expected an IP address with a prefix length, got "10.0.0.1"'],
    [{ name: "e", to: "10.0.0.256" }, "to", 'expected an IP address, got "10.0.0.256"'],
    [{ name: "e", mac: "00:11" }, "mac", 'expected a MAC address of six bytes, got "00:11"'],
    [{ name: "e", pool: "../x" }, "pool", "expected 1 to 128 letters, digits, '_', '.', '-', got \"../x\""],
    [{ name: "e", short: "12345" }, "short", "expected at most 4 characters, got 5"],
    [{ name: "e", text: "12345" }, "text", "expected at most 4 characters, got 5"],
    [{ name: "e", vlans: {} }, "vlans", "expected an array, got {}"],
    [{ name: "e", vlans: [{ id: 1 }, { id: 2 }, { id: 3 }] }, "vlans", "expected at most 2 elements, got 3"],
    [{ name: "e", vlans: [{ id: 1 }, {}] }, "vlans[1].id", "expected an integer, got nothing"],
    [{ name: "e", peer: { mtu: 1, up: true } }, "peer.up", "expected no such member"],
    [{ name: "e", limits: { a: 1, b: 2, c: 3 } }, "limits", "expected at most 2 keys, got 3"],
    [{ name: "e", limits: { a: "1" } }, "limits.a", 'expected an integer, got "1"'],
    [{ name: "e", Mode: "bridge" }, "Mode", "expected no such member"],
    [{ name: "e", mode: "" }, "mode", 'expected one of "bridge", "private", got ""'],
  ] as [Json, string, string][])("refuses %j", (value, member, message) => {
    let thrown: unknown;
    try {
      checkClosed(keys, value);
    } catch (e) {
      thrown = e;
    }
    expect(thrown).toBeInstanceOf(SchemaError);
    expect([(thrown as SchemaError).member, (thrown as SchemaError).message]).toEqual([member, message]);
  });
});

describe("checkOpen()", () => {
  const base = { name: "e", mode: "bridge", up: false };
  test.each([
    ["keeps what it does not name", { name: "e", ipam: { type: "x" } }, { ...base, ipam: { type: "x" } }],
    ["reads names as Go does, without regard to case", { NAME: "e", Up: true }, { ...base, up: true }],
    ["prefers the exact name", { name: "e", Name: "f" }, { ...base, Name: "f" }],
    ["takes an empty enumeration for an absent one", { name: "e", mode: "" }, base],
    ["takes an empty address for an absent one", { name: "e", at: "", text: "" }, { ...base, text: "" }],
    ["keeps unknown keys of objects inside", { name: "e", peer: { x: 1 } }, { ...base, peer: { mtu: 1500, x: 1 } }],
  ] as [string, JsonObject, JsonObject][])("%s", (_, value, want) => {
    expect(checkOpen(keys, value)).toEqual(want);
  });

  test("refuses what it does name and is wrong", () => {
    expect(() => checkOpen(keys, { name: "e", mtu: 1 })).toThrow("expected an integer from 68 to 9000, got 1");
  });
});

test("describe() says what a value must be", () => {
  expect(describeSchema({ type: "integer" })).toBe("an integer");
  expect(describeSchema({ type: "map", values: { type: "any" } })).toBe("an object");
  expect(describeSchema({ type: "any" })).toBe("any JSON value");
});

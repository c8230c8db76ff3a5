import { describe, expect, test } from "bun:test";
import { type Cidr, parseCidr } from "../base/ip.ts";
import type { NftExpression } from "../netlink/nft-expression.ts";
import { macCheck, masquerade, type NftFeature, removal } from "./nft.ts";
import type { NftChange } from "./nftables.ts";

const cidr = (text: string): Cidr => parseCidr(text) ?? { ip: { family: 4, bytes: new Uint8Array(4) }, prefix: 0 };

/** Changes as a person would tell them. */
function tell(changes: readonly NftChange[]): string[] {
  return changes.map((c) => {
    const what = c.what === "map" || c.what === "element" ? c.map : c.what === "table" ? c.table : c.chain;
    return `${c.op} ${c.what} ${what}${c.what === "element" ? ` ${c.key.toHex()} > ${c.chain}` : ""}`;
  });
}

/** Rules as loads and comparisons. */
function tellRules(feature: NftFeature): string[] {
  const word = (e: NftExpression): string => {
    if (e.payload !== undefined) return `load ${e.payload.offset}+${e.payload.length}`;
    if (e.cmp !== undefined) return `${e.cmp.op === 1 ? "!=" : "=="} ${e.cmp.data?.value?.toHex()}`;
    if (e.bitwise !== undefined) return `& ${e.bitwise.mask?.value?.toHex()}`;
    return e.name ?? "";
  };
  const rules = feature.chains.get(feature.undo.chain) ?? [];
  return rules.map((rule) => rule.map(word).join(", "));
}

describe("masquerade()", () => {
  test("is one transaction: what is shared, the chain, and what leads to it last", () => {
    expect(tell(masquerade("k", [cidr("10.1.0.5/24")]).add)).toEqual([
      "add table patchbay",
      "add map masq4",
      "add map masq6",
      "add chain postrouting",
      "flush chain postrouting",
      "add rule postrouting",
      "add rule postrouting",
      "add chain masq-k",
      "flush chain masq-k",
      "add rule masq-k",
      "add element masq4 0a010005 > masq-k",
    ]);
  });
  test.each([
    ["10.1.0.5/24", "load 16+3, != 0a0100"],
    ["10.1.0.5/20", "load 16+4, & fffff000, != 0a010000"],
    ["10.1.0.5/32", "load 16+4, != 0a010005"],
    ["10.1.0.5/31", "load 16+4, & fffffffe, != 0a010004"],
    ["10.1.0.5/1", "load 16+4, & 80000000, != 00000000"],
    ["10.1.0.5/0", "load 16+4, & 00000000, != 00000000"],
  ])("of %s spares its network and multicast", (address, network) => {
    const want = `meta, == 02, load 12+4, == 0a010005, ${network}, load 16+4, & f0000000, != e0000000, masq`;
    expect(tellRules(masquerade("k", [cidr(address)]))).toEqual([want]);
  });
  test("of IPv6", () => {
    const want =
      "meta, == 0a, load 8+16, == fd000000000000000000000000000005, load 24+8, != fd00000000000000, load 24+1, != ff, masq";
    expect(tellRules(masquerade("k", [cidr("fd00::5/64")]))).toEqual([want]);
  });
  test("in a layer below has a base chain and maps of its own", () => {
    const { add, undo } = masquerade("k", [cidr("10.1.0.5/24")], 2);
    expect(tell(add)).toEqual([
      "add table patchbay",
      "add map masq4_2",
      "add map masq6_2",
      "add chain postrouting_2",
      "flush chain postrouting_2",
      "add rule postrouting_2",
      "add rule postrouting_2",
      "add chain masq-k",
      "flush chain masq-k",
      "add rule masq-k",
      "add element masq4_2 0a010005 > masq-k",
    ]);
    expect(tell(removal(undo))).toEqual(["delete element masq4_2 0a010005 > masq-k", "delete chain masq-k"]);
  });
  test("is undone from plain data", () => {
    const { undo } = masquerade("k", [cidr("10.1.0.5/24"), cidr("fd00::5/64")]);
    expect(JSON.parse(JSON.stringify(undo))).toEqual({
      family: "inet",
      table: "patchbay",
      chain: "masq-k",
      elements: [
        { map: "masq4", key: "10.1.0.5" },
        { map: "masq6", key: "fd00::5" },
      ],
    });
    expect(tell(removal(undo))).toEqual([
      "delete element masq4 0a010005 > masq-k",
      "delete element masq6 fd000000000000000000000000000005 > masq-k",
      "delete chain masq-k",
    ]);
  });
});

describe("macCheck()", () => {
  test("drops frames from the port with another source", () => {
    const feature = macCheck("k", "veth0", "02:00:00:00:00:07");
    expect(tellRules(feature)).toEqual(["load 6+6, != 020000000007, immediate"]);
    expect(tell(feature.add).at(-1)).toBe("add element macs 76657468300000000000000000000000 > mac-k");
  });
  test.each(["", "02:00:00:00:00", "00:00:00:00:fe:80:00:00"])("refuses the hardware address %p", (mac) => {
    expect(() => macCheck("k", "veth0", mac)).toThrow("EINVAL");
  });
});

test("removal() refuses a record with a map or a key that is none", () => {
  const undo = { family: "inet", table: "patchbay", chain: "c" } as const;
  expect(() => removal({ ...undo, elements: [{ map: "theirs", key: "10.1.0.5" }] })).toThrow("it is none of ours");
  expect(() => removal({ ...undo, elements: [{ map: "masq4", key: "fd00::5x" }] })).toThrow("expected an address");
});

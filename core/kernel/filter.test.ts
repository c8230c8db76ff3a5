/** The rules of attachments in iptables-nft's tables, on a simulated node; what packets make of them is in test/netns. */
import { beforeEach, describe, expect, test } from "bun:test";
import { formatIp, parseIp } from "../base/ip.ts";
import { Verdict } from "../netlink/nft-data.ts";
import type { NftExpression } from "../netlink/nft-expression.ts";
import { accept, droppers, isAccepted, withdraw, withdrawAll, withdrawReference } from "./filter.ts";
import { isolate, policyOf, unisolate } from "./isolation.ts";
import type { Kernel } from "./kernel.ts";
import type { NftChange, NftRule } from "./nftables.ts";
import { SimulatedNode } from "./simulated.ts";

const ip = (text: string) => {
  const found = parseIp(text);
  if (found === undefined) throw new TypeError(text);
  return found;
};
const a = { key: "a1", addresses: [ip("10.1.0.5"), ip("fd00::5")] };
const b = { key: "b2", addresses: [ip("10.1.0.5")] };
const at = { family: "ip", table: "filter" } as const;
/** The reference's rule asks for related and established alone. */
function withoutDnat(e: NftExpression): NftExpression {
  if (e.match?.name !== "conntrack" || e.match.info === undefined) return e;
  const info = e.match.info.slice();
  info[150] = 6;
  return { name: "match", match: { ...e.match, info } };
}
const verdict = (code: number, chain?: string): NftExpression => ({
  name: "immediate",
  immediate: { to: 0, data: { verdict: chain === undefined ? { code } : { code, chain } } },
});
/** `-m comment --comment …` of iptables-nft. */
const remark: NftExpression = { name: "match", match: { name: "comment", revision: 0, info: new Uint8Array(256) } };
const extension = (name: string): NftExpression => ({
  name: "target",
  target: { name, revision: 0, info: new Uint8Array(4) },
});
const counter: NftExpression = { name: "counter" };
const fromLink: NftExpression = { name: "meta", meta: { key: 6, to: 1 } };

let node: SimulatedNode;
let host: Kernel;
beforeEach(() => {
  node = new SimulatedNode();
  host = node.netns("host", { host: true });
});

/** A rule as a person would tell it. */
function tell({ chain, expressions }: NftRule): string {
  const words = expressions.map((e) => {
    if (e.match?.info !== undefined) {
      const text = new TextDecoder().decode(e.match.info).replaceAll("\0", "");
      return e.match.name === "comment" ? `"${text}"` : e.match.name;
    }
    if (e.cmp?.data?.value !== undefined) {
      return formatIp({ family: e.cmp.data.value.length === 4 ? 4 : 6, bytes: e.cmp.data.value });
    }
    if (e.payload !== undefined) return e.payload.offset === 12 || e.payload.offset === 8 ? "from" : "to";
    const to = e.immediate?.data?.verdict;
    return to === undefined ? e.name : (to.chain ?? Object.entries(Verdict).find(([, code]) => code === to.code)?.[0]);
  });
  return `${chain}: ${words.filter((word) => word !== "counter").join(" ")}`;
}
const rules = (family: "ip" | "ip6" = "ip"): string[] | undefined => host.nft.table(family, "filter")?.rules.map(tell);
const own = (key: string, address: string): string[] => [
  `CNI-FORWARD: to ${address} conntrack "patchbay ${key}" ACCEPT`,
  `CNI-FORWARD: from ${address} "patchbay ${key}" ACCEPT`,
];
const jump = 'FORWARD: "CNI firewall plugin rules" CNI-FORWARD';
const admin = 'CNI-FORWARD: "CNI firewall plugin admin overrides" CNI-ADMIN';
const add = (...changes: NftChange[]): void => host.nft.change(changes);

describe("accept() and withdraw()", () => {
  test("make what is not there, once, and take it away again", () => {
    for (let i = 0; i < 2; i++) accept(host, a, "CNI-ADMIN");
    expect(rules("ip")).toEqual([jump, admin, ...own("a1", "10.1.0.5")]);
    expect(rules("ip6")).toEqual([jump, admin, ...own("a1", "fd00::5")]);
    expect(isAccepted(host, a, "CNI-ADMIN")).toBe(true);
    expect(isAccepted(host, a, "OTHER")).toBe(false);
    for (let i = 0; i < 2; i++) withdraw(host, a);
    expect([rules("ip"), rules("ip6")]).toEqual([undefined, undefined]);
    expect(isAccepted(host, a, "CNI-ADMIN")).toBe(false);
  });
  test("the jump goes before what is there", () => {
    const base = { type: "filter", hook: "forward", priority: 0, drops: true } as const;
    add({ op: "add", ...at, what: "table" }, { op: "add", ...at, what: "chain", chain: "FORWARD", base });
    add({ op: "add", ...at, what: "rule", chain: "FORWARD", expressions: [verdict(Verdict.DROP)] });
    accept(host, b, "CNI-ADMIN");
    expect(rules()?.slice(0, 2)).toEqual([jump, "FORWARD: DROP"]);
    withdraw(host, b);
    expect(rules()).toEqual(["FORWARD: DROP"]);
    expect(host.nft.chains("ip", "filter")).toEqual(["FORWARD"]);
  });
  test("one address of two attachments: each removes its own", () => {
    accept(host, a, "CNI-ADMIN");
    accept(host, b, "CNI-ADMIN");
    withdraw(host, a);
    expect(rules()).toEqual([jump, admin, ...own("b2", "10.1.0.5")]);
    expect(isAccepted(host, b, "CNI-ADMIN")).toBe(true);
    withdraw(host, b);
    expect(rules()).toBeUndefined();
  });
  test("a chain of the administrator's that has a rule stays, and the way to it", () => {
    accept(host, b, "CNI-ADMIN");
    add({ op: "add", ...at, what: "rule", chain: "CNI-ADMIN", expressions: [verdict(Verdict.DROP)] });
    withdraw(host, b);
    expect(rules()?.toSorted()).toEqual([admin, "CNI-ADMIN: DROP", jump].toSorted());
  });
  test("chains that were there before stay", () => {
    const chains = ["FORWARD", "CNI-ADMIN"].map((chain): NftChange => ({ op: "add", ...at, what: "chain", chain }));
    add({ op: "add", ...at, what: "table" }, ...chains);
    accept(host, b, "CNI-ADMIN");
    withdraw(host, b);
    expect(host.nft.chains("ip", "filter")).toEqual(["FORWARD", "CNI-ADMIN"]);
    expect(rules()).toEqual([]);
  });
  test("what the reference made is removed by its address, and ours is not", () => {
    accept(host, b, "CNI-ADMIN");
    const plain = (host.nft.table("ip", "filter")?.rules ?? [])
      .filter((rule) => tell(rule).includes("patchbay"))
      .map((rule) => rule.expressions.filter((e) => e.match?.name !== "comment").map(withoutDnat));
    for (const expressions of plain) add({ op: "add", ...at, what: "rule", chain: "CNI-FORWARD", expressions });
    expect(rules()).toHaveLength(6);
    withdrawReference(host, [ip("10.1.0.6")]);
    expect(rules()).toHaveLength(6);
    withdrawReference(host, [ip("10.1.0.5")]);
    expect(rules()).toEqual([jump, admin, ...own("b2", "10.1.0.5")]);
  });
  test("by the key alone, when nothing else is known", () => {
    accept(host, a, "CNI-ADMIN");
    accept(host, { ...b, addresses: [ip("10.1.0.9")] }, "CNI-ADMIN");
    withdrawAll(host, "a1");
    expect(rules("ip")).toEqual([jump, admin, ...own("b2", "10.1.0.9")]);
    expect(rules("ip6")).toBeUndefined();
  });
  test("is one transaction, which fails whole", () => {
    node.fault = ({ call }) => (call === "nft" ? 1 : undefined);
    expect(() => accept(host, a, "CNI-ADMIN")).toThrow("EPERM");
    expect(rules()).toBeUndefined();
  });
});

describe("droppers()", () => {
  const chainOf = (family: "inet" | "ip" | "ip6", table: string, drops: boolean, ...last: NftExpression[]): void => {
    const place = { family, table } as const;
    const base = { type: "filter", hook: "forward", priority: 0, drops } as const;
    add({ op: "add", ...place, what: "table" }, { op: "add", ...place, what: "chain", chain: "FORWARD", base });
    if (last.length > 0) add({ op: "add", ...place, what: "rule", chain: "FORWARD", expressions: last });
  };
  test("by policy or by a last rule without conditions", () => {
    chainOf("ip", "filter", true);
    chainOf("ip6", "filter", false, { name: "counter" }, { name: "reject" });
    chainOf("inet", "mine", false, verdict(Verdict.DROP));
    chainOf("ip", "open", false, fromLink, verdict(Verdict.DROP));
    chainOf("ip", "xt", false, extension("REJECT"));
    chainOf("inet", "patchbay", true);
    node.legacyTables.push(
      { family: 6, table: "mangle", forward: "drop" },
      { family: 4, table: "filter", forward: "accept" },
    );
    expect(droppers(host).map((d) => [d.name, d.families.join(), d.by, d.ours])).toEqual([
      ["nft chain ip filter FORWARD", "4", "policy", true],
      ["nft chain ip6 filter FORWARD", "6", "rule", true],
      ["nft chain inet mine FORWARD", "4,6", "rule", false],
      ["nft chain ip xt FORWARD", "4", "rule", false],
      ["ip6tables-legacy chain mangle FORWARD", "6", "policy", false],
    ]);
  });
});

describe("droppers(), by the rules of a chain", () => {
  type Rules = readonly (readonly NftExpression[])[];
  const to = (chain: string): NftExpression => verdict(Verdict.JUMP, chain);
  const over = (chain: string): NftExpression => verdict(Verdict.GOTO, chain);
  const drop = verdict(Verdict.DROP);
  const logDrop: Rules = [
    [counter, extension("LOG")],
    [counter, drop],
  ];
  const rows: readonly (readonly [string, boolean, { readonly FORWARD: Rules } & Readonly<Record<string, Rules>>])[] = [
    ["a comment before DROP", true, { FORWARD: [[remark, counter, drop]] }],
    ["a comment before REJECT", true, { FORWARD: [[remark, counter, extension("REJECT")]] }],
    ["another match beside the comment", false, { FORWARD: [[remark, fromLink, counter, drop]] }],
    ["a jump to a chain that logs and drops", true, { FORWARD: [[remark, counter, to("LOGDROP")]], LOGDROP: logDrop }],
    ["a goto there", true, { FORWARD: [[over("LOGDROP")]], LOGDROP: logDrop }],
    ["a jump there from some packets alone", false, { FORWARD: [[fromLink, to("LOGDROP")]], LOGDROP: logDrop }],
    ["a jump, by way of another chain", true, { FORWARD: [[to("A")]], A: [[over("B")]], B: [[{ name: "reject" }]] }],
    ["a jump that comes back, then a drop", true, { FORWARD: [[to("A")], [drop]], A: [[fromLink, drop]] }],
    ["a goto that does not come back here", false, { FORWARD: [[over("A")], [drop]], A: [[fromLink, drop]] }],
    ["a rule behind the drop", true, { FORWARD: [[drop], [fromLink, verdict(Verdict.ACCEPT)]] }],
    ["a drop behind what accepts all", false, { FORWARD: [[counter, verdict(Verdict.ACCEPT)], [drop]] }],
    ["a drop behind a chain that accepts all", false, { FORWARD: [[to("A")], [drop]], A: [[verdict(Verdict.ACCEPT)]] }],
    ["a drop behind the return", false, { FORWARD: [[to("A")]], A: [[verdict(Verdict.RETURN)], [drop]] }],
  ];
  test.each(rows)("%s", (_, drops, chains) => {
    const mine = { family: "ip", table: "mine" } as const;
    const base = { type: "filter", hook: "forward", priority: 0 } as const;
    add(
      { op: "add", ...mine, what: "table" },
      ...Object.keys(chains).map((chain): NftChange => {
        return { op: "add", ...mine, what: "chain", chain, ...(chain === "FORWARD" && { base }) };
      }),
      ...Object.entries(chains).flatMap(([chain, rules]) =>
        rules.map((e): NftChange => ({ op: "add", ...mine, what: "rule", chain, expressions: [...e] })),
      ),
    );
    expect(droppers(host).map((d) => [d.name, d.by])).toEqual(drops ? [["nft chain ip mine FORWARD", "rule"]] : []);
  });
});

describe("isolate()", () => {
  test("and back, each as often as wanted; the stricter policy stays", () => {
    expect(policyOf(host, "br0")).toBeUndefined();
    for (let i = 0; i < 2; i++) isolate(host, "br0", "same-bridge");
    expect(policyOf(host, "br0")).toBe("same-bridge");
    isolate(host, "br_1", "isolated");
    isolate(host, "br_1", "same-bridge");
    expect(policyOf(host, "br_1")).toBe("isolated");
    for (let i = 0; i < 2; i++) unisolate(host, "br0");
    expect([policyOf(host, "br0"), policyOf(host, "br_1")]).toEqual([undefined, "isolated"]);
    expect(host.nft.chains("inet", "patchbay").toSorted()).toEqual(["deny", "iso-br_5f_1", "isolation"]);
  });
  test("half of it is none", () => {
    isolate(host, "br0", "isolated");
    add({ op: "flush", family: "inet", table: "patchbay", what: "chain", chain: "deny" });
    expect(policyOf(host, "br0")).toBeUndefined();
  });
});

/**
 * Networks kept apart: what comes in by one isolated link of the node and would leave by another is dropped. Drops count
 * wherever they stand, so these are in tables of ours. An isolated link's rules are its own, and its attachments share
 * them.
 */
import { Verdict } from "../netlink/nft-data.ts";
import { Compare, MetaKey, type NftExpression, Register } from "../netlink/nft-expression.ts";
import type { Kernel } from "./kernel.ts";
import { hasJust } from "./nft.ts";
import type { NftChange } from "./nftables.ts";

/**
 * `isolated`: what comes in by a link does not leave by it either. That is about packets that are at; between ports
 * of a bridge it is the ports' own flag that parts them.
 */
export type IsolationPolicy = "same-bridge" | "isolated";

const TABLE = "patchbay";
const at = { family: "inet", table: TABLE } as const;
const ISOLATION = "isolation";
const DENY = "deny";

const loadMeta = (key: number): NftExpression => ({ name: "meta", meta: { key, to: Register.ONE } });
const jumpBy = (map: string): NftExpression => ({
  name: "lookup",
  lookup: { from: Register.ONE, to: Register.VERDICT, set: map },
});
const isEqual = (value: Uint8Array): NftExpression => ({
  name: "cmp",
  cmp: { from: Register.ONE, op: Compare.EQ, data: { value } },
});
const verdict = (code: number): NftExpression => ({
  name: "immediate",
  immediate: { to: Register.VERDICT, data: { verdict: { code } } },
});
const drop = verdict(Verdict.DROP);

function nameBytes(link: string): Uint8Array {
  const bytes = new Uint8Array(16);
  bytes.set(new TextEncoder().encode(link).subarray(0, 15));
  return bytes;
}

/** In names of chains only these may stand; a link's name may have others, and each becomes its number. */
const chainOf = (link: string): string =>
  `iso-${link.replaceAll(/[^A-Za-z0-9.-]/g, (c) => `_${c.codePointAt(0)?.toString(16)}_`)}`;

const fromLink = [[loadMeta(MetaKey.IIFNAME), jumpBy("isofrom")]];
const linkRules = (link: string, policy: IsolationPolicy): NftExpression[][] => [
  [loadMeta(MetaKey.OIFNAME), isEqual(nameBytes(link)), policy === "isolated" ? drop : verdict(Verdict.RETURN)],
  [loadMeta(MetaKey.OIFNAME), jumpBy("isoto")],
];
const rulesOf = (chain: string, rules: readonly NftExpression[][]): NftChange[] => [
  { op: "flush", ...at, what: "chain", chain },
  ...rules.map((expressions): NftChange => ({ op: "add", ...at, what: "rule", chain, expressions })),
];

const elements = (link: string): { readonly map: string; readonly chain: string }[] => [
  { map: "isofrom", chain: chainOf(link) },
  { map: "isoto", chain: DENY },
];

/** Isolates a link of the node. One that another network isolated more strictly stays as strict. */
export function isolate(kernel: Kernel, link: string, wanted: IsolationPolicy): void {
  const chain = chainOf(link);
  const key = nameBytes(link);
  const hook = { type: "filter", hook: "forward", priority: -10 } as const;
  kernel.nft.revise(() => {
    const found = policyOf(kernel, link);
    if (found === wanted || found === "isolated") return []; // rules written anew keep the kernel busy
    return [
      { op: "add", ...at, what: "table" },
      { op: "add", ...at, what: "map", map: "isofrom", key: "ifname" },
      { op: "add", ...at, what: "map", map: "isoto", key: "ifname" },
      { op: "add", ...at, what: "chain", chain: ISOLATION, base: hook },
      ...rulesOf(ISOLATION, fromLink),
      { op: "add", ...at, what: "chain", chain: DENY },
      ...rulesOf(DENY, [[drop]]),
      { op: "add", ...at, what: "chain", chain },
      ...rulesOf(chain, linkRules(link, wanted)),
      ...elements(link).map((e): NftChange => ({ op: "add", ...at, what: "element", key, ...e })),
    ];
  });
}

/** Takes a link's isolation away; what is gone already is no failure. */
export function unisolate(kernel: Kernel, link: string): void {
  const key = nameBytes(link);
  kernel.nft.change([
    ...elements(link).map((e): NftChange => ({ op: "delete", ...at, what: "element", key, ...e })),
    { op: "delete", ...at, what: "chain", chain: chainOf(link) },
  ]);
}

/** The policy that a link has; undefined when it is not isolated, or only half. */
export function policyOf(kernel: Kernel, link: string): IsolationPolicy | undefined {
  const key = nameBytes(link).toHex();
  const leads = elements(link).every(({ map, chain }) =>
    kernel.nft.elements(at.family, TABLE, map)?.some((e) => e.key.toHex() === key && e.chain === chain),
  );
  const has = (chain: string, rules: readonly NftExpression[][]): boolean => hasJust(kernel, { ...at, chain }, rules);
  if (!leads || !has(ISOLATION, fromLink) || !has(DENY, [[drop]])) return undefined;
  const policies = ["isolated", "same-bridge"] as const;
  return policies.find((policy) => has(chainOf(link), linkRules(link, policy)));
}

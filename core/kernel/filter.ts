/**
 * Accepting an attachment's packets where packets are dropped. A verdict counts in its own base chain alone, so an accept
 * in a table of ours would change nothing: it has to stand in the chain that drops. The one that we may write to is
 * iptables-nft's FORWARD, in expressions that iptables-save(8) reads: addresses, the matches `conntrack` and `comment`,
 * a counter, a verdict. Native `ct` or a set would print as a rule without conditions, or make the table unreadable.
 *
 * The chains are those of the reference plugin: FORWARD jumps to CNI-FORWARD, whose first rule jumps to the
 * administrator's chain. Two rules follow for each address, with the attachment's key in a comment: so each removes its
 * own, whoever else has the address, and iptables-restore(8) keeps them apart.
 */
import { formatIp, type Ip } from "../base/ip.ts";
import type { NftFamily } from "../netlink/nft.ts";
import { Verdict } from "../netlink/nft-data.ts";
import { Compare, type NftExpression, PayloadBase, Register } from "../netlink/nft-expression.ts";
import type { Kernel } from "./kernel.ts";
import { covers } from "./nft.ts";
import type { NftChange, NftRule, NftTableContent } from "./nftables.ts";

const TABLE = "filter";
const FORWARD = "FORWARD";
const POD_CHAIN = "CNI-FORWARD";
export const ADMIN_CHAIN = "CNI-ADMIN";
const OWN_TABLE = "patchbay";

/** Who accepts, and whose packets. */
export interface Acceptance {
  /** Names the attachment: the same in ADD and DEL, of `[A-Za-z0-9_.-]`. */
  readonly key: string;
  readonly addresses: readonly Ip[];
}

// --- Expressions, byte for byte those of iptables-nft ----------------------------------------------------------------

const COMMENT_BYTES = 256;
const CONNTRACK_BYTES = 168;

const comment = (text: string): NftExpression => {
  const info = new Uint8Array(COMMENT_BYTES);
  info.set(new TextEncoder().encode(text).subarray(0, COMMENT_BYTES - 1));
  return { name: "match", match: { name: "comment", revision: 0, info } };
};

/** `XT_CONNTRACK_STATE_BIT` of established and related, and `XT_CONNTRACK_STATE_DNAT`. */
const State = { ANSWERS: 2 | 4, DNAT: 128 } as const;

/** `struct xt_conntrack_mtinfo3` for some states; three fields of it are not zero. */
function inState(states: number): NftExpression {
  const info = new Uint8Array(CONNTRACK_BYTES);
  const view = new DataView(info.buffer);
  view.setUint16(146, 1, true); // match_flags: XT_CONNTRACK_STATE
  view.setUint16(150, states, true); // state_mask
  return { name: "match", match: { name: "conntrack", revision: 3, info } };
}

const counter: NftExpression = { name: "counter", counter: { bytes: 0n, packets: 0n } };
const verdict = (code: number, chain?: string): NftExpression => ({
  name: "immediate",
  immediate: { to: Register.VERDICT, data: { verdict: chain === undefined ? { code } : { code, chain } } },
});

const fields = {
  4: { source: 12, destination: 16, length: 4 },
  6: { source: 8, destination: 24, length: 16 },
} as const;

function isAddress(which: "source" | "destination", ip: Ip): NftExpression[] {
  const { [which]: offset, length } = fields[ip.family];
  return [
    { name: "payload", payload: { to: Register.ONE, base: PayloadBase.NETWORK, offset, length } },
    { name: "cmp", cmp: { from: Register.ONE, op: Compare.EQ, data: { value: ip.bytes } } },
  ];
}

/** What accepts the packets of an address: those that are for it in some states, and all that it sends. */
function acceptRules(ip: Ip, states: number, ...more: readonly NftExpression[]): NftExpression[][] {
  const end = [...more, counter, verdict(Verdict.ACCEPT)];
  return [
    [...isAddress("destination", ip), inState(states), ...end],
    [...isAddress("source", ip), ...end],
  ];
}

/** Beside answers DNAT, which the reference lacks: whoever published a port of the node wants it to be reached. */
const rulesFor = (ip: Ip, key: string): NftExpression[][] =>
  acceptRules(ip, State.ANSWERS | State.DNAT, comment(words(key)));
const referenceRulesFor = (ip: Ip): NftExpression[][] => acceptRules(ip, State.ANSWERS);

const words = (key: string): string => `patchbay ${key}`;
const toPods = [comment("CNI firewall plugin rules"), counter, verdict(Verdict.JUMP, POD_CHAIN)];
const toAdmin = (chain: string): NftExpression[] => [
  comment("CNI firewall plugin admin overrides"),
  counter,
  verdict(Verdict.JUMP, chain),
];

/** Whether a rule says the same; what it has counted does not matter, nor whether it counts. */
function says(rule: NftRule, wanted: readonly NftExpression[]): boolean {
  const [found, want] = [rule.expressions, wanted].map((list) => list.filter((e) => e.name !== "counter"));
  return found?.length === want?.length && want?.every((e, i) => covers(found?.[i], e)) === true;
}

const target = (rule: NftRule): string | undefined =>
  rule.expressions.find((e) => e.immediate?.data?.verdict?.chain !== undefined)?.immediate?.data?.verdict?.chain;

// --- What we made, noted in the rule that leads to it ----------------------------------------------------------------

/** A type of note that neither nft(8) nor iptables(8) has a meaning for. */
const NOTE = 0x50;
const Made = { TABLE: 1, FORWARD: 2, PODS: 4, ADMIN: 8 } as const;

const note = (made: number): Uint8Array => Uint8Array.of(NOTE, 1, made);
const madeBy = ({ userData }: NftRule): number | undefined =>
  userData?.length === 3 && userData[0] === NOTE ? userData[2] : undefined;

// --- Families --------------------------------------------------------------------------------------------------------

const families = [
  { version: 4, family: "ip" },
  { version: 6, family: "ip6" },
] as const;
type Family = (typeof families)[number]["family"];

const inFamily = (version: 4 | 6, addresses: readonly Ip[]): readonly Ip[] =>
  addresses.filter((ip) => ip.family === version);

const NOTHING: NftTableContent = { chains: [], rules: [] };

/** Accepts what comes from the addresses, and what answers it. Again for the same changes nothing. */
export function accept(kernel: Kernel, { key, addresses }: Acceptance, adminChain: string): void {
  kernel.nft.revise(() =>
    families.flatMap(({ version, family }): NftChange[] => {
      const ips = inFamily(version, addresses);
      return ips.length === 0 ? [] : accepting(kernel, family, ips, key, adminChain);
    }),
  );
}

function accepting(kernel: Kernel, family: Family, ips: readonly Ip[], key: string, admin: string): NftChange[] {
  const at = { family, table: TABLE } as const;
  const found = kernel.nft.table(family, TABLE);
  const { chains, rules } = found ?? NOTHING;
  const lacks = (chain: string): boolean => !chains.includes(chain);
  const inChain = (chain: string): readonly NftRule[] => rules.filter((rule) => rule.chain === chain);
  const changes: NftChange[] = [];
  if (found === undefined) changes.push({ op: "add", ...at, what: "table" });
  if (lacks(FORWARD)) {
    const base = { type: "filter", hook: "forward", priority: 0 } as const;
    changes.push({ op: "add", ...at, what: "chain", chain: FORWARD, base });
  }
  for (const chain of [POD_CHAIN, admin]) {
    if (lacks(chain)) changes.push({ op: "add", ...at, what: "chain", chain });
  }
  const add = (chain: string, expressions: NftExpression[], first: boolean, made?: number): void => {
    const userData = made === undefined ? undefined : note(made);
    changes.push({ op: "add", ...at, what: "rule", chain, expressions, first, compat: true, userData });
  };
  if (!inChain(FORWARD).some((rule) => says(rule, toPods))) {
    const made =
      (found === undefined ? Made.TABLE : 0) | (lacks(FORWARD) ? Made.FORWARD : 0) | (lacks(POD_CHAIN) ? Made.PODS : 0);
    add(FORWARD, toPods, true, made);
  }
  if (!inChain(POD_CHAIN).some((rule) => says(rule, toAdmin(admin)))) {
    // Noted twice: somebody may delete either of the two rules.
    add(POD_CHAIN, toAdmin(admin), true, (lacks(admin) ? Made.ADMIN : 0) | (lacks(POD_CHAIN) ? Made.PODS : 0));
  }
  for (const wanted of ips.flatMap((ip) => rulesFor(ip, key))) {
    if (!inChain(POD_CHAIN).some((rule) => says(rule, wanted))) add(POD_CHAIN, wanted, false);
  }
  return changes;
}

/** Whether all rules of the attachment are there, and the way to them. */
export function isAccepted(kernel: Kernel, { key, addresses }: Acceptance, adminChain: string): boolean {
  return families.every(({ version, family }) => {
    const ips = inFamily(version, addresses);
    if (ips.length === 0) return true;
    const { rules } = kernel.nft.table(family, TABLE) ?? NOTHING;
    const has = (chain: string, wanted: readonly NftExpression[]): boolean =>
      rules.some((rule) => rule.chain === chain && says(rule, wanted));
    if (!has(FORWARD, toPods) || !has(POD_CHAIN, toAdmin(adminChain))) return false;
    return ips.flatMap((ip) => rulesFor(ip, key)).every((wanted) => has(POD_CHAIN, wanted));
  });
}

/** Removes the attachment's rules; after the last of anybody's also the chains that we made and nobody put a rule into. */
export function withdraw(kernel: Kernel, { key, addresses }: Acceptance): void {
  remove(kernel, addresses, (ip) => rulesFor(ip, key));
}

/** As `withdraw()`, for an address that the reference plugin accepted: one rule of each kind, as its DEL removes them. */
export function withdrawReference(kernel: Kernel, addresses: readonly Ip[]): void {
  remove(kernel, addresses, referenceRulesFor);
}

/** As `withdraw()`, when no record says which addresses an attachment had: its key is in the rules. */
export function withdrawAll(kernel: Kernel, key: string): void {
  const mark = comment(words(key));
  kernel.nft.revise(() =>
    families.flatMap(({ family }) =>
      removing(kernel, family, (rule) => rule.expressions.some((e) => covers(e, mark)) && target(rule) === undefined),
    ),
  );
}

function remove(kernel: Kernel, addresses: readonly Ip[], rules: (ip: Ip) => NftExpression[][]): void {
  kernel.nft.revise(() =>
    families.flatMap(({ version, family }): NftChange[] => {
      const wanted = inFamily(version, addresses).flatMap(rules);
      if (wanted.length === 0) return [];
      return removing(kernel, family, (rule) => wanted.some((expressions) => says(rule, expressions)));
    }),
  );
}

function removing(kernel: Kernel, family: Family, isOurs: (rule: NftRule) => boolean): NftChange[] {
  const content = kernel.nft.table(family, TABLE);
  if (content === undefined) return [];
  const ours = content.rules.filter((rule) => rule.chain === POD_CHAIN && isOurs(rule));
  const rest = content.rules.filter((rule) => !ours.includes(rule));
  const at = { family, table: TABLE } as const;
  return [...ours.map((rule): NftChange => deleting(at, rule)), ...tidying(at, { ...content, rules: rest })];
}

const deleting = (at: { readonly family: Family; readonly table: string }, rule: NftRule): NftChange => ({
  op: "delete",
  ...at,
  what: "rule",
  chain: rule.chain,
  handle: rule.handle,
});

/** Takes away what we made for all pods, once it is of no use to anybody: what others made or filled stays as it is. */
function tidying(at: { readonly family: Family; readonly table: string }, left: NftTableContent): NftChange[] {
  const inChain = (chain: string): readonly NftRule[] => left.rules.filter((rule) => rule.chain === chain);
  const leadingTo = (chain: string): readonly NftRule[] => left.rules.filter((rule) => target(rule) === chain);
  const jumps = leadingTo(POD_CHAIN);
  const admins = inChain(POD_CHAIN);
  const shared = [...jumps, ...admins];
  let made = 0;
  for (const rule of shared) {
    const noted = madeBy(rule);
    if (noted === undefined || jumps.length > 1) return [];
    made |= noted;
  }
  const goes = new Set<string>();
  for (const rule of admins) {
    const chain = target(rule);
    if (chain === undefined || inChain(chain).length > 0) return [];
    if (((madeBy(rule) ?? 0) & Made.ADMIN) !== 0 && leadingTo(chain).length === 1) goes.add(chain);
  }
  if ((made & Made.PODS) !== 0) goes.add(POD_CHAIN);
  const inForward = inChain(FORWARD).filter((rule) => !jumps.includes(rule));
  if ((made & Made.FORWARD) !== 0 && inForward.length === 0 && leadingTo(FORWARD).length === 0) goes.add(FORWARD);
  const changes = shared.map((rule) => deleting(at, rule));
  for (const chain of goes) changes.push({ op: "delete", ...at, what: "chain", chain });
  const isEmpty = left.chains.every((chain) => goes.has(chain));
  if ((made & Made.TABLE) !== 0 && isEmpty) changes.push({ op: "delete", ...at, what: "table" });
  return changes;
}

// --- Who drops -------------------------------------------------------------------------------------------------------

/** A base chain that drops forwarded packets which nothing in it accepts. */
export interface Dropper {
  /** As people name it: "nft chain inet mine forward", "iptables-legacy chain filter FORWARD". */
  readonly name: string;
  readonly table: string;
  /** The families whose packets it sees. */
  readonly families: readonly (4 | 6)[];
  /** `policy`: of the chain; `rule`: its last rule takes all that is left. */
  readonly by: "policy" | "rule";
  /** `accept()` writes here. */
  readonly ours: boolean;
}

/** All base chains that drop forwarded packets, those of iptables-legacy too. */
export function droppers(kernel: Kernel): Dropper[] {
  const found: Dropper[] = [];
  for (const chain of kernel.nft.forwardChains()) {
    if (chain.table === OWN_TABLE) continue;
    const by = chain.drops ? "policy" : fateIn(kernel, chain)(chain.chain) === "drop" ? "rule" : undefined;
    if (by === undefined) continue;
    found.push({
      name: `nft chain ${chain.family} ${chain.table} ${chain.chain}`,
      table: chain.table,
      families: chain.family === "inet" ? [4, 6] : [chain.family === "ip" ? 4 : 6],
      by,
      ours: chain.family !== "inet" && chain.table === TABLE && chain.chain === FORWARD,
    });
  }
  for (const { family, table, forward } of kernel.legacyTables()) {
    if (forward !== "drop") continue;
    const program = family === 4 ? "iptables-legacy" : "ip6tables-legacy";
    found.push({ name: `${program} chain ${table} ${FORWARD}`, table, families: [family], by: "policy", ours: false });
  }
  return found;
}

/** What becomes of a packet that meets none of a chain's conditions; `on`: the chain has nothing to say of it. */
type Fate = "drop" | "accept" | "on";

/** Says nothing of whether a packet meets a rule, nor of what becomes of it then. */
const isRemark = ({ name, match }: NftExpression): boolean =>
  name === "counter" || name === "log" || match?.name === "comment";

/** As many as the kernel lets a packet go down. */
const MAX_JUMPS = 16;

/**
 * Follows a packet through rules without conditions, into the chains that they lead to: what comes first decides. The
 * chain with the pods' own rules is passed over: it is ours, long, and has none of this kind.
 */
function fateIn(
  kernel: Kernel,
  place: { readonly family: NftFamily; readonly table: string },
): (chain: string) => Fate {
  const known = new Map<string, Fate>([[POD_CHAIN, "on"]]);
  const of = (chain: string, jumps: number): Fate => {
    const before = known.get(chain);
    if (before !== undefined || jumps > MAX_JUMPS) return before ?? "on";
    const fate = along(kernel.nft.rules(place.family, place.table, chain) ?? [], jumps);
    known.set(chain, fate);
    return fate;
  };
  const along = (rules: readonly NftRule[], jumps: number): Fate => {
    for (const { expressions } of rules) {
      const [only, ...more] = expressions.filter((e) => !isRemark(e));
      if (only === undefined || more.length > 0) continue;
      if (only.name === "reject" || only.target?.name === "REJECT") return "drop";
      const to = only.name === "immediate" ? only.immediate?.data?.verdict : undefined;
      if (to?.code === Verdict.DROP) return "drop";
      if (to?.code === Verdict.ACCEPT) return "accept";
      if (to?.code === Verdict.RETURN) return "on";
      if (to?.chain === undefined) continue;
      const fate = of(to.chain, jumps + 1);
      if (fate !== "on" || to.code === Verdict.GOTO) return fate;
    }
    return "on";
  };
  return (chain) => of(chain, 0);
}

export const showAddresses = (addresses: readonly Ip[]): string =>
  addresses.map((ip) => `"${formatIp(ip)}"`).join(", ");

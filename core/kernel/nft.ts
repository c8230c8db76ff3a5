/**
 * The rules that attachments put on the node, as changes to two tables of ours. A map sends what comes from an
 * attachment to the attachment's own chain, so that an attachment is added and removed by name, without looking at the
 * others, and the cost of a packet does not grow with the number of pods.
 */
import { type Cidr, formatIp, networkOf, parseIp, parseMac } from "../base/ip.ts";
import { type NftFamily, nftFamilies } from "../netlink/nft.ts";
import { Verdict } from "../netlink/nft-data.ts";
import { Compare, MetaKey, type NftExpression, PayloadBase, Register } from "../netlink/nft-expression.ts";
import { Errno } from "../sys/error.ts";
import { type Kernel, KernelError } from "./kernel.ts";
import type { NftBase, NftChange, NftKeyType } from "./nftables.ts";

const TABLE = "patchbay";

/** What undoing needs, as a journal keeps it: the chain, and what leads to it. */
export interface NftUndo {
  readonly family: NftFamily;
  readonly table: string;
  readonly chain: string;
  readonly elements: readonly { readonly map: string; readonly key: string }[];
}

/** Some attachment's rules: how to add them, to remove them, and what to find when they are there. */
export interface NftFeature {
  readonly add: readonly NftChange[];
  readonly undo: NftUndo;
  readonly chains: ReadonlyMap<string, readonly (readonly NftExpression[])[]>;
}

/** The maps of our tables, and what their keys are. */
const maps: Readonly<Record<string, NftKeyType>> = { masq4: "ipv4", masq6: "ipv6", macs: "ifname" };

/** A table of ours: its base chain with the rules that every attachment shares. */
interface Shared {
  readonly family: NftFamily;
  readonly chain: string;
  readonly base: NftBase;
  readonly maps: readonly string[];
  readonly rules: readonly (readonly NftExpression[])[];
}

// --- Expressions -----------------------------------------------------------------------------------------------------

const NFPROTO = { 4: nftFamilies.ip, 6: nftFamilies.ip6 } as const;
/** Where a header has source and destination, and how long they are. */
const addressFields = { 4: { source: 12, destination: 16, length: 4 }, 6: { source: 8, destination: 24, length: 16 } };

export const loadMeta = (key: number): NftExpression => ({ name: "meta", meta: { key, to: Register.ONE } });
export const loadPayload = (base: number, offset: number, length: number): NftExpression => ({
  name: "payload",
  payload: { to: Register.ONE, base, offset, length },
});
export const compare = (op: number, value: Uint8Array): NftExpression => ({
  name: "cmp",
  cmp: { from: Register.ONE, op, data: { value } },
});
export const isFamily = (family: 4 | 6): NftExpression[] => [
  loadMeta(MetaKey.NFPROTO),
  compare(Compare.EQ, Uint8Array.of(NFPROTO[family])),
];
const jumpBy = (map: string): NftExpression => ({
  name: "lookup",
  lookup: { from: Register.ONE, to: Register.VERDICT, set: map },
});

/** `ip daddr != <network>` and the like, in the shorter form that nft(8) also uses where the prefix ends with a byte. */
export function inNetwork(side: "source" | "destination", op: number, network: Cidr): NftExpression[] {
  const { ip, prefix } = networkOf(network);
  const { [side]: offset, length } = addressFields[ip.family];
  if (prefix > 0 && prefix % 8 === 0) {
    const bytes = prefix / 8;
    return [loadPayload(PayloadBase.NETWORK, offset, bytes), compare(op, ip.bytes.slice(0, bytes))];
  }
  const mask = new Uint8Array(length);
  for (let i = 0; i < length; i++) mask[i] = 0xff & (0xff << Math.max(0, Math.min(8, 8 * (i + 1) - prefix)));
  return [
    loadPayload(PayloadBase.NETWORK, offset, length),
    {
      name: "bitwise",
      bitwise: {
        from: Register.ONE,
        to: Register.ONE,
        length,
        mask: { value: mask },
        xor: { value: new Uint8Array(length) },
      },
    },
    compare(op, ip.bytes),
  ];
}
const notTo = (network: Cidr): NftExpression[] => inNetwork("destination", Compare.NEQ, network);

const multicast: Readonly<Record<4 | 6, Cidr>> = {
  4: { ip: { family: 4, bytes: Uint8Array.of(224, 0, 0, 0) }, prefix: 4 },
  6: { ip: { family: 6, bytes: Uint8Array.of(255, ...new Array<number>(15).fill(0)) }, prefix: 8 },
};

const fromAddress = (family: 4 | 6): NftExpression => {
  const { source, length } = addressFields[family];
  return loadPayload(PayloadBase.NETWORK, source, length);
};

// --- Tables ----------------------------------------------------------------------------------------------------------

/**
 * How many attachments of one node may have the same address, each in a network of its own. A map has a key once, so
 * each further one has the base chain and the maps of a layer below; a layer that nobody needs is not made.
 */
export const MASQUERADE_LAYERS = 16;

const masqueradingAt = (layer: number): Shared => {
  const named = (name: string): string => (layer > 1 ? `${name}_${layer}` : name);
  return {
    family: "inet",
    chain: named("postrouting"),
    base: { type: "nat", hook: "postrouting", priority: 100 },
    maps: [named("masq4"), named("masq6")],
    rules: [
      [...isFamily(4), fromAddress(4), jumpBy(named("masq4"))],
      [...isFamily(6), fromAddress(6), jumpBy(named("masq6"))],
    ],
  };
};

/** The maps of every layer that there may be. */
export const masqueradeMaps: readonly string[] = Array.from(
  { length: MASQUERADE_LAYERS },
  (_, i) => masqueradingAt(i + 1).maps,
).flat();

const spoofChecking: Shared = {
  family: "bridge",
  chain: "prerouting",
  base: { type: "filter", hook: "prerouting", priority: -300 },
  maps: ["macs"],
  rules: [[loadMeta(MetaKey.IIFNAME), jumpBy("macs")]],
};

function feature(
  shared: Shared,
  chain: string,
  rules: readonly (readonly NftExpression[])[],
  keys: readonly { readonly map: string; readonly key: string }[],
): NftFeature {
  const at = { family: shared.family, table: TABLE } as const;
  const rulesOf = (name: string, list: readonly (readonly NftExpression[])[]): NftChange[] => [
    { op: "flush", ...at, what: "chain", chain: name },
    ...list.map((expressions): NftChange => ({ op: "add", ...at, what: "rule", chain: name, expressions })),
  ];
  const undo: NftUndo = { ...at, chain, elements: keys };
  const add: NftChange[] = [
    { op: "add", ...at, what: "table" },
    ...shared.maps.map((map): NftChange => ({ op: "add", ...at, what: "map", map, key: keyTypeOf(map) })),
    { op: "add", ...at, what: "chain", chain: shared.chain, base: shared.base },
    // Written anew each time: a transaction is seen whole or not at all, so nobody meets the chain empty, and rules
    // that somebody flushed are back.
    ...rulesOf(shared.chain, shared.rules),
    { op: "add", ...at, what: "chain", chain },
    ...rulesOf(chain, rules),
    ...keys.map(
      ({ map, key }): NftChange => ({ op: "add", ...at, what: "element", map, key: keyBytes(map, key), chain }),
    ),
  ];
  const chains = new Map([
    [shared.chain, shared.rules],
    [chain, rules],
  ]);
  return { add, undo, chains };
}

/**
 * Packets from these addresses leave with the address of the node's own interface, except to the address's own network
 * and to multicast.
 *
 * @param key Names the attachment: the same in ADD and DEL, at most 240 characters of `[A-Za-z0-9_.-]`.
 * @param layer From 1: where no other attachment has one of the addresses.
 */
export function masquerade(key: string, addresses: readonly Cidr[], layer = 1): NftFeature {
  const rules = addresses.map(({ ip, prefix }) => [
    ...isFamily(ip.family),
    fromAddress(ip.family),
    compare(Compare.EQ, ip.bytes),
    ...notTo({ ip, prefix }),
    ...notTo(multicast[ip.family]),
    { name: "masq", masq: {} },
  ]);
  const shared = masqueradingAt(layer);
  const [masq4 = "", masq6 = ""] = shared.maps;
  const keys = addresses.map(({ ip }) => ({ map: ip.family === 4 ? masq4 : masq6, key: formatIp(ip) }));
  return feature(shared, `masq-${key}`, rules, keys);
}

/**
 * Frames that come in by a bridge's port with another source than this hardware address are dropped.
 *
 * @param key As for `masquerade()`.
 * @param ifname Name of the port on the node.
 */
export function macCheck(key: string, ifname: string, mac: string): NftFeature {
  const bytes = parseMac(mac);
  if (bytes?.length !== 6) throw new KernelError(`check the hardware address of "${ifname}"`, Errno.EINVAL, `"${mac}"`);
  const rule: NftExpression[] = [
    loadPayload(PayloadBase.LINK, 6, 6),
    compare(Compare.NEQ, bytes),
    { name: "immediate", immediate: { to: Register.VERDICT, data: { verdict: { code: Verdict.DROP } } } },
  ];
  return feature(spoofChecking, `mac-${key}`, [rule], [{ map: "macs", key: ifname }]);
}

/** The changes that take an attachment's rules away; what is gone already, or leads elsewhere by now, is left alone. */
export function removal({ family, table, chain, elements }: NftUndo): NftChange[] {
  const at = { family, table } as const;
  return [
    ...elements.map(
      ({ map, key }): NftChange => ({ op: "delete", ...at, what: "element", map, key: keyBytes(map, key), chain }),
    ),
    { op: "delete", ...at, what: "chain", chain },
  ];
}

interface InChain {
  readonly family: NftFamily;
  readonly table: string;
  readonly chain: string;
}

/** Whether a chain has these rules and no others. The kernel may say more of an expression than it was told. */
export function hasJust(kernel: Kernel, at: InChain, want: readonly (readonly NftExpression[])[]): boolean {
  const found = kernel.nft.rules(at.family, at.table, at.chain);
  if (found === undefined || found.length !== want.length) return false;
  return want.every((rule, i) => {
    const expressions = found[i]?.expressions ?? [];
    return rule.length === expressions.length && covers(expressions, rule);
  });
}

/**
 * Leaves out of changes what would make and fill a chain as it is: the kernel keeps what was replaced for a grace period,
 * and whoever then adds a rule in the terms of iptables waits for its end.
 *
 * @param own A chain that is mostly new, and so is not asked for.
 */
export function sparing(kernel: Kernel, changes: readonly NftChange[], own: string): readonly NftChange[] {
  const fills = Map.groupBy(changes, (c) => (c.what === "chain" || c.what === "rule" ? c.chain : ""));
  const spared = changes.filter((c) => {
    if (c.op !== "flush" || c.chain === own) return false;
    const rules = fills.get(c.chain)?.flatMap((f) => (f.op === "add" && f.what === "rule" ? [f.expressions] : []));
    return hasJust(kernel, c, rules ?? []);
  });
  const left = new Set(spared.flatMap((c) => ("chain" in c && fills.get(c.chain)) || []));
  return changes.filter((c) => !left.has(c));
}

/** True when all rules of the feature, the shared ones too, are as we write them and every key leads to its chain. */
export function isPresent(kernel: Kernel, { undo, chains }: NftFeature): boolean {
  const { family, table } = undo;
  for (const [name, want] of chains) {
    if (!hasJust(kernel, { family, table, chain: name }, want)) return false;
  }
  for (const { map, key } of undo.elements) {
    const bytes = keyBytes(map, key);
    const found = kernel.nft.elements(family, table, map)?.find((element) => sameBytes(element.key, bytes));
    if (found?.chain !== undo.chain) return false;
  }
  return true;
}

function keyTypeOf(map: string): NftKeyType {
  const type = maps[/^(masq[46])_[0-9]+$/.exec(map)?.[1] ?? map];
  if (type === undefined) throw new TypeError(`Cannot use nft map "${map}": it is none of ours`);
  return type;
}

function keyBytes(map: string, key: string): Uint8Array {
  if (keyTypeOf(map) !== "ifname") {
    const ip = parseIp(key);
    if (ip === undefined) throw new TypeError(`Cannot use "${key}" as a key of nft map "${map}": expected an address`);
    return ip.bytes;
  }
  const bytes = new Uint8Array(16);
  bytes.set(new TextEncoder().encode(key).subarray(0, 15));
  return bytes;
}

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean =>
  a.length === b.length && a.every((byte, i) => byte === b[i]);

/** Whether `found` has all that `wanted` has. The kernel answers with more: it spells its defaults out. */
export function covers(found: unknown, wanted: unknown): boolean {
  if (wanted instanceof Uint8Array) return found instanceof Uint8Array && sameBytes(found, wanted);
  if (typeof wanted !== "object" || wanted === null) return found === wanted;
  if (typeof found !== "object" || found === null) return false;
  const given = found as Record<string, unknown>;
  for (const [name, value] of Object.entries(wanted)) if (!covers(given[name], value)) return false;
  return true;
}

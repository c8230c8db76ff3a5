/**
 * Typed rules in tables of our own, on the node. Each attachment has a chain of its own, reached by an element of a
 * map: so what it added is removed by name, and no rule of anybody else's is ever looked at.
 *
 * - `table inet patchbay`: chain `postrouting`, maps `masq4` and `masq6`, source address → chain `masq-<key>`
 * - `table bridge patchbay`: chain `prerouting`, map `macs`, incoming port → chain `mac-<key>`
 */
import { CniError, Code } from "../../base/error.ts";
import { type Cidr, formatIp, networkOf, parseCidr, parseIp, parseMac } from "../../base/ip.ts";
import type { Kernel, NftChange } from "../../kernel/kernel.ts";
import { Verdict } from "../../netlink/nft-data.ts";
import { Compare, MetaKey, type NftExpression, PayloadBase, Register } from "../../netlink/nft-expression.ts";
import type { Target } from "../../policy/decide.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { UndoStep } from "../../state/entries.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";

type NftStep = Extract<UndoStep, { readonly do: "nft" }>;
type Family = "inet" | "bridge";
const table = "patchbay";

const request = {
  rule: { type: "string", enum: ["masquerade", "mac_check"], required: true },
  addresses: {
    type: "array",
    items: { type: "string", format: "cidr" },
    maxItems: 64,
    doc: "`masquerade`: addresses of the attachment; what leaves their networks gets the node's address",
  },
  link: { type: "integer", min: 1, doc: "`mac_check`: own link of the node, a port of a bridge" },
  mac: { type: "string", format: "mac", doc: "`mac_check`: the only source address that may come in there" },
} as const satisfies Keys;
type Request = ValueOfKeys<typeof request>;

// --- expressions -----------------------------------------------------------------------------------------------------

const load = (base: number, offset: number, length: number): NftExpression => ({
  name: "payload",
  payload: { to: Register.ONE, base, offset, length },
});
const meta = (key: number): NftExpression => ({ name: "meta", meta: { to: Register.ONE, key } });
const compare = (op: number, value: Uint8Array): NftExpression => ({
  name: "cmp",
  cmp: { from: Register.ONE, op, data: { value } },
});
const mask = (bits: Uint8Array): NftExpression => ({
  name: "bitwise",
  bitwise: {
    from: Register.ONE,
    to: Register.ONE,
    length: bits.length,
    mask: { value: bits },
    xor: { value: new Uint8Array(bits.length) },
  },
});
const jumpBy = (map: string): NftExpression => ({
  name: "lookup",
  lookup: { set: map, from: Register.ONE, to: Register.VERDICT },
});

/** Where an address stands in its header, `NFPROTO_*` of the header, and its multicast addresses. */
const families = {
  4: { proto: 2, source: 12, destination: 16, length: 4, map: "masq4", multicast: [0xf0, 0xe0] },
  6: { proto: 10, source: 8, destination: 24, length: 16, map: "masq6", multicast: [0xff, 0xff] },
} as const;

const prefixMask = (prefix: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => {
    const bits = Math.min(8, Math.max(0, prefix - i * 8));
    return (0xff << (8 - bits)) & 0xff;
  });
const firstByte = (value: number, length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i === 0 ? value : 0));

/** From this address to elsewhere than its network and no multicast: the node's own address in its place. */
function masquerade(address: Cidr): NftExpression[] {
  const f = families[address.ip.family];
  const destination = load(PayloadBase.NETWORK, f.destination, f.length);
  return [
    meta(MetaKey.NFPROTO),
    compare(Compare.EQ, Uint8Array.of(f.proto)),
    load(PayloadBase.NETWORK, f.source, f.length),
    compare(Compare.EQ, address.ip.bytes),
    destination,
    mask(prefixMask(address.prefix, f.length)),
    compare(Compare.NEQ, networkOf(address).ip.bytes),
    destination,
    mask(firstByte(f.multicast[0], f.length)),
    compare(Compare.NEQ, firstByte(f.multicast[1], f.length)),
    { name: "masq", masq: {} },
  ];
}

const dropUnlessFrom = (mac: Uint8Array): NftExpression[] => [
  load(PayloadBase.LINK, 6, 6),
  compare(Compare.NEQ, mac),
  { name: "immediate", immediate: { to: Register.VERDICT, data: { verdict: { code: Verdict.DROP } } } },
];

// --- what is shared by all attachments -------------------------------------------------------------------------------

interface Base {
  readonly family: Family;
  readonly chain: string;
  readonly changes: readonly NftChange[];
  readonly rules: readonly (readonly NftExpression[])[];
}

const bases: { readonly [F in Family]: Base } = {
  inet: {
    family: "inet",
    chain: "postrouting",
    changes: [
      { op: "add", what: "table", family: "inet", table },
      {
        op: "add",
        what: "chain",
        family: "inet",
        table,
        chain: "postrouting",
        base: { type: "nat", hook: "postrouting", priority: 100 },
      },
      { op: "add", what: "map", family: "inet", table, map: "masq4", key: "ipv4" },
      { op: "add", what: "map", family: "inet", table, map: "masq6", key: "ipv6" },
    ],
    rules: ([4, 6] as const).map((family) => {
      const f = families[family];
      return [
        meta(MetaKey.NFPROTO),
        compare(Compare.EQ, Uint8Array.of(f.proto)),
        load(PayloadBase.NETWORK, f.source, f.length),
        jumpBy(f.map),
      ];
    }),
  },
  bridge: {
    family: "bridge",
    chain: "prerouting",
    changes: [
      { op: "add", what: "table", family: "bridge", table },
      {
        op: "add",
        what: "chain",
        family: "bridge",
        table,
        chain: "prerouting",
        base: { type: "filter", hook: "prerouting", priority: -300 },
      },
      { op: "add", what: "map", family: "bridge", table, map: "macs", key: "ifname" },
    ],
    rules: [[meta(MetaKey.IIFNAME), jumpBy("macs")]],
  },
};

/** The changes that make the shared part whole; none when it is. Emptying and filling the chain is one transaction. */
function ensureBase(host: Kernel, base: Base): NftChange[] {
  const { family, chain } = base;
  if (host.nftRules(family, table, chain)?.length === base.rules.length) return [];
  return [
    ...base.changes,
    { op: "flush", what: "chain", family, table, chain },
    ...base.rules.map((expressions): NftChange => ({ op: "add", what: "rule", family, table, chain, expressions })),
  ];
}

// --- one attachment's part -------------------------------------------------------------------------------------------

interface Part {
  readonly base: Base;
  readonly step: NftStep;
  readonly rules: readonly (readonly NftExpression[])[];
}

function bad(member: string, why: string): CniError {
  return new CniError(Code.BadRequest, `Cannot make the call "nft_apply": "${member}": ${why}`, {
    remedy: `Correct "${member}" of the request`,
  });
}

function partFor(guest: GuestContext, r: Request): Part {
  const key = guest.nftKey();
  if (r.rule === "mac_check") {
    const mac = r.mac === undefined ? undefined : parseMac(r.mac);
    if (r.link === undefined) throw bad("link", "expected the handle of a bridge port");
    if (mac === undefined) throw bad("mac", "expected a MAC address");
    const link = guest.handles.link(r.link);
    if (link.in !== "host") throw bad("link", "expected a link of the node");
    const elements = [{ map: "macs", key: link.name }];
    const step = { do: "nft", family: "bridge", table, chain: `mac-${key}`, elements } as const;
    return { base: bases.bridge, step, rules: [dropUnlessFrom(mac)] };
  }
  const addresses = (r.addresses ?? []).flatMap((text) => parseCidr(text) ?? []);
  if (addresses.length === 0) throw bad("addresses", "expected at least one");
  const foreign = addresses.find((a) => !guest.isOwnAddress(a.ip));
  if (foreign !== undefined) {
    throw new CniError(Code.NotGranted, `Cannot masquerade "${formatIp(foreign.ip)}": it is not this attachment's`, {
      remedy: "Call ipam_add first, and use its addresses",
    });
  }
  const elements = addresses.map((a) => ({ map: families[a.ip.family].map, key: formatIp(a.ip) }));
  const step = { do: "nft", family: "inet", table, chain: `masq-${key}`, elements } as const;
  return { base: bases.inet, step, rules: addresses.map(masquerade) };
}

/** An element's key as the kernel has it: an address, or a name padded to 16 bytes. */
function keyBytes(map: string, key: string): Uint8Array | undefined {
  if (map !== "macs") return parseIp(key)?.bytes;
  const name = new TextEncoder().encode(key);
  if (name.length > 15) return undefined;
  const padded = new Uint8Array(16);
  padded.set(name);
  return padded;
}

function elementsOf(step: NftStep, family: Family, op: "add" | "delete"): NftChange[] {
  return step.elements.flatMap((e): NftChange[] => {
    const key = keyBytes(e.map, e.key);
    if (key === undefined) return [];
    return [{ op, what: "element", family, table: step.table, map: e.map, key, chain: step.chain }];
  });
}

/** Removes what `nft_apply` added, by name; what is gone already is no failure. */
export function removeNft(host: Kernel, step: NftStep): void {
  const family = step.family === "bridge" ? "bridge" : "inet";
  host.nft([
    ...elementsOf(step, family, "delete"),
    { op: "delete", what: "chain", family, table: step.table, chain: step.chain },
  ]);
}

/** Removes an attachment's part when no record of it is left, found by the names that its chains have. */
export function salvageNft(host: Kernel, key: string): void {
  const parts = [
    { family: "inet", chain: `masq-${key}`, maps: ["masq4", "masq6"] },
    { family: "bridge", chain: `mac-${key}`, maps: ["macs"] },
  ] as const;
  for (const { family, chain, maps } of parts) {
    if (!host.nftChains(family, table).includes(chain)) continue;
    const elements = maps.flatMap((map) =>
      (host.nftElements(family, table, map) ?? [])
        .filter((element) => element.chain === chain)
        .map(({ key }): NftChange => ({ op: "delete", what: "element", family, table, map, key, chain })),
    );
    host.nft([...elements, { op: "delete", what: "chain", family, table, chain }]);
  }
}

const targets = (guest: GuestContext, r: Request): readonly Target[] =>
  r.link === undefined ? [] : [guest.handles.link(r.link).target];

export const nftApply = hostCall({
  name: "nft_apply",
  operations: creating,
  roles: ["own"],
  doc: "Adds a rule to a chain of the attachment's own on the node; again with the same `rule` replaces it",
  request,
  answer: {},
  targets,
  run(guest, r) {
    const { base, step, rules } = partFor(guest, r);
    const host = guest.kernel("host");
    const { family } = base;
    const { chain } = step;
    guest.intend(step);
    host.nft([
      ...ensureBase(host, base),
      { op: "add", what: "chain", family, table, chain },
      { op: "flush", what: "chain", family, table, chain },
      ...rules.map((expressions): NftChange => ({ op: "add", what: "rule", family, table, chain, expressions })),
      ...elementsOf(step, family, "add"),
    ]);
    return {};
  },
});

export const nftCheck = hostCall({
  name: "nft_check",
  operations: ["ADD", "CHECK"],
  roles: ["own"],
  doc: "Whether what nft_apply adds for the same request is there",
  request,
  answer: { present: { type: "boolean", required: true } },
  targets,
  run(guest, r) {
    const { base, step, rules } = partFor(guest, r);
    const host = guest.kernel("host");
    if (host.nftRules(base.family, table, base.chain)?.length !== base.rules.length) return { present: false };
    if (host.nftRules(base.family, table, step.chain)?.length !== rules.length) return { present: false };
    return {
      present: step.elements.every((e) => {
        const key = keyBytes(e.map, e.key);
        const there = host.nftElements(base.family, table, e.map) ?? [];
        return key !== undefined && there.some((t) => t.chain === step.chain && Buffer.compare(t.key, key) === 0);
      }),
    };
  },
});

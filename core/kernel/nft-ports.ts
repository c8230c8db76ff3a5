/**
 * Ports of the node that lead to attachments, in a table of their own. An element for each port, keyed by protocol and
 * port, sends a connection to its attachment's chain; so the kernel itself refuses a port that another attachment has,
 * and an attachment is removed by names and keys, without looking at the others.
 *
 * A port that is mapped on some of the node's addresses only leads to a second map first, keyed by the address too. That
 * way a port is either everybody's or one address's: the first map holds one verdict for it.
 */
import { type Cidr, formatIp, type Ip } from "../base/ip.ts";
import { nftFamilies } from "../netlink/nft.ts";
import { Verdict } from "../netlink/nft-data.ts";
import {
  Compare,
  CtKey,
  Fib,
  MetaKey,
  NatType,
  type NftExpression,
  PayloadBase,
  Register,
} from "../netlink/nft-expression.ts";
import { RouteType } from "../netlink/route.ts";
import { loopback4 } from "./conntrack.ts";
import type { Kernel } from "./kernel.ts";
import { compare, hasJust, inNetwork, isFamily, loadMeta, loadPayload, sameBytes } from "./nft.ts";
import type { NftBase, NftChange, NftKeyType } from "./nftables.ts";

/** Of one attachment; each that shifts its ports has a map, which is named by its place among them. */
export const MAX_MAPPINGS = 256;
export const PORTS_TABLE = "patchbay_ports";
const at = { family: "inet", table: PORTS_TABLE } as const;

export const protocols = { tcp: 6, udp: 17, sctp: 132 } as const;
export type PortProtocol = keyof typeof protocols;

export interface PortMapping {
  readonly protocol: PortProtocol;
  readonly hostPort: number;
  readonly containerPort: number;
  /** How many ports, each to the one at the same place behind `containerPort`. */
  readonly length: number;
  /** The node's address that it is for; all of them when absent. */
  readonly hostIP?: Ip | undefined;
  /** The one family that it is for; both when absent. */
  readonly family?: 4 | 6 | undefined;
}

/** What keeps a mapping from connections that do not fulfil it. */
export interface PortCondition {
  readonly side: "source" | "destination";
  readonly not: boolean;
  readonly network: Cidr;
}

export interface PortPlan {
  /** Names the attachment: the same in ADD and DEL, at most 200 characters of `[A-Za-z0-9_.-]`. */
  readonly key: string;
  /** The attachment's, at most one of a family. */
  readonly addresses: readonly Cidr[];
  readonly mappings: readonly PortMapping[];
  /** Which connections reach the attachment with the node's address as their source: those that need it, or all. */
  readonly snat: "none" | "local" | "all";
  /** The bit of a packet's mark by which `snat` is told to the end of its way. */
  readonly markBit: number;
  readonly conditions: readonly PortCondition[];
  /** Whether the node reaches it by 127.0.0.1. */
  readonly loopback: boolean;
}

type Rule = readonly NftExpression[];

/** A chain, with all of its rules. */
interface Chain {
  readonly name: string;
  readonly base?: NftBase;
  readonly rules: readonly Rule[];
}

type ElementChange = Extract<NftChange, { readonly op: "add"; readonly what: "element" }>;

/** A plan in the kernel's terms. */
export interface PortFeature {
  readonly add: readonly NftChange[];
  /** The attachment's own chain. */
  readonly own: string;
  readonly chains: readonly Chain[];
  readonly elements: readonly ElementChange[];
}

/** What of a plan a journal has to keep. */
export type PortClaim = Pick<PortPlan, "key" | "mappings"> & { readonly families: readonly (4 | 6)[] };

const maps: Readonly<Record<string, NftKeyType>> = {
  ports4: "proto-port",
  ports6: "proto-port",
  hostips4: "proto-port-ipv4",
  hostips6: "proto-port-ipv6",
};
const HOST_IPS = "hostips";
const CHAIN = "hostport-";
export const portChain = (key: string): string => `${CHAIN}${key}`;
/** Of an attachment's chain; undefined for another. */
export const portChainKey = (chain: string): string | undefined =>
  chain.startsWith(CHAIN) ? chain.slice(CHAIN.length) : undefined;
const shiftMap = (key: string, index: number): string => `shift-${key}-${index}`;

// --- Expressions -----------------------------------------------------------------------------------------------------

const verdict = (code: number, chain?: string): NftExpression => ({
  name: "immediate",
  immediate: { to: Register.VERDICT, data: { verdict: { code, ...(chain && { chain }) } } },
});
const value = (to: number, bytes: Uint8Array): NftExpression => ({
  name: "immediate",
  immediate: { to, data: { value: bytes } },
});
const bitwise = (mask: number, xor: number): NftExpression => ({
  name: "bitwise",
  bitwise: {
    from: Register.ONE,
    to: Register.ONE,
    length: 4,
    mask: { value: host32(mask) },
    xor: { value: host32(xor) },
  },
});
const lookup = (set: string, from: number, to: number): NftExpression => ({
  name: "lookup",
  lookup: { set, from, to },
});
const into = (to: number, expression: NftExpression): NftExpression =>
  expression.payload ? { ...expression, payload: { ...expression.payload, to } } : expression;

/** A number as the processor keeps it, which is how marks and types of links are compared. */
function host32(number: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(number).buffer);
}
function be16(number: number): Uint8Array {
  return Uint8Array.of(number >> 8, number & 0xff);
}

const targetPort = loadPayload(PayloadBase.TRANSPORT, 2, 2);
const targetAddress = { 4: loadPayload(PayloadBase.NETWORK, 16, 4), 6: loadPayload(PayloadBase.NETWORK, 24, 16) };
const ARPHRD_LOOPBACK = 772;
/** `IPS_DST_NAT` */
const DST_NAT = 1 << 5;

const loopback6: Cidr = { ip: { family: 6, bytes: Uint8Array.of(...new Array<number>(15).fill(0), 1) }, prefix: 128 };

/** `meta l4proto . th dport [. ip daddr] vmap @map` */
function dispatch(family: 4 | 6, map: string, withAddress: boolean): Rule {
  return [
    ...isFamily(family),
    loadMeta(MetaKey.L4PROTO),
    into(Register.SECOND_PART, targetPort),
    ...(withAddress ? [into(Register.THIRD_PART, targetAddress[family])] : []),
    lookup(map, Register.ONE, Register.VERDICT),
  ];
}

const toLocal: Rule = [
  { name: "fib", fib: { to: Register.ONE, result: Fib.RESULT_ADDRTYPE, flags: Fib.DADDR } },
  compare(Compare.EQ, host32(RouteType.LOCAL)),
  verdict(Verdict.JUMP, "hostports"),
];

// --- What all attachments share --------------------------------------------------------------------------------------

const entry: readonly Chain[] = [
  { name: "prerouting", base: { type: "nat", hook: "prerouting", priority: -100 }, rules: [toLocal] },
  { name: "output", base: { type: "nat", hook: "output", priority: -100 }, rules: [toLocal] },
];

const common: readonly Chain[] = [
  {
    name: "hostports",
    rules: [
      // What leaves the node from ::1 comes back to an address that no link but loopback takes. Left alone, whoever
      // asks for "localhost" is refused at once and goes on with 127.0.0.1.
      [...isFamily(6), ...inNetwork("destination", Compare.EQ, loopback6), verdict(Verdict.RETURN)],
      dispatch(4, "ports4", false),
      dispatch(6, "ports6", false),
    ],
  },
  { name: HOST_IPS, rules: [dispatch(4, "hostips4", true), dispatch(6, "hostips6", true)] },
];

/** With `route_localnet` the kernel takes packets to 127.0.0.0/8 from a link; no link but loopback may send such. */
const guard: Chain = {
  name: "loopback-guard",
  base: { type: "filter", hook: "prerouting", priority: -300 },
  rules: (["destination", "source"] as const).map((side) => [
    loadMeta(MetaKey.IIFTYPE),
    compare(Compare.NEQ, new Uint8Array(Uint16Array.of(ARPHRD_LOOPBACK).buffer)),
    ...isFamily(4),
    ...inNetwork(side, Compare.EQ, loopback4),
    verdict(Verdict.DROP),
  ]),
};

function masquerading(bit: number): Chain {
  const mark = 2 ** bit;
  return {
    name: `masquerade-${bit}`,
    base: { type: "nat", hook: "postrouting", priority: 100 },
    rules: [
      [
        loadMeta(MetaKey.MARK),
        bitwise(mark, 0),
        compare(Compare.EQ, host32(mark)),
        { name: "ct", ct: { to: Register.ONE, key: CtKey.STATUS } },
        bitwise(DST_NAT, 0),
        compare(Compare.NEQ, host32(0)),
        { name: "masq", masq: {} },
      ],
    ],
  };
}

// --- An attachment ---------------------------------------------------------------------------------------------------

const isFor = (mapping: PortMapping, family: 4 | 6): boolean =>
  (mapping.hostIP?.family ?? mapping.family ?? family) === family;

/** Whether the target port has to be looked up: a range whose ports are others in the pod. */
const isShifted = ({ length, hostPort, containerPort }: PortMapping): boolean =>
  length > 1 && hostPort !== containerPort;

function translation(plan: PortPlan, mapping: PortMapping, index: number, to: Ip): Rule {
  const { protocol, hostPort, containerPort, length, hostIP } = mapping;
  const ports =
    length === 1
      ? [compare(Compare.EQ, be16(hostPort))]
      : [compare(Compare.GTE, be16(hostPort)), compare(Compare.LTE, be16(hostPort + length - 1))];
  const newPort = isShifted(mapping)
    ? [into(Register.TWO, targetPort), lookup(shiftMap(plan.key, index), Register.TWO, Register.TWO)]
    : length === 1
      ? [value(Register.TWO, be16(containerPort))]
      : [];
  return [
    ...isFamily(to.family),
    ...(hostIP ? [targetAddress[to.family], compare(Compare.EQ, hostIP.bytes)] : []),
    loadMeta(MetaKey.L4PROTO),
    compare(Compare.EQ, Uint8Array.of(protocols[protocol])),
    targetPort,
    ...ports,
    value(Register.ONE, to.bytes),
    ...newPort,
    {
      name: "nat",
      nat: {
        type: NatType.DNAT,
        family: to.family === 4 ? nftFamilies.ip : nftFamilies.ip6,
        fromAddress: Register.ONE,
        ...(newPort.length > 0 && { fromPort: Register.TWO }),
      },
    },
  ];
}

function ownRules(plan: PortPlan): Rule[] {
  const rules: Rule[] = [];
  for (const { side, not, network } of plan.conditions) {
    const op = not ? Compare.EQ : Compare.NEQ;
    rules.push([...isFamily(network.ip.family), ...inNetwork(side, op, network), verdict(Verdict.RETURN)]);
  }
  const setMark = [
    loadMeta(MetaKey.MARK),
    bitwise(~(2 ** plan.markBit), 2 ** plan.markBit),
    { name: "meta", meta: { key: MetaKey.MARK, from: Register.ONE } },
  ];
  for (const address of plan.addresses) {
    const { family } = address.ip;
    if (family === 4 && !plan.loopback) {
      // The kernel would not send it, and only say so by silence.
      rules.push([...isFamily(4), ...inNetwork("destination", Compare.EQ, loopback4), verdict(Verdict.RETURN)]);
    }
    if (plan.snat === "all") rules.push([...isFamily(family), ...setMark]);
    if (plan.snat === "local") {
      // An answer to a neighbour, or to itself, would not come by the node.
      rules.push([...isFamily(family), ...inNetwork("source", Compare.EQ, address), ...setMark]);
      if (family === 4) rules.push([...isFamily(4), ...inNetwork("source", Compare.EQ, loopback4), ...setMark]);
    }
  }
  for (const [index, mapping] of plan.mappings.entries()) {
    for (const { ip } of plan.addresses) {
      if (isFor(mapping, ip.family)) rules.push(translation(plan, mapping, index, ip));
    }
  }
  return rules;
}

function keyOf(protocol: PortProtocol, port: number, address?: Ip): Uint8Array {
  const key = new Uint8Array(8 + (address?.bytes.length ?? 0));
  key[0] = protocols[protocol];
  key.set(be16(port), 4);
  if (address) key.set(address.bytes, 8);
  return key;
}

interface Lead {
  readonly map: string;
  readonly key: Uint8Array;
  readonly chain: string;
  /** Other attachments may have put it there too. */
  readonly shared: boolean;
}

/** The elements that lead to an attachment's chain, those that depend on others after them. */
function leads({ key, mappings, families }: PortClaim): Lead[] {
  const chain = portChain(key);
  const direct: Lead[] = [];
  const shared = new Map<string, Lead>();
  for (const family of families) {
    for (const mapping of mappings) {
      if (!isFor(mapping, family)) continue;
      const { protocol, hostPort, length, hostIP } = mapping;
      for (let port = hostPort; port < hostPort + length; port++) {
        const map = `ports${family}`;
        const element = { map, key: keyOf(protocol, port), chain, shared: false };
        if (hostIP === undefined) direct.push(element);
        else {
          direct.push({ ...element, map: `hostips${family}`, key: keyOf(protocol, port, hostIP) });
          shared.set(`${map} ${protocol} ${port}`, { ...element, chain: HOST_IPS, shared: true });
        }
      }
    }
  }
  // By map, so that many elements go in one message.
  return [...direct.toSorted((a, b) => (a.map < b.map ? -1 : a.map > b.map ? 1 : 0)), ...shared.values()];
}

const familiesOf = (plan: PortPlan): readonly (4 | 6)[] => plan.addresses.map(({ ip }) => ip.family);

export const claimOf = (plan: PortPlan): PortClaim => ({
  key: plan.key,
  mappings: plan.mappings,
  families: familiesOf(plan),
});

export function mapPorts(plan: PortPlan): PortFeature {
  const own: Chain = { name: portChain(plan.key), rules: ownRules(plan) };
  // What jumps comes after what it jumps to.
  const chains = [
    ...common,
    ...(plan.snat === "none" ? [] : [masquerading(plan.markBit)]),
    ...(plan.loopback ? [guard] : []),
    ...entry,
    own,
  ];
  const elements = leads(claimOf(plan)).map(
    ({ map, key, chain }): ElementChange => ({ op: "add", ...at, what: "element", map, key, chain }),
  );
  const shifted = [...plan.mappings.entries()].filter(([, mapping]) => isShifted(mapping));
  const shifts = shifted.flatMap(([index, { hostPort, containerPort, length }]): NftChange[] => {
    const map = shiftMap(plan.key, index);
    return [
      { op: "add", ...at, what: "map", map, key: "port", data: "port" },
      ...Array.from(
        { length },
        (_, i): ElementChange => ({
          op: "add",
          ...at,
          what: "element",
          map,
          key: be16(hostPort + i),
          chain: "",
          value: be16(containerPort + i),
        }),
      ),
    ];
  });
  const add: NftChange[] = [
    { op: "add", ...at, what: "table" },
    ...Object.entries(maps).map(([map, key]): NftChange => ({ op: "add", ...at, what: "map", map, key })),
    ...chains.map(
      ({ name, base }): NftChange => ({ op: "add", ...at, what: "chain", chain: name, ...(base && { base }) }),
    ),
    ...shifts,
    // Written anew each time: a transaction is seen whole or not at all, so nobody meets a chain empty, and rules that
    // somebody flushed are back.
    ...chains.flatMap(({ name, rules }): NftChange[] => [
      { op: "flush", ...at, what: "chain", chain: name },
      ...rules.map((expressions): NftChange => ({ op: "add", ...at, what: "rule", chain: name, expressions })),
    ]),
    ...elements,
  ];
  return { add, own: own.name, chains, elements };
}

/** The changes that take an attachment's ports away; what is gone, or another's by now, is left alone. */
export function unmapPorts(claim: PortClaim): NftChange[] {
  return [
    ...leads(claim).map(
      ({ map, key, chain, shared }): NftChange => ({
        op: "delete",
        ...at,
        what: "element",
        map,
        key,
        chain,
        ...(shared && { unlessIn: map.replace("ports", "hostips") }),
      }),
    ),
    { op: "delete", ...at, what: "chain", chain: portChain(claim.key) },
    ...[...claim.mappings.entries()]
      .filter(([, mapping]) => isShifted(mapping))
      .map(([index]): NftChange => ({ op: "delete", ...at, what: "map", map: shiftMap(claim.key, index) })),
  ];
}

/** Removes an attachment's ports when no record of them is left: what leads to its chain is looked for. */
export function salvagePorts(kernel: Kernel, key: string): void {
  const chain = portChain(key);
  if (!kernel.nft.chains(at.family, at.table).includes(chain)) return;
  const elements = Object.keys(maps).flatMap((map) =>
    (kernel.nft.elements(at.family, at.table, map) ?? [])
      .filter((element) => element.chain === chain)
      .flatMap((element): NftChange[] => {
        const inner = { op: "delete", ...at, what: "element", map, key: element.key, chain } as const;
        if (!map.startsWith(HOST_IPS)) return [inner];
        const outer = { ...inner, map: map.replace(HOST_IPS, "ports"), key: element.key.slice(0, 8), chain: HOST_IPS };
        return [inner, { ...outer, unlessIn: map }];
      }),
  );
  const shifts = Array.from(
    { length: MAX_MAPPINGS },
    (_, i): NftChange => ({ op: "delete", ...at, what: "map", map: shiftMap(key, i) }),
  );
  kernel.nft.change([...elements, { op: "delete", ...at, what: "chain", chain }, ...shifts]);
}

/** The first port that is not as the plan has it, or rules that are not; undefined when all is in place. */
export function portsAmiss(kernel: Kernel, { chains, elements }: PortFeature): string | undefined {
  for (const { name, rules } of chains) {
    if (!hasJust(kernel, { ...at, chain: name }, rules))
      return `the rules of nft chain "${at.family} ${at.table} ${name}" are not as they were made`;
  }
  for (const map of Object.keys(maps)) {
    const wanted = elements.filter((e) => e.map === map);
    if (wanted.length === 0) continue;
    const found = kernel.nft.elements(at.family, at.table, map) ?? [];
    for (const { key, chain } of wanted) {
      if (!found.some((e) => e.chain === chain && sameBytes(e.key, key)))
        return `${showKey(key)} does not lead to the pod`;
    }
  }
  return undefined;
}

/** An element that stands in the way of a claim. */
export interface PortHolder {
  /** "8080/tcp", with the address of one that is another's on some address only. */
  readonly port: string;
  readonly chain: string;
  /** What gives the port up, with the holder's other ports untouched. */
  readonly release: readonly NftChange[];
}

/** Whose the ports are that another attachment has. */
export function portHolders(kernel: Kernel, { elements }: PortFeature): PortHolder[] {
  const all = new Map(Object.keys(maps).map((map) => [map, kernel.nft.elements(at.family, at.table, map) ?? []]));
  const remove = (map: string, key: Uint8Array, chain: string): NftChange => ({
    op: "delete",
    ...at,
    what: "element",
    map,
    key,
    chain,
  });
  const holders: PortHolder[] = [];
  for (const wanted of elements) {
    const found = all.get(wanted.map)?.find((e) => sameBytes(e.key, wanted.key));
    if (found === undefined || found.chain === wanted.chain) continue;
    if (found.chain !== HOST_IPS) {
      const release = [remove(wanted.map, found.key, found.chain)];
      holders.push({ port: showKey(found.key), chain: found.chain, release });
      continue;
    }
    const inner = wanted.map.replace("ports", "hostips");
    const users = (all.get(inner) ?? []).filter(({ key }) => wanted.key.every((byte, i) => byte === key[i]));
    for (const { key, chain } of users) {
      const release = [remove(inner, key, chain), { ...remove(wanted.map, found.key, HOST_IPS), unlessIn: inner }];
      holders.push({ port: showKey(key), chain, release });
    }
    if (users.length === 0) {
      holders.push({ port: showKey(found.key), chain: "", release: [remove(wanted.map, found.key, HOST_IPS)] });
    }
  }
  return holders;
}

function showKey(key: Uint8Array): string {
  const port = `${((key[4] ?? 0) << 8) | (key[5] ?? 0)}/${Object.entries(protocols).find(([, n]) => n === key[0])?.[0]}`;
  if (key.length === 8) return `port ${port}`;
  const bytes = key.slice(8);
  return `port ${port} of ${formatIp({ family: bytes.length === 4 ? 4 : 6, bytes })}`;
}

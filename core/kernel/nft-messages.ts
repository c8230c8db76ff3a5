/** Between `NftChange` and the messages of nf_tables: no socket, no state. */
import type { Request } from "../netlink/conversation.ts";
import { Flag } from "../netlink/message.ts";
import {
  batchEnd,
  type ChainMessage,
  chain,
  elements,
  generation,
  NFTABLES,
  type NftElementValue,
  type NftFamily,
  NftMessage,
  nftFamilies,
  type RuleMessage,
  rule,
  SetFlag,
  set,
  type TableMessage,
  table,
  VERDICT_DATA,
} from "../netlink/nft.ts";
import { Verdict } from "../netlink/nft-data.ts";
import type { NftBase, NftBaseChain, NftChange, NftKeyType, NftRule } from "./nftables.ts";

/** `enum nf_inet_hooks`, which the bridge family shares. */
const hooks = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const satisfies Record<
  NftBase["hook"],
  number
>;

/** Types in a row, as nft(8) numbers them: six bits each. */
const concatenated = (...types: readonly number[]): number => types.reduce((sum, type) => (sum << 6) | type, 0);
const [IPV4, IPV6, PROTOCOL, PORT] = [7, 8, 12, 13] as const;

/**
 * nft(8)'s number of the type, the length of a key in bytes, and nft(8)'s byte order: 1 the host's, 2 big-endian, 0 of
 * several fields, each of which takes a multiple of four bytes.
 */
const keyTypes = {
  ipv4: [IPV4, 4, 2],
  ipv6: [IPV6, 16, 2],
  ifname: [41, 16, 1],
  port: [PORT, 2, 2],
  "proto-port": [concatenated(PROTOCOL, PORT), 8, 0],
  "proto-port-ipv4": [concatenated(PROTOCOL, PORT, IPV4), 12, 0],
  "proto-port-ipv6": [concatenated(PROTOCOL, PORT, IPV6), 24, 0],
} as const satisfies Record<NftKeyType, readonly [number, number, number]>;

const DROP = 0;
const ACCEPT = 1;

/** What one change is, in the words of an error. */
export function describe(change: NftChange): string {
  const verb = change.op === "add" ? "add" : change.op;
  const place = `${change.family} ${change.table}`;
  if (change.op === "flush") return `flush nft chain "${place} ${change.chain}"`;
  switch (change.what) {
    case "table":
      return `${verb} nft table "${place}"`;
    case "chain":
    case "rule":
      return `${verb} nft ${change.what} "${place} ${change.chain}"`;
    case "map":
    case "element":
      return `${verb} nft ${change.what} "${place} ${change.map}"`;
  }
}

export function addRequest(change: NftChange & { op: "add" }): Request {
  const family = nftFamilies[change.family];
  const flags = Flag.CREATE;
  switch (change.what) {
    case "table":
      return { type: NftMessage.NEWTABLE, flags, codec: table, value: { family, name: change.table, flags: 0 } };
    case "chain": {
      const { base } = change;
      const hook = base && { number: hooks[base.hook], priority: base.priority };
      const policy = base && (base.drops === true ? DROP : ACCEPT);
      const value = { family, table: change.table, name: change.chain, hook, policy, type: base?.type };
      return { type: NftMessage.NEWCHAIN, flags, codec: chain, value };
    }
    case "rule": {
      const { expressions, userData } = change;
      const compat = change.compat === true ? { protocol: 0, flags: 0 } : undefined;
      const value = { family, table: change.table, chain: change.chain, expressions, compat, userData };
      const where = change.first === true ? 0 : Flag.APPEND;
      return { type: NftMessage.NEWRULE, flags: flags | where, codec: rule, value };
    }
    case "map": {
      const [keyType, keyLength, byteOrder] = keyTypes[change.key];
      const [dataType, dataLength, dataOrder] =
        change.data === undefined ? [VERDICT_DATA, 0, 0] : keyTypes[change.data];
      // Without this note nft(8) prints names as empty, and ports the wrong way round. Type 0 is the keys' byte order
      // and 1 the values', four bytes each, little-endian.
      const values = change.data === undefined ? [] : [1, 4, dataOrder, 0, 0, 0];
      const userData = Uint8Array.of(0, 4, byteOrder, 0, 0, 0, ...values);
      const types = { flags: SetFlag.MAP, keyType, keyLength, dataType, dataLength };
      const value = { family, table: change.table, name: change.map, ...types, id: 1, userData };
      return { type: NftMessage.NEWSET, flags, codec: set, value };
    }
    case "element": {
      const value = { family, table: change.table, set: change.map, elements: [elementOf(change)] };
      return { type: NftMessage.NEWELEMENT, flags, codec: elements, value };
    }
  }
}

type ElementChange = Extract<NftChange, { readonly what: "element" }>;

function elementOf({ op, key, chain, value }: ElementChange): NftElementValue {
  if (op === "delete") return { key: { value: key } };
  const data = value === undefined ? { verdict: { code: Verdict.JUMP, chain } } : { value };
  return { key: { value: key }, data };
}

/** So many elements stay far below the 64 KiB of the attribute that holds them. */
const ELEMENTS = 256;

/**
 * The requests of a transaction. Elements of one map that come one after the other go in one message: thousands of
 * messages would not fit into the socket.
 *
 * @returns each with its change, of several elements the first
 */
export function requestsOf(changes: readonly NftChange[]): { readonly change: NftChange; readonly request: Request }[] {
  const out: { readonly change: NftChange; readonly request: Request }[] = [];
  let run: ElementChange[] = [];
  const endRun = (): void => {
    const [first] = run;
    if (first === undefined) return;
    const request = first.op === "add" ? addRequest(first) : deleteRequest(first);
    out.push({
      change: first,
      request: { ...request, value: { ...(request.value as object), elements: run.map(elementOf) } },
    });
    run = [];
  };
  for (const change of changes) {
    if (change.op !== "flush" && change.what === "element") {
      const [first] = run;
      const joins =
        first !== undefined && run.length < ELEMENTS && first.op === change.op && first.family === change.family;
      if (!joins || first.table !== change.table || first.map !== change.map) endRun();
      run.push(change);
      continue;
    }
    endRun();
    out.push({ change, request: change.op === "add" ? addRequest(change) : deleteRequest(change) });
  }
  endRun();
  return out;
}

export function deleteRequest(change: NftChange & { op: "delete" | "flush" }): Request {
  const family = nftFamilies[change.family];
  const inTable = { family, table: change.table };
  if (change.op === "flush")
    return { type: NftMessage.DELRULE, codec: rule, value: { ...inTable, chain: change.chain } };
  switch (change.what) {
    case "table":
      return { type: NftMessage.DELTABLE, codec: table, value: { family, name: change.table } };
    case "chain":
      return { type: NftMessage.DELCHAIN, codec: chain, value: { ...inTable, name: change.chain } };
    case "rule": {
      const value = { ...inTable, chain: change.chain, handle: change.handle };
      return { type: NftMessage.DELRULE, codec: rule, value };
    }
    case "map":
      return { type: NftMessage.DELSET, codec: set, value: { ...inTable, name: change.map } };
    case "element": {
      const value = { ...inTable, set: change.map, elements: [{ key: { value: change.key } }] };
      return { type: NftMessage.DELELEMENT, codec: elements, value };
    }
  }
}

/** The question whether what a change deletes is there; its answer is an errno or the object. */
export function probeRequest(change: NftChange & { op: "delete" }): Request {
  const inTable = { family: nftFamilies[change.family], table: change.table };
  switch (change.what) {
    case "table": {
      const value = { family: inTable.family, name: change.table };
      return { type: NftMessage.GETTABLE, codec: table, value, reply: table };
    }
    case "chain":
      return { type: NftMessage.GETCHAIN, codec: chain, value: { ...inTable, name: change.chain }, reply: chain };
    case "rule": {
      const value = { ...inTable, chain: change.chain, handle: change.handle };
      return { type: NftMessage.GETRULE, codec: rule, value, reply: rule };
    }
    case "map":
      return { type: NftMessage.GETSET, codec: set, value: { ...inTable, name: change.map }, reply: set };
    case "element": {
      const value = { ...inTable, set: change.map, elements: [{ key: { value: change.key } }] };
      return { type: NftMessage.GETELEMENT, codec: elements, value, reply: elements };
    }
  }
}

export const generationRequest: Request<{ id?: number }> = {
  type: NftMessage.GETGENERATION,
  codec: generation,
  value: {},
  reply: generation,
};

/** The ends of a batch; with `id` it holds only while nothing else has changed since that generation. */
export function batchEnds(id?: number): { begin: Request; end: Request } {
  const value = { resource: NFTABLES };
  return {
    begin: { type: NftMessage.BATCH_BEGIN, codec: batchEnd, value: { ...value, generation: id } },
    end: { type: NftMessage.BATCH_END, codec: batchEnd, value },
  };
}

/** The key of a family in a request that asks for all of one chain or map. */
export const inFamily = (family: NftFamily): number => nftFamilies[family];

/** `NFT_TABLE_F_DORMANT` */
const DORMANT = 1;

export const isForward = (m: ChainMessage): boolean => m.hook?.number === hooks.forward;

/** Base chains that packets of IPv4 or IPv6 pass. */
export function toBaseChains(chains: readonly ChainMessage[], tables: readonly TableMessage[]): NftBaseChain[] {
  const asleep = (m: ChainMessage): boolean =>
    tables.some((t) => t.family === m.family && t.name === m.table && ((t.flags ?? 0) & DORMANT) !== 0);
  return chains.flatMap((m): NftBaseChain[] => {
    const family = (["inet", "ip", "ip6"] as const).find((name) => nftFamilies[name] === m.family);
    if (family === undefined || asleep(m)) return [];
    const { table = "", name = "", hook, policy } = m;
    return [{ family, table, chain: name, priority: hook?.priority ?? 0, drops: policy === DROP }];
  });
}

export function toRuleThere({ chain = "", handle = 0n, expressions = [], userData }: RuleMessage): NftRule {
  return { chain, handle, expressions, userData };
}

/** Between `NftChange` and the messages of nf_tables: no socket, no state. */
import type { Request } from "../netlink/conversation.ts";
import { Flag } from "../netlink/message.ts";
import {
  batchEnd,
  chain,
  elements,
  generation,
  NFTABLES,
  type NftFamily,
  NftMessage,
  nftFamilies,
  rule,
  SetFlag,
  set,
  table,
  VERDICT_DATA,
} from "../netlink/nft.ts";
import { Verdict } from "../netlink/nft-data.ts";
import type { NftBase, NftChange, NftKeyType } from "./kernel.ts";

/** `enum nf_inet_hooks`, which the bridge family shares. */
const hooks = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 } as const satisfies Record<
  NftBase["hook"],
  number
>;

/** nft(8)'s number of the type, the length of a key in bytes, and nft(8)'s byte order: 1 the host's, 2 big-endian. */
const keyTypes = { ipv4: [7, 4, 2], ipv6: [8, 16, 2], ifname: [41, 16, 1] } as const satisfies Record<
  NftKeyType,
  readonly [number, number, number]
>;

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
      const policy = base && ACCEPT;
      const value = { family, table: change.table, name: change.chain, hook, policy, type: base?.type };
      return { type: NftMessage.NEWCHAIN, flags, codec: chain, value };
    }
    case "rule": {
      const value = { family, table: change.table, chain: change.chain, expressions: change.expressions };
      return { type: NftMessage.NEWRULE, flags: flags | Flag.APPEND, codec: rule, value };
    }
    case "map": {
      const [keyType, keyLength, byteOrder] = keyTypes[change.key];
      // Without this note nft(8) prints names as empty. Type 0 is the keys' byte order, four bytes, little-endian.
      const userData = Uint8Array.of(0, 4, byteOrder, 0, 0, 0);
      const types = { flags: SetFlag.MAP, keyType, keyLength, dataType: VERDICT_DATA, dataLength: 0 };
      const value = { family, table: change.table, name: change.map, ...types, id: 1, userData };
      return { type: NftMessage.NEWSET, flags, codec: set, value };
    }
    case "element": {
      const data = { verdict: { code: Verdict.JUMP, chain: change.chain } };
      const value = { family, table: change.table, set: change.map, elements: [{ key: { value: change.key }, data }] };
      return { type: NftMessage.NEWELEMENT, flags, codec: elements, value };
    }
  }
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

/**
 * nf_tables over nfnetlink: the messages and the batch around them. Every number is big-endian.
 * Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h
 */
import {
  attrs,
  body,
  bytes,
  cstr,
  type Into,
  i32be,
  list,
  NESTED,
  type Of,
  struct,
  u8,
  u16be,
  u32be,
  u64be,
} from "../wire/codec.ts";
import { data } from "./nft-data.ts";
import { expression } from "./nft-expression.ts";

/** `struct nfgenmsg`, 4 bytes */
const nfgenmsg = struct({ family: u8, version: u8, resource: u16be });

const SUBSYSTEM = 10 << 8;
/** `NFT_MSG_*`, with the subsystem's number */
export const NftMessage = {
  NEWTABLE: SUBSYSTEM | 0,
  GETTABLE: SUBSYSTEM | 1,
  DELTABLE: SUBSYSTEM | 2,
  NEWCHAIN: SUBSYSTEM | 3,
  GETCHAIN: SUBSYSTEM | 4,
  DELCHAIN: SUBSYSTEM | 5,
  NEWRULE: SUBSYSTEM | 6,
  GETRULE: SUBSYSTEM | 7,
  DELRULE: SUBSYSTEM | 8,
  NEWSET: SUBSYSTEM | 9,
  GETSET: SUBSYSTEM | 10,
  DELSET: SUBSYSTEM | 11,
  NEWELEMENT: SUBSYSTEM | 12,
  GETELEMENT: SUBSYSTEM | 13,
  DELELEMENT: SUBSYSTEM | 14,
  GETGENERATION: SUBSYSTEM | 16,
  BATCH_BEGIN: 16,
  BATCH_END: 17,
} as const;

/** The families of tables, `NFPROTO_*`. */
export const nftFamilies = { inet: 1, ip: 2, bridge: 7, ip6: 10 } as const;
export type NftFamily = keyof typeof nftFamilies;

/** `resource` of a batch's ends: the subsystem it is for. */
export const NFTABLES = 10;

/** The ends of a batch. With `generation` the kernel refuses it (ERESTART) if anything changed since. */
export const batchEnd = body(nfgenmsg, attrs({ generation: [1, u32be] }));
export const generation = body(nfgenmsg, attrs({ id: [1, u32be] }));

/** `NFTA_TABLE_*` */
export const table = body(nfgenmsg, attrs({ name: [1, cstr], flags: [2, u32be], use: [3, u32be], handle: [4, u64be] }));

/** `NFTA_HOOK_*` */
const hook = attrs({ number: [1, u32be], priority: [2, i32be] });

/** `NFTA_CHAIN_*`; one with a hook is a base chain. */
export const chain = body(
  nfgenmsg,
  attrs({
    table: [1, cstr],
    handle: [2, u64be],
    name: [3, cstr],
    hook: [4 | NESTED, hook],
    policy: [5, u32be], //   0 drop, 1 accept
    use: [6, u32be],
    type: [7, cstr],
    flags: [10, u32be],
  }),
);

/** `NFTA_RULE_COMPAT_*`: the protocol that a rule of iptables is about. */
const compat = attrs({ protocol: [1, u32be], flags: [2, u32be] });

/** `NFTA_RULE_*` */
export const rule = body(
  nfgenmsg,
  attrs({
    table: [1, cstr],
    chain: [2, cstr],
    handle: [3, u64be],
    expressions: [4 | NESTED, list(1 | NESTED, expression)],
    compat: [5 | NESTED, compat],
    position: [6, u64be],
    userData: [7, bytes], // type, length, content; type 0 is a comment with its NUL
  }),
);

/** `NFTA_SET_*`; a map is a set with data. */
export const set = body(
  nfgenmsg,
  attrs({
    table: [1, cstr],
    name: [2, cstr],
    flags: [3, u32be],
    keyType: [4, u32be], //     nft(8)'s number of the type, so that it can print it
    keyLength: [5, u32be],
    dataType: [6, u32be],
    dataLength: [7, u32be],
    policy: [8, u32be],
    id: [10, u32be], //         names a set that this very transaction makes
    userData: [13, bytes], //   nft(8)'s own notes: type, length, content
    handle: [16, u64be],
  }),
);

/** `NFTA_SET_ELEM_*` */
const element = attrs({
  key: [1 | NESTED, data],
  data: [2 | NESTED, data],
  flags: [3, u32be],
});

/** `NFTA_SET_ELEM_LIST_*` */
export const elements = body(
  nfgenmsg,
  attrs({
    table: [1, cstr],
    set: [2, cstr],
    elements: [3 | NESTED, list(1 | NESTED, element)],
    setId: [4, u32be],
  }),
);

export type TableMessage = Of<typeof table>;
export type ChainMessage = Of<typeof chain>;
export type RuleMessage = Of<typeof rule>;
export type RuleRequest = Into<typeof rule>;
export type SetMessage = Of<typeof set>;
export type ElementsMessage = Of<typeof elements>;
export type NftElementValue = Into<typeof element>;

/** `NFT_SET_*` */
export const SetFlag = { MAP: 0x8 } as const;
/** `NFT_DATA_VERDICT`: the data type of a verdict map. */
export const VERDICT_DATA = 0xffffff00;

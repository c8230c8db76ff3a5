/** The expressions that rules are made of; a new one is a line here. Source: linux/netfilter/nf_tables.h */
import { attrs, bytes, cstr, type Into, NESTED, type Of, u8, u32be, u64be } from "../wire/codec.ts";
import { data } from "./nft-data.ts";

const payload = attrs({ to: [1, u32be], base: [2, u32be], offset: [3, u32be], length: [4, u32be] });
const cmp = attrs({ from: [1, u32be], op: [2, u32be], data: [3 | NESTED, data] });
const meta = attrs({ to: [1, u32be], key: [2, u32be], from: [3, u32be] });
const bitwise = attrs({
  from: [1, u32be],
  to: [2, u32be],
  length: [3, u32be],
  mask: [4 | NESTED, data],
  xor: [5 | NESTED, data],
  op: [6, u32be],
});
const immediate = attrs({ to: [1, u32be], data: [2 | NESTED, data] });
const lookup = attrs({ set: [1, cstr], from: [2, u32be], to: [3, u32be], setId: [4, u32be], flags: [5, u32be] });
const masq = attrs({ flags: [1, u32be], fromPort: [2, u32be], toPort: [3, u32be] });
const fib = attrs({ to: [1, u32be], result: [2, u32be], flags: [3, u32be] });
const ct = attrs({ to: [1, u32be], key: [2, u32be], from: [4, u32be] });
const nat = attrs({
  type: [1, u32be],
  family: [2, u32be],
  fromAddress: [3, u32be],
  toAddress: [4, u32be],
  fromPort: [5, u32be],
  toPort: [6, u32be],
  flags: [7, u32be],
});
const counter = attrs({ bytes: [1, u64be], packets: [2, u64be] });
const reject = attrs({ type: [1, u32be], code: [2, u8] });
/** A match or target of iptables: its `info` is the extension's own C struct. Source: linux/netfilter/nf_tables_compat.h */
const extension = attrs({ name: [1, cstr], revision: [2, u32be], info: [3, bytes] });

/** `NFTA_EXPR_*`: a name, and its attributes under that name. */
export const expression = attrs({
  name: [1, cstr],
  payload: [2 | NESTED, payload, { when: ["name", "payload"] }],
  cmp: [2 | NESTED, cmp, { when: ["name", "cmp"] }],
  meta: [2 | NESTED, meta, { when: ["name", "meta"] }],
  bitwise: [2 | NESTED, bitwise, { when: ["name", "bitwise"] }],
  immediate: [2 | NESTED, immediate, { when: ["name", "immediate"] }],
  lookup: [2 | NESTED, lookup, { when: ["name", "lookup"] }],
  masq: [2 | NESTED, masq, { when: ["name", "masq"] }],
  fib: [2 | NESTED, fib, { when: ["name", "fib"] }],
  ct: [2 | NESTED, ct, { when: ["name", "ct"] }],
  nat: [2 | NESTED, nat, { when: ["name", "nat"] }],
  counter: [2 | NESTED, counter, { when: ["name", "counter"] }],
  reject: [2 | NESTED, reject, { when: ["name", "reject"] }],
  match: [2 | NESTED, extension, { when: ["name", "match"] }],
  target: [2 | NESTED, extension, { when: ["name", "target"] }],
});
export type NftExpression = Into<typeof expression>;
export type NftExpressionOut = Of<typeof expression>;

/**
 * `NFT_REG_*`: the verdict, and the first of the 16-byte registers. `NFT_REG32_*` are their parts, of which a key of
 * several fields takes one after the other: the first is register ONE itself.
 */
export const Register = { VERDICT: 0, ONE: 1, TWO: 2, SECOND_PART: 9, THIRD_PART: 10 } as const;
/** `NFT_PAYLOAD_*_HEADER` */
export const PayloadBase = { LINK: 0, NETWORK: 1, TRANSPORT: 2 } as const;
/** `NFT_META_*` */
export const MetaKey = { PROTOCOL: 1, MARK: 3, IIFNAME: 6, OIFNAME: 7, IIFTYPE: 8, NFPROTO: 15, L4PROTO: 16 } as const;
/** `NFT_CMP_*` */
export const Compare = { EQ: 0, NEQ: 1, LTE: 3, GTE: 5 } as const;
/** `NFT_FIB_RESULT_*`, and `NFTA_FIB_F_*` for the address that is looked up */
export const Fib = { RESULT_ADDRTYPE: 3, DADDR: 2 } as const;
/** `NFT_CT_*` */
export const CtKey = { STATUS: 2 } as const;
/** `NFT_NAT_*` */
export const NatType = { SNAT: 0, DNAT: 1 } as const;

/** Queueing disciplines and filters, `RTM_*QDISC` and `RTM_*TFILTER`. Source: linux/rtnetlink.h, linux/pkt_sched.h */
import { attrs, body, bytes, cstr, encode, type Into, i32, type Of, struct, u8, u16, u32, u64 } from "../wire/codec.ts";

/** `struct tcmsg`, 20 bytes */
const header = struct({ family: u8, pad1: u8, pad2: u16, index: i32, handle: u32, parent: u32, info: u32 });

/** `struct tc_tbf_qopt` with its two `tc_ratespec`, 36 bytes. Rates are bytes a second, `buffer` is ticks of 64 ns. */
const tokenBucket = struct({
  cellLog: u8,
  linkLayer: u8,
  overhead: u16,
  cellAlign: u16,
  leastUnit: u16,
  rate: u32,
  peakCellLog: u8,
  peakLinkLayer: u8,
  peakOverhead: u16,
  peakCellAlign: u16,
  peakLeastUnit: u16,
  peakRate: u32,
  limit: u32, //   bytes
  buffer: u32,
  mtu: u32,
});

/** `TCA_TBF_*` */
const tbf = attrs({
  parameters: [1, tokenBucket],
  rate64: [4, u64], // in the place of `rate`, when that is too narrow
});

/** `TCA_*` of a queueing discipline */
export const qdisc = body(header, attrs({ kind: [1, cstr], tbf: [2, tbf, { when: ["kind", "tbf"] }] }));
export type QdiscMessage = Of<typeof qdisc>;
export type QdiscRequest = Into<typeof qdisc>;

/** `struct tc_mirred` with its `tc_gen`, 28 bytes. Source: linux/tc_act/tc_mirred.h */
const mirred = struct({
  index: u32,
  capabilities: u32,
  action: i32,
  references: i32,
  bindings: i32,
  direction: i32,
  target: u32, // ifindex
});

/** `TCA_ACT_*` */
const action = attrs({
  kind: [1, cstr],
  mirred: [2, attrs({ parameters: [2, mirred] }), { when: ["kind", "mirred"] }],
});

/** `TCA_U32_*`; actions are numbered from 1, and one is all that is needed here. Source: linux/pkt_cls.h */
const u32Options = attrs({
  classId: [1, u32],
  selector: [5, bytes],
  actions: [7, attrs({ first: [1, action] })],
});

/** `TCA_*` of a filter */
export const filter = body(header, attrs({ kind: [1, cstr], u32: [2, u32Options, { when: ["kind", "u32"] }] }));
export type FilterMessage = Of<typeof filter>;
export type FilterRequest = Into<typeof filter>;

/** `struct tc_u32_sel` and one `struct tc_u32_key`, 32 bytes */
const selector = struct({
  flags: u8,
  offsetShift: u8,
  keys: u8,
  pad: u8,
  offsetMask: u16,
  offset: u16,
  offsetAt: u16,
  hashAt: u16,
  hashMask: u32,
  mask: u32,
  value: u32,
  at: i32,
  atMask: i32,
});

/** A selector that every packet fits: nothing is asked of its first four bytes, and no other is tried after it. */
export const everyPacket: Uint8Array = encode(selector, { flags: 1, keys: 1 });

/** `TC_H_*`, where a queueing discipline hangs, and the handles that ours have. */
export const TrafficHandle = {
  ROOT: 0xffffffff,
  INGRESS: 0xfffffff1,
  FIRST: 0x10000,
  INGRESS_ITSELF: 0xffff0000,
} as const;
/** `TC_ACT_STOLEN`: the packet is somebody else's from here on. */
export const STOLEN = 4;
/** `TCA_EGRESS_REDIR` */
export const EGRESS_REDIRECT = 1;
/** `tcm_info` of a filter: its priority, and the packets that it sees; `ETH_P_ALL` in network order. */
export const FIRST_FOR_ALL = (1 << 16) | 0x0300;

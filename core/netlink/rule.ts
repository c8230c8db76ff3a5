/** Policy routing rules, `RTM_*RULE`. Source: linux/fib_rules.h */
import { attrs, body, bytes, cstr, type Into, type Of, struct, u8, u32 } from "../wire/codec.ts";

/** `struct fib_rule_hdr`, 12 bytes */
const header = struct({
  family: u8,
  dstLength: u8,
  srcLength: u8,
  tos: u8,
  table8: u8,
  res1: u8,
  res2: u8,
  action: u8,
  flags: u32,
});

/** `FRA_*` */
const ruleAttrs = attrs({
  dst: [1, bytes],
  src: [2, bytes],
  inputInterface: [3, cstr],
  priority: [6, u32],
  mark: [10, u32],
  suppressPrefixLength: [14, u32],
  table: [15, u32],
  markMask: [16, u32],
  outputInterface: [17, cstr],
  l3mdev: [19, u8],
  protocol: [21, u8],
});

export const rule = body(header, ruleAttrs);
export type RuleMessage = Of<typeof rule>;
export type RuleRequest = Into<typeof rule>;

/** `FR_ACT_TO_TBL`: look in a table. */
export const LOOKUP = 1;

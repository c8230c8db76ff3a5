/** What one network namespace calls another, `RTM_GETNSID`. Source: linux/net_namespace.h */
import { attrs, body, i32, struct, u8, u32 } from "../wire/codec.ts";

/** `struct rtgenmsg`, with the padding that comes before attributes */
const header = struct({ family: u8, pad1: u8, pad2: u8, pad3: u8 });

/** `NETNSA_*` */
export const netnsId = body(
  header,
  attrs({
    id: [1, i32], //  answered; -1 when it has none
    fd: [3, u32], //  asked for: a descriptor of the other namespace
  }),
);

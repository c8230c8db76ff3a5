import { i32, struct, u8, u16, u32 } from "../wire/codec.ts";

/** `struct ifinfomsg`, 16 bytes. Source: linux/rtnetlink.h */
export const ifinfomsg = struct({ family: u8, pad: u8, type: u16, index: i32, flags: u32, change: u32 });

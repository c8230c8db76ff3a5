import { attrs, u8, u32 } from "../../wire/codec.ts";

/** `IFLA_INFO_DATA` of a tun or tap, which is only ever answered. Source: linux/if_link.h, `IFLA_TUN_*` */
export const tun = attrs({
  owner: [1, u32],
  group: [2, u32],
  type: [3, u8], //        2: a tap
  persist: [6, u8],
  multiQueue: [7, u8],
});

/** `IFF_TAP` */
export const TAP = 2;

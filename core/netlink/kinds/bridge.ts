import { attrs, u8, u16, u16be, u32 } from "../../wire/codec.ts";

/** `IFLA_INFO_DATA` of a bridge. Times are in hundredths of a second. Source: linux/if_link.h, `IFLA_BR_*` */
export const bridge = attrs({
  forwardDelay: [1, u32],
  helloTime: [2, u32],
  maxAge: [3, u32],
  ageingTime: [4, u32],
  stp: [5, u32],
  priority: [6, u16],
  vlanFiltering: [7, u8],
  vlanProtocol: [8, u16be], //      0x8100 or 0x88a8
  groupForwardMask: [9, u16],
  multicastSnooping: [23, u8],
  vlanDefaultPvid: [39, u16], //    0: ports are born without a VLAN
});

import { attrs, u8, u16, u32 } from "../../wire/codec.ts";

/** `IFLA_INFO_SLAVE_DATA` of a bridge's port. Source: linux/if_link.h, `IFLA_BRPORT_*` */
export const bridgePort = attrs({
  state: [1, u8], //       3 forwards
  priority: [2, u16],
  cost: [3, u32],
  hairpin: [4, u8], //     IFLA_BRPORT_MODE: frames may leave where they came in
  guard: [5, u8],
  protect: [6, u8],
  learning: [8, u8],
  unicastFlood: [9, u8],
  isolated: [33, u8],
});

import { attrs, u16, u16be } from "../../wire/codec.ts";

/** `IFLA_INFO_DATA` of a VLAN. Source: linux/if_link.h, `IFLA_VLAN_*` */
export const vlan = attrs({
  id: [1, u16],
  protocol: [5, u16be], // 0x8100 or 0x88a8
});

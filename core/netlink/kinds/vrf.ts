import { attrs, u32 } from "../../wire/codec.ts";

/** `IFLA_INFO_DATA` of a VRF. Source: linux/if_link.h, `IFLA_VRF_*` */
export const vrf = attrs({ table: [1, u32] });

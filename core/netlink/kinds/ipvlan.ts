import { attrs, u16 } from "../../wire/codec.ts";

/** `IFLA_INFO_DATA` of an ipvlan. Source: linux/if_link.h, `IFLA_IPVLAN_*` */
export const ipvlan = attrs({
  mode: [1, u16],
  flags: [2, u16], // who of one parent's may talk to each other: 1 nobody (private), 2 by way of the switch (vepa)
});

/** `IPVLAN_MODE_*` */
export const ipvlanModes = { l2: 0, l3: 1, l3s: 2 } as const;
export type IpvlanMode = keyof typeof ipvlanModes;

import { attrs, u16, u32 } from "../../wire/codec.ts";

/** `IFLA_INFO_DATA` of a macvlan. Source: linux/if_link.h, `IFLA_MACVLAN_*` */
export const macvlan = attrs({
  mode: [1, u32],
  flags: [2, u16],
  broadcastQueueLength: [7, u32], //     IFLA_MACVLAN_BC_QUEUE_LEN, asked for; the parent uses the longest
  broadcastQueueLengthUsed: [8, u32], // answered only
});

/** `MACVLAN_MODE_*` */
export const macvlanModes = { private: 1, vepa: 2, bridge: 4, passthru: 8 } as const;
export type MacvlanMode = keyof typeof macvlanModes;

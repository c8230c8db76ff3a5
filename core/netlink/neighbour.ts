/** Neighbours: ARP, NDP and, with family bridge, forwarding entries. `RTM_*NEIGH`. Source: linux/neighbour.h */
import { attrs, body, bytes, type Into, i32, type Of, struct, u8, u16, u32 } from "../wire/codec.ts";

/** `struct ndmsg`, 12 bytes */
const ndmsg = struct({ family: u8, pad1: u8, pad2: u16, index: i32, state: u16, flags: u8, type: u8 });

/** `NDA_*` */
const neighbourAttrs = attrs({
  dst: [1, bytes],
  mac: [2, bytes], //    NDA_LLADDR
  cacheInfo: [3, bytes],
  probes: [4, u32],
  vlan: [5, u16],
  master: [9, u32],
});

export const neighbour = body(ndmsg, neighbourAttrs);
export type NeighbourMessage = Of<typeof neighbour>;
export type NeighbourRequest = Into<typeof neighbour>;

/** `NUD_*` */
export const NeighbourState = { NOARP: 0x40, PERMANENT: 0x80 } as const;

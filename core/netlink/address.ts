/** Addresses, `RTM_*ADDR`. Source: linux/if_addr.h */
import { attrs, body, bytes, cstr, type Into, type Of, struct, u8, u32 } from "../wire/codec.ts";

/** `struct ifaddrmsg`, 8 bytes; `flags` has the low 8 bits of what the attribute has in full. */
const ifaddrmsg = struct({ family: u8, prefix: u8, flags8: u8, scope: u8, index: u32 });

/** `IFA_*` */
const addressAttrs = attrs({
  address: [1, bytes], //   the peer's on a point-to-point link, else the same as local
  local: [2, bytes], //     IPv4 always, IPv6 only with a peer
  label: [3, cstr],
  broadcast: [4, bytes],
  cacheInfo: [6, bytes],
  flags: [8, u32],
  metric: [9, u32],
  protocol: [11, u8], //    who set it; Linux 5.18
});

export const address = body(ifaddrmsg, addressAttrs);
export type AddressMessage = Of<typeof address>;
export type AddressRequest = Into<typeof address>;

/** `IFA_F_*` */
export const AddressFlag = {
  NODAD: 0x02,
  OPTIMISTIC: 0x04,
  DADFAILED: 0x08,
  TENTATIVE: 0x40,
  PERMANENT: 0x80,
  NOPREFIXROUTE: 0x200,
} as const;

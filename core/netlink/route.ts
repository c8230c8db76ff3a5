/** Routes, `RTM_*ROUTE`. Source: linux/rtnetlink.h */
import { attrs, body, bytes, type Into, i32, type Of, records, struct, u8, u16, u32 } from "../wire/codec.ts";

/** `struct rtmsg`, 12 bytes; `table8` is 252 (RT_TABLE_COMPAT) or 0 when the table needs the attribute. */
const rtmsg = struct({
  family: u8,
  dstLength: u8,
  srcLength: u8,
  tos: u8,
  table8: u8,
  protocol: u8,
  scope: u8,
  type: u8,
  flags: u32,
});

/** `RTAX_*`: what the route overrides for the connections that use it. */
const metrics = attrs({ mtu: [2, u32], advmss: [8, u32] });

/** `struct rtnexthop`, 8 bytes; `hops` is the weight less one. */
const rtnexthop = struct({ length: u16, flags: u8, hops: u8, index: i32 });

/** `RTA_*` */
const routeAttrs = attrs({
  dst: [1, bytes],
  src: [2, bytes], //        IPv6 source routing, not the preferred source
  inputIndex: [3, u32],
  index: [4, u32], //        RTA_OIF
  gateway: [5, bytes],
  priority: [6, u32],
  source: [7, bytes], //     RTA_PREFSRC
  metrics: [8, metrics],
  nexthops: [9, records(rtnexthop, attrs({ gateway: [5, bytes], via: [18, bytes] }))],
  cacheInfo: [12, bytes],
  table: [15, u32],
  mark: [16, u32],
  via: [18, bytes], //       a gateway of the other family: family, then address
  preference: [20, u8],
  expires: [23, u32],
});

export const route = body(rtmsg, routeAttrs);
export type RouteMessage = Of<typeof route>;
export type RouteRequest = Into<typeof route>;

/** `RTN_*` */
export const RouteType = { UNICAST: 1, LOCAL: 2, BROADCAST: 3, BLACKHOLE: 6, UNREACHABLE: 7, PROHIBIT: 8 } as const;
/** `RTPROT_*` */
export const RouteProtocol = { KERNEL: 2, BOOT: 3, STATIC: 4 } as const;
/** `RT_SCOPE_*` */
export const RouteScope = { UNIVERSE: 0, SITE: 200, LINK: 253, HOST: 254, NOWHERE: 255 } as const;
/** `RT_TABLE_*` */
export const RouteTable = { UNSPEC: 0, COMPAT: 252, DEFAULT: 253, MAIN: 254, LOCAL: 255 } as const;
/** `RTNH_F_ONLINK`: the gateway is on this link, whatever the addresses say. */
export const ONLINK = 0x4;
/** `RTM_F_CLONED`: a cached entry, not a route of the table. */
export const CLONED = 0x200;

/** Links, `RTM_*LINK`. Source: linux/rtnetlink.h, linux/if_link.h */
import {
  attrs,
  body,
  bytes,
  type Codec,
  cstr,
  type Into,
  i32,
  list,
  NESTED,
  type Of,
  text,
  u8,
  u32,
} from "../wire/codec.ts";
import { bridge } from "./kinds/bridge.ts";
import { bridgePort } from "./kinds/bridge-port.ts";
import { ipvlan } from "./kinds/ipvlan.ts";
import { macvlan } from "./kinds/macvlan.ts";
import { tun } from "./kinds/tun.ts";
import { veth } from "./kinds/veth.ts";
import { vlan } from "./kinds/vlan.ts";
import { vrf } from "./kinds/vrf.ts";
import { ifinfomsg } from "./link-header.ts";
import { vfInfoList } from "./vf.ts";

/**
 * `IFLA_LINKINFO`: the kind, and its data under the kind's own name; `port` is what the master keeps of its port.
 * A kind without data, such as dummy, needs nothing here. Source: linux/if_link.h, `IFLA_INFO_*`
 */
const linkInfo = attrs({
  kind: [1, text],
  veth: [2, veth, { when: ["kind", "veth"] }],
  bridge: [2, bridge, { when: ["kind", "bridge"] }],
  macvlan: [2, macvlan, { when: ["kind", "macvlan"] }],
  ipvlan: [2, ipvlan, { when: ["kind", "ipvlan"] }],
  vlan: [2, vlan, { when: ["kind", "vlan"] }],
  vrf: [2, vrf, { when: ["kind", "vrf"] }],
  portKind: [4, text],
  bridgePort: [5, bridgePort, { when: ["portKind", "bridge"] }],
});

/** `IFLA_PROP_LIST`: alternative names. */
const properties = list(53, cstr);

/** `IFLA_*`. A field added here is encoded, decoded and typed; nothing else to edit. */
const linkAttrs = attrs({
  address: [1, bytes], //       hardware address, 6 bytes on Ethernet
  broadcast: [2, bytes],
  name: [3, cstr], //           IFLA_IFNAME: at most 15 bytes, IFNAMSIZ - 1
  mtu: [4, u32], //             bytes
  parent: [5, u32], //          IFLA_LINK: ifindex of the lower device, or of a veth's peer
  master: [10, u32], //         ifindex of the bridge or VRF; 0 takes it out
  txQueueLength: [13, u32], //  packets
  operState: [16, u8], //       RFC 2863: 6 is up, 0 unknown
  info: [18, linkInfo],
  alias: [20, text], //         at most 255 bytes
  vfs: [22, vfInfoList], //     of a physical function
  group: [27, u32],
  netnsFd: [28, u32], //        a descriptor of the namespace to be born in or to move to
  extMask: [29, u32], //        RTEXT_FILTER_*: what a get leaves out or adds
  promiscuity: [30, u32], //    how many want it promiscuous, the user or a macvlan on it
  txQueues: [31, u32],
  rxQueues: [32, u32],
  parentNetnsId: [37, i32], // IFLA_LINK_NETNSID: where `parent` is, when elsewhere
  properties: [52 | NESTED, properties],
  allmulti: [61, u32], //       count, as promiscuity
});

export const link = body(ifinfomsg, linkAttrs);
export type LinkMessage = Of<typeof link>;
export type LinkRequest = Into<typeof link>;

/** `IFLA_INET6_CONF`: one number a setting, of which this is the fourth. Source: linux/ipv6.h, `DEVCONF_ACCEPT_RA` */
const acceptRa: Codec<number | undefined> = {
  write() {},
  read: (from, start, end) => (end - start < 16 ? undefined : i32.read(from, start + 12, end)),
};

/** What of a link is read: the messages are long, and most of what they say is of no use here. */
export const foundLink = body(
  ifinfomsg,
  attrs({
    address: [1, bytes],
    name: [3, cstr],
    mtu: [4, u32],
    parent: [5, u32],
    master: [10, u32],
    txQueueLength: [13, u32],
    info: [
      18,
      attrs({
        kind: [1, text],
        bridge: [2, attrs({ vlanFiltering: [7, u8] }), { when: ["kind", "bridge"] }],
        macvlan: [2, macvlan, { when: ["kind", "macvlan"] }],
        ipvlan: [2, ipvlan, { when: ["kind", "ipvlan"] }],
        vlan: [2, vlan, { when: ["kind", "vlan"] }],
        vrf: [2, vrf, { when: ["kind", "vrf"] }],
        tun: [2, tun, { when: ["kind", "tun"] }],
        portKind: [4, text],
        bridgePort: [5, attrs({ hairpin: [4, u8], isolated: [33, u8] }), { when: ["portKind", "bridge"] }],
      }),
    ],
    alias: [20, text],
    families: [26, attrs({ ipv6: [10, attrs({ acceptRa: [2, acceptRa] })] })], // IFLA_AF_SPEC
    group: [27, u32],
    parentNetnsId: [37, i32],
    properties: [52, properties],
    permanentAddress: [54, bytes],
    deviceName: [56, cstr], // IFLA_PARENT_DEV_NAME: the device that it is the interface of, Linux 5.14
    deviceBus: [57, cstr],
  }),
);
export type FoundLink = Of<typeof foundLink>;

/** The virtual functions of a link, which are answered when asked for with `WITH_VFS`. */
export const linkVfs = body(ifinfomsg, attrs({ vfs: [22, vfInfoList] }));

export const macOnly = body(ifinfomsg, attrs({ address: [1, bytes] }));
export const groupOnly = body(ifinfomsg, attrs({ group: [27, u32] }));

/** `IFF_*`, the bits of `flags` that are read or set here. Source: linux/if.h */
export const LinkFlag = {
  UP: 0x1,
  LOOPBACK: 0x8,
  RUNNING: 0x40,
  PROMISC: 0x100,
  ALLMULTI: 0x200,
} as const;

/** `IF_OPER_UP` */
export const OPER_UP = 6;
/** `RTEXT_FILTER_VF` */
export const WITH_VFS = 0x1;
/** `RTEXT_FILTER_SKIP_STATS`: two thirds of an answer are counters that nobody here reads. */
export const SKIP_STATS = 0x8;

/**
 * VLANs of a bridge's ports, and of the bridge itself: link messages of family bridge, whose `IFLA_AF_SPEC` has another
 * content than that of any other family. Source: linux/if_bridge.h
 */
import { attrs, body, bytes, cstr, type Into, type Of, struct, u8, u16, u32 } from "../wire/codec.ts";
import { ifinfomsg } from "./link-header.ts";

/** `struct bridge_vlan_info`, 4 bytes */
const vlanInfo = struct({ flags: u16, id: u16 });

export const bridgeLink = body(
  ifinfomsg,
  attrs({
    address: [1, bytes],
    name: [3, cstr],
    mtu: [4, u32],
    parent: [5, u32],
    master: [10, u32],
    operState: [16, u8],
    /** `IFLA_AF_SPEC`, with `IFLA_BRIDGE_FLAGS` and as many `IFLA_BRIDGE_VLAN_INFO` as needed. */
    spec: [26, attrs({ flags: [0, u16], vlans: [2, vlanInfo, { many: true }] })],
    extMask: [29, u32],
  }),
);
export type BridgeLinkMessage = Of<typeof bridgeLink>;
export type BridgeLinkRequest = Into<typeof bridgeLink>;

/** `BRIDGE_VLAN_INFO_*` */
export const VlanFlag = { PVID: 0x2, UNTAGGED: 0x4, RANGE_BEGIN: 0x8, RANGE_END: 0x10 } as const;
/** `BRIDGE_FLAGS_*`: whether the message is for the bridge that the port belongs to, or for the device itself. */
export const BridgeFlag = { MASTER: 1, SELF: 2 } as const;
/** `RTEXT_FILTER_BRVLAN_COMPRESSED`: ranges as ranges. */
export const BRVLAN_COMPRESSED = 0x4;

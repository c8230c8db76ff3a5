/**
 * The virtual functions of a link, `IFLA_VFINFO_LIST`. What is set is one attribute a setting; what is read is the same
 * for each function. Source: linux/if_link.h, `IFLA_VF_*`
 */
import { attrs, type Codec, list, type Of, struct, u16, u16be, u32 } from "../wire/codec.ts";

/** `struct ifla_vf_mac`: the number, then 32 bytes of which Ethernet uses 6. */
export interface VfMac {
  readonly vf: number;
  readonly mac: Uint8Array;
}
const vfMac: Codec<VfMac> = {
  write(to, { vf, mac }) {
    u32.write(to, vf);
    to.append(mac);
    for (let i = mac.length; i < 32; i++) to.appendZero();
  },
  read: (from, start, end) => ({ vf: u32.read(from, start, end), mac: from.bytes.slice(start + 4, start + 10) }),
};

/** `struct ifla_vf_spoofchk`, `_trust`, `_link_state`: `setting` is all ones where the driver does not say. */
const setting = struct({ vf: u32, setting: u32 });
const vlan = struct({ vf: u32, vlan: u32, qos: u32 });
/** `struct ifla_vf_vlan_info`; `protocol` is 0x8100 or 0x88a8. */
const vlanInfo = struct({ vf: u32, vlan: u32, qos: u32, protocol: u16be, pad: u16 });
/** `struct ifla_vf_rate`, Mbit/s */
const rate = struct({ vf: u32, min: u32, max: u32 });

export const vfInfo = attrs({
  mac: [1, vfMac],
  vlan: [2, vlan],
  spoofCheck: [4, setting],
  linkState: [5, setting],
  rate: [6, rate],
  trust: [9, setting],
  vlans: [12, list(1, vlanInfo)],
});
export type VfInfo = Of<typeof vfInfo>;

export const vfInfoList = list(1, vfInfo);

/** `IFLA_VF_LINK_STATE_*` */
export const vfLinkStates = ["auto", "enable", "disable"] as const;
export type VfLinkState = (typeof vfLinkStates)[number];

export const VlanProtocol = { "802.1q": 0x8100, "802.1ad": 0x88a8 } as const;
export type VlanProtocol = keyof typeof VlanProtocol;

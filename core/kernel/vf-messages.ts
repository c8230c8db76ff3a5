/** Between virtual functions as values and as the kernel's messages have them. */
import { formatMac } from "../base/ip.ts";
import type { linkVfs } from "../netlink/link.ts";
import { VlanProtocol as Protocol, type VfInfo, type VlanProtocol, type vfInfo, vfLinkStates } from "../netlink/vf.ts";
import type { Into, Of } from "../wire/codec.ts";
import type { VirtualFunction, VirtualFunctionChange } from "./kernel.ts";
import { macBytes } from "./messages.ts";

export type LinkVfs = Of<typeof linkVfs>;
type VfRequest = Into<typeof vfInfo>;

/** What a driver writes that does not keep a setting. */
const UNKNOWN = 0xffff_ffff;
const flag = (of: { readonly setting: number } | undefined): boolean | undefined =>
  of === undefined || of.setting === UNKNOWN ? undefined : of.setting !== 0;
const bit = (on: boolean): 0 | 1 => (on ? 1 : 0);

export function toVirtualFunctions(m: LinkVfs): VirtualFunction[] {
  return (m.vfs ?? []).flatMap((info) => toVirtualFunction(info) ?? []);
}

function toVirtualFunction(info: VfInfo): VirtualFunction | undefined {
  if (info.mac === undefined) return undefined;
  const vlan = info.vlans?.[0];
  const spoofCheck = flag(info.spoofCheck);
  const trust = flag(info.trust);
  const linkState = vfLinkStates[info.linkState?.setting ?? UNKNOWN];
  return {
    number: info.mac.vf,
    mac: formatMac(info.mac.mac),
    vlan: vlan?.vlan ?? info.vlan?.vlan ?? 0,
    qos: vlan?.qos ?? info.vlan?.qos ?? 0,
    protocol: vlan?.protocol === Protocol["802.1ad"] ? "802.1ad" : "802.1q",
    ...(spoofCheck === undefined ? {} : { spoofCheck }),
    ...(trust === undefined ? {} : { trust }),
    ...(linkState === undefined ? {} : { linkState }),
    minTxRate: info.rate?.min ?? 0,
    maxTxRate: info.rate?.max ?? 0,
  };
}

/** One request a setting. */
export function vfRequests(doing: string, vf: number, change: VirtualFunctionChange): VfRequest[] {
  const { mac, vlan, rate, spoofCheck, trust, linkState } = change;
  const requests: VfRequest[] = [];
  if (vlan !== undefined) {
    const protocol = Protocol[vlan.protocol satisfies VlanProtocol];
    requests.push({ vlans: [{ vf, vlan: vlan.vlan, qos: vlan.qos, protocol }] });
  }
  if (mac !== undefined) requests.push({ mac: { vf, mac: macBytes(doing, mac) } });
  if (rate !== undefined) requests.push({ rate: { vf, ...rate } });
  if (spoofCheck !== undefined) requests.push({ spoofCheck: { vf, setting: bit(spoofCheck) } });
  if (trust !== undefined) requests.push({ trust: { vf, setting: bit(trust) } });
  if (linkState !== undefined) requests.push({ linkState: { vf, setting: vfLinkStates.indexOf(linkState) } });
  return requests;
}

/**
 * Links, addresses, routes and the rest of one network namespace, as values. Two implementations pass the same suite:
 * `real.ts` over netlink and `simulated.ts` in memory.
 */
import type { Cidr, Ip } from "../base/ip.ts";
import type { IpvlanMode } from "../netlink/kinds/ipvlan.ts";
import type { MacvlanMode } from "../netlink/kinds/macvlan.ts";
import type { Verdict } from "../netlink/message.ts";
import type { VfLinkState, VlanProtocol } from "../netlink/vf.ts";
import { errnoName, errnoText } from "../sys/error.ts";
import type { Packets } from "../sys/packet.ts";
import type { Nftables } from "./nftables.ts";

/** What the kernel refused, in its own words. The layer that knows for whom it was wraps it into a `CniError`. */
export class KernelError extends Error {
  override readonly name = "KernelError";
  /** What was being done, such as `create veth "veth1"`. */
  readonly call: string;
  readonly errno: number;
  /** The kernel's own sentence, where it sent one. */
  readonly extack?: string;

  constructor(call: string, errno: number, extack?: string) {
    const words = extack === undefined || extack === "" ? "" : `: ${extack}`;
    super(`Cannot ${call}: ${errnoName(errno)} (${errnoText(errno)})${words}`);
    this.call = call;
    this.errno = errno;
    if (extack !== undefined) this.extack = extack;
  }

  get errnoName(): string {
    return errnoName(this.errno);
  }
}

/** @throws {KernelError} if the kernel refused what was asked of it */
export function refuse(doing: string, verdict: Verdict): void {
  if (verdict.errno !== 0) throw new KernelError(doing, verdict.errno, verdict.text);
}

/** A link as the kernel has it. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** Such as "veth"; empty for a physical device and for loopback. */
  readonly kind: string;
  /** Lower case with colons; empty for a link without a hardware address. */
  readonly mac: string;
  readonly mtu: number;
  /** The user wants it up. */
  readonly up: boolean;
  /** It is up and can carry traffic. */
  readonly running: boolean;
  readonly loopback: boolean;
  /** Index of the lower device, or of a veth's peer; in namespace `parentNetnsId` when that is present. */
  readonly parent?: number;
  readonly parentNetnsId?: number;
  /** Index of the bridge it is a port of. */
  readonly master?: number;
  /** Asked for by the user; a link can be promiscuous for its macvlans' sake without it. */
  readonly promisc: boolean;
  readonly allmulti: boolean;
  readonly alias?: string;
  readonly group: number;
  readonly txQueueLength: number;
  /** What only this kind has. */
  readonly data?: LinkData;
  /** What its bridge keeps of it. */
  readonly port?: { readonly hairpin: boolean; readonly isolated: boolean };
  /** Its `accept_ra`; absent where the kernel does not say. */
  readonly acceptRa?: number;
  /** The device that it is the interface of, such as "0000:01:10.0" of the bus "pci"; only a physical link has one. */
  readonly device?: { readonly bus: string; readonly name: string };
  /** The address that the device was made with, where the driver says. */
  readonly permanentMac?: string;
  readonly alternativeNames?: readonly string[];
}

/** A virtual function as its physical function keeps it. What the driver does not say is absent. */
export interface VirtualFunction {
  readonly number: number;
  /** All zeros where none was given. */
  readonly mac: string;
  /** 0 for none. */
  readonly vlan: number;
  readonly qos: number;
  readonly protocol: VlanProtocol;
  readonly spoofCheck?: boolean;
  readonly trust?: boolean;
  readonly linkState?: VfLinkState;
  /** Mbit/s, 0 for no limit. */
  readonly minTxRate: number;
  readonly maxTxRate: number;
}

/** What to change of a virtual function; what is absent stays. Members of one row are set together. */
export interface VirtualFunctionChange {
  readonly mac?: string | undefined;
  readonly vlan?: { readonly vlan: number; readonly qos: number; readonly protocol: VlanProtocol } | undefined;
  readonly rate?: { readonly min: number; readonly max: number } | undefined;
  readonly spoofCheck?: boolean | undefined;
  readonly trust?: boolean | undefined;
  readonly linkState?: VfLinkState | undefined;
}

export interface LinkData {
  readonly vlanFiltering?: boolean;
  /** Of a macvlan or an ipvlan. */
  readonly mode?: MacvlanMode | IpvlanMode;
  readonly bcQueueLength?: number;
  readonly vlanId?: number;
  /** Of a VRF. */
  readonly table?: number;
  /** Of a tap; owner and group are absent where there is none. */
  readonly tap?: { readonly multiQueue: boolean; readonly owner?: number; readonly group?: number };
}

interface LinkBasics {
  readonly name: string;
  /** Drawn by the kernel if absent; a link of ours always has one. */
  readonly mac?: string | undefined;
  readonly mtu?: number | undefined;
  readonly up?: boolean | undefined;
  /** Up to 255 bytes, for people. */
  readonly alias?: string | undefined;
  /** A number to know it by, for a kind that has no address of its own. */
  readonly group?: number | undefined;
  /** A bridge or VRF in the namespace that the link is born in. */
  readonly master?: number | undefined;
  readonly txQueueLength?: number | undefined;
}

export interface VethSpec extends LinkBasics {
  readonly kind: "veth";
  /** The other end, born in namespace `in`, or here. */
  readonly peer: {
    readonly name: string;
    readonly mac?: string | undefined;
    readonly mtu?: number | undefined;
    readonly in?: Kernel | undefined;
  };
}
export interface BridgeSpec extends LinkBasics {
  readonly kind: "bridge";
  readonly vlanFiltering?: boolean | undefined;
  /** VLAN that a port is born with; 0 for none, the kernel's own default is 1. */
  readonly vlanDefaultPvid?: number | undefined;
  readonly multicastSnooping?: boolean | undefined;
}
interface OnParent extends LinkBasics {
  /** Index of the lower device, in this namespace. */
  readonly parent: number;
  /** Where it is born, if not here. Up to Linux 6.12 its name must be free in this namespace too. */
  readonly in?: Kernel | undefined;
}
export interface MacvlanSpec extends OnParent {
  readonly kind: "macvlan";
  readonly mode: MacvlanMode;
  readonly bcQueueLength?: number | undefined;
}
/** It has its parent's hardware address, whatever is asked. */
export interface IpvlanSpec extends OnParent {
  readonly kind: "ipvlan";
  /** One for all of a parent: the last one made decides. */
  readonly mode: IpvlanMode;
}
/** It has its parent's hardware address unless told. One for each parent and id, in whatever namespace it is. */
export interface VlanSpec extends OnParent {
  readonly kind: "vlan";
  readonly id: number;
}
export interface VrfSpec extends LinkBasics {
  readonly kind: "vrf";
  readonly table: number;
}
export interface DummySpec extends LinkBasics {
  readonly kind: "dummy";
}
/** A queue of its own for packets that came in elsewhere. */
export interface IfbSpec extends LinkBasics {
  readonly kind: "ifb";
}
/** What is made on a link, and dies with it. */
export type UpperSpec = MacvlanSpec | IpvlanSpec | VlanSpec;
/** A link whose other end is a file. As a link it has the kind "tun", and it runs while somebody holds the file open. */
export interface TapSpec extends LinkBasics {
  readonly kind: "tap";
  readonly multiQueue: boolean;
  /** User and group that may open it, beside those with CAP_NET_ADMIN; anybody without both. */
  readonly owner?: number | undefined;
  readonly ownerGroup?: number | undefined;
  readonly selinuxContext?: string | undefined;
}
/** What is made by a message. */
export type MessageSpec = VethSpec | BridgeSpec | UpperSpec | VrfSpec | DummySpec | IfbSpec;
export type LinkSpec = MessageSpec | TapSpec;

export function isUpper(spec: LinkSpec): spec is UpperSpec {
  return spec.kind === "macvlan" || spec.kind === "ipvlan" || spec.kind === "vlan";
}

/** What to change; what is absent stays. */
export interface LinkChange {
  /** Of a link that is down: up to Linux 6.1 another one is EBUSY, also when the same call brings it down. */
  readonly name?: string | undefined;
  readonly up?: boolean | undefined;
  readonly mtu?: number | undefined;
  readonly mac?: string | undefined;
  /** 0 takes it out of its bridge. */
  readonly master?: number | undefined;
  readonly promisc?: boolean | undefined;
  readonly allmulti?: boolean | undefined;
  /** Empty removes it. */
  readonly alias?: string | undefined;
  readonly group?: number | undefined;
  readonly txQueueLength?: number | undefined;
  /** Of a bridge's port. */
  readonly hairpin?: boolean | undefined;
  readonly isolated?: boolean | undefined;
  /** Of a bridge. */
  readonly vlanFiltering?: boolean | undefined;
}

export interface LinkAddress {
  readonly address: Cidr;
  /** `RT_SCOPE_*`: 0 is global, 253 link, 254 host. */
  readonly scope?: number | undefined;
  /** IPv6: without duplicate address detection. */
  readonly noDad?: boolean | undefined;
  /** The kernel makes no route to the address's network. */
  readonly noPrefixRoute?: boolean | undefined;
  /** Answered only. */
  readonly tentative?: boolean | undefined;
  readonly dadFailed?: boolean | undefined;
}

export interface Route {
  readonly family: 4 | 6;
  /** Absent for the default route. */
  readonly dst?: Cidr | undefined;
  readonly gateway?: Ip | undefined;
  readonly index?: number | undefined;
  /** The preferred source address. */
  readonly source?: Ip | undefined;
  /** 254, main, if absent. */
  readonly table?: number | undefined;
  /** IPv4. If absent: link when there is no gateway, else global. */
  readonly scope?: number | undefined;
  readonly priority?: number | undefined;
  readonly mtu?: number | undefined;
  readonly advmss?: number | undefined;
  /** `RTPROT_*`; 3, boot, if absent. */
  readonly protocol?: number | undefined;
  readonly onlink?: boolean | undefined;
  /** `RTN_*`; 1, unicast, if absent. */
  readonly type?: number | undefined;
}

export interface RouteFilter {
  readonly family?: 4 | 6 | undefined;
  readonly index?: number | undefined;
  readonly table?: number | undefined;
}

/** What a link gets at once: first the addresses, then it goes up, last the routes over it, beside those there are. */
export interface LinkConfiguration {
  readonly addresses: readonly LinkAddress[];
  readonly routes: readonly Route[];
}

export interface SysctlSetting {
  /** With slashes, such as "net/ipv4/ip_forward". */
  readonly key: string;
  readonly value: string;
  /** What cannot be set is left as it is. */
  readonly optional?: boolean;
}

export interface Rule {
  readonly family: 4 | 6;
  readonly from?: Cidr | undefined;
  readonly to?: Cidr | undefined;
  readonly table: number;
  /** The kernel takes the next below its lowest if absent. */
  readonly priority?: number | undefined;
  readonly iif?: string | undefined;
  readonly oif?: string | undefined;
  readonly mark?: number | undefined;
  readonly markMask?: number | undefined;
}

export interface Neighbour {
  readonly index: number;
  readonly address: Ip;
  readonly mac: string;
  /** Answered: made by hand, as `addNeighbour()` makes them. */
  readonly permanent?: boolean | undefined;
}

export interface BridgeVlan {
  readonly first: number;
  /** Equal to `first` if absent. */
  readonly last?: number | undefined;
  readonly pvid?: boolean | undefined;
  readonly untagged?: boolean | undefined;
}

/** How much may leave over a link: `rate` for as long as it likes, and `buffer` of that at once after a pause. */
export interface TokenBucket {
  /** Bytes a second. */
  readonly rate: number;
  /** How long the saved-up burst takes at `rate`, in ticks of 64 ns. */
  readonly buffer: number;
  /** Bytes that may wait or be on their way; more is dropped. */
  readonly limit: number;
}

// --- Connection tracking ---------------------------------------------------------------------------------------------

/** UDP flows that were sent to some ports, of the node's own addresses unless an address is given. */
export interface UdpFlows {
  readonly family: 4 | 6;
  readonly ports: readonly { readonly first: number; readonly count: number; readonly address?: Ip | undefined }[];
  /** Only those that go to this address in the end, wherever they were sent. */
  readonly answeredBy?: Ip;
  /** Only those that do not. */
  readonly exceptBy?: Ip;
}

/** A table of the kernel's older packet filter, which iptables-legacy makes. */
export interface LegacyTable {
  readonly family: 4 | 6;
  readonly table: string;
  /** What its FORWARD does with a packet that no rule with a condition judged. */
  readonly forward: "accept" | "drop";
}

// --- One namespace ---------------------------------------------------------------------------------------------------

/** One network namespace. Every call throws `KernelError` when the kernel refuses, and `SysError` below that. */
export interface Kernel extends Disposable {
  /** Names the namespace until the node reboots. */
  readonly cookie: bigint;
  /** The node's own namespace. */
  readonly isHost: boolean;

  /**
   * Makes a link and never takes one that is there: EEXIST. If it throws, there is no link.
   *
   * @returns the link as the kernel has it, of a veth the end that is here, of one on a parent as it is in `in`
   */
  createLink(spec: LinkSpec): Link;
  /** @param name Its name, or one of its alternative names: compare `name` of the answer where that matters. */
  linkByName(name: string): Link | undefined;
  linkByIndex(index: number): Link | undefined;
  links(): Link[];
  setLink(index: number, change: LinkChange): void;
  /**
   * Makes a link a port of its bridge, with the other changes. @returns the address that the bridge has then: one that
   * was not given its own follows its ports
   */
  joinBridge(index: number, change: LinkChange & { readonly master: number }): string;
  /** @throws KernelError for the first of it that is refused; what comes after that may have been done */
  configureLink(index: number, configuration: LinkConfiguration): void;
  /** @returns the link as it is there; its index may be another */
  moveLink(index: number, to: Kernel, name?: string): Link;
  /** Gives a link an alternative name, or takes it away; what is so already is no error. */
  setAlternativeName(index: number, name: string, present: boolean): void;
  /** Empty for a link that is no physical function, and where it has none. */
  virtualFunctions(index: number): VirtualFunction[];
  /** @throws KernelError for the first setting that the driver refuses; those before it are made */
  setVirtualFunction(index: number, number: number, change: VirtualFunctionChange): void;
  /** @returns whether it was there */
  deleteLink(index: number): boolean;
  /**
   * Deletes several links at once, which costs the kernel one wait instead of one for each. Those that are gone already
   * are no error.
   */
  deleteLinks(links: readonly { readonly index: number }[]): void;

  addAddress(index: number, address: LinkAddress): void;
  /** @returns whether it was there */
  deleteAddress(index: number, address: LinkAddress): boolean;
  addresses(index?: number): (LinkAddress & { readonly index: number })[];

  /** @param mode "exclusive" if absent: EEXIST for a route with the same destination, table and priority. */
  addRoute(route: Route, mode?: "exclusive" | "append" | "replace"): void;
  /** @returns whether it was there */
  deleteRoute(route: Route): boolean;
  /** A route with several next hops is answered as one for each. */
  routes(filter?: RouteFilter): Route[];

  addRule(rule: Rule): void;
  /** @returns whether it was there */
  deleteRule(rule: Rule): boolean;
  rules(family?: 4 | 6): Rule[];

  /** The link that an address is on, by the routes; undefined when it is behind a gateway, or nowhere. */
  linkTo(address: Ip): Link | undefined;

  /** Makes a permanent entry, in place of what was learned for that address. */
  addNeighbour(neighbour: Neighbour): void;
  /** @returns whether it was there */
  deleteNeighbour(neighbour: { readonly index: number; readonly address: Ip }): boolean;
  neighbours(index?: number): Neighbour[];

  /** @param self The link is the bridge itself, not a port. EOPNOTSUPP where the kernel has no VLAN filtering. */
  setBridgeVlans(index: number, vlans: readonly BridgeVlan[], mode: "add" | "delete", self?: boolean): void;
  bridgeVlans(index: number): BridgeVlan[];

  /** Limits what leaves over a link, which must have no queueing discipline of its own: EEXIST. */
  limitRate(index: number, bucket: TokenBucket): void;
  /** The limit of a link, as `limitRate()` sets one. */
  rateLimit(index: number): TokenBucket | undefined;
  /** Sends all that comes in over a link out over another. EEXIST when something looks at what comes in already. */
  redirectIngress(index: number, to: number): void;
  /** Index of the link that all that comes in is sent over, as `redirectIngress()` does. */
  ingressRedirect(index: number): number | undefined;
  /** Removes what `limitRate()` or `redirectIngress()` did, and nothing else. @returns whether it was there */
  clearTraffic(index: number, what: "limit" | "redirect"): boolean;

  /** What links of this namespace call the other as `parentNetnsId`; undefined when no link leads there. */
  netnsIdOf(other: Kernel): number | undefined;

  /** @param key With slashes, such as "net/ipv4/ip_forward". @returns undefined for one that the kernel lacks */
  sysctl(key: string): string | undefined;
  /** @throws SysError ENOENT for one that the kernel lacks */
  setSysctl(key: string, value: string): void;
  /** Sets several in their order. @throws SysError for the first that is not optional and cannot be set */
  setSysctls(settings: readonly SysctlSetting[]): void;

  readonly nft: Nftables;
  /** The tables of the older packet filter that have a FORWARD chain. */
  legacyTables(): LegacyTable[];

  /**
   * Forgets UDP flows, so that the next packet of each meets the rules again.
   *
   * @returns how many, and whether there was time for all of them; it never throws
   */
  forgetUdp(flows: readonly UdpFlows[], timeoutMs: number): { readonly forgotten: number; readonly all: boolean };

  /**
   * Waits until no address of the link is tentative any more.
   *
   * @throws KernelError EADDRINUSE when an address is used by somebody else, ETIMEDOUT after `timeoutMs`
   */
  waitAddresses(index: number, timeoutMs: number): void;
  /** Waits until the link can carry traffic. @returns false after `timeoutMs`. @throws KernelError ENODEV */
  waitRunning(index: number, timeoutMs: number): boolean;
  /** Tells the neighbours: a gratuitous ARP for each IPv4 address, an unsolicited advertisement for each IPv6 one. */
  announce(index: number, addresses: readonly Ip[]): void;
  /**
   * Whole frames out of the link, and into it those with a UDP datagram to `port`. It holds the namespace until it is
   * disposed of. @throws SysError ENODEV
   */
  openPackets(index: number, port: number): Packets;
}

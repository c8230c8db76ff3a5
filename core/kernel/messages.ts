/** Between the values of `kernel.ts` and the messages of `core/netlink`: no socket, no state. */
import { type Cidr, formatMac, type Ip, lastIp, parseMac } from "../base/ip.ts";
import { AddressFlag, type AddressMessage, type AddressRequest } from "../netlink/address.ts";
import { BridgeFlag, type BridgeLinkMessage, type BridgeLinkRequest, VlanFlag } from "../netlink/bridge-vlan.ts";
import { ipvlanModes } from "../netlink/kinds/ipvlan.ts";
import { macvlanModes } from "../netlink/kinds/macvlan.ts";
import { TAP } from "../netlink/kinds/tun.ts";
import { type FoundLink, LinkFlag, type LinkRequest } from "../netlink/link.ts";
import { Family } from "../netlink/message.ts";
import { type NeighbourMessage, type NeighbourRequest, NeighbourState } from "../netlink/neighbour.ts";
import {
  ONLINK,
  type RouteMessage,
  RouteProtocol,
  type RouteRequest,
  RouteScope,
  RouteTable,
  RouteType,
} from "../netlink/route.ts";
import { LOOKUP, type RuleMessage, type RuleRequest } from "../netlink/rule.ts";
import { Errno } from "../sys/error.ts";
import {
  type BridgeVlan,
  isUpper,
  KernelError,
  type Link,
  type LinkAddress,
  type LinkChange,
  type LinkData,
  type MessageSpec,
  type Neighbour,
  type Route,
  type Rule,
} from "./kernel.ts";

const family = (of: 4 | 6): number => (of === 4 ? Family.INET : Family.INET6);
/** `undefined` for a family that is neither. */
const familyOf = (number: number): 4 | 6 | undefined =>
  number === Family.INET ? 4 : number === Family.INET6 ? 6 : undefined;
const ipOf = (of: 4 | 6, bytes: Uint8Array): Ip => ({ family: of, bytes });
const bit = (on: boolean): 0 | 1 => (on ? 1 : 0);

// --- Links -----------------------------------------------------------------------------------------------------------

/** @throws {KernelError} EINVAL for text that is no hardware address, before the kernel sees it */
export function macBytes(doing: string, mac: string): Uint8Array {
  const bytes = parseMac(mac);
  if (bytes === undefined) throw new KernelError(doing, Errno.EINVAL, `"${mac}" is not a hardware address`);
  return bytes;
}

/** The message that makes a link. `here` and `peer` are descriptors of the namespaces the ends are born in. */
export function newLink(doing: string, spec: MessageSpec, fds: { here?: number; peer?: number }): LinkRequest {
  const up = spec.up === true ? LinkFlag.UP : 0;
  return {
    flags: up,
    change: up,
    netnsFd: fds.here,
    name: spec.name,
    address: spec.mac === undefined ? undefined : macBytes(doing, spec.mac),
    mtu: spec.mtu,
    parent: isUpper(spec) ? spec.parent : undefined,
    master: spec.master,
    group: spec.group,
    txQueueLength: spec.txQueueLength,
    info: linkInfo(doing, spec, fds.peer),
  };
}

function linkInfo(doing: string, spec: MessageSpec, peerFd: number | undefined): NonNullable<LinkRequest["info"]> {
  switch (spec.kind) {
    case "veth": {
      const { name, mac, mtu } = spec.peer;
      const address = mac === undefined ? undefined : macBytes(doing, mac);
      return { kind: "veth", veth: { peer: { address, name, mtu, netnsFd: peerFd } } };
    }
    case "bridge": {
      const { vlanFiltering, vlanDefaultPvid, multicastSnooping } = spec;
      const data = {
        // Off is how a bridge is born, and a kernel without VLAN filtering refuses even that word.
        vlanFiltering: vlanFiltering === true ? 1 : undefined,
        vlanDefaultPvid,
        multicastSnooping: multicastSnooping === undefined ? undefined : bit(multicastSnooping),
      };
      return { kind: "bridge", bridge: data };
    }
    case "macvlan":
      return { kind: "macvlan", macvlan: { mode: macvlanModes[spec.mode], broadcastQueueLength: spec.bcQueueLength } };
    case "ipvlan":
      return { kind: "ipvlan", ipvlan: { mode: ipvlanModes[spec.mode] } };
    case "vlan":
      return { kind: "vlan", vlan: { id: spec.id } };
    case "vrf":
      return { kind: "vrf", vrf: { table: spec.table } };
    case "dummy":
    case "ifb":
      return { kind: spec.kind };
  }
}

/** The messages that change a link, most often one. What a bridge keeps of its port comes after joining the bridge. */
export function changeLink(doing: string, index: number, change: LinkChange): LinkRequest[] {
  let flags = 0;
  let mask = 0;
  for (const [wanted, flag] of [
    [change.up, LinkFlag.UP],
    [change.promisc, LinkFlag.PROMISC],
    [change.allmulti, LinkFlag.ALLMULTI],
  ] as const) {
    if (wanted === undefined) continue;
    mask |= flag;
    if (wanted) flags |= flag;
  }
  const { hairpin, isolated, vlanFiltering, name, mtu, mac, master, alias, group, txQueueLength } = change;
  const port =
    hairpin === undefined && isolated === undefined
      ? undefined
      : {
          portKind: "bridge",
          bridgePort: {
            hairpin: hairpin === undefined ? undefined : bit(hairpin),
            isolated: isolated === undefined ? undefined : bit(isolated),
          },
        };
  const own =
    vlanFiltering === undefined ? undefined : { kind: "bridge", bridge: { vlanFiltering: bit(vlanFiltering) } };
  const others = [name, mtu, mac, master, alias, group, txQueueLength, own];
  const messages: LinkRequest[] = [];
  if (port === undefined || mask !== 0 || others.some((value) => value !== undefined)) {
    const address = mac === undefined ? undefined : macBytes(doing, mac);
    messages.push({ index, flags, change: mask, name, mtu, address, master, alias, group, txQueueLength, info: own });
  }
  if (port !== undefined) messages.push({ index, info: port });
  return messages;
}

/** The word for a number, of a table that has the number for each word. */
function wordOf<Word extends string>(table: Readonly<Record<Word, number>>, number = 0): Word | undefined {
  for (const word in table) if (table[word] === number) return word;
  return undefined;
}

export function toLink(m: FoundLink): Link {
  const { flags, info } = m;
  const data = linkData(info);
  const port = info?.bridgePort;
  const acceptRa = m.families?.ipv6?.acceptRa;
  return {
    index: m.index,
    name: m.name ?? "",
    kind: info?.kind ?? "",
    mac: m.address === undefined ? "" : formatMac(m.address),
    mtu: m.mtu ?? 0,
    up: (flags & LinkFlag.UP) !== 0,
    running: (flags & LinkFlag.UP) !== 0 && (flags & LinkFlag.RUNNING) !== 0,
    loopback: (flags & LinkFlag.LOOPBACK) !== 0,
    ...(m.parent === undefined || m.parent === 0 ? {} : { parent: m.parent }),
    ...(m.parentNetnsId === undefined ? {} : { parentNetnsId: m.parentNetnsId }),
    ...(m.master === undefined || m.master === 0 ? {} : { master: m.master }),
    promisc: (flags & LinkFlag.PROMISC) !== 0,
    allmulti: (flags & LinkFlag.ALLMULTI) !== 0,
    ...(m.alias === undefined ? {} : { alias: m.alias }),
    group: m.group ?? 0,
    txQueueLength: m.txQueueLength ?? 0,
    ...(data === undefined ? {} : { data }),
    ...(port === undefined ? {} : { port: { hairpin: port.hairpin === 1, isolated: port.isolated === 1 } }),
    ...(acceptRa === undefined ? {} : { acceptRa }),
    ...(m.deviceName === undefined ? {} : { device: { bus: m.deviceBus ?? "", name: m.deviceName } }),
    ...(m.permanentAddress === undefined ? {} : { permanentMac: formatMac(m.permanentAddress) }),
    ...(m.properties === undefined ? {} : { alternativeNames: m.properties }),
  };
}

function linkData(info: FoundLink["info"]): LinkData | undefined {
  if (info?.tun !== undefined) return tapData(info.tun);
  if (info?.bridge !== undefined) return { vlanFiltering: info.bridge.vlanFiltering === 1 };
  if (info?.vlan !== undefined) return info.vlan.id === undefined ? {} : { vlanId: info.vlan.id };
  if (info?.vrf !== undefined) return info.vrf.table === undefined ? {} : { table: info.vrf.table };
  if (info?.ipvlan !== undefined) {
    const mode = wordOf(ipvlanModes, info.ipvlan.mode);
    return mode === undefined ? {} : { mode };
  }
  if (info?.macvlan === undefined) return undefined;
  const mode = wordOf(macvlanModes, info.macvlan.mode);
  const bcQueueLength = info.macvlan.broadcastQueueLength;
  return { ...(mode === undefined ? {} : { mode }), ...(bcQueueLength === undefined ? {} : { bcQueueLength }) };
}

function tapData(found: NonNullable<NonNullable<FoundLink["info"]>["tun"]>): LinkData | undefined {
  const { type, multiQueue, owner, group } = found;
  if (type !== TAP) return undefined;
  return {
    tap: {
      multiQueue: multiQueue === 1,
      ...(owner === undefined ? {} : { owner }),
      ...(group === undefined ? {} : { group }),
    },
  };
}

// --- Addresses -------------------------------------------------------------------------------------------------------

export function addressRequest(index: number, a: LinkAddress, adding: boolean): AddressRequest {
  const { ip, prefix } = a.address;
  const flags = (a.noDad ? AddressFlag.NODAD : 0) | (a.noPrefixRoute ? AddressFlag.NOPREFIXROUTE : 0);
  return {
    family: family(ip.family),
    prefix,
    scope: a.scope,
    index,
    local: ip.bytes,
    address: ip.bytes,
    // As the reference plugins set it: not for the two kinds of networks that have none.
    broadcast: adding && ip.family === 4 && prefix < 31 ? lastIp(a.address).bytes : undefined,
    flags: adding && flags !== 0 ? flags : undefined,
  };
}

export function toAddress(m: AddressMessage): (LinkAddress & { readonly index: number }) | undefined {
  const of = familyOf(m.family);
  const bytes = m.local ?? m.address;
  if (of === undefined || bytes === undefined) return undefined;
  const flags = m.flags ?? m.flags8;
  return {
    index: m.index,
    address: { ip: ipOf(of, bytes), prefix: m.prefix },
    scope: m.scope,
    noDad: (flags & AddressFlag.NODAD) !== 0,
    noPrefixRoute: (flags & AddressFlag.NOPREFIXROUTE) !== 0,
    tentative: (flags & AddressFlag.TENTATIVE) !== 0 && (flags & AddressFlag.OPTIMISTIC) === 0,
    dadFailed: (flags & AddressFlag.DADFAILED) !== 0,
  };
}

// --- Routes ----------------------------------------------------------------------------------------------------------

function defaultScope(r: Route, type: number): number {
  if (r.family === 6) return RouteScope.UNIVERSE;
  if (type === RouteType.LOCAL) return RouteScope.HOST;
  return type === RouteType.UNICAST && r.gateway === undefined ? RouteScope.LINK : RouteScope.UNIVERSE;
}

export function routeRequest(r: Route, adding: boolean): RouteRequest {
  const table = r.table ?? RouteTable.MAIN;
  const type = r.type ?? RouteType.UNICAST;
  const metrics = r.mtu === undefined && r.advmss === undefined ? undefined : { mtu: r.mtu, advmss: r.advmss };
  return {
    family: family(r.family),
    dstLength: r.dst?.prefix,
    table8: table < 256 ? table : RouteTable.UNSPEC,
    protocol: r.protocol ?? (adding ? RouteProtocol.BOOT : 0),
    // In a delete "nowhere" stands for any scope.
    scope: r.scope ?? (adding ? defaultScope(r, type) : r.family === 6 ? 0 : RouteScope.NOWHERE),
    type: adding ? type : (r.type ?? 0),
    flags: r.onlink === true && adding ? ONLINK : 0,
    dst: r.dst === undefined || r.dst.prefix === 0 ? undefined : r.dst.ip.bytes,
    gateway: r.gateway?.bytes,
    source: r.source?.bytes,
    priority: r.priority,
    index: r.index,
    table: table < 256 ? undefined : table,
    metrics: adding ? metrics : undefined,
  };
}

/** One route for each next hop; none for a family that is neither. */
export function toRoutes(m: RouteMessage): Route[] {
  const of = familyOf(m.family);
  if (of === undefined) return [];
  const common: Route = {
    family: of,
    ...(m.dstLength === 0
      ? {}
      : { dst: { ip: ipOf(of, m.dst ?? new Uint8Array(of === 4 ? 4 : 16)), prefix: m.dstLength } }),
    ...(m.source === undefined ? {} : { source: ipOf(of, m.source) }),
    table: m.table ?? m.table8,
    scope: m.scope,
    ...(m.priority === undefined ? {} : { priority: m.priority }),
    ...(m.metrics?.mtu === undefined ? {} : { mtu: m.metrics.mtu }),
    ...(m.metrics?.advmss === undefined ? {} : { advmss: m.metrics.advmss }),
    protocol: m.protocol,
    type: m.type,
  };
  const hops = m.nexthops ?? [{ gateway: m.gateway, index: m.index, flags: m.flags }];
  return hops.map((hop) => ({
    ...common,
    ...(hop.gateway === undefined ? {} : { gateway: ipOf(of, hop.gateway) }),
    ...(hop.index === undefined ? {} : { index: hop.index }),
    ...((hop.flags & ONLINK) === 0 ? {} : { onlink: true }),
  }));
}

// --- Rules, neighbours, VLANs ----------------------------------------------------------------------------------------

const prefixBytes = (cidr: Cidr | undefined): Uint8Array | undefined => cidr?.ip.bytes;

export function ruleRequest(r: Rule): RuleRequest {
  return {
    family: family(r.family),
    dstLength: r.to?.prefix,
    srcLength: r.from?.prefix,
    table8: r.table < 256 ? r.table : RouteTable.UNSPEC,
    action: LOOKUP,
    inputInterface: r.iif,
    outputInterface: r.oif,
    src: prefixBytes(r.from),
    dst: prefixBytes(r.to),
    priority: r.priority,
    mark: r.mark,
    markMask: r.markMask,
    table: r.table < 256 ? undefined : r.table,
  };
}

export function toRule(m: RuleMessage): Rule | undefined {
  const of = familyOf(m.family);
  if (of === undefined || m.action !== LOOKUP) return undefined;
  return {
    family: of,
    ...(m.src === undefined ? {} : { from: { ip: ipOf(of, m.src), prefix: m.srcLength } }),
    ...(m.dst === undefined ? {} : { to: { ip: ipOf(of, m.dst), prefix: m.dstLength } }),
    table: m.table ?? m.table8,
    priority: m.priority ?? 0,
    ...(m.inputInterface === undefined ? {} : { iif: m.inputInterface }),
    ...(m.outputInterface === undefined ? {} : { oif: m.outputInterface }),
    ...(m.mark === undefined ? {} : { mark: m.mark }),
    ...(m.markMask === undefined ? {} : { markMask: m.markMask }),
  };
}

export function neighbourRequest(n: { index: number; address: Ip }, mac?: Uint8Array): NeighbourRequest {
  const state = mac === undefined ? undefined : NeighbourState.PERMANENT;
  return { family: family(n.address.family), index: n.index, state, dst: n.address.bytes, mac };
}

export function toNeighbour(m: NeighbourMessage): Neighbour | undefined {
  const of = familyOf(m.family);
  if (of === undefined || m.dst === undefined || m.mac === undefined) return undefined;
  return {
    index: m.index,
    address: ipOf(of, m.dst),
    mac: formatMac(m.mac),
    permanent: (m.state & NeighbourState.PERMANENT) !== 0,
  };
}

export function bridgeVlanRequest(index: number, vlans: readonly BridgeVlan[], self: boolean): BridgeLinkRequest {
  const entries: { flags: number; id: number }[] = [];
  for (const { first, last = first, pvid, untagged } of vlans) {
    const flags = (pvid ? VlanFlag.PVID : 0) | (untagged ? VlanFlag.UNTAGGED : 0);
    if (last === first) entries.push({ flags, id: first });
    else
      entries.push({ flags: flags | VlanFlag.RANGE_BEGIN, id: first }, { flags: flags | VlanFlag.RANGE_END, id: last });
  }
  return { family: Family.BRIDGE, index, spec: { flags: self ? BridgeFlag.SELF : undefined, vlans: entries } };
}

export function toBridgeVlans(m: BridgeLinkMessage): BridgeVlan[] {
  const out: BridgeVlan[] = [];
  let begun: number | undefined;
  for (const { flags, id } of m.spec?.vlans ?? []) {
    if ((flags & VlanFlag.RANGE_BEGIN) !== 0) {
      begun = id;
      continue;
    }
    const range =
      (flags & VlanFlag.RANGE_END) !== 0 && begun !== undefined ? { first: begun, last: id } : { first: id };
    out.push({ ...range, pvid: (flags & VlanFlag.PVID) !== 0, untagged: (flags & VlanFlag.UNTAGGED) !== 0 });
    begun = undefined;
  }
  return out;
}

/** A network namespace over netlink. Its sockets are opened in the namespace when first needed, and kept. */
import type { Ip } from "../base/ip.ts";
import { formatCidr, formatMac, parseMac } from "../base/ip.ts";
import { AddressFlag, address } from "../netlink/address.ts";
import { BRVLAN_COMPRESSED, bridgeLink } from "../netlink/bridge-vlan.ts";
import { type Answer, type Clock, Conversation, isTransient, type Request } from "../netlink/conversation.ts";
import {
  type FoundLink,
  foundLink,
  groupOnly,
  LinkFlag,
  type LinkRequest,
  link,
  linkVfs,
  macOnly,
  SKIP_STATS,
  WITH_VFS,
} from "../netlink/link.ts";
import { ifinfomsg } from "../netlink/link-header.ts";
import { Family, Flag, Rtm, type Verdict } from "../netlink/message.ts";
import { neighbour } from "../netlink/neighbour.ts";
import { netnsId } from "../netlink/netns-id.ts";
import { CLONED, route } from "../netlink/route.ts";
import { rule } from "../netlink/rule.ts";
import { filter, type QdiscMessage, qdisc } from "../netlink/traffic.ts";
import { deadlineIn, monotonicMs, sleepMs } from "../sys/clock.ts";
import { Errno, SysError } from "../sys/error.ts";
import { NetlinkSocket } from "../sys/netlink-socket.ts";
import type { Netns } from "../sys/netns.ts";
import { PacketSocket, type Packets, sendRaw } from "../sys/packet.ts";
import { readProcSys, writeProcSys, writeProcSysAll } from "../sys/proc.ts";
import { makeLabelledTap, makeTap } from "../sys/tun.ts";
import { arpAnnouncement, ETHERTYPE_ARP, ETHERTYPE_IPV6, neighbourAdvertisement } from "./announce.ts";
import { forgetUdp } from "./conntrack.ts";
import {
  type BridgeVlan,
  isUpper,
  type Kernel,
  KernelError,
  type LegacyTable,
  type Link,
  type LinkAddress,
  type LinkChange,
  type LinkConfiguration,
  type LinkSpec,
  type Neighbour,
  type Route,
  type RouteFilter,
  type Rule,
  refuse,
  type SysctlSetting,
  type TapSpec,
  type TokenBucket,
  type UdpFlows,
  type VirtualFunction,
  type VirtualFunctionChange,
} from "./kernel.ts";
import { readLegacyTables } from "./legacy.ts";
import {
  addressRequest,
  bridgeVlanRequest,
  changeLink,
  neighbourRequest,
  newLink,
  routeRequest,
  ruleRequest,
  toAddress,
  toBridgeVlans,
  toLink,
  toNeighbour,
  toRoutes,
  toRule,
} from "./messages.ts";
import { RealNftables } from "./real-nft.ts";
import {
  filtersOf,
  ingressRequest,
  isOurIngress,
  limitRequest,
  redirectRequest,
  redirectTarget,
  toBucket,
} from "./traffic.ts";
import { type LinkVfs, toVirtualFunctions, vfRequests } from "./vf-messages.ts";

/** What a list of IPv6 objects may fail with on a kernel that was booted without: then there are none. */
const NO_IPV6 = [Errno.EAFNOSUPPORT, Errno.EOPNOTSUPP] as const;
const NO_FILTERING = "this kernel may be built without CONFIG_BRIDGE_VLAN_FILTERING";

const clock: Clock = { nowMs: monotonicMs, sleepMs };

/** Groups below are an administrator's (names for them are in /etc/iproute2/group). */
const FIRST_GROUP = 0x10000;
/** IFLA_IFNAME of 16 bytes has no room for its NUL, and the kernel says so in a hundred ways. */
const NAME_BYTES = 15;

const RUNNING = LinkFlag.UP | LinkFlag.RUNNING;

/** Pauses between two looks at what is being waited for: quick at first, for mostly it is there at once. */
const pauseMs = (look: number): number => (look < 4 ? 1 : look < 10 ? 3 : 10);

/**
 * Opens a namespace.
 *
 * @param ns Stays the caller's, and open for as long as the kernel is used.
 * @param options `host`: this is the node's own namespace.
 */
export function openKernel(ns: Netns, options: { readonly host?: boolean } = {}): Kernel {
  return new RealKernel(ns, options.host === true);
}

class RealKernel implements Kernel {
  readonly isHost: boolean;
  readonly nft = new RealNftables(() => this.#nfnetlink);
  readonly #ns: Netns;
  readonly #sockets = new DisposableStack();
  #route: Conversation | undefined;
  #netfilter: Conversation | undefined;

  constructor(ns: Netns, host: boolean) {
    this.#ns = ns;
    this.isHost = host;
  }

  get cookie(): bigint {
    return this.#ns.cookie;
  }

  [Symbol.dispose](): void {
    this.#route = undefined;
    this.#netfilter = undefined;
    this.#sockets.dispose();
  }

  // --- Links ---------------------------------------------------------------------------------------------------------

  createLink(spec: LinkSpec): Link {
    const doing = `create ${spec.kind} "${spec.name}"`;
    checkName(doing, spec.name);
    if (spec.kind === "tap") return this.#createTap(doing, spec);
    if (spec.kind === "veth") checkName(doing, spec.peer.name);
    const born = isUpper(spec) ? real(doing, spec.in) : undefined;
    const peer = spec.kind === "veth" ? real(doing, spec.peer.in) : undefined;
    const value = newLink(doing, spec, {
      ...(born === undefined ? {} : { here: born.#ns.raw }),
      ...(peer === undefined ? {} : { peer: peer.#ns.raw }),
    });
    const filtering = spec.kind === "bridge" && (spec.vlanFiltering === true || spec.vlanDefaultPvid !== undefined);
    const home = born ?? this;
    const create: Request = { type: Rtm.NEWLINK, flags: Flag.CREATE | Flag.EXCL, codec: link, value };
    const look = getLink({ name: spec.name, extMask: SKIP_STATS });
    let found: Answer | undefined;
    if (home === this) {
      // Read in the same breath. When it was refused, the answer is about a link that was there before.
      const [verdict, answer] = this.#rtnetlink.askAll([create, look]);
      if (verdict === undefined || isTransient(verdict.errno)) this.#do(doing, create, filtering);
      else {
        this.#refuse(doing, verdict, filtering);
        found = answer;
      }
    } else this.#do(doing, create, filtering);
    const made = toFound(doing, found ?? home.#rtnetlink.ask(look));
    if (made === undefined) throw new KernelError(doing, Errno.ENODEV, "it was made, and taken away at once");
    if (spec.alias === undefined) return made;
    try {
      home.setLink(made.index, { alias: spec.alias });
    } catch (thrown) {
      home.deleteLink(made.index);
      throw thrown;
    }
    return { ...made, alias: spec.alias };
  }

  /** Born without the rest of what it needs, which it gets before it stays; a labelled one stays from the beginning. */
  #createTap(doing: string, spec: TapSpec): Link {
    const { name, mac, mtu, up, alias, master, group, txQueueLength, multiQueue, owner, selinuxContext: label } = spec;
    if (this.linkByName(name) !== undefined) throw new KernelError(doing, Errno.EEXIST);
    const change = { mac, mtu, up, alias, master, group, txQueueLength };
    const finish = (): void => {
      const made = this.linkByName(name);
      if (made === undefined) throw new KernelError(doing, Errno.ENODEV, "it was made, and taken away at once");
      if (Object.values(change).some((value) => value !== undefined)) this.setLink(made.index, change);
    };
    const options = { name, multiQueue, owner, group: spec.ownerGroup };
    try {
      if (label === undefined) makeTap(this.#ns, options, finish);
      else {
        makeLabelledTap(this.#ns, options, label);
        finish();
      }
    } catch (thrown) {
      if (!(thrown instanceof SysError)) throw thrown;
      throw new KernelError(doing, thrown.errno === Errno.EBUSY ? Errno.EEXIST : thrown.errno, thrown.message);
    }
    const made = this.linkByName(name);
    if (made === undefined) throw new KernelError(doing, Errno.ENODEV, "it was made, and taken away at once");
    return made;
  }

  linkByName(name: string): Link | undefined {
    const doing = `read link "${name}"`;
    checkName(doing, name);
    return this.#link(doing, { name, extMask: SKIP_STATS });
  }

  linkByIndex(index: number): Link | undefined {
    return this.#link(`read link ${index}`, { index, extMask: SKIP_STATS });
  }

  #link(doing: string, value: LinkRequest): Link | undefined {
    return toFound(doing, this.#rtnetlink.ask(getLink(value)));
  }

  links(): Link[] {
    const value = { extMask: SKIP_STATS };
    return this.#dump("list links", getLink(value)).map(toLink);
  }

  setLink(index: number, change: LinkChange): void {
    const doing = `change link ${index}`;
    if (change.name !== undefined) checkName(doing, change.name);
    const filtering = change.vlanFiltering !== undefined;
    for (const value of changeLink(doing, index, change)) {
      this.#do(doing, { type: Rtm.NEWLINK, codec: link, value }, filtering);
    }
  }

  joinBridge(index: number, change: LinkChange & { readonly master: number }): string {
    const doing = `change link ${index}`;
    const messages = changeLink(doing, index, change).map(
      (value): Request => ({ type: Rtm.NEWLINK, codec: link, value }),
    );
    const look = {
      type: Rtm.GETLINK,
      codec: link,
      value: { index: change.master, extMask: SKIP_STATS },
      reply: macOnly,
    };
    const answers = this.#askInTurn([...messages, look]);
    for (const [i, answer] of answers.entries())
      refuse(i < messages.length ? doing : `read link ${change.master}`, answer);
    const { address: mac } = (answers.at(-1)?.reply ?? {}) as { address?: Uint8Array };
    return mac === undefined ? "" : formatMac(mac);
  }

  configureLink(index: number, { addresses, routes }: LinkConfiguration): void {
    const flags = Flag.CREATE | Flag.EXCL;
    const up = { index, flags: LinkFlag.UP, change: LinkFlag.UP };
    const requests: Request[] = [
      ...addresses.map((a) => ({ type: Rtm.NEWADDR, flags, codec: address, value: addressRequest(index, a, true) })),
      { type: Rtm.NEWLINK, codec: link, value: up },
      ...routes.map((r) => {
        return { type: Rtm.NEWROUTE, flags: Flag.CREATE | Flag.APPEND, codec: route, value: routeRequest(r, true) };
      }),
    ];
    for (const [i, answer] of this.#askInTurn(requests).entries()) {
      if (answer.errno === 0) continue;
      const [a, r] = [addresses[i], routes[i - addresses.length - 1]];
      const doing = a ? addingAddress(index, a) : r ? `add route ${showRoute(r)}` : `change link ${index}`;
      refuse(doing, answer);
    }
  }

  moveLink(index: number, to: Kernel, name?: string): Link {
    const doing = `move link ${index}`;
    if (name !== undefined) checkName(doing, name);
    const target = real(doing, to) ?? this;
    const before = this.linkByIndex(index);
    if (before === undefined) throw new KernelError(doing, Errno.ENODEV);
    if (name !== undefined && target.linkByName(name) !== undefined && !(target === this && before.name === name)) {
      throw new KernelError(doing, Errno.EEXIST, `"${name}" is taken there`);
    }
    const answer = this.#rtnetlink.ask({
      type: Rtm.NEWLINK,
      codec: link,
      value: { index, netnsFd: target.#ns.raw, name },
    });
    if (answer.errno !== 0) {
      this.#takeBack(index, before, target);
      refuse(doing, answer);
    }
    const moved = target.linkByName(name ?? before.name);
    if (moved === undefined) throw new KernelError(doing, Errno.ENODEV, "it is not in its new namespace");
    return moved;
  }

  /** The kernel moves first and renames then: a rename that fails leaves the link there, under its old name. */
  #takeBack(index: number, before: Link, target: RealKernel): void {
    if (target === this || this.linkByIndex(index) !== undefined) return;
    const there = target.linkByName(before.name);
    if (there?.mac !== before.mac || there.kind !== before.kind) return;
    const value = { index: there.index, netnsFd: this.#ns.raw };
    target.#rtnetlink.ask({ type: Rtm.NEWLINK, codec: link, value });
  }

  setAlternativeName(index: number, name: string, present: boolean): void {
    const value = { index, properties: [name] };
    const doing = `${present ? "give" : "take"} the name "${name}" ${present ? "to" : "from"} link ${index}`;
    const flags = present ? Flag.CREATE | Flag.EXCL : 0;
    const type = present ? Rtm.NEWLINKPROP : Rtm.DELLINKPROP;
    this.#remove(doing, { type, flags, codec: link, value }, [present ? Errno.EEXIST : Errno.ENOENT]);
  }

  virtualFunctions(index: number): VirtualFunction[] {
    const value = { index, extMask: SKIP_STATS | WITH_VFS };
    const doing = `read the virtual functions of link ${index}`;
    const answer = this.#rtnetlink.ask({ type: Rtm.GETLINK, codec: link, value, reply: linkVfs });
    refuse(doing, answer);
    return toVirtualFunctions(answer.reply as LinkVfs);
  }

  setVirtualFunction(index: number, number: number, change: VirtualFunctionChange): void {
    const doing = `change virtual function ${number} of link ${index}`;
    // The kernel stops at the first that the driver refuses, and says which only when they come one by one.
    for (const vf of vfRequests(doing, number, change)) {
      this.#do(doing, { type: Rtm.SETLINK, codec: link, value: { index, vfs: [vf] } });
    }
  }

  deleteLink(index: number): boolean {
    return this.#remove(`delete link ${index}`, { type: Rtm.DELLINK, codec: link, value: { index } }, [Errno.ENODEV]);
  }

  deleteLinks(links: readonly { readonly index: number }[]): void {
    const indexes = links.map((one) => one.index);
    const left = indexes.length < 2 ? indexes : this.#deleteByGroup(indexes);
    let refused: unknown;
    for (const index of left) {
      try {
        this.deleteLink(index);
      } catch (thrown) {
        refused ??= thrown;
      }
    }
    if (refused !== undefined) throw refused;
  }

  /** @returns the indexes that are still there */
  #deleteByGroup(indexes: readonly number[]): number[] {
    const group = FIRST_GROUP + Math.floor(Math.random() * (0x7fffffff - FIRST_GROUP));
    const mark = indexes.map((index): Request => ({ type: Rtm.NEWLINK, codec: link, value: { index, group } }));
    // One that is gone, or cannot be marked, does not stop the others; what it means shows below.
    this.#askInTurn(mark);
    if (this.isHost && !this.#hasOnly(group, indexes)) return [...indexes];
    this.#rtnetlink.ask({ type: Rtm.DELLINK, codec: link, value: { group } });
    const look = indexes.map(
      (index): Request => ({ type: Rtm.GETLINK, codec: link, value: { index, extMask: SKIP_STATS }, reply: link }),
    );
    const found = this.#rtnetlink.askAll(look);
    return indexes.filter((_, i) => found[i]?.errno !== Errno.ENODEV);
  }

  /** Whether nobody else's link is in a group: on the node it could be anything. */
  #hasOnly(group: number, indexes: readonly number[]): boolean {
    const request = { type: Rtm.GETLINK, codec: link, value: { extMask: SKIP_STATS }, reply: groupOnly };
    return this.#dump("list links", request).every((m) => m.group !== group || indexes.includes(m.index));
  }

  // --- Addresses -----------------------------------------------------------------------------------------------------

  addAddress(index: number, a: LinkAddress): void {
    const value = addressRequest(index, a, true);
    this.#do(addingAddress(index, a), { type: Rtm.NEWADDR, flags: Flag.CREATE | Flag.EXCL, codec: address, value });
  }

  deleteAddress(index: number, a: LinkAddress): boolean {
    const doing = `delete address "${formatCidr(a.address)}" of link ${index}`;
    const request = { type: Rtm.DELADDR, codec: address, value: addressRequest(index, a, false) };
    return this.#remove(doing, request, [Errno.EADDRNOTAVAIL, Errno.ENODEV]);
  }

  addresses(index?: number): (LinkAddress & { readonly index: number })[] {
    const value = index === undefined ? {} : { index };
    const request = { type: Rtm.GETADDR, codec: address, value, reply: address };
    const found = this.#dump("list addresses", request, [Errno.ENODEV]);
    return found.map(toAddress).filter((a) => a !== undefined && (index === undefined || a.index === index)) as never;
  }

  // --- Routes and rules ----------------------------------------------------------------------------------------------

  addRoute(r: Route, mode: "exclusive" | "append" | "replace" = "exclusive"): void {
    const flags = Flag.CREATE | { exclusive: Flag.EXCL, append: Flag.APPEND, replace: Flag.REPLACE }[mode];
    this.#do(`add route ${showRoute(r)}`, { type: Rtm.NEWROUTE, flags, codec: route, value: routeRequest(r, true) });
  }

  deleteRoute(r: Route): boolean {
    const request = { type: Rtm.DELROUTE, codec: route, value: routeRequest(r, false) };
    return this.#remove(`delete route ${showRoute(r)}`, request, [Errno.ESRCH, Errno.ENODEV]);
  }

  routes(filter: RouteFilter = {}): Route[] {
    const out: Route[] = [];
    for (const family of filter.family === undefined ? ([4, 6] as const) : [filter.family]) {
      const number = family === 4 ? Family.INET : Family.INET6;
      const value = { family: number, table: filter.table, index: filter.index };
      // ENOENT: that table was never used. ENODEV: the link is gone, and its routes with it.
      const absent = [Errno.ENOENT, Errno.ENODEV, ...NO_IPV6];
      const request = { type: Rtm.GETROUTE, codec: route, value, reply: route };
      for (const message of this.#dump("list routes", request, absent)) {
        if (message.family !== number || (message.flags & CLONED) !== 0) continue;
        for (const r of toRoutes(message)) {
          if (filter.table !== undefined && r.table !== filter.table) continue;
          if (filter.index !== undefined && r.index !== filter.index) continue;
          out.push(r);
        }
      }
    }
    return out;
  }

  linkTo(address: Ip): Link | undefined {
    const family = address.family === 4 ? Family.INET : Family.INET6;
    const value = { family, dstLength: address.bytes.length * 8, dst: address.bytes };
    const answer = this.#rtnetlink.ask({ type: Rtm.GETROUTE, codec: route, value, reply: route });
    const { index, gateway, via } = answer.reply ?? {};
    if (answer.errno !== 0 || index === undefined || gateway !== undefined || via !== undefined) return undefined;
    return this.linkByIndex(index);
  }

  addRule(r: Rule): void {
    const flags = Flag.CREATE | Flag.EXCL;
    this.#do(`add rule ${showRule(r)}`, { type: Rtm.NEWRULE, flags, codec: rule, value: ruleRequest(r) });
  }

  deleteRule(r: Rule): boolean {
    const request = { type: Rtm.DELRULE, codec: rule, value: ruleRequest(r) };
    return this.#remove(`delete rule ${showRule(r)}`, request, [Errno.ENOENT]);
  }

  rules(family?: 4 | 6): Rule[] {
    const out: Rule[] = [];
    for (const one of family === undefined ? ([4, 6] as const) : [family]) {
      const value = { family: one === 4 ? Family.INET : Family.INET6 };
      // Without IPv6 the kernel has no rules of that family to list.
      const request = { type: Rtm.GETRULE, codec: rule, value, reply: rule };
      const found = this.#dump("list rules", request, NO_IPV6);
      for (const message of found) {
        const r = toRule(message);
        if (r?.family === one) out.push(r);
      }
    }
    return out;
  }

  // --- Neighbours and VLANs ------------------------------------------------------------------------------------------

  addNeighbour(n: Neighbour): void {
    const doing = `add neighbour of link ${n.index}`;
    const mac = parseMac(n.mac);
    if (mac === undefined) throw new KernelError(doing, Errno.EINVAL, `"${n.mac}" is not a hardware address`);
    const flags = Flag.CREATE | Flag.REPLACE;
    this.#do(doing, { type: Rtm.NEWNEIGH, flags, codec: neighbour, value: neighbourRequest(n, mac) });
  }

  deleteNeighbour(n: { readonly index: number; readonly address: Ip }): boolean {
    const request = { type: Rtm.DELNEIGH, codec: neighbour, value: neighbourRequest(n) };
    return this.#remove(`delete neighbour of link ${n.index}`, request, [Errno.ENOENT, Errno.ENODEV, Errno.ENXIO]);
  }

  neighbours(index?: number): Neighbour[] {
    const request = { type: Rtm.GETNEIGH, codec: neighbour, value: {}, reply: neighbour };
    const found = this.#dump("list neighbours", request).map(toNeighbour);
    return found.filter((n) => n !== undefined && (index === undefined || n.index === index)) as never;
  }

  setBridgeVlans(index: number, vlans: readonly BridgeVlan[], mode: "add" | "delete", self = false): void {
    const type = mode === "add" ? Rtm.SETLINK : Rtm.DELLINK;
    const value = bridgeVlanRequest(index, vlans, self);
    this.#do(`${mode} VLANs of link ${index}`, { type, codec: bridgeLink, value }, true);
  }

  bridgeVlans(index: number): BridgeVlan[] {
    const value = { family: Family.BRIDGE, extMask: BRVLAN_COMPRESSED };
    const request = { type: Rtm.GETLINK, codec: bridgeLink, value, reply: bridgeLink };
    const found = this.#dump(`list VLANs of link ${index}`, request);
    return found.filter((m) => m.index === index).flatMap(toBridgeVlans);
  }

  // --- Traffic -------------------------------------------------------------------------------------------------------

  limitRate(index: number, bucket: TokenBucket): void {
    const flags = Flag.CREATE | Flag.EXCL;
    this.#do(`limit link ${index}`, { type: Rtm.NEWQDISC, flags, codec: qdisc, value: limitRequest(index, bucket) });
  }

  rateLimit(index: number): TokenBucket | undefined {
    return this.#qdiscs(index).map(toBucket).find(Boolean);
  }

  redirectIngress(index: number, to: number): void {
    const doing = `redirect what comes in over link ${index}`;
    const flags = Flag.CREATE | Flag.EXCL;
    // One after the other: where somebody else looks at what comes in, nothing may be added.
    this.#do(doing, { type: Rtm.NEWQDISC, flags, codec: qdisc, value: ingressRequest(index) });
    this.#do(doing, { type: Rtm.NEWTFILTER, flags, codec: filter, value: redirectRequest(index, to) });
  }

  ingressRedirect(index: number): number | undefined {
    if (!this.#qdiscs(index).some(isOurIngress)) return undefined;
    const value = filtersOf(index);
    const request = { type: Rtm.GETTFILTER, codec: filter, value, reply: filter };
    return this.#dump(`list filters of link ${index}`, request, [Errno.ENODEV]).map(redirectTarget).find(Boolean);
  }

  clearTraffic(index: number, what: "limit" | "redirect"): boolean {
    // Kind and handle go along, so the kernel refuses (EINVAL) to take away what is not ours.
    const value = what === "limit" ? limitRequest(index) : ingressRequest(index);
    const absent = [Errno.ENOENT, Errno.EINVAL, Errno.ENODEV];
    return this.#remove(`clear the ${what} of link ${index}`, { type: Rtm.DELQDISC, codec: qdisc, value }, absent);
  }

  /** The kernel lists those of all links. */
  #qdiscs(index: number): QdiscMessage[] {
    const request = { type: Rtm.GETQDISC, codec: qdisc, value: { index }, reply: qdisc };
    return this.#dump("list queueing disciplines", request).filter((m) => m.index === index);
  }

  netnsIdOf(other: Kernel): number | undefined {
    const doing = "ask for the number of a namespace";
    const fd = (real(doing, other) ?? this).#ns.raw;
    const answer = this.#rtnetlink.ask({ type: Rtm.GETNSID, codec: netnsId, value: { fd }, reply: netnsId });
    refuse(doing, answer);
    const id = answer.reply?.id ?? -1;
    return id < 0 ? undefined : id;
  }

  // --- Sysctls -------------------------------------------------------------------------------------------------------

  sysctl(key: string): string | undefined {
    return readProcSys(this.#ns, key);
  }

  setSysctl(key: string, value: string): void {
    writeProcSys(this.#ns, key, value);
  }

  setSysctls(settings: readonly SysctlSetting[]): void {
    if (settings.length > 0) writeProcSysAll(this.#ns, settings);
  }

  legacyTables(): LegacyTable[] {
    return readLegacyTables(this.#ns);
  }

  forgetUdp(flows: readonly UdpFlows[], timeoutMs: number): { forgotten: number; all: boolean } {
    return forgetUdp(this.#ns, flows, timeoutMs, () => this.addresses());
  }

  // --- Waiting and announcing ----------------------------------------------------------------------------------------

  waitAddresses(index: number, timeoutMs: number): void {
    const deadline = deadlineIn(timeoutMs);
    for (let look = 0; ; look++) {
      const request = { type: Rtm.GETADDR, codec: address, value: { family: Family.INET6, index }, reply: address };
      const all = this.#dump("list addresses", request, NO_IPV6);
      const found = all.filter((m) => m.index === index && m.family === Family.INET6);
      let tentative = false;
      for (const message of found) {
        const a = toAddress(message);
        if (a?.dadFailed) {
          const doing = `use address "${formatCidr(a.address)}" on link ${index}`;
          throw new KernelError(doing, Errno.EADDRINUSE, "another host of the network answers for it");
        }
        if (a?.tentative && ((message.flags ?? message.flags8) & AddressFlag.NODAD) === 0) tentative = true;
      }
      if (!tentative) return;
      if (monotonicMs() >= deadline) {
        throw new KernelError(`wait for the addresses of link ${index}`, Errno.ETIMEDOUT, "still tentative");
      }
      sleepMs(pauseMs(look));
    }
  }

  waitRunning(index: number, timeoutMs: number): boolean {
    const deadline = deadlineIn(timeoutMs);
    for (let look = 0; ; look++) {
      const value = { index, extMask: SKIP_STATS };
      const answer = this.#rtnetlink.ask({ type: Rtm.GETLINK, codec: link, value, reply: ifinfomsg });
      refuse(`wait for link ${index}`, answer);
      if (((answer.reply?.flags ?? 0) & RUNNING) === RUNNING) return true;
      if (monotonicMs() >= deadline) return false;
      sleepMs(pauseMs(look));
    }
  }

  announce(index: number, addresses: readonly Ip[]): void {
    const found = this.linkByIndex(index);
    if (found === undefined) throw new KernelError(`announce on link ${index}`, Errno.ENODEV);
    const mac = parseMac(found.mac);
    if (mac?.length !== 6) return; // no Ethernet, nobody to tell
    const arp = addresses.filter((ip) => ip.family === 4).map((ip) => arpAnnouncement(mac, ip));
    const ndp = addresses.filter((ip) => ip.family === 6).map((ip) => neighbourAdvertisement(mac, ip));
    if (arp.length > 0) sendRaw(this.#ns, index, ETHERTYPE_ARP, ...arp);
    if (ndp.length > 0) sendRaw(this.#ns, index, ETHERTYPE_IPV6, ...ndp);
  }

  openPackets(index: number, port: number): Packets {
    return PacketSocket.open(this.#ns, index, port);
  }

  // --- Conversations -------------------------------------------------------------------------------------------------

  get #rtnetlink(): Conversation {
    this.#route ??= new Conversation(this.#sockets.use(NetlinkSocket.open(0, this.#ns)), clock);
    return this.#route;
  }

  get #nfnetlink(): Conversation {
    this.#netfilter ??= new Conversation(this.#sockets.use(NetlinkSocket.open(12, this.#ns)), clock);
    return this.#netfilter;
  }

  /** @param filtering The request needs VLAN filtering, about whose absence the kernel says nothing more. */
  #do(doing: string, request: Request, filtering = false): void {
    this.#refuse(doing, this.#rtnetlink.ask(request), filtering);
  }

  #refuse(doing: string, verdict: Verdict, filtering: boolean): void {
    const unsaid = filtering && verdict.errno === Errno.EOPNOTSUPP && verdict.text === undefined;
    refuse(doing, unsaid ? { errno: verdict.errno, text: NO_FILTERING } : verdict);
  }

  /**
   * Sends requests in one datagram. What the kernel could not take just now, and what was refused after that, perhaps
   * for that, is asked again singly.
   */
  #askInTurn(requests: readonly Request[]): Answer[] {
    const answers = this.#rtnetlink.askAll(requests);
    const first = answers.findIndex((answer) => isTransient(answer.errno));
    if (first < 0) return answers;
    return answers.map((answer, i) => {
      const request = requests[i];
      return i < first || answer.errno === 0 || request === undefined ? answer : this.#rtnetlink.ask(request);
    });
  }

  #remove(doing: string, request: Request, absent: readonly number[]): boolean {
    const answer = this.#rtnetlink.ask(request);
    if (absent.includes(answer.errno)) return false;
    refuse(doing, answer);
    return true;
  }

  #dump<Reply>(doing: string, request: Request<Reply>, absent: readonly number[] = []): readonly Reply[] {
    const answer = this.#rtnetlink.dump(request);
    if (absent.includes(answer.errno)) return [];
    refuse(doing, answer);
    return answer.replies;
  }
}

const getLink = (value: LinkRequest): Request<FoundLink> => ({
  type: Rtm.GETLINK,
  codec: link,
  value,
  reply: foundLink,
});

/** The link of an answer; undefined when there is none. */
function toFound(doing: string, answer: Answer): Link | undefined {
  if (answer.errno === Errno.ENODEV) return undefined;
  refuse(doing, answer);
  return answer.reply === undefined ? undefined : toLink(answer.reply as FoundLink);
}

const addingAddress = (index: number, a: LinkAddress): string =>
  `add address "${formatCidr(a.address)}" to link ${index}`;

/** The other namespace of a call, which must be of this implementation too. */
function real(doing: string, kernel: Kernel | undefined): RealKernel | undefined {
  if (kernel === undefined || kernel instanceof RealKernel) return kernel;
  throw new TypeError(`Cannot ${doing}: its other namespace is not a real one`);
}

function checkName(doing: string, name: string): void {
  if (name.length === 0 || name.length > NAME_BYTES) {
    throw new KernelError(doing, Errno.ERANGE, `a name has 1 to ${NAME_BYTES} bytes`);
  }
}

function showRoute(r: Route): string {
  return r.dst === undefined ? '"default"' : `"${formatCidr(r.dst)}"`;
}

function showRule(r: Rule): string {
  return `"${r.from === undefined ? "from all" : `from ${formatCidr(r.from)}`} lookup ${r.table}"`;
}

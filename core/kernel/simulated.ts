/**
 * A node in memory: several network namespaces with links, addresses, routes and nf_tables objects, close enough to
 * Linux to pass the suite that the real kernel passes. For tests; it carries no packets.
 */
import { type Cidr, contains, formatCidr, formatIp, type Ip, networkOf, parseMac, sameIp } from "../base/ip.ts";
import { Errno, SysError } from "../sys/error.ts";
import type { Packets } from "../sys/packet.ts";
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
  type LinkData,
  type LinkSpec,
  type Neighbour,
  type Route,
  type RouteFilter,
  type Rule,
  type SysctlSetting,
  type TokenBucket,
  type UdpFlows,
  type UpperSpec,
  type VirtualFunction,
  type VirtualFunctionChange,
} from "./kernel.ts";
import type { Nftables } from "./nftables.ts";
import {
  destroy,
  fallBack,
  isRunning,
  linkSysctls,
  MAIN,
  Namespace,
  type NewLink,
  numberOf,
  type OwnedAddress,
  type SimLink,
  show,
} from "./simulated-namespace.ts";
import { SimulatedNftables } from "./simulated-nft.ts";

export interface SimulatedOptions {
  /** False: as after booting with `ipv6.disable=1`. */
  readonly ipv6?: boolean;
  /** False: as without CONFIG_BRIDGE_VLAN_FILTERING. */
  readonly vlanFiltering?: boolean;
}

/** One call that was made, as `SimulatedNode.calls` records it and `SimulatedNode.fault` hears of it. */
export interface SimulatedCall {
  readonly namespace: string;
  readonly call: keyof Kernel;
  readonly argument: unknown;
}

const ENETDOWN = 100;
const EHOSTUNREACH = 113;
const EADDRINUSE = Errno.EADDRINUSE;
const LINK_SCOPE = 253;

export class SimulatedNode {
  readonly ipv6: boolean;
  readonly vlanFiltering: boolean;
  /** Addresses that some other host of the network uses: duplicate address detection fails for them. */
  readonly usedElsewhere = new Set<string>();
  /** What every namespace says of iptables-legacy's tables. */
  readonly legacyTables: LegacyTable[] = [];
  /** What `announce()` told, oldest first. */
  readonly announced: { readonly namespace: string; readonly link: string; readonly address: string }[] = [];
  /** Every changing call, oldest first. */
  readonly calls: SimulatedCall[] = [];
  /** Hears of every changing call before it is carried out; an errno that it returns is the kernel's answer. */
  fault: ((call: SimulatedCall) => number | undefined) | undefined;
  /** Who is on the network of a link; nobody unless told. */
  network: ((namespace: string, link: { readonly name: string; readonly mac: string }) => Packets) | undefined;
  readonly #namespaces = new Map<string, Namespace>();
  /** Where physical devices fall back to: the first that was made as the host's. */
  #initial: Namespace | undefined;
  #cookies = 1n;

  constructor(options: SimulatedOptions = {}) {
    this.ipv6 = options.ipv6 ?? true;
    this.vlanFiltering = options.vlanFiltering ?? true;
  }

  /** The namespace of that name, made when first asked for. `host` counts when it is made. */
  netns(name: string, options: { readonly host?: boolean } = {}): Kernel {
    let namespace = this.#namespaces.get(name);
    if (namespace === undefined) {
      namespace = new Namespace(name, this.#cookies++);
      namespace.add({ kind: "", name: "lo", mac: "00:00:00:00:00:00", mtu: 65_536, loopback: true });
      this.#namespaces.set(name, namespace);
      if (options.host === true) this.#initial ??= namespace;
    }
    return new SimulatedKernel(this, namespace, options.host === true);
  }

  /** Puts a physical device into a namespace. */
  plug(namespace: string, device: SimulatedDevice): Link {
    const kernel = this.netns(namespace);
    const home = this.#namespaces.get(namespace);
    const { vfs, ...own } = device;
    const made = home?.add({
      kind: "",
      loopback: false,
      mtu: 1500,
      ...own,
      vfs: Array.from({ length: vfs ?? 0 }, (_, number) => ({ ...freshVf, number })),
    });
    const found = made === undefined ? undefined : kernel.linkByIndex(made.index);
    if (found === undefined) throw new TypeError(`Cannot plug "${device.name}"`);
    return found;
  }

  /** Destroys a namespace with all in it, as the kernel does when the last process and descriptor are gone. */
  removeNetns(name: string): void {
    const namespace = this.#namespaces.get(name);
    if (namespace === undefined) return;
    const initial = this.#initial;
    for (const link of [...namespace.links.values()]) {
      if (link.device === undefined || initial === undefined || initial === namespace) destroy(link);
      else fallBack(link, initial);
    }
    this.#namespaces.delete(name);
  }

  /** Takes a device away, as its driver does when it is unbound. */
  unplug(device: string): void {
    for (const { links } of this.#namespaces.values()) {
      for (const link of [...links.values()]) if (link.device?.name === device) destroy(link);
    }
  }
}

/** A physical device, such as `{ name: "ens1", mac, device: { bus: "pci", name: "0000:01:00.0" }, vfs: 2 }`. */
export interface SimulatedDevice {
  readonly name: string;
  readonly mac: string;
  readonly mtu?: number;
  readonly device?: NonNullable<Link["device"]>;
  /** How many virtual functions it has. */
  readonly vfs?: number;
}

const freshVf: Omit<VirtualFunction, "number"> = {
  mac: "00:00:00:00:00:00",
  vlan: 0,
  qos: 0,
  protocol: "802.1q",
  spoofCheck: true,
  trust: false,
  linkState: "auto",
  minTxRate: 0,
  maxTxRate: 0,
};

function upperData(spec: UpperSpec): LinkData {
  if (spec.kind === "vlan") return { vlanId: spec.id };
  if (spec.kind === "ipvlan") return { mode: spec.mode };
  return { mode: spec.mode, bcQueueLength: spec.bcQueueLength ?? 1000 };
}

class SimulatedKernel implements Kernel {
  readonly isHost: boolean;
  readonly nft: Nftables;
  readonly #node: SimulatedNode;
  readonly #ns: Namespace;

  constructor(node: SimulatedNode, namespace: Namespace, host: boolean) {
    this.#node = node;
    this.#ns = namespace;
    this.isHost = host;
    this.nft = new SimulatedNftables(namespace.tables, (changes) => this.#begin("nft", "change nft rules", changes));
  }

  get cookie(): bigint {
    return this.#ns.cookie;
  }

  [Symbol.dispose](): void {}

  #begin(call: keyof Kernel, doing: string, argument: unknown): void {
    const made: SimulatedCall = { namespace: this.#ns.name, call, argument };
    this.#node.calls.push(made);
    const errno = this.#node.fault?.(made);
    if (errno !== undefined) throw new KernelError(doing, errno, "simulated");
  }

  #at(doing: string, index: number): SimLink {
    const link = this.#ns.links.get(index);
    if (link === undefined) throw new KernelError(doing, Errno.ENODEV);
    return link;
  }

  #other(doing: string, kernel: Kernel | undefined): Namespace {
    if (kernel === undefined) return this.#ns;
    if (kernel instanceof SimulatedKernel) return kernel.#ns;
    throw new TypeError(`Cannot ${doing}: its other namespace is not a simulated one`);
  }

  // --- Links ---------------------------------------------------------------------------------------------------------

  createLink(spec: LinkSpec): Link {
    const doing = `create ${spec.kind} "${spec.name}"`;
    this.#begin("createLink", doing, spec);
    const home = isUpper(spec) ? this.#other(doing, spec.in) : this.#ns;
    checkFree(doing, home, spec.name);
    checkMac(doing, spec.mac);
    const master = spec.master === undefined ? undefined : home.links.get(spec.master);
    if (spec.master !== undefined && master === undefined) throw new KernelError(doing, Errno.ENODEV);
    const link = this.#make(doing, spec, home);
    link.alias = spec.alias;
    link.up = spec.up === true;
    link.group = spec.group ?? 0;
    if (spec.txQueueLength !== undefined) link.txQueueLength = spec.txQueueLength;
    if (master !== undefined) this.#enslave(doing, link, master);
    return show(link);
  }

  #make(doing: string, spec: LinkSpec, home: Namespace): SimLink {
    const mac = spec.mac ?? randomMac();
    const basic = { kind: spec.kind, name: spec.name, mac, mtu: checkMtu(doing, spec.mtu ?? 1500), loopback: false };
    switch (spec.kind) {
      case "veth": {
        const there = this.#other(doing, spec.peer.in);
        if (there === home && spec.peer.name === spec.name) throw new KernelError(doing, Errno.EEXIST);
        checkFree(doing, there, spec.peer.name);
        checkMac(doing, spec.peer.mac);
        const mtu = checkMtu(doing, spec.peer.mtu ?? 1500);
        const peer = there.add({ ...basic, name: spec.peer.name, mac: spec.peer.mac ?? randomMac(), mtu });
        const link = home.add(basic);
        link.peer = peer;
        peer.peer = link;
        return link;
      }
      case "bridge": {
        if ((spec.vlanFiltering === true || spec.vlanDefaultPvid !== undefined) && !this.#node.vlanFiltering) {
          throw new KernelError(doing, Errno.EOPNOTSUPP);
        }
        return home.add({ ...basic, data: { vlanFiltering: spec.vlanFiltering === true } });
      }
      case "macvlan":
      case "ipvlan":
      case "vlan":
        return this.#makeUpper(doing, spec, basic, home);
      case "vrf":
        return home.add({ ...basic, data: { table: spec.table } });
      case "tap": {
        const { multiQueue, owner, ownerGroup: group } = spec;
        if (spec.selinuxContext !== undefined) throw new KernelError(doing, Errno.EOPNOTSUPP);
        const tap = {
          multiQueue,
          ...(owner === undefined ? {} : { owner }),
          ...(group === undefined ? {} : { group }),
        };
        return home.add({ ...basic, kind: "tun", data: { tap } });
      }
      case "dummy":
      case "ifb":
        return home.add(basic);
    }
  }

  #makeUpper(doing: string, spec: UpperSpec, basic: NewLink, home: Namespace): SimLink {
    const lower = this.#at(doing, spec.parent);
    const tagged = spec.kind === "vlan";
    if (lower.loopback) throw new KernelError(doing, tagged ? Errno.EOPNOTSUPP : Errno.EINVAL);
    // What takes all that comes in, a bridge, macvlans or ipvlans, is alone; tagged frames go by it.
    const taken = [...lower.uppers].some((u) => u.kind !== "vlan" && u.kind !== spec.kind);
    if (!tagged && (lower.master !== undefined || taken)) throw new KernelError(doing, Errno.EBUSY);
    const mtu = spec.mtu ?? lower.mtu;
    if (mtu > lower.mtu && spec.kind !== "ipvlan") throw new KernelError(doing, Errno.EINVAL);
    if (tagged && [...lower.uppers].some((u) => u.data?.vlanId === spec.id)) {
      throw new KernelError(doing, Errno.EEXIST, "VLAN device already exists");
    }
    if (spec.kind === "ipvlan")
      for (const other of lower.uppers) if (other.kind === "ipvlan") other.data = { mode: spec.mode };
    const mac = spec.kind === "ipvlan" || (tagged && spec.mac === undefined) ? lower.mac : basic.mac;
    const link = home.add({ ...basic, mac, mtu, data: upperData(spec) });
    link.lower = lower;
    lower.uppers.add(link);
    return link;
  }

  #enslave(doing: string, link: SimLink, master: SimLink): void {
    if (master.kind !== "bridge" && master.kind !== "vrf") throw new KernelError(doing, Errno.EOPNOTSUPP);
    if (link.loopback) throw new KernelError(doing, Errno.EINVAL);
    if (master.kind === "vrf") {
      if (link.kind === "vrf") throw new KernelError(doing, Errno.EINVAL);
      link.master = master;
      return;
    }
    if (link === master || link.kind === "bridge") throw new KernelError(doing, Errno.ELOOP);
    if (link.uppers.size > 0) throw new KernelError(doing, Errno.EBUSY);
    link.master = master;
    link.port = { hairpin: false, isolated: false };
    link.vlans = this.#node.vlanFiltering ? [{ first: 1, pvid: true, untagged: true }] : [];
  }

  linkByName(name: string): Link | undefined {
    checkName(`read link "${name}"`, name);
    const link = this.#ns.byName(name);
    return link === undefined ? undefined : show(link);
  }

  linkByIndex(index: number): Link | undefined {
    const link = this.#ns.links.get(index);
    return link === undefined ? undefined : show(link);
  }

  links(): Link[] {
    return [...this.#ns.links.values()].map(show);
  }

  joinBridge(index: number, change: LinkChange & { readonly master: number }): string {
    this.setLink(index, change);
    return this.linkByIndex(change.master)?.mac ?? "";
  }

  configureLink(index: number, configuration: LinkConfiguration): void {
    for (const address of configuration.addresses) this.addAddress(index, address);
    this.setLink(index, { up: true });
    for (const route of configuration.routes) this.addRoute(route, "append");
  }

  setLink(index: number, change: LinkChange): void {
    const doing = `change link ${index}`;
    this.#begin("setLink", doing, { index, ...change });
    const link = this.#at(doing, index);
    if (change.name !== undefined && change.name !== link.name) {
      checkFree(doing, this.#ns, change.name);
      if (link.up) throw new KernelError(doing, Errno.EBUSY);
    }
    checkMac(doing, change.mac);
    const mtu = change.mtu === undefined ? link.mtu : checkMtu(doing, change.mtu);
    if (link.lower !== undefined && mtu > link.lower.mtu) throw new KernelError(doing, Errno.EINVAL);
    if (change.alias !== undefined && change.alias.length > 255) throw new KernelError(doing, Errno.EINVAL);
    if (change.vlanFiltering !== undefined) {
      if (link.kind !== "bridge" || !this.#node.vlanFiltering) throw new KernelError(doing, Errno.EOPNOTSUPP);
      link.data = { ...link.data, vlanFiltering: change.vlanFiltering };
    }
    if (change.master === 0) link.master = undefined;
    else if (change.master !== undefined) this.#enslave(doing, link, this.#at(doing, change.master));
    if ((change.hairpin !== undefined || change.isolated !== undefined) && link.master?.kind !== "bridge") {
      throw new KernelError(doing, Errno.EOPNOTSUPP);
    }
    link.port.hairpin = change.hairpin ?? link.port.hairpin;
    link.port.isolated = change.isolated ?? link.port.isolated;
    link.name = change.name ?? link.name;
    link.mac = change.mac?.toLowerCase() ?? link.mac;
    link.mtu = mtu;
    link.promisc = change.promisc ?? link.promisc;
    link.allmulti = change.allmulti ?? link.allmulti;
    link.group = change.group ?? link.group;
    link.txQueueLength = change.txQueueLength ?? link.txQueueLength;
    if (change.alias !== undefined) link.alias = change.alias === "" ? undefined : change.alias;
    if (change.up !== undefined && change.up !== link.up) this.#upOrDown(link, change.up);
  }

  #upOrDown(link: SimLink, up: boolean): void {
    link.up = up;
    const own = this.#ns.addresses.filter((a) => a.index === link.index);
    if (up) {
      for (const a of own) this.#connect(link, a);
      return;
    }
    this.#ns.routes = this.#ns.routes.filter((r) => r.index !== link.index);
    if (this.#linkSysctl(link, 6, "keep_addr_on_down") === "1") return;
    this.#ns.addresses = this.#ns.addresses.filter((a) => a.index !== link.index || a.address.ip.family === 4);
  }

  moveLink(index: number, to: Kernel, name?: string): Link {
    const doing = `move link ${index}`;
    this.#begin("moveLink", doing, { index, name });
    const link = this.#at(doing, index);
    const target = this.#other(doing, to);
    if (link.loopback || link.kind === "bridge") throw new KernelError(doing, Errno.EINVAL);
    if (target !== this.#ns || (name !== undefined && name !== link.name)) checkFree(doing, target, name ?? link.name);
    link.name = name ?? link.name;
    if (target !== this.#ns) {
      this.#ns.links.delete(index);
      this.#ns.forget(index);
      link.master = undefined;
      link.up = false;
      link.index = target.freeIndex(index);
      link.namespace = target;
      target.links.set(link.index, link);
    }
    return show(link);
  }

  setAlternativeName(index: number, name: string, present: boolean): void {
    const doing = `name link ${index} "${name}"`;
    this.#begin("setAlternativeName", doing, { index, name, present });
    const link = this.#at(doing, index);
    link.alternativeNames = link.alternativeNames.filter((other) => other !== name);
    if (present) link.alternativeNames.push(name);
  }

  virtualFunctions(index: number): VirtualFunction[] {
    return this.#at(`read the virtual functions of link ${index}`, index).vfs.map((vf) => ({ ...vf }));
  }

  setVirtualFunction(index: number, number: number, change: VirtualFunctionChange): void {
    const doing = `change virtual function ${number} of link ${index}`;
    this.#begin("setVirtualFunction", doing, { index, number, ...change });
    const link = this.#at(doing, index);
    const vf = link.vfs[number];
    if (vf === undefined) throw new KernelError(doing, Errno.EINVAL);
    // All zeros take the address away.
    if (!/^[0:]+$/.test(change.mac ?? "0")) checkMac(doing, change.mac);
    const { vlan, rate, ...flags } = change;
    link.vfs[number] = {
      ...vf,
      ...(Object.fromEntries(Object.entries(flags).filter(([, v]) => v !== undefined)) as Partial<VirtualFunction>),
      ...vlan,
      ...(rate === undefined ? {} : { minTxRate: rate.min, maxTxRate: rate.max }),
    };
  }

  deleteLink(index: number): boolean {
    const doing = `delete link ${index}`;
    this.#begin("deleteLink", doing, { index });
    const link = this.#ns.links.get(index);
    if (link === undefined) return false;
    if (link.kind === "") throw new KernelError(doing, Errno.EOPNOTSUPP);
    destroy(link);
    return true;
  }

  deleteLinks(links: readonly { readonly index: number }[]): void {
    let refused: unknown;
    for (const { index } of links) {
      try {
        this.deleteLink(index);
      } catch (thrown) {
        refused ??= thrown;
      }
    }
    if (refused !== undefined) throw refused;
  }

  // --- Addresses -----------------------------------------------------------------------------------------------------

  addAddress(index: number, address: LinkAddress): void {
    const doing = `add address "${formatCidr(address.address)}" to link ${index}`;
    this.#begin("addAddress", doing, { index, ...address });
    const { ip, prefix } = address.address;
    if (ip.family === 6 && !this.#node.ipv6) throw new KernelError(doing, Errno.EOPNOTSUPP);
    const link = this.#at(doing, index);
    if (ip.family === 6 && this.#linkSysctl(link, 6, "disable_ipv6") === "1") {
      throw new KernelError(doing, Errno.EACCES, "IPv6 is disabled on this device");
    }
    const clash = this.#ns.addresses.some(
      (a) => a.index === index && sameIp(a.address.ip, ip) && (ip.family === 6 || a.address.prefix === prefix),
    );
    if (clash) throw new KernelError(doing, Errno.EEXIST, `ipv${ip.family}: address already assigned`);
    const made: OwnedAddress = {
      index,
      address: address.address,
      scope: address.scope ?? 0,
      noDad: ip.family === 6 && address.noDad === true,
      noPrefixRoute: address.noPrefixRoute === true,
      tentative: false,
      dadFailed: ip.family === 6 && address.noDad !== true && this.#node.usedElsewhere.has(formatIp(ip)),
    };
    this.#ns.addresses.push(made);
    if (link.up) this.#connect(link, made);
  }

  /** The kernel's own route to the network of an address. */
  #connect(link: SimLink, { address, noPrefixRoute }: LinkAddress): void {
    const { family } = address.ip;
    if (noPrefixRoute || (family === 4 && address.prefix === 32)) return;
    const dst = networkOf(address);
    const rest = family === 4 ? { scope: LINK_SCOPE, source: address.ip } : { scope: 0, priority: 256 };
    const route: Route = { family, dst, index: link.index, table: MAIN, protocol: 2, type: 1, ...rest };
    const known = this.#ns.routes.some((r) => r.index === link.index && r.protocol === 2 && sameDst(r.dst, dst));
    if (!known) this.#ns.routes.push(route);
  }

  deleteAddress(index: number, address: LinkAddress): boolean {
    const doing = `delete address "${formatCidr(address.address)}" of link ${index}`;
    this.#begin("deleteAddress", doing, { index, ...address });
    const at = this.#ns.addresses.findIndex(
      (a) => a.index === index && formatCidr(a.address) === formatCidr(address.address),
    );
    if (at < 0) return false;
    this.#ns.addresses.splice(at, 1);
    const dst = networkOf(address.address);
    const kept = this.#ns.addresses.some((a) => a.index === index && sameDst(networkOf(a.address), dst));
    if (!kept) {
      this.#ns.routes = this.#ns.routes.filter((r) => r.index !== index || r.protocol !== 2 || !sameDst(r.dst, dst));
    }
    const { ip } = address.address;
    this.#ns.routes = this.#ns.routes.filter((r) => r.source === undefined || !sameIp(r.source, ip) || kept);
    return true;
  }

  addresses(index?: number): OwnedAddress[] {
    return this.#ns.addresses.filter((a) => index === undefined || a.index === index);
  }

  // --- Routes and rules ----------------------------------------------------------------------------------------------

  addRoute(route: Route, mode: "exclusive" | "append" | "replace" = "exclusive"): void {
    const doing = `add route "${route.dst === undefined ? "default" : formatCidr(route.dst)}"`;
    this.#begin("addRoute", doing, { ...route, mode });
    const { family, gateway } = route;
    if (family === 6 && !this.#node.ipv6) throw new KernelError(doing, Errno.EOPNOTSUPP);
    if (route.dst !== undefined && !sameIp(networkOf(route.dst).ip, route.dst.ip)) {
      throw new KernelError(doing, Errno.EINVAL, "Invalid prefix for given prefix length");
    }
    let index = route.index;
    if (index !== undefined) {
      const link = this.#at(doing, index);
      if (!link.up) throw new KernelError(doing, ENETDOWN, "Device for nexthop is not up");
    }
    if (gateway !== undefined && route.onlink !== true) {
      const way = this.#ns.routes.find(
        (r) => r.gateway === undefined && r.dst !== undefined && (r.table ?? MAIN) === MAIN && contains(r.dst, gateway),
      );
      if (way?.index === undefined || (index !== undefined && way.index !== index)) {
        const errno = family === 4 ? Errno.ENETUNREACH : EHOSTUNREACH;
        throw new KernelError(doing, errno, family === 4 ? "Nexthop has invalid gateway" : undefined);
      }
      index = way.index;
    }
    if (
      route.source !== undefined &&
      !this.#ns.addresses.some((a) => sameIp(a.address.ip, route.source ?? a.address.ip))
    ) {
      throw new KernelError(doing, Errno.EINVAL, "Invalid prefsrc address");
    }
    const unicast = (route.type ?? 1) === 1;
    if (unicast && index === undefined) throw new KernelError(doing, Errno.ENODEV);
    const made: Route = {
      family,
      ...(route.dst === undefined || route.dst.prefix === 0 ? {} : { dst: route.dst }),
      ...(gateway === undefined ? {} : { gateway }),
      ...(index === undefined ? {} : { index }),
      ...(route.source === undefined ? {} : { source: route.source }),
      table: route.table ?? MAIN,
      scope: route.scope ?? (family === 4 && gateway === undefined && unicast ? LINK_SCOPE : 0),
      ...(route.priority !== undefined ? { priority: route.priority } : family === 6 ? { priority: 1024 } : {}),
      ...(route.mtu === undefined ? {} : { mtu: route.mtu }),
      ...(route.advmss === undefined ? {} : { advmss: route.advmss }),
      ...(route.onlink === true ? { onlink: true } : {}),
      protocol: route.protocol ?? 3,
      type: route.type ?? 1,
    };
    const alike = (r: Route): boolean =>
      r.family === family &&
      r.table === made.table &&
      (r.priority ?? 0) === (made.priority ?? 0) &&
      sameDst(r.dst, made.dst);
    const at = this.#ns.routes.findIndex(alike);
    if (mode === "replace" && at >= 0) this.#ns.routes[at] = made;
    else {
      const same = (r: Route): boolean => r.index === made.index && sameOptional(r.gateway, made.gateway);
      const clash = mode === "append" ? this.#ns.routes.some((r) => alike(r) && same(r)) : at >= 0;
      if (clash) throw new KernelError(doing, Errno.EEXIST);
      this.#ns.routes.push(made);
    }
  }

  deleteRoute(route: Route): boolean {
    this.#begin("deleteRoute", "delete route", route);
    const wanted = route.dst?.prefix === 0 ? undefined : route.dst;
    const at = this.#ns.routes.findIndex(
      (r) =>
        r.family === route.family &&
        r.table === (route.table ?? MAIN) &&
        sameDst(r.dst, wanted) &&
        (route.gateway === undefined || sameOptional(r.gateway, route.gateway)) &&
        (route.index === undefined || r.index === route.index) &&
        (route.priority === undefined || (r.priority ?? 0) === route.priority) &&
        (route.protocol === undefined || r.protocol === route.protocol) &&
        (route.scope === undefined || r.scope === route.scope),
    );
    if (at < 0) return false;
    this.#ns.routes.splice(at, 1);
    return true;
  }

  routes(filter: RouteFilter = {}): Route[] {
    return this.#ns.routes.filter(
      (r) =>
        (filter.family === undefined || r.family === filter.family) &&
        (filter.table === undefined || r.table === filter.table) &&
        (filter.index === undefined || r.index === filter.index),
    );
  }

  linkTo(address: Ip): Link | undefined {
    const length = (r: Route): number => r.dst?.prefix ?? 0;
    const fitting = this.#ns.routes.filter((r) => r.family === address.family && r.index !== undefined);
    const [best] = fitting
      .filter((r) => r.dst === undefined || contains(r.dst, address))
      .toSorted((a, b) => length(b) - length(a));
    if (best?.index !== undefined && best.dst !== undefined) {
      return best.gateway === undefined ? this.linkByIndex(best.index) : undefined;
    }
    const near = this.#ns.addresses.find((a) => contains(networkOf(a.address), address));
    return near && this.linkByIndex(near.index);
  }

  addRule(rule: Rule): void {
    this.#begin("addRule", "add rule", rule);
    if (rule.family === 6 && !this.#node.ipv6) throw new KernelError("add rule", Errno.EOPNOTSUPP);
    const others = this.#ns.rules.filter((r) => r.family === rule.family);
    const lowest = Math.min(...others.map((r) => r.priority ?? 0).filter((priority) => priority > 0));
    const made = { ...rule, priority: rule.priority ?? lowest - 1 };
    if (others.some((r) => sameRule(r, made))) throw new KernelError("add rule", Errno.EEXIST);
    this.#ns.rules = [...this.#ns.rules, made].sort(
      (a, b) => a.family - b.family || (a.priority ?? 0) - (b.priority ?? 0),
    );
  }

  deleteRule(rule: Rule): boolean {
    this.#begin("deleteRule", "delete rule", rule);
    const at = this.#ns.rules.findIndex((r) => sameRule(r, { ...rule, priority: rule.priority ?? r.priority }));
    if (at < 0) return false;
    this.#ns.rules.splice(at, 1);
    return true;
  }

  rules(family?: 4 | 6): Rule[] {
    return this.#ns.rules.filter((r) => (family ?? r.family) === r.family && (r.family === 4 || this.#node.ipv6));
  }

  // --- Neighbours and VLANs ------------------------------------------------------------------------------------------

  addNeighbour(neighbour: Neighbour): void {
    const doing = `add neighbour of link ${neighbour.index}`;
    this.#begin("addNeighbour", doing, neighbour);
    this.#at(doing, neighbour.index);
    checkMac(doing, neighbour.mac);
    this.#ns.neighbours = this.#ns.neighbours.filter((n) => !sameNeighbour(n, neighbour));
    this.#ns.neighbours.push({ ...neighbour, permanent: true });
  }

  deleteNeighbour(neighbour: { readonly index: number; readonly address: Ip }): boolean {
    this.#begin("deleteNeighbour", `delete neighbour of link ${neighbour.index}`, neighbour);
    const before = this.#ns.neighbours.length;
    this.#ns.neighbours = this.#ns.neighbours.filter((n) => !sameNeighbour(n, neighbour));
    return this.#ns.neighbours.length < before;
  }

  neighbours(index?: number): Neighbour[] {
    return this.#ns.neighbours.filter((n) => index === undefined || n.index === index);
  }

  setBridgeVlans(index: number, vlans: readonly BridgeVlan[], mode: "add" | "delete", self = false): void {
    const doing = `${mode} VLANs of link ${index}`;
    this.#begin("setBridgeVlans", doing, { index, vlans, mode, self });
    const link = this.#at(doing, index);
    const fits = self ? link.kind === "bridge" : link.master !== undefined;
    if (!this.#node.vlanFiltering || !fits) throw new KernelError(doing, Errno.EOPNOTSUPP);
    const ids = new Map<number, { pvid: boolean; untagged: boolean }>();
    for (const v of link.vlans)
      eachId(v, (id) => ids.set(id, { pvid: v.pvid === true, untagged: v.untagged === true }));
    for (const v of vlans) {
      if (v.pvid === true && v.last !== undefined && v.last !== v.first) throw new KernelError(doing, Errno.EINVAL);
      eachId(v, (id) => {
        if (mode === "delete") {
          ids.delete(id);
          return;
        }
        if (v.pvid === true) for (const other of ids.values()) other.pvid = false;
        ids.set(id, { pvid: v.pvid === true, untagged: v.untagged === true });
      });
    }
    link.vlans = inRanges(ids);
  }

  bridgeVlans(index: number): BridgeVlan[] {
    return this.#ns.links.get(index)?.vlans ?? [];
  }

  // --- Traffic -------------------------------------------------------------------------------------------------------

  limitRate(index: number, bucket: TokenBucket): void {
    const doing = `limit link ${index}`;
    this.#begin("limitRate", doing, { index, ...bucket });
    const link = this.#at(doing, index);
    if (link.limit !== undefined) throw new KernelError(doing, Errno.EEXIST);
    if (bucket.rate === 0 || bucket.buffer === 0) throw new KernelError(doing, Errno.EINVAL);
    link.limit = bucket;
  }

  rateLimit(index: number): TokenBucket | undefined {
    return this.#ns.links.get(index)?.limit;
  }

  redirectIngress(index: number, to: number): void {
    const doing = `redirect what comes in over link ${index}`;
    this.#begin("redirectIngress", doing, { index, to });
    const link = this.#at(doing, index);
    if (link.redirect !== undefined) throw new KernelError(doing, Errno.EEXIST);
    link.redirect = this.#at(doing, to);
  }

  ingressRedirect(index: number): number | undefined {
    return this.#ns.links.get(index)?.redirect?.index;
  }

  clearTraffic(index: number, what: "limit" | "redirect"): boolean {
    this.#begin("clearTraffic", `clear the ${what} of link ${index}`, { index, what });
    const link = this.#ns.links.get(index);
    const was = link?.[what] !== undefined;
    if (link !== undefined) link[what] = undefined;
    return was;
  }

  netnsIdOf(other: Kernel): number | undefined {
    const there = this.#other("ask for the number of a namespace", other);
    return [...this.#ns.links.values()].some((l) => (l.peer ?? l.lower)?.namespace === there)
      ? numberOf(there)
      : undefined;
  }

  // --- Sysctls -------------------------------------------------------------------------------------------------------

  #linkSysctl(link: SimLink, family: 4 | 6, name: string): string | undefined {
    const key = `net/ipv${family}/conf/default/${name}`;
    return link.sysctls.get(`${family} ${name}`) ?? this.#ns.sysctls.get(key) ?? linkSysctls[family][name];
  }

  /** Where a sysctl is kept, and its value; undefined for one that there is not. */
  #find(key: string): { value: string; store: Map<string, string>; at: string } | undefined {
    const plain = this.#ns.sysctls.get(key);
    const parts = key.split("/");
    const [net, ip, conf, of, name] = parts;
    if (parts.length !== 5 || net !== "net" || conf !== "conf" || of === undefined || name === undefined) {
      return plain === undefined ? undefined : { value: plain, store: this.#ns.sysctls, at: key };
    }
    const family = ip === "ipv4" ? 4 : ip === "ipv6" ? 6 : undefined;
    if (family === undefined || (family === 6 && !this.#node.ipv6)) return undefined;
    const initial = linkSysctls[family][name];
    if (initial === undefined) return undefined;
    if (of === "all" || of === "default") return { value: plain ?? initial, store: this.#ns.sysctls, at: key };
    const link = this.#ns.byName(of);
    if (link === undefined) return undefined;
    return { value: this.#linkSysctl(link, family, name) ?? initial, store: link.sysctls, at: `${family} ${name}` };
  }

  sysctl(key: string): string | undefined {
    return this.#find(key)?.value;
  }

  setSysctl(key: string, value: string): void {
    this.#begin("setSysctl", `set sysctl "${key}"`, { key, value });
    const found = this.#find(key);
    if (found === undefined) throw new SysError("openat2", Errno.ENOENT, `sys/${key}`);
    found.store.set(found.at, value);
  }

  setSysctls(settings: readonly SysctlSetting[]): void {
    for (const { key, value, optional } of settings) {
      try {
        this.setSysctl(key, value);
      } catch (thrown) {
        if (optional !== true) throw thrown;
      }
    }
  }

  // --- Netfilter -----------------------------------------------------------------------------------------------------

  legacyTables(): LegacyTable[] {
    return this.#node.legacyTables;
  }

  forgetUdp(flows: readonly UdpFlows[], timeoutMs: number): { forgotten: number; all: boolean } {
    this.#begin("forgetUdp", "forget UDP flows", { flows, timeoutMs });
    return { forgotten: 0, all: true };
  }

  // --- Waiting and announcing ----------------------------------------------------------------------------------------

  waitAddresses(index: number, _timeoutMs: number): void {
    const failed = this.#ns.addresses.find((a) => a.index === index && a.dadFailed);
    if (failed === undefined) return;
    const doing = `use address "${formatCidr(failed.address)}" on link ${index}`;
    throw new KernelError(doing, EADDRINUSE, "another host of the network answers for it");
  }

  waitRunning(index: number, _timeoutMs: number): boolean {
    return isRunning(this.#at(`wait for link ${index}`, index));
  }

  announce(index: number, addresses: readonly Ip[]): void {
    const link = this.#at(`announce on link ${index}`, index);
    for (const ip of addresses) {
      this.#node.announced.push({ namespace: this.#ns.name, link: link.name, address: formatIp(ip) });
    }
  }

  openPackets(index: number, _port: number): Packets {
    const link = this.#at(`open link ${index} for packets`, index);
    if (this.#node.network !== undefined) return this.#node.network(this.#ns.name, link);
    return { fd: -1, send() {}, receive: () => undefined, [Symbol.dispose]() {} };
  }
}

// --- Checks and comparisons ------------------------------------------------------------------------------------------

function checkName(doing: string, name: string): void {
  if (name.length === 0 || name.length > 15) throw new KernelError(doing, Errno.ERANGE, "a name has 1 to 15 bytes");
}

function checkFree(doing: string, namespace: Namespace, name: string): void {
  checkName(doing, name);
  if (namespace.byName(name) !== undefined) throw new KernelError(doing, Errno.EEXIST);
}

function checkMac(doing: string, mac: string | undefined): void {
  if (mac === undefined) return;
  const bytes = parseMac(mac);
  if (bytes === undefined) throw new KernelError(doing, Errno.EINVAL, `"${mac}" is not a hardware address`);
  const usable = bytes.length === 6 && ((bytes[0] ?? 0) & 1) === 0 && bytes.some((byte) => byte !== 0);
  if (!usable) throw new KernelError(doing, Errno.EADDRNOTAVAIL);
}

function checkMtu(doing: string, mtu: number): number {
  if (mtu < 68 || mtu > 65_535) throw new KernelError(doing, Errno.EINVAL);
  return mtu;
}

function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(5));
  return `02:${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":")}`;
}

const sameOptional = (a: Ip | undefined, b: Ip | undefined): boolean =>
  a === undefined || b === undefined ? a === b : sameIp(a, b);
const sameDst = (a: Cidr | undefined, b: Cidr | undefined): boolean =>
  a === undefined || b === undefined ? a === b : a.prefix === b.prefix && sameIp(a.ip, b.ip);
const sameNeighbour = (a: { index: number; address: Ip }, b: { index: number; address: Ip }): boolean =>
  a.index === b.index && sameIp(a.address, b.address);
const sameRule = (a: Rule, b: Rule): boolean =>
  a.family === b.family &&
  a.table === b.table &&
  a.priority === b.priority &&
  a.iif === b.iif &&
  a.oif === b.oif &&
  a.mark === b.mark &&
  sameDst(a.from, b.from) &&
  sameDst(a.to, b.to);

function eachId(vlan: BridgeVlan, visit: (id: number) => void): void {
  for (let id = vlan.first; id <= (vlan.last ?? vlan.first); id++) visit(id);
}

function inRanges(ids: ReadonlyMap<number, { pvid: boolean; untagged: boolean }>): BridgeVlan[] {
  const out: BridgeVlan[] = [];
  for (const [id, flags] of [...ids].sort(([a], [b]) => a - b)) {
    const before = out.at(-1);
    const joins =
      before !== undefined &&
      !flags.pvid &&
      !before.pvid &&
      (before.last ?? before.first) === id - 1 &&
      before.untagged === flags.untagged;
    if (joins) out[out.length - 1] = { ...before, last: id };
    else out.push({ first: id, ...flags });
  }
  return out;
}

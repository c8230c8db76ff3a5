/** A network namespace in memory and the links in it, for `simulated.ts`. */
import type {
  BridgeVlan,
  Link,
  LinkAddress,
  LinkData,
  Neighbour,
  Route,
  Rule,
  TokenBucket,
  VirtualFunction,
} from "./kernel.ts";
import type { SimulatedTables } from "./simulated-nft.ts";

export const MAIN = 254;

export interface SimLink {
  namespace: Namespace;
  index: number;
  name: string;
  readonly kind: string;
  mac: string;
  mtu: number;
  readonly loopback: boolean;
  up: boolean;
  promisc: boolean;
  allmulti: boolean;
  alias: string | undefined;
  group: number;
  txQueueLength: number;
  master: SimLink | undefined;
  /** Of a veth. */
  peer: SimLink | undefined;
  /** Of what is made on another link. */
  lower: SimLink | undefined;
  readonly uppers: Set<SimLink>;
  data: LinkData | undefined;
  port: { hairpin: boolean; isolated: boolean };
  vlans: BridgeVlan[];
  limit: TokenBucket | undefined;
  /** Where what comes in is sent. */
  redirect: SimLink | undefined;
  readonly sysctls: Map<string, string>;
  readonly device: Link["device"];
  vfs: VirtualFunction[];
  alternativeNames: string[];
}

export type NewLink = Pick<SimLink, "kind" | "name" | "mac" | "mtu" | "loopback"> &
  Partial<Pick<SimLink, "data" | "device" | "vfs">>;
export type OwnedAddress = LinkAddress & { readonly index: number };

export class Namespace {
  readonly name: string;
  readonly cookie: bigint;
  readonly links = new Map<number, SimLink>();
  addresses: OwnedAddress[] = [];
  routes: Route[] = [];
  rules: Rule[];
  neighbours: Neighbour[] = [];
  readonly sysctls = new Map<string, string>([
    ["net/ipv4/ip_forward", "0"],
    ["net/ipv4/tcp_syncookies", "1"],
    ["net/core/somaxconn", "4096"],
  ]);
  readonly tables: SimulatedTables = new Map();
  #lastIndex = 0;

  constructor(name: string, cookie: bigint) {
    this.name = name;
    this.cookie = cookie;
    this.rules = [
      { family: 4, table: 255, priority: 0 },
      { family: 4, table: MAIN, priority: 32_766 },
      { family: 4, table: 253, priority: 32_767 },
      { family: 6, table: 255, priority: 0 },
      { family: 6, table: MAIN, priority: 32_766 },
    ];
  }

  freeIndex(wanted = 0): number {
    if (wanted > 0 && !this.links.has(wanted)) return wanted;
    do this.#lastIndex++;
    while (this.links.has(this.#lastIndex));
    return this.#lastIndex;
  }

  add(link: NewLink): SimLink {
    const made: SimLink = {
      namespace: this,
      index: this.freeIndex(),
      up: false,
      promisc: false,
      allmulti: false,
      alias: undefined,
      group: 0,
      txQueueLength: 1000,
      master: undefined,
      peer: undefined,
      lower: undefined,
      uppers: new Set(),
      port: { hairpin: false, isolated: false },
      vlans: [],
      sysctls: new Map(),
      data: undefined,
      limit: undefined,
      redirect: undefined,
      device: undefined,
      vfs: [],
      alternativeNames: [],
      ...link,
    };
    this.links.set(made.index, made);
    return made;
  }

  byName(name: string): SimLink | undefined {
    for (const link of this.links.values()) if (link.name === name) return link;
    return undefined;
  }

  /** Forgets what hangs on a link: it goes, or goes elsewhere. */
  forget(index: number): void {
    this.addresses = this.addresses.filter((a) => a.index !== index);
    this.routes = this.routes.filter((r) => r.index !== index);
    this.neighbours = this.neighbours.filter((n) => n.index !== index);
  }
}

export function destroy(link: SimLink): void {
  if (!link.namespace.links.delete(link.index)) return;
  link.namespace.forget(link.index);
  link.lower?.uppers.delete(link);
  for (const upper of link.uppers) destroy(upper);
  for (const other of link.namespace.links.values()) if (other.master === link) other.master = undefined;
  if (link.peer !== undefined) destroy(link.peer);
}

export function isRunning(link: SimLink): boolean {
  if (!link.up) return false;
  if (link.kind === "veth") return link.peer?.up === true;
  if (link.lower !== undefined) return link.lower.up;
  if (link.kind !== "bridge") return true;
  for (const port of link.namespace.links.values()) if (port.master === link && isRunning(port)) return true;
  return false;
}

/** What every namespace calls this one. */
export const numberOf = (namespace: Namespace): number => Number(namespace.cookie);

export function show(link: SimLink): Link {
  const parent = link.peer ?? link.lower;
  return {
    index: link.index,
    name: link.name,
    kind: link.kind,
    mac: link.mac,
    mtu: link.mtu,
    up: link.up,
    running: isRunning(link),
    loopback: link.loopback,
    ...(parent === undefined ? {} : { parent: parent.index }),
    ...(parent === undefined || parent.namespace === link.namespace
      ? {}
      : { parentNetnsId: numberOf(parent.namespace) }),
    ...(link.master === undefined ? {} : { master: link.master.index }),
    promisc: link.promisc,
    allmulti: link.allmulti,
    ...(link.alias === undefined ? {} : { alias: link.alias }),
    group: link.group,
    txQueueLength: link.txQueueLength,
    ...(link.data === undefined ? {} : { data: link.data }),
    ...(link.master?.kind !== "bridge" ? {} : { port: { ...link.port } }),
    ...(link.device === undefined ? {} : { device: link.device }),
    ...(link.alternativeNames.length === 0 ? {} : { alternativeNames: [...link.alternativeNames] }),
  };
}

/** Sysctls that each link has, with the value it is born with. */
export const linkSysctls: Readonly<Record<4 | 6, Readonly<Record<string, string>>>> = {
  4: {
    forwarding: "0",
    arp_notify: "0",
    arp_ignore: "0",
    arp_announce: "0",
    proxy_arp: "0",
    rp_filter: "0",
    route_localnet: "0",
    accept_redirects: "1",
    send_redirects: "1",
  },
  6: {
    forwarding: "0",
    disable_ipv6: "0",
    accept_ra: "1",
    accept_dad: "1",
    dad_transmits: "1",
    enhanced_dad: "1",
    keep_addr_on_down: "0",
    ndisc_notify: "0",
    optimistic_dad: "0",
    proxy_ndp: "0",
    accept_redirects: "1",
  },
};

/** The kernel puts a physical device where it began when its namespace goes, under a name that is free there. */
export function fallBack(link: SimLink, initial: Namespace): void {
  link.namespace.links.delete(link.index);
  link.namespace.forget(link.index);
  link.up = false;
  link.index = initial.freeIndex(link.index);
  if (initial.byName(link.name) !== undefined) link.name = `dev${link.index}`;
  link.namespace = initial;
  initial.links.set(link.index, link);
}

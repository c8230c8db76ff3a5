// For plugins that come after another one: its result, and the routes of the interface that it made.
import { Answer } from "./answer";
import { linkList, routeAdd, routeDelete, routeList } from "./calls.generated";
import { Cidr, cidrOf, ipOf } from "./ip";
import { Json } from "./json";
import { conf } from "./plugin";
import { fail, ifname } from "./process";
import { Address, Result, Route } from "./result";
import { ABSENT, UNSET } from "./writer";

/** Where routes are that name no table. Source: linux/rtnetlink.h, `RT_TABLE_MAIN` */
export const MAIN_TABLE: i64 = 254;
/** Who makes the routes that come with addresses. Source: linux/rtnetlink.h, `RTPROT_KERNEL` */
const BY_KERNEL: i64 = 2;
/** Source: linux/ipv6_route.h, `IP6_RT_PRIO_USER` */
const IPV6_METRIC: i64 = 1024;

/** The result of the plugin before. Without one the run ends with error 7. @param what Such as "route by source". */
export function resultBefore(what: string): Result {
  const previous = conf().obj("prevResult");
  if (!previous.exists) {
    fail(
      7,
      "Cannot " + what + ': "prevResult" is missing',
      'Put the plugin behind one that makes an interface, in the "plugins" of the network',
    );
  }
  return Result.of(previous);
}

/** The addresses of the pod's interface in a result; one that does not say whose it is, is its. */
export function ownAddresses(result: Result): Address[] {
  const found: Address[] = [];
  for (let i = 0; i < result.ips.length; i++) {
    const ip = result.ips[i];
    if (ip.index >= 0 && ip.index < result.interfaces.length && result.interfaces[<i32>ip.index].name != ifname()) continue;
    found.push(ip);
  }
  return found;
}

/** A route over a link, as the kernel has it. */
export class LinkRoute {
  to: Cidr;
  gateway: string;
  source: string;
  private scope: i64;
  priority: i64;
  table: i64;
  private mtu: i64;
  private advmss: i64;
  private onlink: bool;
  private protocol: i64;

  constructor(e: Json) {
    this.to = cidrOf(e.str("dst"), "the destination of a route");
    this.gateway = e.str("gateway");
    this.source = e.str("source");
    this.scope = e.int("scope");
    this.priority = e.int("priority");
    this.table = e.int("table", MAIN_TABLE);
    this.mtu = e.int("mtu", ABSENT);
    this.advmss = e.int("advmss", ABSENT);
    this.onlink = e.bool("onlink");
    this.protocol = e.int("protocol");
  }

  get isDefault(): bool {
    return this.to.prefix == 0;
  }

  /** A default route that one made without a priority would be in the place of. */
  get isUsualDefault(): bool {
    return this.isDefault && this.priority == (this.to.ip.family == 4 ? 0 : IPV6_METRIC);
  }

  get isByKernel(): bool {
    return this.protocol == BY_KERNEL;
  }

  /** To IPv6's addresses of the link itself, which each link needs, fe80::/10. */
  get isLinkLocal(): bool {
    return this.to.ip.family == 6 && this.to.prefix >= 10 && this.to.ip.high >> 54 == 0x3fa;
  }

  /** Whether it leads where a route of a result does. */
  leadsTo(route: Route): bool {
    const to = cidrOf(route.dst, "the destination of a route");
    return to.prefix == this.to.prefix && to.network == this.to.network;
  }

  /** Puts a copy into a table. @param source Its source address, in the place of the one it has. */
  addTo(link: i64, table: i64, source: string = ""): Answer {
    const preferred = source != "" ? source : this.source;
    return routeAdd({
      link: link,
      dst: this.to.toString(),
      gateway: this.gateway == "" ? null : this.gateway,
      source: preferred == "" ? null : preferred,
      scope: this.scope,
      priority: this.priority,
      table: table,
      mtu: this.mtu,
      advmss: this.advmss,
      onlink: this.onlink ? 1 : UNSET,
      protocol: this.protocol,
      mode: "append",
    });
  }

  /** Takes this route, and no other to the same place. */
  remove(link: i64): void {
    routeDelete({
      link: link,
      dst: this.to.toString(),
      gateway: this.gateway == "" ? null : this.gateway,
      source: this.source == "" ? null : this.source,
      scope: this.scope,
      priority: this.priority,
      table: this.table,
      protocol: this.protocol,
    }).must();
  }
}

/** The routes over a link in a table, or in all for 0; those without a gateway first, since the others stand on them. */
export function routesOf(link: i64, table: i64 = 0): LinkRoute[] {
  const found: LinkRoute[] = [];
  const byGateway: LinkRoute[] = [];
  const listed = routeList({ link: link }).must().arr("routes");
  for (let e = listed.first; e.here; e = e.next) {
    const route = new LinkRoute(e);
    if (table != 0 && route.table != table) continue;
    (route.gateway == "" ? found : byGateway).push(route);
  }
  return found.concat(byGateway);
}

/** A gateway of a result; "" for what some plugins write where there is none any more, 0.0.0.0 or ::. */
export function realGateway(text: string): string {
  if (text == "") return text;
  const ip = ipOf(text, "a gateway");
  return ip.high == 0 && ip.low == 0 ? "" : text;
}

/** Whether two gateways are the same address. */
export function sameGateway(a: string, b: string): bool {
  if (a == "" || b == "") return a == b;
  return ipOf(a, "a gateway") == ipOf(b, "a gateway");
}

/** The table of the VRF that a link is in; 0 for none. */
export function tableOfVrf(link: Answer): i64 {
  const master = link.int("master");
  if (master == 0) return 0;
  for (let e = linkList({}).must().arr("links").first; e.here; e = e.next) {
    if (e.int("index") == master && e.str("kind") == "vrf") return e.obj("data").int("table");
  }
  return 0;
}

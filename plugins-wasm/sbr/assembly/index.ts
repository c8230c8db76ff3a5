// sbr: routes by source. What has an address of the interface as its source finds the routes of that interface in a
// table of its own, so that an answer leaves by the interface that the question came in by.
import {
  Address,
  checkRoutes,
  Cidr,
  cidrOf,
  conf,
  decimal,
  differs,
  fail,
  ifname,
  ipOf,
  linkOpen,
  LinkRoute,
  MAIN_TABLE,
  ownAddresses,
  plugin,
  previousResult,
  realGateway,
  Result,
  resultBefore,
  Route,
  routeAdd,
  routesOf,
  ruleAdd,
  ruleList,
  sameGateway,
  tableFind,
  tableOfVrf,
} from "../../sdk/assemblyscript/assembly";

const FIRST_TABLE: i64 = 100;

/** An address of the interface, and the table that packets from it are routed by. */
class Source {
  table: i64 = 0;
  /** What was put into the table, but for the default route to `gateway`. */
  routes: LinkRoute[] = [];

  constructor(
    public own: Cidr,
    /** "" for none. */
    public gateway: string,
    /** The gateway is the configuration's, and comes before any other default route. */
    public chosen: bool,
  ) {}

  get from(): string {
    return this.own.ip.toString() + "/" + decimal(this.own.ip.bits);
  }

  /**
   * Whether a route is for this source: it is over this address or a gateway of its subnet. One of which that can be
   * said of no address is for all of its family.
   */
  owns(route: LinkRoute, all: Source[]): bool {
    if (route.to.ip.family != this.own.ip.family) return false;
    if (this.touches(route)) return true;
    for (let i = 0; i < all.length; i++) if (all[i].touches(route)) return false;
    return true;
  }

  private touches(route: LinkRoute): bool {
    if (route.source != "" && this.own.contains(ipOf(route.source, "a source address"))) return true;
    return route.gateway != "" && this.own.contains(ipOf(route.gateway, "a gateway"));
  }
}

/** The gateway that the configuration gives for a family; "" for none. */
function chosenGateway(family: i32): string {
  for (let e = conf().arr("gateways").first; e.here; e = e.next) if (ipOf(e.text, "a gateway").family == family) return e.text;
  return "";
}

function checkGateways(): void {
  let before = "";
  for (let e = conf().arr("gateways").first; e.here; e = e.next) {
    if (before != "" && ipOf(e.text, "a gateway").family == ipOf(before, "a gateway").family) {
      fail(
        7,
        'Cannot use "gateways": "' + before + '" and "' + e.text + '" are of one family',
        "Give at most one IPv4 and one IPv6 gateway",
      );
    }
    before = e.text;
  }
}

function sourcesOf(before: Result): Source[] {
  const addresses: Address[] = ownAddresses(before);
  if (addresses.length == 0) {
    fail(
      7,
      'Cannot route by source: the plugins before gave "' + ifname() + '" no address',
      'Give the network "ipam", or take "sbr" out of its plugins',
    );
  }
  const sources: Source[] = [];
  for (let i = 0; i < addresses.length; i++) {
    const own = cidrOf(addresses[i].address, "an address");
    const chosen = chosenGateway(own.ip.family);
    sources.push(new Source(own, chosen != "" ? chosen : realGateway(addresses[i].gateway), chosen != ""));
  }
  return sources;
}

function addDefault(link: i64, source: Source): void {
  const answer = routeAdd({
    link: link,
    dst: source.own.ip.family == 4 ? "0.0.0.0/0" : "::/0",
    gateway: source.gateway,
    table: source.table,
  });
  if (!answer.failed) return;
  if (answer.code != 123) answer.emit();
  fail(
    7,
    'Cannot route packets from "' + source.from + '" by the gateway "' + source.gateway + '": ' + answer.str("details"),
    'Give a gateway that "' + ifname() + '" reaches' + (source.chosen ? ', in "gateways"' : ", in the configuration of IPAM"),
  );
}

/** Fills the table of a source with the routes over the link that are its. */
function fill(link: i64, source: Source, all: Source[], routes: LinkRoute[]): void {
  let hasDefault = false;
  for (let i = 0; i < routes.length; i++) {
    const route = routes[i];
    if (!source.owns(route, all)) continue;
    if (route.isUsualDefault) {
      if (source.chosen) continue;
      hasDefault = true;
    }
    route.addTo(link, source.table).must();
    source.routes.push(route);
  }
  if (source.gateway != "" && !hasDefault) addDefault(link, source);
}

/** The first address of a route's subnet, when the route leads to a subnet of the interface's own; "" for another route. */
function subnetOwner(route: LinkRoute, sources: Source[]): string {
  for (let i = 0; i < sources.length; i++) {
    const own = sources[i].own;
    if (own.prefix < own.ip.bits && own.prefix == route.to.prefix && own.network == route.to.network) return own.ip.toString();
  }
  return "";
}

/** In the main table, leaves what leads to the link itself, with the address as the source of what has none yet. */
function hint(link: i64, sources: Source[], routes: LinkRoute[]): void {
  for (let i = routes.length - 1; i >= 0; i--) {
    const route = routes[i];
    if (route.isLinkLocal) continue;
    const owner = subnetOwner(route, sources);
    if (owner == "") {
      if (route.gateway != "") route.remove(link);
    } else if (route.source == "") {
      route.remove(link);
      route.addTo(link, MAIN_TABLE, owner).must();
    }
  }
  for (let i = 0; i < sources.length; i++) {
    const own = sources[i].own;
    if (own.prefix == own.ip.bits) continue;
    let found = false;
    for (let r = 0; r < routes.length; r++) {
      found = found || (routes[r].to.prefix == own.prefix && routes[r].to.network == own.network);
    }
    for (let s = 0; s < i; s++) found = found || (sources[s].own.prefix == own.prefix && sources[s].own.network == own.network);
    if (!found) {
      routeAdd({ link: link, dst: own.network.toString() + "/" + decimal(own.prefix), source: own.ip.toString() }).must();
    }
  }
}

/** The routes of a result, each in the table or tables that it is in now. */
function moved(before: Route[], sources: Source[]): Route[] {
  const now: Route[] = [];
  for (let i = 0; i < before.length; i++) {
    const route = before[i];
    if (route.table > 0 && route.table != MAIN_TABLE) {
      now.push(route);
      continue;
    }
    let found = false;
    for (let s = 0; s < sources.length; s++) {
      const source = sources[s];
      for (let r = 0; r < source.routes.length; r++) {
        const there = source.routes[r];
        if (!there.leadsTo(route) || (route.gateway != "" && !sameGateway(route.gateway, there.gateway))) continue;
        now.push(route.inTable(source.table));
        found = true;
        break;
      }
      if (found || !route.isDefault || !source.chosen || source.own.ip.family != cidrOf(route.dst, "a destination").ip.family) continue;
      const chosen = route.inTable(source.table);
      chosen.gateway = source.gateway;
      now.push(chosen);
    }
    if (!found && !(route.isDefault && chosenGateway(cidrOf(route.dst, "a destination").ip.family) != "")) now.push(route);
  }
  return now;
}

function add(): void {
  checkGateways();
  const result = resultBefore("route by source");
  const link = linkOpen({}).must();
  const sources = sourcesOf(result);
  const given = conf().int("table");
  const ofVrf = given > 0 ? 0 : tableOfVrf(link);
  if (given > 0 || ofVrf > 0) {
    for (let i = 0; i < sources.length; i++) {
      const source = sources[i];
      source.table = given > 0 ? given : ofVrf;
      ruleAdd({ from: source.from, table: source.table }).must();
      if (ofVrf > 0) completeVrf(link.link, source, result);
    }
  } else {
    const routes = routesOf(link.link, MAIN_TABLE);
    let next = FIRST_TABLE;
    for (let i = 0; i < sources.length; i++) {
      const source = sources[i];
      source.table = tableFind({ from: next }).must().int("table");
      next = source.table + 1;
      ruleAdd({ from: source.from, table: source.table }).must();
      fill(link.link, source, sources, routes);
    }
    if (conf().bool("addSourceHints")) hint(link.link, sources, routes);
    else for (let i = routes.length - 1; i >= 0; i--) if (!routes[i].isLinkLocal) routes[i].remove(link.link);
    result.routes = moved(result.routes, sources);
  }
  result.emitOver(conf().obj("prevResult"));
}

/** In a VRF the interface has a table of its own already: all it may lack is the default route. */
function completeVrf(link: i64, source: Source, result: Result): void {
  const routes = routesOf(link, source.table);
  let hasDefault = source.gateway == "";
  for (let i = 0; i < routes.length; i++) {
    const route = routes[i];
    if (!route.isUsualDefault || route.to.ip.family != source.own.ip.family) continue;
    if (source.chosen && !sameGateway(source.gateway, route.gateway)) route.remove(link);
    else hasDefault = true;
  }
  if (!hasDefault) addDefault(link, source);
  for (let i = 0; i < result.routes.length; i++) {
    const route = result.routes[i];
    if (!source.chosen || !route.isDefault || route.table != source.table) continue;
    if (cidrOf(route.dst, "a destination").ip.family == source.own.ip.family) route.gateway = source.gateway;
  }
}

function check(): void {
  const before = previousResult();
  const link = linkOpen({});
  if (link.failed) differs('interface "' + ifname() + '" is not there: ' + link.str("msg"));
  const rules = ruleList({}).must().arr("rules");
  const routes = routesOf(link.link);
  const given = conf().int("table");
  const sources = sourcesOf(before);
  for (let i = 0; i < sources.length; i++) {
    const source = sources[i];
    for (let e = rules.first; e.here; e = e.next) {
      if (e.str("from") == source.from && (given == 0 || e.int("table") == given)) source.table = e.int("table");
    }
    if (source.table == 0) differs('no rule has packets from "' + source.from + '" routed by a table of their own');
    if (given > 0) continue;
    let any = false;
    let hasDefault = source.gateway == "";
    for (let r = 0; r < routes.length; r++) {
      const route = routes[r];
      if (route.table != source.table || route.to.ip.family != source.own.ip.family || route.isLinkLocal) continue;
      any = true;
      if (route.isDefault && (!source.chosen || sameGateway(source.gateway, route.gateway))) hasDefault = true;
    }
    const inTable = "in table " + decimal(source.table) + ", for packets from " + '"' + source.from + '"';
    if (!hasDefault) differs("there is no default route by " + '"' + ifname() + '" ' + inTable);
    if (!any) differs("there is no route by " + '"' + ifname() + '" ' + inTable);
  }
  if (given == 0) checkRoutes(link, before);
}

plugin(add, { check: check });

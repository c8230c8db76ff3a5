// route-override: other routes over the pod's interface than the plugins before it made.
import {
  ABSENT,
  Answer,
  checkRoutes,
  Cidr,
  cidrOf,
  conf,
  decimal,
  differs,
  fail,
  ifname,
  Json,
  linkOpen,
  LinkRoute,
  MAIN_TABLE,
  plugin,
  previousResult,
  realGateway,
  Result,
  resultBefore,
  Route,
  routeAdd,
  routesOf,
  sameGateway,
  tableOfVrf,
} from "../../sdk/assemblyscript/assembly";

/** The document that has a key: what the pod's annotation says comes before the configuration. */
function holderOf(key: string): Json {
  const args = conf().obj("args").obj("cni");
  return args.has(key) ? args : conf();
}

const flag = (key: string): bool => holderOf(key).bool(key);

/** The subnet that a text names; host bits are left out. */
function subnetOf(text: string): string {
  const to = cidrOf(text, "the destination of a route");
  return new Cidr(to.network, to.prefix).toString();
}

const familyOf = (text: string): i32 => cidrOf(text, "the destination of a route").ip.family;

/** The routes of a key, as a result has them. */
function listed(key: string): Route[] {
  const routes: Route[] = [];
  for (let e = holderOf(key).arr(key).first; e.here; e = e.next) {
    const route = new Route(subnetOf(e.str("dst")));
    route.gateway = e.str("gw");
    route.mtu = positive(e, "mtu");
    route.advmss = positive(e, "advmss");
    route.priority = positive(e, "priority");
    route.table = positive(e, "table");
    route.scope = e.int("scope", ABSENT);
    routes.push(route);
  }
  return routes;
}

function positive(e: Json, key: string): i64 {
  const value = e.int(key);
  return value > 0 ? value : ABSENT;
}

function refuseUnknown(key: string): void {
  if (!holderOf(key).has(key)) return;
  fail(
    7,
    'Cannot use "' + key + '": routes over several gateways at once are not supported',
    'Take "' + key + '" out, or give one gateway in "addroutes"',
  );
}

/** Whether `flushroutes` is about a route. */
const isFlushed = (route: LinkRoute): bool => route.isDefault || (route.gateway != "" && !route.isLinkLocal);

function leadsToAny(route: LinkRoute, list: Route[]): bool {
  for (let i = 0; i < list.length; i++) if (route.leadsTo(list[i])) return true;
  return false;
}

/** What stands over the interface, and what of it is to go. */
class Routes {
  private left: LinkRoute[];

  constructor(
    private link: i64,
    /** The one that the interface uses: the main table, or that of its VRF. */
    public table: i64,
  ) {
    this.left = routesOf(link, table);
  }

  /** Takes away the routes that lead somewhere, those that stand on others first. */
  remove(dst: string): void {
    const kept: LinkRoute[] = [];
    const wanted = new Route(dst);
    for (let i = this.left.length - 1; i >= 0; i--) {
      if (this.left[i].leadsTo(wanted)) this.left[i].remove(this.link);
      else kept.unshift(this.left[i]);
    }
    this.left = kept;
  }

  /** Takes away what goes by a gateway, and every default route. */
  flush(): void {
    const kept: LinkRoute[] = [];
    for (let i = this.left.length - 1; i >= 0; i--) {
      const route = this.left[i];
      if (isFlushed(route)) route.remove(this.link);
      else kept.unshift(route);
    }
    this.left = kept;
  }

  isIn(table: i64): bool {
    return table <= 0 || table == this.table;
  }

  /** The route that one of a result stands for, if it is still there. */
  find(route: Route): LinkRoute | null {
    for (let i = 0; i < this.left.length; i++) if (this.left[i].leadsTo(route)) return this.left[i];
    return null;
  }

  /** Adds a route; one that is there already is as good. */
  add(route: Route): void {
    const table = route.table > 0 ? route.table : this.table;
    const answer = routeAdd({
      link: this.link,
      dst: route.dst,
      gateway: route.gateway == "" ? null : route.gateway,
      scope: route.scope,
      priority: route.priority,
      table: table,
      mtu: route.mtu,
      advmss: route.advmss,
    });
    if (!answer.failed) return;
    if (answer.code != 123) answer.emit();
    const there = this.similar(route, table);
    if (there && sameGateway(there.gateway, route.gateway)) return;
    const by = route.gateway == "" ? "" : ' by "' + route.gateway + '"';
    const what = 'Cannot add the route to "' + route.dst + '"' + by + ' over "' + ifname() + '": ';
    if (there) fail(7, what + "there is one" + (there.gateway == "" ? " already" : ' by "' + there.gateway + '"'), 'Name it in "delroutes", or give the new one another "priority"');
    fail(7, what + answer.str("details"), 'Give a gateway in "addroutes" that the interface reaches');
  }

  /** The route in whose place a new one would be. */
  private similar(route: Route, table: i64): LinkRoute | null {
    const all = routesOf(this.link, table);
    for (let i = 0; i < all.length; i++) {
      const usual: i64 = all[i].to.ip.family == 4 ? 0 : 1024;
      if (all[i].leadsTo(route) && all[i].priority == (route.priority > 0 ? route.priority : usual)) return all[i];
    }
    return null;
  }
}

/** The first gateway of a family that the plugins before gave; "" for none. */
function gatewayBefore(result: Result, family: i32): string {
  for (let i = 0; i < result.ips.length; i++) {
    const gateway = realGateway(result.ips[i].gateway);
    if (gateway != "" && cidrOf(result.ips[i].address, "an address").ip.family == family) return gateway;
  }
  return "";
}

function open(link: Answer): Routes {
  const ofVrf = tableOfVrf(link);
  return new Routes(link.link, ofVrf > 0 ? ofVrf : MAIN_TABLE);
}

function add(): void {
  refuseUnknown("addecmproutes");
  refuseUnknown("delecmproutes");
  const result = resultBefore("change routes");
  const routes = open(linkOpen({}).must());
  const gateway4 = gatewayBefore(result, 4);
  const gateway6 = gatewayBefore(result, 6);

  if (flag("flushroutes")) routes.flush();
  else {
    const unwanted = listed("delroutes");
    for (let i = 0; i < unwanted.length; i++) {
      if (names(result.routes, unwanted[i], routes)) routes.remove(unwanted[i].dst);
    }
  }
  if (flag("flushgateway")) {
    routes.remove("0.0.0.0/0");
    routes.remove("::/0");
    for (let i = 0; i < result.ips.length; i++) result.ips[i].gateway = "";
  }
  const now: Route[] = [];
  for (let i = 0; i < result.routes.length; i++) {
    const route = result.routes[i];
    if (routes.isIn(route.table)) {
      const there = routes.find(route);
      if (!there) continue;
      // The result names no gateway any more that it could go by.
      if (route.gateway == "" && flag("flushgateway")) route.gateway = there.gateway;
    }
    now.push(route);
  }
  const wanted = listed("addroutes");
  for (let i = 0; i < wanted.length; i++) {
    const route = wanted[i];
    if (route.gateway == "") route.gateway = familyOf(route.dst) == 4 ? gateway4 : gateway6;
    routes.add(route);
    if (route.table < 0 && routes.table != MAIN_TABLE) route.table = routes.table;
    now.push(route);
  }
  result.routes = now;
  result.emitOver(conf().obj("prevResult"));
}

/** Whether a list has a route to a destination in the interface's table. */
function names(list: Route[], wanted: Route, routes: Routes): bool {
  for (let i = 0; i < list.length; i++) if (routes.isIn(list[i].table) && subnetOf(list[i].dst) == wanted.dst) return true;
  return false;
}

function check(): void {
  if (flag("skipcheck")) return;
  const before = previousResult();
  const link = linkOpen({});
  if (link.failed) differs('interface "' + ifname() + '" is not there: ' + link.str("msg"));
  const flushed = flag("flushroutes");
  const gone = flushed ? [] as Route[] : listed("delroutes");
  if (flag("flushgateway")) {
    gone.push(new Route("0.0.0.0/0"));
    gone.push(new Route("::/0"));
  }
  const ofVrf = tableOfVrf(link);
  const routes = routesOf(link.link, ofVrf > 0 ? ofVrf : MAIN_TABLE);
  for (let i = 0; i < routes.length; i++) {
    const route = routes[i];
    if (route.isByKernel || leadsToAny(route, before.routes)) continue; // the kernel's own come back with the link
    if (leadsToAny(route, gone) || (flushed && isFlushed(route))) {
      differs('the route to "' + route.to.toString() + '" over "' + ifname() + '" is back, in table ' + decimal(route.table));
    }
  }
  checkRoutes(link, before);
}

plugin(add, { check: check });

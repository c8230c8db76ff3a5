// vrf: the interface becomes a member of a VRF of the pod, whose table then has its routes.
import {
  addrAdd,
  addrList,
  Answer,
  checkRoutes,
  cidrOf,
  conf,
  decimal,
  differs,
  fail,
  ifname,
  Json,
  linkCreate,
  linkList,
  linkOpen,
  LinkRoute,
  linkSet,
  linkWait,
  MAIN_TABLE,
  plugin,
  previousResult,
  Result,
  resultBefore,
  routesOf,
  sameGateway,
  tableFind,
} from "../../sdk/assemblyscript/assembly";

/** How long the addresses may take to be usable again. */
const SETTLE_MS = 2500;

const vrfName = (): string => conf().str("vrfname");

/** A link of the pod, by its name or its index; null when there is none. */
function named(links: Json, name: string): Json | null {
  for (let e = links.first; e.here; e = e.next) if (e.str("name") == name) return e;
  return null;
}
function indexed(links: Json, index: i64): Json | null {
  for (let e = links.first; e.here; e = e.next) if (e.int("index") == index) return e;
  return null;
}

const tableOf = (vrf: Json): i64 => vrf.obj("data").int("table");

/** The table that the VRF has, or is to have. */
function chooseTable(links: Json): i64 {
  const wanted = conf().int("table");
  const there = named(links, vrfName());
  if (there) {
    if (there.str("kind") != "vrf") {
      const kind = there.str("kind") == "" ? "another kind" : 'kind "' + there.str("kind") + '"';
      fail(7, 'Cannot use "' + vrfName() + '" as a VRF: the pod has a link of that name, of ' + kind, 'Give another "vrfname"');
    }
    if (wanted > 0 && wanted != tableOf(there)) {
      fail(
        7,
        'Cannot give VRF "' + vrfName() + '" table ' + decimal(wanted) + ": the pod has it with table " + decimal(tableOf(there)),
        'Give all networks of a VRF the same "table", or each another "vrfname"',
      );
    }
    return tableOf(there);
  }
  if (wanted == 0) return tableFind({ from: 1 }).must().int("table");
  for (let e = links.first; e.here; e = e.next) {
    if (e.str("kind") != "vrf" || tableOf(e) != wanted) continue;
    fail(
      7,
      'Cannot give VRF "' + vrfName() + '" table ' + decimal(wanted) + ': it is that of VRF "' + e.str("name") + '" of the pod',
      'Give each VRF a "table" of its own, or none',
    );
  }
  return wanted;
}

function refuseMember(link: Answer, links: Json): void {
  const index = link.int("master");
  if (index == 0) return;
  const master = indexed(links, index);
  fail(
    233,
    'Cannot put "' + ifname() + '" into VRF "' + vrfName() + '": it belongs to "' + (master ? master.str("name") : decimal(index)) + '" already',
    "Name one VRF or bridge for an interface",
  );
}

/** Gives back the IPv6 addresses that the change has cost the link, and waits until they can be used. */
function restoreAddresses(link: i64, before: Json): void {
  const now = addrList({ link: link }).must().arr("addresses");
  let ipv6 = false;
  for (let e = before.first; e.here; e = e.next) {
    const address = e.str("address");
    if (e.int("scope") != 0 || cidrOf(address, "an address").ip.family == 4) continue;
    ipv6 = true;
    let kept = false;
    for (let n = now.first; n.here; n = n.next) kept = kept || n.str("address") == address;
    if (kept) continue;
    addrAdd({
      link: link,
      address: address,
      noDad: e.bool("noDad") ? 1 : 0,
      noPrefixRoute: e.bool("noPrefixRoute") ? 1 : 0,
    }).must();
  }
  if (!ipv6 || linkWait({ link: link, "for": "addresses", timeoutMs: SETTLE_MS }).must().bool("ready")) return;
  // A link without carrier never settles, and that is no fault of its addresses.
  if (!linkWait({ link: link, "for": "running", timeoutMs: 0 }).must().bool("ready")) return;
  fail(
    202,
    'Cannot use the IPv6 addresses of "' + ifname() + '" in VRF "' + vrfName() + '": duplicate address detection took more than 2.5 s',
    "Look for loss or loops on the network, or turn detection off with the sysctl accept_dad",
  );
}

function has(routes: LinkRoute[], wanted: LinkRoute, table: i64): bool {
  for (let i = 0; i < routes.length; i++) {
    const route = routes[i];
    if (route.table != table || route.priority != wanted.priority || !sameGateway(route.gateway, wanted.gateway)) continue;
    if (route.to.prefix == wanted.to.prefix && route.to.network == wanted.to.network) return true;
  }
  return false;
}

/** The routes that the change has cost the link: those of the main table come into the VRF's, the others where they were. */
function restoreRoutes(link: i64, before: LinkRoute[], table: i64): void {
  const now = routesOf(link);
  // The kernel makes its own anew, also one that a plugin has taken away for a reason.
  for (let i = 0; i < now.length; i++) {
    const route = now[i];
    if (route.isByKernel && route.table == table && !route.isLinkLocal && !has(before, route, MAIN_TABLE)) route.remove(link);
  }
  for (let i = 0; i < before.length; i++) {
    const route = before[i];
    const to = route.table == MAIN_TABLE ? table : route.table;
    if (route.isLinkLocal && route.table == MAIN_TABLE) continue;
    // The address is the VRF's now, and the kernel takes it as a source in no other table.
    if (to != table) route.source = "";
    if (!has(now, route, to)) route.addTo(link, to).must();
  }
}

/** The result, with the new table in each route that is in it now. */
function moveRoutes(result: Result, before: LinkRoute[], table: i64): void {
  for (let i = 0; i < result.routes.length; i++) {
    const route = result.routes[i];
    if (route.table > 0 && route.table != MAIN_TABLE) continue;
    for (let b = 0; b < before.length; b++) {
      if (before[b].table != MAIN_TABLE || !before[b].leadsTo(route)) continue;
      route.table = table;
      break;
    }
  }
}

function add(): void {
  const result = resultBefore('use VRF "' + vrfName() + '"');
  const link = linkOpen({}).must();
  const links = linkList({}).must().arr("links");
  refuseMember(link, links);
  const table = chooseTable(links);
  const addresses = addrList({ link: link.link }).must().arr("addresses");
  const routes = routesOf(link.link);
  const vrf = linkCreate({ kind: "vrf", "in": "pod", scope: "pod", name: vrfName(), table: table, up: 1 }).must();
  linkSet({ link: link.link, master: vrf.link }).must();
  restoreAddresses(link.link, addresses);
  restoreRoutes(link.link, routes, table);
  moveRoutes(result, routes, table);
  result.emitOver(conf().obj("prevResult"));
}

function check(): void {
  const before = previousResult();
  const link = linkOpen({});
  if (link.failed) differs('interface "' + ifname() + '" is not there: ' + link.str("msg"));
  const vrf = named(linkList({}).must().arr("links"), vrfName());
  if (!vrf || vrf.str("kind") != "vrf") differs('VRF "' + vrfName() + '" is not there');
  const wanted = conf().int("table");
  if (wanted > 0 && tableOf(vrf!) != wanted) {
    differs('VRF "' + vrfName() + '" has table ' + decimal(tableOf(vrf!)) + ", expected " + decimal(wanted));
  }
  if (!vrf!.bool("up")) differs('VRF "' + vrfName() + '" is down');
  if (link.int("master") != vrf!.int("index")) differs('interface "' + ifname() + '" is not in VRF "' + vrfName() + '"');
  checkRoutes(link, before);
}

plugin(add, { check: check });

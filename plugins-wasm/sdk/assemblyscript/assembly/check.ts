// CHECK: does what an earlier ADD answered still stand? Every difference ends the run with error 210.
import { addrList, ipamCheck, linkOpen, nftCheck, routeList } from "./calls.generated";
import { Answer } from "./answer";
import { addressTexts, hasIpam } from "./interface";
import { Cidr, cidrOf, ipOf } from "./ip";
import { Json } from "./json";
import { conf } from "./plugin";
import { env, fail, ifname } from "./process";
import { Interface, Result, Route } from "./result";
import { MAIN_TABLE } from "./routes";

/** Ends a CHECK: something is not as ADD left it. */
export function differs(message: string): void {
  fail(210, "Cannot confirm the attachment: " + message, "Delete the pod so that its network is made anew");
}

/** The result of ADD, which CHECK compares with; without it the run ends with error 7. */
export function previousResult(): Result {
  const previous = conf().obj("prevResult");
  if (!previous.exists) {
    fail(7, 'Cannot check the attachment: "prevResult" is missing', "Give CHECK the result of ADD, as the CNI specification asks");
  }
  return Result.of(previous);
}

/** The result of the plugins before, which a plugin that makes no interface of its own works on; error 7 without it. */
export function chainedResult(): Result {
  const previous = conf().obj("prevResult");
  if (!previous.exists) {
    const type = conf().str("type");
    fail(
      7,
      'Cannot run "' + type + '" by itself: "prevResult" is missing',
      'Put "' + type + '" into a list, behind the plugin that makes the interface',
    );
  }
  return Result.of(previous);
}

/** The index of the pod's interface among those of a result. */
export function podInterface(result: Result): i32 {
  const name = ifname();
  const sandbox = env("CNI_NETNS");
  let elsewhere = "";
  for (let i = 0; i < result.interfaces.length; i++) {
    const e = result.interfaces[i];
    if (e.name != name) continue;
    if (e.sandbox == sandbox) return i;
    elsewhere = e.sandbox;
  }
  if (elsewhere != "") differs('"' + name + '" was made in "' + elsewhere + '", not in "' + sandbox + '"');
  differs('the earlier result names no interface "' + name + '"');
  return -1;
}

/** Opens a link that has to be there, of a kind and with the MAC address that the result names. */
export function checkLink(place: string, expected: Interface, kind: string): Answer {
  return checkOpened(linkOpen({ "in": place, name: expected.name }), expected, kind);
}

/** Opens a link of the node that has to be there; null for one of another kind, which a plugin behind this one made. */
export function checkHostLink(expected: Interface, kind: string): Answer | null {
  const link = linkOpen({ "in": "host", name: expected.name });
  if (!link.failed && link.str("kind") != kind) return null;
  return checkOpened(link, expected, kind);
}

function checkOpened(link: Answer, expected: Interface, kind: string): Answer {
  if (link.failed) differs('interface "' + expected.name + '" is not there: ' + link.str("msg"));
  if (link.str("kind") != kind) {
    differs('interface "' + expected.name + '" is of kind "' + link.str("kind") + '", expected "' + kind + '"');
  }
  const mac = link.str("mac");
  if (expected.mac != "" && expected.mac != mac) {
    differs('interface "' + expected.name + '" has MAC address "' + mac + '", expected "' + expected.mac + '"');
  }
  return link;
}

function hasAddress(listed: Json, wanted: Cidr): bool {
  for (let e = listed.first; e.here; e = e.next) {
    const found = cidrOf(e.str("address"), "an address");
    if (found.prefix == wanted.prefix && found.ip == wanted.ip) return true;
  }
  return false;
}

/** Every address must be on the link. */
export function checkAddresses(link: Json, wanted: string[]): void {
  if (wanted.length == 0) return;
  const listed = addrList({ link: link.int("link") }).must().arr("addresses");
  for (let i = 0; i < wanted.length; i++) {
    if (!hasAddress(listed, cidrOf(wanted[i], "an address"))) {
      differs('interface "' + link.str("name") + '" has not the address "' + wanted[i] + '"');
    }
  }
}

function sameRoute(e: Json, wanted: Route, gateway: string): bool {
  if (e.int("table", MAIN_TABLE) != (wanted.table > 0 ? wanted.table : MAIN_TABLE)) return false;
  if (wanted.priority > 0 && e.int("priority", 0) != wanted.priority) return false;
  const to = cidrOf(wanted.dst, "the destination of a route");
  const dst = e.str("dst");
  if (dst == "" || dst == "default") {
    if (to.prefix != 0) return false;
    if (e.int("family", to.ip.family) != to.ip.family) return false;
  } else {
    const found = cidrOf(dst, "the destination of a route");
    if (found.prefix != to.prefix || !(found.network == to.network)) return false;
  }
  const by = e.str("gateway");
  return gateway == "" || (by != "" && ipOf(by, "a gateway") == ipOf(gateway, "a gateway"));
}

/** Every route of the result must go through the link, by its gateway if it names one. */
export function checkRoutes(link: Json, result: Result): void {
  if (result.routes.length == 0) return;
  const listed = routeList({ link: link.int("link") }).must().arr("routes");
  for (let i = 0; i < result.routes.length; i++) {
    const route = result.routes[i];
    let found = false;
    // A gateway of zeros is how an IPAM says that there is none, though its addresses have one.
    const gateway = route.gateway == "0.0.0.0" || route.gateway == "::" ? "" : route.gateway;
    for (let e = listed.first; e.here && !found; e = e.next) found = sameRoute(e, route, gateway);
    if (!found) differs('no route to "' + route.dst + '" goes through "' + link.str("name") + '"');
  }
}

/** The addresses of the interface at `index`, or all of a result that does not say whose they are. */
export function addressesOf(result: Result, index: i32): string[] {
  const texts: string[] = [];
  for (let i = 0; i < result.ips.length; i++) {
    const ip = result.ips[i];
    if (ip.index < 0 || ip.index == index) texts.push(ip.address);
  }
  return texts;
}

/** The leases must still be the attachment's. */
export function checkIpam(): void {
  if (hasIpam()) ipamCheck({}).must();
}

/** The rule that hides the pod's addresses must be there. */
export function checkMasquerade(result: Result): void {
  if (!nftCheck({ rule: "masquerade", addresses: addressTexts(result.ips) }).must().bool("present")) {
    differs("the masquerading of its addresses is gone");
  }
}

// What several plugins do with links. Every plugin of this project that makes a link on the node goes through here.
import { Answer } from "./answer";
import {
  LinkConfigureAddress,
  LinkConfigureRoute,
  LinkConfigureSysctl,
  LinkCreatePeer,
  linkConfigure,
  linkCreate,
  linkWait,
  nftApply,
  sysctlSet,
} from "./calls.generated";
import { cidrOf, ipOf } from "./ip";
import { Json } from "./json";
import { conf } from "./plugin";
import { cniArg, fail } from "./process";
import { Address, Result } from "./result";
import { ABSENT } from "./writer";

/** How long duplicate address detection may take. */
const SETTLE_MS = 5000;

/** A pair of virtual Ethernet links: one end in the pod, one on the node. */
export class Veth {
  constructor(
    public pod: Json,
    public host: Json,
  ) {}
}

/**
 * Makes the pod's interface as one end of a pair. The node's end gets a name of the host's choice.
 *
 * @param mac "" for one of the host's choice.
 * @param peer What the node's end becomes; its place and MTU are filled in.
 */
export function makeVeth(mtu: i64, mac: string, peer: LinkCreatePeer = {}): Veth {
  const asked = mtu > 0 ? mtu : ABSENT;
  peer.in = "host";
  peer.mtu = asked;
  const pod = linkCreate({ kind: "veth", "in": "pod", mtu: asked, mac: mac == "" ? null : mac, peer: peer }).must();
  return new Veth(pod, pod.obj("peer"));
}

/**
 * A sysctl of a link, set where that can be done: without IPv6, with /proc/sys read-only or without the grant the link
 * works all the same.
 *
 * @param key With `<link>` in the place of the interface's name.
 */
export function trySysctl(key: string, value: string): LinkConfigureSysctl {
  return { key: key, value: value, optional: 1 };
}

/**
 * Gives a link the result's addresses and routes, brings it up, and waits until IPv6 addresses may be used when there is
 * an IPv6 gateway. An address of the result that belongs to another interface is an error. A route without a gateway
 * goes by the first gateway of its family; with none it is a route to the link itself.
 *
 * @param sysctls Set before, in their order.
 */
export function configureInterface(link: Json, result: Result, sysctls: LinkConfigureSysctl[] = []): void {
  const handle = link.int("link");
  const addresses: LinkConfigureAddress[] = [];
  let ipv6 = false;
  for (let i = 0; i < result.ips.length; i++) {
    const ip = result.ips[i];
    if (ip.index < 0) continue;
    if (ip.index >= result.interfaces.length || result.interfaces[<i32>ip.index].name != link.str("name")) {
      fail(
        200,
        'Cannot add address "' + ip.address + '" to "' + link.str("name") + '": it belongs to another interface',
        "Look at the interface indexes that the plugins of this network answer",
      );
    }
    if (!ipv6 && cidrOf(ip.address, "an address").ip.family == 6) ipv6 = true;
    addresses.push({ address: ip.address });
  }
  if (ipv6) {
    sysctlSet({ "in": "pod", key: "net/ipv6/conf/lo/disable_ipv6", value: "0", optional: 1 }).must();
    sysctls.push(trySysctl("net/ipv6/conf/<link>/disable_ipv6", "0"));
    sysctls.push({ key: "net/ipv6/conf/<link>/keep_addr_on_down", value: "1" });
  }
  const routes: LinkConfigureRoute[] = [];
  for (let i = 0; i < result.routes.length; i++) {
    const route = result.routes[i];
    let gateway = route.gateway;
    if (gateway == "") gateway = result.gateway(cidrOf(route.dst, "the destination of a route").ip.family);
    routes.push({
      dst: route.dst,
      gateway: gateway == "" ? null : gateway,
      scope: route.scope,
      priority: route.priority,
      table: route.table,
      mtu: route.mtu,
      advmss: route.advmss,
    });
  }
  linkConfigure({
    link: handle,
    sysctls: sysctls.length > 0 ? sysctls : null,
    addresses: addresses.length > 0 ? addresses : null,
    routes: routes.length > 0 ? routes : null,
  }).must();
  if (ipv6 && result.gateway(6) != "") settle(handle);
}

/** A link without carrier never settles, and that is no fault of its addresses. */
function settle(link: i64): void {
  if (linkWait({ link: link, "for": "addresses", timeoutMs: SETTLE_MS }).must().bool("ready")) return;
  if (!linkWait({ link: link, "for": "running", timeoutMs: 0 }).must().bool("ready")) return;
  fail(
    202,
    "Cannot use the IPv6 addresses of the interface: duplicate address detection took more than 5 s",
    "Look for loss or loops on the network, or turn detection off with the sysctl accept_dad",
  );
}

/** The addresses that IPAM gave; none at all is an error. */
export function needAddresses(ipam: Answer): Answer {
  ipam.must();
  if (!ipam.arr("ips").first.here) {
    fail(
      200,
      'Cannot configure the interface: IPAM plugin "' + conf().obj("ipam").str("type") + '" answered no address',
      'Correct "ipam", or leave it out for an interface without addresses',
    );
  }
  return ipam;
}

/** Ends the run with error 7 when the configuration names no IPAM plugin: the interface is of no use without one. */
export function needIpam(): void {
  if (hasIpam()) return;
  fail(
    7,
    'Cannot run "' + conf().str("type") + '" without addresses: "ipam" is missing',
    'Name an IPAM plugin in "ipam", such as host-local or static',
  );
}

/** Whether the configuration names an IPAM plugin. */
export function hasIpam(): bool {
  return conf().obj("ipam").str("type") != "";
}

/** Lets the node forward packets of the families that the result has addresses of. */
export function enableForwarding(result: Result): void {
  let families = 0;
  for (let i = 0; i < result.ips.length; i++) {
    families |= cidrOf(result.ips[i].address, "an address").ip.family == 4 ? 1 : 2;
  }
  if (families & 1) sysctlSet({ "in": "host", key: "net/ipv4/ip_forward", value: "1" }).must();
  if (families & 2) sysctlSet({ "in": "host", key: "net/ipv6/conf/all/forwarding", value: "1" }).must();
}

/** Lets what leaves the network from the result's addresses leave under the node's own. */
export function masquerade(result: Result): void {
  nftApply({ rule: "masquerade", addresses: addressTexts(result.ips) }).must();
}

export function addressTexts(ips: Address[]): string[] {
  const texts: string[] = [];
  for (let i = 0; i < ips.length; i++) texts.push(ips[i].address);
  return texts;
}

/** The subnet's first host, for an address without a gateway. */
export function firstHost(address: string): string {
  return cidrOf(address, "an address").network.next().toString();
}

/** The gateway of an address. Ends the run when IPAM gave none. */
export function needGateway(ip: Address): string {
  if (ip.gateway == "") {
    fail(
      201,
      'Cannot route to address "' + ip.address + '": IPAM gave no gateway',
      'Give the subnet a "gateway" in the configuration of IPAM',
    );
  }
  return ipOf(ip.gateway, "a gateway").toString();
}

/**
 * The MAC address that was asked for, as `aa:bb:cc:dd:ee:ff`; "" when none was. What comes later wins: `own`,
 * `CNI_ARGS`, `args.cni.mac` if the plugin reads it, `runtimeConfig.mac`.
 */
export function requestedMac(own: string, readArgs: bool): string {
  let mac = own;
  const fromEnvironment = cniArg("MAC");
  if (fromEnvironment != "") mac = fromEnvironment;
  const fromArgs = readArgs ? conf().obj("args").obj("cni").str("mac") : "";
  if (fromArgs != "") mac = fromArgs;
  const fromRuntime = conf().obj("runtimeConfig").str("mac");
  if (fromRuntime != "") mac = fromRuntime;
  return mac == "" ? "" : parseMac(mac);
}

/** Six bytes in one of the notations that Go reads (`aa:bb:…`, `aa-bb-…`, `aabb.ccdd.eeff`), a unicast address. */
export function parseMac(text: string): string {
  const dots = text.length == 14;
  const separator = dots ? 0x2e : text.length == 17 ? text.charCodeAt(2) : 0;
  let out = "";
  let digits = 0;
  let good = separator == 0x3a || separator == 0x2d || dots;
  for (let i = 0; good && i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (dots ? i % 5 == 4 : i % 3 == 2) {
      good = c == separator;
      continue;
    }
    good = <u32>(c - 0x30) <= 9 || <u32>((c | 0x20) - 0x61) < 6;
    if (digits > 0 && digits % 2 == 0) out += ":";
    out += String.fromCharCode(c <= 0x39 ? c : c | 0x20);
    digits++;
  }
  if (!good) refuseMac(text, "expected six bytes such as 0a:58:0a:01:02:03");
  if ((out.charCodeAt(1) - (out.charCodeAt(1) <= 0x39 ? 0x30 : 0x57)) & 1) refuseMac(text, "it is a multicast address");
  if (out == "00:00:00:00:00:00") refuseMac(text, "it is all zeros");
  return out;
}

function refuseMac(text: string, why: string): void {
  fail(7, 'Cannot use "' + text + '" as MAC address: ' + why, "Ask for a unicast address, or leave it out");
}

// ptp: a veth between the pod and the node. Everything goes by the node, even to neighbours in the same subnet.
import {
  addressesOf,
  addrAdd,
  Answer,
  checkAddresses,
  checkHostLink,
  checkIpam,
  checkLink,
  checkMasquerade,
  checkRoutes,
  cidrOf,
  conf,
  configureInterface,
  decimal,
  differs,
  enableForwarding,
  gcOfIpam,
  ipamAdd,
  ipOf,
  Json,
  makeVeth,
  masquerade,
  needAddresses,
  needGateway,
  plugin,
  podInterface,
  previousResult,
  Result,
  routeAdd,
  routeDelete,
  routeList,
  statusOfIpam,
} from "../../sdk/assemblyscript/assembly";

/** Scopes of routes. Source: linux/rtnetlink.h, `enum rt_scope_t` */
const SCOPE_LINK = 253;
const SCOPE_HOST = 254;

/** A single address as a destination. */
function only(address: string): string {
  const ip = ipOf(address, "an address");
  return ip.toString() + "/" + decimal(ip.bits);
}

/** Whether a text is not yet among others; it is then. */
function isNew(text: string, texts: string[]): bool {
  for (let i = 0; i < texts.length; i++) if (texts[i] == text) return false;
  texts.push(text);
  return true;
}

/**
 * The pod's side: the gateway is on the link, and the subnet behind the gateway. The kernel's own route to the subnet
 * would have the pod look for its neighbours on a link that has none; until here it made the gateways of IPAM's routes
 * reachable.
 */
function routeByGateway(link: i64, result: Result): void {
  const known: string[] = [];
  for (let i = 0; i < result.ips.length; i++) {
    const own = cidrOf(result.ips[i].address, "an address");
    const gateway = result.ips[i].gateway;
    const source = own.ip.toString();
    const subnet = own.network.toString() + "/" + decimal(own.prefix);
    const behind = own.prefix < own.ip.bits && isNew(subnet, known); // a subnet of one address is the pod itself
    if (behind) routeDelete({ link: link, dst: subnet, scope: SCOPE_LINK }).must();
    const next = only(gateway);
    if (isNew(next, known)) routeAdd({ link: link, dst: next, scope: SCOPE_LINK, source: source }).must();
    if (behind) routeAdd({ link: link, dst: subnet, gateway: gateway, source: source }).must();
  }
}

/** The node's side: it answers for the gateway, and knows the pod by this link alone. */
function routeToPod(link: i64, result: Result): void {
  const known: string[] = [];
  for (let i = 0; i < result.ips.length; i++) {
    const gateway = only(result.ips[i].gateway);
    // Nobody else can have the address on a link with two ends, so nothing is to be detected.
    if (isNew(gateway, known)) addrAdd({ link: link, address: gateway, noDad: 1 }).must();
    const pod = cidrOf(result.ips[i].address, "an address").ip.toString();
    routeAdd({ link: link, dst: only(pod), scope: SCOPE_HOST }).must();
  }
}

function add(): void {
  const addresses = needAddresses(ipamAdd({}));
  const veth = makeVeth(conf().int("mtu"), "", { up: 1 });
  const host = veth.host.int("link");
  const result = new Result().hostLink(veth.host).link(veth.pod).addresses(addresses);
  for (let i = 0; i < result.ips.length; i++) needGateway(result.ips[i]);
  enableForwarding(result);

  configureInterface(veth.pod, result);
  routeByGateway(veth.pod.int("link"), result);
  routeToPod(host, result);
  if (conf().bool("ipMasq")) masquerade(result);
  result.preferDns(conf().obj("dns")).emit();
}

function check(): void {
  checkIpam();
  const before = previousResult();
  const inPod = podInterface(before);
  const pod = checkLink("pod", before.interfaces[inPod], "veth");
  if (!pod.bool("up")) differs('interface "' + pod.str("name") + '" is down');
  checkAddresses(pod, addressesOf(before, inPod));
  checkRoutes(pod, before);
  for (let i = 0; i < before.interfaces.length; i++) {
    if (before.interfaces[i].sandbox != "") continue;
    const host = checkHostLink(before.interfaces[i], "veth");
    if (host) checkHost(host, pod, before);
  }
  if (conf().bool("ipMasq")) checkMasquerade(before);
}

function checkHost(host: Answer, pod: Answer, before: Result): void {
  if (host.int("parent") != pod.int("index") || pod.int("parent") != host.int("index")) {
    differs('"' + host.str("name") + '" is not the other end of "' + pod.str("name") + '"');
  }
  const listed = routeList({ link: host.link }).must().arr("routes");
  for (let i = 0; i < before.ips.length; i++) {
    const ip = cidrOf(before.ips[i].address, "an address").ip;
    if (!hasRoute(listed, ip.toString() + "/" + decimal(ip.bits))) {
      differs('the node has no route to "' + ip.toString() + '" through "' + host.str("name") + '"');
    }
  }
}

function hasRoute(listed: Json, dst: string): bool {
  for (let e = listed.first; e.here; e = e.next) if (e.str("dst") == dst) return true;
  return false;
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

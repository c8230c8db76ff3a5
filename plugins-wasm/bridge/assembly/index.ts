// bridge: a veth between the pod and a bridge of the node, which is made when it is not there.
import {
  ABSENT,
  addressesOf,
  addrAdd,
  addrDelete,
  addrList,
  Answer,
  BridgeVlanSetVlan,
  bridgeVlanSet,
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
  fail,
  firstHost,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  ipOf,
  Json,
  LinkConfigureSysctl,
  linkConfigure,
  linkCreate,
  linkOpen,
  linkSet,
  linkWait,
  makeVeth,
  masquerade,
  needAddresses,
  nftApply,
  nftCheck,
  plugin,
  podInterface,
  previousResult,
  requestedMac,
  Result,
  Route,
  statusOfIpam,
  trySysctl,
  UNSET,
} from "../../sdk/assemblyscript/assembly";

/** How long the port may take to run: what the reference plugin's attempts add up to. */
const PORT_MS = 2550;

function isGateway(): bool {
  return conf().bool("isGateway") || conf().bool("isDefaultGateway");
}

/** What cannot be said in the manifest's schema, because it concerns more than one key. */
function checkConf(): void {
  if (conf().bool("hairpinMode") && conf().bool("promiscMode")) {
    fail(7, 'Cannot use "hairpinMode" together with "promiscMode": the bridge would send frames twice', "Set one of the two");
  }
  if (hasIpam() && conf().bool("disableContainerInterface")) {
    fail(
      7,
      'Cannot use "ipam" together with "disableContainerInterface": an interface that is down has no use for an address',
      'Leave out one of the two',
    );
  }
}

// --- VLANs -----------------------------------------------------------------------------------------------------------

/** One bit a VLAN of the trunk. */
function trunkOf(list: Json): StaticArray<bool> {
  const wanted = new StaticArray<bool>(4095);
  for (let e = list.first; e.here; e = e.next) {
    const first = e.int("minID", ABSENT);
    const last = e.int("maxID", ABSENT);
    const id = e.int("id", ABSENT);
    if ((first == ABSENT) != (last == ABSENT)) {
      fail(7, 'Cannot use "vlanTrunk": "minID" and "maxID" make sense together only', "Give both, or a single id");
    }
    if (first != ABSENT) {
      if (first < 1 || last > 4094 || last < first) refuseTrunk(decimal(first) + " to " + decimal(last));
      for (let v = first; v <= last; v++) wanted[<i32>v] = true;
    }
    if (id != ABSENT) {
      if (id < 1 || id > 4094) refuseTrunk(decimal(id));
      wanted[<i32>id] = true;
    }
  }
  return wanted;
}

function refuseTrunk(found: string): void {
  fail(7, 'Cannot use "vlanTrunk": expected VLANs from 1 to 4094 in rising order, got ' + found, 'Correct "vlanTrunk"');
}

/**
 * Puts a port into its VLANs. The access VLAN is the port's own: untagged, and left out of the trunk, where naming it
 * again would make it tagged. A trunk without one has VLAN 1 for it.
 */
function joinVlans(port: i64, access: i64, trunk: Json): void {
  if (access == 0 && !trunk.first.here) return;
  if (!conf().bool("preserveDefaultVlan")) {
    bridgeVlanSet({ link: port, vlans: [{ first: 1, last: 4094 }], mode: "delete" }).must();
  }
  const own = access != 0 ? access : 1;
  const vlans: BridgeVlanSetVlan[] = [{ first: own, pvid: 1, untagged: 1 }];
  const wanted = trunkOf(trunk);
  wanted[<i32>own] = false;
  for (let v = 1; v <= 4094; v++) {
    if (!wanted[v]) continue;
    const first = v;
    while (v < 4094 && wanted[v + 1]) v++;
    vlans.push({ first: first, last: v > first ? <i64>v : ABSENT });
  }
  bridgeVlanSet({ link: port, vlans: vlans, mode: "add" }).must();
}

// --- gateways --------------------------------------------------------------------------------------------------------

/** Fills in the gateways that IPAM left out and the default routes that were asked for. */
function addGateways(result: Result): void {
  const given = result.routes.length;
  let families = 0;
  for (let i = 0; i < result.ips.length; i++) {
    const ip = result.ips[i];
    if (ip.gateway == "") ip.gateway = firstHost(ip.address);
    if (!conf().bool("isDefaultGateway")) continue;
    const everywhere = cidrOf(ip.address, "an address").ip.family == 4 ? "0.0.0.0/0" : "::/0";
    const family = everywhere == "::/0" ? 2 : 1;
    if (families & family) continue;
    families |= family;
    let found = false; // one of IPAM's that names no gateway goes by this one anyway
    for (let r = 0; r < given; r++) if (result.routes[r].dst == everywhere) found = true;
    if (found) continue;
    const route = new Route(everywhere);
    route.gateway = ip.gateway;
    result.routes.push(route);
  }
}

/** An interface on the node in the VLAN of the pods, because the bridge itself is in another. */
function vlanGateway(bridge: Answer, vlan: i64): Answer {
  const name = bridge.str("name") + "." + decimal(vlan);
  if (name.length > 15) {
    fail(
      7,
      'Cannot make the gateway interface "' + name + '": its name has more than 15 characters',
      'Give "bridge" a shorter name, or leave out "isGateway"',
    );
  }
  const gateway = linkCreate({
    kind: "veth",
    "in": "host",
    name: name,
    scope: "network",
    mtu: bridge.int("mtu"),
    up: 1,
    peer: { "in": "host", master: bridge.link },
  }).must();
  if (gateway.bool("created")) joinVlans(gateway.obj("peer").int("link"), vlan, conf().arr("none"));
  return gateway;
}

/** Puts a gateway's address on the node, beside or in the place of what the link has. Says whether it was new. */
function ensureAddress(link: Answer, gateway: string, prefix: i32): bool {
  const wanted = ipOf(gateway, "a gateway");
  const address = wanted.toString() + "/" + decimal(prefix);
  const subnet = cidrOf(address, "a gateway");
  for (let e = addrList({ link: link.link }).must().arr("addresses").first; e.here; e = e.next) {
    const found = cidrOf(e.str("address"), "an address");
    if (found.ip.family != wanted.family) continue;
    if (found.prefix == prefix && found.ip == wanted) return false;
    // A link has one IPv4 network, and any number of IPv6 networks that do not overlap.
    if (wanted.family == 6 && !found.contains(wanted) && !subnet.contains(found.ip)) continue;
    if (!conf().bool("forceAddress")) {
      fail(
        203,
        'Cannot add gateway address "' + address + '" to "' + link.str("name") + '": it has "' + found.toString() + '"',
        'Use another bridge for this network, or set "forceAddress" to replace the address',
      );
    }
    addrDelete({ link: link.link, address: e.str("address") }).must();
  }
  addrAdd({ link: link.link, address: address, scope: "network" }).must();
  return true;
}

/** @param mac The bridge's, with its new port. */
function setUpGateways(bridge: Answer, mac: string, result: Result): void {
  const vlan = conf().int("vlan");
  const link = vlan != 0 ? vlanGateway(bridge, vlan) : bridge;
  let added = false;
  for (let i = 0; i < result.ips.length; i++) {
    const subnet = cidrOf(result.ips[i].address, "an address");
    if (ensureAddress(link, result.ips[i].gateway, subnet.prefix)) added = true;
  }
  // A bridge that somebody else made follows the lowest address of its ports until it is told to keep the one it has.
  if (added && !link.bool("created")) linkSet({ link: link.link, mac: vlan != 0 ? link.str("mac") : mac }).must();
  enableForwarding(result);
  if (vlan != 0) result.hostLink(link);
}

// --- operations ------------------------------------------------------------------------------------------------------

function add(): void {
  checkConf();
  const vlan = conf().int("vlan");
  const trunk = conf().arr("vlanTrunk");
  const mtu = conf().int("mtu");
  const mac = requestedMac("", true);
  trunkOf(trunk); // before anything is made

  const bridge = linkCreate({
    kind: "bridge",
    "in": "host",
    name: conf().str("bridge"),
    scope: "network",
    mtu: mtu > 0 ? mtu : ABSENT,
    vlanFiltering: vlan != 0 || trunk.exists ? 1 : UNSET,
    up: 1,
  }).must();
  if (conf().bool("promiscMode")) linkSet({ link: bridge.link, promisc: 1 }).must();

  const hairpin = conf().bool("hairpinMode") ? 1 : UNSET;
  const isolated = conf().bool("portIsolation") ? 1 : UNSET;
  const spoofCheck = conf().bool("macspoofchk");
  const early = vlan == 0 && !trunk.first.here && !spoofCheck; // not before its VLANs and its check are in place
  const veth = makeVeth(mtu, mac, { master: bridge.link, hairpin: hairpin, isolated: isolated, up: early ? 1 : UNSET });
  const port = veth.host.int("link");
  if (!early) {
    joinVlans(port, vlan, trunk);
    if (spoofCheck) nftApply({ rule: "mac_check", link: port, mac: veth.pod.str("mac") }).must();
    linkSet({ link: port, up: 1 }).must();
  }

  const result = new Result().hostLink(bridge).hostLink(veth.host).link(veth.pod);
  // One that somebody else made follows the lowest address of its ports.
  const bridgeMac = bridge.bool("created") ? bridge.str("mac") : veth.host.str("masterMac", bridge.str("mac"));
  result.interfaces[0].mac = bridgeMac;
  if (hasIpam()) {
    configure(bridge, bridgeMac, veth.pod, result);
  } else if (!conf().bool("disableContainerInterface")) {
    linkConfigure({ link: veth.pod.int("link") }).must();
  }

  if (!conf().bool("disableContainerInterface")) {
    if (!linkWait({ link: port, "for": "running", timeoutMs: PORT_MS }).must().bool("ready")) {
      fail(
        204,
        'Cannot use port "' + veth.host.str("name") + '" of bridge "' + bridge.str("name") + '": it does not run',
        "Look at the bridge with: bridge -d link show",
      );
    }
  }
  result.preferDns(conf().obj("dns")).emit();
}

function configure(bridge: Answer, bridgeMac: string, pod: Json, result: Result): void {
  result.addresses(needAddresses(ipamAdd({})));
  if (isGateway()) addGateways(result);
  const detect = conf().bool("enabledad");
  const sysctls: LinkConfigureSysctl[] = [];
  if (detect) sysctls.push(trySysctl("net/ipv6/conf/<link>/enhanced_dad", "1"));
  sysctls.push(trySysctl("net/ipv6/conf/<link>/accept_dad", detect ? "1" : "0"));
  sysctls.push(trySysctl("net/ipv4/conf/<link>/arp_notify", "1"));
  configureInterface(pod, result, sysctls);
  if (isGateway()) setUpGateways(bridge, bridgeMac, result);
  if (conf().bool("ipMasq")) masquerade(result);
}

/** The bridge, the pair and how they hang together, as far as the kernel tells. */
function check(): void {
  checkConf();
  checkIpam();
  const before = previousResult();
  const inPod = podInterface(before);
  const name = conf().str("bridge");
  const vlan = conf().int("vlan");

  let bridgeAt = -1;
  for (let i = 0; i < before.interfaces.length; i++) {
    if (before.interfaces[i].name == name && before.interfaces[i].sandbox == "") bridgeAt = i;
  }
  if (bridgeAt < 0) differs('the earlier result names no bridge "' + name + '"');
  const bridge = checkLink("host", before.interfaces[bridgeAt], "bridge");
  if (conf().bool("promiscMode") && !bridge.bool("promisc")) differs('bridge "' + name + '" is not promiscuous');
  if ((vlan != 0 || conf().arr("vlanTrunk").exists) && !bridge.obj("data").bool("vlanFiltering", true)) {
    differs('bridge "' + name + '" does not filter VLANs');
  }

  const pod = checkLink("pod", before.interfaces[inPod], "veth");
  if (!conf().bool("disableContainerInterface") && !pod.bool("up")) {
    differs('interface "' + pod.str("name") + '" is down');
  }
  let port: Answer | null = null;
  for (let i = 0; i < before.interfaces.length; i++) {
    const e = before.interfaces[i];
    if (e.sandbox != "" || i == bridgeAt || e.name.startsWith(name + ".")) continue;
    const link = checkHostLink(e, "veth");
    if (link && link.int("parent") == pod.int("index") && pod.int("parent") == link.int("index")) port = link;
  }
  if (!port) differs('interface "' + pod.str("name") + '" has no other end on the node');
  const end = port!;
  if (end.int("master") != bridge.int("index")) {
    differs('"' + end.str("name") + '" is not a port of bridge "' + name + '"');
  }
  if (conf().bool("macspoofchk")) {
    const there = nftCheck({ rule: "mac_check", link: end.link, mac: pod.str("mac") }).must().bool("present");
    if (!there) differs('the MAC address check of "' + end.str("name") + '" is gone');
  }

  checkAddresses(pod, addressesOf(before, inPod));
  checkRoutes(pod, before);
  if (!hasIpam()) return;
  if (isGateway()) checkGateways(bridge, before, vlan);
  if (conf().bool("ipMasq")) checkMasquerade(before);
}

function checkGateways(bridge: Answer, before: Result, vlan: i64): void {
  let link = bridge;
  if (vlan != 0) {
    const name = bridge.str("name") + "." + decimal(vlan);
    link = linkOpen({ "in": "host", name: name });
    if (link.failed) differs('gateway interface "' + name + '" is not there');
  }
  const wanted: string[] = [];
  for (let i = 0; i < before.ips.length; i++) {
    const ip = before.ips[i];
    if (ip.gateway != "") wanted.push(ip.gateway + "/" + decimal(cidrOf(ip.address, "an address").prefix));
  }
  checkAddresses(link, wanted);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

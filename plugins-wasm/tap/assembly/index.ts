// tap: an Ethernet link of the pod whose other end is a file, for a virtual machine.
import {
  ABSENT,
  addressesOf,
  checkAddresses,
  checkIpam,
  checkLink,
  checkRoutes,
  conf,
  configureInterface,
  differs,
  fail,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  linkConfigure,
  linkCreate,
  linkOpen,
  linkSet,
  needAddresses,
  plugin,
  podInterface,
  previousResult,
  requestedMac,
  Result,
  statusOfIpam,
  trySysctl,
  UNSET,
} from "../../sdk/assemblyscript/assembly";

/** The bridge's handle, before anything is made; `ABSENT` where none is asked for. */
function openBridge(): i64 {
  const name = conf().str("bridge");
  if (name == "") return ABSENT;
  const bridge = linkOpen({ "in": "pod", name: name });
  if (!bridge.failed && bridge.str("kind") == "bridge") return bridge.link;
  const why = bridge.failed ? "the pod has no link of that name" : 'it is of kind "' + bridge.str("kind") + '"';
  fail(232, 'Cannot use "' + name + '" as bridge: ' + why, 'Make the bridge in the pod first, or leave "bridge" out');
  return ABSENT;
}

function add(): void {
  const mtu = conf().int("mtu");
  const mac = requestedMac(conf().str("mac"), false);
  const label = conf().str("selinuxContext");
  const bridge = openBridge();
  const tap = linkCreate({
    kind: "tap",
    "in": "pod",
    mtu: mtu > 0 ? mtu : ABSENT,
    mac: mac == "" ? null : mac,
    multiQueue: conf().bool("multiQueue") ? 1 : UNSET,
    owner: conf().int("owner", ABSENT),
    ownerGroup: conf().int("group", ABSENT),
    selinuxContext: label == "" ? null : label,
  }).must();
  if (bridge != ABSENT) linkSet({ link: tap.link, master: bridge }).must();

  const result = new Result().link(tap);
  if (hasIpam()) {
    result.addresses(needAddresses(ipamAdd({})));
    configureInterface(tap, result, [trySysctl("net/ipv4/conf/<link>/arp_notify", "1")]);
  } else linkConfigure({ link: tap.link }).must();
  result.dns = conf().obj("dns");
  result.emit();
}

function check(): void {
  checkIpam();
  const before = previousResult();
  const at = podInterface(before);
  const tap = checkLink("pod", before.interfaces[at], "tun");
  const name = tap.str("name");
  if (!tap.bool("up")) differs('interface "' + name + '" is down');
  const data = tap.obj("data").obj("tap");
  if (!data.exists) differs('interface "' + name + '" is a tun, expected a tap');
  if (data.int("owner", ABSENT) != conf().int("owner", ABSENT)) differs('"' + name + '" belongs to another user');
  if (data.int("group", ABSENT) != conf().int("group", ABSENT)) differs('"' + name + '" belongs to another group');
  if (conf().str("bridge") != "") {
    const bridge = linkOpen({ "in": "pod", name: conf().str("bridge") });
    if (bridge.failed || tap.int("master") != bridge.int("index")) {
      differs('"' + name + '" is not a port of bridge "' + conf().str("bridge") + '"');
    }
  }
  checkAddresses(tap, addressesOf(before, at));
  checkRoutes(tap, before);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

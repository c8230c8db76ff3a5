// macvlan: an interface of the pod with a MAC address of its own on a link of the node.
import {
  ABSENT,
  addressesOf,
  checkAddresses,
  checkIpam,
  checkMode,
  checkOnParent,
  checkRoutes,
  conf,
  configureInterface,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  linkConfigure,
  linkCreate,
  mtuOn,
  needAddresses,
  openParent,
  plugin,
  podInterface,
  previousResult,
  requestedMac,
  Result,
  statusOfIpam,
  trySysctl,
} from "../../sdk/assemblyscript/assembly";

function add(): void {
  const mac = requestedMac(conf().str("mac"), false);
  const parent = openParent(conf().str("master")).must();
  const mtu = mtuOn(parent);
  const queue = conf().int("bcqueuelen");
  const link = linkCreate({
    kind: "macvlan",
    "in": "pod",
    parent: parent.link,
    mode: conf().str("mode", "bridge"),
    mtu: mtu > 0 ? mtu : ABSENT,
    mac: mac == "" ? null : mac,
    broadcastQueue: queue > 0 ? queue : ABSENT,
  }).must();

  const result = new Result().link(link);
  if (hasIpam()) {
    result.addresses(needAddresses(ipamAdd({})));
    configureInterface(link, result, [
      trySysctl("net/ipv4/conf/<link>/arp_notify", "1"),
      trySysctl("net/ipv6/conf/<link>/ndisc_notify", "1"),
    ]);
  } else {
    linkConfigure({ link: link.link }).must();
  }
  result.dns = conf().obj("dns");
  result.emit();
}

function check(): void {
  checkIpam();
  const before = previousResult();
  const inPod = podInterface(before);
  const link = checkOnParent(before.interfaces[inPod], "macvlan", openParent(conf().str("master")));
  checkMode(link, conf().str("mode", "bridge"));
  checkAddresses(link, addressesOf(before, inPod));
  checkRoutes(link, before);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

// macvlan: an interface of the pod with a MAC address of its own on a link of the node.
import {
  ABSENT,
  addressesOf,
  Answer,
  checkAddresses,
  checkIpam,
  checkLink,
  checkRoutes,
  conf,
  configureInterface,
  decimal,
  differs,
  fail,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  linkConfigure,
  linkCreate,
  linkOpen,
  needAddresses,
  plugin,
  podInterface,
  previousResult,
  requestedMac,
  Result,
  statusOfIpam,
  trySysctl,
} from "../../sdk/assemblyscript/assembly";

/** The link to build upon: `master`, or that of the default route. */
function openParent(): Answer {
  const place = conf().bool("linkInContainer") ? "pod" : "host";
  const name = conf().str("master");
  return name == "" ? linkOpen({ "in": place, defaultRoute: 1 }) : linkOpen({ "in": place, name: name });
}

function add(): void {
  const mac = requestedMac(conf().str("mac"), false);
  const parent = openParent().must();
  const mtu = conf().int("mtu");
  if (mtu < 0 || mtu > parent.int("mtu")) {
    fail(
      7,
      'Cannot use "mtu" ' + decimal(mtu) + ': expected 0 to ' + decimal(parent.int("mtu")) + ', the MTU of "' + parent.str("name") + '"',
      'Lower "mtu", or leave it out to have that of "master"',
    );
  }
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
  const parent = openParent();
  if (parent.failed) differs('the link that "master" names is not there: ' + parent.str("msg"));

  const link = checkLink("pod", before.interfaces[inPod], "macvlan");
  const wanted = conf().str("mode", "bridge");
  const mode = link.obj("data").str("mode", wanted);
  if (mode != wanted) {
    differs('interface "' + link.str("name") + '" has the mode "' + mode + '", expected "' + wanted + '"');
  }
  if (link.int("parent") != parent.int("index")) {
    differs('interface "' + link.str("name") + '" is not on "' + parent.str("name") + '"');
  }
  if (!link.bool("up")) differs('interface "' + link.str("name") + '" is down');
  checkAddresses(link, addressesOf(before, inPod));
  checkRoutes(link, before);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

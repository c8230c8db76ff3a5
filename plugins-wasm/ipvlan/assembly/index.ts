// ipvlan: an interface of the pod that shares the MAC address of a link of the node, and is told from others by its IP
// addresses. In a chain it takes the addresses of the plugin before, when it has no IPAM of its own.
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
  fail,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  linkCreate,
  mtuOn,
  needAddresses,
  needIpam,
  noteGet,
  noteSet,
  openParent,
  plugin,
  podInterface,
  previousResult,
  Result,
  statusOfIpam,
  trySysctl,
} from "../../sdk/assemblyscript/assembly";

/** `master`, or else in a chain the one interface of the plugin before, or else "" for that of the default route. */
function master(): string {
  const named = conf().str("master");
  const previous = conf().obj("prevResult");
  if (named != "" || !previous.exists) return named;
  const made = Result.of(previous).interfaces;
  if (made.length != 1 || made[0].name == "") {
    fail(
      7,
      'Cannot tell which link to build upon: the plugin before did not make exactly one interface',
      'Name the link in "master"',
    );
  }
  return made[0].name;
}

/** Where ADD leaves word that the plugin before decided: CHECK gets the result of the whole list, without its link. */
const CHAINED = "chained";

function add(): void {
  const previous = Result.of(conf().obj("prevResult"));
  const chained = !hasIpam() && previous.ips.length > 0;
  if (!chained) needIpam();
  const name = master();
  if (name != conf().str("master")) noteSet({ key: CHAINED, value: name }).must();
  const parent = openParent(name).must();
  const mtu = mtuOn(parent);
  const link = linkCreate({
    kind: "ipvlan",
    "in": "pod",
    parent: parent.link,
    mode: conf().str("mode", "l2"),
    mtu: mtu > 0 ? mtu : ABSENT,
  }).must();

  const result = new Result().link(link);
  if (chained) result.addressesFrom(previous);
  else result.addresses(needAddresses(ipamAdd({})));
  configureInterface(link, result, [
    trySysctl("net/ipv4/conf/<link>/arp_notify", "1"),
    trySysctl("net/ipv6/conf/<link>/ndisc_notify", "1"),
  ]);
  result.dns = conf().obj("dns");
  result.emit();
}

function check(): void {
  checkIpam();
  const before = previousResult();
  const inPod = podInterface(before);
  const named = conf().str("master");
  const unknown = named == "" && noteGet({ key: CHAINED }).must().str("value") != "";
  const link = checkOnParent(before.interfaces[inPod], "ipvlan", unknown ? null : openParent(named));
  checkMode(link, conf().str("mode", "l2"));
  checkAddresses(link, addressesOf(before, inPod));
  checkRoutes(link, before);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

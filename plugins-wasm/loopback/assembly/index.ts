// loopback: brings up the pod's own loopback interface.
import {
  addressesOf,
  addrList,
  checkAddresses,
  cidrOf,
  conf,
  differs,
  emitPrevious,
  fail,
  linkOpen,
  linkSet,
  plugin,
  Address,
  Result,
} from "../../sdk/assemblyscript/assembly";

const NAME = "lo"; // whatever CNI_IFNAME says: a namespace has one loopback

function isLoopback(address: string): bool {
  const ip = cidrOf(address, "an address").ip;
  return ip.family == 4 ? ip.low >> 24 == 127 : ip.high == 0 && ip.low == 1;
}

function add(): void {
  const link = linkOpen({ "in": "pod", name: NAME }).must();
  linkSet({ link: link.link, up: 1 }).must();

  const result = new Result().link(link);
  result.interfaces[0].mac = "00:00:00:00:00:00";
  let families = 0;
  for (let e = addrList({ link: link.link }).must().arr("addresses").first; e.here; e = e.next) {
    const address = e.str("address");
    if (!isLoopback(address)) {
      fail(
        200,
        'Cannot use loopback interface "' + NAME + '": it has the address "' + address + '"',
        "Remove the address: only 127.0.0.0/8 and ::1 belong on a loopback interface",
      );
    }
    const family = cidrOf(address, "an address").ip.family == 4 ? 1 : 2;
    if (families & family) continue; // the reference names the first of each family
    families |= family;
    result.ips.push(new Address(address, "", 0));
  }

  const previous = conf().obj("prevResult");
  if (previous.exists) return emitPrevious(previous);
  result.emit();
}

function check(): void {
  const link = linkOpen({ "in": "pod", name: NAME }).must();
  if (!link.bool("up")) differs('loopback interface "' + NAME + '" is down');
  const before = Result.of(conf().obj("prevResult"));
  for (let i = 0; i < before.interfaces.length; i++) {
    if (before.interfaces[i].name == NAME) checkAddresses(link, addressesOf(before, i));
  }
}

plugin(add, { check: check });

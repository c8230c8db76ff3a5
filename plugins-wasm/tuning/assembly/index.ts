// tuning: changes sysctls and attributes of a pod's interface. What they were before is in the journal, for DEL.
import {
  ABSENT,
  Answer,
  chainedResult,
  conf,
  decimal,
  differs,
  fail,
  ifname,
  Json,
  linkOpen,
  linkSet,
  parseMac,
  plugin,
  previousResult,
  requestedMac,
  sysctlGet,
  sysctlSet,
  UNSET,
} from "../../sdk/assemblyscript/assembly";

/** Of the host: not granted. */
const NOT_GRANTED = 121;
/** Of the host: the kernel refused. */
const REFUSED = 123;
/** Of CNI's own, for the pod's owner: not allowed. */
const NOT_ALLOWED = 101;

// --- What is asked for -----------------------------------------------------------------------------------------------

/** A sysctl to set. */
class Sysctl {
  constructor(
    /** As the configuration spells it. */
    public name: string,
    /** With slashes, and `<link>` in the place of the interface. */
    public key: string,
    public value: string,
  ) {}

  get ofLink(): bool {
    return this.key.includes("<link>");
  }
}

/** Attributes; `ABSENT`, `UNSET` and "" where nothing is asked. */
class Wanted {
  sysctls: Sysctl[] = [];
  mac: string = "";
  promisc: i32 = UNSET;
  mtu: i64 = ABSENT;
  allmulti: i32 = UNSET;
  txQueueLength: i64 = ABSENT;

  get attributes(): bool {
    return (
      this.mac != "" ||
      this.promisc != UNSET ||
      this.mtu != ABSENT ||
      this.allmulti != UNSET ||
      this.txQueueLength != ABSENT
    );
  }
}

/** What `args.cni` says counts before all else. */
function wanted(): Wanted {
  const args = conf().obj("args").obj("cni");
  const all = new Wanted();
  addSysctls(all.sysctls, conf().obj("sysctl"));
  addSysctls(all.sysctls, args.obj("sysctl"));
  if (args.has("mac")) all.mac = args.str("mac") == "" ? "" : parseMac(args.str("mac"));
  else all.mac = requestedMac(conf().str("mac"), false);
  if (args.bool("promisc", conf().bool("promisc"))) all.promisc = 1;
  const mtu = args.int("mtu", conf().int("mtu"));
  if (mtu < 0 || mtu > 65_536) refuse("mtu", "expected 0 to 65536, got " + decimal(mtu));
  if (mtu != 0) all.mtu = mtu;
  if (args.has("allmulti") || conf().has("allmulti")) {
    all.allmulti = args.bool("allmulti", conf().bool("allmulti")) ? 1 : 0;
  }
  all.txQueueLength = args.int("txQLen", conf().int("txQLen", ABSENT));
  if (all.txQueueLength != ABSENT && (all.txQueueLength < 0 || all.txQueueLength > 0x7fff_ffff)) {
    refuse("txQLen", "expected 0 to 2147483647, got " + decimal(all.txQueueLength));
  }
  return all;
}

function refuse(key: string, why: string): void {
  fail(7, 'Cannot use "' + key + '": ' + why, 'Correct "' + key + '" of the configuration or of the pod');
}

/** Adds a list's sysctls; one that an earlier list has too gets the later value. */
function addSysctls(to: Sysctl[], from: Json): void {
  const before = to.length;
  for (let e = from.first; e.here; e = e.next) {
    const sysctl = new Sysctl(e.key, keyOf(e.key), from.str(e.key));
    let at = -1;
    for (let i = 0; i < to.length; i++) if (to[i].key == sysctl.key) at = i;
    if (at >= before) {
      refuse("sysctl", '"' + to[at].name + '" and "' + sysctl.name + '" are one sysctl');
    }
    if (at >= 0) to[at] = sysctl;
    else to.push(sysctl);
  }
}

/**
 * A name as sysctl(8) reads it: what separates is what comes first, so that with slashes an interface may have a dot.
 * "IFNAME" stands for the interface.
 */
function keyOf(name: string): string {
  const dot = name.indexOf(".");
  const slash = name.indexOf("/");
  const dotted = dot >= 0 && (slash < 0 || dot < slash);
  const parts = (dotted ? name.replaceAll(".", "/") : name).split("/");
  let good = parts.length > 1 && parts[0] == "net";
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    if (part == "" || part == "." || part == "..") good = false;
  }
  if (!good) refuse("sysctl", '"' + name + '" is no name below "net"');
  let substituted = false;
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i];
    const named = part == ifname() && i == 3 && (parts[2] == "conf" || parts[2] == "neigh");
    if (!substituted && (part == "IFNAME" || named)) {
      parts[i] = "<link>";
      substituted = true;
    } else if (!substituted && part.includes("IFNAME")) {
      parts[i] = part.replace("IFNAME", ifname());
      substituted = true;
    }
  }
  return parts.join("/");
}

// --- ADD -------------------------------------------------------------------------------------------------------------

function set(sysctl: Sysctl, link: i64): void {
  const answer = sysctlSet({
    "in": "pod",
    key: sysctl.key,
    link: sysctl.ofLink ? link : ABSENT,
    value: sysctl.value,
  });
  if (!answer.failed) return;
  const what = 'Cannot set the sysctl "' + sysctl.name + '" to "' + sysctl.value + '": ';
  if (answer.code == NOT_GRANTED) {
    fail(NOT_ALLOWED, what + "the administrator does not allow it", answer.str("details"));
  }
  if (answer.code == REFUSED) fail(231, what + answer.str("msg"), answer.str("details"));
  answer.emit();
}

function add(): void {
  const all = wanted();
  const result = chainedResult();
  let needsLink = all.attributes;
  for (let i = 0; i < all.sysctls.length; i++) if (all.sysctls[i].ofLink) needsLink = true;
  const link = needsLink ? linkOpen({ "in": "pod" }).must().link : ABSENT;
  for (let i = 0; i < all.sysctls.length; i++) set(all.sysctls[i], link);
  if (all.attributes) {
    linkSet({
      link: link,
      mac: all.mac == "" ? null : all.mac,
      promisc: all.promisc,
      mtu: all.mtu,
      allmulti: all.allmulti,
      txQueueLength: all.txQueueLength,
    }).must();
  }
  for (let i = 0; i < result.interfaces.length; i++) {
    const e = result.interfaces[i];
    if (e.name != ifname() || e.sandbox == "") continue;
    if (all.mac != "") e.mac = all.mac;
    if (all.mtu != ABSENT) e.mtu = all.mtu;
  }
  result.emit();
}

// --- CHECK -----------------------------------------------------------------------------------------------------------

/** The kernel puts tabs between the numbers of one that has several. */
function words(text: string): string {
  const parts = text.replaceAll("\t", " ").split(" ");
  let out = "";
  for (let i = 0; i < parts.length; i++) {
    if (parts[i] == "") continue;
    out += out == "" ? parts[i] : " " + parts[i];
  }
  return out;
}

function checkSysctl(sysctl: Sysctl, link: Answer): void {
  const answer = sysctlGet({ "in": "pod", key: sysctl.key, link: sysctl.ofLink ? link.link : ABSENT });
  if (answer.failed) differs('sysctl "' + sysctl.name + '" cannot be read: ' + answer.str("msg"));
  const value = answer.str("value");
  if (words(value) != words(sysctl.value)) {
    differs('sysctl "' + sysctl.name + '" is "' + words(value) + '", expected "' + sysctl.value + '"');
  }
}

function checkNumber(what: string, is: i64, expected: i64): void {
  if (expected != ABSENT && is != expected) {
    differs(what + ' of "' + ifname() + '" is ' + decimal(is) + ", expected " + decimal(expected));
  }
}

function check(): void {
  previousResult();
  const all = wanted();
  const link = linkOpen({ "in": "pod" });
  if (link.failed) differs('interface "' + ifname() + '" is not there: ' + link.str("msg"));
  for (let i = 0; i < all.sysctls.length; i++) checkSysctl(all.sysctls[i], link);
  if (all.mac != "" && link.str("mac") != all.mac) {
    differs('interface "' + ifname() + '" has MAC address "' + link.str("mac") + '", expected "' + all.mac + '"');
  }
  if (all.promisc == 1 && !link.bool("promisc")) differs('interface "' + ifname() + '" is not promiscuous');
  if (all.allmulti != UNSET && link.bool("allmulti") != (all.allmulti == 1)) {
    differs('interface "' + ifname() + '" takes ' + (all.allmulti == 1 ? "not " : "") + "all multicast packets");
  }
  checkNumber("the MTU", link.int("mtu"), all.mtu);
  checkNumber("the queue's length", link.int("txQueueLength"), all.txQueueLength);
}

plugin(add, { check: check });

// sriov: a virtual function becomes the pod's interface, or its program's device, set as the network asks.
import {
  ABSENT,
  addressTexts,
  announce,
  checkDevice,
  conf,
  configureInterface,
  deviceInfo,
  deviceInterface,
  deviceTake,
  differs,
  fail,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  Json,
  LinkConfigureSysctl,
  linkConfigure,
  linkSet,
  moveIn,
  needAddresses,
  plugin,
  requestedMac,
  Result,
  statusOfIpam,
  trySysctl,
  UNSET,
  VfSet,
  vfSet,
} from "../../sdk/assemblyscript/assembly";

const NO_MAC = "00:00:00:00:00:00";

/** What the network asks of the virtual function; what it does not name stays as it is. */
class Wanted {
  vlan: i64 = ABSENT;
  qos: i64 = 0;
  protocol: string = "802.1q";
  mac: string = "";
  spoofCheck: i32 = UNSET;
  trust: i32 = UNSET;
  linkState: string = "";
  minTxRate: i64 = ABSENT;
  maxTxRate: i64 = ABSENT;
}

function refuse(key: string, value: string, why: string): void {
  fail(7, 'Cannot use "' + key + '" ' + value + ": " + why, 'Correct "' + key + '" of the network\'s configuration');
}

/** "on" and "off", however they are written. */
function flag(key: string): i32 {
  const text = conf().str(key).toLowerCase();
  if (text == "") return UNSET;
  if (text != "on" && text != "off") refuse(key, '"' + text + '"', 'expected "on" or "off"');
  return text == "on" ? 1 : 0;
}

function wanted(): Wanted {
  const w = new Wanted();
  const has = (key: string): bool => conf().get(key).exists;
  w.mac = requestedMac(conf().str("mac"), false);
  w.vlan = conf().int("vlan", ABSENT);
  w.qos = conf().int("vlanQoS", 0);
  const protocol = conf().str("vlanProto").toLowerCase();
  if (protocol != "") w.protocol = protocol;
  if (protocol != "" && protocol != "802.1q" && protocol != "802.1ad") {
    refuse("vlanProto", '"' + protocol + '"', 'expected "802.1q" or "802.1ad"');
  }
  if (w.vlan == ABSENT) {
    if (has("vlanQoS")) refuse("vlanQoS", w.qos.toString(), 'it needs "vlan"');
    if (protocol != "") refuse("vlanProto", '"' + protocol + '"', 'it needs "vlan"');
  } else if (w.vlan == 0) {
    if (w.qos != 0) refuse("vlanQoS", w.qos.toString(), 'it needs a "vlan" other than 0');
    if (protocol == "802.1ad") refuse("vlanProto", '"802.1ad"', 'it needs a "vlan" other than 0');
  }
  w.spoofCheck = flag("spoofchk");
  w.trust = flag("trust");
  w.linkState = conf().str("link_state");
  w.minTxRate = conf().int("min_tx_rate", ABSENT);
  w.maxTxRate = conf().int("max_tx_rate", ABSENT);
  if (w.maxTxRate > 0 && w.minTxRate > w.maxTxRate) {
    refuse("min_tx_rate", w.minTxRate.toString(), 'it is more than "max_tx_rate"');
  }
  return w;
}

/** Sets one thing. Not every driver can do everything, and whoever wrote the configuration has to know what it was. */
function apply(key: string, request: VfSet): void {
  const answer = vfSet(request);
  if (!answer.failed) return;
  fail(
    <i32>answer.code,
    'Cannot set "' + key + '" of the virtual function: ' + answer.str("msg"),
    'Leave out "' + key + '" if the driver of the physical function cannot do it (' + answer.str("details") + ")",
  );
}

function applyAll(w: Wanted): void {
  if (w.vlan != ABSENT) apply("vlan", { vlan: w.vlan, qos: w.qos, protocol: w.protocol });
  // Before the address: a trusted function may give itself one.
  if (w.trust != UNSET) apply("trust", { trust: w.trust });
  if (w.mac != "") apply("mac", { mac: w.mac });
  if (w.minTxRate != ABSENT || w.maxTxRate != ABSENT) {
    // What is not named of the two has no limit, as with the reference.
    const min = w.minTxRate == ABSENT ? 0 : w.minTxRate;
    const max = w.maxTxRate == ABSENT ? 0 : w.maxTxRate;
    apply(w.minTxRate > 0 ? "min_tx_rate" : "max_tx_rate", { minTxRate: min, maxTxRate: max });
  }
  if (w.spoofCheck != UNSET) apply("spoofchk", { spoofCheck: w.spoofCheck });
  if (w.linkState != "") apply("link_state", { linkState: w.linkState });
}

function needFunction(device: Json): Json {
  const vf = device.obj("function");
  if (!vf.exists) {
    fail(
      7,
      'Cannot use device "' + device.str("id") + '": it is no virtual function of an interface on the node',
      'Name a virtual function by "deviceID", and leave its physical function with the node',
    );
  }
  return vf;
}

function add(): void {
  const w = wanted();
  const device = deviceTake({}).must();
  const vf = needFunction(device);
  applyAll(w);
  if (device.bool("program")) return addForProgram(device, vf, w);

  const link = moveIn(device);
  if (w.mac != "" && w.mac != link.str("mac")) linkSet({ link: link.link, mac: w.mac }).must();
  // Left by whoever had it before: a pod sees what is for it.
  if (link.bool("promisc") || link.bool("allmulti")) linkSet({ link: link.link, promisc: 0, allmulti: 0 }).must();
  deviceInfo({}).must();

  const result = new Result();
  const shown = deviceInterface(device, link, w.mac == "" ? link.str("mac") : w.mac);
  shown.mtu = link.int("mtu");
  result.interfaces.push(shown);
  const sysctls: LinkConfigureSysctl[] = [
    trySysctl("net/ipv4/conf/<link>/arp_notify", "1"),
    trySysctl("net/ipv6/conf/<link>/ndisc_notify", "1"),
    trySysctl("net/ipv6/conf/<link>/optimistic_dad", "1"),
  ];
  if (hasIpam()) {
    result.addresses(needAddresses(ipamAdd({})));
    result.preferDns(conf().obj("dns"));
    configureInterface(link, result, sysctls);
    announce({ link: link.link, addresses: withoutPrefix(addressTexts(result.ips)) }).must();
  } else {
    linkConfigure({ link: link.link, sysctls: sysctls }).must();
  }
  result.emit();
}

function withoutPrefix(addresses: string[]): string[] {
  const plain: string[] = [];
  for (let i = 0; i < addresses.length; i++) plain.push(addresses[i].split("/")[0]);
  return plain;
}

/** No interface: the result says what the program can know of its device. */
function addForProgram(device: Json, vf: Json, w: Wanted): void {
  deviceInfo({}).must();
  const given = vf.str("mac");
  const result = new Result();
  const shown = deviceInterface(device, null, w.mac != "" ? w.mac : given == NO_MAC ? "" : given);
  shown.mtu = vf.int("mtu");
  result.interfaces.push(shown);
  if (hasIpam()) {
    result.addresses(needAddresses(ipamAdd({})));
    result.preferDns(conf().obj("dns"));
  }
  result.emit();
}

function same(key: string, is: string, wanted: string): void {
  if (is != wanted) differs('the virtual function has "' + key + '" ' + is + ", expected " + wanted);
}

function sameFlag(key: string, vf: Json, member: string, wanted: i32): void {
  if (wanted == UNSET || !vf.get(member).exists) return; // some drivers do not say
  same(key, vf.bool(member) ? "on" : "off", wanted == 1 ? "on" : "off");
}

function check(): void {
  const w = wanted();
  const device = checkDevice();
  const vf = device.obj("function");
  if (!vf.exists) differs("its physical function is not on the node");
  if (w.vlan != ABSENT) {
    same("vlan", vf.int("vlan").toString(), w.vlan.toString());
    same("vlanQoS", vf.int("qos").toString(), w.qos.toString());
    same("vlanProto", vf.str("protocol"), w.protocol);
  }
  if (w.mac != "") same("mac", vf.str("mac"), w.mac);
  if (w.minTxRate != ABSENT) same("min_tx_rate", vf.int("minTxRate").toString(), w.minTxRate.toString());
  if (w.maxTxRate != ABSENT) same("max_tx_rate", vf.int("maxTxRate").toString(), w.maxTxRate.toString());
  sameFlag("spoofchk", vf, "spoofCheck", w.spoofCheck);
  sameFlag("trust", vf, "trust", w.trust);
  if (w.linkState != "" && vf.get("linkState").exists) same("link_state", vf.str("linkState"), w.linkState);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

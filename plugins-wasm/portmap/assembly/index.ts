// portmap: ports of the node that lead to the pod. It comes after the plugin that made the pod's interface.
import {
  cidrOf,
  conf,
  conntrackFlush,
  decimal,
  differs,
  emitPrevious,
  fail,
  ifname,
  log,
  nftReady,
  plugin,
  portCheck,
  PortMap,
  PortMapMapping,
  portMap,
  Result,
} from "../../sdk/assemblyscript/assembly";
import { Conditions } from "./conditions";
import { Mapping, readMappings } from "./mappings";

/** The mark that means "from the node", when the configuration does not say. Kubernetes has 14 and 15. */
const MARK_BIT = 13;

/** The first address of each family that the pod's interface has; one that no interface is named for may be meant. */
function podAddresses(before: Result): string[] {
  let four = "";
  let six = "";
  for (let i = 0; i < before.ips.length; i++) {
    const ip = before.ips[i];
    if (ip.index >= 0 && ip.index < before.interfaces.length) {
      const e = before.interfaces[<i32>ip.index];
      if (e.name != ifname() || e.sandbox == "") continue;
    }
    if (cidrOf(ip.address, "an address").ip.family == 4) {
      if (four == "") four = ip.address;
    } else if (six == "") six = ip.address;
  }
  const addresses: string[] = [];
  if (four != "") addresses.push(four);
  if (six != "") addresses.push(six);
  return addresses;
}

function checkKeys(): void {
  const chain = conf().str("externalSetMarkChain");
  const nftables = conf().str("backend") == "nftables";
  if (chain != "" && conf().has("markMasqBit")) {
    fail(7, 'Cannot use "externalSetMarkChain" together with "markMasqBit"', "Leave out one of the two");
  }
  if (chain != "" && nftables) {
    fail(7, 'Cannot use "externalSetMarkChain" with the backend "nftables": it names a chain of iptables', 'Leave out "externalSetMarkChain"');
  }
}

function familyOf(address: string): i32 {
  return cidrOf(address, "an address").ip.family;
}

/** Whether the pod has an address that a mapping can lead to. One for an address of a family that it lacks is an error. */
function isReachable(mapping: Mapping, addresses: string[]): bool {
  for (let i = 0; i < addresses.length; i++) {
    if (mapping.family == 0 || mapping.family == familyOf(addresses[i])) return true;
  }
  const why = "the pod has no IPv" + decimal(mapping.family) + " address";
  if (mapping.isEverywhere) {
    log({ level: "warn", message: mapping.name + " is not mapped: " + why }).must();
    return false;
  }
  fail(7, "Cannot map " + mapping.name + ": " + why, "Give the pod an address of that family, or leave the host address out");
  return false;
}

/** @throws for conditions, or keys beside one another, that no pod could be attached with. */
function readConditions(): Conditions {
  checkKeys();
  const conditions = new Conditions(conf().str("backend"));
  conditions.read("conditionsV4", 4);
  conditions.read("conditionsV6", 6);
  return conditions;
}

/** What the configuration asks for; null when that is nothing. */
function request(before: Result): PortMap | null {
  const conditions = readConditions();
  const mappings = readMappings(conf().obj("runtimeConfig").arr("portMappings"));
  if (mappings.length == 0) return null;
  const addresses = podAddresses(before);
  if (addresses.length == 0) {
    fail(7, 'Cannot map ports: "' + ifname() + '" has no address in the result of the plugins before', "Give the network an IPAM");
  }
  const wanted = new PortMap();
  wanted.addresses = addresses;
  wanted.snat = !conf().bool("snat") ? "none" : conf().bool("masqAll") ? "all" : "local";
  wanted.markBit = conf().int("markMasqBit", MARK_BIT);
  if (conditions.list.length > 0) wanted.conditions = conditions.list;
  const list: Mapping[] = [];
  for (let i = 0; i < mappings.length; i++) if (isReachable(mappings[i], addresses)) list.push(mappings[i]);
  if (list.length == 0) return null;
  wanted.mappings = list.map<PortMapMapping>((m: Mapping) => m.toRequest());
  return wanted;
}

function hasUdp(wanted: PortMap): bool {
  const mappings = wanted.mappings;
  if (mappings) for (let i = 0; i < mappings.length; i++) if (mappings[i].protocol == "udp") return true;
  return false;
}

function previous(): Result {
  const before = conf().obj("prevResult");
  if (!before.exists) {
    fail(7, "Cannot map ports: there is no result of a plugin before", "Put portmap behind the plugin that makes the pod's interface");
  }
  return Result.of(before);
}

function add(): void {
  const wanted = request(previous());
  if (wanted) {
    portMap(wanted).must();
    // A client that kept sending while nobody had the port is known to the kernel, and not to the new rules.
    if (hasUdp(wanted) && !conntrackFlush({}).must().bool("all")) {
      log({ level: "warn", message: "some UDP flows to the mapped ports may go where they went before" }).must();
    }
  }
  emitPrevious(conf().obj("prevResult"));
}

function check(): void {
  if (!request(previous())) return;
  const amiss = portCheck({}).must().str("amiss");
  if (amiss != "") differs(amiss);
}

function status(): void {
  readConditions();
  if (nftReady({}).must().bool("ready")) return;
  fail(50, "Cannot map ports: the node's kernel has no nftables for us", "Load the module nf_tables, or take portmap out of the network's plugins");
}

plugin(add, { check: check, status: status });

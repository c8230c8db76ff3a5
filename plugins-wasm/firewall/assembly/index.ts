// firewall: lets a pod's packets through what drops forwarded packets on the node, and keeps networks apart.
import {
  Answer,
  cidrOf,
  conf,
  differs,
  emitPrevious,
  fail,
  filterAdd,
  filterCheck,
  filterDrops,
  firewalldAdd,
  firewalldCheck,
  firewalldFind,
  ifname,
  isolationApply,
  isolationCheck,
  Json,
  linkOpen,
  linkSet,
  noteGet,
  noteSet,
  plugin,
  previousResult,
  Result,
} from "../../sdk/assemblyscript/assembly";

const FIREWALLD = "firewalld";
const IPTABLES = "iptables";
/** The host's code for what the kernel does not have. */
const NO_SUCH_LINK = 123;

/** The backend of the configuration, or what the node has. */
function backend(): string {
  const asked = conf().str("backend");
  if (asked != "") return asked;
  return firewalldFind({}).must().bool("running") ? FIREWALLD : IPTABLES;
}

/** The backend that ADD used: what the node has may have changed since. */
function usedBackend(): string {
  const noted = noteGet({ key: "backend" }).must().str("value");
  return noted == "" ? backend() : noted;
}

/** A key whose default also stands for the empty text. */
function orDefault(key: string, preset: string): string {
  const given = conf().str(key);
  return given == "" ? preset : given;
}

/** What iptables has for itself, and the chain that leads to the administrator's: a jump there would be none, or a loop. */
const TAKEN = "INPUT FORWARD OUTPUT PREROUTING POSTROUTING ACCEPT DROP RETURN QUEUE REJECT LOG CNI-FORWARD".split(" ");

function adminChain(): string {
  const name = orDefault("iptablesAdminChainName", "CNI-ADMIN");
  if (TAKEN.includes(name)) {
    fail(
      7,
      'Cannot use "' + name + '" as "iptablesAdminChainName": the name has a meaning of its own in iptables',
      "Choose another name for the administrator's chain, such as CNI-ADMIN",
    );
  }
  return name;
}

const zone = (): string => orDefault("firewalldZone", "trusted");

/** All addresses of the pod that the plugins before named, without prefix length. */
function addressesIn(result: Result): string[] {
  const out: string[] = [];
  for (let i = 0; i < result.ips.length; i++) out.push(cidrOf(result.ips[i].address, "an address").ip.toString());
  return out;
}

function hasFamily(result: Result, family: i32): bool {
  for (let i = 0; i < result.ips.length; i++) {
    if (cidrOf(result.ips[i].address, "an address").ip.family == family) return true;
  }
  return false;
}

/** What becomes of a chain that drops, when a backend does its work. */
enum Fate {
  /** The backend accepts in it. */
  Accepted,
  /** It is iptables' own, and the backend does not write there. */
  AlsoAccept,
  /** Nobody may write there. */
  Dropped,
}

function fateOf(chain: Json, by: string): Fate {
  if (chain.bool("writable")) {
    // Where firewalld itself works by iptables, it ends that chain with a rule and not by its policy.
    return by == IPTABLES || chain.str("by") == "rule" ? Fate.Accepted : Fate.AlsoAccept;
  }
  return by == FIREWALLD && chain.str("table") == FIREWALLD ? Fate.Accepted : Fate.Dropped;
}

/** Whether iptables' own chain drops beside firewalld's. @param found What stands in the way goes here, by its name. */
function alsoAccept(chains: Json, by: string, v4: bool, v6: bool, found: string[]): bool {
  let also = false;
  for (let chain = chains.first; chain.here; chain = chain.next) {
    if (!(v4 && chain.bool("ipv4")) && !(v6 && chain.bool("ipv6"))) continue;
    const fate = fateOf(chain, by);
    if (fate == Fate.AlsoAccept) also = true;
    else if (fate == Fate.Dropped) found.push(chain.str("name"));
  }
  return also;
}

const REMEDY =
  "Let that chain accept forwarded packets, or have it accept the pods' and take firewall out of the network's plugins";

const drops = (names: string[]): string => '"' + names.join('", "') + '" drops forwarded packets, and is not ours to change';

/** The link that a policy is about: what the plugin before made on the node, a bridge as a rule. */
function isolatedLink(result: Result, policy: string): string {
  if (result.interfaces.length > 0 && result.interfaces[0].sandbox == "") return result.interfaces[0].name;
  fail(
    7,
    'Cannot use the ingress policy "' + policy + '": the first interface of the previous result is no link of the node',
    'Put firewall after the plugin "bridge", or leave ingressPolicy out',
  );
  return "";
}

/** The node's end of the pod's veth where that is a port of a bridge; null when there is none. */
function bridgePort(): Answer | null {
  const pod = linkOpen({ "in": "pod", name: ifname() }).must();
  if (pod.str("kind") != "veth") return null;
  const port = linkOpen({ "in": "host", peerOf: pod.link });
  if (port.failed && port.code == NO_SUCH_LINK) return null;
  return port.must().int("master", 0) == 0 ? null : port;
}

/** nft has no say in what a bridge hands from port to port: that is the ports' own flag. */
function isolatePort(): void {
  const port = bridgePort();
  if (port) linkSet({ link: port.link, isolated: 1 }).must();
}

function policyOf(): string {
  return orDefault("ingressPolicy", "open");
}

function add(): void {
  const previous = conf().obj("prevResult");
  if (!previous.exists) {
    fail(7, 'Cannot add firewall rules: "prevResult" is missing', "Put firewall behind the plugin that makes the interface");
  }
  const before = Result.of(previous);
  const addresses = addressesIn(before);
  const admin = adminChain();
  if (addresses.length > 0) {
    const by = backend();
    const found: string[] = [];
    const chains = filterDrops({}).must().arr("chains");
    const also = alsoAccept(chains, by, hasFamily(before, 4), hasFamily(before, 6), found);
    if (found.length > 0) {
      fail(200, 'Cannot let through what "' + addresses.join('", "') + '" sends: ' + drops(found), REMEDY);
    }
    noteSet({ key: "backend", value: by }).must();
    if (by == FIREWALLD) firewalldAdd({ zone: zone(), addresses: addresses }).must();
    if (by == IPTABLES || also) filterAdd({ addresses: addresses, adminChain: admin }).must();
  }
  const policy = policyOf();
  if (policy != "open") isolationApply({ name: isolatedLink(before, policy), policy: policy }).must();
  if (policy == "isolated") isolatePort();
  emitPrevious(previous);
}

function check(): void {
  const before = previousResult();
  const addresses = addressesIn(before);
  if (addresses.length > 0) {
    const by = usedBackend();
    const found: string[] = [];
    const chains = filterDrops({}).must().arr("chains");
    const also = alsoAccept(chains, by, hasFamily(before, 4), hasFamily(before, 6), found);
    if (found.length > 0) differs(drops(found));
    if (by == FIREWALLD && !firewalldCheck({ zone: zone(), addresses: addresses }).must().bool("present")) {
      differs('an address of the pod is not in zone "' + zone() + '" of firewalld');
    }
    if (by == IPTABLES || also) {
      const there = filterCheck({ addresses: addresses, adminChain: adminChain() }).must().bool("present");
      if (!there) differs("rules that let its packets through are gone");
    }
  }
  const policy = policyOf();
  if (policy == "open") return;
  const name = isolatedLink(before, policy);
  if (!isolationCheck({ name: name, policy: policy }).must().bool("present")) {
    differs('"' + name + '" is not isolated as policy "' + policy + '" asks');
  }
  const port = policy == "isolated" ? bridgePort() : null;
  if (port && !port.bool("isolated")) differs('port "' + port.str("name") + '" is not isolated from the others of its bridge');
}

function status(): void {
  adminChain();
  if (conf().str("backend") == FIREWALLD && !firewalldFind({}).must().bool("running")) {
    fail(50, 'Cannot add firewall rules: the backend is "firewalld", and it does not run', "Start firewalld, or choose another backend");
  }
  const found: string[] = [];
  alsoAccept(filterDrops({}).must().arr("chains"), backend(), true, false, found);
  if (found.length > 0) fail(50, "Cannot let pods' packets through: " + drops(found), REMEDY);
}

plugin(add, { check: check, status: status });

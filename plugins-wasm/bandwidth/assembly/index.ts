// bandwidth: limits what goes to a pod and what comes from it, at the node's end of its veth.
import {
  Answer,
  chainedResult,
  checkLink,
  conf,
  decimal,
  differs,
  emitPrevious,
  fail,
  ifname,
  Json,
  linkCreate,
  linkOpen,
  noteGet,
  noteSet,
  plugin,
  podInterface,
  previousResult,
  Result,
  tcApply,
  tcCheck,
} from "../../sdk/assemblyscript/assembly";

/** How long a packet may wait at most for its turn: what the reference plugin allows. */
const LATENCY_US: f64 = 25_000;
const WIDEST: i64 = 0xffff_ffff;

/** What a token bucket is told, in bytes. */
class Limit {
  constructor(
    public rate: i64,
    public burst: i64,
    public most: i64,
  ) {}
}

/** Both directions, seen from the pod as the keys have them; null for one without a limit. */
class Bandwidth {
  ingress: Limit | null = null;
  egress: Limit | null = null;

  get unlimited(): bool {
    return !this.ingress && !this.egress;
  }
}

function hasAny(from: Json): bool {
  return from.has("ingressRate") || from.has("ingressBurst") || from.has("egressRate") || from.has("egressBurst");
}

/** The configuration's own keys, any of which keeps the runtime's from being looked at. */
function wanted(): Bandwidth {
  const own = hasAny(conf());
  const from = own ? conf() : conf().obj("runtimeConfig").obj("bandwidth");
  const both = new Bandwidth();
  both.ingress = limitOf(from, "ingress");
  both.egress = limitOf(from, "egress");
  return both;
}

function limitOf(from: Json, direction: string): Limit | null {
  const rate = from.int(direction + "Rate");
  const burst = from.int(direction + "Burst");
  const rateKey = quoted(direction + "Rate");
  const burstKey = quoted(direction + "Burst");
  if (rate == 0 && burst == 0) return null;
  if (rate < 0 || burst < 0) refuse((rate < 0 ? rateKey : burstKey) + " is below zero");
  if (burst == 0) refuse(rateKey + " is set without " + burstKey);
  if (rate == 0) refuse(burstKey + " is set without " + rateKey);
  const bytes = rate / 8;
  const burstBytes = burst / 8;
  if (bytes == 0) refuse(rateKey + " is " + decimal(rate) + ", less than 8 bits a second");
  if (burstBytes >= WIDEST) refuse(burstKey + " is " + decimal(burst) + ", 34359738359 bits are the most");
  if (<f64>burstBytes * 1e6 < <f64>bytes) {
    refuse(burstKey + " is " + decimal(burst) + " bits, which " + rateKey + " sends within a microsecond");
  }
  const waiting = <i64>((<f64>bytes * LATENCY_US) / 1e6);
  return new Limit(bytes, burstBytes, min(waiting + burstBytes, WIDEST));
}

function quoted(key: string): string {
  return '"' + key + '"';
}

function refuse(why: string): void {
  fail(
    7,
    "Cannot limit the bandwidth: " + why,
    "Give each rate its burst, in bits: a tenth of what the rate sends in a second is a good start",
  );
}

/** The node's end of the pod's interface. */
function nodeEnd(pod: Answer): Answer {
  const kind = pod.str("kind");
  if (kind != "veth") {
    const what = kind == "" ? "a device of its own" : 'of kind "' + kind + '"';
    fail(
      230,
      'Cannot limit the bandwidth of "' + ifname() + '": it is ' + what + ", and only a veth has an end on the node",
      kind == ""
        ? 'Limit a virtual function with "max_tx_rate" of sriov, and leave "bandwidth" out'
        : 'Use bridge or ptp, or a virtual function with "max_tx_rate" of sriov, and leave "bandwidth" out here',
    );
  }
  const end = linkOpen({ "in": "host", peerOf: pod.link });
  if (!end.failed) return end;
  fail(
    230,
    'Cannot limit the bandwidth of "' + ifname() + '": its other end is not on this node',
    'Leave "bandwidth" out for a veth that leads elsewhere',
  );
  return end;
}

function limit(link: i64, by: Limit): void {
  tcApply({ link: link, rule: "limit", rate: by.rate, burst: by.burst, limit: by.most }).must();
}

function add(): void {
  const bandwidth = wanted();
  const result = chainedResult();
  if (bandwidth.unlimited) return emitPrevious(conf().obj("prevResult"));
  const end = nodeEnd(linkOpen({ "in": "pod" }).must());

  const ingress = bandwidth.ingress;
  if (ingress) limit(end.link, ingress); // what goes to the pod leaves the node here

  const egress = bandwidth.egress;
  if (egress) {
    // What comes from the pod comes in here, where nothing can wait; so it goes by a queue of its own.
    const queue = linkCreate({ kind: "ifb", "in": "host", mtu: end.int("mtu"), up: 1 }).must();
    noteSet({ key: "queue", value: queue.str("name") }).must();
    limit(queue.link, egress);
    tcApply({ link: end.link, rule: "redirect", to: queue.link }).must();
    result.hostLink(queue);
  }
  result.emit();
}

function checkLimit(link: Answer, by: Limit, what: string): void {
  const there = tcCheck({ link: link.link, rule: "limit", rate: by.rate, burst: by.burst, limit: by.most });
  if (!there.must().bool("present")) differs("what goes " + what + ' the pod is not limited as asked on "' + link.str("name") + '"');
}

function check(): void {
  const before = previousResult();
  const bandwidth = wanted();
  if (bandwidth.unlimited) return;
  const pod = checkLink("pod", before.interfaces[podInterface(before)], "veth");
  const end = nodeEnd(pod);
  const ingress = bandwidth.ingress;
  if (ingress) checkLimit(end, ingress, "to");
  const egress = bandwidth.egress;
  if (egress) checkEgress(end, egress, before);
}

function checkEgress(end: Answer, by: Limit, before: Result): void {
  const name = noteGet({ key: "queue" }).must().str("value");
  let at = -1;
  for (let i = 0; i < before.interfaces.length; i++) {
    if (before.interfaces[i].sandbox == "" && before.interfaces[i].name == name) at = i;
  }
  if (at < 0) differs("the earlier result names no queue for what comes from the pod");
  const queue = checkLink("host", before.interfaces[at], "ifb");
  if (!queue.bool("up")) differs('"' + name + '" is down');
  checkLimit(queue, by, "from");
  const redirected = tcCheck({ link: end.link, rule: "redirect", to: queue.link }).must().bool("present");
  if (!redirected) differs('what comes from the pod does not go by "' + name + '"');
}

plugin(add, { check: check });

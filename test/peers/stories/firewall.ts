/** firewall: behind our own bridge, on a node whose FORWARD drops, told by what packets do. */
import type { JsonObject } from "../../../core/base/json.ts";
import { answers, type Call, type Look, type Step, type World } from "../../support/twin.ts";
import { type Named, podGone, podGoneButHeld, reaches } from "./common.ts";

const firewall = { type: "firewall", backend: "iptables" };
const versions = ["0.4.0", "1.0.0", "1.1.0"] as const;

const OUTSIDE = ["192.0.2.1", "2001:db8::1"] as const;

/** An outside that knows the way to the pods. What is forwarded by IPv6 needs link-local addresses to ask for neighbours. */
function knownOutside(world: World): void {
  world.outside.ip("address", "add", "fe80::1/64", "dev", "wire", "nodad");
  world.node.ip("address", "add", "fe80::10/64", "dev", "uplink", "nodad");
  for (const n of [8, 9]) {
    world.outside.ip("route", "add", `10.${n}.0.0/24`, "via", "192.0.2.10");
    world.outside.ip("route", "add", `fd00:${n}::/64`, "via", "2001:db8::10");
  }
}

function dropping(world: World): void {
  knownOutside(world);
  for (const program of ["iptables-nft", "ip6tables-nft"]) world.node.run(program, "-P", "FORWARD", "DROP");
}

/** A pod's network behind bridge `br<n>`. */
function bridge(n: number, host: number): JsonObject {
  const addresses = [
    { address: `10.${n}.0.${host}/24`, gateway: `10.${n}.0.1` },
    { address: `fd00:${n}::${host}/64`, gateway: `fd00:${n}::1` },
  ];
  const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
  return { type: "bridge", bridge: `br${n}`, isGateway: true, ipam: { type: "static", addresses, routes } };
}
const before = bridge(9, 2);
const stays = ["br8", "br9"];

const made = (conf: JsonObject, pod = 0): Call => ({ call: "ADD", conf, pod });
const gone = (conf: JsonObject, pod = 0): Call => ({ call: "DEL", conf, pod });

/** ADD of a bridge, then of the plugin, and both back. */
const behindBridge = (...steps: readonly Step[]): readonly Step[] => [
  made(before),
  "ADD",
  ...steps,
  "CHECK",
  "DEL",
  gone(before),
  "DEL",
];
const story = (what: string, conf: JsonObject, steps: readonly Step[], prepare = dropping): Named => ({
  what: `firewall, ${what}`,
  story: { conf: { ...firewall, ...conf }, steps, prepare, stays },
});

const getsOut = (is = true, from: "pod" | "pod1" = "pod"): Look[] =>
  OUTSIDE.map((address) => reaches(from, address, is));
const nobodyGetsIn: Look[] = ["10.9.0.2", "fd00:9::2"].map((address) => reaches("outside", address, false));

/** What a pod reaches of another, by IPv4 and IPv6. */
const pods = (from: 0 | 1, to: string, is: boolean): Look => ({
  look: `pod ${from} reaches ${to}`,
  is,
  see: (world) => answers(world.pod(from), to, is),
});

/** Rules for an address, in the words of iptables-save. */
const accepts = (address: string, is: boolean): Look => ({
  look: `CNI-FORWARD accepts from ${address}`,
  is,
  see: (world) =>
    new RegExp(`^-A CNI-FORWARD -s ${address}/32 .*-j ACCEPT$`, "m").test(world.node.run("iptables-save")),
});

const tampered = (what: string, ...commands: readonly (readonly string[])[]): Named =>
  story(`CHECK after tampering with ${what}`, {}, [
    made(before),
    "ADD",
    { act: what, does: (world) => commands.forEach((command) => void world.node.run(...command)) },
    "CHECK",
    "DEL",
    gone(before),
    "DEL",
  ]);

/** Two pods behind one bridge or two, each with a policy. */
function apart(ingressPolicy: string, second: JsonObject, looks: readonly Step[]): readonly Step[] {
  const policy = { ...firewall, ingressPolicy };
  return [
    made(before),
    made(policy),
    made(second, 1),
    made(policy, 1),
    ...looks,
    { call: "CHECK", conf: policy },
    gone(policy, 1),
    gone(second, 1),
    gone(policy),
    gone(before),
  ];
}

const fault = (what: string, conf: JsonObject, call: Call = { call: "ADD", prevResult: earlier }): Named => ({
  ...story(`refused: ${what}`, conf, [call, "DEL"]),
  refused: true,
});
const earlier = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "br9" }, { name: "eth0", sandbox: "<pod>" }],
  ips: [{ interface: 1, address: "10.9.0.2/24", gateway: "10.9.0.1" }, { address: "fd00:9::2/64" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: { nameservers: ["192.0.2.53"] },
};

export const firewallStories: readonly Named[] = [
  story("pods get out, nobody gets in", {}, [
    made(before),
    ...getsOut(false),
    "ADD",
    ...getsOut(),
    ...nobodyGetsIn,
    "CHECK",
    "DEL",
    ...getsOut(false),
    gone(before),
    "DEL",
  ]),
  story("where nothing drops", {}, behindBridge(...getsOut()), knownOutside),
  story("the backend by what the node has", { backend: "" }, behindBridge(...getsOut())),
  story(
    "each key by its default",
    { iptablesAdminChainName: "", firewalldZone: "", ingressPolicy: "" },
    behindBridge(...getsOut()),
  ),
  story("a zone, which means nothing here", { firewalldZone: "public" }, behindBridge(...getsOut())),
  ...versions.map(
    (cniVersion): Named => ({
      ...story(`version ${cniVersion}`, { cniVersion }, [
        { call: "ADD", prevResult: { ...earlier, cniVersion } },
        "CHECK",
        "DEL",
        "DEL",
      ]),
      newer: cniVersion === "1.1.0",
    }),
  ),
  story("a result without addresses", {}, [
    { call: "ADD", prevResult: { cniVersion: "1.0.0", interfaces: [{ name: "br9" }] } },
    "CHECK",
    "DEL",
  ]),
  story("the administrator's chain", { iptablesAdminChainName: "MINE" }, [
    made(before),
    "ADD",
    ...getsOut(),
    {
      act: "the administrator drops",
      does: (world) => void world.node.run("iptables-nft", "-A", "MINE", "-d", OUTSIDE[0], "-j", "DROP"),
    },
    reaches("pod", OUTSIDE[0], false),
    reaches("pod", OUTSIDE[1]),
    {
      act: "and thinks better of it",
      does: (world) => void world.node.run("iptables-nft", "-F", "MINE"),
    },
    "CHECK",
    "DEL",
    gone(before),
  ]),
  story("two pods, the first one goes", {}, [
    made(before),
    "ADD",
    made(bridge(9, 3), 1),
    { call: "ADD", pod: 1 },
    "DEL",
    gone(before),
    ...getsOut(true, "pod1"),
    { call: "CHECK", pod: 1 },
    { call: "DEL", pod: 1 },
    gone(bridge(9, 3), 1),
  ]),
  story("an address that is used again", {}, [
    { call: "ADD", prevResult: earlier },
    { call: "ADD", pod: 1, prevResult: earlier },
    accepts("10.9.0.2", true),
    "DEL",
    accepts("10.9.0.2", true),
    { call: "DEL", pod: 1 },
    accepts("10.9.0.2", false),
  ]),
  story("the pod's namespace gone", {}, [made(before), "ADD", podGone, "DEL", gone(before), "DEL"]),
  story("the pod's namespace gone, and held", {}, [made(before), "ADD", podGoneButHeld, "DEL", gone(before), "DEL"]),
  story("DEL without the result of ADD", {}, [
    made(before),
    "ADD",
    { call: "DEL", prevResult: undefined },
    accepts("10.9.0.2", false),
    "DEL",
    gone(before),
  ]),
  tampered("the pod's rules", ["iptables-nft", "-D", "CNI-FORWARD", "2"]),
  tampered("one rule of the other family", ["ip6tables-nft", "-D", "CNI-FORWARD", "3"]),
  tampered("the way to them", ["iptables-nft", "-D", "FORWARD", "1"]),
  {
    ...story(
      "same-bridge: two bridges",
      { ingressPolicy: "same-bridge" },
      apart("same-bridge", bridge(8, 3), [
        pods(0, "10.8.0.3", false),
        pods(1, "10.9.0.2", false),
        pods(0, "fd00:8::3", false),
        ...getsOut(),
        ...getsOut(true, "pod1"),
      ]),
    ),
  },
  story(
    "same-bridge: one bridge",
    { ingressPolicy: "same-bridge" },
    apart("same-bridge", bridge(9, 3), [pods(0, "10.9.0.3", true), pods(1, "fd00:9::2", true)]),
  ),
  story(
    "open: two bridges",
    { ingressPolicy: "open" },
    apart("open", bridge(8, 3), [pods(0, "10.8.0.3", true), pods(1, "fd00:9::2", true)]),
  ),
  {
    ...story(
      "isolated: two bridges",
      { ingressPolicy: "isolated" },
      apart("isolated", bridge(8, 3), [pods(0, "10.8.0.3", false), pods(1, "fd00:9::2", false), ...getsOut()]),
    ),
    newer: true,
  },
  {
    ...story(
      "isolated: one bridge",
      { ingressPolicy: "isolated" },
      apart("isolated", bridge(9, 3), [pods(0, "10.9.0.3", false), pods(1, "fd00:9::2", false), ...getsOut()]),
    ),
    newer: true,
  },
  story("a policy of pods that have gone", {}, [
    ...apart("same-bridge", bridge(8, 3), [pods(0, "10.8.0.3", false)]),
    made(before),
    "ADD",
    made(bridge(8, 3), 1),
    { call: "ADD", pod: 1 },
    pods(0, "10.8.0.3", true),
    { call: "DEL", pod: 1 },
    gone(bridge(8, 3), 1),
    "DEL",
    gone(before),
  ]),
  { ...story("VERSION", {}, ["VERSION"]), newer: true },
  fault("no result of a plugin before", {}, { call: "ADD", prevResult: undefined }),
  fault("a policy that is none", { ingressPolicy: "closed" }),
  fault("a backend that is none", { backend: "ebtables" }),
  {
    ...story("refused: somebody else's chain drops", {}, [{ call: "ADD", prevResult: earlier }, "DEL"], (world) => {
      world.node.run("nft", "add table inet mine");
      world.node.run("nft", "add chain inet mine drops { type filter hook forward priority 5; policy drop; }");
    }),
    refused: true,
  },
  {
    ...story("refused: iptables-legacy drops", {}, [{ call: "ADD", prevResult: earlier }, "DEL"], (world) => {
      world.node.run("iptables-legacy", "-P", "FORWARD", "DROP");
    }),
    refused: true,
  },
];

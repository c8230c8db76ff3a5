/** bandwidth: behind a veth that another plugin made, and behind our own bridge and ptp. */
import type { JsonObject } from "../../../core/base/json.ts";
import type { Call, Look, Step, World } from "../../support/twin.ts";
import { fixed, type Named, podGone, podGoneButHeld, reaches, versions } from "./common.ts";

const bandwidth = { type: "bandwidth" };
const limits = { ingressRate: 16_000_000, ingressBurst: 320_000, egressRate: 8_000_000, egressBurst: 160_000 };

/** A veth of the world's, and the result that a plugin before would have answered. */
function behindAnother(world: World): void {
  world.node.ip("link", "add", "cali0", "type", "veth", "peer", "name", "eth0", "netns", world.pod().name);
  for (const [netns, name] of [[world.node, "cali0"] as const, [world.pod(), "eth0"] as const]) {
    netns.ip("link", "set", name, "addrgenmode", "none", "mtu", "1400", "up");
  }
}
const earlier = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "cali0" }, { name: "eth0", sandbox: "<pod>" }],
  ips: [{ interface: 1, address: "10.9.0.2/24", gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
};
const added: Call = { call: "ADD", prevResult: earlier };
const life: readonly Step[] = [added, "CHECK", "DEL", "DEL"];
const story = (what: string, conf: JsonObject, steps: readonly Step[] = life): Named => ({
  what: `bandwidth, ${what}`,
  story: { conf: { ...bandwidth, ...conf }, prepare: behindAnother, steps, stays: ["cali0"] },
});
const tampered = (act: string, command: (queue: string) => string[], conf: JsonObject = limits): Named =>
  story(`CHECK after tampering with ${act}`, conf, [
    added,
    { act, does: (world) => void world.node.run("tc", ...command(queueOf(world))) },
    "CHECK",
    "DEL",
    "DEL",
  ]);
function queueOf(world: World): string {
  return String(world.node.ipJson("link", "show", "type", "ifb")[0]?.ifname);
}
const fault = (what: string, conf: JsonObject, call: Call = added): Named => ({
  ...story(`refused: ${what}`, conf, [call, "DEL"]),
  refused: true,
});

/** The kernel's own words for it; a snapshot has no filters. */
const redirected = (link: string): Look => ({
  look: `all that comes in over ${link} leaves over the queue`,
  is: true,
  see: (world) => {
    const text = world.node.run("tc", "filter", "show", "dev", link, "parent", "ffff:");
    const every = /match 00000000\/00000000 at 0/.test(text);
    return every && text.includes(`(Egress Redirect to device ${queueOf(world)}) stolen`);
  },
});

/** ADD of what comes before, then ours, and both back. */
function chain(before: JsonObject, looks: readonly Step[] = []): readonly Step[] {
  return [{ call: "ADD", conf: before }, "ADD", ...looks, "CHECK", "DEL", { call: "DEL", conf: before }, "DEL"];
}
const bridge = { type: "bridge", bridge: "br0", isGateway: true, ipam: fixed };
const ptp = { type: "ptp", ipam: fixed };

const keys: readonly Named[] = [
  story("both directions", limits, [added, redirected("cali0"), "CHECK", "DEL", "DEL"]),
  story("to the pod alone", { ingressRate: 16_000_000, ingressBurst: 320_000 }),
  story("from the pod alone", { egressRate: 8_000_000, egressBurst: 160_000 }),
  { ...story("no limit at all", {}), newer: true }, // CHECK of the release before ends in a panic
  story("zeros", { ingressRate: 0, ingressBurst: 0, egressRate: 0, egressBurst: 0 }),
  story("the runtime's values", { runtimeConfig: { bandwidth: limits } }),
  story("the runtime's values as containerd writes them", {
    runtimeConfig: {
      bandwidth: { IngressRate: 1_000_000, IngressBurst: 4_294_967_295, EgressRate: 0, EgressBurst: 0 },
    },
  }),
  { ...story("the runtime's values are null", { runtimeConfig: { bandwidth: null } }), newer: true },
  story("its own keys and the runtime's", {
    ...limits,
    runtimeConfig: { bandwidth: { ingressRate: 8, ingressBurst: 8 } },
  }),
  story("its own zero and the runtime's limit", { ingressRate: 0, runtimeConfig: { bandwidth: limits } }),
  ...(
    [
      ["a kilobit", 1000, 8000],
      ["a rate that 8 does not divide", 1_234_567, 98_765],
      ["a gigabit", 1_000_000_000, 100_000_000],
      ["a hundred gigabit", 100_000_000_000, 1_000_000_000],
      ["a burst of more than 4.29 s", 1_000_000, 100_000_000],
      ["the longest burst", 40_000_000_000, 34_000_000_000],
    ] as const
  ).map(([what, rate, burst]) => story(`values: ${what}`, { ingressRate: rate, ingressBurst: burst })),
];

const chains: readonly Named[] = [
  ...versions
    .filter((cniVersion) => cniVersion >= "0.3.0")
    .map((cniVersion) => ({
      what: `bandwidth, behind bridge, version ${cniVersion}`,
      newer: cniVersion === "1.1.0",
      story: {
        conf: { ...bandwidth, ...limits, cniVersion },
        steps: cniVersion < "0.4.0" ? chain(bridge).filter((step) => step !== "CHECK") : chain(bridge),
        stays: ["br0"],
      },
    })),
  {
    what: "bandwidth, behind ptp, packets",
    story: {
      conf: { ...bandwidth, ...limits },
      steps: chain(ptp, [reaches("pod", "10.9.0.1"), reaches("node", "10.9.0.2")]),
    },
  },
];

const situations: readonly Named[] = [
  story("the pod's namespace gone", limits, [added, podGone, "DEL", "DEL", { call: "DEL", netns: "" }]),
  story("the pod's namespace gone, and held", limits, [added, podGoneButHeld, "DEL", "DEL"]),
  story("DEL of what never was", limits, ["DEL"]),
  story("ADD twice", limits, [added, added, "DEL", "DEL"]),
  { ...story("VERSION", {}, ["VERSION"]), newer: true },
  {
    what: "bandwidth, two interfaces of one pod",
    story: {
      conf: { ...bandwidth, ...limits },
      prepare(world) {
        behindAnother(world);
        world.node.ip("link", "add", "cali1", "type", "veth", "peer", "name", "net1", "netns", world.pod().name);
      },
      steps: [
        added,
        {
          call: "ADD",
          ifname: "net1",
          prevResult: { ...earlier, interfaces: [{ name: "cali1" }, { name: "net1", sandbox: "<pod>" }] },
        },
        "DEL",
        { call: "DEL", ifname: "net1" },
      ],
    },
  },
];

const checks: readonly Named[] = [
  tampered("the rate to the pod", () => [
    ..."qdisc change dev cali0 root tbf rate 1mbit burst 10000 limit 9999".split(" "),
  ]),
  tampered("the rate from the pod", (queue) => [
    ...`qdisc change dev ${queue} root tbf rate 1mbit burst 10000 limit 9999`.split(" "),
  ]),
  tampered("the limit to the pod, which is gone", () => [..."qdisc del dev cali0 root".split(" ")]),
  tampered("the limit from the pod, which is gone", (queue) => [...`qdisc del dev ${queue} root`.split(" ")]),
  tampered("what leads to the queue", () => [..."filter del dev cali0 parent ffff:".split(" ")]),
  story("CHECK after tampering with the queue, which is gone", limits, [
    added,
    { act: "goes", does: (world) => world.node.ip("link", "delete", queueOf(world)) },
    "CHECK",
    "DEL",
    "DEL",
  ]),
];

const faults: readonly Named[] = [
  fault("a rate without a burst", { ingressRate: 8000 }),
  fault("a burst without a rate", { egressBurst: 8000 }),
  fault("a burst of 4 GiB", { ingressRate: 8_000_000, ingressBurst: 34_359_738_368 }),
  fault("a rate of less than a byte", { ingressRate: 7, ingressBurst: 8000 }),
  fault("a burst of less than a byte", { ingressRate: 8000, ingressBurst: 7 }),
  fault("a text for a number", { ingressRate: "8000", ingressBurst: 8000 }),
  fault("a number below zero", { ingressRate: -8000, ingressBurst: 8000 }),
  fault("no plugin before it", limits, { call: "ADD", prevResult: undefined }),
  {
    what: "bandwidth, refused: behind macvlan",
    refused: true,
    story: {
      conf: { ...bandwidth, ...limits },
      prepare(world) {
        world.node.ip("link", "add", "link", "uplink", "name", "m0", "type", "macvlan");
        world.node.ip("link", "set", "m0", "netns", world.pod().name, "name", "eth0");
      },
      steps: [added, "DEL"],
    },
  },
  {
    what: "bandwidth, refused: no such interface",
    refused: true,
    story: { conf: { ...bandwidth, ...limits }, steps: [added, "DEL"] },
  },
];

export const bandwidthStories: readonly Named[] = [...keys, ...chains, ...situations, ...checks, ...faults];

/** portmap: behind a bridge, by what happens to connections. */
import type { JsonObject } from "../../../core/base/json.ts";
import { ask, program } from "../../support/echo.ts";
import type { TestNetns } from "../../support/netns.ts";
import type { Call, Look, Step, World } from "../../support/twin.ts";
import { both, fixed, fixed6, type Named, podGone, podGoneButHeld, versions, withOutside } from "./common.ts";

const portmap = { type: "portmap" };
const routes = [{ dst: "0.0.0.0/0" }];
const bridge = { type: "bridge", bridge: "br0", isGateway: true, hairpinMode: true, ipam: { ...fixed, routes } };
const neighbour = {
  ...bridge,
  ipam: { type: "static", addresses: [{ address: "10.9.0.3/24", gateway: "10.9.0.1" }], routes },
};

type Mapping = readonly [protocol: string, hostPort: number, containerPort: number, hostIP?: string];
const mapped = (...mappings: readonly Mapping[]): JsonObject => ({
  runtimeConfig: {
    portMappings: mappings.map(([protocol, hostPort, containerPort, hostIP]) => ({
      protocol,
      hostPort,
      containerPort,
      ...(hostIP !== undefined && { hostIP }),
    })),
  },
});
const web = mapped(["tcp", 8080, 80]);

const listens = (pod: number): Step => ({
  act: `pod ${pod} listens`,
  does: (world) => {
    world.start(world.pod(pod), process.execPath, program, "serve", `pod${pod}`, "80", "81");
    // Both protocols of the last port: 0051 is 81.
    const there = (): boolean =>
      ["tcp6", "udp6"].every((table) => world.pod(pod).run("cat", `/proc/net/${table}`).includes(":0051 "));
    for (let tries = 0; tries < 400 && !there(); tries++) Bun.sleepSync(25);
  },
});

type Place = "pod" | "pod1" | "node" | "outside";
function place(world: World, name: Place): TestNetns {
  if (name === "node") return world.node;
  return name === "outside" ? world.outside : world.pod(name === "pod" ? 0 : 1);
}

/** What a question is answered: "pod0 ADDRESS PORT" with the source that the pod saw, or a refusal, or silence. */
function hears(from: Place, question: string, answer: string): Look {
  return {
    look: `${from} asks ${question} and hears "${answer}"`,
    is: true,
    see: (world) => {
      const expected = new RegExp(`^(${answer})$`);
      for (let tries = 0; tries < 10; tries++) {
        const [heard = ""] = ask(place(world, from), [question], 400);
        if (expected.test(heard)) return true;
        Bun.sleepSync(50); // the server may be about to start, an address about to be known
      }
      return false;
    },
  };
}
const nobody = "ECONNREFUSED|EINVAL|silence";

/** What comes before, then ours, with pods that listen, and both back. */
function chain(looks: readonly Step[], before: JsonObject = bridge): readonly Step[] {
  const after = { call: "DEL", conf: before } as const;
  return [{ call: "ADD", conf: before }, "ADD", listens(0), ...looks, "CHECK", "DEL", after, "DEL"];
}
const story = (what: string, conf: JsonObject, looks: readonly Step[], before: JsonObject = bridge): Named => ({
  what: `portmap, ${what}`,
  story: { conf: { ...portmap, ...conf }, prepare: withOutside, steps: chain(looks, before), stays: ["br0"] },
});

const everybody = (protocol: string): readonly Step[] => [
  hears("outside", `${protocol} 192.0.2.10 8080`, "pod0 192.0.2.1 80"),
  hears("node", `${protocol} 192.0.2.10 8080`, "pod0 192.0.2.10 80"),
  hears("node", `${protocol} 127.0.0.1 8080`, "pod0 10.9.0.1 80"),
  hears("pod", `${protocol} 192.0.2.10 8080`, "pod0 10.9.0.1 80"),
  { call: "ADD", pod: 1, conf: neighbour },
  hears("pod1", `${protocol} 192.0.2.10 8080`, "pod0 10.9.0.1 80"),
  { call: "DEL", pod: 1, conf: neighbour },
];

/** What the kernel knows of UDP to the pod. */
const flowKnown = (is: boolean): Look => ({
  look: "the flow is known",
  is,
  see: (world) => world.node.run("cat", "/proc/net/nf_conntrack").includes("src=10.9.0.2 dst=192.0.2.1"),
});

const ways: readonly Named[] = [
  story("TCP from everywhere", web, everybody("tcp")),
  story("UDP from everywhere", mapped(["udp", 8080, 80]), everybody("udp")),
  story(
    "IPv6",
    web,
    [
      hears("outside", "tcp 2001:db8::10 8080", "pod0 2001:db8::1 80"),
      hears("node", "tcp 2001:db8::10 8080", "pod0 2001:db8::10 80"),
      hears("pod", "tcp 2001:db8::10 8080", "pod0 fd00:9::1 80"),
    ],
    { ...bridge, ipam: { ...fixed6, routes: [{ dst: "::/0" }] } },
  ),
  story(
    "two families",
    web,
    [
      hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
      hears("outside", "tcp 2001:db8::10 8080", "pod0 2001:db8::1 80"),
    ],
    { ...bridge, ipam: { ...both, routes: [...routes, { dst: "::/0" }] } },
  ),
  story("several ports", mapped(["tcp", 8080, 80], ["udp", 8080, 81], ["tcp", 9090, 81], ["sctp", 9090, 81]), [
    hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
    hears("outside", "udp 192.0.2.10 8080", "pod0 192.0.2.1 81"),
    hears("outside", "tcp 192.0.2.10 9090", "pod0 192.0.2.1 81"),
    hears("outside", "udp 192.0.2.10 9090", nobody),
  ]),
  story("an address of the node", mapped(["tcp", 8080, 80, "192.0.2.10"]), [
    hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
    hears("node", "tcp 10.9.0.1 8080", nobody),
  ]),
  story("all addresses of a family", mapped(["tcp", 8080, 80, "0.0.0.0"], ["tcp", 9090, 80, "::"]), [
    hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
    hears("outside", "tcp 192.0.2.10 9090", nobody),
  ]),
  {
    what: "portmap, a flow that outlives its pod",
    story: {
      conf: { ...portmap, ...mapped(["udp", 8080, 80]) },
      prepare: withOutside,
      steps: [
        { call: "ADD", conf: bridge },
        "ADD",
        listens(0),
        hears("outside", "udp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
        flowKnown(true),
        "DEL",
        flowKnown(false),
        { call: "DEL", conf: bridge },
      ],
      stays: ["br0"],
    },
  },
  story("traffic that passes the node", mapped(["tcp", 80, 81]), [
    hears("outside", "tcp 192.0.2.10 80", "pod0 192.0.2.1 81"),
    {
      act: "the outside knows the way to the pods",
      does: (w) => void w.outside.ip("route", "add", "10.9.0.0/24", "via", "192.0.2.10"),
    },
    hears("outside", "tcp 10.9.0.2 80", "pod0 192.0.2.1 80"),
  ]),
];

const keys: readonly Named[] = [
  story("no ports", {}, []),
  story("null for ports", { runtimeConfig: { portMappings: null } }, []),
  story("no snat", { ...web, snat: false }, [
    hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
    hears("node", "tcp 192.0.2.10 8080", "pod0 192.0.2.10 80"),
    hears("node", "tcp 127.0.0.1 8080", nobody),
  ]),
  {
    ...story("everybody hidden", { ...web, masqAll: true }, [
      hears("outside", "tcp 192.0.2.10 8080", "pod0 10.9.0.1 80"),
    ]),
    newer: true,
  },
  story("another mark", { ...web, markMasqBit: 5 }, [hears("node", "tcp 127.0.0.1 8080", "pod0 10.9.0.1 80")]),
  story("a condition", { ...web, conditionsV4: ["!", "-d", "10.9.0.1"] }, [
    hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
    hears("node", "tcp 10.9.0.1 8080", nobody),
  ]),
  {
    ...story("nftables", { ...web, backend: "nftables", conditionsV4: ["ip", "daddr", "!=", "10.9.0.1"] }, [
      hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
      hears("node", "tcp 127.0.0.1 8080", "pod0 10.9.0.1 80"),
      hears("pod", "tcp 192.0.2.10 8080", "pod0 10.9.0.1 80"),
      hears("node", "tcp 10.9.0.1 8080", nobody),
      { call: "ADD", pod: 1, conf: neighbour },
      hears("pod1", "tcp 192.0.2.10 8080", "pod0 10.9.0.1 80"),
      { call: "DEL", pod: 1, conf: neighbour },
    ]),
    newer: true,
  },
  story(
    "a condition of IPv6",
    { ...web, conditionsV6: ["-s", "2001:db8::/64"] },
    [hears("outside", "tcp 2001:db8::10 8080", "pod0 2001:db8::1 80"), hears("pod", "tcp 2001:db8::10 8080", nobody)],
    { ...bridge, ipam: { ...fixed6, routes: [{ dst: "::/0" }] } },
  ),
  {
    what: "portmap, a chain of iptables for marks",
    story: {
      conf: { ...portmap, ...web, externalSetMarkChain: "X" },
      prepare: (world) => {
        withOutside(world);
        world.node.run("iptables", "-t", "nat", "-N", "X");
      },
      steps: chain([
        hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
        hears("node", "tcp 127.0.0.1 8080", "pod0 10.9.0.1 80"),
      ]),
      stays: ["br0"],
    },
  },
  story(
    "a range",
    { runtimeConfig: { portMappings: [{ protocol: "tcp", hostPort: 8080, containerPort: 80, length: 2 }] } },
    [
      hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80"),
      hears("outside", "tcp 192.0.2.10 8081", "pod0 192.0.2.1 81"),
    ],
  ),
  ...versions.map((cniVersion): Named => {
    const conf = { ...bridge, cniVersion };
    const steps = chain([hears("outside", "tcp 192.0.2.10 8080", "pod0 192.0.2.1 80")], conf);
    return {
      what: `portmap, version ${cniVersion}`,
      newer: cniVersion === "1.1.0",
      story: {
        conf: { ...portmap, ...web, cniVersion },
        prepare: withOutside,
        steps: cniVersion < "0.4.0" ? steps.filter((step) => step !== "CHECK") : steps,
        stays: ["br0"],
      },
    };
  }),
];

const earlier = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "eth0", sandbox: "<pod>" }],
  ips: [{ interface: 0, address: "10.9.0.2/24" }],
};
const alone = (what: string, conf: JsonObject, steps: readonly Step[], more: Partial<Named> = {}): Named => ({
  what: `portmap, ${what}`,
  story: { conf: { ...portmap, ...conf }, steps },
  ...more,
});
const added: Call = { call: "ADD", prevResult: earlier };
const fault = (what: string, conf: JsonObject, call: Call = added): Named =>
  alone(`refused: ${what}`, conf, [call, "DEL"], { refused: true });

const faults: readonly Named[] = [
  fault("nothing before it", web, { call: "ADD" }),
  fault("a port too high", mapped(["tcp", 65_536, 80])),
  fault("port 0 of the pod", mapped(["tcp", 80, 0])),
  fault("a protocol without ports", mapped(["icmp", 80, 80])),
  fault("another condition", { ...web, conditionsV4: ["-m", "mark", "--mark", "1"] }),
  fault("two ways to mark", { ...web, markMasqBit: 3, externalSetMarkChain: "X" }),
  fault("a bit that no mark has", { ...web, markMasqBit: 32 }),
  { ...fault("another backend", { ...web, backend: "pf" }), newer: true },
  {
    ...fault("a chain of iptables with nftables", { ...web, backend: "nftables", externalSetMarkChain: "X" }),
    newer: true,
  },
  {
    ...fault("conditions of the other backend", { ...web, backend: "nftables", conditionsV4: ["-d", "10.0.0.1"] }),
    newer: true,
  },
];

const situations: readonly Named[] = [
  alone("the pod's namespace gone", web, [added, podGone, "DEL", "DEL", { call: "DEL", netns: "" }]),
  alone("the pod's namespace gone, and held", web, [added, podGoneButHeld, "DEL", "DEL"]),
  alone("DEL of what never was", web, ["DEL"]),
  alone("port 0 of the node", mapped(["tcp", 0, 80]), [added, "DEL"]),
  alone(
    "an address of a family that the pod lacks",
    mapped(["tcp", 80, 80], ["tcp", 81, 81, "2001:db8::10"]),
    [added, "DEL"],
    {
      refused: true,
    },
  ),
  alone("a pod without an address", web, [{ call: "ADD", prevResult: { ...earlier, ips: [] } }, "DEL"], {
    refused: true,
  }),
  alone("a port that another pod has", web, [added, { ...added, pod: 1 }, { call: "DEL", pod: 1 }, "CHECK", "DEL"]),
  { ...alone("VERSION", {}, ["VERSION"]), newer: true },
];

export const portmapStories: readonly Named[] = [...ways, ...keys, ...faults, ...situations];

import type { World } from "../../support/twin.ts";
import {
  add,
  both,
  del,
  dns,
  eachVersion,
  fixed,
  fixed6,
  life,
  type Named,
  podGone,
  podGoneButHeld,
  pool,
  pools,
  reaches,
  refused,
  routed,
  tampered,
  withOutside,
} from "./common.ts";

const bridge = { type: "bridge", bridge: "br0" };
const gateway = { ...bridge, isGateway: true, ipam: fixed };
const stays = ["br0", "br0.100"];

/** Without IPAM the reference's CHECK always fails, for want of a plugin's name. */
const unchecked = ["ADD", "DEL", "DEL"] as const;

function otherAddress(world: World): void {
  world.node.ip("link", "add", "br0", "type", "bridge");
  world.node.ip("address", "add", "10.9.0.99/24", "dev", "br0");
  world.node.ip("link", "set", "br0", "addrgenmode", "none", "up");
}

function otherAddress6(world: World): void {
  world.node.ip("link", "add", "br0", "type", "bridge");
  world.node.ip("link", "set", "br0", "addrgenmode", "none", "up");
  world.node.ip("address", "add", "fd00:9::99/64", "dev", "br0", "nodad");
  world.node.ip("address", "add", "fd00:8::99/64", "dev", "br0", "nodad");
}

/** The keys one by one, and what they make together. */
const keys: readonly Named[] = [
  { what: "nothing but a link", story: { conf: bridge, steps: unchecked } },
  { what: "the default name", story: { conf: { type: "bridge", ipam: fixed }, steps: life, stays: ["cni0"] } },
  { what: "address", story: { conf: { ...bridge, ipam: fixed }, steps: life } },
  { what: "IPv6 address", story: { conf: { ...bridge, ipam: fixed6 }, steps: life } },
  { what: "gateway and routes", story: { conf: { ...bridge, isGateway: true, ipam: routed }, steps: life } },
  {
    what: "gateway of its own reckoning",
    story: {
      conf: {
        ...bridge,
        isGateway: true,
        ipam: { type: "static", addresses: [{ address: "10.9.0.130/25" }, { address: "fd00:9::2/64" }] },
      },
      steps: life,
    },
  },
  { what: "default gateway", story: { conf: { ...bridge, isDefaultGateway: true, ipam: fixed }, steps: life } },
  {
    what: "default gateway beside a default route with a gateway",
    story: {
      conf: {
        ...bridge,
        isDefaultGateway: true,
        ipam: { ...fixed, routes: [{ dst: "0.0.0.0/0", gw: "10.9.0.77" }] },
      },
      steps: life,
    },
  },
  { what: "two families", story: { conf: { ...bridge, isDefaultGateway: true, ipam: both }, steps: life } },
  {
    what: "two range sets and routes",
    story: { conf: { ...bridge, isGateway: true, ipam: pools }, steps: life },
  },
  {
    what: "routes with priority and table",
    newer: true,
    story: {
      conf: {
        ...bridge,
        cniVersion: "1.1.0",
        ipam: {
          ...fixed,
          routes: [
            { dst: "198.51.100.0/24", gw: "10.9.0.77", priority: 7 },
            { dst: "203.0.113.0/24", table: 77 },
          ],
        },
      },
      steps: life,
    },
  },
  {
    what: "routes with scope",
    newer: true,
    story: {
      conf: {
        ...bridge,
        cniVersion: "1.1.0",
        ipam: {
          type: "static",
          addresses: [{ address: "10.9.0.2/24" }],
          routes: [{ dst: "192.0.2.0/24", scope: 253 }, { dst: "198.51.100.0/24" }],
        },
      },
      steps: life,
    },
  },
  {
    what: "a gateway that only a route reaches",
    story: {
      conf: {
        ...bridge,
        ipam: {
          type: "static",
          addresses: [{ address: "10.9.0.2/32" }],
          routes: [{ dst: "10.1.0.1/32" }, { dst: "0.0.0.0/0", gw: "10.1.0.1" }],
        },
      },
      steps: ["ADD", "DEL", "DEL"],
    },
  },
  {
    what: "equal routes by two gateways",
    story: {
      conf: {
        ...bridge,
        ipam: {
          ...both,
          routes: [
            { dst: "fd00:99::/64", gw: "fd00:9::7" },
            { dst: "fd00:99::/64", gw: "fd00:9::8" },
            { dst: "198.51.100.0/24", gw: "10.9.0.7" },
            { dst: "198.51.100.0/25", gw: "10.9.0.8" },
          ],
        },
      },
      steps: life,
    },
  },
  {
    what: "routes with mtu and advmss",
    newer: true,
    story: {
      conf: {
        ...bridge,
        cniVersion: "1.1.0",
        ipam: { ...fixed, routes: [{ dst: "198.51.100.0/24", gw: "10.9.0.77", mtu: 1300, advmss: 1200 }] },
      },
      steps: life,
    },
  },
  { what: "MTU", story: { conf: { ...bridge, mtu: 1400, ipam: fixed }, steps: life } },
  { what: "MTU of nothing", story: { conf: { ...bridge, mtu: 0, ipam: fixed }, steps: life } },
  { what: "hairpin", story: { conf: { ...bridge, hairpinMode: true }, steps: unchecked } },
  { what: "promiscuous", story: { conf: { ...bridge, promiscMode: true, ipam: fixed }, steps: life } },
  { what: "VLAN", vlan: true, story: { conf: { ...bridge, vlan: 100, ipam: fixed }, steps: life } },
  {
    what: "VLAN with gateway",
    vlan: true,
    story: { conf: { ...bridge, vlan: 100, isGateway: true, ipam: fixed }, steps: life },
  },
  {
    what: "VLAN beside the default one",
    vlan: true,
    newer: true,
    story: { conf: { ...bridge, vlan: 100, preserveDefaultVlan: true }, steps: unchecked },
  },
  {
    what: "trunk",
    vlan: true,
    newer: true,
    story: { conf: { ...bridge, vlanTrunk: [{ id: 7 }, { minID: 100, maxID: 103 }] }, steps: unchecked },
  },
  {
    what: "trunk beside a VLAN",
    vlan: true,
    newer: true,
    story: { conf: { ...bridge, vlan: 100, vlanTrunk: [{ minID: 2, maxID: 4 }] }, steps: unchecked },
  },
  {
    what: "default VLAN kept, no other",
    newer: true,
    story: { conf: { ...bridge, preserveDefaultVlan: true, ipam: fixed }, steps: life },
  },
  { what: "isolated port", newer: true, story: { conf: { ...bridge, portIsolation: true }, steps: unchecked } },
  {
    what: "duplicate address detection",
    story: { detects: true, conf: { ...bridge, enabledad: true, ipam: both }, steps: life },
  },
  {
    what: "no duplicate address detection",
    story: { detects: true, conf: { ...bridge, ipam: both }, steps: ["ADD", "DEL"] },
  },
  {
    what: "no interface in the pod",
    newer: true,
    story: { conf: { ...bridge, disableContainerInterface: true }, steps: unchecked },
  },
  {
    what: "MAC by CNI_ARGS",
    story: { conf: { ...bridge, ipam: fixed }, args: "IgnoreUnknown=1;MAC=02:00:00:00:00:0a", steps: life },
  },
  {
    what: "MAC by args.cni",
    story: {
      conf: { ...bridge, args: { cni: { mac: "02:00:00:00:00:0b" } } },
      args: "IgnoreUnknown=1;MAC=02:00:00:00:00:0a",
      steps: unchecked,
    },
  },
  {
    what: "MAC by the runtime",
    story: {
      conf: {
        ...bridge,
        args: { cni: { mac: "02:00:00:00:00:0b" } },
        capabilities: { mac: true },
        runtimeConfig: { mac: "02:00:00:00:00:0c" },
      },
      args: "IgnoreUnknown=1;MAC=02:00:00:00:00:0a",
      steps: unchecked,
    },
  },
  {
    what: "dns of its own",
    story: { conf: { ...bridge, ipam: { ...fixed, dns: { domain: "i" } }, dns }, steps: life },
  },
  { what: "dns of IPAM", story: { conf: { ...bridge, ipam: { ...fixed, dns } }, steps: life } },
  { what: "empty dns", story: { conf: { ...bridge, ipam: { ...fixed, dns }, dns: {} }, steps: life } },
  { what: "another name in the pod", story: { conf: gateway, ifname: "net1", steps: life } },
];

const situations: readonly Named[] = [
  {
    what: "another address on the bridge",
    refused: true,
    story: { conf: gateway, prepare: otherAddress, steps: refused },
  },
  {
    what: "another address on the bridge, forced",
    story: { conf: { ...gateway, forceAddress: true }, prepare: otherAddress, steps: life },
  },
  {
    what: "another IPv6 address on the bridge",
    refused: true,
    story: { conf: { ...gateway, ipam: fixed6 }, prepare: otherAddress6, steps: refused },
  },
  {
    what: "another IPv6 address on the bridge, forced",
    story: { conf: { ...gateway, ipam: fixed6, forceAddress: true }, prepare: otherAddress6, steps: life },
  },
  {
    what: "a bridge that somebody made, without gateway",
    story: {
      conf: { ...bridge, mtu: 1400, ipam: fixed },
      prepare: (world) => {
        world.node.ip("link", "add", "br0", "address", "02:00:00:00:00:77", "type", "bridge");
      },
      steps: life,
    },
  },
  {
    what: "two pods",
    story: {
      conf: { ...bridge, isGateway: true, ipam: pools },
      steps: [add(0), add(1), { call: "CHECK", pod: 0 }, { call: "CHECK", pod: 1 }, del(0), del(1), del(0)],
    },
  },
  {
    what: "two interfaces of one pod",
    story: {
      conf: { ...bridge, ipam: pool },
      steps: [
        "ADD",
        { call: "ADD", ifname: "net1", prevResult: undefined },
        { call: "DEL", ifname: "net1", prevResult: undefined },
        "DEL",
      ],
    },
  },
  { what: "ADD twice", story: { conf: { ...bridge, ipam: pool }, steps: ["ADD", "ADD", "DEL", "DEL"] } },
  {
    what: "the pod's namespace gone",
    story: { conf: { ...gateway, ipam: pool }, steps: ["ADD", podGone, "DEL", "DEL", add(1), del(1)] },
  },
  {
    what: "the runtime names no namespace",
    story: {
      conf: { ...gateway, ipam: pool },
      steps: ["ADD", podGone, { call: "DEL", netns: "" }, { call: "DEL", netns: "" }],
    },
  },
  {
    what: "the pod's namespace gone, and held",
    story: { conf: { ...gateway, ipam: pool }, steps: ["ADD", podGoneButHeld, "DEL", "DEL"] },
  },
  { what: "DEL of what never was", story: { conf: { ...gateway, ipam: pool }, steps: ["DEL"] } },
  {
    what: "the pod deleted its interface",
    story: {
      conf: { ...gateway, ipam: pool },
      steps: ["ADD", { act: "goes", does: (w) => w.pod().ip("link", "delete", "eth0") }, "CHECK", "DEL", "DEL"],
    },
  },
  {
    what: "the bridge is gone",
    story: {
      conf: { ...gateway, ipam: pool },
      steps: ["ADD", { act: "goes", does: (w) => w.node.ip("link", "delete", "br0") }, "CHECK", "DEL", "DEL"],
    },
  },
  {
    what: "GC of a pod that is gone, with one address for all",
    newer: true,
    story: {
      conf: { ...bridge, cniVersion: "1.1.0", ipam: { ...pool, ranges: [[{ subnet: "10.9.0.0/30" }]] } },
      steps: ["ADD", podGone, { call: "GC", conf: { "cni.dev/valid-attachments": [] } }, add(1), del(1), del(0)],
    },
  },
  {
    what: "STATUS and VERSION",
    newer: true,
    story: {
      conf: { ...gateway, cniVersion: "1.1.0", ipam: pool },
      steps: ["STATUS", "VERSION", "ADD", "STATUS", "DEL"],
    },
  },
];

const checks: readonly Named[] = (
  [
    ["the address", (w: World) => w.pod().ip("address", "delete", "10.9.0.2/24", "dev", "eth0")],
    ["the default route", (w: World) => w.pod().ip("route", "delete", "default")],
    ["the MAC address", (w: World) => w.pod().ip("link", "set", "eth0", "address", "02:00:00:00:00:99")],
    ["the bridge's MAC address", (w: World) => w.node.ip("link", "set", "br0", "address", "02:00:00:00:00:99")],
    ["the bridge's promiscuity", (w: World) => w.node.ip("link", "set", "br0", "promisc", "on")],
    [
      "the port",
      (w: World) => {
        for (const link of w.node.ipJson("link", "show", "master", "br0"))
          w.node.ip("link", "set", String(link.ifname), "nomaster");
      },
    ],
    [
      "the kind",
      (w: World) => {
        w.pod().ip("link", "delete", "eth0");
        w.pod().ip("link", "add", "eth0", "type", "bridge");
      },
    ],
  ] as const
).map(([what, does]) => ({
  what: `CHECK after tampering with ${what}`,
  story: {
    conf: { ...bridge, isGateway: true, ipam: routed },
    steps: tampered(what, does),
    // What somebody else put in the place of ours is somebody else's.
    ...(what === "the kind" && { stays: [...stays, "eth0"] }),
  },
}));

/** Routes that CHECK has to tell apart by more than their destination. */
const moved: readonly Named[] = (
  [
    ["the priority", ["metric", "8"]],
    ["the table", ["metric", "7", "table", "78"]],
  ] as const
).map(([what, where]) => ({
  what: `CHECK after tampering with ${what} of a route`,
  newer: true,
  story: {
    conf: {
      ...bridge,
      cniVersion: "1.1.0",
      ipam: { ...fixed, routes: [{ dst: "198.51.100.0/24", gw: "10.9.0.77", priority: 7 }] },
    },
    steps: tampered("elsewhere", (w) => {
      w.pod().ip("route", "delete", "198.51.100.0/24");
      w.pod().ip("route", "add", "198.51.100.0/24", "via", "10.9.0.77", "dev", "eth0", ...where);
    }),
  },
}));

const faults: readonly Named[] = (
  [
    ["the name is taken by another kind", { bridge: "uplink" }],
    ["hairpin and promiscuous", { hairpinMode: true, promiscMode: true }],
    ["VLAN out of range", { vlan: 4095 }],
    ["VLAN below zero", { vlan: -1 }],
    ["a string for a number", { mtu: "1400" }],
    ["a number for a boolean", { isGateway: 1 }],
    ["a name too long", { bridge: "a-name-of-sixteen" }],
    ["no IPAM plugin of that name", { ipam: { type: "absent" } }],
    ["IPAM without addresses", { ipam: { type: "static", addresses: [] } }],
    ["an address without length", { ipam: { type: "static", addresses: [{ address: "10.9.0.2" }] } }],
    ["a MAC address that is none", { runtimeConfig: { mac: "zz" } }],
    ["a version from the future", { cniVersion: "9.0.0" }],
    ["a route to nowhere", { ipam: { ...fixed, routes: [{ dst: "198.51.100.0/24", gw: "172.31.0.1" }] } }],
  ] as const
).map(([what, conf]) => ({
  what: `refused: ${what}`,
  refused: true,
  story: { conf: { ...bridge, ...conf }, steps: refused },
}));

const newerFaults: readonly Named[] = (
  [
    ["trunk without its end", { vlanTrunk: [{ minID: 3 }] }],
    ["trunk without its beginning", { vlanTrunk: [{ maxID: 3 }] }],
    ["trunk that falls", { vlanTrunk: [{ minID: 30, maxID: 3 }] }],
    ["trunk of VLAN 0", { vlanTrunk: [{ id: 0 }] }],
    ["trunk of VLAN 4095", { vlanTrunk: [{ minID: 1, maxID: 4095 }] }],
    ["an interface that is down, with IPAM", { disableContainerInterface: true, ipam: fixed }],
  ] as const
).map(([what, conf]) => ({
  what: `refused: ${what}`,
  refused: true,
  newer: true,
  story: { conf: { ...bridge, ...conf }, steps: refused },
}));

const outward = { ...pools, routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }] };

/** eth0's frames under another address. */
const spoof = (world: World): void => {
  world.pod().ip("link", "set", "eth0", "address", "02:00:00:00:00:66");
};

/** Whether the kernel takes a queueing discipline without correcting the link first. */
function queueStays(world: World): boolean {
  const port = (): Readonly<Record<string, unknown>> | undefined =>
    world.node.ipJson("link", "show", "master", "br0")[0];
  const before = port()?.txqlen;
  world.node.run("tc", "qdisc", "add", "dev", String(port()?.ifname), "root", "pfifo");
  return port()?.txqlen === before;
}

/** Another interface behind the pod's port, which only hairpin lets talk with eth0. */
function behindThePort(world: World): void {
  world.pod().ip("link", "add", "inner", "link", "eth0", "type", "macvlan", "mode", "vepa");
  world.pod().ip("link", "set", "inner", "netns", world.pod(1).name);
  world.pod(1).ip("address", "add", "10.9.0.99/24", "dev", "inner");
  world.pod(1).ip("link", "set", "inner", "up");
}

const packets: readonly Named[] = [
  {
    what: "packets: pods, gateway, and out by masquerading",
    story: {
      conf: { ...bridge, isGateway: true, ipMasq: true, ipam: outward },
      prepare: withOutside,
      steps: [
        add(0),
        add(1),
        reaches("pod", "10.9.0.1"),
        reaches("pod", "fd00:9::1"),
        reaches("pod", "10.9.0.3"),
        reaches("pod", "fd00:9::3"),
        reaches("pod", "192.0.2.1"),
        reaches("pod1", "2001:db8::1"),
        reaches("node", "10.9.0.2"),
        "CHECK",
        del(0),
        reaches("pod1", "192.0.2.1"),
        del(1),
      ],
    },
  },
  {
    what: "packets: nothing comes back without masquerading",
    story: {
      conf: { ...bridge, isGateway: true, ipam: outward },
      prepare: withOutside,
      steps: [add(0), reaches("pod", "192.0.2.10"), reaches("pod", "192.0.2.1", false), del(0)],
    },
  },
  {
    what: "packets: a queueing discipline at the node's end",
    story: {
      conf: gateway,
      steps: ["ADD", { look: "the queue is as it was", is: true, see: queueStays }, reaches("pod", "10.9.0.1"), "DEL"],
    },
  },
  {
    what: "packets: masquerading by nftables",
    newer: true,
    story: {
      conf: { ...bridge, isGateway: true, ipMasq: true, ipMasqBackend: "nftables", ipam: outward },
      prepare: withOutside,
      steps: [add(0), reaches("pod", "192.0.2.1"), reaches("pod", "2001:db8::1"), "CHECK", "DEL", "DEL"],
    },
  },
  {
    what: "packets: forged addresses are dropped",
    newer: true,
    story: {
      conf: { ...gateway, macspoofchk: true },
      steps: [
        "ADD",
        reaches("pod", "10.9.0.1"),
        "CHECK",
        { act: "forges", does: spoof },
        reaches("pod", "10.9.0.1", false),
        "DEL",
        "DEL",
      ],
    },
  },
  {
    what: "packets: forged addresses pass without the check",
    story: {
      conf: gateway,
      steps: ["ADD", { act: "forges", does: spoof }, reaches("pod", "10.9.0.1"), "DEL"],
    },
  },
  {
    what: "packets: isolated ports",
    newer: true,
    story: {
      conf: { ...bridge, isGateway: true, portIsolation: true, ipam: pool },
      steps: [add(0), add(1), reaches("pod", "10.9.0.1"), reaches("pod", "10.9.0.3", false), del(0), del(1)],
    },
  },
  {
    what: "packets: hairpin",
    story: {
      conf: { ...gateway, hairpinMode: true },
      steps: ["ADD", { act: "inner", does: behindThePort }, reaches("pod1", "10.9.0.2"), "DEL"],
    },
  },
  {
    what: "packets: no hairpin",
    story: {
      conf: gateway,
      steps: ["ADD", { act: "inner", does: behindThePort }, reaches("pod1", "10.9.0.2", false), "DEL"],
    },
  },
];

export const bridgeStories: readonly Named[] = [
  ...keys,
  ...situations,
  ...checks,
  ...moved,
  ...faults,
  ...newerFaults,
  ...packets,
  ...eachVersion({ ...bridge, isGateway: true, ipam: { ...routed, dns } }),
].map((named) => ({
  ...named,
  what: named.what.startsWith("bridge") ? named.what : `bridge, ${named.what}`,
  story: { stays, ...named.story },
}));

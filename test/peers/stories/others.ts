/** macvlan, ptp and loopback. */
import type { Story, World } from "../../support/twin.ts";
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
  reachesAtOnce,
  refused,
  routed,
  tampered,
  withOutside,
} from "./common.ts";

type Conf = Readonly<Record<string, unknown>>;
const fault = (type: string, base: Conf, what: string, conf: Conf, more: Partial<Story> = {}): Named => ({
  what: `${type}, refused: ${what}`,
  refused: true,
  story: { ...more, conf: { type, ...base, ...conf }, steps: refused },
});

// --- macvlan ---------------------------------------------------------------------------------------------------------

const macvlan = { type: "macvlan", master: "uplink" };

/** A parent of the pod's own, with the default route. */
function parentInPod(world: World): void {
  const pod = world.pod();
  pod.ip("link", "add", "lower", "type", "veth", "peer", "name", "lower-peer");
  for (const end of ["lower-peer", "lower"]) pod.ip("link", "set", end, "addrgenmode", "none", "up");
  pod.ip("link", "set", "lower", "mtu", "1450");
  pod.ip("address", "add", "10.8.0.2/24", "dev", "lower");
  pod.ip("route", "add", "default", "via", "10.8.0.1");
}

const onUplink = (is: World): void => {
  is.outside.ip("address", "add", "10.9.0.1/24", "dev", "wire");
};

const macvlanKeys: readonly Named[] = [
  { what: "macvlan, nothing but a link", story: { conf: macvlan, steps: life } },
  { what: "macvlan, address and routes", story: { conf: { ...macvlan, ipam: routed }, steps: life } },
  { what: "macvlan, two families", story: { conf: { ...macvlan, ipam: both }, steps: life } },
  { what: "macvlan, IPv6", story: { detects: true, conf: { ...macvlan, ipam: fixed6 }, steps: life } },
  { what: "macvlan, two range sets", story: { conf: { ...macvlan, ipam: pools }, steps: life } },
  { what: "macvlan, the default route's device", story: { conf: { type: "macvlan", ipam: fixed }, steps: life } },
  ...["bridge", "private", "vepa", "passthru"].map(
    (mode): Named => ({
      what: `macvlan, ${mode}`,
      story: { conf: { ...macvlan, mode, ipam: fixed }, steps: life },
    }),
  ),
  { what: "macvlan, an empty mode", story: { conf: { ...macvlan, mode: "" }, steps: life } },
  { what: "macvlan, MTU", story: { conf: { ...macvlan, mtu: 1300 }, steps: life } },
  { what: "macvlan, the MTU of its parent", story: { conf: { ...macvlan, mtu: 1500 }, steps: life } },
  {
    what: "macvlan, a parent of another MTU",
    story: {
      conf: macvlan,
      prepare: (world) => {
        world.node.ip("link", "set", "uplink", "mtu", "1450");
      },
      steps: life,
    },
  },
  {
    what: "macvlan, MAC",
    newer: true,
    story: { conf: { ...macvlan, mac: "02:00:00:00:00:0d", ipam: fixed }, steps: life },
  },
  {
    what: "macvlan, MAC by CNI_ARGS",
    story: {
      conf: { ...macvlan, mac: "02:00:00:00:00:0d" },
      args: "IgnoreUnknown=1;MAC=02:00:00:00:00:0a",
      steps: life,
    },
  },
  {
    what: "macvlan, MAC by the runtime",
    story: {
      conf: { ...macvlan, capabilities: { mac: true }, runtimeConfig: { mac: "02:00:00:00:00:0e" } },
      args: "IgnoreUnknown=1;MAC=02:00:00:00:00:0a",
      steps: life,
    },
  },
  { what: "macvlan, broadcast queue", newer: true, story: { conf: { ...macvlan, bcqueuelen: 2000 }, steps: life } },
  {
    what: "macvlan, parent in the pod",
    newer: true,
    story: {
      conf: { ...macvlan, master: "lower", linkInContainer: true, ipam: fixed },
      prepare: parentInPod,
      steps: life,
    },
  },
  {
    what: "macvlan, the default route's device in the pod",
    newer: true,
    story: { conf: { type: "macvlan", linkInContainer: true, ipam: fixed }, prepare: parentInPod, steps: life },
  },
  { what: "macvlan, dns", story: { conf: { ...macvlan, dns, ipam: { ...fixed, dns: { domain: "i" } } }, steps: life } },
  { what: "macvlan, dns of IPAM alone", story: { conf: { ...macvlan, ipam: { ...fixed, dns } }, steps: life } },
];

const macvlanSituations: readonly Named[] = [
  { what: "macvlan, ADD twice", story: { conf: { ...macvlan, ipam: pool }, steps: ["ADD", "ADD", "DEL", "DEL"] } },
  {
    what: "macvlan, the pod's namespace gone",
    story: { conf: { ...macvlan, ipam: pool }, steps: ["ADD", podGone, "DEL", "DEL", { call: "DEL", netns: "" }] },
  },
  {
    what: "macvlan, the parent gone",
    story: {
      conf: { ...macvlan, ipam: pool },
      steps: ["ADD", { act: "goes", does: (w) => w.node.ip("link", "delete", "uplink") }, "CHECK", "DEL", "DEL"],
      stays: ["uplink", "wire"],
    },
  },
  {
    what: "macvlan, the pod's namespace gone, and held",
    story: { conf: { ...macvlan, ipam: pool }, steps: ["ADD", podGoneButHeld, "DEL", "DEL"] },
  },
  { what: "macvlan, DEL of what never was", story: { conf: { ...macvlan, ipam: pool }, steps: ["DEL"] } },
  {
    what: "macvlan, STATUS and VERSION",
    newer: true,
    story: { conf: { ...macvlan, cniVersion: "1.1.0", ipam: pool }, steps: ["STATUS", "VERSION"] },
  },
  {
    what: "macvlan, IPAM fails and nobody calls DEL",
    refused: true,
    story: {
      conf: { ...macvlan, ipam: { type: "static", addresses: [{ address: "x" }] } },
      steps: [
        "ADD",
        {
          look: "the pod is as it was",
          is: true,
          see: (world) => world.pod().ipJson("link", "show").length === 1,
        },
      ],
    },
  },
  {
    what: "macvlan, two pods, one passthru",
    story: {
      conf: { ...macvlan, mode: "passthru", ipam: pool },
      steps: [add(0), { ...add(1), conf: { mode: "bridge" } }, del(0), del(1)],
    },
  },
  {
    what: "macvlan, packets: to each other and to the outside, not to the node",
    story: {
      conf: { ...macvlan, ipam: pool },
      prepare: onUplink,
      steps: [
        add(0),
        add(1),
        reaches("pod", "10.9.0.1"),
        reaches("pod", "10.9.0.3"),
        del(0),
        reaches("pod1", "10.9.0.1"),
        del(1),
      ],
    },
  },
  {
    what: "macvlan, packets: private pods",
    story: {
      conf: { ...macvlan, mode: "private", ipam: pool },
      prepare: onUplink,
      steps: [add(0), add(1), reaches("pod", "10.9.0.1"), reaches("pod", "10.9.0.3", false), del(0), del(1)],
    },
  },
];

const macvlanChecks: readonly Named[] = (
  [
    ["the address", (w: World) => w.pod().ip("address", "delete", "10.9.0.2/24", "dev", "eth0")],
    ["the routes", (w: World) => w.pod().ip("route", "delete", "default")],
    ["the MAC address", (w: World) => w.pod().ip("link", "set", "eth0", "address", "02:00:00:00:00:99")],
    ["the mode", (w: World) => w.pod().ip("link", "set", "eth0", "type", "macvlan", "mode", "private")],
    ["the link", (w: World) => w.pod().ip("link", "delete", "eth0")],
  ] as const
).map(([what, does]) => ({
  what: `macvlan, CHECK after tampering with ${what}`,
  story: { conf: { ...macvlan, ipam: routed }, steps: tampered(what, does) },
}));

const macvlanFaults: readonly Named[] = [
  fault("macvlan", macvlan, "no such parent", { master: "absent" }),
  fault("macvlan", macvlan, "a mode that is none", { mode: "sideways" }),
  fault("macvlan", macvlan, "MTU above its parent's", { mtu: 9000 }),
  fault("macvlan", macvlan, "MTU below zero", { mtu: -1 }),
  fault("macvlan", macvlan, "a MAC address that is none", { runtimeConfig: { mac: "zz" } }),
  fault("macvlan", macvlan, "a multicast MAC address", { runtimeConfig: { mac: "01:00:00:00:00:01" } }),
  fault("macvlan", macvlan, "IPAM fails", { ipam: { type: "static", addresses: [{ address: "x" }] } }),
  fault("macvlan", macvlan, "IPAM gives nothing", { ipam: { type: "static", addresses: [] } }),
  fault(
    "macvlan",
    {},
    "no default route",
    {},
    {
      prepare: (world) => {
        world.node.ip("route", "delete", "default");
      },
    },
  ),
];

// --- ptp -------------------------------------------------------------------------------------------------------------

const ptp = { type: "ptp" };

const ptpKeys: readonly Named[] = [
  { what: "ptp, address", story: { conf: { ...ptp, ipam: fixed }, steps: life } },
  { what: "ptp, routes", story: { conf: { ...ptp, ipam: { ...fixed, routes: [{ dst: "0.0.0.0/0" }] } }, steps: life } },
  { what: "ptp, routes by another gateway", story: { conf: { ...ptp, ipam: routed }, steps: life } },
  { what: "ptp, IPv6", story: { conf: { ...ptp, ipam: fixed6 }, steps: life } },
  { what: "ptp, two families", story: { conf: { ...ptp, ipam: both }, steps: life } },
  { what: "ptp, two range sets and routes", story: { conf: { ...ptp, ipam: pools }, steps: life } },
  { what: "ptp, MTU", story: { conf: { ...ptp, mtu: 1400, ipam: fixed }, steps: life } },
  {
    what: "ptp, dns of its own",
    story: { conf: { ...ptp, ipam: { ...fixed, dns: { domain: "i" } }, dns }, steps: life },
  },
  { what: "ptp, dns of IPAM", story: { conf: { ...ptp, ipam: { ...fixed, dns } }, steps: life } },
  {
    what: "ptp, routes with priority and table",
    newer: true,
    story: {
      conf: {
        ...ptp,
        cniVersion: "1.1.0",
        ipam: {
          ...fixed,
          routes: [
            { dst: "198.51.100.0/24", priority: 7 },
            { dst: "203.0.113.0/24", table: 77 },
          ],
        },
      },
      steps: life,
    },
  },
];

const ptpSituations: readonly Named[] = [
  {
    what: "ptp, two pods",
    story: {
      conf: { ...ptp, ipam: pools },
      steps: [add(0), add(1), { call: "CHECK", pod: 0 }, { call: "CHECK", pod: 1 }, del(0), del(1)],
    },
  },
  { what: "ptp, ADD twice", story: { conf: { ...ptp, ipam: pool }, steps: ["ADD", "ADD", "DEL", "DEL"] } },
  {
    what: "ptp, the pod's namespace gone",
    story: { conf: { ...ptp, ipam: pool }, steps: ["ADD", podGone, "DEL", "DEL", { call: "DEL", netns: "" }] },
  },
  {
    what: "ptp, the pod's namespace gone, and held",
    story: { conf: { ...ptp, ipam: pool }, steps: ["ADD", podGoneButHeld, "DEL", "DEL"] },
  },
  {
    what: "ptp, packets: the IPv6 gateway answers",
    story: { detects: true, conf: { ...ptp, ipam: fixed6 }, steps: ["ADD", reachesAtOnce("fd00:9::1"), "DEL"] },
  },
  { what: "ptp, DEL of what never was", story: { conf: { ...ptp, ipam: pool }, steps: ["DEL"] } },
  {
    what: "ptp, STATUS and VERSION",
    newer: true,
    story: { conf: { ...ptp, cniVersion: "1.1.0", ipam: pool }, steps: ["STATUS", "VERSION"] },
  },
  {
    what: "ptp, packets: gateway, pods, and out by masquerading",
    story: {
      conf: { ...ptp, ipMasq: true, ipam: pools },
      prepare: withOutside,
      steps: [
        add(0),
        add(1),
        reaches("pod", "10.9.0.1"),
        reaches("pod", "fd00:9::1"),
        reaches("pod", "10.9.0.3"),
        reaches("pod", "fd00:9::3"),
        reaches("pod", "192.0.2.1"),
        reaches("pod", "2001:db8::1"),
        reaches("node", "10.9.0.2"),
        "CHECK",
        del(0),
        reaches("pod1", "192.0.2.1"),
        del(1),
      ],
    },
  },
  {
    what: "ptp, packets: masquerading by nftables",
    newer: true,
    story: {
      conf: { ...ptp, ipMasq: true, ipMasqBackend: "nftables", ipam: pools },
      prepare: withOutside,
      steps: ["ADD", reaches("pod", "192.0.2.1"), reaches("pod", "2001:db8::1"), "CHECK", "DEL", "DEL"],
    },
  },
  {
    what: "ptp, packets: nothing comes back without masquerading",
    story: {
      conf: { ...ptp, ipam: pools },
      prepare: withOutside,
      steps: ["ADD", reaches("pod", "192.0.2.10"), reaches("pod", "192.0.2.1", false), "DEL"],
    },
  },
];

const ptpChecks: readonly Named[] = (
  [
    ["the address", (w: World) => w.pod().ip("address", "delete", "10.9.0.2/24", "dev", "eth0")],
    ["the routes", (w: World) => w.pod().ip("route", "delete", "default")],
    ["the MAC address", (w: World) => w.pod().ip("link", "set", "eth0", "address", "02:00:00:00:00:99")],
    ["the link", (w: World) => w.pod().ip("link", "delete", "eth0")],
  ] as const
).map(([what, does]) => ({
  what: `ptp, CHECK after tampering with ${what}`,
  story: { conf: { ...ptp, ipam: { ...fixed, routes: [{ dst: "0.0.0.0/0" }] } }, steps: tampered(what, does) },
}));

const ptpFaults: readonly Named[] = [
  fault("ptp", ptp, "no IPAM", {}),
  fault("ptp", ptp, "no address", { ipam: { type: "static", addresses: [] } }),
  fault("ptp", ptp, "no gateway", { ipam: { type: "static", addresses: [{ address: "10.9.0.2/24" }] } }),
  fault("ptp", ptp, "a string for a boolean", { ipam: fixed, ipMasq: "yes" }),
  fault("ptp", ptp, "a string for a number", { ipam: fixed, mtu: "1400" }),
];

// --- loopback --------------------------------------------------------------------------------------------------------

const loopback = { type: "loopback" };
const lo = { conf: loopback, ifname: "lo" } as const;
const earlier = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "eth0", mac: "02:00:00:00:00:01", sandbox: "<pod>" }],
  ips: [{ address: "10.9.0.2/24", gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: { nameservers: ["192.0.2.53"] },
};

const elsewhere = { ...earlier, interfaces: [{ name: "tap0", sandbox: "vm" }, ...earlier.interfaces] };

const loopbackStories: readonly Named[] = [
  { what: "loopback", story: { ...lo, steps: life } },
  {
    what: "loopback, behind another plugin",
    story: { ...lo, steps: [{ call: "ADD", prevResult: earlier }, "CHECK", "DEL", "DEL"] },
  },
  {
    what: "loopback, behind a plugin of a virtual machine",
    story: { ...lo, steps: [{ call: "ADD", prevResult: elsewhere }, "DEL"] },
  },
  {
    what: "loopback, CHECK after it went down",
    story: { ...lo, steps: tampered("down", (w) => w.pod().ip("link", "set", "lo", "down")) },
  },
  {
    what: "loopback, with another address of its own network",
    story: { ...lo, prepare: (w) => w.pod().ip("address", "add", "127.0.0.5/8", "dev", "lo"), steps: life },
  },
  {
    what: "loopback, refused: with an address of another network",
    refused: true,
    story: { ...lo, prepare: (w) => w.pod().ip("address", "add", "10.9.0.2/32", "dev", "lo"), steps: ["ADD", "DEL"] },
  },
  {
    what: "loopback, the pod's namespace gone",
    story: { ...lo, steps: ["ADD", podGone, "DEL", { call: "DEL", netns: "" }] },
  },
  { what: "loopback, DEL of what never was", story: { ...lo, steps: ["DEL"] } },
  { what: "loopback, VERSION", newer: true, story: { ...lo, steps: ["VERSION"] } },
  ...eachVersion(loopback, { ifname: "lo" }),
];

export const otherStories: readonly Named[] = [
  ...macvlanKeys,
  ...macvlanSituations,
  ...macvlanChecks,
  ...macvlanFaults,
  ...eachVersion({ ...macvlan, dns, ipam: routed }),
  ...ptpKeys,
  ...ptpSituations,
  ...ptpChecks,
  ...ptpFaults,
  ...eachVersion({ ...ptp, dns, ipam: { ...fixed, routes: [{ dst: "0.0.0.0/0" }] } }),
  ...loopbackStories,
];

/** tuning: on an interface that another plugin made, and behind our own bridge. */
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import type { JsonObject } from "../../../core/base/json.ts";
import type { Call, Look, Step, Story, World } from "../../support/twin.ts";
import { fixed, type Named, podGone, podGoneButHeld, versions } from "./common.ts";

const tuning = { type: "tuning" };

/** A veth of the world's, with a MAC address that both sides know. */
function behindAnother(world: World): void {
  world.node.ip("link", "add", "cali0", "type", "veth", "peer", "name", "eth0", "netns", world.pod().name);
  world.pod().ip("link", "set", "eth0", "address", "02:00:00:00:00:77");
  for (const [netns, name] of [[world.node, "cali0"] as const, [world.pod(), "eth0"] as const]) {
    netns.ip("link", "set", name, "addrgenmode", "none", "up");
  }
}
const earlier = {
  cniVersion: "1.0.0",
  interfaces: [{ name: "cali0" }, { name: "eth0", mac: "02:00:00:00:00:77", sandbox: "<pod>" }],
  ips: [{ interface: 1, address: "10.9.0.2/24", gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
};
const added: Call = { call: "ADD", prevResult: earlier };
const life: readonly Step[] = [added, "CHECK", "DEL", "DEL"];
const story = (what: string, conf: JsonObject, steps: readonly Step[] = life, more: Partial<Story> = {}): Named => ({
  what: `tuning, ${what}`,
  story: { conf: { ...tuning, ...conf }, prepare: behindAnother, steps, stays: ["cali0"], ...more },
});
const newer = (named: Named): Named => ({ ...named, newer: true });
const fault = (what: string, conf: JsonObject, call: Call = added): Named => ({
  ...story(`refused: ${what}`, conf, [call, "DEL"]),
  refused: true,
});

/** A sysctl of the pod that no snapshot has. */
const reads = (key: string, value: string): Look => ({
  look: `${key} is ${value}`,
  is: true,
  see: (world) => world.pod().run("cat", `/proc/sys/${key}`).trim() === value,
});
const macs = { mac: "0a:58:00:00:00:0a", runtimeConfig: { mac: "0a:58:00:00:00:0c" } };
const sysctl = {
  "net.ipv4.conf.IFNAME.arp_announce": "2",
  "net/ipv4/conf/all/log_martians": "1",
  "net.ipv6.conf.eth0.hop_limit": "77",
  "net.core.somaxconn": "512",
};
const attributes = { mac: "0a:58:00:00:00:05", mtu: 1400, promisc: true, allmulti: true, txQLen: 77 };

const keys: readonly Named[] = [
  story("nothing", {}),
  story("the MAC address", { mac: "0a:58:00:00:00:05" }),
  story("the MTU", { mtu: 1400 }),
  story("promiscuity", { promisc: true }),
  story("all multicast packets", { allmulti: true }),
  story("not all multicast packets", { allmulti: false }),
  newer(story("the queue's length", { txQLen: 77 })),
  newer(story("a queue of no length", { txQLen: 0 })),
  newer(story("all attributes and dataDir", { ...attributes, dataDir: "<data>/tuning" })),
  story("sysctls", { sysctl }, [added, reads("net/core/somaxconn", "512"), "CHECK", "DEL", "DEL"]),
  story("a sysctl with several numbers", { sysctl: { "net.ipv4.tcp_rmem": "4096\t8192\t16384" } }, [
    added,
    reads("net/ipv4/tcp_rmem", "4096\t8192\t16384"),
    "CHECK",
    "DEL",
  ]),
  story("a sysctl with several numbers and blanks between them", {
    sysctl: { "net.ipv4.tcp_rmem": "4096 8192 16384" },
  }),
  story("a sysctl that is written only", { sysctl: { "net.ipv4.route.flush": "1" } }, [added, "DEL"]),
  story("MAC address of CNI_ARGS", { mac: macs.mac }, life, { args: "IgnoreUnknown=1;MAC=0a:58:00:00:00:0b" }),
  story("MAC address of the runtime", macs, life, { args: "IgnoreUnknown=1;MAC=0a:58:00:00:00:0b" }),
  newer(story("MAC address of args", { ...macs, args: { cni: { mac: "0a:58:00:00:00:0d" } } })),
  newer(
    story("everything of args", {
      sysctl: { "net.core.somaxconn": "1" },
      mtu: 1300,
      args: { cni: { ...attributes, sysctl } },
    }),
  ),
  newer(
    story("args without a list in the configuration", { args: { cni: { sysctl: { "net.core.somaxconn": "512" } } } }),
  ),
];

const bridge = { type: "bridge", bridge: "br0", isGateway: true, ipam: fixed };
const chains: readonly Named[] = versions.map((cniVersion) => {
  const steps: Step[] = [{ call: "ADD", conf: bridge }, "ADD", "CHECK", "DEL", { call: "DEL", conf: bridge }, "DEL"];
  return {
    what: `tuning, behind bridge, version ${cniVersion}`,
    newer: cniVersion === "1.1.0",
    story: {
      conf: { ...tuning, sysctl, mac: "0a:58:00:00:00:05", mtu: 1400, cniVersion },
      steps: cniVersion < "0.4.0" ? steps.filter((step) => step !== "CHECK") : steps,
      stays: ["br0"],
    },
  };
});

const situations: readonly Named[] = [
  story("the pod's namespace gone", { mtu: 1400, sysctl }, [added, podGone, "DEL", "DEL", { call: "DEL", netns: "" }]),
  story("the pod's namespace gone, and held", { mtu: 1400, sysctl }, [added, podGoneButHeld, "DEL", "DEL"]),
  story(
    "the interface gone",
    { mtu: 1400, sysctl },
    [added, { act: "goes", does: (world) => world.pod().ip("link", "delete", "eth0") }, "DEL", "DEL"],
    { stays: ["cali0", "eth0"] },
  ),
  story("DEL of what never was", { mtu: 1400 }, ["DEL"]),
  story("ADD twice", { mtu: 1400 }, [added, added, "DEL", "DEL"]),
  { ...story("VERSION", {}, ["VERSION"]), newer: true },
];

const checks: readonly Named[] = (
  [
    ["the MAC address", ["address", "02:00:00:00:00:99"]],
    ["the MTU", ["mtu", "1300"]],
    ["promiscuity", ["promisc", "off"]],
    ["multicast packets", ["allmulticast", "off"]],
    ["the queue's length", ["txqueuelen", "78"]],
  ] as const
).map(([what, change]) => ({
  ...story(`CHECK after tampering with ${what}`, attributes, [
    added,
    { act: what, does: (world) => world.pod().ip("link", "set", "eth0", ...change) },
    "CHECK",
    "DEL",
    "DEL",
  ]),
  newer: true,
}));
const alsoChecks: readonly Named[] = [
  story("CHECK after tampering with a sysctl", { sysctl }, [
    added,
    { act: "set", does: (w) => w.pod().run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_announce") },
    "CHECK",
    "DEL",
  ]),
  story("CHECK with somebody listening", { mtu: 1400 }, [
    added,
    { act: "promiscuous", does: (world) => world.pod().ip("link", "set", "eth0", "promisc", "on") },
    "CHECK",
    { act: "no more", does: (world) => world.pod().ip("link", "set", "eth0", "promisc", "off") },
    "DEL",
  ]),
];

const faults: readonly Named[] = [
  fault("a sysctl beside net", { sysctl: { "kernel.hostname": "x" } }),
  fault("a sysctl by a way out", { sysctl: { "net/../kernel/hostname": "x" } }),
  fault("a sysctl that the kernel lacks", { sysctl: { "net.core.absent": "1" } }),
  fault("a value that is none", { sysctl: { "net.ipv4.tcp_syncookies": "many" } }),
  fault("a number for a value", { sysctl: { "net.core.somaxconn": 5 } }),
  fault("a MAC address that is none", { mac: "zz" }),
  fault("a multicast MAC address", { mac: "01:00:00:00:00:01" }),
  fault("an MTU that the kernel refuses", { mtu: 20 }),
  fault("a text for a boolean", { promisc: "yes" }),
  fault("no plugin before it", { mtu: 1400 }, { call: "ADD", prevResult: undefined }),
  {
    what: "tuning, refused: no such interface",
    refused: true,
    story: { conf: { ...tuning, mtu: 1400 }, steps: [added, "DEL"] },
  },
];

// --- The administrator's list ----------------------------------------------------------------------------------------

const folder = "/etc/cni/tuning";
const listGoes: Step = { act: "the list goes", does: () => rmSync(folder, { recursive: true, force: true }) };
const withList = (what: string, lines: string, conf: JsonObject, refused = false): Named => ({
  ...story(`${refused ? "refused: " : ""}${what}`, conf, [added, "DEL", listGoes], {
    prepare(world) {
      behindAnother(world);
      mkdirSync(folder, { recursive: true });
      writeFileSync(`${folder}/allowlist.conf`, lines, { mode: 0o644 });
    },
  }),
  refused,
  newer: true, // the release before reads the list too, with fewer words
});
const lists: readonly Named[] = [
  withList("a list with all of them", "^net\\.core\\.somaxconn$\n\n  ^net.ipv4.conf.IFNAME.[a-z_]+$  \n", {
    sysctl: { "net.core.somaxconn": "512", "net.ipv4.conf.IFNAME.arp_announce": "2" },
  }),
  withList("a list without a key", "^net\\.core\\.somaxconn$\n", { sysctl: { "net.ipv4.tcp_syncookies": "0" } }, true),
  withList("an empty list", "", { sysctl: { "net.core.somaxconn": "512" } }, true),
  withList("an empty list, and no sysctl", "", { mtu: 1400 }),
  withList("a list that is none", "(\n", { sysctl: { "net.core.somaxconn": "512" } }, true),
];

export const tuningStories: readonly Named[] = [
  ...keys,
  ...chains,
  ...situations,
  ...checks,
  ...alsoChecks,
  ...faults,
  ...lists,
];

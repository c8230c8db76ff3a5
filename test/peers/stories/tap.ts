/** tap: an interface whose other end is a file. */
import type { JsonObject } from "../../../core/base/json.ts";
import type { Step, Story, World } from "../../support/twin.ts";
import {
  both,
  dns,
  eachVersion,
  fixed,
  life,
  type Named,
  podGone,
  podGoneButHeld,
  pool,
  refused,
  routed,
  tampered,
} from "./common.ts";

const tap = { type: "tap" };
const story = (what: string, conf: JsonObject, steps: readonly Step[] = life, more: Partial<Story> = {}): Named => ({
  what: `tap, ${what}`,
  story: { conf: { ...tap, ...conf }, steps, ...more },
  newer: true, // Debian's release has no tap
});
const fault = (what: string, conf: JsonObject): Named => ({
  ...story(`refused: ${what}`, conf, refused),
  refused: true,
});

/** A bridge in the pod, as a machine's launcher makes it. */
function withBridge(world: World): void {
  world.pod().ip("link", "add", "k6t", "address", "02:00:00:00:00:66", "type", "bridge");
  world.pod().ip("link", "set", "k6t", "addrgenmode", "none", "up");
}

const keys: readonly Named[] = [
  story("no addresses", {}),
  story("an address", { ipam: fixed }),
  story("two families", { ipam: both }),
  story("routes", { ipam: routed }),
  story("MTU", { mtu: 1400 }),
  story("MAC address", { mac: "0a:58:00:00:00:05" }),
  story("MAC address of CNI_ARGS", { mac: "0a:58:00:00:00:05" }, life, {
    args: "IgnoreUnknown=1;MAC=0a:58:00:00:00:06",
  }),
  story("MAC address of the runtime", { mac: "0a:58:00:00:00:05", runtimeConfig: { mac: "0a:58:00:00:00:07" } }),
  story("several queues", { multiQueue: true }),
  story("owner", { owner: 1000 }),
  story("group", { group: 1001 }),
  story("owner and group", { owner: 1000, group: 1001 }),
  story("owner 0", { owner: 0 }),
  story("no label", { selinuxContext: "" }),
  story("a bridge in the pod", { bridge: "k6t" }, life, { prepare: withBridge }),
  story("dns of IPAM", { ipam: { ...fixed, dns } }),
  story("dns of its own", { ipam: fixed, dns }),
];

const situations: readonly Named[] = [
  story("the pod's namespace gone", { ipam: pool }, ["ADD", podGone, "DEL", "DEL", { call: "DEL", netns: "" }]),
  story("the pod's namespace gone, and held", { ipam: pool }, ["ADD", podGoneButHeld, "DEL", "DEL"]),
  story("DEL of what never was", { ipam: pool }, ["DEL"]),
  story("ADD twice", { ipam: pool }, ["ADD", "ADD", "DEL", "DEL"]),
  story("STATUS and VERSION", { cniVersion: "1.1.0", ipam: pool }, ["STATUS", "VERSION"]),
];

const checks: readonly Named[] = (
  [
    ["the address", (w: World) => w.pod().ip("address", "delete", "10.9.0.2/24", "dev", "eth0")],
    ["the routes", (w: World) => w.pod().ip("route", "delete", "default")],
    ["the MAC address", (w: World) => w.pod().ip("link", "set", "eth0", "address", "02:00:00:00:00:99")],
    ["the link", (w: World) => w.pod().ip("link", "delete", "eth0")],
  ] as const
).map(([what, does]) => story(`CHECK after tampering with ${what}`, { ipam: routed }, tampered(what, does)));

const faults: readonly Named[] = [
  fault("a MAC address that is none", { mac: "zz" }),
  fault("a multicast MAC address", { mac: "01:00:00:00:00:01" }),
  fault("no such bridge", { bridge: "absent" }),
  fault("MTU below zero", { mtu: -1 }),
  fault("an owner below zero", { owner: -1 }),
  fault("a text for a number", { owner: "root" }),
  fault("IPAM fails", { ipam: { type: "static", addresses: [{ address: "x" }] } }),
  fault("IPAM gives nothing", { ipam: { type: "static", addresses: [] } }),
];

export const tapStories: readonly Named[] = [
  ...keys,
  ...situations,
  ...checks,
  ...faults,
  ...eachVersion({ ...tap, dns, ipam: routed }).map((named) => ({ ...named, newer: true })),
];

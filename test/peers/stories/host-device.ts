/** host-device: an end of a veth as the device, which every kernel has. */
import type { Story, World } from "../../support/twin.ts";
import {
  add,
  del,
  dns,
  eachVersion,
  fixed,
  fixed6,
  life,
  type Named,
  podGone,
  pool,
  refused,
  routed,
  tampered,
} from "./common.ts";

const mac = "02:00:00:00:07:01";

/** The device, down and with nothing on it; its other end is in the namespace that stands for the outside. */
function device(world: World): void {
  const { node, outside } = world;
  node.ip("link", "add", "dev0", "address", mac, "type", "veth", "peer", "name", "far0", "netns", outside.name);
  node.ip("link", "set", "dev0", "addrgenmode", "none");
  outside.ip("link", "set", "far0", "addrgenmode", "none", "up");
}

const conf = { type: "host-device", device: "dev0" };
const story = (more: Partial<Story> & { readonly conf?: Story["conf"] } = {}): Story => ({
  conf,
  prepare: device,
  stays: ["dev0"],
  steps: life,
  ...more,
});
const fault = (what: string, more: object): Named => ({
  what: `host-device, refused: ${what}`,
  refused: true,
  story: story({ conf: { ...conf, ...more }, steps: refused }),
});

export const hostDeviceStories: readonly Named[] = [
  { what: "host-device, nothing but a link", story: story() },
  { what: "host-device, address and routes", story: story({ conf: { ...conf, ipam: routed } }) },
  { what: "host-device, IPv6", story: story({ detects: true, conf: { ...conf, ipam: fixed6 } }) },
  { what: "host-device, by its MAC address", story: story({ conf: { type: "host-device", hwaddr: mac } }) },
  {
    what: "host-device, all keys, of which the name counts",
    story: story({ conf: { ...conf, hwaddr: "02:00:00:00:00:ff", kernelpath: "/sys/devices/none" } }),
  },
  { what: "host-device, no choice of the runtime", story: story({ conf: { ...conf, runtimeConfig: {} } }) },
  { what: "host-device, dns", story: story({ conf: { ...conf, dns, ipam: { ...fixed, dns: { domain: "i" } } } }) },
  { what: "host-device, dns without addresses", story: story({ conf: { ...conf, dns } }) },
  { what: "host-device, another name in the pod", story: story({ ifname: "net7", conf: { ...conf, ipam: fixed } }) },
  ...eachVersion({ ...conf, ipam: fixed }, { prepare: device, stays: ["dev0"] }).filter((named) => !named.newer),
  fault("no device is named", { device: undefined }),
  fault("no such device", { device: "none0" }),
  fault("no such MAC address", { device: undefined, hwaddr: "02:00:00:00:00:fe" }),
  fault("a MAC address that is none", { device: undefined, hwaddr: "zz" }),
  fault("a path elsewhere", { device: undefined, kernelpath: "/etc" }),
  fault("no such PCI device", { device: undefined, pciBusID: "0000:7f:1f.7" }),
  {
    what: "host-device, a second pod while the first has it",
    story: story({ conf: { ...conf, ipam: pool }, steps: [add(0), add(1), del(1), del(0), add(1), del(1)] }),
  },
  {
    what: "host-device, tampering with the address",
    story: story({
      conf: { ...conf, ipam: fixed },
      steps: tampered("an address goes", (world) => void world.pod().ip("address", "flush", "dev", "eth0")),
    }),
  },
  {
    what: "host-device, up before",
    story: story({
      prepare: (world) => {
        device(world);
        world.node.ip("link", "set", "dev0", "up");
      },
    }),
  },
  {
    what: "host-device, IPAM fails and nobody calls DEL",
    refused: true,
    story: story({
      conf: { ...conf, ipam: { type: "static", addresses: [] } },
      steps: [
        "ADD",
        {
          look: "the device is at home",
          is: true,
          see: (world) => world.node.ipJson("link").some((l) => l.ifname === "dev0"),
        },
      ],
    }),
  },
  {
    what: "host-device, the pod's namespace gone",
    story: story({ conf: { ...conf, ipam: pool }, steps: ["ADD", podGone, "DEL", { call: "DEL", netns: "" }] }),
  },
];

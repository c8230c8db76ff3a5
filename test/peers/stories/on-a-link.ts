/** vlan, ipvlan and dummy: told in the guests of `test/vm`, since not every kernel has these kinds of links. */
import type { Step, World } from "../../support/twin.ts";
import { both, dns, fixed, life, type Named, pool, refused, routed, tampered } from "./common.ts";

const vlan = { type: "vlan", master: "uplink", vlanId: 100, ipam: pool };
const ipvlan = { type: "ipvlan", master: "uplink", ipam: pool };

/** A parent of the pod's own, with the default route. */
function parentInPod(world: World): void {
  const pod = world.pod();
  pod.ip("link", "add", "lower", "type", "veth", "peer", "name", "lower-peer");
  for (const end of ["lower-peer", "lower"]) pod.ip("link", "set", end, "addrgenmode", "none", "up");
}

const parentGone: Step = { act: "the parent goes", does: (world) => world.node.ip("link", "delete", "uplink") };
const defaultRouteGone: Step = {
  act: "the default route goes",
  does: (world) => world.node.ip("route", "delete", "default"),
};
const defaultRoute: Step = {
  act: "the default route comes back",
  does: (world) => world.node.ip("route", "add", "default", "via", "192.0.2.1"),
};
const nothingIsLeft: Step = {
  look: "the pod is as it was",
  is: true,
  see: (world) => world.pod().ipJson("link", "show").length === 1,
};
const noIpam = { type: "static", addresses: [{ address: "x" }] };

const vlanStories: readonly Named[] = [
  {
    what: "vlan, all keys, and its interface's name and kind on the node",
    story: {
      conf: { ...vlan, mtu: 1400, linkInContainer: false, dns, ipam: routed },
      prepare: (world) => world.node.ip("link", "add", "link", "uplink", "name", "eth0", "type", "vlan", "id", "7"),
      steps: life,
    },
  },
  {
    what: "vlan, parent in the pod, two families",
    story: { conf: { ...vlan, master: "lower", linkInContainer: true, ipam: both }, prepare: parentInPod, steps: life },
  },
  {
    what: "vlan, the parent gone",
    story: { conf: vlan, steps: ["ADD", parentGone, "CHECK", "DEL", "DEL"], stays: ["uplink", "wire"] },
  },
  {
    what: "vlan, CHECK after tampering with the MTU",
    story: {
      conf: { ...vlan, mtu: 1400 },
      steps: tampered("the MTU", (w) => w.pod().ip("link", "set", "eth0", "mtu", "1300")),
    },
  },
  {
    what: "vlan, refused: a number beyond the last",
    refused: true,
    story: { conf: { ...vlan, vlanId: 4095 }, steps: refused },
  },
  {
    what: "vlan, IPAM fails and nobody calls DEL",
    refused: true,
    story: { conf: { ...vlan, ipam: noIpam }, steps: ["ADD", nothingIsLeft] },
  },
];

const ipvlanStories: readonly Named[] = [
  {
    what: "ipvlan, all keys, and its interface's name and kind on the node",
    story: {
      conf: { ...ipvlan, mode: "l3", mtu: 1400, linkInContainer: false, dns, ipam: routed },
      prepare: (world) => {
        world.node.ip("link", "add", "below", "type", "dummy");
        world.node.ip("link", "add", "link", "below", "name", "eth0", "type", "ipvlan");
      },
      steps: life,
    },
  },
  {
    what: "ipvlan, the default route's device, two families, and no default route any more",
    story: { conf: { type: "ipvlan", ipam: both }, steps: ["ADD", "CHECK", defaultRouteGone, "DEL", defaultRoute] },
  },
  {
    what: "ipvlan, in a chain",
    story: {
      conf: { type: "ipvlan", ipam: {} },
      steps: [
        {
          call: "ADD",
          prevResult: {
            cniVersion: "1.0.0",
            interfaces: [{ name: "uplink" }],
            ips: [{ address: "10.9.0.2/24", gateway: "10.9.0.1", interface: 0 }],
            routes: [{ dst: "0.0.0.0/0" }],
          },
        },
        "CHECK",
        "DEL",
      ],
    },
  },
  {
    what: "ipvlan, the parent gone",
    story: { conf: ipvlan, steps: ["ADD", parentGone, "CHECK", "DEL", "DEL"], stays: ["uplink", "wire"] },
  },
];

const dummyStories: readonly Named[] = [
  { what: "dummy, address and routes", story: { conf: { type: "dummy", ipam: { ...fixed, dns } }, steps: life } },
  {
    what: "dummy, refused: no IPAM",
    refused: true,
    story: { conf: { type: "dummy" }, steps: refused },
  },
];

export const onALinkStories: readonly Named[] = [...vlanStories, ...ipvlanStories, ...dummyStories];

/** Plugins that come after another one: sbr. What the one before made and answered is the story's own. */
import type { JsonObject } from "../../../core/base/json.ts";
import { answers, type Call, type Look, type Step, type Story, type World } from "../../support/twin.ts";
import { type Named, podGone } from "./common.ts";

const before = (ips: readonly JsonObject[], routes: readonly JsonObject[] = []): JsonObject => ({
  cniVersion: "1.0.0",
  interfaces: [{ name: "eth0", sandbox: "<pod>" }],
  ips: ips.map((ip) => ({ interface: 0, ...ip })),
  ...(routes.length > 0 && { routes }),
  dns: {},
});
const own4 = { address: "10.9.0.2/24", gateway: "10.9.0.1" };
const own6 = { address: "fd00:9::2/64", gateway: "fd00:9::1" };
const one = before([own4], [{ dst: "0.0.0.0/0" }]);
const two = before([own4, own6], [{ dst: "0.0.0.0/0" }]);

/** `eth0` of the pod, whose other end is the node's `far`, with addresses and routes on top of those they bring. */
function interfaceOf(addresses: readonly string[], ...routes: readonly string[]) {
  return (world: World): void => {
    const pod = world.pod();
    pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "far", "netns", world.node.name);
    world.node.ip("link", "set", "far", "addrgenmode", "none", "up");
    world.node.ip("address", "add", "10.9.0.1/24", "dev", "far");
    world.node.ip("address", "add", "fd00:9::1/64", "dev", "far", "nodad");
    pod.ip("link", "set", "eth0", "addrgenmode", "none", "up");
    for (const address of addresses) {
      pod.ip("address", "add", address, "dev", "eth0", ...(address.includes(":") ? ["nodad"] : []));
    }
    for (const route of routes) pod.ip(...(route.includes(":") ? ["-6"] : []), "route", "add", ...route.split(" "));
  };
}
const plain = interfaceOf(["10.9.0.2/24"], "default via 10.9.0.1 dev eth0", "198.51.100.0/24 via 10.9.0.77 dev eth0");
const dual = interfaceOf(
  ["10.9.0.2/24", "fd00:9::2/64"],
  "default via 10.9.0.1 dev eth0",
  "default via fd00:9::1 dev eth0",
  "2001:db8:7::/48 via fd00:9::77 dev eth0",
);

const add = (prevResult: JsonObject): Call => ({ call: "ADD", prevResult });
const life = (prevResult: JsonObject): readonly Step[] => [add(prevResult), "CHECK", "DEL", "DEL"];
/** The other end of the pod's interface is the node's, and goes with it. */
const stays = ["far"];

/** Packets from an address of the pod. */
function reaches(address: string, from: string, is = true): Look {
  const see = (world: World): boolean => {
    const pod = world.pod();
    for (let tries = 0; tries < (is ? 8 : 2); tries++) if (pod.ping(address, { from, seconds: 1 })) return true;
    return false;
  };
  return { look: `pod reaches ${address} from ${from}`, is, see };
}
/** Packets from no address in particular. */
const reachesAtAll = (address: string, is: boolean): Look => ({
  look: `pod reaches ${address}`,
  is,
  see: (world) => answers(world.pod(), address, is),
});

const sbr = { type: "sbr" };
const story = (
  what: string,
  prepare: (world: World) => void,
  steps: readonly Step[],
  more: Partial<Story> = {},
): Named => ({
  what: `sbr, ${what}`,
  story: { conf: sbr, prepare, steps, stays, ...more },
});

export const sbrStories: readonly Named[] = [
  story("an address and routes", plain, life(one)),
  story("two families", dual, life(two)),
  story(
    "an address that IPAM gave no gateway",
    interfaceOf(["10.9.0.2/24"]),
    life(before([{ address: "10.9.0.2/24" }])),
  ),
  story("a gateway, and no route by it", interfaceOf(["10.9.0.2/24"]), life(before([own4]))),
  story(
    "two addresses of one subnet",
    interfaceOf(["10.9.0.2/24", "10.9.0.3/24"], "198.51.100.0/24 via 10.9.0.77 dev eth0"),
    life(before([own4, { address: "10.9.0.3/24", gateway: "10.9.0.1" }])),
  ),
  story(
    "two addresses of two subnets",
    interfaceOf(["10.9.0.2/24", "10.8.0.3/24"], "198.51.100.0/24 via 10.9.0.77 dev eth0"),
    life(before([own4, { address: "10.8.0.3/24", gateway: "10.8.0.1" }])),
  ),
  story("an address of a result that does not say whose it is", plain, [
    add({ ...one, ips: [own4] }),
    "CHECK",
    "DEL",
    "DEL",
  ]),
  story("tables that are in use", plain, life(one), {
    prepare: (world) => {
      plain(world);
      world.pod().ip("rule", "add", "from", "192.0.2.7", "table", "100");
      world.pod().ip("-6", "rule", "add", "from", "2001:db8::7", "table", "101");
    },
  }),
  story("a route with a priority", interfaceOf(["10.9.0.2/24"], "default via 10.9.0.1 dev eth0 metric 50"), life(one)),
  {
    ...story(
      "a table",
      interfaceOf(["10.9.0.2/24", "fd00:9::2/64"], "default via 10.9.0.1 dev eth0 table 5001"),
      life(two),
      { conf: { ...sbr, table: 5001 } },
    ),
    newer: true,
  },
  {
    ...story("gateways", plain, life(one), { conf: { ...sbr, gateways: ["10.9.0.77"] } }),
    newer: true,
  },
  {
    ...story("source hints", dual, life(two), { conf: { ...sbr, addSourceHints: true } }),
    newer: true,
  },
  story("packets", dual, [
    reachesAtAll("10.9.0.1", true),
    add(two),
    reachesAtAll("10.9.0.1", false),
    reaches("10.9.0.1", "10.9.0.2"),
    reaches("fd00:9::1", "fd00:9::2"),
    reaches("192.0.2.10", "10.9.0.2"),
    "DEL",
  ]),
  story(
    "the pod's namespace gone",
    plain,
    [add(one), podGone, { call: "DEL", netns: "" }, { call: "DEL", netns: "" }],
    {
      stays: ["far", "uplink"],
    },
  ),
  story(
    "a default route that stands on no subnet",
    interfaceOf(["10.9.0.2/32"], "10.9.0.1 dev eth0 scope link", "default via 10.9.0.1 dev eth0"),
    life(before([{ address: "10.9.0.2/32" }])),
  ),
  story(
    "the interface gone",
    plain,
    [
      add(one),
      { act: "the interface goes", does: (world) => void world.pod().ip("link", "delete", "eth0") },
      "DEL",
      "DEL",
    ],
    { stays: ["far", "eth0"] },
  ),
  story("tampered with", plain, [
    add(one),
    { act: "the rule goes", does: (world) => void world.pod().ip("rule", "delete", "from", "10.9.0.2") },
    "CHECK",
    "DEL",
    "DEL",
  ]),
  { ...story("refused: no result before it", plain, ["ADD", "DEL"]), refused: true },
  { ...story("refused: no address", plain, [add(before([])), "DEL"]), refused: true },
  {
    ...story("refused: no such interface", plain, [
      { ...add(one), ifname: "eth7" },
      { call: "DEL", ifname: "eth7" },
    ]),
    refused: true,
  },
  {
    ...story("refused: a gateway out of reach", interfaceOf(["10.9.0.2/24"]), [
      add(before([{ address: "10.9.0.2/24", gateway: "10.222.0.1" }])),
      "DEL",
    ]),
    refused: true,
  },
];

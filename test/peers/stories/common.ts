/** What the stories of several plugins share. */
import type { JsonObject } from "../../../core/base/json.ts";
import type { TestNetns } from "../../support/netns.ts";
import { answers, type Call, type Look, type Step, type Story, type World } from "../../support/twin.ts";

export interface Named {
  readonly what: string;
  readonly story: Story;
  /** Not told to Debian's plugins, which are of 2022: what the release after that knew first. */
  readonly newer?: boolean;
  /** The first ADD must fail, on both sides; else it must succeed, on ours. */
  readonly refused?: boolean;
  /** Where the kernel's bridges do not filter VLANs, as above. */
  readonly vlan?: boolean;
}

/** A whole life: attached, found in order, detached twice. */
export const life: readonly Step[] = ["ADD", "CHECK", "DEL", "DEL"];
/** Both must refuse, and leave nothing. */
export const refused: readonly Step[] = ["ADD", "DEL"];

const address4 = { address: "10.9.0.2/24", gateway: "10.9.0.1" };
const address6 = { address: "fd00:9::2/64", gateway: "fd00:9::1" };

export const fixed = { type: "static", addresses: [address4] };
export const fixed6 = { type: "static", addresses: [address6] };
export const both = { type: "static", addresses: [address4, address6] };
export const routes = [{ dst: "0.0.0.0/0" }, { dst: "198.51.100.0/24", gw: "10.9.0.77" }];
export const routed = { ...fixed, routes };
export const dns = { nameservers: ["192.0.2.53"], domain: "b.example", search: ["a.example"], options: ["ndots:5"] };
export const pool = { type: "host-local", dataDir: "<data>/leases", ranges: [[{ subnet: "10.9.0.0/24" }]] };
export const pools = {
  ...pool,
  ranges: [[{ subnet: "10.9.0.0/24" }], [{ subnet: "fd00:9::/64" }]],
  routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
};

export const versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;

/** A story for each version of CNI; CHECK is of 0.4.0 and later. */
export function eachVersion(conf: Story["conf"], more: Omit<Story, "conf" | "steps"> = {}): Named[] {
  return versions.map((cniVersion) => {
    const steps = cniVersion < "0.4.0" ? (["ADD", "DEL", "DEL"] as const) : life;
    return {
      what: `${conf.type}, version ${cniVersion}`,
      story: { ...more, conf: { ...conf, cniVersion }, steps },
      newer: cniVersion === "1.1.0",
    };
  });
}

export const add = (pod: number, conf: JsonObject = {}): Call => ({ call: "ADD", pod, conf });
export const del = (pod: number): Call => ({ call: "DEL", pod });

/** What `from` reaches at an address. */
export function reaches(from: "pod" | "pod1" | "node" | "outside", address: string, is = true): Look {
  return {
    look: `${from} reaches ${address}`,
    is,
    see: (world) => answers(netnsOf(world, from), address, is),
  };
}

/** The first packet after ADD, without a second try. */
export function reachesAtOnce(address: string): Look {
  const see = (world: World): boolean => {
    const ping = world.pod().argv("ping", "-q", "-n", "-c", "1", "-W", "0.5", address);
    return Bun.spawnSync(ping, { stdout: "ignore", stderr: "ignore" }).exitCode === 0;
  };
  return { look: `pod reaches ${address} at once`, is: true, see };
}

function netnsOf(world: World, name: "pod" | "pod1" | "node" | "outside"): TestNetns {
  if (name === "node") return world.node;
  if (name === "outside") return world.outside;
  return world.pod(name === "pod" ? 0 : 1);
}

/** The world has an outside from the beginning. */
export function withOutside(world: World): void {
  world.outside;
}

/** Takes the pod's namespace away; what was in it goes with it. */
export const podGone: Step = { act: "the pod's namespace goes", does: (world) => world.lose() };

/** The same, while a process of the pod still runs. */
export const podGoneButHeld: Step = {
  act: "the pod's namespace goes, and a process holds it",
  does: (world) => {
    world.hold();
    world.lose();
  },
};

/** Something done to what ADD made, and a CHECK that must see it. */
export const tampered = (act: string, does: (world: World) => void): readonly Step[] => [
  "ADD",
  { act, does },
  "CHECK",
  "DEL",
  "DEL",
];

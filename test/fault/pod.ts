/** The node and the pod of the kill tests, whose networks are a CNI binary's and built-ins', or all built-ins'. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Card } from "../support/card.ts";
import { type CniAnswer, type CniCall, cni } from "../support/cni.ts";
import { nodeNetns, type TestNetns } from "../support/netns.ts";
import { peerFile } from "../support/peers.ts";
import { type Snapshot, snapshot } from "../support/snapshot.ts";

/**
 * `reference` and `ours`: whose host-local gives the addresses of the network of a CNI binary. The others have built-ins
 * only: `chains` those that the developer's kernel can do something for, `links` further kinds of links, `cards` functions
 * of a card, for which the node is the whole machine.
 */
export type Kind = "reference" | "ours" | "chains" | "links" | "cards";

export const RUN = "/run/patchbay";
const stateDirectories = [RUN, "/var/lib/patchbay", "/var/lib/cni"];
/** On the bridges; the pod reaches them when all is right. */
export const gateways: readonly string[] = ["10.78.0.1", "10.78.2.1"];
const generation = /^\/run\/patchbay\/[0-9a-f]{8}-\d+/;
/** Bridges belong to their networks, and stay. */
const bridges = ["fault0", "fault2"];
const leaveOutFiles = [
  /^\/run\/patchbay\/ops\.jsonl/,
  /^\/var\/lib\/patchbay\/cache(\/|$)/,
  /^\/run\/patchbay\/[^/]+\/cache(\/|$)/,
  // Counters of the reference host-local, which it never takes back.
  /\/networks\/[^/]+\/(lock|last_reserved_ip\.\d+)$/,
];

const leased = (subnet: string): object => ({ type: "host-local", ranges: [[{ subnet }]] });

/** What the pod gets. */
interface Plan {
  /** A configuration, or `plugins` of a list. */
  readonly first: object;
  /** By name. */
  readonly others: Readonly<Record<string, object>>;
  /** Keys of the annotation's elements beside their names. */
  readonly asked?: Readonly<Record<string, object>>;
}

const bridge = { type: "bridge", bridge: "fault0", isGateway: true };
const masked = {
  ...bridge,
  ipMasq: true,
  macspoofchk: true,
  ipam: { ...leased("10.78.0.0/24"), routes: [{ dst: "0.0.0.0/0" }] },
};
const plain = { ...bridge, ipam: leased("10.78.0.0/24") };

const withBinary: Plan = {
  first: masked,
  others: {
    addressed: {
      type: "macvlan",
      master: "uplink",
      mode: "bridge",
      capabilities: { ips: true, mac: true },
      ipam: { type: "static" },
    },
    foreign: { type: "debian-bridge", bridge: "fault2", isGateway: true, ipam: leased("10.78.2.0/24") },
  },
  asked: { addressed: { ips: ["10.78.1.7/24"], mac: "02:78:00:00:00:07" } },
};

const chains: Plan = {
  first: {
    plugins: [
      masked,
      { type: "portmap", capabilities: { portMappings: true } },
      { type: "firewall", ingressPolicy: "isolated" },
      { type: "bandwidth", ingressRate: 8_000_000, ingressBurst: 80_000, egressRate: 8_000_000, egressBurst: 80_000 },
      { type: "tuning", sysctl: { "net.ipv4.conf.IFNAME.arp_filter": "1" }, promisc: true },
    ],
  },
  others: {
    routed: {
      plugins: [
        { type: "macvlan", master: "uplink", ipam: leased("10.78.3.0/24") },
        { type: "tuning", mac: "02:78:00:00:00:09", mtu: 1400, allmulti: true },
        { type: "sbr" },
      ],
    },
    tapped: {
      plugins: [
        { type: "tap", mac: "02:78:00:00:00:08", ipam: leased("10.78.4.0/24") },
        { type: "route-override", addroutes: [{ dst: "10.99.0.0/16" }] },
      ],
    },
    pointed: { type: "ptp", ipMasq: true, ipam: leased("10.78.10.0/24") },
  },
};

const links: Plan = {
  first: plain,
  others: {
    tagged: {
      plugins: [
        { type: "vlan", master: "uplink", vlanId: 78, ipam: leased("10.78.5.0/24") },
        { type: "vrf", vrfname: "red" },
      ],
    },
    stacked: { type: "ipvlan", master: "uplink", ipam: leased("10.78.6.0/24") },
    hollow: { type: "dummy", ipam: leased("10.78.7.0/24") },
  },
};

const cards = (card: Card): Plan => ({
  first: plain,
  others: {
    function: {
      type: "sriov",
      deviceID: card.address(0),
      vlan: 78,
      vlanQoS: 3,
      mac: "02:78:00:00:00:0a",
      trust: "on",
      max_tx_rate: 100,
      ipam: leased("10.78.8.0/24"),
    },
    whole: { type: "host-device", pciBusID: card.address(1), ipam: leased("10.78.9.0/24") },
  },
});

function planOf(kind: Kind, card: Card | undefined): Plan {
  if (kind === "cards") {
    if (card === undefined) throw new Error("no card");
    return cards(card);
  }
  return { reference: withBinary, ours: withBinary, chains, links }[kind];
}

export class FaultNode implements Disposable {
  /** undefined: the whole machine. */
  readonly #netns: TestNetns | undefined;
  readonly #directory = mkdtempSync("/tmp/pbt-fault-");
  readonly #bin: string;
  readonly #plan: Plan;
  readonly #card: Card | undefined;

  /** @param card For `cards`. */
  constructor(program: string, kind: Kind, card?: Card) {
    this.#plan = planOf(kind, card);
    this.#card = card;
    empty();
    this.#netns = card === undefined ? nodeNetns("fault") : undefined;
    // So that snapshots of two nodes can be compared.
    for (const [i, end] of ["uplink", "wire"].entries())
      this.#netns?.ip("link", "set", end, "address", `02:79:00:00:00:0${i}`);
    // What nothing accepts does not pass, so that firewall has something to do.
    if (kind === "chains") this.#netns?.run("iptables-nft", "-P", "FORWARD", "DROP");
    this.#bin = join(this.#directory, "bin");
    mkdirSync(this.#bin);
    this.#link("patchbay", program);
    // "bridge" would be the built-in; a plugin does not look at its own name.
    if (this.#plan === withBinary) this.#link("debian-bridge", peerFile("debian-cni", "bridge"));
    this.#link("host-local", kind === "reference" ? peerFile("debian-cni", "host-local") : program);
    mkdirSync(join(this.#directory, "networks.d"));
    for (const [name, conf] of Object.entries(this.#plan.others)) this.#network(name, conf);
  }

  #link(name: string, file: string): void {
    symlinkSync(file, join(this.#bin, name));
  }

  #network(name: string, plugin: object): void {
    const document = {
      apiVersion: "k8s.cni.cncf.io/v1",
      kind: "NetworkAttachmentDefinition",
      metadata: { name, namespace: "default" },
      spec: { config: JSON.stringify({ cniVersion: "1.0.0", name, ...plugin }) },
    };
    writeFileSync(join(this.#directory, "networks.d", `${name}.json`), JSON.stringify(document));
  }

  #call(command: "ADD" | "DEL", netns: string, under: readonly string[] = []): CniCall {
    const selection = Object.keys(this.#plan.others).map((name) => ({ name, ...this.#plan.asked?.[name] }));
    return {
      plugin: join(this.#bin, "patchbay"),
      command,
      containerId: "fault",
      netns,
      ifname: "eth0",
      args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=fault;K8S_POD_UID=1",
      ...(this.#netns && { node: this.#netns }),
      under,
      stdin: {
        cniVersion: "1.0.0",
        name: "fault",
        type: "patchbay",
        networksDir: join(this.#directory, "networks.d"),
        capabilities: { "io.kubernetes.cri.pod-annotations": true, portMappings: true },
        runtimeConfig: {
          portMappings: [
            { hostPort: 18080, containerPort: 80, protocol: "tcp" },
            { hostPort: 18053, containerPort: 53, protocol: "udp" },
          ],
          "io.kubernetes.cri.pod-annotations": { "k8s.v1.cni.cncf.io/networks": JSON.stringify(selection) },
        },
        defaultNetwork: { cniVersion: "1.0.0", name: "default", ...this.#plan.first },
      },
    };
  }

  add(pod: TestNetns, under?: readonly string[]): CniAnswer {
    return cni(this.#call("ADD", pod.path, under));
  }

  /** @param pod undefined: the namespace is gone, and the runtime says "". */
  del(pod: TestNetns | undefined, under?: readonly string[]): CniAnswer {
    return cni(this.#call("DEL", pod?.path ?? "", under));
  }

  /** The node's namespace, every file of ours or of the plugins, and what the card says of its functions. */
  snapshot(): Snapshot {
    const found = snapshot({
      ...(this.#netns && { netns: this.#netns }),
      leaveOut: bridges,
      files: stateDirectories,
      leaveOutFiles,
    });
    // The directory of this boot and this node, the same on every node.
    const files = Object.entries(found.files ?? {}).map(([path, what]) => [path.replace(generation, RUN), what]);
    const functions = (this.#card?.state() ?? []).map((state) => [
      String(state.vf),
      `${JSON.stringify(state)} ${this.#card?.driverOf(state.vf)} ${this.#card?.interfaceOf(state.vf)}`,
    ]);
    return { ...found, files: Object.fromEntries(files), functions: Object.fromEntries(functions) };
  }

  [Symbol.dispose](): void {
    this.#netns?.[Symbol.dispose]();
    if (this.#card !== undefined) for (const name of bridges) Bun.spawnSync(["ip", "link", "delete", name]);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** The pod's namespace, but for the rules that the kernel makes with the first VRF of a namespace and never takes back. */
export function podSnapshot(netns: TestNetns): Snapshot {
  const found = snapshot({ netns });
  const rules = Object.entries(found.rules ?? {}).filter(([, rule]) => !rule.includes("l3mdev"));
  return { ...found, rules: Object.fromEntries(rules) };
}

/** On a node made for the suite alone: elsewhere these directories are somebody's. */
function empty(): void {
  if (process.env.PATCHBAY_NODE !== "1") throw new Error("run this by scripts/in-node.sh: it empties /run/patchbay");
  for (const directory of stateDirectories) {
    for (const name of existsSync(directory) ? readdirSync(directory) : []) {
      rmSync(join(directory, name), { recursive: true, force: true });
    }
  }
}

/** The node and the pod of the kill tests: three networks, of which one is a CNI binary's or all are chains of built-ins. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CniAnswer, type CniCall, cni } from "../support/cni.ts";
import { nodeNetns, type TestNetns } from "../support/netns.ts";
import { peerFile } from "../support/peers.ts";
import { type Snapshot, snapshot } from "../support/snapshot.ts";

/**
 * Whose host-local gives the addresses of the network of the CNI binary; or that there is none, and every built-in that
 * this kernel can do something for has a part in one of the networks.
 */
export type Kind = "reference" | "ours" | "chains";

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

export class FaultNode implements Disposable {
  readonly netns = nodeNetns("fault");
  readonly #directory = mkdtempSync("/tmp/pbt-fault-");
  readonly #bin: string;
  readonly #kind: Kind;

  constructor(program: string, kind: Kind) {
    this.#kind = kind;
    empty();
    // So that snapshots of two nodes can be compared.
    for (const [i, end] of ["uplink", "wire"].entries())
      this.netns.ip("link", "set", end, "address", `02:79:00:00:00:0${i}`);
    this.#bin = join(this.#directory, "bin");
    mkdirSync(this.#bin);
    this.#link("patchbay", program);
    // "bridge" would be the built-in; a plugin does not look at its own name.
    this.#link("debian-bridge", peerFile("debian-cni", "bridge"));
    this.#link("host-local", kind === "reference" ? peerFile("debian-cni", "host-local") : program);
    mkdirSync(join(this.#directory, "networks.d"));
    if (kind === "chains") {
      this.#chains();
      return;
    }
    this.#network("addressed", {
      type: "macvlan",
      master: "uplink",
      mode: "bridge",
      capabilities: { ips: true, mac: true },
      ipam: { type: "static" },
    });
    this.#network("foreign", {
      type: "debian-bridge",
      bridge: "fault2",
      isGateway: true,
      ipam: { type: "host-local", ranges: [[{ subnet: "10.78.2.0/24" }]] },
    });
  }

  /** What nothing accepts does not pass, so that firewall has something to do. */
  #chains(): void {
    this.netns.run("iptables-nft", "-P", "FORWARD", "DROP");
    this.#network("routed", {
      plugins: [
        { type: "macvlan", master: "uplink", ipam: leased("10.78.3.0/24") },
        { type: "tuning", mac: "02:78:00:00:00:09", mtu: 1400, allmulti: true },
        { type: "sbr" },
      ],
    });
    this.#network("tapped", {
      plugins: [
        { type: "tap", mac: "02:78:00:00:00:08", ipam: leased("10.78.4.0/24") },
        { type: "route-override", addroutes: [{ dst: "10.99.0.0/16" }] },
      ],
    });
  }

  #link(name: string, file: string): void {
    symlinkSync(file, join(this.#bin, name));
  }

  #network(name: string, plugin: Readonly<Record<string, unknown>>): void {
    const document = {
      apiVersion: "k8s.cni.cncf.io/v1",
      kind: "NetworkAttachmentDefinition",
      metadata: { name, namespace: "default" },
      spec: { config: JSON.stringify({ cniVersion: "1.0.0", name, ...plugin }) },
    };
    writeFileSync(join(this.#directory, "networks.d", `${name}.json`), JSON.stringify(document));
  }

  #call(command: "ADD" | "DEL", netns: string, under: readonly string[] = []): CniCall {
    const selection =
      this.#kind === "chains"
        ? [{ name: "routed" }, { name: "tapped" }]
        : [{ name: "addressed", ips: ["10.78.1.7/24"], mac: "02:78:00:00:00:07" }, { name: "foreign" }];
    const bridge = {
      type: "bridge",
      bridge: "fault0",
      isGateway: true,
      ipMasq: true,
      macspoofchk: true,
      ipam: { ...leased("10.78.0.0/24"), routes: [{ dst: "0.0.0.0/0" }] },
    };
    const chain = [
      bridge,
      { type: "portmap", capabilities: { portMappings: true } },
      { type: "firewall", ingressPolicy: "isolated" },
      { type: "bandwidth", ingressRate: 8_000_000, ingressBurst: 80_000, egressRate: 8_000_000, egressBurst: 80_000 },
      { type: "tuning", sysctl: { "net.ipv4.conf.IFNAME.arp_filter": "1" }, promisc: true },
    ];
    return {
      plugin: join(this.#bin, "patchbay"),
      command,
      containerId: "fault",
      netns,
      ifname: "eth0",
      args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=fault;K8S_POD_UID=1",
      node: this.netns,
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
        defaultNetwork: {
          cniVersion: "1.0.0",
          name: "default",
          ...(this.#kind === "chains" ? { plugins: chain } : bridge),
        },
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

  /** The node's namespace and every file of ours or of the plugins. */
  snapshot(): Snapshot {
    const found = snapshot({ netns: this.netns, leaveOut: bridges, files: stateDirectories, leaveOutFiles });
    // The directory of this boot and this node, the same on every node.
    const files = Object.entries(found.files ?? {}).map(([path, what]) => [path.replace(generation, RUN), what]);
    return { ...found, files: Object.fromEntries(files) };
  }

  [Symbol.dispose](): void {
    this.netns[Symbol.dispose]();
    rmSync(this.#directory, { recursive: true, force: true });
  }
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

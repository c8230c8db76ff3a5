/** What is measured: for each group, who does the same work, as commands for `bench/runner`. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pluginDirectory } from "../test/runtime/containerd.ts";
import { peerFile } from "../test/support/peers.ts";
import { kubeconfig } from "./api.ts";

/** Of the runner's plan; its Go source says what each member does. */
export interface Step {
  readonly name?: string;
  readonly argv: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string;
  readonly cold?: readonly string[];
}

export interface Subject {
  readonly name: string;
  readonly atOnce?: number;
  readonly steps: readonly Step[];
}

export interface Group {
  readonly name: string;
  readonly rounds: number;
  readonly warmup: number;
  readonly lead?: number;
  readonly subjects: readonly Subject[];
}

export interface PlanInput {
  readonly rounds: number;
  /** An empty directory for configurations. */
  readonly scratch: string;
  /** dist/patchbay; undefined leaves Patchbay out, to try the bench itself. */
  readonly patchbay: string | undefined;
  readonly apiUrl: string;
}

type Conf = Readonly<Record<string, unknown>>;

/** Names of the groups and subjects, by which the budgets find their figures. */
export const groups = {
  version: "VERSION",
  bridge: "bridge + host-local",
  pod: "pod with three networks",
  bridgeAlone: "bridge + host-local, no worker",
  podAlone: "pod with three networks, no worker",
  mixed: "pod with three networks, one a CNI binary",
  chain: "bridge + portmap + firewall + bandwidth + tuning",
  chainAlone: "bridge + portmap + firewall + bandwidth + tuning, no worker",
  burst: "32 pods at once",
  burstAlone: "32 pods at once, no worker",
  podFresh: "pod with three networks, worker just started",
  warm: "warming the worker",
  cold: "first start, not in the page cache",
} as const;
export const subjects = {
  ours: "Patchbay",
  reference: "reference plugins v1.9.1",
  floor: "raw netlink floor",
  multus: "Multus thin v4.2.2, delegates in its file",
  multusApi: "Multus thin v4.2.2, with an API server",
} as const;

/** The pod's selection, of the networks in `secondaries()`. */
export const selection = { "k8s.v1.cni.cncf.io/networks": "bench-macvlan,bench-second" };

const hostLocal = (subnet: string, routes = false): Conf => ({
  type: "host-local",
  ranges: [[{ subnet }]],
  ...(routes && { routes: [{ dst: "0.0.0.0/0" }] }),
});

/** A bridge with address and default route, as a default network has it. Each subject has bridges of its own. */
const defaultNetwork = (bridge: string, subnet: string): Conf => ({
  cniVersion: "1.0.0",
  name: `${bridge}-default`,
  type: "bridge",
  bridge,
  isGateway: true,
  ipam: hostLocal(subnet, true),
});

/** The second and the third network: macvlan on the node's uplink, and a bridge without gateway. */
export const secondaries = (prefix: string, macvlanSubnet: string, bridgeSubnet: string): Record<string, Conf> => ({
  "bench-macvlan": {
    cniVersion: "1.0.0",
    name: `${prefix}-macvlan`,
    type: "macvlan",
    master: "uplink",
    mode: "bridge",
    ipam: hostLocal(macvlanSubnet),
  },
  "bench-second": {
    cniVersion: "1.0.0",
    name: `${prefix}-second`,
    type: "bridge",
    bridge: `${prefix}2`,
    ipam: hostLocal(bridgeSubnet),
  },
});

/** Subnets for subject number `n`: no two subjects share one. */
const subnet = (n: number, network: number): string => `10.${200 + n}.${network * 64}.0/18`;

function cniStep(name: "add" | "del", plugin: string, path: string, conf: Conf): Step {
  return {
    name,
    argv: [plugin],
    env: {
      CNI_COMMAND: name.toUpperCase(),
      CNI_CONTAINERID: "bench{n}",
      CNI_NETNS: "/run/netns/bench{n}",
      CNI_IFNAME: "eth0",
      CNI_PATH: path,
      CNI_ARGS:
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=bench-{n};K8S_POD_INFRA_CONTAINER_ID=bench{n};K8S_POD_UID=uid-bench-{n}",
    },
    stdin: JSON.stringify(conf),
  };
}

/** ADD and DEL in a namespace of the sequence's own. */
const inNetns = (name: string, add: Step, del: Step, atOnce?: number): Subject => ({
  name,
  ...(atOnce !== undefined && { atOnce }),
  steps: [{ argv: ["ip", "netns", "add", "bench{n}"] }, add, del, { argv: ["ip", "netns", "delete", "bench{n}"] }],
});

const both = (name: string, plugin: string, path: string, conf: Conf, atOnce?: number): Subject =>
  inNetns(name, cniStep("add", plugin, path, conf), cniStep("del", plugin, path, conf), atOnce);

function floorSubject(atOnce?: number): Subject {
  const step = (name: "add" | "del"): Step => ({
    name,
    argv: [peerFile("floor", "floor"), name, "/run/netns/bench{n}", "{n}"],
  });
  return inNetns(subjects.floor, step("add"), step("del"), atOnce);
}

/** Multus with the reference plugins: all networks in its own file, or found through the API as users do. */
function multusSubject(input: PlanInput, withApi: boolean, number: number, atOnce?: number): Subject {
  const prefix = withApi ? "mua" : "muf";
  const first = defaultNetwork(`${prefix}0`, subnet(number, 0));
  const others = secondaries(prefix, subnet(number, 1), subnet(number, 2));
  const path = peerFile("reference", "bridge").replace(/\/bridge$/, "");
  const conf: Record<string, unknown> = { cniVersion: "1.0.0", name: "multus", type: "multus", binDir: path };
  if (withApi) {
    const file = join(input.scratch, "multus.kubeconfig");
    writeFileSync(file, kubeconfig(input.apiUrl));
    Object.assign(conf, { kubeconfig: file, delegates: [first] });
  } else conf.delegates = [first, ...Object.values(others)];
  return both(withApi ? subjects.multusApi : subjects.multus, peerFile("multus", "multus"), path, conf, atOnce);
}

/** The secondaries that the API server hands to Multus. */
export const apiNetworks = (): Record<string, Conf> => secondaries("mua", subnet(3, 1), subnet(3, 2));

/** Patchbay under its own name, as the node's only plugin. @param thirdIsBinary the last network is a reference binary */
function patchbaySubject(input: PlanInput & { patchbay: string }, thirdIsBinary: boolean, atOnce?: number): Subject {
  const prefix = thirdIsBinary ? "pbm" : "pb";
  const number = thirdIsBinary ? 5 : 0;
  const networksDir = join(input.scratch, `${prefix}.networks.d`);
  mkdirSync(networksDir, { recursive: true });
  for (const [name, conf] of Object.entries(secondaries(prefix, subnet(number, 1), subnet(number, 2)))) {
    const document = {
      apiVersion: "k8s.cni.cncf.io/v1",
      kind: "NetworkAttachmentDefinition",
      metadata: { name, namespace: "default" },
      // A name of its own for the binary: "bridge" would be the built-in.
      spec: {
        config: JSON.stringify(thirdIsBinary && name === "bench-second" ? { ...conf, type: "reference-bridge" } : conf),
      },
    };
    writeFileSync(join(networksDir, `${name}.json`), JSON.stringify(document));
  }
  const path = pluginDirectory(join(input.scratch, "patchbay.bin"), {
    patchbay: input.patchbay,
    bridge: input.patchbay,
    "host-local": input.patchbay,
    "reference-bridge": peerFile("reference", "bridge"),
  });
  const annotations = "io.kubernetes.cri.pod-annotations";
  const conf = {
    cniVersion: "1.0.0",
    name: "patchbay",
    type: "patchbay",
    defaultNetwork: defaultNetwork(`${prefix}0`, subnet(number, 0)),
    networksDir,
    capabilities: { [annotations]: true },
    runtimeConfig: { [annotations]: selection },
  };
  return both(subjects.ours, join(path, "patchbay"), path, conf, atOnce);
}

function versionSubject(name: string, plugin: string, cold?: readonly string[]): Subject {
  const step: Step = {
    name: "version",
    argv: [plugin],
    env: { CNI_COMMAND: "VERSION" },
    stdin: '{"cniVersion":"1.0.0"}',
  };
  return { name, steps: [{ ...step, ...(cold && { cold }) }] };
}

/** Both are run in one go: `alone` first, then a worker is started, then `worker`. */
export interface Plans {
  readonly alone: readonly Group[];
  readonly worker: readonly Group[];
}

export function makePlans(input: PlanInput): Plans {
  const { patchbay } = input;
  const referenceBridge = peerFile("reference", "bridge");
  const referencePath = referenceBridge.replace(/\/bridge$/, "");
  const multus = peerFile("multus", "multus");
  const group = (name: string, members: readonly (Subject | undefined)[], rounds = input.rounds): Group => ({
    name,
    rounds,
    warmup: Math.min(3, rounds),
    lead: 1,
    subjects: members.filter((one) => one !== undefined),
  });
  const ours = patchbay === undefined ? undefined : { ...input, patchbay };
  const few = Math.max(1, Math.round(input.rounds / 10));
  const bridgeSubjects = [
    ours && bridgeSubject(ours),
    both(subjects.reference, referenceBridge, referencePath, defaultNetwork("ref0", subnet(1, 0))),
  ];
  const podSubjects = [ours && patchbaySubject(ours, false), floorSubject(), multusSubject(input, false, 2)];
  const chainOurs = ours && ownChain(ours);
  const alone = [
    group(groups.version, [
      ours && versionSubject(subjects.ours, ours.patchbay),
      versionSubject(subjects.reference, referenceBridge),
      versionSubject(subjects.multus, multus),
    ]),
    group(groups.bridgeAlone, bridgeSubjects),
    group(groups.podAlone, podSubjects),
    group(groups.chainAlone, [chainOurs, referenceChain(input)]),
    group(groups.burstAlone, [ours && patchbaySubject(ours, false, 32)], few),
    group(
      groups.cold,
      [
        ours && versionSubject(subjects.ours, ours.patchbay, [ours.patchbay]),
        versionSubject(subjects.reference, referenceBridge, [referenceBridge]),
        versionSubject(subjects.multus, multus, [multus]),
      ],
      few,
    ),
  ];
  const worker = [
    { ...group(groups.podFresh, [podSubjects[0]]), warmup: 0, lead: 0 },
    // A node's worker has done hundreds of operations, and its code is compiled as it is used.
    { ...group(groups.warm, [bridgeSubjects[0], podSubjects[0], chainOurs], 0), warmup: 2 * input.rounds, lead: 0 },
    group(groups.bridge, bridgeSubjects),
    group(groups.pod, [...podSubjects, multusSubject(input, true, 3)]),
    group(groups.chain, [chainOurs, referenceChain(input)]),
    group(groups.mixed, [ours && patchbaySubject(ours, true), multusSubject(input, false, 2)]),
    group(
      groups.burst,
      [ours && patchbaySubject(ours, false, 32), multusSubject(input, false, 2, 32), floorSubject(32)],
      few,
    ),
  ];
  return { alone, worker };
}

/** What a runtime sends to a pod that publishes a port and is slowed down. */
const capabilities = {
  portMappings: [{ hostPort: 18080, containerPort: 80, protocol: "tcp" }],
  bandwidth: { ingressRate: 100_000_000, ingressBurst: 800_000, egressRate: 100_000_000, egressBurst: 800_000 },
};

/** The plugins of the chain. @param number of the subject */
const chain = (bridge: string, number: number): Conf[] => [
  { type: "bridge", bridge, isGateway: true, ipMasq: true, ipam: hostLocal(subnet(number, 0), true) },
  { type: "portmap", capabilities: { portMappings: true }, snat: true },
  { type: "firewall" },
  { type: "bandwidth", capabilities: { bandwidth: true } },
  { type: "tuning", sysctl: { "net.core.somaxconn": "512" } },
];

/** The chain by `cnitool`, which does what a runtime does: with its own start it is in either subject's time. */
function chainSubject(name: string, input: PlanInput, path: string, list: Conf): Subject {
  const directory = join(input.scratch, `${list.name}.net.d`);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "10-chain.conflist"), JSON.stringify(list));
  const step = (verb: "add" | "del"): Step => ({
    name: verb,
    argv: [peerFile("reference", "cnitool"), verb, String(list.name), "/run/netns/bench{n}"],
    env: { CNI_PATH: path, NETCONFPATH: directory, CAP_ARGS: JSON.stringify(capabilities) },
  });
  return inNetns(name, step("add"), step("del"));
}

function ownChain(input: PlanInput & { patchbay: string }): Subject {
  const path = pluginDirectory(join(input.scratch, "chain.bin"), { patchbay: input.patchbay });
  const plugin = {
    type: "patchbay",
    networksDir: join(input.scratch, "none.d"),
    capabilities: { portMappings: true, bandwidth: true },
    defaultNetwork: { cniVersion: "1.0.0", name: "own-chain-default", plugins: chain("chn0", 6) },
  };
  return chainSubject(subjects.ours, input, path, { cniVersion: "1.0.0", name: "own-chain", plugins: [plugin] });
}

const referenceChain = (input: PlanInput): Subject =>
  chainSubject(subjects.reference, input, peerFile("reference", "bridge").replace(/\/bridge$/, ""), {
    cniVersion: "1.0.0",
    name: "reference-chain",
    plugins: chain("chr0", 7),
  });

/** Patchbay called by the name of its built-in bridge, as a runtime calls the reference bridge. */
function bridgeSubject(input: PlanInput & { patchbay: string }): Subject {
  const path = pluginDirectory(join(input.scratch, "bridge.bin"), {
    bridge: input.patchbay,
    "host-local": input.patchbay,
  });
  return both(subjects.ours, join(path, "bridge"), path, defaultNetwork("own0", subnet(4, 0)));
}

/** What the subjects find on the node: the uplink, the floor's bridges. */
export const nodeCommands: readonly string[] = [
  "ip link add uplink type veth peer name wire",
  "ip link set wire addrgenmode none up",
  "ip link set uplink addrgenmode none up",
  "ip link add bench0 type bridge",
  "ip link set bench0 up",
  "ip address add 10.210.0.1/24 dev bench0",
  "ip link add bench2 type bridge",
  "ip link set bench2 up",
  // As on a node whose administrator lets nothing through that no rule accepts: what the chain's firewall is for.
  "iptables-nft -P FORWARD DROP",
];

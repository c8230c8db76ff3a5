/**
 * The main job on real input: two pods on three networks each, by annotation, as a container runtime would ask for them;
 * traffic on each network; everything removed. Runs on a node of its own, which `scripts/quickstart.sh` makes.
 */
import { cpSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type CniAnswer, type CniCommand, cni } from "../test/support/cni.ts";
import { parseIpJson, sh } from "../test/support/netns.ts";
import { difference, type Snapshot, snapshot } from "../test/support/snapshot.ts";
import { drawPods, type PodNetworks, type PodPort, table } from "./drawing.ts";

const root = join(import.meta.dir, "..");
const patchbay = join(root, "dist/patchbay");
const place = "/run/quickstart";
const pluginDir = `${place}/bin`;
const networksDir = `${place}/networks.d`;
/** `part directory`, as `scripts/peers.sh` prints it. */
const [, foreignPart, foreignDir = ""] = /^(\S+) (.*)$/.exec(process.env.QUICKSTART_FOREIGN ?? "") ?? [];
const foreign = foreignPart === "debian-cni" ? "debian-ptp" : "reference-ptp";
const hasNft = Bun.which("nft") !== null;

const unicode = process.env.QUICKSTART_UNICODE === "1";
const paint = (color: number, text: string): string =>
  process.env.QUICKSTART_COLOR === "1" ? `\x1b[${color}m${text}\x1b[0m` : text;
const bold = (text: string): string => paint(1, text);
const dim = (text: string): string => paint(2, text);

/** A step that did not do what it is to show. The message is a sentence. */
class StepError extends Error {}

function step<T>(text: string, work: () => T): T {
  const begun = performance.now();
  try {
    const value = work();
    const ms = performance.now() - begun;
    const time = `${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
    console.log(`  ${paint(32, unicode ? "✓" : "ok")} ${text.padEnd(58)} ${time.padStart(9)}`);
    return value;
  } catch (thrown) {
    console.log(`  ${paint(31, unicode ? "✗" : "!!")} ${text}`);
    throw thrown;
  }
}
const heading = (text: string): void => console.log(`\n  ${bold(text)}\n`);
const indented = (text: string): void => console.log(text.trimEnd().replaceAll(/^(?=.)/gm, "    "));

// --- the input ----------------------------------------------------------------------------------------------------

const manifests = `apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: storage
spec:
  config: |
    {
      "cniVersion": "1.0.0",
      "type": "macvlan",
      "master": "lan0",
      "capabilities": { "ips": true, "mac": true },
      "ipam": { "type": "static" }
    }
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: legacy
spec:
  config: |
    {
      "cniVersion": "1.0.0",
      "type": "${foreign}",
      "ipam": { "type": "host-local", "subnet": "10.30.0.0/24" }
    }
`;

const defaultNetwork = {
  name: "pods",
  type: "bridge",
  bridge: "pods0",
  isDefaultGateway: true,
  ipMasq: true,
  ipam: { type: "host-local", subnet: "10.10.0.0/24" },
};

interface Pod {
  readonly name: string;
  readonly id: string;
  /** Value of the annotation `k8s.v1.cni.cncf.io/networks`. */
  readonly networks: string;
}

const selections = (last: number): string => `[
  { "name": "storage", "ips": ["10.20.0.${last}/24"], "mac": "02:00:00:00:00:0${last}" },
  { "name": "legacy" }
]`;
const web: Pod = { name: "web", id: "quickstart-web", networks: selections(7) };
const db: Pod = { name: "db", id: "quickstart-db", networks: selections(8) };

/** What stands between two pods on the interface, for the drawing. */
const between: Readonly<Record<string, readonly [how: string, by: string]>> = {
  eth0: ["bridge pods0", "built in"],
  net1: ["macvlan on lan0", "built in"],
  net2: [foreign, "CNI binary"],
};

const netnsOf = (pod: Pod): string => `/run/netns/${pod.name}`;
const inPod = (pod: Pod, ...command: string[]): string[] => ["nsenter", `--net=${netnsOf(pod)}`, "--", ...command];

/** The call of a container runtime that knows the pod's annotations. @throws {StepError} with the plugin's own words. */
function call(pod: Pod, command: CniCommand, prevResult?: object): CniAnswer {
  const answer = cni({
    plugin: patchbay,
    path: [pluginDir],
    command,
    containerId: pod.id,
    netns: netnsOf(pod),
    ifname: "eth0",
    args: `IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=${pod.name};K8S_POD_UID=${pod.id}`,
    stdin: {
      cniVersion: "1.1.0",
      name: "quickstart",
      type: "patchbay",
      networksDir,
      policyFile: `${place}/policy.json`,
      capabilities: { "io.kubernetes.cri.pod-annotations": true },
      runtimeConfig: { "io.kubernetes.cri.pod-annotations": { "k8s.v1.cni.cncf.io/networks": pod.networks } },
      defaultNetwork,
      ...(prevResult && { prevResult }),
    },
    env: { ...(process.env.XDG_CACHE_HOME && { XDG_CACHE_HOME: process.env.XDG_CACHE_HOME }) },
  });
  if (answer.exit === 0) return answer;
  const { msg = `${answer.stdout}${answer.stderr}`.trim() || answer.signal, details = "" } = answer.error ?? {};
  throw new StepError(`${command} of pod "${pod.name}" failed: ${msg}. ${details}`);
}

// --- the steps ----------------------------------------------------------------------------------------------------

function makeNode(): void {
  sh(["ip", "link", "set", "lo", "up"]);
  // A veth whose other end leads nowhere is the LAN's card: macvlan pods on it reach each other through it.
  sh(["ip", "link", "add", "lan0", "type", "veth", "peer", "name", "wire"]);
  for (const end of ["wire", "lan0"]) sh(["ip", "link", "set", end, "addrgenmode", "none", "up"]);
  mkdirSync(pluginDir, { recursive: true });
  cpSync(join(foreignDir, "ptp"), join(pluginDir, foreign));
  cpSync(join(foreignDir, "host-local"), join(pluginDir, "host-local"));
  mkdirSync(networksDir);
  writeFileSync(join(networksDir, "networks.yaml"), manifests);
}

function addressesOf(pod: Pod): PodPort[] {
  const links = parseIpJson(sh(inPod(pod, "ip", "-j", "-details", "address", "show")));
  return links
    .filter((link) => link.ifname !== "lo")
    .map((link) => {
      const info = (link.addr_info ?? []) as { local: string; prefixlen: number; scope: string }[];
      const address = info.find((a) => a.scope === "global");
      const { info_kind } = (link.linkinfo ?? {}) as { info_kind?: string };
      return {
        ifname: String(link.ifname),
        kind: info_kind ?? "",
        address: address === undefined ? "" : `${address.local}/${address.prefixlen}`,
        mac: String(link.address),
      };
    });
}

/** Network of each interface, by what Patchbay recorded. */
function networkNames(pod: Pod): ReadonlyMap<string, string> {
  const shown: { container: string; status: { name: string; interface: string }[] }[] = JSON.parse(
    sh([patchbay, "status", "--json"]),
  );
  const status = shown.find((entry) => entry.container === pod.id)?.status ?? [];
  return new Map(status.map((entry) => [entry.interface, entry.name]));
}

/** @throws {StepError} when the pod has not exactly what was asked for. */
function requireNetworks(pod: Pod): PodNetworks {
  const ports = addressesOf(pod);
  const shown = ports.map((p) => `${p.ifname} ${p.address} ${p.mac}`).join(", ");
  const net1 = ports.find((p) => p.ifname === "net1");
  const asked: { ips: string[]; mac: string } = JSON.parse(pod.networks)[0];
  if (ports.map((p) => p.ifname).join() !== "eth0,net1,net2" || ports.some((p) => p.address === ""))
    throw new StepError(`Pod "${pod.name}" was to have eth0, net1 and net2 with an address each, and has ${shown}.`);
  if (net1?.address !== asked.ips[0] || net1?.mac !== asked.mac)
    throw new StepError(`net1 of pod "${pod.name}" has not the address and MAC of the annotation: ${shown}.`);
  return { name: pod.name, ports };
}

function ping(from: Pod, ifname: string, to: PodPort): void {
  const address = to.address.split("/")[0] ?? "";
  const command = inPod(from, "ping", "-n", "-q", "-c", "3", "-i", "0.05", "-w", "3", "-I", ifname, address);
  const ended = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe" });
  const said = `${ended.stdout}${ended.stderr}`;
  if (!/ 3 received/.test(said)) throw new StepError(`No answer from ${address} on ${ifname}: ${said.trim()}`);
}

/** What the node and the pods hold, but for what is kept on purpose. The bridge is the network's, and so it stays. */
function everything(pods: readonly Pod[]): Snapshot[] {
  const node = snapshot({ files: ["/run/patchbay", "/run/cni", "/var/lib"], leaveOut: ["pods0"] });
  const without = (section: string): Record<string, string> =>
    Object.fromEntries(Object.entries(node[section] ?? {}).filter(([key, value]) => !isKept(section, key, value)));
  return [
    { ...node, files: without("files"), nft: without("nft") },
    ...pods.map((pod) => snapshot({ netns: netnsOf(pod) })),
  ];
}

/**
 * Empty directories, the record of the network's bridge, the address that the CNI binary's host-local gave last and its
 * lock; of our nft table the frame without a rule of any pod.
 */
function isKept(section: string, key: string, value: string): boolean {
  if (section === "nft") {
    const frame = /^(table inet {2}patchbay|(chain|rule) inet patchbay postrouting.*)$/.test(key);
    return frame || (/^map inet patchbay masq[46]$/.test(key) && !value.includes('"elem"'));
  }
  return (
    value.startsWith("directory") ||
    /^\/run\/patchbay\/[^/]+\/networks\//.test(key) ||
    /^\/var\/lib\/cni\/networks\/legacy\/(last_reserved_ip\.0|lock)$/.test(key)
  );
}

const count = (snapshots: readonly Snapshot[], section: string): number =>
  snapshots.reduce((sum, one) => sum + Object.keys(one[section] ?? {}).length, 0);

function main(): void {
  const pods = [web, db];
  step("a node of its own, with a LAN", makeNode);
  step("two empty pods: network namespaces", () => {
    for (const pod of pods) sh(["ip", "netns", "add", pod.name]);
  });
  step("STATUS: Patchbay is ready for pods", () => call(web, "STATUS"));
  const before = everything(pods);

  heading('Pod "web" asks for two networks besides its default one');
  indented(`annotations:
  k8s.v1.cni.cncf.io/networks: |
${web.networks.replaceAll(/^/gm, "    ")}`);
  console.log();
  const results = pods.map((pod) => step(`ADD of pod "${pod.name}"`, () => call(pod, "ADD").result ?? {}));
  const networks = pods.map(requireNetworks);
  const [ofWeb, ofDb] = networks;
  if (ofWeb === undefined || ofDb === undefined) throw new TypeError("two pods were asked for");

  const names = networkNames(web);
  console.log();
  indented(
    table(
      ["INTERFACE", "KIND", "ADDRESS", "MAC", "NETWORK", "MADE BY"],
      ofWeb.ports.map((p) => {
        const by = p.ifname === "eth0" ? "bridge" : p.ifname === "net1" ? "macvlan" : foreign;
        return [p.ifname, p.kind, p.address, p.mac, names.get(p.ifname) ?? "", `${by}, ${between[p.ifname]?.[1]}`];
      }),
      dim,
    ),
  );
  console.log();
  indented(drawPods(ofWeb, ofDb, between, unicode));

  heading("Traffic");
  for (const port of ofDb.ports) {
    const text = `ping from web by ${port.ifname} to ${port.address.split("/")[0]}, over ${between[port.ifname]?.[0]}`;
    step(text, () => ping(web, port.ifname, port));
  }
  pods.map((pod, i) => step(`CHECK of pod "${pod.name}"`, () => call(pod, "CHECK", results[i])));

  heading("And gone again");
  const during = everything(pods);
  for (const pod of pods) step(`DEL of pod "${pod.name}"`, () => call(pod, "DEL", results[pods.indexOf(pod)]));
  step("DEL once more changes nothing and does not complain", () => call(web, "DEL"));
  const compared = ["links", "addresses", "routes", ...(hasNft ? ["nft"] : []), "leases", "files"];
  step(`${compared.join(", ")}: as before`, () => {
    const after = everything(pods);
    const left = after.map((one, i) => difference(before[i] ?? {}, one)).filter((text) => text !== "");
    if (left.length > 0) throw new StepError(`Something is left:\n${left.join("\n")}`);
  });
  const counted = ["links", "addresses", "routes", ...(hasNft ? ["nft"] : []), "files"]
    .map(
      (section) => `${count(during, section) - count(before, section)} ${section === "nft" ? "nft objects" : section}`,
    )
    .join(", ");
  console.log();
  indented(dim(`gone: ${counted}`));
  indented(dim("kept, as the networks' own: bridge pods0, IP forwarding, the last address of host-local"));
  console.log(
    `\n  ${bold("Next:")} docs/configuration.md for a real node, docs/writing-plugins.md for a plugin of your own\n`,
  );
}

try {
  main();
} catch (thrown) {
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  process.stderr.write(`\n  ${paint(31, text)}\n`);
  process.exit(1);
}

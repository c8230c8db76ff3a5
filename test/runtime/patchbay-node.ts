/** The node of the runtime tests: Patchbay as the only network provider of containerd, three networks, and a portmap behind. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { sh } from "../support/netns.ts";
import { peerFile } from "../support/peers.ts";
import { distBinary } from "../support/requires.ts";
import { logAndCache, type Snapshot, type SnapshotOptions, snapshot } from "../support/snapshot.ts";
import { type Pod, type PodOptions, pluginDirectory } from "./containerd.ts";

/** Bridges that belong to networks: they stay after the last pod. */
const bridges = ["rt0", "rt2"];

export const subnets = { eth0: "10.88.0", net1: "10.88.1", net2: "10.88.2" } as const;

/** What pod number `n` asks of the macvlan network. */
export const addressOf = (n: number): string => `${subnets.net1}.${n + 1}`;
export const macOf = (n: number): string => `02:88:00:00:00:${(n + 1).toString(16).padStart(2, "0")}`;

export class PatchbayNode implements Disposable {
  readonly directory = mkdtempSync("/tmp/pbt-node-");
  readonly cniBinDir: string;
  readonly cniConfDir: string;

  constructor() {
    sh(["ip", "link", "add", "uplink", "type", "veth", "peer", "name", "wire"]);
    for (const end of ["wire", "uplink"]) sh(["ip", "link", "set", end, "addrgenmode", "none", "up"]);
    this.cniBinDir = pluginDirectory(join(this.directory, "bin"), {
      patchbay: distBinary,
      // For the Debian binary, which delegates to it: leases in the reference's own files.
      "host-local": distBinary,
      loopback: peerFile("debian-cni", "loopback"),
      // "bridge" would be the built-in; a plugin does not look at its own name.
      "debian-bridge": peerFile("debian-cni", "bridge"),
      portmap: peerFile("debian-cni", "portmap"),
    });
    this.cniConfDir = join(this.directory, "net.d");
    mkdirSync(this.cniConfDir);
    const networksDir = join(this.directory, "networks.d");
    mkdirSync(networksDir);
    this.#network(networksDir, "addressed", {
      type: "macvlan",
      master: "uplink",
      mode: "bridge",
      capabilities: { ips: true, mac: true },
      ipam: { type: "static" },
    });
    this.#network(networksDir, "foreign", {
      type: "debian-bridge",
      bridge: "rt2",
      ipam: { type: "host-local", ranges: [[{ subnet: `${subnets.net2}.0/24` }]] },
    });
    const eth0 = { type: "host-local", ranges: [[{ subnet: `${subnets.eth0}.0/24` }]], routes: [{ dst: "0.0.0.0/0" }] };
    const list = {
      cniVersion: "1.0.0",
      name: "node",
      plugins: [
        {
          type: "patchbay",
          capabilities: { "io.kubernetes.cri.pod-annotations": true },
          networksDir,
          defaultNetwork: {
            cniVersion: "1.0.0",
            name: "default",
            type: "bridge",
            bridge: "rt0",
            isGateway: true,
            ipam: eth0,
          },
        },
        { type: "portmap", capabilities: { portMappings: true }, snat: true },
      ],
    };
    // A runtime reads files that are half written: by another name first.
    writeFileSync(join(this.cniConfDir, ".new"), JSON.stringify(list));
    renameSync(join(this.cniConfDir, ".new"), join(this.cniConfDir, "10-patchbay.conflist"));
  }

  #network(directory: string, name: string, plugin: Readonly<Record<string, unknown>>): void {
    const config = JSON.stringify({ cniVersion: "1.0.0", name, ...plugin });
    const metadata = { name, namespace: "default" };
    const document = {
      apiVersion: "k8s.cni.cncf.io/v1",
      kind: "NetworkAttachmentDefinition",
      metadata,
      spec: { config },
    };
    writeFileSync(join(directory, `${name}.json`), JSON.stringify(document));
  }

  /** What pod number `n` is: on all three networks, with an address and a MAC of its own on the second. */
  pod(n: number, more: Partial<PodOptions> = {}): PodOptions {
    const selection = [{ name: "addressed", ips: [`${addressOf(n)}/24`], mac: macOf(n) }, { name: "foreign" }];
    return { name: `pod-${n}`, annotations: { "k8s.v1.cni.cncf.io/networks": JSON.stringify(selection) }, ...more };
  }

  /** The whole node: what a plugin leaves is in here. The reference host-local keeps a lock and a counter a network. */
  snapshot(more: SnapshotOptions = {}): Snapshot {
    const leaveOutFiles = [...logAndCache, /\/networks\/[^/]+\/(lock|last_reserved_ip\.\d+)$/];
    const files = ["/run/patchbay", "/var/lib/patchbay", "/var/lib/cni", "/run/netns", "/run/cni"];
    return snapshot({ leaveOut: bridges, files, leaveOutFiles, ...more });
  }

  [Symbol.dispose](): void {
    for (const link of ["uplink", ...bridges]) Bun.spawnSync(["ip", "link", "delete", link]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A process in the pod's network namespace, which so lives on after the pod. */
export class Holder implements Disposable {
  readonly #process: Bun.Subprocess;

  constructor(pod: Pod) {
    this.#process = Bun.spawn(["nsenter", `--net=${pod.netns}`, "--", "sleep", "600"], {
      stdio: ["ignore", "ignore", "ignore"],
    });
  }

  /** For `snapshot({ netns })`. */
  get path(): string {
    return `/proc/${this.#process.pid}/ns/net`;
  }

  [Symbol.dispose](): void {
    this.#process.kill("SIGKILL");
  }
}

/** Runs `work` for each item, `width` of them at a time; all are finished when it gives back, or throws the first error. */
export async function inParallel<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < items.length; i = next++) results[i] = await work(items[i] as T);
  };
  const ended = await Promise.allSettled(Array.from({ length: Math.min(width, items.length) }, worker));
  for (const one of ended) if (one.status === "rejected") throw one.reason;
  return results;
}

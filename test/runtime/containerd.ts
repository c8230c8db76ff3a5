/**
 * Debian's containerd as a child of the test, with state, socket and configuration of its own, driven by the project's
 * CRI client. Only on a node of its own (`scripts/in-node.sh`): containerd uses fixed places under /run.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type CriRuntime, netnsOf, openCri, type SandboxConfig } from "../../core/cri/client.ts";
import { sh } from "../support/netns.ts";
import { imageName, writeImage } from "../support/oci-image.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { type Need, root } from "../support/requires.ts";

/** For `requires(...root, ...needs)`. */
export const containerdNeeds: readonly Need[] = [
  root,
  ["a node of its own (scripts/in-node.sh)", process.env.PATCHBAY_NODE === "1"],
  hasPeer("containerd"),
  hasPeer("runc"),
  hasPeer("busybox"),
];

export interface ContainerdOptions {
  /** Directory of CNI plugins; it needs `loopback`, which containerd runs by itself. */
  readonly cniBinDir: string;
  /** Directory of network configuration lists; a file must appear there whole. */
  readonly cniConfDir: string;
  /** Added to the daemon's environment, which CNI plugins inherit. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface PodOptions {
  readonly name: string;
  readonly namespace?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly portMappings?: SandboxConfig["portMappings"];
}

/** A pod with one running container. */
export interface Pod {
  readonly name: string;
  /** The sandbox's id: `CNI_CONTAINERID`. */
  readonly id: string;
  readonly containerId: string;
  readonly netns: string;
  readonly config: SandboxConfig;
}

const overlayMagic = 0x794c7630;
const running = (pid: number): boolean => existsSync(`/proc/${pid}`);

export class Containerd implements AsyncDisposable {
  readonly directory: string;
  readonly socket: string;
  readonly #options: ContainerdOptions;
  readonly #cgroup: string;
  #daemon: Bun.Subprocess | undefined;
  #cri: CriRuntime | undefined;

  private constructor(options: ContainerdOptions) {
    this.#options = options;
    this.directory = mkdtempSync("/tmp/pbt-"); // short: a unix socket's path has 107 bytes
    this.socket = join(this.directory, "c.sock");
    this.#cgroup = `patchbay-test-${process.pid}`;
  }

  /** Ready to run pods. */
  static async start(options: ContainerdOptions): Promise<Containerd> {
    const containerd = new Containerd(options);
    writeFileSync(join(containerd.directory, "config.toml"), containerd.#config());
    try {
      await containerd.up();
      const image = join(containerd.directory, "image.tar");
      writeImage(image, peerFile("busybox", "busybox"));
      sh([peerFile("containerd", "ctr"), "-a", containerd.socket, "-n", "k8s.io", "images", "import", image]);
      return containerd;
    } catch (error) {
      const log = containerd.log.split("\n").slice(-30).join("\n");
      await containerd[Symbol.asyncDispose]();
      throw new Error(`containerd did not start: ${error}\n${log}`, { cause: error });
    }
  }

  #config(): string {
    const onOverlay = statfsSync(this.directory).type === overlayMagic;
    const overlay = !onOverlay && /\toverlay$/m.test(readFileSync("/proc/filesystems", "utf8"));
    const off = [
      "snapshotter.v1.aufs",
      "snapshotter.v1.btrfs",
      "snapshotter.v1.devmapper",
      "snapshotter.v1.zfs",
      "internal.v1.opt",
    ];
    return `version = 2
root = "${this.directory}/root"
state = "${this.directory}/state"
disabled_plugins = [${off.map((name) => `"io.containerd.${name}"`).join(", ")}]
[grpc]
  address = "${this.socket}"
[ttrpc]
  address = "${this.socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${imageName}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "${this.#options.cniBinDir}"
    conf_dir = "${this.#options.cniConfDir}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${overlay ? "overlayfs" : "native"}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      BinaryName = "${peerFile("runc", "runc")}"
`;
  }

  get log(): string {
    const path = join(this.directory, "log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  get cri(): CriRuntime {
    if (this.#cri === undefined) throw new Error("containerd is down");
    return this.#cri;
  }

  /** Starts the daemon, again after `kill()`; the pods of before are still there. */
  async up(): Promise<void> {
    const bin = peerFile("containerd", "containerd");
    const log = openSync(join(this.directory, "log"), "a");
    this.#daemon = Bun.spawn([bin, "-c", join(this.directory, "config.toml"), "-l", "info"], {
      env: {
        PATH: `${bin.slice(0, bin.lastIndexOf("/"))}:${process.env.PATH}`, // the shim is found there
        HOME: this.directory,
        ...this.#options.env,
      },
      cwd: this.directory,
      stdin: "ignore",
      stdout: log,
      stderr: log,
    });
    closeSync(log);
    this.#cri = openCri(this.socket);
    const deadline = performance.now() + 30_000;
    for (;;) {
      const ready = await this.cri.status().then(
        (status) => status.status?.conditions.find((one) => one.type === "RuntimeReady")?.status === true,
        () => false,
      );
      if (ready) return;
      if (this.#daemon.exitCode !== null) throw new Error(`containerd ended with ${this.#daemon.exitCode}`);
      if (performance.now() > deadline) throw new Error("containerd was not ready after 30 s");
      await Bun.sleep(50);
    }
  }

  /** Ends the daemon, not its shims and pods. */
  async down(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    this.#cri?.[Symbol.dispose]();
    this.#cri = undefined;
    this.#daemon?.kill(signal);
    await this.#daemon?.exited;
    this.#daemon = undefined;
  }

  /**
   * Frees what containerd forgot when it was killed: the directory of a snapshot that its store does not know takes
   * the name of the next one, and no pod starts any more. It looks for such when it removes one, so that of `pod`.
   */
  async forget(pod: string): Promise<void> {
    await this.remove(pod);
    const ctr = [peerFile("containerd", "ctr"), "-a", this.socket, "-n", "k8s.io", "leases"];
    sh([...ctr, "create", "--id", "collect"]);
    sh([...ctr, "delete", "--sync", "collect"]); // its garbage collection is over when this is
  }

  /** A sandbox and, in it, one container of busybox that sleeps. */
  async run(options: PodOptions): Promise<Pod> {
    const config: SandboxConfig = {
      metadata: { name: options.name, namespace: options.namespace ?? "default", uid: crypto.randomUUID() },
      hostname: options.name,
      logDirectory: join(this.directory, "pods", options.name),
      annotations: { ...options.annotations },
      portMappings: options.portMappings ?? [],
      linux: { cgroupParent: `/${this.#cgroup}` },
    };
    const id = await this.cri.runPodSandbox(config);
    const container = { metadata: { name: "main" }, image: { image: imageName }, logPath: "main.log" };
    const containerId = await this.cri.createContainer(id, container, config);
    await this.cri.startContainer(containerId);
    const status = await this.cri.podSandboxStatus(id, true);
    const netns = status && netnsOf(status);
    if (netns === undefined) throw new Error(`containerd does not tell the network namespace of ${options.name}`);
    return { name: options.name, id, containerId, netns, config };
  }

  /** Runs a command in the pod's container. */
  async exec(pod: Pod, ...command: string[]): Promise<{ exit: number; stdout: string; stderr: string }> {
    const ended = await this.cri.execSync(pod.containerId, command, 20);
    return {
      exit: ended.exitCode,
      stdout: Buffer.from(ended.stdout).toString(),
      stderr: Buffer.from(ended.stderr).toString(),
    };
  }

  /** True when, from inside the pod's container, `address` answers one of three echo requests. */
  async pings(pod: Pod, address: string): Promise<boolean> {
    return (await this.exec(pod, "ping", "-q", "-c", "1", "-w", "3", address)).exit === 0;
  }

  async remove(id: string): Promise<void> {
    await this.cri.stopPodSandbox(id);
    await this.cri.removePodSandbox(id);
  }

  /** Removes every pod, eight at a time. */
  async removeAll(): Promise<void> {
    const left = (await this.cri.listPodSandbox()).map((pod) => pod.id);
    while (left.length > 0) await Promise.all(left.splice(0, 8).map((id) => this.remove(id)));
  }

  /** Ends the daemon and what it started, and removes its files. The node's own end does the rest. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#cri !== undefined) await this.removeAll().catch((error) => console.error(`pods left: ${error}`));
    await this.down("SIGTERM");
    for (const pid of shimsOf(this.socket)) process.kill(pid, "SIGKILL");
    for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n").reverse()) {
      const target = line.split(" ")[1] ?? "";
      if (target.startsWith(`${this.directory}/`)) sh(["umount", "-l", target]);
    }
    rmSync(this.directory, { recursive: true, force: true });
    for (const controller of ["", ...readdirSync("/sys/fs/cgroup")])
      await removeGroup(join("/sys/fs/cgroup", controller, this.#cgroup));
  }
}

/** Shims of the daemon at `socket`: they outlive it. */
function shimsOf(socket: string): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      if (!running(pid)) return false;
      try {
        const argv = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
        return argv[0]?.endsWith("containerd-shim-runc-v2") === true && argv.includes(socket);
      } catch {
        return false; // it ended meanwhile
      }
    });
}

/** With what is still in it: a daemon that is killed while it starts a container knows nothing of it afterwards. */
async function removeGroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  for (const entry of readdirSync(path, { withFileTypes: true }))
    if (entry.isDirectory()) await removeGroup(join(path, entry.name));
  const deadline = performance.now() + 5_000;
  for (;;) {
    for (const pid of readFileSync(join(path, "cgroup.procs"), "utf8").split("\n"))
      if (pid !== "" && pid !== "0") Bun.spawnSync(["kill", "-9", pid]);
    try {
      return rmdirSync(path);
    } catch (error) {
      if (performance.now() > deadline) return console.error(`control group left: ${error}`);
      await Bun.sleep(20);
    }
  }
}

/** A directory of plugins, each a link: `{ loopback: "/…/loopback", … }`. */
export function pluginDirectory(path: string, plugins: Readonly<Record<string, string>>): string {
  mkdirSync(path, { recursive: true });
  for (const [name, target] of Object.entries(plugins)) sh(["ln", "-sf", target, join(path, name)]);
  return path;
}

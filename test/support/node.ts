/**
 * A node of a test's own, on the real kernel: a network namespace, a mount namespace in which the state directories are
 * empty file systems, a directory of plugins and one of networks. Tests run Patchbay on it as a container runtime does.
 */
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type CniAnswer, type CniCall, type CniCommand, cni, type Document, type PluginConf, startCni } from "./cni.ts";
import { guestMachine } from "./guest-machine.ts";
import { nodeNetns, sh, TestNetns } from "./netns.ts";
import { distBinary } from "./requires.ts";
import { difference, type Snapshot, type SnapshotOptions, snapshot } from "./snapshot.ts";
import type { SpyCall, SpyOptions } from "./spy-plugin.ts";

const stateDirectories = ["/run/patchbay", "/var/lib/patchbay", "/var/lib/cni"] as const;
/** Parts of the state that no attachment owns. Paths begin with that of the node's root directory. */
const logAndCaches = [
  /\/run\/patchbay\/ops\.jsonl/,
  /\/run\/patchbay\/[^/]+\/cache(\/|$)/,
  /\/var\/lib\/patchbay\/cache(\/|$)/,
];

/** Where each copy of the binary, and of the library out of it, takes seconds: all nodes then share one. */
const emulated = guestMachine[1];
const shared = "/tmp/pbt-shared";

/** Ends with us, however we end: then nobody writes to it any more. */
type Holder = Bun.Subprocess<"pipe", "pipe", "inherit">;

export type Worker = Bun.Subprocess<"ignore", "pipe", "pipe"> & Disposable;

export interface NodeOptions {
  /** Of the file system of each state directory. */
  readonly stateBytes?: number;
  /** What is started in place of `dist/patchbay`. */
  readonly program?: string;
}

/** A call as a runtime makes it. What is absent is the usual: container "c1", `eth0`, a pod of Kubernetes. */
export interface Call {
  readonly pod?: TestNetns | string;
  readonly container?: string;
  readonly ifname?: string;
  readonly conf?: Document | string;
  readonly args?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** The name of the link in the directory of plugins; "patchbay" unless told. */
  readonly as?: string;
  readonly timeoutMs?: number;
}

export const subnet = "10.77.0.0/24";
/** A plugin object of the built-in bridge, with all that it can leave behind. */
export const bridge: PluginConf = {
  type: "bridge",
  bridge: "br0",
  ipMasq: true,
  macspoofchk: true,
  ipam: { type: "host-local", subnet },
};

export const podArgs = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";

export class TestNode implements Disposable {
  readonly netns: TestNetns;
  readonly directory = mkdtempSync("/tmp/pbt-node-");
  readonly bin = join(this.directory, "bin");
  readonly networks = join(this.directory, "networks.d");
  readonly log = join(this.directory, "calls.jsonl");
  readonly #holder: Holder;

  private constructor(netns: TestNetns, holder: Holder, program: string) {
    this.netns = netns;
    this.#holder = holder;
    for (const path of [this.bin, this.networks]) mkdirSync(path, { mode: 0o755 });
    this.link("patchbay", program);
    this.script("spy", `exec ${process.execPath} ${join(import.meta.dir, "spy-plugin.ts")}`);
  }

  static async create(o: NodeOptions = {}): Promise<TestNode> {
    const netns = nodeNetns();
    for (const path of stateDirectories) mkdirSync(path, { recursive: true });
    const mounts = stateDirectories.map(
      (path) => `mount -t tmpfs -o size=${o.stateBytes ?? 8 << 20},mode=755 pbt ${path}`,
    );
    if (emulated && o.stateBytes === undefined) {
      const cache = "/var/lib/patchbay/cache";
      mounts.push(`mkdir -pm 700 ${shared}/cache ${cache}`, `mount --bind ${shared}/cache ${cache}`);
    }
    const holder = Bun.spawn(
      // Namespaces of pods that are made and deleted outside are seen inside, and nothing the other way round.
      [
        "unshare",
        "--mount",
        "--propagation",
        "slave",
        "sh",
        "-ec",
        [...mounts, "echo ready", "exec cat > /dev/null 2>&1"].join("\n"),
      ],
      { stdin: "pipe", stdout: "pipe", stderr: "inherit" },
    );
    const { value } = await holder.stdout.getReader().read();
    if (Buffer.from(value ?? []).toString() !== "ready\n") throw new Error("the mount namespace was not made");
    return new TestNode(netns, holder, o.program ?? distBinary);
  }

  /**
   * A node that has had a pod on bridge `br0`, deleted again: what networks own and the directories of the state are
   * there, so that whatever is new after a test is a leak.
   */
  static async settled(o: NodeOptions = {}): Promise<TestNode> {
    const node = await TestNode.create(o);
    using first = TestNetns.create("first");
    const conf = node.conf({ plugins: [bridge, node.spy()] });
    node.ok("ADD", { pod: first, conf });
    node.ok("DEL", { pod: first, conf });
    rmSync(node.log);
    return node;
  }

  /** Where the node sees `path`, for the test itself. */
  at(path: string): string {
    return `/proc/${this.#holder.pid}/root${path}`;
  }

  /** A program under a name in the directory of plugins. */
  link(name: string, program = join(this.bin, "patchbay")): void {
    if (name === "patchbay" && program === distBinary) {
      const whole = `${shared}/patchbay`;
      if (emulated && !existsSync(whole)) {
        mkdirSync(shared, { recursive: true, mode: 0o755 });
        copyFileSync(program, whole);
      }
      if (emulated) linkSync(whole, join(this.bin, name));
      else sh(["cp", "--reflink=auto", program, join(this.bin, name)]);
    } else linkSync(program, join(this.bin, name));
  }

  /** A shell script as a plugin. */
  script(name: string, ...lines: readonly string[]): void {
    writeFileSync(join(this.bin, name), ["#!/bin/sh", ...lines, ""].join("\n"));
    chmodSync(join(this.bin, name), 0o755);
  }

  /** A NetworkAttachmentDefinition in a file of its own. */
  network(name: string, config: Document, namespace = "default"): void {
    const nad = {
      apiVersion: "k8s.cni.cncf.io/v1",
      kind: "NetworkAttachmentDefinition",
      metadata: { name, namespace },
      spec: { config: JSON.stringify({ cniVersion: "1.1.0", ...config }) },
    };
    writeFileSync(join(this.networks, `${namespace}-${name}.json`), JSON.stringify(nad), { mode: 0o644 });
  }

  /** The plugin object of the meta-plugin, with the annotation as the runtime's capability brings it. */
  conf(defaultNetwork: Document | undefined, annotation?: unknown, more: Document = {}): Document {
    const text = typeof annotation === "string" ? annotation : JSON.stringify(annotation);
    const annotations = annotation === undefined ? {} : { "k8s.v1.cni.cncf.io/networks": text };
    return {
      cniVersion: "1.1.0",
      name: "node",
      type: "patchbay",
      networksDir: this.networks,
      capabilities: { "io.kubernetes.cri.pod-annotations": true },
      runtimeConfig: { "io.kubernetes.cri.pod-annotations": annotations },
      ...(defaultNetwork && { defaultNetwork: { cniVersion: "1.1.0", name: "default", ...defaultNetwork } }),
      ...more,
    };
  }

  /** A plugin object of the spy. */
  spy(o: Partial<SpyOptions> = {}, more: Document = {}): Document & { type: string } {
    return { type: "spy", ...more, spy: { log: this.log, ...o } };
  }

  /** The spy under the name "ipam", as the `ipam` of a built-in; its options stand in the whole plugin's place. */
  spyIpam(o: Partial<SpyOptions> = {}): Document {
    return { type: "ipam", spy: { log: this.log, ...o } };
  }

  /** What the spies were called with, the oldest first. */
  calls(): SpyCall[] {
    if (!existsSync(this.log)) return [];
    return readFileSync(this.log, "utf8")
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  }

  /** Addresses that are leased in a pool of ours. */
  leases(pool = "default"): string[] {
    const path = `${this.generation}/leases/${pool}`;
    return existsSync(path) ? readdirSync(path).filter((name) => /^[0-9a-f]+[.:]/.test(name)) : [];
  }

  /** The directory of this boot's state, as the test sees it. */
  get generation(): string {
    const [name = ""] = readdirSync(this.at("/run/patchbay")).filter((n) => /^[0-9a-f]{8}-\d+$/.test(n));
    return this.at(`/run/patchbay/${name}`);
  }

  #call(command: CniCommand, o: Call): CniCall {
    const ofAttachment = command === "ADD" || command === "DEL" || command === "CHECK";
    return {
      plugin: join(this.bin, o.as ?? "patchbay"),
      command,
      node: this.netns,
      under: this.inside(),
      stdin: o.conf ?? "{}",
      ...(ofAttachment && {
        containerId: o.container ?? "c1",
        ifname: o.ifname ?? "eth0",
        args: o.args ?? podArgs,
        netns: o.pod ?? "",
      }),
      ...(o.env && { env: o.env }),
      ...(o.timeoutMs && { timeoutMs: o.timeoutMs }),
    };
  }

  /** argv in front of a command that is to see the node's files. */
  inside(): string[] {
    return ["nsenter", `--mount=/proc/${this.#holder.pid}/ns/mnt`, "--"];
  }

  /** Runs a command with the node's files and network. */
  run(...argv: readonly string[]): string {
    return this.netns.run(...this.inside(), ...argv);
  }

  /** A call, whatever it answers. */
  answer(command: CniCommand, o: Call): CniAnswer {
    return cni(this.#call(command, o));
  }

  /** A call beside others. */
  start(command: CniCommand, o: Call): ReturnType<typeof startCni> {
    return startCni(this.#call(command, o));
  }

  /** A call that must succeed. @throws {Error} with its words */
  ok(command: CniCommand, o: Call): CniAnswer {
    const answer = this.answer(command, o);
    if (answer.exit === 0) return answer;
    throw new Error(`${command}: ${answer.signal ?? `exit ${answer.exit}`}: ${answer.stdout} ${answer.stderr}`);
  }

  /** `patchbay worker` on this node, once it listens. It ends with what it is given to. */
  async worker(): Promise<Worker> {
    const socket = this.at("/run/patchbay/worker.sock");
    rmSync(socket, { force: true });
    const argv = this.netns.argv(...this.inside(), join(this.bin, "patchbay"), "worker");
    const worker = Bun.spawn(argv, { stdout: "pipe", stderr: "pipe" });
    await until(() => existsSync(socket) || worker.exitCode !== null);
    return Object.assign(worker, {
      [Symbol.dispose]: () => worker.kill("SIGKILL"),
    });
  }

  /** `patchbay status --json` */
  status(): {
    container: string;
    complete: boolean;
    status: { name: string; interface?: string; default?: boolean }[];
  }[] {
    return JSON.parse(this.run(join(this.bin, "patchbay"), "status", "--json"));
  }

  snapshot(o: Omit<SnapshotOptions, "netns" | "files" | "leaveOutFiles"> = {}): Snapshot {
    const files = stateDirectories.map((path) => this.at(path));
    return snapshot({ netns: this.netns, files, leaveOutFiles: logAndCaches, ...o });
  }

  [Symbol.dispose](): void {
    this.#holder.kill("SIGKILL");
    this.netns[Symbol.dispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Everything about a node and a pod, to compare two moments by. */
export class Witness {
  readonly #node: TestNode;
  readonly #pod: TestNetns | undefined;
  readonly #options: Omit<SnapshotOptions, "netns">;
  readonly #before: readonly Snapshot[];

  /** Bridge `br0` is the networks' own, and stays; it gets an address of its own at any time after it came up. */
  constructor(
    node: TestNode,
    pod?: TestNetns,
    options: Omit<SnapshotOptions, "netns" | "files"> = { leaveOut: ["br0"] },
  ) {
    this.#node = node;
    this.#pod = pod;
    this.#options = options;
    this.#before = this.#look();
  }

  #look(): Snapshot[] {
    const node = this.#node.snapshot(this.#options);
    return this.#pod?.exists ? [node, snapshot({ netns: this.#pod })] : [node];
  }

  /** "" when nothing changed, else a line a change. A pod that has gone is not looked at. */
  changes(): string {
    const after = this.#look();
    const names = ["node", "pod"];
    return (
      after
        .flatMap((now, i) =>
          difference(this.#before[i] ?? now, now)
            .split("\n")
            .map((line) => `${names[i]} ${line}`),
        )
        // A link brings a hundred sysctls with it.
        .map((line) => line.replace(/(sysctls: net\/ipv[46]\/conf\/[^/]+)\/.*/, "$1"))
        .filter((line, i, all) => line.length > "node ".length && line !== all[i - 1])
        .join("\n")
    );
  }
}

/** Waits for something that another process does. @throws {Error} after ten seconds */
export async function until(done: () => boolean): Promise<void> {
  for (const end = performance.now() + 10_000; !done(); await Bun.sleep(10)) {
    if (performance.now() > end) throw new Error("it did not come to pass in ten seconds");
  }
}

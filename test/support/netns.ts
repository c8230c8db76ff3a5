/** Network namespaces for tests: named, with a prefix that no other run has, deleted when the test lets go of them. */
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";

const run = randomBytes(3).toString("hex");
let made = 0;

/**
 * Runs a command and gives back what it printed.
 * @throws {Error} with its standard error when it fails.
 */
export function sh(argv: readonly string[], options: { stdin?: string; env?: Record<string, string> } = {}): string {
  const ended = Bun.spawnSync([...argv], {
    stdin: options.stdin === undefined ? "ignore" : Buffer.from(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    ...(options.env && { env: { ...process.env, ...options.env } }),
  });
  if (ended.exitCode === 0) return ended.stdout.toString();
  const how = ended.exitCode === null ? `signal ${ended.signalCode}` : `exit ${ended.exitCode}`;
  throw new Error(`${argv.join(" ")}: ${how}: ${ended.stderr.toString().trim() || ended.stdout.toString().trim()}`);
}

/** A named network namespace, `ip netns add`. `using ns = TestNetns.create("bridge")` deletes it with all inside. */
export class TestNetns implements Disposable {
  readonly name: string;

  private constructor(name: string) {
    this.name = name;
  }

  /** @param hint what it stands for in the test, such as "pod" or "host"; loopback is left down, as a runtime does. */
  static create(hint = "ns"): TestNetns {
    const name = `pbt-${run}-${hint}-${made++}`;
    sh(["ip", "netns", "add", name]);
    return new TestNetns(name);
  }

  /** What a runtime puts into `CNI_NETNS`. */
  get path(): string {
    return `/run/netns/${this.name}`;
  }

  /** argv that runs a command in this namespace; files and processes stay those of the caller. */
  argv(...command: readonly string[]): string[] {
    return ["nsenter", `--net=${this.path}`, "--", ...command];
  }

  run(...command: readonly string[]): string {
    return sh(this.argv(...command));
  }

  /** `ip -n NAME ARGS` */
  ip(...args: readonly string[]): string {
    return sh(["ip", "-n", this.name, ...args]);
  }

  /** `ip -j -n NAME ARGS`, parsed; an empty answer is []. */
  ipJson(...args: readonly string[]): Record<string, unknown>[] {
    return parseIpJson(sh(["ip", "-j", "-n", this.name, ...args]));
  }

  /** True when `address` answers one of three echo requests. */
  ping(address: string, options: { from?: string; seconds?: number } = {}): boolean {
    const from = options.from === undefined ? [] : ["-I", options.from];
    const command = this.argv(
      "ping",
      "-q",
      "-n",
      "-i",
      "0.2",
      "-c",
      "3",
      "-w",
      String(options.seconds ?? 3),
      ...from,
      address,
    );
    const report = Bun.spawnSync(command, { stdout: "pipe", stderr: "pipe" }).stdout.toString();
    return Number(/(\d+) received/.exec(report)?.[1] ?? 0) > 0;
  }

  get exists(): boolean {
    return existsSync(this.path);
  }

  /** Deletes the name; the namespace lives on while a process or an open file holds it. Twice is harmless. */
  [Symbol.dispose](): void {
    if (this.exists) sh(["ip", "netns", "delete", this.name]);
  }
}

export function parseIpJson(text: string): Record<string, unknown>[] {
  return text.trim() === "" ? [] : JSON.parse(text);
}

/** An interface in a test namespace, by name. */
export interface End {
  readonly in: TestNetns;
  readonly name: string;
  /** With prefix length. */
  readonly address?: string;
}

/** A veth pair between two namespaces, both ends up. */
export function veth(a: End, b: End): void {
  a.in.ip("link", "add", a.name, "type", "veth", "peer", "name", b.name, "netns", b.in.name);
  for (const end of [a, b]) {
    if (end.address !== undefined) end.in.ip("address", "add", end.address, "dev", end.name, "nodad");
    end.in.ip("link", "set", end.name, "up");
  }
}

/**
 * A namespace that stands for a node: loopback up and, as the default route's device, an `uplink` whose other end,
 * `wire`, leads nowhere. (A veth, since not every kernel has dummy devices.)
 */
export function nodeNetns(hint = "node"): TestNetns {
  const node = TestNetns.create(hint);
  node.ip("link", "set", "lo", "up");
  node.ip("link", "add", "uplink", "type", "veth", "peer", "name", "wire");
  // Without link-local addresses: they would appear a second or two later, in the middle of a test.
  const silent = existsSync("/proc/sys/net/ipv6") ? ["addrgenmode", "none"] : [];
  for (const end of ["wire", "uplink"]) node.ip("link", "set", end, ...silent, "up");
  node.ip("address", "add", "192.0.2.10/24", "dev", "uplink");
  node.ip("route", "add", "default", "via", "192.0.2.1");
  return node;
}

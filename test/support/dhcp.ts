/** DHCP servers for tests: Debian's dnsmasq, and one that answers as the test says. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestNetns } from "./netns.ts";
import { until } from "./node.ts";

type Child = Bun.Subprocess<"ignore", "ignore", "ignore">;

function end(child: Bun.Subprocess): void {
  child.kill("SIGKILL");
}

/** dnsmasq in a namespace, with a file of its leases and a log of what it was asked. */
export class Dnsmasq implements Disposable {
  readonly #directory = mkdtempSync("/tmp/pbt-dnsmasq-");
  readonly #netns: TestNetns;
  readonly #options: readonly string[];
  #child: Child | undefined;

  /** @param options As `--dhcp-range=192.168.50.10,192.168.50.20,2m` */
  constructor(netns: TestNetns, options: readonly string[]) {
    this.#netns = netns;
    this.#options = options;
    this.start();
  }

  start(): void {
    const own = ["-k", "-p", "0", "--conf-file=/dev/null", "--user=root", "--no-resolv", "--no-ping", "--log-dhcp"];
    const files = ["pid-file", "dhcp-leasefile", "log-facility"].map((key) => `--${key}=${join(this.#directory, key)}`);
    const argv = this.#netns.argv("dnsmasq", ...own, ...files, ...this.#options);
    this.#child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  }

  async stop(o: { forget?: boolean } = {}): Promise<void> {
    this.#child?.kill("SIGTERM");
    await this.#child?.exited;
    this.#child = undefined;
    if (o.forget) writeFileSync(join(this.#directory, "dhcp-leasefile"), "");
  }

  get log(): string {
    return this.#read("log-facility");
  }

  /** How often it got or sent such a message: "DHCPREQUEST", "DHCPRELEASE" … */
  count(message: string): number {
    return this.log.split("\n").filter((line) => line.includes(`${message}(`)).length;
  }

  /** Addresses that are leased. */
  get leases(): string[] {
    return this.#read("dhcp-leasefile")
      .split("\n")
      .flatMap((line) => line.split(" ")[2] ?? [])
      .sort();
  }

  /** The client id of a lease, hexadecimal with colons. */
  clientId(address: string): string | undefined {
    const line = this.#read("dhcp-leasefile")
      .split("\n")
      .find((text) => text.split(" ")[2] === address);
    return line?.split(" ")[4];
  }

  async ready(): Promise<this> {
    await until(() => this.log.includes("DHCP, IP range"));
    return this;
  }

  #read(name: string): string {
    try {
      return readFileSync(join(this.#directory, name), "utf8");
    } catch {
      return ""; // not written yet
    }
  }

  [Symbol.dispose](): void {
    if (this.#child !== undefined) end(this.#child);
    rmSync(this.#directory, { recursive: true });
  }
}

/** What a scripted server does; the last rule for a kind of message counts. */
export interface Script {
  readonly address: string;
  readonly server: string;
  readonly leaseSeconds?: number;
  readonly renewSeconds?: number;
  readonly rebindSeconds?: number;
  /** Raw options in the place of the usual ones, as hexadecimal digits. */
  readonly raw?: string;
  /** Answers to REQUEST: "ack" unless told. "forgetful" prolongs nothing, and leases anew. */
  readonly request?: "ack" | "nak" | "silent" | "other-address" | "forgetful";
  readonly discover?: "offer" | "silent" | "garbage";
}

/** A server in a namespace that does as its script says, which the test may change at any time. */
export class ScriptedServer implements Disposable {
  readonly #directory = mkdtempSync("/tmp/pbt-dhcpd-");
  readonly #child: Bun.Subprocess<"ignore", "ignore", "inherit">;

  constructor(netns: TestNetns, script: Script) {
    this.script(script);
    this.#child = Bun.spawn(netns.argv(process.execPath, join(import.meta.dir, "dhcp-server.ts"), this.#directory), {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "inherit",
    });
  }

  script(script: Script): void {
    writeFileSync(join(this.#directory, "script.json"), JSON.stringify(script));
  }

  /** What it was asked, the oldest first: "DISCOVER", "REQUEST to all", "REQUEST to me", "RELEASE" … */
  get heard(): string[] {
    try {
      return readFileSync(join(this.#directory, "heard"), "utf8")
        .split("\n")
        .filter((line) => line !== "");
    } catch {
      return [];
    }
  }

  async ready(): Promise<this> {
    await until(() => this.heard.includes("ready"));
    return this;
  }

  [Symbol.dispose](): void {
    end(this.#child);
    rmSync(this.#directory, { recursive: true });
  }
}

/** A node with a network of its own behind it, on which a test's DHCP server is, and `patchbay dhcp`. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "./cni.ts";
import { Dnsmasq, type Script, ScriptedServer } from "./dhcp.ts";
import { TestNetns } from "./netns.ts";
import { TestNode, until } from "./node.ts";

export const SERVER = "192.168.50.1";

/** Those that the unit leaves it, as setpriv(1) wants them. */
function capabilities(): string {
  const unit = readFileSync(new URL("../../deploy/patchbay-dhcp.service", import.meta.url), "utf8");
  const [, names = ""] = /^CapabilityBoundingSet=(.*)$/m.exec(unit) ?? [];
  return names.replaceAll("CAP_", "+").replaceAll(" ", ",").toLowerCase();
}

/** A node, a network behind its link `up0`, and what keeps leases. */
export class DhcpSite implements Disposable {
  readonly node: TestNode;
  readonly lan: TestNetns;
  readonly #stack = new DisposableStack();
  #keeper: Bun.Subprocess<"ignore", "ignore", "pipe"> | undefined;
  log = "";

  private constructor(node: TestNode) {
    this.node = this.#stack.use(node);
    this.lan = this.#stack.use(TestNetns.create("lan"));
    this.lan.ip("link", "set", "lo", "up");
    node.netns.ip("link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", this.lan.name);
    node.netns.ip("link", "set", "up0", "up");
    this.lan.ip("link", "set", "eth0", "up");
    this.lan.ip("addr", "add", `${SERVER}/24`, "dev", "eth0");
    this.lan.ip("route", "add", "default", "dev", "eth0"); // by which the scripted server's broadcasts go
  }

  static async create(o: { keeper?: boolean } = {}): Promise<DhcpSite> {
    const site = new DhcpSite(await TestNode.create());
    if (o.keeper !== false) await site.startKeeper();
    return site;
  }

  /** @param command In the place of `patchbay dhcp`. */
  async startKeeper(command: readonly string[] = ["patchbay", "dhcp"]): Promise<void> {
    const [program = "", ...args] = command;
    const caged = ["setpriv", `--bounding-set=-all,${capabilities()}`, "--no-new-privs"];
    const argv = this.node.netns.argv(...this.node.inside(), ...caged, join(this.node.bin, program), ...args);
    const child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    this.#keeper = child;
    const before = this.log.length;
    void (async () => {
      for await (const chunk of child.stderr) this.log += new TextDecoder().decode(chunk);
    })();
    await until(() => this.log.slice(before).includes("renewing"));
  }

  async stopKeeper(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    this.#keeper?.kill(signal);
    await this.#keeper?.exited;
    this.#keeper = undefined;
  }

  /** What its descriptors lead to: namespaces, sockets, files. */
  keeperHolds(): string[] {
    const directory = `/proc/${this.#keeper?.pid}/fd`;
    return readdirSync(directory)
      .map((fd) => readlinkSync(`${directory}/${fd}`))
      .sort();
  }

  use<T extends Disposable>(resource: T): T {
    return this.#stack.use(resource);
  }

  async dnsmasq(...options: readonly string[]): Promise<Dnsmasq> {
    const range = "--dhcp-range=192.168.50.10,192.168.50.20,255.255.255.0,2m";
    return this.use(new Dnsmasq(this.lan, [range, "--interface=eth0", "--bind-interfaces", ...options])).ready();
  }

  async scripted(script: Partial<Script> = {}): Promise<ScriptedServer> {
    const full = { address: "192.168.50.30", server: SERVER, ...script };
    return this.use(new ScriptedServer(this.lan, full)).ready();
  }

  /** Every file among the records, unfinished ones too. */
  records(): string[] {
    const path = this.node.at("/var/lib/patchbay/dhcp");
    return existsSync(path) ? readdirSync(path).sort().reverse() : [];
  }

  /** The one record there is. */
  record(): Document {
    const [name = ""] = this.records();
    if (name === "") return {};
    const text = readFileSync(join(this.node.at("/var/lib/patchbay/dhcp"), name), "utf8");
    return JSON.parse(text.slice(0, text.lastIndexOf(" ")));
  }

  [Symbol.dispose](): void {
    this.#keeper?.kill("SIGKILL");
    this.#stack[Symbol.dispose]();
  }
}

export const macvlan = (more: Document = {}, ipam: Document = {}): Document => ({
  cniVersion: "1.1.0",
  name: "lan",
  type: "macvlan",
  master: "up0",
  ipam: { type: "dhcp", ...ipam },
  ...more,
});

/** A call of a built-in alone, as a runtime makes it for a pod's second interface. */
export const call = (pod: TestNetns | undefined, more: Document = {}) => ({
  ...(pod && { pod }),
  ifname: "net1",
  ...more,
});

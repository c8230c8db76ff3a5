/** dhcp as IPAM, with Debian's dnsmasq and a scripted server behind macvlan and bridge. */
import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { Dnsmasq, type Script, ScriptedServer } from "../support/dhcp.ts";
import { TestNetns } from "../support/netns.ts";
import { TestNode, until } from "../support/node.ts";
import { built, has, requires, root } from "../support/requires.ts";

const SERVER = "192.168.50.1";

/** A node, a network behind its link `up0`, and what keeps leases. */
class Site implements Disposable {
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
  }

  static async create(o: { keeper?: boolean } = {}): Promise<Site> {
    const site = new Site(await TestNode.create());
    if (o.keeper !== false) await site.startKeeper();
    return site;
  }

  async startKeeper(): Promise<void> {
    const argv = this.node.netns.argv(...this.node.inside(), join(this.node.bin, "patchbay"), "dhcp");
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

  get keeperPid(): number {
    return this.#keeper?.pid ?? 0;
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

  records(): string[] {
    const path = this.node.at("/var/lib/patchbay/dhcp");
    return existsSync(path) ? readdirSync(path).filter((name) => name.endsWith(".lease")) : [];
  }

  record(): Document {
    const [name = ""] = this.records();
    const text = readFileSync(join(this.node.at("/var/lib/patchbay/dhcp"), name), "utf8");
    return JSON.parse(text.slice(0, text.lastIndexOf(" ")));
  }

  [Symbol.dispose](): void {
    this.#keeper?.kill("SIGKILL");
    this.#stack[Symbol.dispose]();
  }
}

const macvlan = (more: Document = {}, ipam: Document = {}): Document => ({
  cniVersion: "1.1.0",
  name: "lan",
  type: "macvlan",
  master: "up0",
  ipam: { type: "dhcp", ...ipam },
  ...more,
});
const call = (pod: TestNetns, more: Document = {}) => ({ pod, as: "patchbay", ifname: "net1", ...more });

requires(...root, built, ["dnsmasq", has("dnsmasq")])("dhcp", () => {
  test("macvlan: a lease with all that the server says; CHECK; RELEASE on DEL", async () => {
    using site = await Site.create();
    const server = await site.dnsmasq(
      "--dhcp-option=option:dns-server,192.168.50.2,192.168.50.3",
      "--domain=example.test",
      "--dhcp-option=option:ntp-server,192.168.50.4",
      "--dhcp-option=option:classless-static-route,10.9.0.0/16,192.168.50.5,0.0.0.0/0,192.168.50.1",
    );
    using pod = TestNetns.create("pod");
    const conf = macvlan({}, { priority: 50 });
    const { result, ms } = site.node.ok("ADD", call(pod, { conf }));
    const address = result?.ips?.[0]?.address ?? "";
    expect(address).toMatch(/^192\.168\.50\.1\d\/24$|^192\.168\.50\.20\/24$/);
    expect(result?.ips).toEqual([{ address, gateway: SERVER, interface: 0 }]);
    expect(result?.routes).toEqual([
      { dst: "10.9.0.0/16", gw: "192.168.50.5", priority: 50 },
      { dst: "0.0.0.0/0", gw: SERVER, priority: 50 },
    ]);
    expect(ms).toBeLessThan(3000);
    expect(server.leases).toEqual([address.replace("/24", "")]);
    const id = Buffer.from("\0c1/lan/net1")
      .toString("hex")
      .replaceAll(/(..)(?!$)/g, "$1:");
    expect(server.clientId(address.replace("/24", ""))).toBe(id);
    expect(pod.run("ping", "-c1", "-W2", SERVER)).toContain("1 received");
    expect(site.record()).toMatchObject({ state: "bound", address, server: SERVER, timeServers: ["192.168.50.4"] });
    expect(pod.ip("route", "show", "10.9.0.0/16")).toContain("metric 50");
    site.node.ok("CHECK", call(pod, { conf: { ...conf, prevResult: result } }));
    site.node.ok("DEL", call(pod, { conf }));
    await until(() => server.count("DHCPRELEASE") === 1);
    expect(server.leases).toEqual([]);
    expect(site.records()).toEqual([]);
    expect(site.node.status()).toEqual([]);
  });
});

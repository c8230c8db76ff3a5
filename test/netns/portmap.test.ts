/** portmap on a real kernel, by what happens to connections. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import type { JsonObject } from "../../core/base/json.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import { ask, Echo } from "../support/echo.ts";
import { nodeNetns, TestNetns, veth } from "../support/netns.ts";
import { PluginPod } from "../support/plugin.ts";
import { requires, root } from "../support/requires.ts";

setDefaultTimeout(60_000);

const bridge = { type: "bridge", bridge: "br0", isGateway: true, hairpinMode: true } as const;

/** A node with a network of pods behind a bridge, and somebody outside who reaches the node and not the pods. */
class Site implements Disposable {
  readonly #stack = new DisposableStack();
  readonly node = this.#stack.use(nodeNetns("node"));
  readonly outside = this.#stack.use(TestNetns.create("out"));
  readonly kernel = this.#open(this.node, true);

  constructor() {
    veth(
      { in: this.node, name: "wan", address: "198.51.100.1/24" },
      { in: this.outside, name: "eth0", address: "198.51.100.2/24" },
    );
    this.node.ip("address", "add", "198.51.100.11/24", "dev", "wan");
    this.node.ip("address", "add", "fd09::1/64", "dev", "wan", "nodad");
    this.outside.ip("address", "add", "fd09::2/64", "dev", "eth0", "nodad");
    this.outside.ip("link", "set", "lo", "up");
  }

  #open(ns: TestNetns, host: boolean): Kernel {
    return this.#stack.use(openKernel(this.#stack.use(Netns.open(parseNetnsPath(ns.path))), { host }));
  }

  pod(last: number, families: 4 | 6 | 46 = 46): Pod {
    const ns = this.#stack.use(TestNetns.create("pod"));
    return new Pod(this, ns, this.#open(ns, false), last, families);
  }

  async serve(pod: Pod, name: string, ...ports: readonly number[]): Promise<void> {
    this.#stack.use(await Echo.start(pod.ns, name, ...ports));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

class Pod extends PluginPod {
  readonly ns: TestNetns;
  readonly result: JsonObject;

  constructor(site: Site, ns: TestNetns, kernel: Kernel, last: number, families: 4 | 6 | 46) {
    super(site.kernel, kernel);
    this.ns = ns;
    const four = { address: `10.5.0.${last}/24`, gateway: "10.5.0.1" };
    const six = { address: `fd05::${last}/64`, gateway: "fd05::1" };
    this.result = this.add("bridge", bridge, {
      ips: families === 4 ? [four] : families === 6 ? [six] : [four, six],
      routes:
        families === 6 ? [{ dst: "::/0" }] : [{ dst: "0.0.0.0/0" }, ...(families === 46 ? [{ dst: "::/0" }] : [])],
      dns: {},
    });
    ns.ip("link", "set", "lo", "up");
  }

  conf(mappings: readonly JsonObject[], more: JsonObject = {}): JsonObject {
    return { ...more, runtimeConfig: { portMappings: [...mappings] }, prevResult: this.result };
  }

  map(mappings: readonly JsonObject[], more: JsonObject = {}): void {
    expect(this.add("portmap", this.conf(mappings, more))).toMatchObject({ ips: this.result.ips as never });
    expect(this.amiss(mappings, more)).toBe("");
  }

  amiss(mappings: readonly JsonObject[], more: JsonObject = {}): string {
    return this.check("portmap", this.conf(mappings, more), this.result);
  }
}

const tcp = (hostPort: number, containerPort: number, more: JsonObject = {}): JsonObject => ({
  hostPort,
  containerPort,
  protocol: "tcp",
  ...more,
});
const udp = (hostPort: number, containerPort: number, more: JsonObject = {}): JsonObject => ({
  ...tcp(hostPort, containerPort, more),
  protocol: "udp",
});

requires(...root)("portmap on a kernel", () => {
  test("TCP and UDP of both families: from outside, the node, 127.0.0.1, the pod itself and its neighbour", async () => {
    using site = new Site();
    const pod = site.pod(5);
    const neighbour = site.pod(6);
    await site.serve(pod, "pod", 80);
    pod.map([tcp(8080, 80), udp(8080, 80)]);
    const targets = ["198.51.100.1", "fd09::1"];
    const questions = targets.flatMap((target) => [`tcp ${target} 8080`, `udp ${target} 8080`]);
    const all = (four: string, six: string): string[] => [four, four, six, six].map((from) => `pod ${from} 80`);
    expect(ask(site.outside, questions)).toEqual(all("198.51.100.2", "fd09::2"));
    expect(ask(site.node, questions)).toEqual(all("198.51.100.1", "fd09::1"));
    expect(ask(pod.ns, questions)).toEqual(all("10.5.0.1", "fd05::1"));
    expect(ask(neighbour.ns, questions)).toEqual(all("10.5.0.1", "fd05::1"));
    expect(ask(site.node, ["tcp 127.0.0.1 8080", "udp 127.0.0.1 8080", "tcp 127.8.8.8 8080"])).toEqual([
      "pod 10.5.0.1 80",
      "pod 10.5.0.1 80",
      "pod 10.5.0.1 80",
    ]);
    expect(ask(site.node, ["tcp ::1 8080"])).toEqual(["ECONNREFUSED"]);
    pod.undo();
    expect(ask(site.outside, ["tcp 198.51.100.1 8080"])).toEqual(["ECONNREFUSED"]);
    expect(site.node.run("nft", "list", "map", "inet", "patchbay_ports", "ports4")).not.toContain("8080");
  });
});

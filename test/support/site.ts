/** A node that routes between pods and an outside, for tests of what it lets through. */
import type { Document } from "./cni.ts";
import { TestNetns, veth } from "./netns.ts";
import { TestNode } from "./node.ts";
import { answers } from "./twin.ts";

/** The outside's addresses. */
export const OUTSIDE = ["198.51.100.1", "2001:db8:1::1"] as const;

/** A node with a wire to the outside and pods on bridges, two families each. */
export class Site implements Disposable {
  readonly #stack = new DisposableStack();
  readonly node: TestNode;
  readonly outside = this.#stack.use(TestNetns.create("outside"));

  private constructor(node: TestNode) {
    this.node = this.#stack.use(node);
    const { netns } = node;
    veth(
      { in: netns, name: "out0", address: "198.51.100.10/24" },
      { in: this.outside, name: "out0", address: "198.51.100.1/24" },
    );
    netns.ip("address", "add", "2001:db8:1::10/64", "dev", "out0", "nodad");
    this.outside.ip("address", "add", "2001:db8:1::1/64", "dev", "out0", "nodad");
    for (const n of [7, 8]) {
      this.outside.ip("route", "add", `10.${n}.0.0/24`, "via", "198.51.100.10");
      this.outside.ip("route", "add", `fd00:${n}::/64`, "via", "2001:db8:1::10");
    }
    netns.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    netns.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits");
    for (const name of ["bridge", "firewall"]) node.link(name);
  }

  static async create(): Promise<Site> {
    return new Site(await TestNode.create());
  }

  pod(hint = "pod"): TestNetns {
    const pod = this.#stack.use(TestNetns.create(hint));
    pod.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits");
    return pod;
  }

  /** A network of bridge and firewall. @param n The number of its bridge and of its subnets. */
  conf(firewall: Document = {}, n = 7, host = 0): Document {
    const range = host === 0 ? {} : { rangeStart: `10.${n}.0.${host}`, rangeEnd: `10.${n}.0.${host}` };
    const ranges = [[{ subnet: `10.${n}.0.0/24`, ...range }], [{ subnet: `fd00:${n}::/64` }]];
    const routes = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
    const bridge = { type: "bridge", bridge: `br${n}`, isGateway: true, ipam: { type: "host-local", ranges, routes } };
    return this.node.conf({ name: `net${n}`, plugins: [bridge, { type: "firewall", ...firewall }] });
  }

  /** What packet filters print of themselves, without what they count. */
  rules(): string {
    return ["iptables-save", "ip6tables-save", "nft list ruleset"]
      .map((command) => this.node.netns.run(...command.split(" ")))
      .join("")
      .split("\n")
      .filter((line) => !line.startsWith("# "))
      .map((line) => line.replace(/packets \d+ bytes \d+/, "").replace(/\[\d+:\d+\]/, ""))
      .join("\n");
  }

  /** `-A CNI-FORWARD …`, for both families. */
  saved(): string[] {
    return this.rules()
      .split("\n")
      .filter((line) => /^-A (CNI-|FORWARD)/.test(line));
  }

  reaches(from: TestNetns, hoped: boolean): boolean[] {
    return OUTSIDE.map((address) => answers(from, address, hoped));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** The pod's own address. */
export const address = (pod: TestNetns, family: "inet" | "inet6"): string => {
  const [link] = pod.ipJson("address", "show", "dev", "eth0", "scope", "global");
  const info = link?.addr_info as { family: string; local: string }[];
  return info.find((a) => a.family === family)?.local ?? "";
};

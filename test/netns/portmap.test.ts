/** portmap on a real kernel, by what happens to connections. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { undoStep } from "../../core/host/undo.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import { ask, Echo } from "../support/echo.ts";
import { nodeNetns, TestNetns, veth } from "../support/netns.ts";
import { PluginPod } from "../support/plugin.ts";
import { has, requires, root } from "../support/requires.ts";

setDefaultTimeout(60_000);

const bridge = { type: "bridge", bridge: "br0", isGateway: true, hairpinMode: true } as const;

/** An SCTP INIT by a raw frame, for kernels without SCTP sockets. */
function sendInit(from: TestNetns, source: string, target: string, port: number): void {
  const script = `
    from socket import *
    import struct
    def crc(data):
      c = 0xffffffff
      for b in data:
        c ^= b
        for _ in range(8): c = (c >> 1) ^ (0x82f63b78 if c & 1 else 0)
      return c ^ 0xffffffff
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 7, 65536, 1, 1, 9)
    head = struct.pack("!HHI", 4444, ${port}, 0)
    packet = struct.pack("!HHI", 4444, ${port}, 0)[:8] + struct.pack("<I", crc(head + bytes(4) + chunk)) + chunk
    s = socket(AF_INET, SOCK_RAW, 132)
    s.bind(("${source}", 0))
    s.sendto(packet, ("${target}", 0))
  `.replaceAll("\n    ", "\n");
  from.run("python3", "-c", script);
}

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
    const index = site.kernel.linkByName("br0")?.index;
    if (index !== undefined) site.kernel.waitAddresses(index, 5000); // so that the node answers for fd05::1
  }

  conf(mappings: readonly JsonObject[], more: JsonObject = {}): JsonObject {
    return { ...more, runtimeConfig: { portMappings: [...mappings] }, prevResult: this.result };
  }

  map(mappings: readonly JsonObject[], more: JsonObject = {}): void {
    expect(this.add("portmap", this.conf(mappings, more))).toMatchObject({ ips: this.result.ips as never });
    expect(this.amiss(mappings, more)).toBe("");
  }

  get chain(): string {
    return `hostport-${this.nftKey}`;
  }

  /** Takes back what portmap did, and leaves the pod its network. */
  undoPorts(): void {
    for (const e of this.journal.entries.toReversed()) {
      if (e.is !== "undo" || e.step.do !== "ports") continue;
      undoStep(e.step, this.journal.entries, { pod: this.kernel, host: this.host });
      this.journal.append({ is: "undone", id: e.id });
    }
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

requires(...root, ["python3", has("python3")])("portmap on a kernel", () => {
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

  test("a mapping for one address of the node is for that address; two pods share a port by two addresses", async () => {
    using site = new Site();
    const [a, b] = [site.pod(5), site.pod(6)];
    await site.serve(a, "a", 80, 81);
    await site.serve(b, "b", 80);
    a.map([tcp(8080, 80, { hostIP: "198.51.100.1" }), udp(9090, 81, { hostIP: "0.0.0.0" })]);
    b.map([
      tcp(8080, 80, { hostIP: "198.51.100.11" }),
      udp(9090, 80, { hostIP: "::" }),
      tcp(7070, 80, { hostIP: "127.0.0.1" }),
    ]);
    const questions = ["tcp 198.51.100.1 8080", "tcp 198.51.100.11 8080", "tcp fd09::1 8080"];
    const answers = ["a 198.51.100.2 80", "b 198.51.100.2 80", "ECONNREFUSED"];
    expect(ask(site.outside, questions)).toEqual(answers);
    expect(ask(site.outside, ["udp 198.51.100.11 9090", "udp fd09::1 9090"])).toEqual([
      "a 198.51.100.2 81",
      "b fd09::2 80",
    ]);
    expect(ask(site.node, ["tcp 127.0.0.1 8080", "tcp 127.0.0.1 7070"])).toEqual(["ECONNREFUSED", "b 10.5.0.1 80"]);
    a.undo();
    const later = site.pod(5); // with the address of the pod that has gone
    await site.serve(later, "later", 80);
    expect(ask(site.outside, questions)).toEqual(["ECONNREFUSED", "b 198.51.100.2 80", "ECONNREFUSED"]);
    later.map([tcp(8080, 80, { hostIP: "198.51.100.1" })]);
    expect(ask(site.outside, questions)).toEqual(["later 198.51.100.2 80", "b 198.51.100.2 80", "ECONNREFUSED"]);
    expect(site.node.run("nft", "list", "ruleset")).not.toContain(a.chain);
    later.undo();
    b.undo();
    const everywhere = site.pod(7);
    everywhere.map([tcp(8080, 80)]);
    expect(everywhere.amiss([tcp(8080, 80)])).toBe("");
  });

  test("a port on one address, and on all of them, is two pods' wish for one thing, in either order", () => {
    using site = new Site();
    const [a, b, c] = [site.pod(5), site.pod(6), site.pod(7, 6)];
    const refused = (pod: Pod, ...mappings: JsonObject[]): string => {
      const before = site.node.run("nft", "list", "ruleset");
      const message = pod.refused("portmap", pod.conf(mappings));
      pod.undoPorts();
      expect(site.node.run("nft", "list", "ruleset")).toBe(before);
      return message;
    };
    const taken = (port: string): string => `Cannot map port ${port} of the node: container "${a.container}" has it`;
    a.map([tcp(8080, 80, { hostIP: "198.51.100.1" }), udp(53, 53)]);
    expect(refused(b, tcp(8080, 80))).toBe(taken("8080/tcp of 198.51.100.1"));
    expect(refused(b, udp(53, 53, { hostIP: "198.51.100.11" }))).toBe(taken("53/udp"));
    expect(refused(b, tcp(1, 1), tcp(8080, 81, { hostIP: "198.51.100.1" }))).toBe(taken("8080/tcp of 198.51.100.1"));
    expect(refused(b, udp(50, 50, { length: 10 }))).toBe(taken("53/udp"));
    c.map([tcp(8080, 80)]); // IPv6 alone: nobody has that
    b.map([tcp(8080, 80, { hostIP: "198.51.100.11" }), tcp(53, 53)]);
    a.undo();
    b.undo();
    site.pod(8, 4).map([tcp(8080, 80), udp(53, 53)]);
  });

  test("ranges: the same ports in the pod, or others", async () => {
    using site = new Site();
    const pod = site.pod(5);
    await site.serve(pod, "pod", 5000, 5009, 6000, 6001);
    const mappings = [udp(5000, 5000, { length: 10 }), tcp(5000, 6000, { length: 2, hostIP: "198.51.100.1" })];
    pod.map(mappings);
    const questions = [
      "udp 198.51.100.1 5000",
      "udp fd09::1 5009",
      "udp 198.51.100.1 5010",
      "tcp 198.51.100.1 5000",
      "tcp 198.51.100.1 5001",
      "tcp 198.51.100.1 5002",
    ];
    expect(ask(site.outside, questions)).toEqual([
      "pod 198.51.100.2 5000",
      "pod fd09::2 5009",
      "silence",
      "pod 198.51.100.2 6000",
      "pod 198.51.100.2 6001",
      "ECONNREFUSED",
    ]);
    site.node.run("nft", "delete element inet patchbay_ports ports6 { udp . 5003 }");
    expect(pod.amiss(mappings)).toBe("port 5003/udp does not lead to the pod");
    pod.undo();
    expect(site.node.run("nft", "list", "ruleset")).not.toContain("shift");
    expect(ask(site.outside, ["tcp 198.51.100.1 5000"])).toEqual(["ECONNREFUSED"]);
  });

  test("as many ports as there may be, and one more", () => {
    using site = new Site();
    const pod = site.pod(5);
    pod.map([udp(20_000, 30_000, { length: 1024 })]);
    pod.undo();
    expect(site.node.run("nft", "list", "map", "inet", "patchbay_ports", "ports4")).not.toContain("elements");
    expect(pod.refused("portmap", pod.conf([udp(20_000, 30_000, { length: 1025 })]))).toBe(
      "Cannot map 1025 ports to one pod: 1024 are the most",
    );
  });

  test("SCTP is translated", () => {
    using site = new Site();
    const pod = site.pod(5);
    pod.map([{ hostPort: 3868, containerPort: 3869, protocol: "sctp" }]);
    pod.ns.run("nft", "add table inet seen; add chain inet seen in { type filter hook input priority 0; }");
    pod.ns.run("nft", "add rule inet seen in sctp dport 3869 counter");
    sendInit(site.outside, "198.51.100.2", "198.51.100.1", 3868);
    expect(pod.ns.run("nft", "list", "table", "inet", "seen")).toContain("counter packets 1");
  });

  test("snat: false keeps the source and leaves 127.0.0.1 alone, masqAll hides everybody", async () => {
    using site = new Site();
    const [pod, neighbour] = [site.pod(5), site.pod(6)];
    await site.serve(pod, "pod", 80);
    pod.map([tcp(8080, 80)], { snat: false });
    expect(ask(site.node, ["tcp 127.0.0.1 8080", "tcp 198.51.100.1 8080"])).toEqual([
      "ECONNREFUSED",
      "pod 198.51.100.1 80",
    ]);
    expect(ask(site.outside, ["tcp 198.51.100.1 8080"])).toEqual(["pod 198.51.100.2 80"]);
    expect(site.kernel.sysctl("net/ipv4/conf/br0/route_localnet")).toBe("0");
    pod.map([tcp(8080, 80)], { masqAll: true, markMasqBit: 31 });
    for (const from of [site.outside, neighbour.ns, pod.ns]) {
      expect(ask(from, ["tcp 198.51.100.1 8080", "tcp fd09::1 8080"])).toEqual(["pod 10.5.0.1 80", "pod fd05::1 80"]);
    }
  });

  test("conditions of both languages: who does not fulfil them finds no mapping", async () => {
    using site = new Site();
    const pod = site.pod(5);
    await site.serve(pod, "pod", 80);
    const questions = ["tcp 198.51.100.1 8080", "tcp 198.51.100.11 8080", "tcp fd09::1 8080"];
    const yes = "pod 198.51.100.2 80";
    const cases: [JsonObject, string[]][] = [
      [{ conditionsV4: ["!", "-d", "198.51.100.11"] }, [yes, "ECONNREFUSED", "pod fd09::2 80"]],
      [
        { conditionsV4: ["-s", "198.51.100.2/32", "--destination", "198.51.100.11"] },
        ["ECONNREFUSED", yes, "pod fd09::2 80"],
      ],
      [{ conditionsV6: ["ip6 daddr != fd09::/64"], backend: "nftables" }, [yes, yes, "ECONNREFUSED"]],
      [{ conditionsV4: ["ip", "saddr", "198.51.100.0/29"] }, [yes, yes, "pod fd09::2 80"]],
      [{ conditionsV4: ["ip saddr == 198.51.100.3"] }, ["ECONNREFUSED", "ECONNREFUSED", "pod fd09::2 80"]],
    ];
    for (const [more, answers] of cases) {
      pod.map([tcp(8080, 80)], more);
      expect(ask(site.outside, questions), JSON.stringify(more)).toEqual(answers);
    }
  });

  test("nobody on a link reaches what listens on 127.0.0.1", async () => {
    using site = new Site();
    const pod = site.pod(5, 4);
    pod.map([tcp(8080, 80)]);
    expect(site.kernel.sysctl("net/ipv4/conf/br0/route_localnet")).toBe("1");
    using _ = await Echo.start(site.node, "node", 5000);
    expect(ask(site.node, ["tcp 127.0.0.1 5000"])).toEqual(["node 127.0.0.1 5000"]);
    // A pod that is root in its namespace: 127.0.0.1 leads to the node, and by which address it asks is its choice.
    pod.ns.ip("address", "delete", "127.0.0.1/8", "dev", "lo");
    pod.ns.ip("route", "add", "127.0.0.1/32", "via", "10.5.0.1", "src", "10.5.0.5");
    pod.ns.run("sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1");
    const questions = ["tcp 127.0.0.1 5000", "udp 127.0.0.1 5000"];
    expect(ask(pod.ns, questions)).toEqual(["silence", "silence"]);
    site.node.run("nft", "flush", "chain", "inet", "patchbay_ports", "loopback-guard");
    expect(pod.amiss([tcp(8080, 80)])).toContain('"inet patchbay_ports loopback-guard" are not as they were made');
    expect(ask(pod.ns, questions.slice(0, 1))).toEqual(["node 10.5.0.5 5000"]); // so it was the guard
    pod.map([tcp(8080, 80)]);
    expect(ask(pod.ns, questions)).toEqual(["silence", "silence"]);
  });

  test("UDP flows find the pod that has the port now, and other flows are left alone", async () => {
    using site = new Site();
    const first = site.pod(5);
    await site.serve(first, "first", 53);
    using _ = await Echo.start(site.outside, "outside", 53);
    // A client that keeps asking while nobody has the port.
    const question = ["udp 198.51.100.1 53 5000", "udp fd09::1 53 5000"];
    expect(ask(site.outside, question, 300)).toEqual(["ECONNREFUSED", "ECONNREFUSED"].map(() => expect.any(String)));
    first.map([udp(53, 53)]);
    expect(ask(site.outside, question)).toEqual(["first 198.51.100.2 53", "first fd09::2 53"]);
    // The node's own flow, to the port 53 of somebody else.
    expect(ask(site.node, ["udp 198.51.100.2 53 4000"])).toEqual(["outside 198.51.100.1 53"]);
    const second = site.pod(6);
    await site.serve(second, "second", 53);
    first.gone = true;
    second.map([udp(53, 53)]); // takes the port over
    expect(ask(site.outside, question)).toEqual(["second 198.51.100.2 53", "second fd09::2 53"]);
    const third = site.pod(7);
    await site.serve(third, "third", 53);
    expect(third.refused("portmap", third.conf([udp(53, 53)]))).toContain(`container "${second.container}" has it`);
    third.undoPorts();
    first.undoPorts(); // the late DEL leaves the port to whoever has it now
    expect(second.amiss([udp(53, 53)])).toBe("");
    expect(flows(site.node)).toContain("src=198.51.100.1 dst=198.51.100.2 sport=4000 dport=53");
    expect(flows(site.node)).not.toContain("src=10.5.0.5");
    expect(flows(site.node)).not.toContain("fd05:0000:0000:0000:0000:0000:0000:0005");
    second.undoPorts();
    third.map([udp(53, 53)]);
    expect(ask(site.outside, question)).toEqual(["third 198.51.100.2 53", "third fd09::2 53"]);
    expect(flows(site.node)).toContain("src=198.51.100.1 dst=198.51.100.2 sport=4000 dport=53");
  });

  test("a pod of one family has the port in that family alone", async () => {
    using site = new Site();
    const [four, six] = [site.pod(5, 4), site.pod(6, 6)];
    await site.serve(four, "four", 80);
    await site.serve(six, "six", 80);
    four.map([tcp(8080, 80), tcp(9090, 80, { hostIP: "::" })]);
    six.map([tcp(8080, 80)]);
    expect(ask(site.outside, ["tcp 198.51.100.1 8080", "tcp fd09::1 8080", "tcp fd09::1 9090"])).toEqual([
      "four 198.51.100.2 80",
      "six fd09::2 80",
      "ECONNREFUSED",
    ]);
  });

  test("CHECK finds what somebody changed", () => {
    using site = new Site();
    const pod = site.pod(5);
    const mappings = [tcp(8080, 80), tcp(8081, 81, { hostIP: "198.51.100.1" })];
    const changes: [string, string[], string][] = [
      ["its chain", ["nft", "flush", "chain", "inet", "patchbay_ports", pod.chain], "rules of nft chain"],
      [
        "the way to it",
        ["nft", "flush", "chain", "inet", "patchbay_ports", "hostports"],
        '"inet patchbay_ports hostports"',
      ],
      ["the table", ["nft", "delete", "table", "inet", "patchbay_ports"], "rules of nft chain"],
      ["a port", ["nft", "delete element inet patchbay_ports ports6 { tcp . 8080 }"], "port 8080/tcp does not lead"],
      [
        "an address's port",
        ["nft", "delete element inet patchbay_ports hostips4 { tcp . 8081 . 198.51.100.1 }"],
        "port 8081/tcp of 198.51.100.1 does not lead",
      ],
      [
        "the sysctl",
        ["sysctl", "-qw", "net.ipv4.conf.br0.route_localnet=0"],
        '"net/ipv4/conf/br0/route_localnet" is not 1',
      ],
    ];
    for (const [what, command, found] of changes) {
      pod.map(mappings);
      site.node.run(...command);
      expect(pod.amiss(mappings), what).toContain(found);
    }
    pod.undo(); // whatever is left of it
  });

  test.each([
    [
      [{ hostPort: 80, containerPort: 80, protocol: "icmp" }],
      'Cannot map port 80/icmp: "icmp" is no protocol with ports',
    ],
    [[tcp(65_535, 1, { length: 2 })], "Cannot map port 65535-65536/tcp: the range ends behind port 65535"],
    [[tcp(1, 65_535, { length: 2 })], "Cannot map port 1-2/tcp: the range ends behind port 65535"],
    [[tcp(80, 80), tcp(80, 81)], "Cannot map port 80/tcp to 81: the pod maps port 80/tcp to 80"],
    [[tcp(70, 70, { length: 20 }), tcp(80, 81, { hostIP: "192.0.2.10" })], "Cannot map port 80/tcp of"],
    [[tcp(80, 80, { hostIP: "fd09::1" })], 'Cannot map port 80/tcp of "fd09::1": the pod has no IPv6 address'],
  ])("refuses %j", (mappings, message) => {
    using site = new Site();
    const pod = site.pod(5, 4);
    const before = site.node.run("nft", "list", "ruleset");
    expect(pod.refused("portmap", pod.conf(mappings))).toContain(message);
    expect(site.node.run("nft", "list", "ruleset")).toBe(before);
  });
});

/** The kernel's UDP flows, as it lists them. */
function flows(ns: TestNetns): string {
  return ns
    .run("cat", "/proc/net/nf_conntrack")
    .split("\n")
    .filter((line) => line.includes("udp"))
    .join("\n");
}

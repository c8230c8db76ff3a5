/** Pods with ports of the node, through the whole program: whose a port is, what is left, and who came before. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { type CniAnswer, type CniCommand, cni, type Document } from "../support/cni.ts";
import { ask, Echo } from "../support/echo.ts";
import { TestNetns, veth } from "../support/netns.ts";
import { TestNode, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, has, requires, root } from "../support/requires.ts";

setDefaultTimeout(60_000);

const ipam = {
  type: "host-local",
  ranges: [[{ subnet: "10.81.0.0/24" }], [{ subnet: "fd81::/64" }]],
  routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
};
const bridge = { type: "bridge", bridge: "br0", isGateway: true, hairpinMode: true, ipam };
const portmap = { type: "portmap", capabilities: { portMappings: true } };

const annotations = "io.kubernetes.cri.pod-annotations";
const capable = (portMappings: unknown): Document => ({
  capabilities: { [annotations]: true, portMappings: true },
  runtimeConfig: { [annotations]: {}, portMappings },
});

interface Mapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol?: string;
  readonly hostIP?: string;
}

const args = (name: string): string =>
  `IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=${name};K8S_POD_UID=u-${name}`;

requires(...root, built, ["python3", has("python3")])("ports of pods", () => {
  let node: TestNode;
  let outside: TestNetns;

  /** A pod's call; the ports as containerd writes them. */
  function call(
    command: CniCommand,
    pod: TestNetns,
    name: string,
    ports: readonly Mapping[],
    more: Document = {},
  ): CniAnswer {
    const portMappings = ports.map((p) => ({
      HostPort: p.hostPort,
      ContainerPort: p.containerPort,
      Protocol: p.protocol ?? "TCP",
      HostIP: p.hostIP ?? "",
    }));
    const conf = node.conf({ plugins: [bridge, portmap] }, undefined, {
      ...capable(portMappings),
      ...more,
    });
    return node.answer(command, { pod, container: name, conf, args: args(name) });
  }
  const add = (pod: TestNetns, name: string, ...ports: Mapping[]): Document => {
    const answer = call("ADD", pod, name, ports);
    expect(answer.exit, answer.stdout).toBe(0);
    return JSON.parse(answer.stdout);
  };
  const del = (pod: TestNetns, name: string, ...ports: Mapping[]): void => {
    const answer = call("DEL", pod, name, ports);
    expect(answer.exit, answer.stdout).toBe(0);
  };
  const witness = (): Witness => new Witness(node, undefined, { leaveOut: ["br0"] });

  beforeAll(async () => {
    node = await TestNode.create();
    outside = TestNetns.create("out");
    veth(
      { in: node.netns, name: "wan", address: "198.51.100.1/24" },
      { in: outside, name: "eth0", address: "198.51.100.2/24" },
    );
    for (const [ns, name] of [
      [node.netns, "wan"],
      [outside, "eth0"],
    ] as const) {
      // Without link-local addresses: they would appear a second or two later, in the middle of a test.
      ns.ip("link", "set", name, "down");
      ns.ip("link", "set", name, "addrgenmode", "none", "up");
    }
    node.netns.ip("address", "add", "fd09::1/64", "dev", "wan", "nodad");
    outside.ip("address", "add", "fd09::2/64", "dev", "eth0", "nodad");
    using first = TestNetns.create("first");
    add(first, "first", { hostPort: 1, containerPort: 1 });
    del(first, "first");
  });
  afterAll(() => {
    outside?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });

  test("STATUS: there are nftables, and not for one who may not read them", () => {
    const stdin = node.conf({ plugins: [bridge, portmap] });
    expect(node.answer("STATUS", { conf: stdin }).stdout).toBe("");
    const under = [...node.inside(), "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--"];
    const answer = cni({ plugin: join(node.bin, "patchbay"), command: "STATUS", node: node.netns, under, stdin });
    expect(answer.error).toMatchObject({ code: 50, msg: "Cannot map ports: the node's kernel has no nftables for us" });
  });

  test("ADD, CHECK, the way to it, DEL with the namespace gone, DEL again", async () => {
    const before = witness();
    const pod = TestNetns.create("pod");
    const ports = [
      { hostPort: 8080, containerPort: 80 },
      { hostPort: 5353, containerPort: 53, protocol: "Udp" },
    ];
    const result = add(pod, "a", ...ports);
    expect(result.interfaces).toHaveLength(3);
    const checked = call("CHECK", pod, "a", ports, { prevResult: result });
    expect(checked.exit, checked.stdout).toBe(0);
    {
      using _ = await Echo.start(pod, "a", 80, 53);
      expect(ask(outside, ["tcp 198.51.100.1 8080", "tcp fd09::1 8080", "udp 198.51.100.1 5353"], 3000)).toEqual([
        "a 198.51.100.2 80",
        "a fd09::2 80",
        "a 198.51.100.2 53",
      ]);
    }
    node.netns.run("nft", "flush", "map", "inet", "patchbay_ports", "ports4");
    const amiss = call("CHECK", pod, "a", ports, { prevResult: result });
    expect(JSON.parse(amiss.stdout)).toMatchObject({ code: 210, msg: expect.stringContaining("port 8080/tcp") });
    pod[Symbol.dispose]();
    del(pod, "a");
    del(pod, "a");
    expect(before.changes()).toBe("");
  });

  test("a port that a living pod has is refused with that pod's name, and nothing stays", () => {
    using first = TestNetns.create("pod");
    using second = TestNetns.create("pod");
    add(
      first,
      "a",
      { hostPort: 8080, containerPort: 80, hostIP: "198.51.100.1" },
      { hostPort: 53, containerPort: 53, protocol: "UDP" },
    );
    const before = witness();
    for (const [mapping, port] of [
      [{ hostPort: 8080, containerPort: 1 }, "8080/tcp of 198.51.100.1"],
      [{ hostPort: 53, containerPort: 1, protocol: "udp", hostIP: "192.0.2.10" }, "53/udp"],
    ] as const) {
      const answer = call("ADD", second, "b", [{ hostPort: 7, containerPort: 7 }, mapping]);
      expect(JSON.parse(answer.stdout)).toMatchObject({
        code: 102,
        msg: expect.stringContaining(
          `Cannot map port ${port} of the node: pod "team/a" ("eth0" of network "default") has it`,
        ),
        details: expect.stringContaining(
          "Give the pods different host ports or host addresses, or delete the other pod",
        ),
      });
      del(second, "b");
      expect(before.changes()).toBe("");
    }
    del(first, "a");
  });

  test("a port of a pod whose namespace is gone is taken over, and the late DEL leaves it", async () => {
    const before = witness();
    const dead = TestNetns.create("pod");
    using pod = TestNetns.create("pod");
    const ports = [
      { hostPort: 8080, containerPort: 80 },
      { hostPort: 9090, containerPort: 80, hostIP: "198.51.100.1" },
    ] as const;
    add(dead, "dead", ...ports);
    dead[Symbol.dispose]();
    add(pod, "new", { ...ports[0], hostIP: "198.51.100.1" }, { hostPort: 9090, containerPort: 80 });
    del(dead, "dead");
    using _ = await Echo.start(pod, "new", 80);
    const questions = ["tcp 198.51.100.1 8080", "tcp 198.51.100.1 9090"];
    expect(ask(outside, questions)).toEqual(["new 198.51.100.2 80", "new 198.51.100.2 80"]);
    del(pod, "new");
    expect(before.changes()).toBe("");
  });

  test("of many that want one port at once one gets it, and many ports at once are no contention", async () => {
    const before = witness();
    using stack = new DisposableStack();
    const pods = Array.from({ length: 8 }, () => stack.use(TestNetns.create("pod")));
    const conf = (hostPort: number): Document =>
      node.conf({ plugins: [bridge, portmap] }, undefined, {
        ...capable([{ hostPort, containerPort: 80, protocol: "tcp" }]),
      });
    const all = (port: (i: number) => number): Promise<CniAnswer[]> =>
      Promise.all(
        pods.map(
          (pod, i) => node.start("ADD", { pod, container: `p${i}`, conf: conf(port(i)), args: args(`p${i}`) }).answer,
        ),
      );
    const one = await all(() => 8080);
    expect(one.filter((answer) => answer.exit === 0)).toHaveLength(1);
    for (const answer of one.filter((a) => a.exit !== 0)) {
      expect(answer.stdout).toContain("Cannot map port 8080/tcp of the node: pod");
    }
    for (const [i, pod] of pods.entries()) del(pod, `p${i}`);
    const many = await all((i) => 8000 + i);
    expect(many.map((answer) => answer.exit)).toEqual(pods.map(() => 0));
    for (const [i, pod] of pods.entries()) del(pod, `p${i}`);
    expect(before.changes()).toBe("");
  });

  test("GC takes the ports of pods that are gone", () => {
    const before = witness();
    const pod = TestNetns.create("pod");
    add(pod, "a", { hostPort: 8080, containerPort: 80 });
    pod[Symbol.dispose]();
    const conf = node.conf({ plugins: [bridge, portmap] }, undefined, { "cni.dev/valid-attachments": [] });
    node.ok("GC", { conf });
    expect(before.changes()).toBe("");
  });

  test.each([
    [{ hostPort: 65_536, containerPort: 80 }, "hostPort"],
    [{ hostPort: 80, containerPort: 0 }, "containerPort"],
    [{ hostPort: 80, containerPort: 80, hostIP: "somewhere" }, "hostIP"],
    [{ hostPort: 80, containerPort: 80, protocol: "icmp" }, '"icmp" is no protocol with ports'],
  ])("refuses %j", (mapping, words) => {
    const before = witness();
    using pod = TestNetns.create("pod");
    const answer = call("ADD", pod, "a", [mapping]);
    expect(JSON.parse(answer.stdout)).toMatchObject({ code: 7, msg: expect.stringContaining(words) });
    del(pod, "a");
    expect(before.changes()).toBe("");
  });

  describe("by the names of links", () => {
    const list = { cniVersion: "1.0.0", name: "chain" };
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];

    beforeAll(() => {
      for (const name of ["bridge", "portmap"]) node.link(name);
      mkdirSync(join(node.bin, "ref"), { mode: 0o755 });
    });

    test("portmap comes after bridge, as a plugin of the runtime's list", async () => {
      using pod = TestNetns.create("pod");
      const made = { ...list, ...bridge };
      const prevResult = JSON.parse(node.ok("ADD", { pod, conf: made, as: "bridge" }).stdout);
      const before = new Witness(node, undefined, { leaveOut: ["br0", String(prevResult.interfaces[1].name)] });
      const conf = { ...list, ...portmap, runtimeConfig: { portMappings }, prevResult };
      expect(JSON.parse(node.ok("ADD", { pod, conf, as: "portmap" }).stdout)).toEqual(prevResult);
      node.ok("CHECK", { pod, conf, as: "portmap" });
      using _ = await Echo.start(pod, "pod", 80);
      expect(ask(outside, ["tcp 198.51.100.1 8080"])).toEqual(["pod 198.51.100.2 80"]);
      expect(ask(node.netns, ["tcp 127.0.0.1 8080"])).toEqual(["pod 10.81.0.1 80"]);
      node.ok("DEL", { pod, conf, as: "portmap" });
      node.ok("DEL", { pod, conf, as: "portmap" });
      expect(before.changes()).toBe("");
      const alone = node.answer("ADD", { pod, conf: { ...list, ...portmap }, as: "portmap" });
      expect(JSON.parse(alone.stdout)).toMatchObject({
        code: 7,
        msg: expect.stringContaining("Cannot map ports: there is no result of a plugin before"),
      });
      node.ok("DEL", { pod, conf: made, as: "bridge" });
    });
  });
});

requires(...root, built, hasPeer("reference"), ["iptables", has("iptables")])(
  "ports that the reference mapped before",
  () => {
    test.each(["iptables", "nftables"])("DEL removes what its backend %s made, and no other pod's", async (backend) => {
      using node = await TestNode.create();
      mkdirSync(join(node.bin, "ref"), { mode: 0o755 });
      copyFileSync(peerFile("reference", "portmap"), join(node.bin, "ref", "portmap"));
      chmodSync(join(node.bin, "ref", "portmap"), 0o755);
      node.link("portmap");
      using pod = TestNetns.create("pod");
      const conf = (address: string, hostPort: number): Document => ({
        cniVersion: "1.0.0",
        name: "chain",
        type: "portmap",
        backend,
        runtimeConfig: { portMappings: [{ hostPort, containerPort: 80, protocol: "tcp" }] },
        prevResult: {
          cniVersion: "1.0.0",
          interfaces: [{ name: "eth0", sandbox: pod.path }],
          ips: [
            { address: `10.9.0.${address}/24`, interface: 0 },
            { address: `fd09::${address}/64`, interface: 0 },
          ],
        },
      });
      const rules = (): string =>
        node.netns
          .run("nft", "-s", "list", "ruleset")
          .split("\n")
          .filter((line) => !/^\s*(counter|#)/.test(line))
          .join("\n");
      node.ok("ADD", { pod, container: "a", conf: conf("5", 8080), as: "ref/portmap" });
      const one = rules();
      node.ok("ADD", { pod, container: "b", conf: conf("6", 8081), as: "ref/portmap" });
      expect(rules()).not.toBe(one);
      node.ok("DEL", { pod, container: "b", conf: conf("6", 8081), as: "portmap" });
      expect(rules()).toBe(one);
      const { prevResult: _, ...bare } = conf("5", 8080);
      node.ok("DEL", { pod, container: "a", conf: bare, as: "portmap" });
      node.ok("DEL", { pod, container: "a", conf: bare, as: "portmap" });
      expect(rules()).not.toContain("8080");
      expect(rules()).not.toContain("CNI-DN-");
    });
  },
);

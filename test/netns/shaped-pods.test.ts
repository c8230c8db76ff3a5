/** bandwidth, tuning and tap in networks of the program itself: a runtime's values, a policy, GC, a namespace that is gone. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { bridge, TestNode } from "../support/node.ts";
import { built, requires, root } from "../support/requires.ts";

setDefaultTimeout(60_000);

const shaped = { type: "bandwidth", capabilities: { bandwidth: true } };
const tuned = { type: "tuning", mtu: 1400, sysctl: { "net.core.somaxconn": "99" } };
const queues = (node: TestNode): unknown[] => node.netns.ipJson("link", "show", "type", "ifb");

/** As containerd writes it: keys in PascalCase, the longest burst, and what nobody asked for as null. */
const runtimeConfig = {
  "io.kubernetes.cri.pod-annotations": {},
  bandwidth: {
    IngressRate: 100_000_000,
    IngressBurst: 4_294_967_295,
    EgressRate: 50_000_000,
    EgressBurst: 4_294_967_295,
  },
  portMappings: null,
};
function conf(node: TestNode, plugins: readonly Document[], more: Document = {}): Document {
  const capabilities = { "io.kubernetes.cri.pod-annotations": true, bandwidth: true };
  return { ...node.conf({ plugins: [bridge, ...plugins] }), runtimeConfig, capabilities, ...more };
}

requires(...root, built)("pods with limits and settings", () => {
  test("a chain with the runtime's values: ADD, CHECK, DEL, and nothing stays", async () => {
    using node = await TestNode.settled();
    using pod = TestNetns.create("pod");
    const before = node.snapshot({ leaveOut: ["br0"] });
    const call = { pod, conf: conf(node, [shaped, tuned]) };
    const { result } = node.ok("ADD", call);
    const [, end, eth0, queue] = result?.interfaces ?? [];
    expect(eth0).toMatchObject({ name: "eth0", mtu: 1400 });
    const rates = JSON.parse(node.netns.run("tc", "-j", "qdisc", "show"))
      .filter((q: { kind: string }) => q.kind === "tbf")
      .map((q: { dev: string; options: { rate: number } }) => [q.dev, q.options.rate]);
    expect(Object.fromEntries(rates)).toEqual({ [`${end?.name}`]: 12_500_000, [`${queue?.name}`]: 6_250_000 });
    expect(pod.run("cat", "/proc/sys/net/core/somaxconn").trim()).toBe("99");
    node.ok("CHECK", { ...call, conf: { ...call.conf, prevResult: result } });
    node.ok("DEL", call);
    node.ok("DEL", call);
    expect(node.snapshot({ leaveOut: ["br0"] })).toEqual(before);
    expect(pod.ipJson("link", "show").map((l) => l.ifname)).toEqual(["lo"]);
    expect(pod.run("cat", "/proc/sys/net/core/somaxconn").trim()).not.toBe("99");
  });

  test("an ADD that a later plugin refuses leaves nothing", async () => {
    using node = await TestNode.settled();
    using pod = TestNetns.create("pod");
    const before = node.snapshot({ leaveOut: ["br0"] });
    const plugins = [shaped, { ...tuned, sysctl: { "net.core.absent": "1" } }];
    const answer = node.answer("ADD", { pod, conf: conf(node, plugins) });
    expect(answer.error).toMatchObject({ code: 231 });
    expect(node.snapshot({ leaveOut: ["br0"] })).toEqual(before);
  });

  test("DEL when the namespace is gone, and GC for a pod that nobody deletes", async () => {
    using node = await TestNode.settled();
    const plugins = conf(node, [shaped, tuned]);
    for (const end of ["DEL", "GC"] as const) {
      const pod = TestNetns.create("pod");
      node.ok("ADD", { pod, conf: plugins, container: end });
      expect(queues(node)).toHaveLength(1);
      pod[Symbol.dispose]();
      const valid = [{ containerID: "somebody", ifname: "eth0" }];
      if (end === "DEL") node.ok("DEL", { pod: "", conf: plugins, container: end });
      else node.ok("GC", { conf: { ...plugins, "cni.dev/valid-attachments": valid } });
      expect(queues(node)).toEqual([]);
    }
  });

  test("in strict a namespace's network sets what the manifest names, or the administrator's list", async () => {
    using node = await TestNode.settled();
    const policyFile = join(node.directory, "policy.json");
    writeFileSync(policyFile, JSON.stringify({ strict: true, hostLinks: [{ links: ["br0"] }] }), { mode: 0o644 });
    const network = (name: string, sysctl: Document): void =>
      node.network(name, { name, plugins: [bridge, { type: "tuning", sysctl }] }, "team");
    network("listed", { "net.core.somaxconn": "99" });
    network("any", { "net.ipv4.tcp_ecn": "1" });
    const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";
    const add = (name: string): number => {
      using pod = TestNetns.create("pod");
      const call = { pod, args, conf: node.conf({ plugins: [bridge] }, name, { policyFile }), container: name };
      const answer = node.answer("ADD", call);
      node.ok("DEL", call);
      return answer.exit === 0 ? 0 : Number(answer.error?.code);
    };
    expect(add("listed")).toBe(0);
    expect(add("any")).toBe(101);
    node.run("mkdir", "-p", "/etc/cni/tuning");
    node.run("mount", "-t", "tmpfs", "-o", "mode=755", "pbt", "/etc/cni/tuning");
    node.run("sh", "-c", "echo '^net.ipv4.tcp_ecn$' > /etc/cni/tuning/allowlist.conf");
    expect(add("any")).toBe(0);
    expect(add("listed")).toBe(101);
    node.run("chmod", "666", "/etc/cni/tuning/allowlist.conf");
    expect(add("any")).toBe(7);
  });

  test("a tap as a second network", async () => {
    using node = await TestNode.settled();
    using pod = TestNetns.create("pod");
    node.network("machine", { name: "machine", type: "tap", owner: 1000 });
    const call = { pod, conf: node.conf({ plugins: [bridge] }, "machine") };
    node.ok("ADD", call);
    expect(pod.ipJson("-details", "link", "show", "net1")[0]).toMatchObject({ linkinfo: { info_kind: "tun" } });
    node.ok("DEL", call);
    expect(pod.ipJson("link", "show").map((l) => l.ifname)).toEqual(["lo"]);
  });
});

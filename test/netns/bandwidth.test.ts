/** bandwidth on a real kernel: what packets do, what tc says, and what is left. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { JsonObject } from "../../core/base/json.ts";
import type { IpamAnswer } from "../../core/host/context.ts";
import { PluginPod } from "../support/plugin.ts";
import { type NetnsPod, PluginNode } from "../support/plugin-node.ts";
import { requires, root } from "../support/requires.ts";
import { snapshot } from "../support/snapshot.ts";
import { throughput } from "../support/throughput.ts";

setDefaultTimeout(60_000);

const MBIT = 1_000_000;
const v4 = (last: number): IpamAnswer => ({
  ips: [{ address: `10.9.0.${last}/24`, gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: {},
});
/** 16 Mbit/s to the pod and 8 from it, with bursts of 20 ms. */
const limits = { ingressRate: 16 * MBIT, ingressBurst: 320_000, egressRate: 8 * MBIT, egressBurst: 320_000 };
const rates = { ingress: limits.ingressRate / 8, egress: limits.egressRate / 8 };

/** By bridge or ptp, then bandwidth behind it. */
function attach(pod: NetnsPod, plugin: "bridge" | "ptp", conf: JsonObject, ipam = v4(5)): JsonObject {
  const before = pod.add(plugin, plugin === "bridge" ? { bridge: "br9", isGateway: true } : {}, ipam);
  return pod.add("bandwidth", { ...conf, prevResult: before });
}
const names = (result: JsonObject): string[] => (result.interfaces as JsonObject[]).map((i) => String(i.name));
const tc = (node: PluginNode, ...args: string[]): JsonObject[] => JSON.parse(node.ns.run("tc", "-j", ...args));

requires(...root)("bandwidth on a kernel", () => {
  test.each(["bridge", "ptp"] as const)("behind %s both rates are what was asked for", async (plugin) => {
    using node = new PluginNode();
    const pod = node.pod();
    const result = attach(pod, plugin, limits);
    const both = {
      ingress: await throughput(node.ns, pod.ns, "10.9.0.5"),
      egress: await throughput(pod.ns, node.ns, "10.9.0.1"),
    };
    for (const way of ["ingress", "egress"] as const) {
      expect(both[way] / rates[way], `${way} ${JSON.stringify(both)}`).toBeGreaterThan(0.5);
      expect(both[way] / rates[way], `${way} ${JSON.stringify(both)}`).toBeLessThan(1.2);
    }
    expect(pod.check("bandwidth", limits, result)).toBe("");
    const first = plugin === "bridge" ? { bridge: "br9", isGateway: true } : {};
    expect(pod.check(plugin, first, result, v4(5))).toBe("");
    pod.undo();
    expect(pod.names()).toEqual(["lo"]);
    expect(node.ns.ipJson("link", "show", "type", "ifb")).toEqual([]);
  });

  test("one direction alone leaves the other free", async () => {
    using node = new PluginNode();
    const pod = node.pod();
    attach(pod, "bridge", { egressRate: 8 * MBIT, egressBurst: 320_000 });
    expect(await throughput(node.ns, pod.ns, "10.9.0.5")).toBeGreaterThan(rates.egress * 10);
    expect(await throughput(pod.ns, node.ns, "10.9.0.1")).toBeLessThan(rates.egress * 1.2);
  });

  test("two interfaces of one pod have a queue each", () => {
    using node = new PluginNode();
    const pod = node.pod();
    const second = new PluginPod(node.kernel, pod.kernel, { container: pod.container, ifname: "net1" });
    const one = names(attach(pod, "bridge", limits));
    const before = second.add("bridge", { bridge: "br9" }, v4(6));
    const other = names(second.add("bandwidth", { ...limits, prevResult: before }));
    expect(one.at(-1)).not.toBe(other.at(-1) as string);
    second.undo();
    expect(node.ns.ipJson("link", "show", "type", "ifb").map((l) => l.ifname)).toEqual([one.at(-1)]);
    pod.undo();
  });

  test("behind a plugin of others, all of it goes and theirs stays as it was", () => {
    using node = new PluginNode();
    const pod = node.pod();
    node.ns.ip("link", "add", "cali7", "type", "veth", "peer", "name", "eth0", "netns", pod.ns.name);
    const before = { cniVersion: "1.1.0", interfaces: [{ name: "eth0", sandbox: "/run/netns/pod" }] };
    const [was, filters] = [snapshot({ netns: node.ns }), tc(node, "filter", "show", "dev", "cali7", "ingress")];
    const result = pod.add("bandwidth", { ...limits, prevResult: before });
    expect(tc(node, "qdisc", "show", "dev", "cali7").map((q) => q.kind)).toEqual(["tbf", "ingress"]);
    expect(pod.check("bandwidth", limits, result)).toBe("");
    pod.undo();
    expect(snapshot({ netns: node.ns })).toEqual(was);
    expect(tc(node, "filter", "show", "dev", "cali7", "ingress")).toEqual(filters);
  });

  test("CHECK sees what was changed by hand", () => {
    using node = new PluginNode();
    const pod = node.pod();
    const result = attach(pod, "bridge", limits);
    const [, end = "", , queue = ""] = names(result);
    node.ns.run("tc", "filter", "del", "dev", end, "parent", "ffff:");
    expect(pod.check("bandwidth", limits, result)).toContain(`does not go by "${queue}"`);
    node.ns.run(
      "tc",
      "qdisc",
      "change",
      "dev",
      queue,
      "root",
      "tbf",
      "rate",
      "1mbit",
      "burst",
      "10000",
      "limit",
      "9999",
    );
    expect(pod.check("bandwidth", limits, result)).toContain(`not limited as asked on "${queue}"`);
    node.ns.run("tc", "qdisc", "del", "dev", end, "root");
    expect(pod.check("bandwidth", limits, result)).toContain(`not limited as asked on "${end}"`);
    expect(pod.check("bandwidth", { ...limits, ingressRate: 0, ingressBurst: 0 }, result)).toContain(queue);
  });

  test("a link that somebody limits already is left alone", () => {
    using node = new PluginNode();
    const pod = node.pod();
    node.ns.ip("link", "add", "cali7", "type", "veth", "peer", "name", "eth0", "netns", pod.ns.name);
    const limit = ["dev", "cali7", "root", "handle", "1:", "tbf", "rate", "1mbit", "burst", "10000", "limit", "9999"];
    node.ns.run("tc", "qdisc", "add", ...limit);
    const was = snapshot({ netns: node.ns });
    const before = { cniVersion: "1.1.0", interfaces: [{ name: "eth0", sandbox: "/run/netns/pod" }] };
    expect(pod.refused("bandwidth", { ...limits, prevResult: before })).toBe(
      'Cannot apply the rule "limit" to "cali7": it has a queueing discipline already',
    );
    pod.undo();
    expect(snapshot({ netns: node.ns })).toEqual(was);
  });

  test("a pair with both ends in the pod, and a macvlan, are refused", () => {
    using node = new PluginNode();
    const [a, b] = [node.pod(), node.pod()];
    const before = { cniVersion: "1.1.0", interfaces: [{ name: "eth0", sandbox: "/run/netns/pod" }] };
    a.ns.ip("link", "add", "eth0", "type", "veth", "peer", "name", "x");
    expect(a.refused("bandwidth", { ...limits, prevResult: before })).toContain("its other end is not on this node");
    const result = b.add("macvlan", { master: "uplink" });
    expect(b.refused("bandwidth", { ...limits, prevResult: result })).toContain('it is of kind "macvlan"');
  });
});

/** The built-in plugins on a real kernel: what a pod gets, what CHECK says of it, and what is left after the undo. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { JsonObject } from "../../core/base/json.ts";
import type { IpamAnswer } from "../../core/host/context.ts";
import { PluginNode as Node } from "../support/plugin-node.ts";
import { requires, root } from "../support/requires.ts";

setDefaultTimeout(30_000); // duplicate address detection takes a second or two for each pod

const v4 = (last: number): IpamAnswer => ({
  ips: [{ address: `10.9.0.${last}/24`, gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }, { dst: "192.168.0.0/16", mtu: 1300, advmss: 1260, priority: 7 }],
  dns: {},
});
const dual = (last: number): IpamAnswer => ({
  ips: [
    { address: `10.9.0.${last}/24`, gateway: "10.9.0.1" },
    { address: `fd00:9::${last}/64`, gateway: "fd00:9::1" },
  ],
  routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
  dns: {},
});

requires(...root)("built-in plugins on a kernel", () => {
  test("loopback comes up and goes down again", () => {
    using node = new Node();
    const pod = node.pod();
    const result = pod.add("loopback", {});
    expect(result).toMatchObject({
      interfaces: [{ name: "lo" }],
      ips: [{ address: "127.0.0.1/8" }, { address: "::1/128" }],
    });
    expect(pod.ns.ping("127.0.0.1")).toBe(true);
    expect(pod.check("loopback", {}, result)).toBe("");
    pod.ns.ip("link", "set", "lo", "down");
    expect(pod.check("loopback", {}, result)).toBe('loopback interface "lo" is down');
    pod.ns.ip("link", "set", "lo", "up");
    pod.undo();
    expect(pod.ns.ipJson("link", "show", "lo")[0]?.flags).not.toContain("UP");
  });

  test("bridge: two networks with one subnet and ipMasq may give the same address", () => {
    using node = new Node();
    const pods = [node.pod(), node.pod(), node.pod()];
    const confs = pods.map((_, i) => ({ bridge: `br${i}`, isGateway: true, ipMasq: true }));
    const results = pods.map((pod, i) => pod.add("bridge", confs[i] ?? {}, v4(5)));
    const checked = (): string[] => pods.map((pod, i) => pod.check("bridge", confs[i] ?? {}, results[i] ?? {}, v4(5)));
    expect(checked()).toEqual(["", "", ""]);
    pods[0]?.undo();
    expect(checked().slice(1)).toEqual(["", ""]);
    for (const pod of pods) pod.undo();
    expect(node.ns.run("nft", "list", "table", "inet", "patchbay")).not.toContain("masq-");
  });

  test("bridge: two pods reach each other and the gateway, CHECK agrees, nothing of theirs stays", () => {
    using node = new Node();
    const conf = { bridge: "br9", isGateway: true, ipMasq: true, macspoofchk: true };
    const [a, b] = [node.pod(), node.pod()];
    const first = a.add("bridge", conf, dual(5));
    const second = b.add("bridge", conf, dual(6));
    expect((first.interfaces as JsonObject[]).map((i) => i.name)).toEqual(["br9", expect.any(String), "eth0"]);
    expect((second.interfaces as JsonObject[])[0]).toEqual((first.interfaces as JsonObject[])[0] as never);
    for (const address of ["10.9.0.1", "10.9.0.6", "fd00:9::6"]) expect(a.ns.ping(address), address).toBe(true);
    expect(a.check("bridge", conf, first, dual(5))).toBe("");
    expect(b.check("bridge", conf, second, dual(6))).toBe("");
    a.ns.ip("route", "del", "default");
    expect(a.check("bridge", conf, first, dual(5))).toBe('no route to "0.0.0.0/0" goes through "eth0"');
    node.ns.run("nft", "flush", "table", "inet", "patchbay");
    expect(b.check("bridge", conf, second, dual(6))).toBe("the masquerading of its addresses is gone");
    a.undo();
    b.undo();
    expect(a.names()).toEqual(["lo"]);
    const left = node.ns.ipJson("link").map((l) => l.ifname);
    expect(left).toContain("br9");
    expect(left.filter((n) => String(n).startsWith("veth"))).toEqual([]);
  });

  test("bridge: routes carry mtu, advmss and priority", () => {
    using node = new Node();
    const pod = node.pod();
    pod.add("bridge", { bridge: "br9", isGateway: true }, v4(5));
    const route = pod.ns.ip("route", "show", "192.168.0.0/16");
    for (const part of ["via 10.9.0.1", "metric 7", "mtu 1300", "advmss 1260"]) expect(route).toContain(part);
  });

  test("bridge: another address is refused, or replaced with forceAddress", () => {
    using node = new Node();
    node.ns.ip("link", "add", "br9", "type", "bridge");
    node.ns.ip("address", "add", "10.77.0.1/16", "dev", "br9");
    const first = node.pod();
    expect(first.refused("bridge", { bridge: "br9", isGateway: true }, v4(5))).toContain('it has "10.77.0.1/16"');
    first.undo();
    expect(first.names()).toEqual(["lo"]);
    const second = node.pod();
    const result = second.add("bridge", { bridge: "br9", isGateway: true, forceAddress: true }, v4(5));
    expect(second.check("bridge", { bridge: "br9", isGateway: true }, result, v4(5))).toBe("");
    expect(node.ns.ip("-4", "address", "show", "br9")).not.toContain("10.77.0.1");
  });

  test("bridge: one that was there follows its ports, and the result says what it has in the end", () => {
    using node = new Node();
    node.ns.ip("link", "add", "br9", "type", "bridge");
    const pod = node.pod();
    const result = pod.add("bridge", { bridge: "br9" });
    expect((result.interfaces as JsonObject[])[0]?.mac).toBe(
      node.ns.ipJson("link", "show", "br9")[0]?.address as string,
    );
    expect(pod.check("bridge", { bridge: "br9" }, result)).toBe("");
  });

  test("macvlan: on a master and on the default route's link", () => {
    using node = new Node();
    const [a, b] = [node.pod(), node.pod()];
    const conf = { master: "uplink", mac: "0a:58:00:00:00:05", mtu: 1400 };
    const result = a.add("macvlan", conf, dual(5));
    expect(result).toMatchObject({ interfaces: [{ name: "eth0", mac: "0a:58:00:00:00:05" }] });
    b.add("macvlan", {}, v4(6));
    expect(a.ns.ping("10.9.0.6")).toBe(true);
    expect(a.check("macvlan", conf, result, dual(5))).toBe("");
    expect(a.check("macvlan", { ...conf, mode: "vepa" }, result, dual(5))).toContain('mode "bridge", expected "vepa"');
    a.undo();
    expect(a.names()).toEqual(["lo"]);
  });

  test("ptp: two pods reach each other by the node", () => {
    using node = new Node();
    const [a, b] = [node.pod(), node.pod()];
    const result = a.add("ptp", { ipMasq: true }, dual(5));
    b.add("ptp", {}, dual(6));
    for (const address of ["10.9.0.1", "10.9.0.6", "fd00:9::1", "fd00:9::6"])
      expect(a.ns.ping(address), address).toBe(true);
    expect(a.ns.ip("route")).toContain("10.9.0.0/24 via 10.9.0.1");
    expect(a.check("ptp", { ipMasq: true }, result, dual(5))).toBe("");
    node.ns.ip("route", "del", "10.9.0.5/32");
    expect(a.check("ptp", { ipMasq: true }, result, dual(5))).toContain('the node has no route to "10.9.0.5"');
    a.undo();
    expect(a.names()).toEqual(["lo"]);
  });

  test("ptp: a route of IPAM by another gateway of the subnet", () => {
    using node = new Node();
    const pod = node.pod();
    const ipam = { ...v4(5), routes: [{ dst: "198.51.100.0/24", gw: "10.9.0.77" }] };
    const result = pod.add("ptp", {}, ipam);
    expect(pod.ns.ip("route", "show", "198.51.100.0/24")).toContain("via 10.9.0.77");
    expect(pod.check("ptp", {}, result, ipam)).toBe("");
  });
});

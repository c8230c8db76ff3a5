/** route-override on a real kernel: where packets go afterwards, and that all is as before when it goes. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import type { Document } from "../support/cni.ts";
import { DyingJournal, MemoryJournal } from "../support/guest.ts";
import { TestNetns, veth } from "../support/netns.ts";
import { TestNode, Witness } from "../support/node.ts";
import { PluginPod } from "../support/plugin.ts";
import { built, requires, root } from "../support/requires.ts";
import { CLIENT, uplinks, uplinkTo } from "../support/uplinks.ts";

const bridge = {
  type: "bridge",
  bridge: "br0",
  isGateway: true,
  ipam: { type: "host-local", subnet: "10.77.0.0/24", routes: [{ dst: "0.0.0.0/0" }] },
};
const [first] = uplinks;
const [gateway4, gateway6] = first.gateways;
const defaults = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
const macvlan = {
  type: "macvlan",
  master: "upa",
  ipam: {
    type: "static",
    addresses: first.addresses(2).map((address, i) => ({ address, gateway: first.gateways[i] })),
    routes: [...defaults, { dst: "198.51.100.0/24" }, { dst: "192.0.2.128/25", gw: "10.1.0.9" }],
  },
};
const client = [{ dst: `${CLIENT[0]}/32` }, { dst: `${CLIENT[1]}/128` }];

/** Without what is about link-local addresses: that comes when it comes. */
const routes = (pod: TestNetns, link = "net1"): string[] =>
  ["-4", "-6"]
    .flatMap((family) => pod.ip(family, "route", "show", "dev", link).split("\n"))
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("fe80:") && !line.startsWith("multicast"));

requires(...root, built)("route-override", () => {
  let node: TestNode;
  let far: ReturnType<typeof uplinkTo>;
  beforeAll(async () => {
    node = await TestNode.settled();
    far = uplinkTo(node.netns);
  });
  afterAll(() => {
    far?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });

  /** A pod whose loopback interface has had its address, which the kernel leaves there. */
  function newPod(): TestNetns {
    const pod = TestNetns.create("pod");
    pod.ip("link", "set", "lo", "up");
    pod.ip("link", "set", "lo", "down");
    pod.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits"); // saves a second or two
    return pod;
  }
  const attach = (pod: TestNetns, override: Document, selection: unknown = "one"): Document => {
    node.network("one", { name: "one", plugins: [macvlan, { type: "route-override", ...override }] });
    const conf = node.conf({ plugins: [bridge] }, selection);
    node.ok("ADD", { pod, conf });
    return conf;
  };
  const own = [
    "10.1.0.0/24 proto kernel scope link src 10.1.0.2",
    "fd00:1::/64 proto kernel metric 256 pref medium",
  ] as const;

  test("a network that the client is reached by, and nothing else", () => {
    using pod = newPod();
    const witness = new Witness(node, pod);
    const conf = attach(pod, { flushroutes: true, addroutes: client });
    expect(routes(pod)).toEqual([
      own[0],
      `203.0.113.9 via ${gateway4}`,
      `2001:db8:9::9 via ${gateway6} metric 1024 pref medium`,
      own[1],
    ]);
    for (const address of CLIENT) expect(pod.ping(address), address).toBe(true);
    expect(pod.ip("route", "show", "default")).toContain("dev eth0");
    node.ok("CHECK", { pod, conf });
    pod.ip("route", "add", "default", "via", gateway4, "dev", "net1", "metric", "5");
    expect(node.answer("CHECK", { pod, conf }).error?.msg).toContain('the route to "0.0.0.0/0" over "net1" is back');
    node.ok("DEL", { pod, conf });
    expect(witness.changes()).toBe("");
  });

  test("the default network without its gateway", () => {
    using pod = newPod();
    const override = { type: "route-override", flushgateway: true, addroutes: [{ dst: "198.51.100.0/24" }] };
    const conf = node.conf({ plugins: [bridge, override] });
    const { result } = node.ok("ADD", { pod, conf });
    expect(result?.ips?.[0]?.gateway).toBeUndefined();
    expect(result?.routes).toEqual([{ dst: "198.51.100.0/24", gw: "10.77.0.1" }]);
    expect(routes(pod, "eth0")).toEqual([
      expect.stringMatching(/^10\.77\.0\.0\/24 proto kernel scope link/),
      "198.51.100.0/24 via 10.77.0.1",
    ]);
    expect(pod.ping("10.77.0.1")).toBe(true);
    node.ok("CHECK", { pod, conf });
    node.ok("DEL", { pod, conf });
  });

  test("routes are deleted and replaced one by one", () => {
    using pod = newPod();
    const conf = attach(pod, {
      delroutes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }, { dst: "192.0.2.128/25" }],
      addroutes: [{ dst: "192.0.2.128/25", gw: "10.1.0.8", mtu: 1300, priority: 4 }],
    });
    expect(routes(pod)).toEqual([
      own[0],
      "192.0.2.128/25 via 10.1.0.8 metric 4 mtu 1300",
      `198.51.100.0/24 via ${gateway4}`,
      own[1],
    ]);
    node.ok("CHECK", { pod, conf });
    pod.ip("route", "delete", "198.51.100.0/24");
    expect(node.answer("CHECK", { pod, conf }).error?.msg).toContain('no route to "198.51.100.0/24"');
    node.ok("DEL", { pod, conf });
  });

  test("the annotation's arguments come before the configuration, and skipcheck is one", () => {
    using pod = newPod();
    const args = { flushroutes: false, addroutes: client, skipcheck: true };
    const conf = attach(pod, { flushroutes: true }, [{ name: "one", "cni-args": args }]);
    expect(routes(pod)).toContain(`203.0.113.9 via ${gateway4}`);
    expect(routes(pod)).toContain(`198.51.100.0/24 via ${gateway4}`);
    node.ok("DEL", { pod, conf });
  });

  test("with routing by source behind it", () => {
    using pod = newPod();
    const plugins = [macvlan, { type: "route-override", flushroutes: true, addroutes: client }, { type: "sbr" }];
    node.network("one", { name: "one", plugins });
    const conf = node.conf({ plugins: [bridge] }, "one");
    node.ok("ADD", { pod, conf });
    expect(routes(pod)).toEqual([]);
    expect(pod.ip("route", "show", "table", "100")).toContain(`203.0.113.9 via ${gateway4}`);
    for (const [i, address] of first.addresses(2).entries()) {
      expect(far.client.ping(address.slice(0, address.indexOf("/"))), address).toBe(true);
      expect(pod.ping(CLIENT[i] ?? "", { from: address.slice(0, address.indexOf("/")) }), address).toBe(true);
    }
    node.ok("CHECK", { pod, conf });
    node.ok("DEL", { pod, conf });
  });

  test.each([
    [
      "a gateway out of reach",
      { addroutes: [{ dst: "172.16.0.0/12", gw: "10.222.0.1" }] },
      'by "10.222.0.1" over "net1"',
    ],
    ["a destination that is none", { addroutes: [{ dst: "172.16.0.0" }] }, '"addroutes[0].dst"'],
    ["a route without a destination", { delroutes: [{ gw: "10.1.0.1" }] }, '"delroutes[0].dst"'],
    [
      "a route in the place of another",
      { addroutes: [{ dst: "192.0.2.128/25", gw: "10.1.0.8" }] },
      'there is one by "10.1.0.9"',
    ],
    ["routes over several gateways", { addecmproutes: [{ dst: "172.16.0.0/12", gws: [] }] }, '"addecmproutes"'],
    ["a flag that is a text", { flushroutes: "yes" }, '"flushroutes"'],
  ])("refuses %s, and leaves nothing", (_, override, message) => {
    using pod = newPod();
    const witness = new Witness(node, pod);
    node.network("one", { name: "one", plugins: [macvlan, { type: "route-override", ...override }] });
    const { error } = node.answer("ADD", { pod, conf: node.conf({ plugins: [bridge] }, "one") });
    expect([error?.code, error?.msg]).toEqual([7, expect.stringContaining(message)]);
    expect(witness.changes()).toBe("");
  });

  test("DEL works when the pod's namespace has gone", () => {
    const pod = newPod();
    const witness = new Witness(node);
    const conf = attach(pod, { flushroutes: true, addroutes: client });
    pod[Symbol.dispose]();
    node.ok("DEL", { pod: pod.path, conf });
    node.ok("DEL", { conf });
    expect(witness.changes()).toBe("");
  });

  /** The interface that another plugin made. */
  function foreign(pod: TestNetns, wire: TestNetns): Document {
    veth({ in: pod, name: "net1", address: "10.4.0.2/24" }, { in: wire, name: "wire", address: "10.4.0.1/24" });
    pod.ip("address", "add", "fd00:4::2/64", "dev", "net1", "nodad");
    pod.ip("route", "add", "default", "via", "10.4.0.1", "mtu", "1400");
    pod.ip("route", "add", "198.51.100.0/24", "via", "10.4.0.1", "metric", "9");
    pod.ip("-6", "route", "add", "default", "via", "fd00:4::1");
    return {
      cniVersion: "1.1.0",
      interfaces: [{ name: "net1", sandbox: pod.path }],
      ips: [{ address: "10.4.0.2/24", gateway: "10.4.0.1", interface: 0 }],
      routes: [{ dst: "0.0.0.0/0" }, { dst: "198.51.100.0/24" }],
    };
  }

  test("behind a plugin of somebody else: all comes back with DEL, and when ADD fails", () => {
    using pod = newPod();
    using wire = TestNetns.create("wire");
    node.link("route-override");
    const prevResult = foreign(pod, wire);
    const before = routes(pod);
    const conf = { cniVersion: "1.0.0", name: "n", type: "route-override", flushroutes: true, prevResult };
    const call = { pod, ifname: "net1", as: "route-override" };
    const wrong = { ...conf, addroutes: [{ dst: "172.16.0.0/12", gw: "10.222.0.1" }] };
    expect(node.answer("ADD", { ...call, conf: wrong }).error?.code).toBe(7);
    expect(routes(pod)).toEqual(before);
    const good = { ...conf, addroutes: [{ dst: "172.16.0.0/12" }] };
    const { result } = node.ok("ADD", { ...call, conf: good });
    expect(result?.routes).toEqual([{ dst: "172.16.0.0/12", gw: "10.4.0.1" }]);
    expect(routes(pod)).toEqual([
      "10.4.0.0/24 proto kernel scope link src 10.4.0.2",
      "172.16.0.0/12 via 10.4.0.1",
      "fd00:4::/64 proto kernel metric 256 pref medium",
    ]);
    node.ok("CHECK", { ...call, conf: { ...good, prevResult: result ?? {} } });
    node.ok("DEL", { ...call, conf: good });
    node.ok("DEL", { ...call, conf: good });
    expect(routes(pod)).toEqual(before);
  });

  test("killed at each write of the journal, one DEL makes all as before", () => {
    using stack = new DisposableStack();
    const pod = stack.use(newPod());
    const prevResult = foreign(pod, stack.use(TestNetns.create("wire"))) as JsonObject;
    const open = (ns: TestNetns, host: boolean) =>
      stack.use(openKernel(stack.use(Netns.open(parseNetnsPath(ns.path))), { host }));
    const [host, kernel] = [open(node.netns, true), open(pod, false)];
    const of = (journal: MemoryJournal): PluginPod => new PluginPod(host, kernel, { ifname: "net1", journal });
    const conf = {
      prevResult,
      flushroutes: true,
      addroutes: [{ dst: "0.0.0.0/0", gw: "10.4.0.7" }, { dst: "172.16.0.0/12" }],
    };
    const before = routes(pod);
    const whole = of(new MemoryJournal());
    whole.add("route-override", conf);
    whole.undo();
    expect(routes(pod)).toEqual(before);
    expect(whole.journal.entries.length).toBeGreaterThan(4);
    for (let n = 0; n < whole.journal.entries.length; n++) {
      const killed = of(new DyingJournal(n));
      expect(() => killed.add("route-override", conf)).toThrow();
      killed.undo();
      expect([n, routes(pod)]).toEqual([n, before]);
    }
  });
});

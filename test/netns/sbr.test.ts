/** sbr on a real kernel: what packets do in a pod with several uplinks, and what is left when it goes. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { parseNetnsPath } from "../../core/base/brand.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import type { Document } from "../support/cni.ts";
import { DyingJournal, MemoryJournal } from "../support/guest.ts";
import { TestNetns, veth } from "../support/netns.ts";
import { TestNode, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { PluginPod } from "../support/plugin.ts";
import { built, requires, root } from "../support/requires.ts";
import { CLIENT, type Uplink, uplinks, uplinkTo } from "../support/uplinks.ts";

const bare = (address: string): string => address.slice(0, address.indexOf("/"));
const defaults = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
const [first, second] = uplinks;

const macvlan = (up: Uplink, last: number, more: Document = {}) => ({
  type: "macvlan",
  master: up.link,
  ipam: {
    type: "static",
    addresses: up.addresses(last).map((address, i) => ({ address, gateway: up.gateways[i] })),
    routes: defaults,
    ...more,
  },
});
const bridge = {
  type: "bridge",
  bridge: "br0",
  isGateway: true,
  ipam: { type: "host-local", subnet: "10.77.0.0/24", routes: [{ dst: "0.0.0.0/0" }] },
};

const rules = (pod: TestNetns): string[] =>
  ["-4", "-6"].flatMap((family) =>
    pod.ipJson(family, "rule", "show").flatMap((r) => (r.src === "all" ? [] : [`${r.src} lookup ${r.table}`])),
  );
/** Without what is about link-local addresses: that comes when it comes. A table that was never used is empty. */
const table = (pod: TestNetns, name: number | string): string[] =>
  ["-4", "-6"].flatMap((family) =>
    pod
      .run("sh", "-c", `ip ${family} route show table ${name} 2> /dev/null || true`)
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "" && !line.startsWith("fe80:") && !line.startsWith("multicast")),
  );

requires(
  ...root,
  built,
  hasPeer("reference"),
)("sbr", () => {
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
    // Saves a second or two for each interface.
    pod.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits");
    return pod;
  }
  /** The client's echo requests to each address of an uplink that are answered. */
  const answered = (up: Uplink, last: number): boolean[] =>
    up.addresses(last).map((address) => far.client.ping(bare(address), { seconds: 2 }));

  describe("a pod with two uplinks", () => {
    const conf = (plugins: (up: Uplink) => readonly Document[]): Document => {
      for (const up of uplinks) node.network(up.link, { name: up.link, plugins: plugins(up) });
      return node.conf({ plugins: [bridge] }, "upa,upb");
    };

    test("without sbr, what comes by them is answered by the default route, and lost", () => {
      using pod = newPod();
      const without = conf((up) => [macvlan(up, 2, { routes: [] })]);
      node.ok("ADD", { pod, conf: without });
      for (const up of uplinks) expect(answered(up, 2)).toEqual([false, false]);
      node.ok("DEL", { pod, conf: without });
    });

    test("each answer leaves by the uplink that the question came by, and nothing is left", () => {
      using pod = newPod();
      const witness = new Witness(node, pod);
      const bySource = conf((up) => [macvlan(up, 2), { type: "sbr" }]);
      node.ok("ADD", { pod, conf: bySource });
      for (const up of uplinks) expect(answered(up, 2)).toEqual([true, true]);
      for (const up of uplinks)
        for (const [i, address] of up.addresses(2).entries())
          expect(pod.ping(CLIENT[i] ?? "", { from: bare(address) }), address).toBe(true);
      expect(rules(pod)).toEqual([
        "10.2.0.2 lookup 102",
        "10.1.0.2 lookup 100",
        "fd00:2::2 lookup 103",
        "fd00:1::2 lookup 101",
      ]);
      expect(table(pod, "main")).toEqual([
        "default via 10.77.0.1 dev eth0",
        expect.stringMatching(/^10\.77\.0\.0\/24 dev eth0 proto kernel/),
      ]);
      expect(table(pod, 102)).toEqual([
        "default via 10.2.0.1 dev net2",
        "10.2.0.0/24 dev net2 proto kernel scope link src 10.2.0.2",
      ]);
      expect(table(pod, 103)).toEqual([
        "fd00:2::/64 dev net2 proto kernel metric 256 pref medium",
        "default via fd00:2::1 dev net2 metric 1024 pref medium",
      ]);
      node.ok("CHECK", { pod, conf: bySource });
      node.ok("DEL", { pod, conf: bySource });
      node.ok("DEL", { pod, conf: bySource });
      expect(witness.changes()).toBe("");
    });

    test("the pod's default route can be moved to one of them all the same", () => {
      using pod = newPod();
      conf((up) => [macvlan(up, 2), { type: "sbr" }]);
      const chosen = node.conf({ plugins: [bridge] }, [
        { name: "upa", "default-route": [first.gateways[0]] },
        { name: "upb" },
      ]);
      node.ok("ADD", { pod, conf: chosen });
      expect(table(pod, "main").filter((route) => route.startsWith("default"))).toEqual([
        "default via 10.1.0.1 dev net1 onlink",
      ]);
      for (const up of uplinks) expect(answered(up, 2)).toEqual([true, true]);
      expect(pod.ping(CLIENT[0])).toBe(true);
      node.ok("CHECK", { pod, conf: chosen });
      node.ok("DEL", { pod, conf: chosen });
    });

    test("sbr on the default network too", () => {
      using pod = newPod();
      for (const up of uplinks) node.network(up.link, { name: up.link, plugins: [macvlan(up, 2), { type: "sbr" }] });
      const all = node.conf({ plugins: [bridge, { type: "sbr" }] }, "upa");
      node.ok("ADD", { pod, conf: all });
      const [address = ""] = rules(pod).at(1)?.split(" ") ?? [];
      expect(node.netns.ping(address)).toBe(true);
      expect(pod.ping("10.77.0.1", { from: address })).toBe(true);
      expect(answered(first, 2)).toEqual([true, true]);
      node.ok("CHECK", { pod, conf: all });
      node.ok("DEL", { pod, conf: all });
    });
  });

  describe("keys", () => {
    const attach = (pod: TestNetns, up: Uplink, sbr: Document, ipam: Document = {}): Document => {
      node.network("one", { name: "one", plugins: [macvlan(up, 3, ipam), { type: "sbr", ...sbr }] });
      const conf = node.conf({ plugins: [bridge] }, "one");
      node.ok("ADD", { pod, conf });
      return conf;
    };

    test("gateways come in the place of those of IPAM", () => {
      using pod = newPod();
      const addresses = first
        .addresses(3)
        .map((address) => ({ address, gateway: address.startsWith("10.") ? "10.1.0.77" : "fd00:1::77" }));
      const conf = attach(pod, first, { gateways: [...first.gateways] }, { addresses });
      expect(table(pod, 100)[0]).toBe("default via 10.1.0.1 dev net1");
      expect(table(pod, 101).at(-1)).toBe("default via fd00:1::1 dev net1 metric 1024 pref medium");
      expect(answered(first, 3)).toEqual([true, true]);
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
    });

    test("addSourceHints: neighbours are reached directly, by packets of whatever source", () => {
      using pod = newPod();
      using neighbour = TestNetns.create("neighbour");
      neighbour.ip("link", "set", "lo", "up");
      const conf = attach(
        pod,
        first,
        { addSourceHints: true },
        { routes: [...defaults, { dst: "198.51.100.0/24", gw: "10.1.0.1" }] },
      );
      expect(table(pod, "main")).toEqual([
        "default via 10.77.0.1 dev eth0",
        "10.1.0.0/24 dev net1 proto kernel scope link src 10.1.0.3",
        expect.stringMatching(/^10\.77\.0\.0\/24/),
        "fd00:1::/64 dev net1 proto kernel src fd00:1::3 metric 256 pref medium",
      ]);
      expect(table(pod, 100)).toContain("198.51.100.0/24 via 10.1.0.1 dev net1");
      for (const gateway of first.gateways) expect(pod.ping(gateway), gateway).toBe(true);
      expect(answered(first, 3)).toEqual([true, true]);
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
    });

    test("table: rules only, to the table that IPAM's routes are in", () => {
      using pod = newPod();
      const routes = [
        { dst: "0.0.0.0/0", gw: first.gateways[0], table: 5001 },
        { dst: "::/0", gw: first.gateways[1], table: 5001 },
      ];
      const conf = attach(pod, first, { table: 5001 }, { routes });
      expect(rules(pod)).toEqual(["10.1.0.3 lookup 5001", "fd00:1::3 lookup 5001"]);
      expect(table(pod, 5001).filter((route) => !route.startsWith("default"))).toEqual([]);
      expect(answered(first, 3)).toEqual([true, true]);
      node.ok("CHECK", { pod, conf });
      pod.ip("rule", "delete", "from", "10.1.0.3");
      expect(node.answer("CHECK", { pod, conf }).error?.msg).toContain(
        'no rule has packets from "10.1.0.3/32" routed by a table of their own',
      );
      node.ok("DEL", { pod, conf });
    });

    test("several addresses of one interface have a table each, and what is in use is passed over", () => {
      using pod = newPod();
      pod.ip("rule", "add", "from", "192.0.2.1", "table", "101");
      const addresses = [{ address: "10.1.0.3/24" }, { address: "10.1.0.4/24" }, { address: "10.3.0.4/32" }];
      const routes = [{ dst: "198.51.100.0/24", gw: "10.1.0.1" }, { dst: "203.0.113.128/25" }];
      const conf = attach(pod, first, {}, { addresses, routes });
      expect(rules(pod)).toEqual([
        "10.3.0.4 lookup 103",
        "10.1.0.4 lookup 102",
        "10.1.0.3 lookup 100",
        "192.0.2.1 lookup 101",
      ]);
      expect(table(pod, 100)).toEqual([
        "10.1.0.0/24 dev net1 proto kernel scope link src 10.1.0.3",
        "198.51.100.0/24 via 10.1.0.1 dev net1",
        "203.0.113.128/25 dev net1 scope link",
      ]);
      expect(table(pod, 102)).toHaveLength(3);
      expect(table(pod, 103)).toEqual(["203.0.113.128/25 dev net1 scope link"]);
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
      expect(rules(pod)).toEqual(["192.0.2.1 lookup 101"]);
    });

    test.each([
      [
        "gateways of one family",
        { gateways: ["10.1.0.1", "10.1.0.2"] },
        {},
        7,
        'Cannot use "gateways": "10.1.0.1" and "10.1.0.2" are of one family',
      ],
      ["a gateway that is none", { gateways: ["10.1.0"] }, {}, 7, '"gateways[0]"'],
      ["three gateways", { gateways: ["10.1.0.1", "fd00::1", "10.1.0.3"] }, {}, 7, "gateways"],
      [
        "a gateway out of reach",
        { gateways: ["10.222.0.1"] },
        {},
        7,
        'Cannot route packets from "10.1.0.3/32" by the gateway "10.222.0.1"',
      ],
      ["table 0", { table: 0 }, {}, 7, "table"],
      ["a table that is a text", { table: "main" }, {}, 7, "table"],
      ["no address", {}, { addresses: [] }, 7, "Cannot route by source"],
    ])("refuses %s, and leaves nothing", (_, sbr, ipam, code, message) => {
      using pod = newPod();
      const witness = new Witness(node, pod);
      const plugins = "addresses" in ipam ? [{ type: "macvlan", master: "upa" }] : [macvlan(first, 3)];
      node.network("one", { name: "one", plugins: [...plugins, { type: "sbr", ...sbr }] });
      const conf = node.conf({ plugins: [bridge] }, "one");
      const { error } = node.answer("ADD", { pod, conf });
      expect([error?.code, error?.msg]).toEqual([code, expect.stringContaining(message)]);
      expect(error?.details).not.toBe("");
      expect(witness.changes()).toBe("");
    });

    test("refuses to be the first of its list", () => {
      using pod = newPod();
      const { error } = node.answer("ADD", { pod, conf: node.conf({ plugins: [{ type: "sbr" }] }) });
      expect([error?.code, error?.msg]).toEqual([
        7,
        expect.stringContaining('Cannot route by source: "prevResult" is missing'),
      ]);
    });
  });

  test.each([
    ["a rule is gone", ["-6", "rule", "delete", "from", "fd00:1::4"], 'no rule has packets from "fd00:1::4/128"'],
    ["the table is empty", ["-6", "route", "flush", "table", "101"], "there is no default route by"],
    ["a default route is gone", ["-6", "route", "delete", "default", "table", "101"], "there is no default route by"],
    [
      "a route of IPAM is gone",
      ["-4", "route", "delete", "198.51.100.0/24", "table", "100"],
      'no route to "198.51.100.0/24"',
    ],
  ])("CHECK sees that %s", (_, command, message) => {
    using pod = newPod();
    const routes = [{ dst: "198.51.100.0/24", gw: "10.1.0.1" }];
    node.network("one", { name: "one", plugins: [macvlan(first, 4, { routes }), { type: "sbr" }] });
    const conf = node.conf({ plugins: [bridge] }, "one");
    node.ok("ADD", { pod, conf });
    node.ok("CHECK", { pod, conf });
    pod.ip(...command);
    const { error } = node.answer("CHECK", { pod, conf });
    expect([error?.code, error?.msg]).toEqual([210, expect.stringContaining(message)]);
    node.ok("DEL", { pod, conf });
  });

  test("DEL works when the pod's namespace has gone, and makes no file in its place", () => {
    const pod = newPod();
    const witness = new Witness(node);
    node.network("one", { name: "one", plugins: [macvlan(second, 5), { type: "sbr" }] });
    const conf = node.conf({ plugins: [bridge] }, "one");
    node.ok("ADD", { pod, conf });
    pod[Symbol.dispose]();
    node.ok("DEL", { pod: pod.path, conf });
    expect(existsSync(pod.path)).toBe(false);
    node.ok("DEL", { pod: pod.path, conf });
    node.ok("DEL", { conf });
    expect(existsSync(pod.path)).toBe(false);
    expect(witness.changes()).toBe("");
  });

  /** The interface that another plugin made: `net1` with two addresses and routes of its own. */
  function foreign(pod: TestNetns, wire: TestNetns): Document {
    veth({ in: pod, name: "net1", address: "10.4.0.2/24" }, { in: wire, name: "wire", address: "10.4.0.1/24" });
    pod.ip("address", "add", "fd00:4::2/64", "dev", "net1", "nodad");
    pod.ip("route", "add", "default", "via", "10.4.0.1", "mtu", "1400");
    pod.ip("route", "add", "198.51.100.0/24", "via", "10.4.0.1", "metric", "9");
    pod.ip("-6", "route", "add", "default", "via", "fd00:4::1");
    return {
      cniVersion: "1.1.0",
      interfaces: [{ name: "net1", sandbox: pod.path }],
      ips: [
        { address: "10.4.0.2/24", gateway: "10.4.0.1", interface: 0 },
        { address: "fd00:4::2/64", gateway: "fd00:4::1", interface: 0 },
      ],
      routes: [{ dst: "0.0.0.0/0" }],
      dns: { domain: "kept" },
    };
  }
  /** Link-local routes come when they come, and the loopback interface's go when it is looked at. */
  const state = (pod: TestNetns): string[] =>
    [...rules(pod), ...["main", 100, 101].flatMap((t) => table(pod, t))].sort();

  test("behind a plugin of somebody else: the routes come back with DEL, and when ADD fails", () => {
    using pod = newPod();
    node.link("sbr");
    using wire = TestNetns.create("wire");
    const prevResult = foreign(pod, wire);
    const before = state(pod);
    const conf = { cniVersion: "1.1.0", name: "n", type: "sbr", prevResult };
    const call = { pod, ifname: "net1", as: "sbr" };
    expect(node.answer("ADD", { ...call, conf: { ...conf, gateways: ["10.222.0.1"] } }).error?.code).toBe(7);
    expect(state(pod)).toEqual(before);
    const { result } = node.ok("ADD", { ...call, conf });
    expect(result).toEqual({ ...prevResult, routes: [{ dst: "0.0.0.0/0", table: 100 }] } as never);
    expect(table(pod, "main")).toEqual([]);
    expect(table(pod, 100)).toEqual([
      "default via 10.4.0.1 dev net1 mtu 1400",
      "10.4.0.0/24 dev net1 proto kernel scope link src 10.4.0.2",
      "198.51.100.0/24 via 10.4.0.1 dev net1 metric 9",
    ]);
    node.ok("CHECK", { ...call, conf: { ...conf, prevResult: result ?? {} } });
    node.ok("DEL", { ...call, conf });
    expect(state(pod)).toEqual(before);
    node.ok("DEL", { ...call, conf });
    expect(state(pod)).toEqual(before);
  });

  test("killed at each write of the journal, one DEL makes all as before", () => {
    using stack = new DisposableStack();
    const pod = stack.use(newPod());
    const prevResult = foreign(pod, stack.use(TestNetns.create("wire"))) as JsonObject;
    const open = (ns: TestNetns, host: boolean) =>
      stack.use(openKernel(stack.use(Netns.open(parseNetnsPath(ns.path))), { host }));
    const [host, kernel] = [open(node.netns, true), open(pod, false)];
    const of = (journal: MemoryJournal): PluginPod => new PluginPod(host, kernel, { ifname: "net1", journal });
    const before = state(pod);
    for (const conf of [{ prevResult }, { prevResult, addSourceHints: true }]) {
      const whole = of(new MemoryJournal());
      whole.add("sbr", conf);
      whole.undo();
      expect(state(pod)).toEqual(before);
      expect(whole.journal.entries.length).toBeGreaterThan(6);
      for (let n = 0; n < whole.journal.entries.length; n++) {
        const killed = of(new DyingJournal(n));
        expect(() => killed.add("sbr", conf)).toThrow();
        killed.undo();
        expect([n, state(pod)]).toEqual([n, before]);
      }
    }
  });

  test("behind the reference macvlan, in a list of both, DEL leaves nothing", () => {
    using pod = newPod();
    const witness = new Witness(node, pod);
    node.link("reference-macvlan", peerFile("reference", "macvlan"));
    node.link("static");
    const plugins = [{ ...macvlan(first, 6), type: "reference-macvlan" }, { type: "sbr" }];
    node.network("one", { name: "one", plugins });
    const conf = node.conf({ plugins: [bridge] }, "one");
    node.ok("ADD", { pod, conf });
    expect(answered(first, 6)).toEqual([true, true]);
    node.ok("DEL", { pod, conf });
    expect(witness.changes()).toBe("");
  });
});

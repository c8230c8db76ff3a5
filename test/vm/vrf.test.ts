/** vrf on a kernel that has it: networks apart from each other in one pod, and what is left when they go. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import type { Document } from "../support/cni.ts";
import { DyingJournal, MemoryJournal } from "../support/guest.ts";
import { guestMachine } from "../support/guest-machine.ts";
import { TestNetns, veth } from "../support/netns.ts";
import { TestNode } from "../support/node.ts";
import { PluginPod } from "../support/plugin.ts";
import { built, requires } from "../support/requires.ts";
import { CLIENT, type Uplink, uplinks, uplinkTo } from "../support/uplinks.ts";

const bare = (address: string): string => address.slice(0, address.indexOf("/"));
const defaults = [{ dst: "0.0.0.0/0" }, { dst: "::/0" }];
const macvlan = (up: Uplink, last = 2): Document => ({
  type: "macvlan",
  master: up.link,
  ipam: {
    type: "static",
    addresses: up.addresses(last).map((address, i) => ({ address, gateway: up.gateways[i] })),
    routes: [...defaults, { dst: "198.51.100.0/24", mtu: 1400 }],
  },
});
const bridge = {
  type: "bridge",
  bridge: "br0",
  isGateway: true,
  ipam: { type: "host-local", subnet: "10.77.0.0/24", routes: [{ dst: "0.0.0.0/0" }] },
};

/** Without what is about link-local addresses, and what is only the kernel's for addresses of its own. */
const table = (pod: TestNetns, name: number | string): string[] =>
  ["-4", "-6"].flatMap((family) =>
    pod
      .run("sh", "-c", `ip ${family} route show table ${name} type unicast 2> /dev/null || true`)
      .split("\n")
      .map((line) => line.trim().replace(/ +/g, " "))
      .filter((line) => line !== "" && !line.startsWith("fe80:") && !line.startsWith("multicast")),
  );
const names = (pod: TestNetns): string[] => pod.ipJson("link", "show").map((l) => String(l.ifname));
const masterOf = (pod: TestNetns, link: string): unknown => pod.ipJson("link", "show", link)[0]?.master;
/** Links, addresses, routes and rules. The kernel's rule for VRFs stays when there was one once. */
const state = (pod: TestNetns): string[] =>
  [
    ...names(pod),
    ...pod
      .ipJson("address", "show")
      .flatMap((l) => (l.addr_info as Document[]).map((a) => `${l.ifname} ${a.local}/${a.prefixlen}`))
      .filter((a) => !a.includes(" fe80:")),
    ...["main", 1, 2, 10, 100, 101].flatMap((t) => table(pod, t).map((route) => `${t}: ${route}`)),
    ...["-4", "-6"].flatMap((f) =>
      pod
        .ip(f, "rule", "show")
        .split("\n")
        .filter((r) => !/l3mdev|^$/.test(r)),
    ),
  ].sort();

requires(...guestMachine, built)("vrf", () => {
  let node: TestNode;
  let far: ReturnType<typeof uplinkTo>;
  beforeAll(async () => {
    node = await TestNode.settled();
    far = uplinkTo(node.netns);
    node.link("vrf");
  });
  afterAll(() => {
    far?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });

  function newPod(): TestNetns {
    const pod = TestNetns.create("pod");
    pod.ip("link", "set", "lo", "up");
    pod.ip("link", "set", "lo", "down");
    pod.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/dad_transmits"); // saves a second or two
    return pod;
  }
  const conf = (plugins: (up: Uplink, n: number) => readonly Document[]): Document => {
    for (const [n, up] of uplinks.entries()) node.network(up.link, { name: up.link, plugins: plugins(up, n) });
    return node.conf({ plugins: [bridge] }, "upa,upb");
  };
  /** A program of the pod that is bound to a VRF reaches the client. */
  const reaches = (pod: TestNetns, from: string): boolean[] =>
    CLIENT.map((address) => pod.ping(address, { from, seconds: 2 }));
  const answered = (up: Uplink): boolean[] =>
    up.addresses(2).map((address) => far.client.ping(bare(address), { seconds: 2 }));

  test.each([
    ["tables of its choice", {}, {}, [1, 2]],
    ["tables of the configuration, which sbr has too", { table: 10 }, { table: 20 }, [10, 20]],
  ] as const)("a VRF a network, with %s: each has its routes, and nothing is left", (_, one, two, tables) => {
    using pod = newPod();
    const before = state(pod);
    const wanted = [one, two];
    const networks = conf((up, n) => [
      macvlan(up),
      { type: "vrf", vrfname: n === 0 ? "red" : "blue", ...wanted[n] },
      ...(wanted[n] && "table" in wanted[n] ? [{ type: "sbr", ...wanted[n] }] : []),
    ]);
    node.ok("ADD", { pod, conf: networks });
    expect([masterOf(pod, "net1"), masterOf(pod, "net2")]).toEqual(["red", "blue"]);
    expect(table(pod, "main").filter((route) => !route.includes("dev eth0"))).toEqual([]);
    expect(table(pod, tables[1])).toEqual([
      "default via 10.2.0.1 dev net2",
      "10.2.0.0/24 dev net2 proto kernel scope link src 10.2.0.2",
      "198.51.100.0/24 via 10.2.0.1 dev net2 mtu 1400",
      "fd00:2::/64 dev net2 proto kernel metric 256 pref medium",
      "default via fd00:2::1 dev net2 metric 1024 pref medium",
    ]);
    for (const name of ["red", "blue"]) expect(reaches(pod, name), name).toEqual([true, true]);
    for (const up of uplinks) expect(answered(up), up.link).toEqual([true, true]);
    node.ok("CHECK", { pod, conf: networks });
    node.ok("DEL", { pod, conf: networks });
    node.ok("DEL", { pod, conf: networks });
    expect(state(pod)).toEqual(before);
  });

  test("two networks in one VRF", () => {
    using pod = newPod();
    const before = state(pod);
    const networks = conf((up, n) => [macvlan(up), { type: "vrf", vrfname: "red", ...(n === 0 && { table: 10 }) }]);
    node.ok("ADD", { pod, conf: networks });
    expect([masterOf(pod, "net1"), masterOf(pod, "net2")]).toEqual(["red", "red"]);
    expect(table(pod, 10).filter((route) => route.startsWith("default via 10."))).toHaveLength(2);
    node.ok("CHECK", { pod, conf: networks });
    node.ok("DEL", { pod, conf: networks });
    expect(state(pod)).toEqual(before);
  });

  describe("with sbr", () => {
    test.each([
      ["behind it: its rules lead to the VRF's table", ["vrf", "sbr"], "lookup 1 "],
      ["before it: its tables keep their routes", ["sbr", "vrf"], "lookup 100 "],
    ] as const)("%s", (_, order, rule) => {
      using pod = newPod();
      const before = state(pod);
      const networks = conf((up, n) => [
        macvlan(up),
        ...order.map((type) => (type === "vrf" ? { type, vrfname: n === 0 ? "red" : "blue" } : { type })),
      ]);
      node.ok("ADD", { pod, conf: networks });
      expect(`${pod.ip("rule", "show")} `.replaceAll("\n", " \n")).toContain(`from 10.1.0.2 ${rule}`);
      // What sbr has taken away before does not come into the VRF's table.
      if (order[0] === "vrf")
        for (const name of ["red", "blue"]) expect(reaches(pod, name), name).toEqual([true, true]);
      for (const up of uplinks) {
        expect(answered(up), up.link).toEqual([true, true]);
      }
      node.ok("CHECK", { pod, conf: networks });
      node.ok("DEL", { pod, conf: networks });
      expect(state(pod)).toEqual(before);
    });
  });

  test("behind ptp, whose routes are not the kernel's", () => {
    using pod = newPod();
    const ptp = { type: "ptp", ipam: { type: "host-local", subnet: "10.66.0.0/24", routes: [{ dst: "0.0.0.0/0" }] } };
    node.network("one", { name: "one", plugins: [ptp, { type: "vrf", vrfname: "red" }] });
    const one = node.conf({ plugins: [bridge] }, "one");
    node.ok("ADD", { pod, conf: one });
    expect(table(pod, 1)).toEqual([
      "default via 10.66.0.1 dev net1",
      expect.stringMatching(/^10\.66\.0\.0\/24 via 10\.66\.0\.1 dev net1 src/),
      expect.stringMatching(/^10\.66\.0\.1 dev net1 scope link src/),
    ]);
    expect(pod.ping("10.66.0.1", { from: "red" })).toBe(true);
    node.ok("CHECK", { pod, conf: one });
    node.ok("DEL", { pod, conf: one });
  });

  test("addresses that do not outlive the change by themselves come back, detection done", () => {
    using pod = newPod();
    pod.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/dad_transmits");
    using wire = TestNetns.create("wire");
    veth({ in: pod, name: "net1" }, { in: wire, name: "wire", address: "fd00:4::1/64" });
    pod.ip("address", "add", "fd00:4::2/64", "dev", "net1", "nodad");
    pod.ip("address", "add", "fd00:4::3/64", "dev", "net1", "nodad", "noprefixroute");
    pod.ip("-6", "route", "add", "2001:db8:7::/48", "via", "fd00:4::1", "src", "fd00:4::2");
    const before = state(pod);
    const prevResult = { cniVersion: "1.1.0", interfaces: [{ name: "net1", sandbox: pod.path }] };
    const call = { pod, ifname: "net1", as: "vrf" };
    const config = { cniVersion: "1.1.0", name: "n", type: "vrf", vrfname: "red", prevResult };
    node.ok("ADD", { ...call, conf: config });
    expect(pod.ping("fd00:4::1", { from: "red" })).toBe(true);
    expect(table(pod, 1)).toContain("2001:db8:7::/48 via fd00:4::1 dev net1 src fd00:4::2 metric 1024 pref medium");
    node.ok("CHECK", { ...call, conf: config });
    node.ok("DEL", { ...call, conf: config });
    expect(state(pod)).toEqual(before);
  });

  test("DEL works when the pod's namespace has gone", () => {
    const pod = newPod();
    const networks = conf((up) => [macvlan(up), { type: "vrf", vrfname: "red" }]);
    node.ok("ADD", { pod, conf: networks });
    pod[Symbol.dispose]();
    node.ok("DEL", { pod: pod.path, conf: networks });
    node.ok("DEL", { conf: networks });
    expect(node.status()).toEqual([]);
  });

  /** The interface that another plugin made, with addresses and routes of its own. */
  function foreign(pod: TestNetns, wire: TestNetns, name: string, n: number): Document {
    veth({ in: pod, name, address: `10.${n}.0.2/24` }, { in: wire, name: `w${n}`, address: `10.${n}.0.1/24` });
    pod.ip("address", "add", `fd00:${n}::2/64`, "dev", name, "nodad");
    pod.ip("route", "add", "default", "via", `10.${n}.0.1`, "metric", String(n));
    pod.ip("route", "add", `198.51.${n}.0/24`, "dev", name, "table", "100");
    pod.ip("-6", "route", "add", "default", "via", `fd00:${n}::1`, "metric", String(n));
    return {
      cniVersion: "1.1.0",
      interfaces: [{ name, sandbox: pod.path }],
      ips: [{ address: `10.${n}.0.2/24`, gateway: `10.${n}.0.1`, interface: 0 }],
      routes: [{ dst: "0.0.0.0/0" }],
    };
  }

  test("CHECK sees what became of it, and what cannot be is refused", () => {
    using pod = newPod();
    using wire = TestNetns.create("wire");
    const prevResult = foreign(pod, wire, "net1", 40);
    pod.ip("link", "add", "green", "type", "vrf", "table", "77");
    const before = state(pod);
    const call = (more: Document) => {
      const config = { cniVersion: "1.1.0", name: "n", type: "vrf", vrfname: "red", prevResult, ...more };
      return { pod, ifname: "net1", as: "vrf", conf: config };
    };
    for (const [more, message] of [
      [{ vrfname: undefined }, '"vrfname"'],
      [{ vrfname: "a/b" }, '"vrfname"'],
      [{ vrfname: "lo" }, 'Cannot use "lo" as a VRF: the pod has a link of that name'],
      [{ vrfname: "green", table: 11 }, 'Cannot give VRF "green" table 11: the pod has it with table 77'],
      [{ table: 77 }, 'it is that of VRF "green" of the pod'],
      [{ table: -1 }, '"table"'],
      [{ prevResult: undefined }, '"prevResult" is missing'],
    ] as const) {
      const { error } = node.answer("ADD", call(more));
      expect([error?.code, error?.msg]).toEqual([7, expect.stringContaining(message)]);
      expect(error?.details).not.toBe("");
      expect([message, state(pod)]).toEqual([message, before]);
    }
    node.ok("ADD", call({ table: 10 }));
    node.ok("CHECK", call({ table: 10 }));
    for (const [change, back, message] of [
      ["link set red down", "link set red up", 'VRF "red" is down'],
      ["link set net1 nomaster", "link set net1 master red", 'interface "net1" is not in VRF "red"'],
      ["link delete red", "", 'VRF "red" is not there'],
    ] as const) {
      pod.ip(...change.split(" "));
      const { error } = node.answer("CHECK", call({ table: 10 }));
      expect([error?.code, error?.msg]).toEqual([210, expect.stringContaining(message)]);
      if (back !== "") pod.ip(...back.split(" "));
    }
    node.ok("DEL", call({ table: 10 }));
    expect(names(pod)).not.toContain("red");
  });

  test("behind plugins of somebody else: the VRF goes with its last member, and each gets back what it had", () => {
    using pod = newPod();
    using wire = TestNetns.create("wire");
    const calls = [40, 41].map((n) => {
      const ifname = `net${n}`;
      const prevResult = foreign(pod, wire, ifname, n);
      return {
        pod,
        ifname,
        as: "vrf",
        conf: { cniVersion: "1.1.0", name: `n${n}`, type: "vrf", vrfname: "red", prevResult },
      };
    });
    const before = state(pod);
    for (const call of calls) {
      const { result } = node.ok("ADD", call);
      expect(result?.routes).toEqual([{ dst: "0.0.0.0/0", table: 1 }]);
    }
    expect(table(pod, 1)).toHaveLength(8);
    expect(table(pod, 100)).toEqual(["198.51.40.0/24 dev net40 scope link", "198.51.41.0/24 dev net41 scope link"]);
    const again = node.answer("ADD", {
      ...(calls[0] ?? {}),
      conf: { ...calls[0]?.conf, name: "other", vrfname: "blue" },
    });
    expect([again.error?.code, again.error?.msg]).toEqual([
      233,
      expect.stringContaining('it belongs to "red" already'),
    ]);
    node.ok("DEL", calls[0] ?? {});
    expect(names(pod)).toContain("red");
    expect([masterOf(pod, "net40"), masterOf(pod, "net41")]).toEqual([undefined, "red"]);
    node.ok("CHECK", calls[1] ?? {});
    node.ok("DEL", calls[1] ?? {});
    expect(state(pod)).toEqual(before);
  });

  test("a VRF that the pod itself made stays", () => {
    using pod = newPod();
    using wire = TestNetns.create("wire");
    pod.ip("link", "add", "red", "type", "vrf", "table", "10");
    const prevResult = foreign(pod, wire, "net1", 40);
    const before = state(pod);
    const call = {
      pod,
      ifname: "net1",
      as: "vrf",
      conf: { cniVersion: "1.1.0", name: "n", type: "vrf", vrfname: "red", prevResult },
    };
    node.ok("ADD", call);
    expect(masterOf(pod, "net1")).toBe("red");
    node.ok("DEL", call);
    expect(state(pod)).toEqual(before);
  });

  test("killed at each write of the journal, one DEL makes all as before", () => {
    using stack = new DisposableStack();
    const pod = stack.use(newPod());
    const prevResult = foreign(pod, stack.use(TestNetns.create("wire")), "net1", 40) as JsonObject;
    const open = (ns: TestNetns, host: boolean) =>
      stack.use(openKernel(stack.use(Netns.open(parseNetnsPath(ns.path))), { host }));
    const [host, kernel] = [open(node.netns, true), open(pod, false)];
    const of = (journal: MemoryJournal): PluginPod => new PluginPod(host, kernel, { ifname: "net1", journal });
    const before = state(pod);
    const whole = of(new MemoryJournal());
    whole.add("vrf", { prevResult, vrfname: "red" });
    expect(masterOf(pod, "net1")).toBe("red");
    whole.undo();
    expect(state(pod)).toEqual(before);
    expect(whole.journal.entries.length).toBeGreaterThan(4);
    for (let n = 0; n < whole.journal.entries.length; n++) {
      const killed = of(new DyingJournal(n));
      expect(() => killed.add("vrf", { prevResult, vrfname: "red" })).toThrow();
      killed.undo();
      expect([n, state(pod)]).toEqual([n, before]);
    }
  });
});

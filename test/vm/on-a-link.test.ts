/** vlan, ipvlan and dummy with real traffic, on a node where links of the pod's interface names and kinds are there. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Document } from "../support/cni.ts";
import { guestMachine } from "../support/guest-machine.ts";
import { TestNetns } from "../support/netns.ts";
import { type Call, TestNode } from "../support/node.ts";
import { built, requires } from "../support/requires.ts";

const ipam = { type: "host-local", ranges: [[{ subnet: "10.9.0.0/24", rangeStart: "10.9.0.5" }]] };

requires(...guestMachine, built)("interfaces on a link of the node", () => {
  let node: TestNode;
  /** What the node's uplink leads to: 10.9.0.1 without a tag, 10.9.0.1 of VLAN 100. */
  let outside: TestNetns;
  beforeAll(async () => {
    node = await TestNode.create();
    for (const name of ["vlan", "ipvlan", "dummy"]) node.link(name);
    outside = TestNetns.create("outside");
    node.netns.ip("link", "set", "wire", "netns", outside.name);
    outside.ip("link", "set", "wire", "up");
    outside.ip("link", "add", "link", "wire", "name", "tagged", "type", "vlan", "id", "100");
    outside.ip("link", "set", "tagged", "up");
    // What a pod is given below is there on the node, of each kind.
    node.netns.ip("link", "add", "link", "uplink", "name", "net-vlan", "type", "vlan", "id", "7");
    node.netns.ip("link", "add", "net-dummy", "type", "dummy");
    node.netns.ip("link", "add", "below", "type", "dummy");
    node.netns.ip("link", "add", "link", "below", "name", "net-ipvlan", "type", "ipvlan");
  });
  afterAll(() => {
    node?.[Symbol.dispose]();
    outside?.[Symbol.dispose]();
  });
  const outsideAt = (dev: string): void => {
    for (const each of ["wire", "tagged"]) outside.ip("address", "flush", "dev", each);
    outside.ip("address", "add", "10.9.0.1/24", "dev", dev);
  };
  type Own = Omit<Call, "conf"> & { readonly conf: Document };
  const call = (type: string, pod: TestNetns, more: Document = {}): Own => ({
    as: type,
    pod,
    container: pod.name,
    ifname: `net-${type}`,
    conf: { cniVersion: "1.0.0", name: "n", type, ipam, ...more },
  });
  /** What is compared before and after; the stories beside the reference look at more. */
  const there = (pod: TestNetns): unknown => [
    ...[node.netns, pod].map((ns) =>
      ns.ipJson("address", "show").map(({ ifname, addr_info }) => ({ ifname, addr_info })),
    ),
    node.leases("n"),
  ];
  const address = (pod: TestNetns): string => {
    const links = pod.ipJson("address", "show") as { addr_info: { family: string; local: string }[] }[];
    return (
      links.flatMap((l) => l.addr_info).find((a) => a.family === "inet" && a.local.startsWith("10.9."))?.local ?? ""
    );
  };

  test("vlan: the pod is on its VLAN, and a second one cannot be", () => {
    outsideAt("tagged");
    using pod = TestNetns.create("pod");
    using late = TestNetns.create("late");
    const before = there(pod);
    const add = call("vlan", pod, { master: "uplink", vlanId: 100, mtu: 1400, dns: { domain: "d" } });
    const { result } = node.ok("ADD", add);
    const mac = node.netns.ipJson("link", "show", "uplink")[0]?.address;
    expect(result).toMatchObject({
      interfaces: [{ name: "net-vlan", mac, sandbox: pod.path }],
      ips: [{ address: "10.9.0.5/24", interface: 0 }],
      dns: { domain: "d" },
    });
    expect(pod.ipJson("-d", "link", "show", "net-vlan")[0]).toMatchObject({
      mtu: 1400,
      group: "default",
      linkinfo: { info_kind: "vlan", info_data: { id: 100 } },
    });
    expect(pod.ping("10.9.0.1")).toBe(true);
    node.ok("CHECK", { ...add, conf: { ...add.conf, prevResult: result } });

    const second = node.answer("ADD", call("vlan", late, { master: "uplink", vlanId: 100 }));
    expect(second.error).toMatchObject({
      code: 220,
      msg: 'Cannot give the pod VLAN 100 of "uplink": another link, here or in another pod, has it',
    });
    expect(late.ipJson("link", "show")).toHaveLength(1);
    node.ok("DEL", call("vlan", late, { master: "uplink", vlanId: 100 }));

    pod.ip("link", "set", "net-vlan", "mtu", "1300");
    const changed = node.answer("CHECK", { ...add, conf: { ...add.conf, prevResult: result } });
    expect(changed.error?.msg).toContain('interface "net-vlan" has the MTU 1300, expected 1400');
    node.ok("DEL", add);
    node.ok("DEL", add);
    expect(there(pod)).toEqual(before);
  });

  test("ipvlan: two pods reach each other and the outside, a third in a chain takes the addresses before it", () => {
    outsideAt("wire");
    using a = TestNetns.create("a");
    using b = TestNetns.create("b");
    using c = TestNetns.create("c");
    const before = there(a);
    const first = call("ipvlan", a, { mode: "l2" }); // on the default route's device
    const second = call("ipvlan", b, { master: "uplink" });
    const { result } = node.ok("ADD", first);
    node.ok("ADD", second);
    expect(a.ping("10.9.0.1")).toBe(true);
    expect(a.ping(address(b))).toBe(true);
    node.ok("CHECK", { ...first, conf: { ...first.conf, prevResult: result } });

    const made = {
      interfaces: [{ name: "uplink" }],
      ips: [{ address: "10.9.0.99/24" }],
      routes: [{ dst: "10.8.0.0/16" }],
    };
    const chained = call("ipvlan", c, { ipam: {}, prevResult: { cniVersion: "1.0.0", ...made } });
    const third = node.ok("ADD", chained);
    expect(third.result).toMatchObject({
      interfaces: [{ name: "net-ipvlan", sandbox: c.path }],
      ips: [{ address: "10.9.0.99/24", interface: 0 }],
      routes: [{ dst: "10.8.0.0/16" }],
    });
    expect(c.ping("10.9.0.1")).toBe(true);
    node.ok("CHECK", { ...chained, conf: { ...chained.conf, prevResult: third.result } });
    const ambiguous = { cniVersion: "1.0.0", interfaces: [{ name: "uplink" }, { name: "lo" }], ips: made.ips };
    using d = TestNetns.create("d");
    const refused = call("ipvlan", d, { ipam: {}, prevResult: ambiguous });
    expect(node.answer("ADD", refused).error).toMatchObject({ code: 7 });
    node.ok("DEL", refused);

    // Neither the default route nor the result is needed.
    node.netns.ip("route", "delete", "default");
    for (const each of [first, second, { ...chained, conf: { ...chained.conf, prevResult: undefined } }])
      node.ok("DEL", each);
    node.netns.ip("route", "add", "default", "via", "192.0.2.1");
    expect(there(a)).toEqual(before);
  });

  test("dummy: the addresses are the pod's, and nothing is left", () => {
    using pod = TestNetns.create("pod");
    const before = there(pod);
    const add = call("dummy", pod);
    const { result } = node.ok("ADD", add);
    expect(result).toMatchObject({ interfaces: [{ name: "net-dummy" }], ips: [{ interface: 0 }] });
    pod.ip("link", "set", "lo", "up");
    expect(pod.ping(address(pod))).toBe(true);
    pod.ip("link", "set", "lo", "down");
    pod.ip("address", "flush", "dev", "lo");
    node.ok("CHECK", { ...add, conf: { ...add.conf, prevResult: result } });
    pod.ip("link", "set", "net-dummy", "down");
    expect(node.answer("CHECK", { ...add, conf: { ...add.conf, prevResult: result } }).error?.code).toBe(210);
    const without = call("dummy", pod, { ipam: undefined });
    expect(node.answer("ADD", { ...without, container: "other" }).error).toMatchObject({
      code: 7,
      msg: 'Cannot run "dummy" without addresses: "ipam" is missing',
    });
    node.ok("DEL", add);
    expect(there(pod)).toEqual(before);
  });

  test("what its parent takes along, and what a namespace does, leaves no lease", () => {
    node.netns.ip("link", "add", "lower", "type", "dummy");
    node.netns.ip("link", "set", "lower", "up");
    using pod = TestNetns.create("pod");
    const gone = TestNetns.create("gone");
    const leases = node.leases("n");
    const vlan = call("vlan", pod, { master: "lower", vlanId: 3 });
    const ipvlan = { ...call("ipvlan", pod, { master: "lower" }), container: "second" };
    const lost = call("ipvlan", gone, { master: "uplink" });
    for (const each of [vlan, ipvlan, lost]) node.ok("ADD", each);
    expect(node.leases("n").length).toBe(leases.length + 3);
    node.netns.ip("link", "delete", "lower");
    gone[Symbol.dispose]();
    for (const each of [vlan, ipvlan, { ...lost, pod: "" }]) node.ok("DEL", each);
    expect(node.leases("n")).toEqual(leases);
    expect(node.netns.ipJson("link", "show").map((l) => l.ifname)).toEqual(
      expect.arrayContaining(["net-vlan", "net-dummy", "net-ipvlan"]),
    );
  });
});

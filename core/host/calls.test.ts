/** The call table on a simulated node: what is refused, what is written before what, and that undo leaves nothing. */

import { describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions, wideManifest } from "../../test/support/guest.ts";
import { randomCall, seeded } from "../../test/support/random-calls.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import { CniError } from "../base/error.ts";
import { derive } from "../base/hash.ts";
import { formatCidr } from "../base/ip.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { parsePolicy } from "../policy/policy.ts";
import { GuestStop } from "./call.ts";
import { hostCalls } from "./calls.ts";
import { checkHonest } from "./result.ts";

/** The other end of the network's "br9.7", which is the network's too. */
const vlanPort = `veth${derive(11, "network", "br9.7")}`;

class Sim {
  readonly node = new SimulatedNode();
  readonly host: Kernel;
  readonly pod: Kernel;
  constructor() {
    this.host = this.node.netns("host", { host: true });
    this.pod = this.node.netns("pod");
    const uplink = this.node.plug("host", { name: "uplink", mac: "00:16:3e:00:00:01" });
    this.host.setLink(uplink.index, { up: true });
  }
  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ pod: this.pod, host: this.host, conf: { bridge: "br9", master: "uplink" }, ...o });
  }
  undo(guest: TestGuest): unknown[] {
    return undoKernelSteps([{ entries: guest.journal.entries }], { pod: this.pod, host: this.host });
  }
  /** What there is, less the network's own. */
  dump(): string[] {
    return (["host", "pod"] as const).flatMap((where) => {
      const kernel = this[where];
      const links = kernel.links().filter((l) => !l.name.startsWith("br9") && l.name !== vlanPort);
      const kept = new Set(links.map((l) => l.index));
      return [
        ...links.map((l) => `${where} ${l.name} ${l.kind} ${l.mac} ${l.mtu} ${l.up}`),
        ...kernel.addresses().flatMap((a) => (kept.has(a.index) ? [`${where} ${formatCidr(a.address)}`] : [])),
        ...kernel.rules().map((r) => `${where} rule ${JSON.stringify(r)}`),
        ...(["inet", "bridge"] as const).flatMap((f) =>
          kernel.nft.chains(f, "patchbay").filter((c) => c.includes("-")),
        ),
      ];
    });
  }
}

/** What bridge, with all its switches, asks for. */
function bridgeRun(guest: TestGuest): void {
  const bridge = guest.must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network", up: true });
  const veth = guest.must("link_create", { kind: "veth", peer: { in: "host" } });
  const port = (veth.peer as JsonObject).link;
  guest.must("link_set", { link: port, master: bridge.link, hairpin: true, up: true });
  guest.must("nft_apply", { rule: "mac_check", link: port, mac: veth.mac });
  guest.must("ipam_add");
  guest.must("sysctl_set", { key: "net/ipv4/conf/all/arp_notify", value: "1", optional: true });
  guest.must("addr_add", { link: veth.link, address: "10.9.0.5/24" });
  guest.must("link_set", { link: veth.link, up: true });
  guest.must("route_add", { link: veth.link, dst: "0.0.0.0/0", gateway: "10.9.0.1" });
  guest.must("addr_add", { link: bridge.link, address: "10.9.0.1/24", scope: "network" });
  guest.must("nft_apply", { rule: "masquerade", addresses: ["10.9.0.5/24"] });
  guest.must("rule_add", { from: "10.9.0.5/32", table: 100, priority: 1000 });
}
function macvlanRun(guest: TestGuest): void {
  const parent = guest.must("link_open", { in: "host", name: "uplink" });
  const link = guest.must("link_create", { kind: "macvlan", parent: parent.link });
  guest.must("ipam_add");
  guest.must("addr_add", { link: link.link, address: "10.9.0.5/24" });
  guest.must("link_set", { link: link.link, up: true });
}

/** A request with every required member of the right shape. */
function plausible(name: string): JsonObject {
  const some: { [call: string]: JsonObject } = {
    link_create: { kind: "dummy" },
    link_set: { link: 1 },
    link_configure: { link: 1 },
    link_move: { link: 1, to: "pod" },
    link_wait: { link: 1, for: "running" },
    addr_add: { link: 1, address: "10.9.0.5/24" },
    addr_delete: { link: 1, address: "10.9.0.5/24" },
    route_add: { link: 1, dst: "0.0.0.0/0" },
    route_delete: { link: 1, dst: "0.0.0.0/0" },
    rule_add: { from: "10.9.0.5/32", table: 100 },
    rule_delete: { from: "10.9.0.5/32", table: 100 },
    table_find: { from: 100 },
    neigh_add: { link: 1, address: "10.9.0.1", mac: "02:00:00:00:00:01" },
    bridge_vlan_set: { link: 1, vlans: [] },
    sysctl_get: { key: "net/ipv4/ip_forward", in: "host" },
    sysctl_set: { key: "net/ipv4/ip_forward", in: "host", value: "1" },
    nft_apply: { rule: "masquerade" },
    nft_check: { rule: "masquerade" },
    port_map: { mappings: [], addresses: [] },
    tc_apply: { link: 1, rule: "limit" },
    tc_check: { link: 1, rule: "limit" },
    announce: { link: 1, addresses: [] },
    lease_acquire: { pool: "p", key: "k" },
    lease_release: { pool: "p", key: "k" },
    note_set: { key: "k", value: "v" },
    note_get: { key: "k" },
    log: { message: "m" },
  };
  return some[name] ?? (["link_delete", "addr_list", "route_list"].includes(name) ? { link: 1 } : {});
}

describe("every call", () => {
  const none = wideManifest({ calls: {} });
  test.each(hostCalls.map((c) => [c.name, c] as const))("%s does nothing without its grant", (name) => {
    const sim = new Sim();
    sim.node.calls.length = 0;
    const guest = sim.guest({ manifest: none });
    const answer = guest.call(name, plausible(name));
    expect(answer).toMatchObject({
      code: 121,
      msg: `Cannot make the call "${name}" for plugin "wide": no grant "${name}"`,
    });
    expect([sim.node.calls.length, guest.journal.entries.length, guest.ipamRuns.length]).toEqual([0, 0, 0]);
    expect(guest.traces.map((t) => [t.call, t.code])).toEqual([[name, 121]]);
    expect(guest.context.denied).toBe(1);
  });

  test.each(hostCalls.map((c) => [c.name, c] as const))("%s runs in its operations and in no other", (name, call) => {
    for (const operation of ["ADD", "DEL", "CHECK", "GC", "STATUS"] as const) {
      const sim = new Sim();
      const code = sim.guest({ operation }).code(name, plausible(name));
      expect([operation, code === 122]).toEqual([operation, !call.operations.includes(operation)]);
    }
  });

  test.each(hostCalls.map((c) => [c.name]))("%s refuses a member that it does not know", (name) => {
    const sim = new Sim();
    const row = hostCalls.find((c) => c.name === name);
    const guest = sim.guest({ operation: row?.operations[0] ?? "ADD" });
    const answer = guest.call(name, { ...plausible(name), surprise: 1 });
    expect(answer.code).toBe(120);
    expect(answer.msg).toBe(`Cannot make the call "${name}" for plugin "wide": "surprise": expected no such member`);
    expect(guest.journal.entries).toEqual([]);
  });
});

describe("a macvlan", () => {
  const names = (sim: Sim): string[] => sim.pod.links().map((l) => l.name);
  const make = (guest: TestGuest): JsonObject => {
    const parent = guest.must("link_open", { in: "host", name: "uplink" });
    return guest.call("link_create", { kind: "macvlan", parent: parent.link });
  };
  test("is born with its name", () => {
    const sim = new Sim();
    expect(make(sim.guest()).name).toBe("eth0");
    expect(sim.node.calls.filter((c) => c.call === "setLink" && c.namespace === "pod")).toEqual([]);
  });
  test("is born under another name where the kernel finds its own taken on the node", () => {
    const sim = new Sim();
    const guest = sim.guest();
    sim.node.fault = ({ call, argument }) =>
      call === "createLink" && (argument as { name: string }).name === "eth0" ? 17 : undefined;
    expect(make(guest).name).toBe("eth0");
    expect(names(sim)).toEqual(["lo", "eth0"]);
    sim.node.fault = undefined;
    expect(sim.undo(guest)).toEqual([]);
    expect(names(sim)).toEqual(["lo"]);
  });
  test("does not take the name of another", () => {
    const sim = new Sim();
    sim.node.plug("pod", { name: "eth0", mac: "00:16:3e:00:00:02" });
    const guest = sim.guest();
    expect(make(guest).code).toBe(123);
    expect(sim.undo(guest)).toEqual([]);
    expect(names(sim)).toEqual(["lo", "eth0"]);
  });
});

describe("link_configure", () => {
  const withLink = (guest: TestGuest): JsonObject => {
    const link = guest.must("link_create", { kind: "veth" });
    guest.must("ipam_add");
    return link;
  };
  test("gives a link its sysctls, addresses and routes, and nothing of it is in the journal", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const link = withLink(guest);
    const before = guest.journal.entries.length;
    guest.must("link_configure", {
      link: link.link,
      sysctls: [
        { key: "net/ipv4/conf/<link>/arp_notify", value: "1" },
        { key: "net/ipv4/conf/<link>/rp_filter", value: "1", optional: true },
      ],
      addresses: [{ address: "10.9.0.5/24" }],
      routes: [{ dst: "0.0.0.0/0", gateway: "10.9.0.1" }],
    });
    expect(guest.journal.entries).toHaveLength(before);
    const pod = sim.pod;
    expect(pod.linkByName("eth0")?.up).toBe(true);
    expect(pod.sysctl("net/ipv4/conf/eth0/arp_notify")).toBe("1");
    expect(pod.routes({ family: 4 }).filter((r) => r.dst === undefined)).toHaveLength(1);
  });
  test.each([
    ["a sysctl that is not granted", { sysctls: [{ key: "net/ipv4/conf/<link>/rp_filter", value: "1" }] }, 121],
    ["a sysctl of something else", { sysctls: [{ key: "net/ipv4/conf/all/arp_notify", value: "1" }] }, 120],
    ["a gateway out of reach", { routes: [{ dst: "0.0.0.0/0", gateway: "10.200.0.1" }] }, 123],
  ] as const)("refuses %s", (_, more, code) => {
    const guest = new Sim().guest();
    expect(guest.code("link_configure", { link: withLink(guest).link, ...more })).toBe(code);
  });
  test("refuses the node's end, and a link that was there before", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const { peer } = withLink(guest) as { peer: JsonObject };
    expect(guest.code("link_configure", { link: peer.link })).toBe(120);
    const later = sim.guest();
    const opened = later.must("link_open", { name: "eth0" });
    expect(later.code("link_configure", { link: opened.link })).toBe(120);
  });
});

describe("what a correct guest can meet", () => {
  const sim = new Sim();
  const guest = sim.guest({ conf: { bridge: "br9", master: "uplink" } });
  const veth = guest.must("link_create", { kind: "veth", peer: { in: "host" } });
  const port = (veth.peer as JsonObject).link;
  const uplink = guest.must("link_open", { in: "host", name: "uplink" }).link;
  const bridge = guest.must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network" }).link;
  guest.must("ipam_add");
  sim.node.plug("host", { name: "eth9", mac: "00:16:3e:00:00:09" });

  test.each([
    ["an unknown handle", "link_set", { link: 99 }, 124, 'Cannot use handle "99"'],
    [
      "a node's link that nothing names",
      "link_open",
      { in: "host", name: "eth9" },
      121,
      "no key of the configuration names it",
    ],
    [
      "one that is not there either",
      "link_open",
      { in: "host", name: "eth10" },
      121,
      "no key of the configuration names it",
    ],
    [
      "a pod's link that is not there",
      "link_open",
      { name: "net7" },
      123,
      'Cannot open "net7" in the pod: no such link',
    ],
    ["a change of the parent", "link_set", { link: uplink, up: false }, 121, 'no grant "link_set" on "parent"'],
    ["an address for the parent", "addr_add", { link: uplink, address: "10.9.0.7/24" }, 121, 'on "parent"'],
    ["the network's bridge down", "link_set", { link: bridge, up: false }, 121, "the link is the network's"],
    ["the network's bridge renamed", "link_set", { link: bridge, name: "x" }, 121, "the link is the network's"],
    ["the network's bridge deleted", "link_delete", { link: bridge }, 121, 'no grant "link_delete" on "bridge"'],
    [
      "another bridge",
      "link_create",
      { kind: "bridge", in: "host", name: "br8", scope: "network" },
      121,
      "no key of the configuration names it",
    ],
    [
      "another kind under the bridge's name",
      "link_create",
      { kind: "veth", in: "host", name: "br9", scope: "network" },
      123,
      'of kind "bridge" has that name',
    ],
    [
      "the parent as the network's own link",
      "link_create",
      { kind: "veth", in: "host", name: "uplink", scope: "network", up: true },
      121,
      "the target is the node's",
    ],
    ["an own bridge on the node", "link_create", { kind: "bridge", in: "host" }, 120, '"scope"'],
    [
      "a name of its choice on the node",
      "link_create",
      { kind: "dummy", in: "host", name: "x" },
      120,
      "names on the node are derived",
    ],
    [
      "a name of its choice for the peer",
      "link_create",
      { kind: "veth", name: "y", peer: { name: "x" } },
      120,
      '"peer.name"',
    ],
    [
      "a name of its choice by link_set",
      "link_set",
      { link: port, name: "docker0" },
      120,
      "names on the node are derived",
    ],
    ["a name that is taken", "link_create", { kind: "dummy" }, 123, "EEXIST"],
    [
      "the node's address on its own port",
      "addr_add",
      { link: port, address: "192.0.2.1/24" },
      121,
      "IPAM did not give it",
    ],
    ["a default route of the node", "route_add", { link: port, dst: "0.0.0.0/0" }, 121, "IPAM did not give it"],
    [
      "a route of the node to another pod",
      "route_add",
      { link: port, dst: "10.9.0.6/32" },
      121,
      "IPAM did not give it",
    ],
    [
      "masquerade for another pod",
      "nft_apply",
      { rule: "masquerade", addresses: ["10.9.0.6/24"] },
      121,
      "not this attachment's",
    ],
    [
      "an announcement for another",
      "announce",
      { link: veth.link, addresses: ["192.0.2.1"] },
      121,
      "not this attachment's",
    ],
    [
      "a sysctl that is not listed",
      "sysctl_set",
      { key: "net/ipv4/conf/all/forwarding", value: "1" },
      121,
      'sysctl "pod:net/ipv4/conf/all/forwarding"',
    ],
    [
      "a listed one without its link",
      "sysctl_set",
      { key: "net/ipv4/conf/<link>/arp_notify", value: "1" },
      120,
      '"link"',
    ],
    ["a rule that it did not add", "rule_delete", { from: "0.0.0.0/0", table: 254 }, 121, "added no such rule"],
    [
      "a mode that is none",
      "link_create",
      { kind: "macvlan", parent: uplink, mode: "mixed", name: "z" },
      120,
      '"mode"',
    ],
    ["a macvlan of the bridge", "link_create", { kind: "macvlan", name: "z" }, 120, '"parent"'],
  ] as [string, string, JsonObject, number, string][])("%s", (_, name, request, code, words) => {
    const before = sim.dump();
    const answer = guest.call(name, request);
    expect(answer.code).toBe(code);
    expect(`${answer.msg} ${answer.details}`).toContain(words);
    expect(sim.dump()).toEqual(before);
  });

  test("a host link that the policy keeps from the network", () => {
    const strict = sim.guest({ policy: parsePolicy({ strict: true }), author: { namespace: "tenant" } });
    expect(strict.call("link_open", { in: "host", name: "uplink" })).toMatchObject({ code: 101 });
    expect(strict.must("link_list", { in: "host" })).toEqual({ links: [] });
  });
});

describe("what only a broken guest does ends it", () => {
  test.each([
    ["a request over 256 KiB", new Uint8Array((256 << 10) + 1).fill(32), "a request of 262145 bytes"],
    ["no JSON", new TextEncoder().encode("{"), "is not JSON"],
    ["a duplicate key", new TextEncoder().encode('{"in":"pod","in":"host"}'), "is not JSON"],
    ["no UTF-8", Uint8Array.of(0x22, 0xff, 0x22), "is not JSON"],
  ])("%s", (_, bytes, words) => {
    const guest = new Sim().guest();
    expect(() => guest.raw("link_list", bytes)).toThrow(GuestStop);
    expect(guest.context.stop?.message).toContain(words);
    expect(guest.context.stop?.message).toStartWith('Cannot run plugin "wide" to its end: ');
  });

  test("one call too many", () => {
    const guest = new Sim().guest({ manifest: wideManifest({ limits: { calls: 3 } }) });
    for (let i = 0; i < 3; i++) guest.must("link_list");
    expect(() => guest.call("link_list")).toThrow("more than 3 host calls");
    expect(guest.context.stop?.code).toBe(125);
  });
});

describe("the journal", () => {
  test.each([
    ["bridge", bridgeRun],
    ["macvlan", macvlanRun],
  ])("%s: every link, rule and chain is written before the kernel hears of it", (_, run) => {
    const sim = new Sim();
    const guest = sim.guest();
    const steps = (what: string): number =>
      guest.journal.entries.filter((e) => e.is === "undo" && e.step.do === what).length;
    const seen = { createLink: 0, addRule: 0, nft: 0 };
    sim.node.fault = ({ call, argument }) => {
      const name = (argument as { name?: string } | undefined)?.name;
      if (call === "createLink" && name !== "br9") expect(steps("link")).toBeGreaterThan(seen.createLink++);
      if (call === "addRule") expect(steps("rule")).toBeGreaterThan(seen.addRule++);
      if (call === "nft") expect(steps("nft")).toBeGreaterThan(seen.nft++);
      return undefined;
    };
    run(guest);
    expect(seen.createLink).toBeGreaterThan(0);
  });

  test.each([
    ["bridge", bridgeRun],
    ["macvlan", macvlanRun],
  ])("%s: whichever of its changes the kernel refuses, undo leaves nothing", (_, run) => {
    const whole = new Sim();
    whole.node.calls.length = 0;
    run(whole.guest());
    const total = whole.node.calls.length;
    expect(total).toBeGreaterThanOrEqual(3);
    for (let n = 0; n < total; n++) {
      const sim = new Sim();
      const before = sim.dump();
      const guest = sim.guest();
      let made = 0;
      sim.node.fault = () => (made++ === n ? 1 : undefined); // EPERM
      try {
        run(guest);
      } catch {
        // One call fails; the journal has all that was made before.
      }
      sim.node.fault = undefined;
      expect([n, sim.undo(guest)]).toEqual([n, []]);
      expect([n, sim.dump()]).toEqual([n, before]);
    }
  });

  test("what undo cannot do is answered, and the rest is done", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const before = sim.dump();
    bridgeRun(guest);
    sim.node.fault = ({ call }) => (call === "deleteRule" ? 1 : undefined);
    const failures = sim.undo(guest) as { readonly step: { readonly do: string } }[];
    expect(failures.map((f) => f.step.do)).toEqual(["rule"]);
    sim.node.fault = undefined;
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.dump()).toEqual(before);
  });

  test("names on the node are derived from the attachment, and no address can be guessed", () => {
    const name = (): JsonObject => {
      const veth = new Sim().guest().must("link_create", { kind: "veth", peer: { in: "host" } });
      return veth.peer as JsonObject;
    };
    const [a, b] = [name(), name()];
    expect(a.name).toBe(b.name as string);
    expect(a.name).toMatch(/^veth[0-9a-f]{11}$/);
    expect(a.mac).not.toBe(b.mac as string);
    for (const mac of [a.mac, b.mac]) expect(Number.parseInt(String(mac).slice(0, 2), 16) & 3).toBe(2);
  });

  test("notes come back to the same plugin", () => {
    const guest = new Sim().guest();
    guest.must("note_set", { key: "vf", value: "1" });
    guest.must("note_set", { key: "vf", value: "2" });
    expect(guest.must("note_get", { key: "vf" })).toEqual({ value: "2" });
    expect(guest.must("note_get", { key: "pf" })).toEqual({});
  });
});

test("the network's bridge is made once, and verified after", () => {
  const sim = new Sim();
  const request = { kind: "bridge", in: "host", name: "br9", scope: "network", up: true };
  const [first, second] = [sim.guest(), sim.guest({ attachment: { container: "c2" } })];
  expect(first.must("link_create", request)).toMatchObject({ created: true, role: "bridge" });
  expect(second.must("link_create", request)).toMatchObject({ created: false, role: "bridge" });
  expect([first.shared, second.shared]).toEqual([["bridge br9"], ["bridge br9"]]);
  expect(sim.undo(first)).toEqual([]);
  expect(sim.host.linkByName("br9")?.kind).toBe("bridge");
});

describe("checkHonest()", () => {
  const sim = new Sim();
  const guest = sim.guest({
    conf: {
      bridge: "br9",
      prevResult: {
        interfaces: [{ name: "old0" }, { name: "tap0", sandbox: "vm" }],
        ips: [{ address: "10.7.0.1/24" }],
      },
    },
  });
  const veth = guest.must("link_create", { kind: "veth", peer: { in: "host" } });
  guest.must("ipam_add");
  const pod = { name: "eth0", sandbox: "/run/netns/pod" };

  test.each([
    [
      "its own",
      {
        interfaces: [{ ...pod, mac: veth.mac }, { name: (veth.peer as JsonObject).name }],
        ips: [{ address: "10.9.0.5/24" }],
      },
    ],
    ["what the plugin before said", { interfaces: [{ name: "old0" }], ips: [{ address: "10.7.0.1/24" }] }],
    ["what it said of a virtual machine", { interfaces: [{ name: "tap0", sandbox: "vm" }] }],
    ["nothing", {}],
  ] as [string, JsonObject][])("accepts %s", (_, result) => {
    expect(() => checkHonest(guest.context, result)).not.toThrow();
  });

  test.each([
    ["another interface", { interfaces: [{ ...pod, name: "net1" }] }, 'the interface "net1"'],
    ["the node's", { interfaces: [{ name: "uplink" }] }, 'the interface "uplink"'],
    ["another pod's", { interfaces: [{ name: "eth0", sandbox: "/run/netns/other" }] }, "which is not the pod"],
    [
      "another address of its interface",
      { interfaces: [{ ...pod, mac: "02:00:00:00:00:01" }] },
      'for "eth0", which has',
    ],
    ["another pod's address", { ips: [{ address: "10.9.0.6/24" }] }, 'the IP address "10.9.0.6/24"'],
    ["an address that is none", { ips: [{ address: "x" }] }, 'the IP address "x"'],
  ] as [string, JsonObject, string][])("refuses %s", (_, result, words) => {
    expect(() => checkHonest(guest.context, result)).toThrow(CniError);
    expect(() => checkHonest(guest.context, result)).toThrow(words);
    expect(() => checkHonest(guest.context, result)).toThrow('the result of plugin "wide"');
  });
});

/** Every changing call that reaches the kernel has a target of the attachment's, of its network's, or none at all. */
test("random sequences of calls leave the node's and other pods' objects alone, and undo leaves nothing", () => {
  const random = seeded(7);
  for (let round = 0; round < 40; round++) {
    const sim = new Sim();
    const other = sim.node.netns("other");
    const stranger = sim.guest({ pod: other, attachment: { container: "c2" } });
    macvlanRun(stranger);
    bridgeRun(sim.guest({ attachment: { ifname: "first" }, manifest: wideManifest() }));
    for (let i = 0; i < 5; i++) sim.node.plug("host", { name: `can${i}`, mac: `00:16:3e:00:01:0${i}` });
    const canaries = (): unknown => [
      sim.host.links().filter((l) => /^(can|uplink)/.test(l.name)),
      other.links(),
      other.addresses(),
    ];
    const [before, was] = [sim.dump(), canaries()];
    const guest = sim.guest();
    const codes = new Set<number>();
    for (let i = 0; i < 250; i++) {
      const { name, request } = randomCall(random);
      codes.add(guest.code(name, request));
    }
    expect(codes).not.toContain(999);
    expect(canaries()).toEqual(was);
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.dump()).toEqual(before);
  }
});

/** The call table against a real kernel: what the built-ins' sequences make, and that undo leaves nothing of it. */
import { describe, expect, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import { derive } from "../../core/base/hash.ts";
import type { JsonObject } from "../../core/base/json.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { openKernel } from "../../core/kernel/real.ts";
import type { Entry } from "../../core/state/entries.ts";
import { Netns } from "../../core/sys/netns.ts";
import { DyingJournal, TestGuest, type TestGuestOptions } from "../support/guest.ts";
import { nodeNetns, TestNetns } from "../support/netns.ts";
import { randomCall, seeded } from "../support/random-calls.ts";
import { requires, root } from "../support/requires.ts";
import { difference, snapshot } from "../support/snapshot.ts";
import { undoKernelSteps } from "../support/undo.ts";

/** What is the network's, and stays: its bridge, and the gateway in a VLAN with its other end. */
const networks = ["br9", "br9.7", `veth${derive(11, "network", "br9.7")}`];

/** A node and a pod, each with a kernel. */
class Places implements Disposable {
  readonly node = nodeNetns("node");
  readonly podNs = TestNetns.create("pod");
  readonly #stack = new DisposableStack();
  readonly host: Kernel;
  readonly pod: Kernel;

  constructor() {
    this.#stack.use(this.node);
    this.#stack.use(this.podNs);
    const open = (ns: TestNetns, host: boolean): Kernel =>
      this.#stack.use(openKernel(this.#stack.use(Netns.open(parseNetnsPath(ns.path))), { host }));
    this.host = open(this.node, true);
    this.pod = open(this.podNs, false);
  }

  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ pod: this.pod, host: this.host, conf: { bridge: "br9", master: "uplink" }, ...o });
  }

  dump(): { readonly node: ReturnType<typeof snapshot>; readonly pod: ReturnType<typeof snapshot> } {
    return { node: snapshot({ netns: this.node, leaveOut: networks }), pod: snapshot({ netns: this.podNs }) };
  }

  undo(...journals: (readonly Entry[])[]): unknown[] {
    return undoKernelSteps(
      journals.map((entries) => ({ entries })),
      { pod: this.pod, host: this.host },
    );
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

const bridgeRun = (guest: TestGuest): void => {
  const bridge = guest.must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network", up: true });
  const veth = guest.must("link_create", { kind: "veth", mtu: 1400, peer: { in: "host" } });
  const port = (veth.peer as JsonObject).link;
  guest.must("link_set", { link: port, master: bridge.link, hairpin: true, isolated: true, up: true });
  guest.must("nft_apply", { rule: "mac_check", link: port, mac: veth.mac });
  const ipam = guest.must("ipam_add");
  guest.must("sysctl_set", { key: "net/ipv4/conf/<link>/arp_notify", link: veth.link, value: "1" });
  guest.must("sysctl_set", { key: "net/ipv4/conf/all/arp_notify", value: "1" });
  guest.must("addr_add", { link: veth.link, address: (ipam.ips as JsonObject[])[0]?.address });
  guest.must("link_set", { link: veth.link, up: true });
  guest.must("route_add", { link: veth.link, dst: "0.0.0.0/0", gateway: "10.9.0.1" });
  guest.must("addr_add", { link: bridge.link, address: "10.9.0.1/24", scope: "network" });
  guest.must("sysctl_set", { in: "host", key: "net/ipv4/ip_forward", value: "1" });
  guest.must("nft_apply", { rule: "masquerade", addresses: ["10.9.0.5/24"] });
  guest.must("rule_add", { from: "10.9.0.5/32", table: 100, priority: 1000 });
  expect(guest.must("link_wait", { link: port, for: "running", timeoutMs: 2000 }).ready).toBe(true);
  guest.must("announce", { link: veth.link, addresses: ["10.9.0.5"] });
};

const macvlanRun = (guest: TestGuest): void => {
  const parent = guest.must("link_open", { in: "host", name: "uplink" });
  const link = guest.must("link_create", {
    kind: "macvlan",
    parent: parent.link,
    mode: "bridge",
    mac: "02:AA:bb:cc:dd:ee",
  });
  expect(link).toMatchObject({
    name: "eth0",
    kind: "macvlan",
    mac: "02:aa:bb:cc:dd:ee",
    role: "pod-link",
    created: true,
  });
  guest.must("ipam_add");
  guest.must("addr_add", { link: link.link, address: "10.9.0.5/24" });
  guest.must("link_set", { link: link.link, up: true });
};

const loopbackRun = (guest: TestGuest): void => {
  const lo = guest.must("link_open");
  expect(lo.role).toBe("pod-link");
  guest.must("link_set", { link: lo.link, up: true });
};

const runs: readonly (readonly [string, (guest: TestGuest) => void, string])[] = [
  ["bridge", bridgeRun, "eth0"],
  ["macvlan", macvlanRun, "eth0"],
  ["loopback", loopbackRun, "lo"],
];

requires(...root)("host calls", () => {
  test.each(runs)("%s: undo leaves nothing", (_, run, ifname) => {
    using at = new Places();
    at.guest().must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network", up: true });
    at.host.nft.change([{ op: "add", what: "table", family: "inet", table: "patchbay" }]);
    const before = at.dump();
    const guest = at.guest({ attachment: { ifname } });
    run(guest);
    expect(difference(before.pod, at.dump().pod)).not.toBe("");
    expect(at.undo(guest.journal.entries)).toEqual([]);
    const after = at.dump();
    expect(ownChanges(difference(before.pod, after.pod))).toEqual([]);
    expect(ownChanges(difference(before.node, after.node))).toEqual([]);
    expect(at.undo(guest.journal.entries)).toEqual([]); // and again
  });

  test.each(runs)(
    "%s: killed at each write of the journal, undo leaves nothing",
    (_, run, ifname) => {
      using at = new Places();
      at.guest().must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network", up: true });
      const whole = at.guest({ attachment: { ifname } });
      run(whole);
      at.undo(whole.journal.entries);
      const before = at.dump();
      for (let n = 0; n <= whole.journal.entries.length; n++) {
        const journal = new DyingJournal(n);
        try {
          run(at.guest({ attachment: { ifname }, journal }));
        } catch {
          // A killed process answers nothing.
        }
        expect([n, at.undo(journal.entries)]).toEqual([n, []]);
        const after = at.dump();
        expect([n, difference(before.pod, after.pod)]).toEqual([n, ""]);
        expect([n, ownChanges(difference(before.node, after.node))]).toEqual([n, []]);
      }
    },
    120_000,
  );

  test("three attachments go in one undo, and a fourth stays", () => {
    using at = new Places();
    const guests = ["eth0", "net1", "net2", "net3"].map((ifname) => {
      const guest = at.guest({ attachment: { ifname } });
      guest.must("link_create", { kind: "veth", peer: { in: "host" } });
      return guest;
    });
    expect(at.undo(...guests.slice(0, 3).map((g) => g.journal.entries))).toEqual([]);
    expect(at.pod.links().map((l) => l.name)).toEqual(["lo", "net3"]);
    expect(at.host.links().filter((l) => l.name.startsWith("veth")).length).toBe(1);
  });

  test("a pod that renamed its link, changed its address and put another in its place does not save it", () => {
    using at = new Places();
    const guest = at.guest();
    guest.must("link_create", { kind: "veth", peer: { in: "host" } });
    at.podNs.ip("link", "set", "eth0", "name", "mine", "address", "02:00:00:00:00:01");
    at.podNs.ip("link", "add", "eth0", "type", "bridge");
    expect(at.undo(guest.journal.entries)).toEqual([]);
    expect(at.pod.links().map((l) => l.name)).toEqual(["lo", "eth0"]);
  });

  test("a link of the node that has the index of ours, and is another, stays", () => {
    using at = new Places();
    const guest = at.guest();
    guest.must("link_create", { kind: "veth", peer: { in: "host" } });
    const host = guest.journal.entries.findLast((e) => e.is === "made");
    if (host?.is !== "made") throw new Error("no facts");
    const index = Number(host.facts.index);
    at.host.deleteLink(index);
    at.node.ip("link", "add", "stranger", "index", String(index), "type", "veth", "peer", "name", "stranger2");
    expect(at.undo(guest.journal.entries)).toEqual([]);
    expect(at.host.linkByName("stranger")?.index).toBe(index);
  });

  test("without the pod's namespace what is on the node goes all the same", () => {
    using at = new Places();
    const guest = at.guest();
    bridgeRun(guest);
    const failures = undoKernelSteps([{ entries: guest.journal.entries }], { pod: undefined, host: at.host });
    expect(failures).toEqual([]);
    expect(at.host.links().filter((l) => l.name.startsWith("veth")).length).toBe(0);
    expect(at.host.nft.chains("inet", "patchbay")).toEqual(["postrouting"]);
    expect(at.host.nft.elements("inet", "patchbay", "masq4")).toEqual([]);
  });

  test("router advertisements are off on every link of the node that a guest made", () => {
    using at = new Places();
    const guest = at.guest();
    const bridge = guest.must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network", up: true });
    const veth = guest.must("link_create", { kind: "veth", up: true, peer: { in: "host" } });
    for (const name of [bridge.name, (veth.peer as JsonObject).name]) {
      expect(at.host.sysctl(`net/ipv6/conf/${name}/accept_ra`)?.trim() ?? "0").toBe("0");
    }
  });

  test("masquerade and the address check are whole, and made once", () => {
    using at = new Places();
    bridgeRun(at.guest());
    const other = at.guest({
      attachment: { ifname: "net1", network: "net2" },
      ipam: {
        ips: [{ address: "10.9.0.6/24", gateway: "10.9.0.1" }, { address: "2001:db8::6/64" }],
        routes: [],
        dns: {},
      },
    });
    other.must("ipam_add");
    const request = { rule: "masquerade", addresses: ["10.9.0.6/24", "2001:db8::6/64"] };
    expect(other.must("nft_check", request).present).toBe(false);
    other.must("nft_apply", request);
    expect(other.must("nft_check", request).present).toBe(true);
    const text = at.node.run("nft", "list", "ruleset");
    expect(text).toContain("ip saddr 10.9.0.6 ip daddr != 10.9.0.0/24 ip daddr != 224.0.0.0/4 masquerade");
    expect(text).toContain("ip6 saddr 2001:db8::6 ip6 daddr != 2001:db8::/64 ip6 daddr != ff00::/8 masquerade");
    expect(text.match(/ip saddr vmap @masq4/g)?.length).toBe(1);
    expect(text).toMatch(/ether saddr != [0-9a-f:]{17} drop/);
    expect(at.undo(other.journal.entries)).toEqual([]);
    expect(at.host.nft.elements("inet", "patchbay", "masq6")).toEqual([]);
    expect(at.host.nft.elements("inet", "patchbay", "masq4")?.length).toBe(1);
  });
});

/** What the kernel gave loopback stays on it when it goes down; the shared part of the nft tables is the node's. */
function ownChanges(text: string): string[] {
  return text
    .split("\n")
    .filter((line) => line !== "" && !/ nft|fe80|postrouting|prerouting|masq[46]|macs|127\.0\.0\./.test(line));
}

describe("the canary", () => {
  requires(...root)("in a real namespace", () => {
    test("random calls change nothing but what the attachment owns or was granted", () => {
      using at = new Places();
      for (let i = 0; i < 20; i++) {
        at.node.ip("link", "add", `can${i}`, "type", "veth", "peer", "name", `cnb${i}`);
        at.node.ip("address", "add", `172.20.${i}.1/24`, "dev", `can${i}`);
        at.node.ip("link", "set", `can${i}`, "addrgenmode", "none", "up");
        at.node.ip("link", "set", `cnb${i}`, "addrgenmode", "none", "up");
        at.node.ip("rule", "add", "from", `172.20.${i}.0/24`, "table", "77");
        at.node.ip("route", "add", `172.21.${i}.0/24`, "dev", `can${i}`);
      }
      at.node.run("nft", "add", "table", "inet", "canary");
      at.guest().must("link_create", { kind: "bridge", in: "host", name: "br9", scope: "network" });
      const before = at.dump();
      const random = seeded(20_261_123);
      const outcomes = new Map<number, number>();
      const guests = ["eth0", "net1", "net2"].map((ifname) => at.guest({ attachment: { ifname } }));
      for (let i = 0; i < 1500; i++) {
        const { name, request } = randomCall(random);
        // What a sysctl of the whole pod was comes back when ADDs follow one another, as they do, and these here do not.
        if (request.key === "net/ipv4/conf/all/arp_notify" && i % 3 !== 0) continue;
        const code = guests[i % 3]?.code(name, request) ?? 0;
        outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
      }
      expect([...outcomes.keys()]).not.toContain(999);
      expect(outcomes.get(0) ?? 0).toBeGreaterThan(20);
      const during = difference(before.node, at.dump().node);
      const links = guests.flatMap((g) => g.context.handles.links()).filter((l) => l.in === "host");
      const names = new Set(links.map((l) => l.name));
      for (const line of ownChanges(during)) {
        expect([line, [...names].some((name) => line.includes(name))]).toEqual([line, true]);
      }
      for (let i = 0; i < 20; i++) expect(during).not.toContain(`can${i} `);
      expect(at.undo(...guests.map((g) => g.journal.entries))).toEqual([]);
      const after = at.dump();
      expect(difference(before.pod, after.pod)).toBe("");
      expect(ownChanges(difference(before.node, after.node))).toEqual([]);
    }, 60_000);
  });
});

/** tc_apply and tc_check, and the node's end of a pod's interface that somebody else made, on a simulated node. */
import { describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";

class Sim {
  readonly node = new SimulatedNode();
  readonly host: Kernel = this.node.netns("host", { host: true });
  readonly pod: Kernel = this.node.netns("pod");

  /** A pod's interface that another plugin made. */
  foreign(): void {
    this.host.createLink({ kind: "veth", name: "cali0", peer: { name: "eth0", in: this.pod } });
  }
  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ pod: this.pod, host: this.host, ...o });
  }
  undo(guest: TestGuest, entries = guest.journal.entries): unknown[] {
    return undoKernelSteps([{ entries }], { pod: this.pod, host: this.host });
  }
  get limit() {
    const link = this.host.linkByName("cali0");
    return link === undefined ? undefined : this.host.rateLimit(link.index);
  }
}

const open = (guest: TestGuest): JsonObject => {
  const { link } = guest.must("link_open");
  return guest.must("link_open", { in: "host", peerOf: link });
};
const limit = { rule: "limit", rate: 1_000_000, burst: 100_000, limit: 125_000 };

describe("link_open with peerOf", () => {
  test("gives the other end of the pod's veth, whoever made it", () => {
    const sim = new Sim();
    sim.foreign();
    expect(open(sim.guest())).toMatchObject({ in: "host", name: "cali0", kind: "veth", role: "peer" });
  });
  test("one that the attachment made is its own", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const veth = guest.must("link_create", { kind: "veth" });
    const peer = guest.must("link_open", { in: "host", peerOf: veth.link });
    expect(peer).toMatchObject({ name: (veth.peer as JsonObject).name, role: "own" });
  });
  test("nothing else can be done with it", () => {
    const sim = new Sim();
    sim.foreign();
    const guest = sim.guest();
    const { link } = open(guest);
    for (const [call, more] of [
      ["link_delete", {}],
      ["link_set", { up: false }],
      ["addr_add", { address: "10.9.0.5/24" }],
      ["link_move", { to: "pod" }],
    ] as const) {
      expect([call, guest.code(call, { link, ...more })]).toEqual([call, 121]);
    }
  });
  test.each([
    [
      "a pair with both ends in the pod",
      (s: Sim) => s.pod.createLink({ kind: "veth", name: "eth0", peer: { name: "x" } }),
    ],
    ["no veth", (s: Sim) => s.pod.createLink({ kind: "dummy", name: "eth0" })],
    [
      "an end with another pod, whose number is a link's of the node",
      (s: Sim) => {
        s.host.createLink({ kind: "veth", name: "a", peer: { name: "b" } });
        s.node.netns("p2").createLink({ kind: "veth", name: "c", peer: { name: "eth0", in: s.pod } });
      },
    ],
  ])("refuses %s", (_, make) => {
    const sim = new Sim();
    make(sim);
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    expect(guest.call("link_open", { in: "host", peerOf: link })).toMatchObject({
      code: 123,
      msg: 'Cannot open the other end of "eth0" in the node: no such link',
    });
    expect(guest.code("link_open", { peerOf: link })).toBe(120);
  });
});

describe("tc_apply", () => {
  test("limits a link in the kernel's ticks, tc_check agrees, and undo takes it away", () => {
    const sim = new Sim();
    sim.foreign();
    const guest = sim.guest();
    const { link } = open(guest);
    expect(guest.must("tc_check", { link, ...limit })).toEqual({ present: false });
    guest.must("tc_apply", { link, ...limit });
    expect(sim.limit).toEqual({ rate: 1_000_000, buffer: 1_562_500, limit: 125_000 });
    expect(guest.must("tc_check", { link, ...limit })).toEqual({ present: true });
    for (const other of [{ rate: 999_999 }, { burst: 99_999 }, { limit: 1 }]) {
      expect(guest.must("tc_check", { link, ...limit, ...other })).toEqual({ present: false });
    }
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.limit).toBeUndefined();
    expect(sim.undo(guest)).toEqual([]);
  });
  test("a burst longer than the kernel can be told is as long as that", () => {
    const sim = new Sim();
    sim.foreign();
    const guest = sim.guest();
    const { link } = open(guest);
    const huge = { ...limit, rate: 125, burst: 536_870_911 };
    guest.must("tc_apply", { link, ...huge });
    expect(sim.limit?.buffer).toBe(4_294_967_295);
    expect(guest.must("tc_check", { link, ...huge })).toEqual({ present: true });
  });
  test("on what goes with the attachment nothing is in the journal", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const ifb = guest.must("link_create", { kind: "ifb", in: "host", up: true });
    const veth = guest.must("link_create", { kind: "veth" });
    const link = (veth.peer as JsonObject).link;
    const before = guest.journal.entries.length;
    guest.must("tc_apply", { link: ifb.link, ...limit });
    guest.must("tc_apply", { link, rule: "redirect", to: ifb.link });
    expect(guest.must("tc_check", { link, rule: "redirect", to: ifb.link })).toEqual({ present: true });
    expect(guest.must("tc_check", { link: ifb.link, rule: "redirect", to: link })).toEqual({ present: false });
    expect(guest.journal.entries).toHaveLength(before);
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.host.links().map((l) => l.name)).toEqual(["lo"]);
  });
  test("what somebody else limits stays limited, after the undo too", () => {
    const sim = new Sim();
    sim.foreign();
    const first = sim.guest();
    first.must("tc_apply", { link: open(first).link, ...limit });
    const guest = sim.guest({ attachment: { container: "c2" } });
    expect(guest.call("tc_apply", { link: open(guest).link, ...limit })).toMatchObject({
      code: 123,
      msg: 'Cannot apply the rule "limit" to "cali0": it has a queueing discipline already',
    });
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.limit).toBeDefined();
  });
  test("a link that has the number of ours by now is left alone", () => {
    const sim = new Sim();
    sim.foreign();
    const guest = sim.guest();
    const { link } = open(guest);
    guest.must("tc_apply", { link, ...limit });
    const peer = sim.host.linkByName("cali0");
    sim.host.setLink(peer?.index ?? 0, { mac: "02:00:00:00:00:77" });
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.limit).toBeDefined();
  });
  test.each([
    ["no rate", { rule: "limit", burst: 1000, limit: 1000 }, '"rate"'],
    ["no burst", { rule: "limit", rate: 1000, limit: 1000 }, '"burst"'],
    ["no limit", { rule: "limit", rate: 1000, burst: 1000 }, '"limit"'],
    ["a burst too short to measure", { ...limit, burst: 1, rate: 1e12 }, "within 1 µs"],
    ["no target", { rule: "redirect" }, '"to"'],
    ["a target that is another's", { rule: "redirect", to: 2 }, '"to"'],
  ] as const)("refuses %s before anything is done", (_, request, words) => {
    const sim = new Sim();
    sim.foreign();
    const guest = sim.guest();
    const { link } = open(guest);
    const answer = guest.call("tc_apply", { link, ...request });
    expect(answer.code).toBe(120);
    expect(answer.msg).toContain(words);
    expect(guest.journal.entries).toEqual([]);
  });
});

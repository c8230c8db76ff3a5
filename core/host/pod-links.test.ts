/** VRFs, which the attachments of a pod share, on a simulated node. */
import { describe, expect, test } from "bun:test";
import { TestGuest } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";

class Sim {
  readonly node = new SimulatedNode();
  readonly host: Kernel = this.node.netns("host", { host: true });
  readonly pod: Kernel = this.node.netns("pod");

  guest(ifname: string, vrfname = "red"): TestGuest {
    const attachment = { container: "c1", network: ifname, ifname };
    return new TestGuest({ pod: this.pod, host: this.host, conf: { vrfname }, attachment });
  }
  /** An interface of its own in the VRF. */
  join(guest: TestGuest, table = 10): JsonObject {
    const link = guest.must("link_create", { kind: "dummy" });
    const vrf = guest.must("link_create", { kind: "vrf", scope: "pod", name: "red", table, up: true });
    guest.must("link_set", { link: link.link, master: vrf.link });
    return vrf;
  }
  undo(...guests: TestGuest[]): unknown[] {
    return undoKernelSteps(
      guests.map((guest) => ({ entries: guest.journal.entries })),
      { pod: this.pod, host: this.host },
    );
  }
  get names(): string[] {
    return this.pod.links().map((l) => l.name);
  }
}

describe("a VRF of the pod", () => {
  test.each([[[0, 1]], [[1, 0]]])("is made once, and goes with its last member: %p", (order) => {
    const sim = new Sim();
    const guests = [sim.guest("net1"), sim.guest("net2")];
    expect(guests.map((guest) => sim.join(guest).created)).toEqual([true, false]);
    for (const [i, n] of order.entries()) {
      expect(sim.undo(guests[n] ?? sim.guest("net3"))).toEqual([]);
      expect(sim.names.includes("red")).toBe(i === 0);
    }
    expect(sim.names).toEqual(["lo"]);
  });
  test("goes with all of them at once", () => {
    const sim = new Sim();
    const guests = [sim.guest("net1"), sim.guest("net2")];
    for (const guest of guests) sim.join(guest);
    expect(sim.undo(...guests)).toEqual([]);
    expect(sim.names).toEqual(["lo"]);
  });
  test("that was only begun goes too, and twice is harmless", () => {
    const sim = new Sim();
    const guest = sim.guest("net1");
    guest.must("link_create", { kind: "vrf", scope: "pod", name: "red", table: 10 });
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.names).toEqual(["lo"]);
    expect(sim.undo(guest)).toEqual([]);
  });
  test("that the pod made itself is used, and stays", () => {
    const sim = new Sim();
    sim.pod.createLink({ kind: "vrf", name: "red", table: 10, mac: "02:00:00:00:00:01" });
    const guest = sim.guest("net1");
    expect(sim.join(guest).created).toBe(false);
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.names).toEqual(["lo", "red"]);
  });
  test("with another table, or a link of another kind, is refused", () => {
    const sim = new Sim();
    sim.join(sim.guest("net1"));
    const guest = sim.guest("net2");
    expect(guest.code("link_create", { kind: "vrf", scope: "pod", name: "red", table: 11 })).toBe(123);
    sim.pod.createLink({ kind: "dummy", name: "blue" });
    const other = sim.guest("net3", "blue");
    expect(other.code("link_create", { kind: "vrf", scope: "pod", name: "blue", table: 12 })).toBe(123);
  });
  test("is one that the configuration names", () => {
    const sim = new Sim();
    const guest = sim.guest("net1");
    expect(guest.code("link_create", { kind: "vrf", scope: "pod", name: "blue", table: 10 })).toBe(121);
    expect(guest.code("link_create", { kind: "vrf", scope: "pod", in: "host", name: "red", table: 10 })).toBe(120);
    expect(guest.code("link_create", { kind: "dummy", scope: "pod", name: "red" })).toBe(120);
    expect(sim.names).toEqual(["lo"]);
  });
});

/** Links that have their parent's address, on a simulated node: they are known by another mark, and never by a name. */
import { describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel, LinkSpec } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import type { Entry } from "../state/entries.ts";

class Sim {
  readonly node = new SimulatedNode();
  readonly host: Kernel = this.node.netns("host", { host: true });
  readonly pod: Kernel = this.node.netns("pod");
  readonly uplink = this.node.plug("host", { name: "uplink", mac: "00:16:3e:00:00:01" });
  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ pod: this.pod, host: this.host, conf: { master: "uplink" }, ...o });
  }
  create(guest: TestGuest, request: JsonObject): JsonObject {
    const parent = guest.must("link_open", { in: "host", name: "uplink" });
    return guest.call("link_create", { ...request, parent: parent.link });
  }
  undo(entries: readonly Entry[]): unknown[] {
    return undoKernelSteps([{ entries }], { pod: this.pod, host: this.host });
  }
  get names(): string[] {
    return [this.host, this.pod].flatMap((kernel) => kernel.links().map((l) => l.name));
  }
}

const kinds: [string, JsonObject, object][] = [
  ["ipvlan", { kind: "ipvlan", mode: "l3" }, { mode: "l3" }],
  ["vlan", { kind: "vlan", vlan: 100 }, { vlanId: 100 }],
  ["passthru macvlan", { kind: "macvlan", mode: "passthru" }, { mode: "passthru" }],
];

describe.each(kinds)("%s", (_, request, data) => {
  const spec = (sim: Sim, name: string, more: object = {}): LinkSpec => {
    const own = request.kind === "vlan" ? { id: 7 } : { mode: request.kind === "ipvlan" ? "l3" : "bridge" };
    return { kind: request.kind, name, parent: sim.uplink.index, ...own, ...more } as LinkSpec;
  };
  const uplinks = ["lo", "uplink"];

  test("is made, is in no group, and goes", () => {
    const sim = new Sim();
    const guest = sim.guest();
    expect(sim.create(guest, request)).toMatchObject({ name: "eth0", role: "pod-link" });
    expect(sim.pod.linkByName("eth0")).toMatchObject({ group: 0, data });
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.names).toEqual([...uplinks, "lo"]);
  });

  test("what was not written down before a kill is found by its group", () => {
    const sim = new Sim();
    const guest = sim.guest();
    sim.node.fault = ({ call, namespace }) => (call === "setLink" && namespace === "pod" ? 1 : undefined);
    expect(sim.create(guest, request).code).toBe(123);
    sim.node.fault = undefined;
    expect(sim.pod.linkByName("eth0")?.group).toBeGreaterThan(0xffff);
    expect(sim.undo(guest.journal.entries.filter((e) => e.is !== "made"))).toEqual([]);
    expect(sim.names).toEqual([...uplinks, "lo"]);
  });

  test("a link of the node or of the pod with its name and kind is not its own", () => {
    for (const where of ["host", "pod"] as const) {
      const sim = new Sim();
      sim.host.createLink(spec(sim, "eth0", { in: sim[where] }));
      const guest = sim.guest();
      sim.node.fault = ({ call }) => (call === "createLink" ? 17 : undefined);
      expect(sim.create(guest, request).code).toBe(123);
      sim.node.fault = undefined;
      expect(sim.undo(guest.journal.entries)).toEqual([]);
      expect(sim[where].linkByName("eth0")?.kind).toBe(String(request.kind));
    }
  });

  test("is born under another name where the node uses its own", () => {
    const sim = new Sim();
    const guest = sim.guest();
    sim.node.fault = ({ call, argument }) =>
      call === "createLink" && (argument as { name: string }).name === "eth0" ? 17 : undefined;
    expect(sim.create(guest, request).name).toBe("eth0");
    expect(sim.names).toEqual([...uplinks, "lo", "eth0"]);
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.names).toEqual([...uplinks, "lo"]);
  });
});

describe("link_create", () => {
  test("makes a VRF with its table", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const made = guest.must("link_create", { kind: "vrf", name: "blue", table: 1001, up: true });
    expect(made).toMatchObject({ name: "blue", kind: "vrf", data: { table: 1001 }, role: "own", up: true });
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.names).toEqual(["lo", "uplink", "lo"]);
  });

  test.each([
    ["a macvlan in a mode of ipvlan", { kind: "macvlan", mode: "l2" }, '"mode"'],
    ["an ipvlan in a mode of macvlan", { kind: "ipvlan", mode: "vepa" }, '"mode"'],
    ["a VLAN in a mode", { kind: "vlan", vlan: 1, mode: "l2" }, '"mode"'],
    ["an ipvlan with an address", { kind: "ipvlan", mac: "02:00:00:00:00:01" }, '"mac"'],
    ["a VLAN without number", { kind: "vlan" }, '"vlan"'],
    ["a VLAN beyond the last", { kind: "vlan", vlan: 4095 }, '"vlan"'],
  ] as [string, JsonObject, string][])("refuses %s", (_, request, words) => {
    const sim = new Sim();
    const guest = sim.guest();
    expect(sim.create(guest, request)).toMatchObject({ code: 120, msg: expect.stringContaining(words) });
    expect(guest.journal.entries).toEqual([]);
  });

  test.each([
    ["a VRF without table", { kind: "vrf", name: "blue" }, '"table"'],
    ["an ipvlan without parent", { kind: "ipvlan" }, '"parent"'],
    ["a VLAN without parent", { kind: "vlan", vlan: 5 }, '"parent"'],
  ] as [string, JsonObject, string][])("refuses %s", (_, request, words) => {
    const guest = new Sim().guest();
    expect(guest.call("link_create", request)).toMatchObject({ code: 120, msg: expect.stringContaining(words) });
  });
});

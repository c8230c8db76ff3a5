/** Routes, rules and tables of a pod whose interface another plugin made, on a simulated node. */
import { describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import { formatCidr, formatIp, parseCidr, parseIp } from "../base/ip.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel, Route } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import type { Entry } from "../state/entries.ts";

const cidr = (text: string) => parseCidr(text) ?? raise(text);
const ip = (text: string) => parseIp(text) ?? raise(text);
function raise(text: string): never {
  throw new Error(`cannot read "${text}"`);
}

class Sim {
  readonly node = new SimulatedNode();
  readonly host: Kernel = this.node.netns("host", { host: true });
  readonly pod: Kernel = this.node.netns("pod");
  readonly index: number;

  constructor() {
    this.host.createLink({ kind: "veth", name: "cali0", peer: { name: "eth0", in: this.pod } });
    this.index = this.pod.linkByName("eth0")?.index ?? raise("eth0");
    this.pod.addAddress(this.index, { address: cidr("10.9.0.5/24") });
    this.pod.setLink(this.index, { up: true });
    this.pod.addRoute({ family: 4, index: this.index, gateway: ip("10.9.0.1"), priority: 7, mtu: 1400 });
  }
  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ pod: this.pod, host: this.host, ...o });
  }
  undo(entries: readonly Entry[]): unknown[] {
    return undoKernelSteps([{ entries }], { pod: this.pod, host: this.host });
  }
  get routes(): string[] {
    return this.pod.routes({ family: 4, index: this.index }).map(show).sort();
  }
}
const show = (r: Route): string =>
  [
    r.dst === undefined ? "default" : formatCidr(r.dst),
    r.gateway === undefined ? "" : `via ${formatIp(r.gateway)}`,
    `table ${r.table} metric ${r.priority ?? 0} mtu ${r.mtu ?? 0} proto ${r.protocol}`,
  ].join(" ");

describe("route_delete", () => {
  test("a route that another plugin made comes back with the undo, as it was", () => {
    const sim = new Sim();
    const before = sim.routes;
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    expect(guest.must("route_delete", { link, dst: "0.0.0.0/0" })).toEqual({ was: true });
    expect(guest.must("route_delete", { link, dst: "10.9.0.0/24", priority: 0 })).toEqual({ was: true });
    expect(guest.must("route_delete", { link, dst: "0.0.0.0/0" })).toEqual({ was: false });
    expect(sim.routes).toEqual([]);
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.routes).toEqual(before);
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.routes).toEqual(before);
  });
  test("takes the one that is meant", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    for (const more of [{ gateway: "10.9.0.2" }, { priority: 8 }, { table: 100 }, { source: "10.9.0.5" }]) {
      expect(guest.must("route_delete", { link, dst: "0.0.0.0/0", ...more })).toEqual({ was: false });
    }
    expect(guest.journal.entries).toEqual([]);
  });
  test("a link that is gone by then, or cannot take the route, keeps no undo from going on", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    guest.must("route_delete", { link, dst: "0.0.0.0/0" });
    sim.pod.deleteLink(sim.index);
    expect(sim.undo(guest.journal.entries)).toEqual([]);
  });
  test("what the attachment's own link loses is not kept", () => {
    const sim = new Sim();
    const guest = sim.guest({ attachment: { ifname: "net1" } });
    const { link } = guest.must("link_create", { kind: "dummy" });
    guest.must("addr_add", { link, address: "10.8.0.5/24" });
    guest.must("link_set", { link, up: true });
    const written = guest.journal.entries.length;
    expect(guest.must("route_delete", { link, dst: "10.8.0.0/24" })).toEqual({ was: true });
    expect(guest.journal.entries.length).toBe(written);
  });
});

describe("route_add", () => {
  test("a route that was there before is not taken away by the undo", () => {
    const sim = new Sim();
    const before = sim.routes;
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    expect(guest.code("route_add", { link, dst: "0.0.0.0/0", gateway: "10.9.0.1", priority: 7 })).toBe(123);
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.routes).toEqual(before);
  });
  test("a copy has whatever route_list says of the original", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    for (const route of guest.must("route_list", { link }).routes as JsonObject[]) {
      guest.must("route_add", { ...route, link, table: 100 });
    }
    const [original, copies] = [254, 100].map((table) => sim.routes.filter((r) => r.includes(`table ${table} `)));
    expect(copies?.map((r) => r.replace("table 100", "table 254"))).toEqual(original ?? []);
    expect(sim.undo(guest.journal.entries)).toEqual([]);
    expect(sim.routes).toEqual(original ?? []);
  });
});

describe("rule_list", () => {
  test("says which of the attachment's own rules are there", () => {
    const sim = new Sim();
    const guest = sim.guest();
    expect(guest.must("rule_list")).toEqual({ rules: [] });
    sim.pod.addRule({ family: 4, table: 5, from: cidr("10.9.0.9/32") });
    for (const table of [100, 101]) guest.must("rule_add", { from: "10.9.0.5/32", table });
    const listed = guest.must("rule_list").rules as JsonObject[];
    expect(listed.map((r) => [r.from, r.table])).toEqual([
      ["10.9.0.5/32", 100],
      ["10.9.0.5/32", 101],
    ]);
    guest.must("rule_delete", listed[0] ?? {});
    const [rule] = sim.pod.rules(4).filter((r) => r.table === 101);
    sim.pod.deleteRule(rule ?? raise("rule"));
    expect(guest.must("rule_list")).toEqual({ rules: [] });
  });
});

describe("table_find", () => {
  test("passes over what routes and rules of the pod use, and the kernel's own", () => {
    const sim = new Sim();
    const guest = sim.guest();
    expect(guest.must("table_find", { from: 100 })).toEqual({ table: 100 });
    sim.pod.addRule({ family: 6, table: 100, from: cidr("fd00::5/128") });
    sim.pod.addRoute({ family: 4, index: sim.index, dst: cidr("10.7.0.0/24"), table: 101 });
    expect(guest.must("table_find", { from: 100 })).toEqual({ table: 102 });
    expect(guest.must("table_find", { from: 252 })).toEqual({ table: 256 });
    expect(guest.code("table_find", { from: 0 })).toBe(120);
  });
});

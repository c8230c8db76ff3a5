import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import type { DurableRecord } from "./durable.ts";
import { Scratch } from "./support.ts";

const key = "0123456789abcdef";
const record: Omit<DurableRecord, "format" | "bootId"> = {
  container: "c1",
  key,
  plugin: 0,
  network: "net",
  ifname: "eth0",
  type: "calico",
  how: "binary",
  netns: "/run/netns/x",
  config: { cniVersion: "1.0.0", name: "net", type: "calico", unknown: { deep: [1, "ü"] } },
  args: "IgnoreUnknown=1;K8S_POD_NAME=p",
  path: "/opt/cni/bin",
};

describe("Durable", () => {
  test("keeps all that a delegate's DEL needs, over a boot, and nothing after it", () => {
    using scratch = new Scratch();
    const { durable } = scratch.store();
    expect(durable.list()).toEqual([]);
    durable.put(record);
    durable.put({ ...record, container: "c1.x", plugin: 1 });
    durable.putResult(record, { ips: [] });
    expect(durable.get(record)).toMatchObject({ ...record, earlierBoot: false, result: { ips: [] } });
    const later = scratch.store("ffffffff-1").durable;
    expect(later.list("c1")).toMatchObject([{ ...record, earlierBoot: true, result: { ips: [] } }]);
    expect(later.list().map((r) => r.container)).toEqual(["c1.x", "c1"]);
    expect(later.remove(record)).toBe(true);
    expect(later.remove(record)).toBe(false);
    expect(later.remove({ ...record, container: "c1.x", plugin: 1 })).toBe(true);
    expect(scratch.files()).toEqual([]);
  });

  test("removes what a killed writer left of a record and of its result", () => {
    using scratch = new Scratch();
    const { durable } = scratch.store();
    durable.put(record);
    for (const kind of ["record", "result"]) writeFileSync(`${scratch.path}/lib/records/.c1@${key}-0.${kind}.new`, "");
    expect(durable.remove(record)).toBe(true);
    expect(readdirSync(`${scratch.path}/lib/records`)).toEqual([]);
  });

  test("sweeps what a power failure cut short, and leaves a writer of now alone", () => {
    using scratch = new Scratch();
    const { durable } = scratch.store();
    durable.sweep();
    durable.put(record);
    const records = `${scratch.path}/lib/records`;
    const names = [".c9@x-0.record.new", ".c8@x-0.record.new"] as const;
    for (const name of names) writeFileSync(`${records}/${name}`, "");
    utimesSync(`${records}/${names[0]}`, 1, 1);
    durable.sweep();
    expect(readdirSync(records).sort()).toEqual([names[1], `c1@${key}-0.record`]);
  });

  test("a record cut at any byte is quarantined, a result cut short is left out", () => {
    using scratch = new Scratch();
    const { durable } = scratch.store();
    durable.put(record);
    durable.putResult(record, { ips: [] });
    const base = `${scratch.path}/lib/records/c1@${key}-0`;
    const [whole, result] = [readFileSync(`${base}.record`), readFileSync(`${base}.result`)];
    for (let length = 0; length < result.length; length++) {
      writeFileSync(`${base}.result`, result.subarray(0, length));
      expect(durable.get(record)).not.toHaveProperty("result");
    }
    for (let length = 0; length < whole.length; length++) {
      writeFileSync(`${base}.record`, whole.subarray(0, length));
      expect(durable.list()).toEqual([]);
    }
    expect(scratch.files("lib/quarantine")).toEqual([`c1@${key}-0.record`]);
    expect(durable.remove(record)).toBe(false);
    expect(scratch.files("lib/records")).toEqual([]);
  });
});

describe("NetworkObjects", () => {
  const one = { container: "c1", key };
  const two = { container: "c-2", key: "fedcba9876543210" };

  test("lists objects with their attachments, and keeps an object that none uses", () => {
    using scratch = new Scratch();
    const { networks } = scratch.store();
    expect(networks.list()).toEqual([]);
    networks.use("bridge", "cni0", one, { network: "net", made: true });
    networks.use("bridge", "cni0", two, { network: "net", made: false });
    networks.use("bridge", "cni0", two, {});
    networks.use("sysctl", "net/ipv4/ip_forward", one, { former: "0" });
    expect(networks.list()).toEqual([
      { kind: "bridge", name: "cni0", facts: { network: "net", made: true }, attachments: [two, one] },
      { kind: "sysctl", name: "net/ipv4/ip_forward", facts: { former: "0" }, attachments: [one] },
    ]);
    expect(networks.leave("bridge", "cni0", one)).toBe(true);
    expect(networks.leave("bridge", "cni0", one)).toBe(false);
    expect(networks.leave("bridge", "none", one)).toBe(false);
    expect(networks.forget("bridge", "cni0", () => {})).toBe(false);
    expect(networks.leave("bridge", "cni0", two)).toBe(true);
    expect(networks.find("bridge", "cni0")?.attachments).toEqual([]);
    expect(scratch.files("run/0123abcd-4/networks")).toContain("bridge@cni0/object");
  });

  test("forgets an unused object once it is gone", () => {
    using scratch = new Scratch();
    const { networks } = scratch.store();
    networks.use("bridge", "cni0", one, {});
    networks.leave("bridge", "cni0", one);
    const fail = (): never => {
      throw new Error("still there");
    };
    expect(() => networks.forget("bridge", "cni0", fail)).toThrow("still there");
    expect(networks.find("bridge", "cni0")).toBeDefined();
    expect(networks.forget("bridge", "cni0", () => {})).toBe(true);
    expect(networks.forget("bridge", "cni0", fail)).toBe(false);
    expect(scratch.files()).toEqual([]);
  });

  test("leaves no directory without a record, as a killed use() or forget() does", () => {
    using scratch = new Scratch();
    const { networks } = scratch.store();
    networks.use("bridge", "cni0", one, {});
    rmSync(`${scratch.path}/run/0123abcd-4/networks/bridge@cni0/object`);
    networks.leave("bridge", "cni0", one);
    expect(readdirSync(`${scratch.path}/run/0123abcd-4/networks`)).toEqual([]);
  });

  test("a damaged record loses its facts, not its attachments", () => {
    using scratch = new Scratch();
    const { networks } = scratch.store();
    networks.use("bridge", "cni0", one, { network: "net" });
    writeFileSync(`${scratch.path}/run/0123abcd-4/networks/bridge@cni0/object`, "");
    expect(networks.find("bridge", "cni0")).toEqual({ kind: "bridge", name: "cni0", facts: {}, attachments: [one] });
  });
});

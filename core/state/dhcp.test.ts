import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { DhcpLeases, type DhcpRecord } from "./dhcp.ts";

const directory = mkdtempSync("/tmp/patchbay-dhcp-");
afterAll(() => rmSync(directory, { recursive: true }));
let made = 0;
const fresh = (): string => `${directory}/${made++}`;
const open = (at: string, boot = "boot-1"): DhcpLeases => new DhcpLeases(`${at}/lib`, `${at}/run`, boot);

const record: Omit<DhcpRecord, "format" | "bootId"> = {
  container: "c1",
  network: "lan",
  ifname: "net1",
  journal: true,
  netns: { path: "/run/netns/x", cookie: "7" },
  link: { index: 2, mac: "02:00:00:00:00:01" },
  client: { id: "0063", requested: [1, 3], provided: [[12, "41"]] },
  state: "bound",
  address: "10.0.0.5/24",
  server: "10.0.0.1",
  serverMac: "02:00:00:00:00:09",
  askedMs: 1000,
  times: { lease: 600, renew: 300, rebind: 525 },
  result: { ips: [] },
  timeServers: [],
};

describe("DhcpLeases", () => {
  test("a record is found by its attachment, and by whoever comes after a restart or a reboot", () => {
    const at = fresh();
    expect(open(at).get(record)).toBeUndefined();
    expect(open(at).list()).toEqual([]);
    open(at).put(record);
    open(at).put({ ...record, ifname: "net2" });
    open(at).put({ ...record, container: "c2" });
    expect(open(at).get(record)).toEqual({ ...record, format: 1, bootId: "boot-1", earlierBoot: false });
    expect(
      open(at)
        .list("c1")
        .map((found) => found.ifname),
    ).toEqual(expect.arrayContaining(["net1", "net2"]));
    expect(open(at).list().length).toBe(3);
    expect(open(at, "boot-2").get(record)?.earlierBoot).toBe(true);
    expect(open(at).get({ ...record, network: "other" })).toBeUndefined();
  });

  test("alone() changes, removes or leaves what is there, and does nothing where there is nothing", () => {
    const at = fresh();
    const leases = open(at);
    let seen = 0;
    leases.alone(record, () => void seen++ as undefined);
    leases.put(record);
    leases.alone(record, (now) => ({ ...now, state: "expired" }));
    expect(leases.get(record)).toMatchObject({ state: "expired", bootId: "boot-1" });
    leases.alone(record, () => undefined);
    expect(leases.get(record)?.state).toBe("expired");
    expect(() =>
      leases.alone(record, () => {
        throw new RangeError("mine");
      }),
    ).toThrow("mine");
    leases.alone(record, () => "remove");
    expect(leases.get(record)).toBeUndefined();
    leases.alone(record, () => void seen++ as undefined);
    expect(seen).toBe(0);
    expect(readdirSync(`${at}/lib/dhcp`)).toEqual([]);
  });

  test.each([
    ["cut short", (text: string) => text.slice(0, -4)],
    ["changed", (text: string) => text.replace("10.0.0.5", "10.0.0.6")],
    ["empty", () => ""],
  ])("a record that is %s is put aside, and the others count", (_, damage) => {
    const at = fresh();
    open(at).put(record);
    const [name = ""] = readdirSync(`${at}/lib/dhcp`);
    const path = `${at}/lib/dhcp/${name}`;
    writeFileSync(path, damage(readFileSync(path, "utf8")));
    open(at).put({ ...record, container: "c2" });
    expect(
      open(at)
        .list()
        .map((found) => found.container),
    ).toEqual(["c2"]);
    expect(readdirSync(`${at}/lib/quarantine`)).toEqual([name]);
    expect(open(at).get(record)).toBeUndefined();
  });

  test("a record under another's name is put aside", () => {
    const at = fresh();
    open(at).put(record);
    const [name = ""] = readdirSync(`${at}/lib/dhcp`);
    writeFileSync(`${at}/lib/dhcp/${name.replace("c1", "c9")}`, readFileSync(`${at}/lib/dhcp/${name}`));
    expect(
      open(at)
        .list()
        .map((found) => found.container),
    ).toEqual(["c1"]);
  });

  test("one renews at a time, and nobody does when it has ended", () => {
    const at = fresh();
    expect(open(at).isRenewed).toBe(false);
    {
      using first = open(at).becomeRenewer();
      expect(first).toBeDefined();
      expect(open(at).isRenewed).toBe(true);
      using second = open(at).becomeRenewer();
      expect(second).toBeUndefined();
    }
    expect(open(at).isRenewed).toBe(false);
    using again = open(at).becomeRenewer();
    expect(again).toBeDefined();
  });

  test("version() changes with the records", () => {
    const at = fresh();
    const before = open(at).version();
    open(at).put(record);
    expect(open(at).version()).not.toBe(before);
  });
});

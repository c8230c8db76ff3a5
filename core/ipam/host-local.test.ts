import { describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import type { CniError } from "../base/error.ts";
import type { Json, JsonObject } from "../base/json.ts";
import type { Entry, UndoStep } from "../state/entries.ts";
import type { UndoLog } from "../state/journal.ts";
import { ReferenceLeases } from "../state/reference-leases.ts";
import type { Store } from "../state/store.ts";
import { Scratch } from "../state/support.ts";
import { dataDirOf, hostLocal, poolName } from "./host-local.ts";
import type { IpamRequest } from "./ipam.ts";

const LEASES = "run/0123abcd-4/leases";
const SUBNET = { subnet: "10.1.0.0/24" };

function request(ipam: JsonObject, more: Partial<IpamRequest> & { conf?: JsonObject } = {}): IpamRequest {
  return {
    command: "ADD",
    network: "net",
    containerId: "c1",
    ifname: "eth0",
    cookie: "77",
    args: new Map(),
    runtimeConfig: {},
    nodeFiles: true,
    ...more,
    conf: { cniVersion: "1.1.0", name: "net", ipam: { type: "host-local", ...ipam }, ...more.conf },
  };
}

/** A journal in memory. */
class Undo implements UndoLog {
  readonly entries: Entry[] = [];
  intend(step: UndoStep): number {
    const id = this.entries.length + 1;
    this.entries.push({ is: "undo", id, step });
    return id;
  }
  undone(id: number): void {
    this.entries.push({ is: "undone", id });
  }
}

function add(store: Store, ipam: JsonObject, more: Parameters<typeof request>[1] = {}, journal: UndoLog = new Undo()) {
  return hostLocal.add(request(ipam, more), journal, store.leases);
}

function addresses(store: Store, ipam: JsonObject, more: Parameters<typeof request>[1] = {}): string[] {
  return add(store, ipam, more).ips.map((ip) => `${ip.address} ${ip.gateway}`);
}

function failure(run: () => unknown): { code: number; message: string } {
  try {
    run();
  } catch (thrown) {
    const { code, message } = thrown as CniError;
    return { code, message };
  }
  throw new Error("nothing was thrown");
}

const ips = (...list: string[]): Json => ({ cni: { ips: list } });

describe("host-local gives", () => {
  const rows: [string, JsonObject, Parameters<typeof request>[1], string[]][] = [
    ["the first address that is no gateway", SUBNET, {}, ["10.1.0.2/24 10.1.0.1"]],
    ["IPv6", { subnet: "fd00::/64" }, {}, ["fd00::2/64 fd00::1"]],
    ["from a range", { ...SUBNET, rangeStart: "10.1.0.20", rangeEnd: "10.1.0.30" }, {}, ["10.1.0.20/24 10.1.0.1"]],
    [
      "past a gateway in the range",
      { ...SUBNET, rangeStart: "10.1.0.20", gateway: "10.1.0.20" },
      {},
      ["10.1.0.21/24 10.1.0.20"],
    ],
    ["with a gateway of another subnet", { ...SUBNET, gateway: "10.9.0.1" }, {}, ["10.1.0.1/24 10.9.0.1"]],
    [
      "one of each set, the range of the object's own keys first",
      { ...SUBNET, ranges: [[{ subnet: "fd00::/64" }], [{ subnet: "10.2.0.0/24" }, { subnet: "10.3.0.0/24" }]] },
      {},
      ["10.1.0.2/24 10.1.0.1", "fd00::2/64 fd00::1", "10.2.0.2/24 10.2.0.1"],
    ],
    [
      "the capability's ranges before the configuration's",
      SUBNET,
      { runtimeConfig: { ipRanges: [[{ subnet: "10.5.0.0/24" }]] } },
      ["10.5.0.2/24 10.5.0.1", "10.1.0.2/24 10.1.0.1"],
    ],
    [
      "the capability's ranges in a runtime's own spelling",
      {},
      { runtimeConfig: { IPRanges: [[{ Subnet: "10.5.0.0/24", RangeStart: "10.5.0.9", Gateway: null }]] } },
      ["10.5.0.9/24 10.5.0.1"],
    ],
    ["the address of CNI_ARGS", SUBNET, { args: new Map([["IP", "10.1.0.9"]]) }, ["10.1.0.9/24 10.1.0.1"]],
    [
      "the address of CNI_ARGS with a prefix",
      SUBNET,
      { args: new Map([["IP", "10.1.0.9/16"]]) },
      ["10.1.0.9/24 10.1.0.1"],
    ],
    ["the address of args.cni.ips", SUBNET, { conf: { args: ips("10.1.0.9") } }, ["10.1.0.9/24 10.1.0.1"]],
    ["the address of the capability", SUBNET, { runtimeConfig: { ips: ["10.1.0.9/24"] } }, ["10.1.0.9/24 10.1.0.1"]],
    [
      "all that was asked for, in whichever way",
      { ...SUBNET, ranges: [[{ subnet: "fd00::/64" }], [{ subnet: "10.2.0.0/24" }]] },
      {
        args: new Map([["IP", "10.1.0.9"]]),
        conf: { args: ips("fd00::9") },
        runtimeConfig: { ips: ["10.2.0.9/24", "10.1.0.9"] },
      },
      ["10.1.0.9/24 10.1.0.1", "fd00::9/64 fd00::1", "10.2.0.9/24 10.2.0.1"],
    ],
    [
      "an old result what it can say",
      { ...SUBNET, ranges: [[{ subnet: "fd00::/64" }]] },
      { conf: { cniVersion: "0.2.0" } },
      ["10.1.0.2/24 10.1.0.1", "fd00::2/64 fd00::1"],
    ],
  ];
  test.each(rows)("%s", (_, ipam, more, want) => {
    using scratch = new Scratch();
    expect(addresses(scratch.store(), ipam, more)).toEqual(want);
    expect(scratch.files(`${LEASES}/net`).length).toBe(want.length);
  });

  test("routes as configured and the names of resolvConf", () => {
    using scratch = new Scratch();
    const resolvConf = `${scratch.path}/resolv.conf`;
    writeFileSync(
      resolvConf,
      "# x\nnameserver 10.0.0.53\nsearch a b\ndomain d\noptions ndots:2\n;\nnameserver\nnameserver fd00::53\n",
    );
    const routes = [{ dst: "0.0.0.0/0" }, { dst: "10.9.0.0/16", gw: "10.1.0.7", mtu: 1400, table: 7 }];
    const result = add(scratch.store(), { ...SUBNET, routes, resolvConf });
    expect(result.routes).toEqual(routes);
    expect(result.dns).toEqual({
      nameservers: ["10.0.0.53", "fd00::53"],
      domain: "d",
      search: ["a", "b"],
      options: ["ndots:2"],
    });
  });

  test("the next address each time, round and round, and a freed one not at once", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const small = { subnet: "10.1.0.0/29" };
    const take = (id: string): string => add(store, small, { containerId: id }).ips[0]?.address ?? "";
    const free = (id: string): void => hostLocal.del(request(small, { command: "DEL", containerId: id }), store.leases);
    expect(["a", "b", "c"].map(take)).toEqual(["10.1.0.2/29", "10.1.0.3/29", "10.1.0.4/29"]);
    free("b");
    expect(["d", "e", "f"].map(take)).toEqual(["10.1.0.5/29", "10.1.0.6/29", "10.1.0.3/29"]);
    expect(failure(() => take("g"))).toEqual({
      code: 11,
      message: 'Cannot lease an address of network "net": all 5 of 10.1.0.0/29 (10.1.0.1 to 10.1.0.6) are taken',
    });
    for (const id of ["a", "c", "d", "e", "f"]) free(id);
    expect(scratch.files()).toEqual([]);
    expect(take("h")).toBe("10.1.0.4/29");
  });

  test("through all ranges of a set, also when hundreds are taken", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const ipam = { ranges: [[{ subnet: "10.1.0.0/25" }, { subnet: "10.2.0.0/30", rangeStart: "10.2.0.2" }]] };
    const got = Array.from({ length: 126 }, (_, i) => add(store, ipam, { containerId: `c${i}` }).ips[0]?.address);
    expect(new Set(got).size).toBe(126);
    expect(got[125]).toBe("10.2.0.2/30");
    hostLocal.del(request(ipam, { command: "DEL", containerId: "c60" }), store.leases);
    expect(add(store, ipam, { containerId: "again" }).ips[0]?.address).toBe(got[60]);
  });

  test("no address that the reference has given on this node", () => {
    using scratch = new Scratch();
    mkdirSync(`${scratch.path}/reference/net`, { recursive: true });
    writeFileSync(`${scratch.path}/reference/net/10.1.0.2`, "old\r\neth0");
    const store = scratch.store();
    expect(addresses(store, SUBNET)).toEqual(["10.1.0.3/24 10.1.0.1"]);
    const asked = { containerId: "c2", args: new Map([["IP", "10.1.0.2"]]) };
    expect(failure(() => add(store, SUBNET, asked)).message).toBe(
      'Cannot lease "10.1.0.2" of network "net" to container "c2": "eth0" of container "old" has it',
    );
  });
});

describe("host-local refuses", () => {
  const range = (more: JsonObject): JsonObject => ({ ...SUBNET, ...more });
  const rows: [string, JsonObject, Parameters<typeof request>[1], number, string][] = [
    [
      "no range",
      {},
      {},
      7,
      'Cannot use the "ipam" of network "net": ranges: expected at least one range set, found nothing',
    ],
    ["an empty set", { ranges: [[]] }, {}, 7, "ranges[0]: expected at least one range"],
    ["a set that is no list", { ranges: [{ subnet: "10.1.0.0/24" }] }, {}, 7, "ranges[0]: expected a list of ranges"],
    [
      "host bits",
      { subnet: "10.1.0.1/24" },
      {},
      7,
      `subnet: expected "10.1.0.0/24", the network's own address, found "10.1.0.1/24"`,
    ],
    ["a /31", { subnet: "10.1.0.0/31" }, {}, 7, "subnet: expected a prefix length of at most 30"],
    ["a /32", { subnet: "10.1.0.1/32" }, {}, 7, "subnet: expected a prefix length of at most 30"],
    ["a /127", { subnet: "fd00::/127" }, {}, 7, "subnet: expected a prefix length of at most 126"],
    ["no prefix length", { subnet: "10.1.0.0" }, {}, 7, "subnet: expected an address with its prefix length"],
    ["a start outside", range({ rangeStart: "10.2.0.5" }), {}, 7, "rangeStart: expected an address in 10.1.0.0/24"],
    ["an end outside", range({ rangeEnd: "fd00::1" }), {}, 7, "rangeEnd: expected an address in 10.1.0.0/24"],
    [
      "an end before the start",
      range({ rangeStart: "10.1.0.9", rangeEnd: "10.1.0.8" }),
      {},
      7,
      "rangeEnd: expected an address not before",
    ],
    ["a gateway that is none", range({ gateway: "x" }), {}, 7, 'gateway: expected an IP address, found "x"'],
    ["a gateway of the other family", range({ gateway: "fd00::1" }), {}, 7, "gateway: expected an IPv4 address"],
    [
      "overlap in a set",
      { ranges: [[{ subnet: "10.1.0.0/24" }, { subnet: "10.1.0.0/25" }]] },
      {},
      7,
      "ranges[0]: 10.1.0.0/24 (10.1.0.1 to 10.1.0.254) and 10.1.0.0/25 (10.1.0.1 to 10.1.0.126) overlap",
    ],
    ["overlap of sets", range({ ranges: [[{ subnet: "10.1.0.128/25" }]] }), {}, 7, "of two range sets, overlap"],
    [
      "two families in a set",
      { ranges: [[{ subnet: "10.1.0.0/24" }, { subnet: "fd00::/64" }]] },
      {},
      7,
      "ranges[0][1]: expected IPv4 as the set's first range",
    ],
    ["a route without destination", range({ routes: [{}] }), {}, 7, "routes[0].dst"],
    [
      "the gateway",
      SUBNET,
      { args: new Map([["IP", "10.1.0.1"]]) },
      7,
      'Cannot lease "10.1.0.1" of network "net" to container "c1": it is the gateway of its subnet',
    ],
    [
      "an address of no range",
      SUBNET,
      { runtimeConfig: { ips: ["10.9.0.1"] } },
      7,
      `Cannot lease "10.9.0.1" of network "net": it is in none of the network's ranges`,
    ],
    [
      "a second of one set",
      SUBNET,
      { conf: { args: ips("10.1.0.8", "10.1.0.9") } },
      7,
      'Cannot lease "10.1.0.9" of network "net": a range set gives one address only',
    ],
    [
      "a request that is none",
      SUBNET,
      { conf: { args: ips("ten") } },
      7,
      'args.cni.ips: expected an IP address, found "ten"',
    ],
    [
      "two of a family in an old result",
      range({ ranges: [[{ subnet: "10.2.0.0/24" }]] }),
      { conf: { cniVersion: "0.2.0" } },
      7,
      "one address a family only",
    ],
    [
      "a file of the node, for a tenant",
      range({ resolvConf: "/etc/resolv.conf" }),
      { nodeFiles: false },
      101,
      'Cannot read "/etc/resolv.conf" for network "net"',
    ],
    ["a file that is none", range({ resolvConf: "/dev/zero" }), {}, 7, "it is no regular file"],
  ];
  test.each(rows)("%s", (_, ipam, more, code, message) => {
    using scratch = new Scratch();
    const error = failure(() => add(scratch.store(), ipam, more));
    expect(error.message).toContain(message);
    expect(error.message).toMatch(/^Cannot .*[^.]$/);
    expect(error.code).toBe(code);
    expect(scratch.files("run")).toEqual([]); // nothing is kept of what it took
  });

  test("a taken address that is asked for, and gives back those of the other sets", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const ipam = { ...SUBNET, ranges: [[{ subnet: "10.2.0.0/24" }]] };
    add(store, { subnet: "10.2.0.0/24" }, { containerId: "other" });
    const journal = new Undo();
    const error = failure(() => add(store, ipam, { args: new Map([["IP", "10.2.0.2"]]) }, journal));
    expect(error).toEqual({
      code: 11,
      message: 'Cannot lease "10.2.0.2" of network "net" to container "c1": "eth0" of container "other" has it',
    });
    expect(scratch.files(`${LEASES}/net`)).toEqual(["10.2.0.2"]);
    expect(journal.entries).toEqual([
      { is: "undo", id: 1, step: { do: "lease", pool: "net", address: "10.1.0.2" } },
      { is: "undone", id: 1 },
    ]);
  });

  test("no pool before the journal knows of it", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const refuses: UndoLog = {
      entries: [],
      intend: (step) => {
        throw new Error(JSON.stringify(step));
      },
      undone: () => {},
    };
    expect(() => add(store, SUBNET, {}, refuses)).toThrow('{"do":"pool","pool":"net"}');
    expect(existsSync(`${scratch.path}/${LEASES}/net`)).toBe(false);
    add(store, SUBNET);
    expect(() => add(store, SUBNET, { containerId: "c2" }, refuses)).toThrow('"do":"lease"');
  });

  test("nothing of a failed ADD: its retry takes one address a set", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const ipam = { ...SUBNET, ranges: [[{ subnet: "10.2.0.0/30" }]] };
    add(store, { subnet: "10.2.0.0/30" }, { containerId: "other" });
    const journal = new Undo();
    for (let i = 0; i < 3; i++) expect(failure(() => add(store, ipam, {}, journal)).code).toBe(11);
    hostLocal.del(request({}, { command: "DEL", containerId: "other" }), store.leases);
    expect(add(store, ipam, {}, journal).ips.length).toBe(2);
    expect(scratch.files(`${LEASES}/net`).length).toBe(2);
  });

  test("a second ADD, by the journal and, without one, by the files", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const journal = new Undo();
    add(store, SUBNET, {}, journal);
    const message = 'Cannot lease a second address of network "net" to "eth0" of container "c1": it has "10.1.0.2"';
    expect(failure(() => add(store, SUBNET, {}, journal)).message).toBe(message);
    expect(failure(() => hostLocal.add(request(SUBNET), undefined, store.leases)).message).toBe(message);
    expect(addresses(store, SUBNET, { ifname: "net1" })).toEqual(["10.1.0.3/24 10.1.0.1"]);
    expect(scratch.files(`${LEASES}/net`)).toEqual(["10.1.0.2", "10.1.0.3"]);
  });
});

describe("host-local", () => {
  test("DEL frees what the owner has, again is a success, and leaves others'", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const ipam = { ...SUBNET, ranges: [[{ subnet: "fd00::/64" }]] };
    add(store, ipam);
    add(store, ipam, { ifname: "net1" });
    const del = request(ipam, { command: "DEL" });
    hostLocal.del(del, store.leases);
    hostLocal.del(del, store.leases);
    expect(scratch.files(`${LEASES}/net`)).toEqual(["10.1.0.3", "fd00::3"]);
    hostLocal.del(request({}, { command: "DEL", network: "never" }), store.leases);
  });

  test("CHECK finds the leases that prevResult names", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const prevResult = (address: string): JsonObject => ({
      prevResult: { cniVersion: "1.1.0", ips: [{ address }, { address: "192.0.2.1/24" }] },
    });
    const check = (conf: JsonObject, more: Partial<IpamRequest> = {}): void =>
      hostLocal.check(request(SUBNET, { command: "CHECK", conf, ...more }), store.leases);
    add(store, SUBNET);
    check({});
    check(prevResult("10.1.0.2/24"));
    expect(failure(() => check(prevResult("10.1.0.3/24")))).toEqual({
      code: 210,
      message: 'Cannot find the lease of "10.1.0.3" of network "net" for "eth0" of container "c1"',
    });
    expect(failure(() => check(prevResult("192.0.2.2/24"))).message).toContain("Cannot find an address");
    expect(failure(() => check({}, { ifname: "net1" })).message).toContain("Cannot find a lease");
    expect(failure(() => check(prevResult("10.1.0.2/24"), { containerId: "c2" })).code).toBe(210);
  });

  const gone = () => false;
  const alive = () => true;
  const unknown = () => undefined;
  const c1 = [{ containerID: "c1", ifname: "other0" }];
  test.each([
    ["a list and dead owners: keeps the containers of the list", c1, gone, ["10.1.0.2"]],
    ["a list and live owners: keeps all", c1, alive, ["10.1.0.2", "10.1.0.3"]],
    ["a list and owners unknown: goes by the list", c1, unknown, ["10.1.0.2"]],
    ["an empty list and live owners: keeps all", [], alive, ["10.1.0.2", "10.1.0.3"]],
    ["an empty list and owners unknown: keeps all", [], unknown, ["10.1.0.2", "10.1.0.3"]],
    ["an empty list and dead owners: frees all", [], gone, []],
  ])("GC with %s", (_, valid, isAlive, left) => {
    using scratch = new Scratch();
    const store = scratch.store();
    add(store, SUBNET);
    add(store, SUBNET, { containerId: "c2" });
    const gc = { valid, isAlive, isNamed: () => false };
    hostLocal.gc(request(SUBNET, { command: "GC", gc }), store.leases);
    expect(scratch.files(`${LEASES}/net`)).toEqual(left);
  });

  test.each([true, false])("GC of a damaged lease that a journal names: %p", (named) => {
    using scratch = new Scratch();
    const store = scratch.store();
    add(store, SUBNET);
    writeFileSync(`${scratch.path}/${LEASES}/net/10.1.0.2`, "");
    const isNamed = (pool: string, address: string): boolean => named && pool === "net" && address === "10.1.0.2";
    hostLocal.gc(request(SUBNET, { command: "GC", gc: { valid: [], isAlive: gone, isNamed } }), store.leases);
    expect(existsSync(`${scratch.path}/${LEASES}/net/10.1.0.2`)).toBe(named);
    expect(store.quarantined()).toEqual(named ? [] : ["net@10.1.0.2"]);
  });

  test("STATUS refuses what ADD would refuse, and a store that cannot be written", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const status = (ipam: JsonObject): void => hostLocal.status(request(ipam, { command: "STATUS" }), store.leases);
    status(SUBNET);
    expect(failure(() => status({})).code).toBe(7);
    expect(failure(() => hostLocal.status(request(SUBNET), new ReferenceLeases("/proc/none"))).code).toBe(50);
  });

  test("dataDir names another pool, never a path", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    const other = { ...SUBNET, dataDir: `${scratch.path}/elsewhere` };
    expect(addresses(store, SUBNET)).toEqual(addresses(store, other));
    expect(existsSync(`${scratch.path}/elsewhere`)).toBe(false);
    expect(poolName("net", {})).toBe("net");
    expect(poolName("net", { dataDir: "/var/lib/cni/networks/" })).toBe("net");
    expect(poolName("net", other)).toMatch(/^net@[0-9a-f]{16}$/);
    expect(poolName("n".repeat(253), {}).length).toBeLessThan(240);
    expect(poolName("n".repeat(253), {})).not.toBe(poolName("n".repeat(252), {}));
    expect(dataDirOf(request({}))).toBe("/var/lib/cni/networks");
    expect(dataDirOf(request({ dataDir: "/run/x" }))).toBe("/run/x");
    expect(failure(() => dataDirOf(request({ dataDir: "x" }))).code).toBe(7);
  });
});

describe("a network that a namespace wrote", () => {
  const two = { subnet: "10.1.0.0/29", rangeStart: "10.1.0.2", rangeEnd: "10.1.0.3" };
  const of = (namespace: string, apart: boolean, containerId = "c1") =>
    ({ nodeFiles: false, pool: { namespace, apart }, containerId }) as const;
  const given = (store: Store, more: ReturnType<typeof of>): string[] => addresses(store, two, more);

  test("shares the pool of its name with whoever else has the name", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    expect(given(store, of("a", false))).toEqual(["10.1.0.2/29 10.1.0.1"]);
    expect(given(store, of("b", false, "c2"))).toEqual(["10.1.0.3/29 10.1.0.1"]);
    expect(scratch.files(LEASES)).toEqual(["net/10.1.0.2", "net/10.1.0.3"]);
  });

  test("apart, it cannot exhaust another's pool", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    for (const container of ["a1", "a2"]) given(store, of("a", true, container));
    expect(failure(() => given(store, of("a", true, "a3"))).code).toBe(11);
    expect(given(store, of("b", true, "b1"))).toEqual(["10.1.0.2/29 10.1.0.1"]);
    expect(addresses(store, two)).toEqual(["10.1.0.2/29 10.1.0.1"]);
  });

  test("apart, it cannot free another's leases, nor find them its own", () => {
    using scratch = new Scratch();
    const store = scratch.store();
    given(store, of("a", true));
    add(store, two, { containerId: "node" });
    const everything = { valid: [{ containerID: "x", ifname: "eth0" }], isAlive: () => false, isNamed: () => false };
    hostLocal.gc(request(two, { ...of("b", true), command: "GC", gc: everything }), store.leases);
    hostLocal.del(request(two, { ...of("b", true), command: "DEL" }), store.leases);
    expect(scratch.files(LEASES)).toEqual(["a:net/10.1.0.2", "net/10.1.0.2"]);
    expect(failure(() => hostLocal.check(request(two, of("b", true)), store.leases)).code).toBe(210);
    hostLocal.check(request(two, of("a", true)), store.leases);
    hostLocal.gc(request(two, { ...of("a", true), command: "GC", gc: everything }), store.leases);
    expect(scratch.files(LEASES)).toEqual(["net/10.1.0.2"]);
  });

  test.each([
    ["made strict", false, true],
    ["open again", true, false],
  ])("gives no address twice when the policy is %s, and frees what it had", (_, before, after) => {
    using scratch = new Scratch();
    const store = scratch.store();
    given(store, of("a", before));
    expect(given(store, of("a", after, "c2"))).toEqual(["10.1.0.3/29 10.1.0.1"]);
    hostLocal.check(request(two, of("a", after)), store.leases);
    expect(failure(() => given(store, of("a", after, "c3"))).code).toBe(11);
    for (const container of ["c1", "c2"]) hostLocal.del(request(two, of("a", after, container)), store.leases);
    expect(scratch.files(LEASES)).toEqual([]);
  });

  test("the reference's files of the network's name count in its own pool, too", () => {
    using scratch = new Scratch();
    mkdirSync(`${scratch.path}/reference/net`, { recursive: true });
    writeFileSync(`${scratch.path}/reference/net/10.1.0.2`, "old\r\neth0");
    expect(given(scratch.store(), of("a", true))).toEqual(["10.1.0.3/29 10.1.0.1"]);
  });

  test("has no path on the node under the link name either: another dataDir is another pool", () => {
    using scratch = new Scratch();
    const leases = new ReferenceLeases(`${scratch.path}/cni`);
    const ipam = { ...two, dataDir: `${scratch.path}/elsewhere` };
    hostLocal.add(request(ipam, of("a", false)), undefined, leases);
    hostLocal.add(request(two, of("a", true, "c2")), undefined, leases);
    expect(existsSync(`${scratch.path}/elsewhere`)).toBe(false);
    expect(scratch.exists(`cni/${poolName("net", ipam)}/10.1.0.2`)).toBe(true);
    expect(scratch.exists("cni/a:net/10.1.0.2")).toBe(true);
    // Shared again, the address that is leased in the namespace's own pool is not given.
    expect(hostLocal.add(request(two, of("a", false, "c3")), undefined, leases).ips[0]?.address).toBe("10.1.0.3/29");
  });

  test("has a pool of its own for the longest names, too", () => {
    using scratch = new Scratch();
    const long = { namespace: "n".repeat(63), apart: true };
    add(scratch.store(), two, { nodeFiles: false, pool: long, network: "x".repeat(250) });
    expect(scratch.files(LEASES)).toHaveLength(1);
  });
});

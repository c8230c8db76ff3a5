/** host-local and static beside the reference's: the same input gives the same answer, and each sees the other's leases. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import type { JsonObject } from "../../core/base/json.ts";
import { parseCniArgs } from "../../core/cni/env.ts";
import { formatResult, parseResult } from "../../core/cni/result.ts";
import { hostLocal } from "../../core/ipam/host-local.ts";
import type { Ipam, IpamRequest } from "../../core/ipam/ipam.ts";
import { staticIpam } from "../../core/ipam/static.ts";
import { ReferenceLeases } from "../../core/state/reference-leases.ts";
import { Scratch } from "../../core/state/support.ts";
import { cni, startCni } from "../support/cni.ts";
import { hasPeer, type Part, peerFile } from "../support/peers.ts";
import { requires, root } from "../support/requires.ts";

interface Step {
  readonly command?: "ADD" | "DEL" | "CHECK";
  readonly id?: string;
  readonly ifname?: string;
  readonly args?: string;
  readonly ipam: JsonObject;
  readonly conf?: JsonObject;
}

const confOf = (type: string, step: Step, dataDir: string): JsonObject => ({
  cniVersion: "1.0.0",
  name: "net",
  type: "bridge",
  ipam: { type, dataDir, ...step.ipam },
  ...step.conf,
});

/** The answer in one form; an error is only that it is one. */
type Answer = JsonObject | "error";

function reference(part: Part, type: string, step: Step, dataDir: string): Answer {
  const ended = cni({
    plugin: peerFile(part, type),
    command: step.command ?? "ADD",
    containerId: step.id ?? "c1",
    netns: "/run/netns/none",
    ifname: step.ifname ?? "eth0",
    args: step.args ?? "",
    stdin: confOf(type, step, dataDir),
  });
  if (ended.exit !== 0) return "error";
  return ended.result === undefined ? {} : formatResult(parseResult(ended.result as JsonObject, "1.0.0"), "1.0.0");
}

function requestOf(type: string, step: Step, dataDir: string): IpamRequest {
  const conf = confOf(type, step, dataDir);
  return {
    command: step.command ?? "ADD",
    conf,
    network: "net",
    containerId: step.id ?? "c1",
    ifname: step.ifname ?? "eth0",
    cookie: "",
    args: parseCniArgs(step.args ?? ""),
    runtimeConfig: (conf.runtimeConfig as JsonObject | undefined) ?? {},
    nodeFiles: true,
  };
}

function ours(ipam: Ipam, step: Step, dataDir: string): Answer {
  const request = requestOf(ipam.type, step, dataDir);
  const leases = new ReferenceLeases(dataDir);
  try {
    if (step.command === "DEL") ipam.del(request, leases);
    else if (step.command === "CHECK") ipam.check(request, leases);
    else {
      const { ips, routes, dns } = ipam.add(request, undefined, leases);
      return formatResult({ interfaces: [], ips, routes, dns }, "1.0.0");
    }
    return {};
  } catch {
    return "error";
  }
}

/** Names and contents, less the lock, which is empty. */
function contents(dataDir: string): Record<string, string> {
  const names = readdirSync(`${dataDir}/net`).filter((name) => name !== "lock");
  return Object.fromEntries(names.map((name) => [name, readFileSync(`${dataDir}/net/${name}`, "utf8")]));
}

const subnet = { subnet: "10.1.0.0/24" };
const dual = { ranges: [[{ subnet: "10.1.0.0/29" }], [{ subnet: "fd00::/120", rangeStart: "fd00::10" }]] };
const add = (id: string, ipam: JsonObject = subnet, more: Partial<Step> = {}): Step => ({ id, ipam, ...more });
const del = (id: string, ipam: JsonObject = subnet): Step => ({ command: "DEL", id, ipam });
const check = (id: string, ipam: JsonObject = subnet): Step => ({ command: "CHECK", id, ipam });
const ips = (...list: string[]): JsonObject => ({ args: { cni: { ips: list } } });
const runtime = (value: JsonObject): JsonObject => ({ runtimeConfig: value });

const stories: [string, Step[]][] = [
  ["one after the other", [add("a"), add("b"), add("c"), del("b"), add("d"), check("a"), check("b"), del("b")]],
  ["a second ADD", [add("a"), add("a"), add("a", subnet, { ifname: "net1" }), del("a"), add("a")]],
  [
    "round a small range",
    [..."abcdef"].map((id) => add(id, dual)).concat(del("c", dual), add("g", dual), add("h", dual)),
  ],
  [
    "ranges and gateways",
    [
      add("a", { ...subnet, rangeStart: "10.1.0.20", rangeEnd: "10.1.0.21", gateway: "10.1.0.20" }),
      add("b", { ...subnet, gateway: "10.9.0.1" }),
      add("c", { ranges: [[{ subnet: "10.3.0.0/24", rangeEnd: "10.3.0.2" }, { subnet: "10.2.0.0/24" }]] }),
      add("d", { ranges: [[{ subnet: "10.3.0.0/24", rangeEnd: "10.3.0.2" }, { subnet: "10.2.0.0/24" }]] }),
      add("e", { ...subnet, ranges: [[{ subnet: "10.4.0.0/24" }]] }),
      add("f", { subnet: "10.5.0.0/30" }),
      add("g", { subnet: "10.5.0.0/30" }),
      add("h", { ...subnet, rangeStart: "10.1.0.0", rangeEnd: "10.1.0.255" }),
    ],
  ],
  [
    "what is asked for",
    [
      add("a", subnet, { args: "IP=10.1.0.9" }),
      add("b", subnet, { args: "IP=10.1.0.10/24" }),
      add("c", subnet, { conf: ips("10.1.0.11") }),
      add("d", subnet, { conf: runtime({ ips: ["10.1.0.12/24"] }) }),
      add("e", dual, { args: "IP=10.1.0.3", conf: ips("fd00::20") }),
      add("f", subnet, { args: "IP=10.1.0.9" }),
      add("g", subnet, { args: "IP=10.1.0.1" }),
      add("h", subnet, { args: "IP=10.2.0.1" }),
      add("i", subnet, { args: "IP=x" }),
      add("j", subnet, { conf: ips("10.1.0.30", "10.1.0.31") }),
      add("k", subnet, { conf: runtime({ ipRanges: [[{ subnet: "10.7.0.0/24" }]] }) }),
      add("l"),
    ],
  ],
  [
    "what is refused",
    [
      add("a", { subnet: "10.1.0.1/24" }),
      add("a", { subnet: "10.1.0.0/31" }),
      add("a", { subnet: "10.1.0.0/32" }),
      add("a", { subnet: "fd00::/127" }),
      add("a", { ranges: [] }),
      add("a", { ranges: [[]] }),
      add("a", {}),
      add("a", { ...subnet, rangeStart: "10.2.0.1" }),
      add("a", { ...subnet, rangeEnd: "10.2.0.1" }),
      add("a", { ...subnet, rangeStart: "10.1.0.9", rangeEnd: "10.1.0.8" }),
      add("a", { ranges: [[{ subnet: "10.1.0.0/24" }, { subnet: "10.1.0.0/25" }]] }),
      add("a", { ranges: [[{ subnet: "10.1.0.0/24" }, { subnet: "fd00::/64" }]] }),
      add("a", { ranges: [[{ subnet: "10.1.0.0/24" }], [{ subnet: "10.1.0.0/25" }]] }),
      add("a", { ...subnet, ranges: [[{ subnet: "10.2.0.0/24" }]] }, { conf: { cniVersion: "0.2.0" } }),
      add("a"),
    ],
  ],
  [
    "routes and names",
    [
      add("a", { ...subnet, routes: [{ dst: "0.0.0.0/0" }, { dst: "10.9.0.0/16", gw: "10.1.0.7" }] }),
      add("b", { ...subnet, resolvConf: "/etc/resolv.conf" }),
      add("c", { ...subnet, resolvConf: "/nowhere" }),
      add("d", { ...subnet, routes: [{ dst: "x" }] }),
    ],
  ],
];

// The release before the last that Debian has, and the current one: the files on a node may be of either.
for (const part of ["debian-cni", "reference"] as const) {
  requires(...root, hasPeer(part))(`host-local of ${part}`, () => {
    test.each(stories)("same answers and same files: %s", (_, steps) => {
      using theirs = new Scratch();
      using mine = new Scratch();
      for (const [i, step] of steps.entries()) {
        const want = reference(part, "host-local", step, theirs.path);
        expect([i, ours(hostLocal, step, mine.path)]).toEqual([i, want]);
      }
      expect(contents(mine.path)).toEqual(contents(theirs.path));
    });

    test.each(stories)("in one directory, turn by turn: %s", (_, steps) => {
      using alone = new Scratch();
      using both = new Scratch();
      for (const [i, step] of steps.entries()) {
        const want = reference(part, "host-local", step, alone.path);
        const got = i % 2 === 0 ? ours(hostLocal, step, both.path) : reference(part, "host-local", step, both.path);
        expect([i, got]).toEqual([i, want]);
      }
      expect(contents(both.path)).toEqual(contents(alone.path));
    });

    test("at the same time, no address twice", async () => {
      using scratch = new Scratch();
      const started = Array.from({ length: 12 }, (_, i) => {
        const step = add(`theirs${i}`);
        return startCni({
          plugin: peerFile(part, "host-local"),
          command: "ADD",
          containerId: step.id ?? "",
          netns: "/run/netns/none",
          ifname: "eth0",
          stdin: confOf("host-local", step, scratch.path),
        });
      });
      const mine = Array.from({ length: 12 }, (_, i) => ours(hostLocal, add(`ours${i}`), scratch.path));
      const answers = [...mine, ...(await Promise.all(started.map(async (s) => (await s.answer).result as Answer)))];
      const addresses = answers.map((answer) => JSON.stringify(answer === "error" ? answer : answer.ips));
      expect(new Set(addresses).size).toBe(24);
      expect(Object.keys(contents(scratch.path)).filter((name) => name.startsWith("10.")).length).toBe(24);
    });

    test("files that only one of them writes: an empty one, and one with the container's id alone", () => {
      using scratch = new Scratch();
      for (const dir of ["a", "b"]) {
        const dataDir = `${scratch.path}/${dir}`;
        ours(hostLocal, add("x"), dataDir);
        writeFileSync(`${dataDir}/net/10.1.0.2`, "");
        writeFileSync(`${dataDir}/net/10.1.0.3`, "old");
      }
      const steps = [add("n"), del("x"), del("old"), add("m")];
      const want = steps.map((step) => reference(part, "host-local", step, `${scratch.path}/a`));
      expect(steps.map((step) => ours(hostLocal, step, `${scratch.path}/b`))).toEqual(want);
      expect(contents(`${scratch.path}/b`)).toEqual(contents(`${scratch.path}/a`));
      expect(statSync(`${scratch.path}/b/net/10.1.0.2`).size).toBe(0);
    });
  });

  requires(...root, hasPeer(part))(`static of ${part}`, () => {
    const own = { addresses: [{ address: "10.1.0.5/24", gateway: "10.1.0.1" }, { address: "fd00::5/64" }] };
    const routes = [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }];
    const prev = (address: string, gateway?: string): JsonObject => ({
      prevResult: { cniVersion: "1.0.0", ips: [{ address, ...(gateway !== undefined && { gateway }) }] },
    });
    test.each([
      ["nothing", add("a", {})],
      ["addresses, routes, names", add("a", { ...own, routes, dns: { nameservers: ["1.1.1.1"], search: ["x"] } })],
      ["no prefix length", add("a", { addresses: [{ address: "10.1.0.5" }] })],
      ["CNI_ARGS", add("a", own, { args: "IP=10.3.0.1/24,10.4.0.1/24;GATEWAY=10.3.0.254" })],
      ["CNI_ARGS alone", add("a", {}, { args: "IP=10.3.0.1/24, 10.4.0.1/24;GATEWAY=10.9.0.254" })],
      ["CNI_ARGS without prefix", add("a", own, { args: "IP=10.3.0.1" })],
      ["a gateway that is none", add("a", own, { args: "IP=10.3.0.1/24;GATEWAY=xx" })],
      [
        "a gateway for the configured",
        add("a", { addresses: [{ address: "10.1.0.5/24" }] }, { args: "GATEWAY=10.1.0.7" }),
      ],
      ["args.cni.ips", add("a", own, { args: "IP=10.3.0.1/24", conf: ips("10.7.0.1/24") })],
      [
        "the capability",
        add("a", own, { conf: { ...ips("10.7.0.1/24"), ...runtime({ ips: ["10.8.0.1/24", "fd00::3/64"] }) } }),
      ],
      ["the capability without prefix", add("a", own, { conf: runtime({ ips: ["10.8.0.1"] }) })],
      ["an empty capability", add("a", own, { conf: runtime({ ips: [] }) })],
      ["a bad gateway", add("a", { addresses: [{ address: "10.1.0.5/24", gateway: "x" }] })],
      ["a gateway elsewhere", add("a", { addresses: [{ address: "10.1.0.5/24", gateway: "10.6.0.1" }] })],
      ["a bad route", add("a", { ...own, routes: [{ dst: "x" }] })],
      ["DEL", del("a", own)],
      ["CHECK", { ...check("a", { addresses: [{ address: "10.1.0.5/24" }] }), conf: prev("10.1.0.5/24") }],
      [
        "CHECK with another gateway",
        { ...check("a", { addresses: own.addresses.slice(0, 1) }), conf: prev("10.1.0.5/24") },
      ],
      ["CHECK without a result", check("a", { addresses: [{ address: "10.1.0.5/24" }] })],
    ] as [string, Step][])("same answer: %s", (_, step) => {
      expect(ours(staticIpam, step, "/nowhere")).toEqual(reference(part, "static", step, "/nowhere"));
    });
  });
}

describe("differences from the reference that are meant", () => {
  test("static: CHECK notices an address that is gone", () => {
    const step: Step = {
      ...check("a", { addresses: [{ address: "10.1.0.5/24" }] }),
      conf: { prevResult: { cniVersion: "1.0.0", ips: [{ address: "10.1.0.6/24" }] } },
    };
    expect(ours(staticIpam, step, "/nowhere")).toBe("error");
  });
});

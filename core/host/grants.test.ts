/** Every plugin of the project × every call × whose the target is, and random plugins on top. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { CniError, Code } from "../base/error.ts";
import { parseJson } from "../base/json.ts";
import { decide, effectiveGrants, grantsOf, type Operation, type Target } from "../policy/decide.ts";
import { carriedManifest, type Manifest, parseManifest, type Role, roles } from "../policy/manifest.ts";
import { openPolicy, parsePolicy } from "../policy/policy.ts";
import { admit } from "./admit.ts";
import { hostCalls, importModule } from "./calls.ts";

const folder = join(import.meta.dir, "../../plugins-wasm");
const manifests: readonly Manifest[] = readdirSync(folder, { withFileTypes: true })
  .filter((e) => e.isDirectory() && e.name !== "sdk")
  .map((e) => parseManifest(parseJson(readFileSync(join(folder, e.name, "plugin.json")))));

const operations: readonly Operation[] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];
const targets: readonly Target[] = [
  { whose: "own", role: "pod-link" },
  { whose: "own", role: "own" },
  { whose: "own", role: "peer" },
  { whose: "granted", role: "parent" },
  { whose: "granted", role: "bridge" },
  { whose: "granted", role: "device" },
  { whose: "granted", role: "vrf" },
  { whose: "other" },
  { whose: "host" },
];
const says = (t: Target): string => ("role" in t ? t.role : t.whose);

/** Calls that make something. In DEL and GC each of them must be refused, whatever a manifest says. */
const creates = [
  "link_create",
  "link_move",
  "addr_add",
  "route_add",
  "rule_add",
  "neigh_add",
  "bridge_vlan_set",
  "sysctl_set",
  "nft_apply",
  "port_map",
  "tc_apply",
  "filter_add",
  "firewalld_add",
  "isolation_apply",
  "announce",
  "ipam_add",
  "lease_acquire",
  "device_take",
  "device_info",
  "vf_set",
];

test("a manifest that the binary carries reads as the checked one does", () => {
  for (const m of manifests) {
    const text = readFileSync(join(folder, m.name, "plugin.json"), "utf8");
    expect(carriedManifest(text)).toEqual(m);
  }
});

test("the four built-ins are in the table", () => {
  expect(manifests.map((m) => m.name)).toEqual(expect.arrayContaining(["bridge", "loopback", "macvlan", "ptp"]));
});

describe.each(manifests.map((m) => [m.name, m] as const))("%s", (_, manifest) => {
  const grants = grantsOf(openPolicy, manifest, { builtIn: true });

  test.each(hostCalls.map((c) => [c.name, c] as const))("%s on each target, in each operation", (name, call) => {
    for (const operation of operations) {
      for (const target of targets) {
        const verdict = decide({ operation, grants }, call, target);
        const cell = `${manifest.name} ${name} ${says(target)} ${operation}`;
        const asked: readonly string[] | undefined = manifest.calls.get(name);
        const want =
          asked === undefined
            ? Code.NotGranted
            : !call.operations.includes(operation)
              ? Code.NotInThisOperation
              : asked.includes(says(target))
                ? 0
                : Code.NotGranted;
        expect([cell, verdict.allow ? 0 : verdict.code]).toEqual([cell, want]);
      }
    }
  });

  test("asks for nothing that no plugin can have", () => {
    expect(() => admit(manifest, [])).not.toThrow();
  });
});

test("no call reaches what is another's or the node's, whatever a manifest asks for", () => {
  const all = { ...manifests[0], calls: new Map(hostCalls.map((c) => [c.name, roles])) } as Manifest;
  const grants = effectiveGrants(all, undefined);
  for (const call of hostCalls) {
    for (const whose of ["other", "host"] as const) {
      expect(decide({ operation: call.operations[0] ?? "ADD", grants }, call, { whose }).allow).toBe(false);
    }
  }
});

test("nothing that creates runs in DEL, GC, CHECK or STATUS", () => {
  for (const call of hostCalls) {
    if (creates.includes(call.name)) expect([call.name, call.operations]).toEqual([call.name, ["ADD"]]);
    if (/_(create|add|acquire|apply)$/.test(call.name)) expect(creates).toContain(call.name);
  }
});

test("a parent is built upon and looked at, never changed", () => {
  const on = hostCalls.filter((c) => c.roles.includes("parent")).map((c) => c.name);
  expect(on.toSorted()).toEqual(["addr_list", "link_create", "link_list", "link_open"]);
});

describe("grantsOf()", () => {
  const bridge = manifests.find((m) => m.name === "bridge") as Manifest;

  test("gives a plugin from outside nothing without a line, or with another module's hash", () => {
    expect(grantsOf(openPolicy, bridge, { sha256: "a" }).calls.size).toBe(0);
    const line = parsePolicy({ plugins: { bridge: { sha256: "b" } } });
    expect(grantsOf(line, bridge, { sha256: "a" }).calls.size).toBe(0);
    expect(grantsOf(line, bridge, { sha256: "b" }).calls.size).toBe(bridge.calls.size);
  });

  test("only ever narrows", () => {
    const line = parsePolicy({
      plugins: {
        bridge: {
          calls: { link_create: ["own", "device"], tc_apply: ["own"] },
          sysctls: ["host:net/ipv4/ip_forward", "host:net/core/x"],
          limits: { calls: 4096, cpuMs: 5 },
        },
      },
    });
    const grants = grantsOf(line, bridge, { builtIn: true });
    expect([...grants.calls]).toEqual([["link_create", ["own"]]]);
    expect([...grants.sysctls]).toEqual(["host:net/ipv4/ip_forward"]);
    expect(grants.limits.calls).toBe(bridge.limits.calls);
    expect(grants.limits.cpuMs).toBe(5);
  });

  test("never widens: random manifests and policies", () => {
    const pick = <T>(from: readonly T[]): T[] => from.filter(() => Math.random() < 0.5);
    const names = hostCalls.map((c) => c.name);
    for (let i = 0; i < 2000; i++) {
      const manifest = { ...bridge, calls: new Map(pick(names).map((n) => [n, pick(roles)] as const)) };
      const line = Object.fromEntries(pick(names).map((n) => [n, pick(roles)] as const));
      const policy = parsePolicy({ plugins: { bridge: { calls: line } } });
      const grants = grantsOf(policy, manifest, { builtIn: true });
      for (const call of hostCalls) {
        const target = targets[Math.floor(Math.random() * targets.length)] ?? { whose: "host" };
        if (!decide({ operation: "ADD", grants }, call, target).allow) continue;
        const role = says(target) as Role;
        expect(manifest.calls.get(call.name)).toContain(role);
        expect(line[call.name]).toContain(role);
        expect(call.roles).toContain(role);
      }
    }
  });
});

describe("admit()", () => {
  const bridge = manifests.find((m) => m.name === "bridge") as Manifest;
  const ours = (name: string, module = importModule) => ({ module, name });
  test.each([
    [
      "a call that its manifest does not name",
      [ours("rule_add")],
      'it imports the call "rule_add", which its manifest',
    ],
    ["a call that does not exist", [ours("netlink_send")], 'it imports the call "netlink_send", which does not exist'],
    ["another ABI", [ours("link_create", "patchbay_2")], 'it imports from "patchbay_2"'],
  ])("refuses %s", (_, imports, message) => {
    expect(() => admit(bridge, imports)).toThrow(CniError);
    expect(() => admit(bridge, imports)).toThrow(message);
  });
  test("takes what the manifest names, and leaves WASI to the engine", () => {
    admit(bridge, [ours("link_create"), ours("answer_read"), ours("fd_write", "wasi_snapshot_preview1")]);
  });
  test("refuses a manifest that asks for what no plugin can have", () => {
    const wide = { ...bridge, calls: new Map([["link_set", ["parent"] as const]]) };
    expect(() => admit(wide, [])).toThrow('its manifest asks for "link_set" on "parent"');
    const unknown = { ...bridge, calls: new Map([["exec", []]]) };
    expect(() => admit(unknown, [])).toThrow('its manifest names the call "exec"');
  });
});

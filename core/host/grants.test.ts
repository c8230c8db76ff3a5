/** Every plugin of the project × every call × whose the target is, and random plugins on top. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { TestGuest } from "../../test/support/guest.ts";
import { CniError, Code } from "../base/error.ts";
import { type JsonObject, parseJson } from "../base/json.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { decide, effectiveGrants, grantsOf, type Operation, type Target } from "../policy/decide.ts";
import { carriedManifest, type Manifest, parseManifest, type Role, roles } from "../policy/manifest.ts";
import { openPolicy, parsePolicy } from "../policy/policy.ts";
import type { Schema } from "../policy/schema.ts";
import type { SysctlWord } from "../policy/sysctl-list.ts";
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

/** What each plugin may do, as it was last agreed: calls with their roles, and sysctls. */
interface Agreed {
  readonly calls: Map<string, readonly string[]>;
  readonly sysctls: Set<string>;
}
function readAgreed(): ReadonlyMap<string, Agreed> {
  const plugins = new Map<string, Agreed>();
  let now: Agreed = { calls: new Map(), sysctls: new Set() };
  for (const line of readFileSync(join(import.meta.dir, "../../test/golden/grants.txt"), "utf8").split("\n")) {
    const call = /^ {2}call (\S+): (.*)$/.exec(line);
    const sysctl = /^ {2}sysctl (\S+)$/.exec(line)?.[1];
    if (/^\S/.test(line)) {
      now = { calls: new Map(), sysctls: new Set() };
      plugins.set(line, now);
    }
    if (call?.[1] !== undefined) now.calls.set(call[1], call[2] === "-" ? [] : (call[2] ?? "").split(" "));
    if (sysctl !== undefined) now.sysctls.add(sysctl);
  }
  return plugins;
}
const agreed = readAgreed();
/** Every sysctl that any plugin may set, and some that none may. */
const foreignSysctls = ["host:net/core/rmem_max", "host:net/ipv4/conf/all/route_localnet", "pod:net/core/somaxconn_"];
const sysctls = new Set([...[...agreed.values()].flatMap((a) => [...a.sysctls]), ...foreignSysctls]);

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

test("every plugin is in test/golden/grants.txt; to agree to a change: bash scripts/generated-fresh.sh --write", () => {
  expect(manifests.map((m) => m.name).toSorted()).toEqual([...agreed.keys()]);
});

describe.each(manifests.map((m) => [m.name, m] as const))("%s", (_, manifest) => {
  const grants = grantsOf(openPolicy, manifest, { builtIn: true });
  const may = agreed.get(manifest.name) ?? { calls: new Map<string, readonly string[]>(), sysctls: new Set<string>() };

  test.each(hostCalls.map((c) => [c.name, c] as const))("%s on each target, in each operation", (name, call) => {
    for (const operation of operations) {
      for (const target of targets) {
        const verdict = decide({ operation, grants }, call, target);
        const cell = `${manifest.name} ${name} ${says(target)} ${operation}`;
        const asked: readonly string[] | undefined = may.calls.get(name);
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

  test("sets and reads the sysctls that were agreed, and no other", () => {
    const lists = (pattern: string): boolean => may.sysctls.has(pattern);
    const below = (pattern: string): boolean =>
      [...may.sysctls].some((p) => p.endsWith("/*") && pattern.startsWith(p.slice(0, -1)));
    for (const name of ["sysctl_get", "sysctl_set"]) {
      const call = hostCalls.find((c) => c.name === name);
      if (call === undefined) throw new Error(`no call ${name}`);
      for (const pattern of sysctls) {
        const code = (word?: SysctlWord): number => {
          const target = { whose: "sysctl", pattern, ...(word && { word }) } as const;
          const verdict = decide({ operation: "ADD", grants }, call, target);
          return verdict.allow ? 0 : verdict.code;
        };
        const has = may.calls.has(name);
        const cell = `${manifest.name} ${name} ${pattern}`;
        // Alone, free by the administrator's word, not named by the list that there is.
        const want = [lists(pattern), lists(pattern) || below(pattern), false].map((is) =>
          has && is ? 0 : Code.NotGranted,
        );
        expect([cell, code(), code("free"), code("omitted")]).toEqual([cell, ...want]);
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

describe("addresses", () => {
  const own = "10.9.0.5";
  const foreign = "10.8.0.5";
  /** Calls that do something on the node for an address: what they ask with it. `link` is a link of the node. */
  const onNode: Readonly<Record<string, (address: string, link: number) => JsonObject>> = {
    addr_add: (a, link) => ({ link, address: `${a}/32` }),
    filter_add: (a) => ({ addresses: [a] }),
    filter_check: (a) => ({ addresses: [a] }),
    firewalld_add: (a) => ({ zone: "trusted", addresses: [a] }),
    firewalld_check: (a) => ({ zone: "trusted", addresses: [a] }),
    nft_apply: (a) => ({ rule: "masquerade", addresses: [`${a}/24`] }),
    nft_check: (a) => ({ rule: "masquerade", addresses: [`${a}/24`] }),
    port_map: (a) => ({ addresses: [`${a}/24`], mappings: [{ protocol: "tcp", hostPort: 80, containerPort: 80 }] }),
    route_add: (a, link) => ({ link, dst: `${a}/32` }),
  };
  /** What these are about is in the pod, or made by the attachment itself. */
  const elsewhere = [
    "addr_delete",
    "announce",
    "link_configure",
    "neigh_add",
    "route_delete",
    "rule_add",
    "rule_delete",
  ];

  function guestWithLink(): readonly [TestGuest, number] {
    const node = new SimulatedNode();
    const host = node.netns("host", { host: true });
    const conf = { prevResult: { ips: [{ address: `${own}/24` }] } };
    const guest = new TestGuest({ host, pod: node.netns("pod"), conf });
    const { peer } = guest.must("link_create", { kind: "veth", peer: { in: "host" } });
    return [guest, Number((peer as JsonObject).link)];
  }

  test.each(Object.entries(onNode))("%s: the attachment's own, and no other (121)", (name, request) => {
    const [guest, link] = guestWithLink();
    expect(guest.call(name, request(foreign, link))).toMatchObject({ code: Code.NotGranted });
    expect(guest.code(name, request(own, link))).not.toBe(Code.NotGranted);
  });

  test("every call that takes an address is here", () => {
    const isAddress = (s: Schema): boolean =>
      s.type === "string"
        ? s.format === "ip" || s.format === "cidr"
        : s.type === "array"
          ? isAddress(s.items)
          : s.type === "object" && Object.values(s.keys).some(isAddress);
    const taking = hostCalls.filter((c) => Object.values(c.request).some(isAddress)).map((c) => c.name);
    expect(taking.toSorted()).toEqual([...Object.keys(onNode), ...elsewhere].toSorted());
  });
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

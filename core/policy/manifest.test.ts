import { describe, expect, test } from "bun:test";
import { CniError } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import { isSysctlPattern, limitCeiling, parseManifest } from "./manifest.ts";

const least: JsonObject = { name: "dummy", abi: 1, version: "1.0.0", calls: {}, schema: {} };

describe("parseManifest()", () => {
  test("fills in what is not said", () => {
    const m = parseManifest(least);
    expect(m.undo).toBe("journal");
    expect(m.keepNetworkObjects).toBe(true);
    expect(m.limits).toEqual({ ...limitCeiling, memoryBytes: 16 << 20 });
    expect(m.links.size).toBe(0);
  });

  test("reads calls, links, limits and the configuration's schema", () => {
    const m = parseManifest({
      ...least,
      calls: { link_create: ["pod-link", "parent"], ipam_add: [] },
      links: { parent: { key: "master", orDefaultRoute: true, inPodWhen: "linkInContainer" } },
      sysctls: ["pod:net/ipv4/conf/<link>/arp_notify"],
      limits: { calls: 20 },
      schema: {
        mode: { type: "string", enum: ["a", "b"], default: "a" },
        list: { type: "array", items: { type: "any" } },
      },
    });
    expect(m.calls.get("link_create")).toEqual(["pod-link", "parent"]);
    expect(m.links.get("parent")).toEqual({ key: "master", orDefaultRoute: true, inPodWhen: "linkInContainer" });
    expect(m.limits.calls).toBe(20);
    expect(m.limits.cpuMs).toBe(1000);
  });

  test.each([
    ["abi", { ...least, abi: 2 }],
    ["limits.memoryBytes", { ...least, limits: { memoryBytes: 64 << 20 } }],
    ["calls.link_set[0]", { ...least, calls: { link_set: ["everything"] } }],
    ["sysctls[0]", { ...least, sysctls: ["pod:kernel/core_pattern"] }],
    ["schema.a.type", { ...least, schema: { a: { type: "number" } } }],
    ["schema.a.min", { ...least, schema: { a: { type: "integer", min: "1" } } }],
    ["schema.a.max", { ...least, schema: { a: { type: "string", max: 1 } } }],
    ["schema.a.items.type", { ...least, schema: { a: { type: "array", items: {} } } }],
    ["schema.a.keys.b.type", { ...least, schema: { a: { type: "object", keys: { b: 1 } } } }],
    ["grants", { ...least, grants: [] }],
  ] as [string, JsonObject][])("refuses a wrong %s", (member, doc) => {
    let thrown: unknown;
    try {
      parseManifest(doc);
    } catch (e) {
      thrown = e;
    }
    expect(thrown).toBeInstanceOf(CniError);
    expect((thrown as CniError).code).toBe(7);
    expect((thrown as CniError).message).toStartWith(`Cannot use the plugin's manifest: ${member}: `);
  });
});

test.each([
  ["pod:net/ipv4/conf/<link>/arp_notify", true],
  ["host:net/ipv4/ip_forward", true],
  ["node:net/ipv4/ip_forward", false],
  ["host:net/ipv4/../../kernel/hostname", false],
  ["host:kernel/hostname/x", false],
  ["host:net//ip_forward", false],
  ["host:net", false],
  ["host:/net/ipv4/ip_forward", false],
  ["host:net/ipv4/conf/<other>/x", false],
])("isSysctlPattern(%j)", (text, good) => {
  expect(isSysctlPattern(text)).toBe(good);
});

import { describe, expect, test } from "bun:test";
import type { CniError } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import { declares, ipamTypeOf, parseNetworkList, typeOf } from "./list.ts";
import { deriveRequest } from "./request.ts";

const bridge = { type: "bridge", bridge: "br0", ipam: { type: "host-local" }, strange: { Kept: [1, null] } };

describe("parseNetworkList()", () => {
  test("keeps every key of a plugin, and the document", () => {
    const raw = { cniVersion: "1.0.0", name: "blue", plugins: [bridge, { type: "tuning" }] };
    const list = parseNetworkList(raw);
    expect(list.plugins[0]).toBe(bridge);
    expect(list.raw).toBe(raw);
    expect(list).toMatchObject({ cniVersion: "1.0.0", name: "blue", disableCheck: false, disableGC: false });
  });
  test("takes a single configuration for a list of one", () => {
    const raw = { cniVersion: "0.3.1", name: "one", ...bridge };
    expect(parseNetworkList(raw)).toMatchObject({ cniVersion: "0.3.1", name: "one", plugins: [raw] });
  });
  test.each<[string, Json, string, string[]]>([
    ["none: 0.1.0", {}, "0.1.0", ["0.1.0"]],
    ["the empty string", { cniVersion: "" }, "0.1.0", ["0.1.0"]],
    [
      "the union's highest of ours",
      { cniVersion: "0.4.0", cniVersions: ["1.0.0", "1.1.0", "2.0.0"] },
      "1.1.0",
      ["0.4.0", "1.0.0", "1.1.0", "2.0.0"],
    ],
    ["cniVersions alone", { cniVersions: ["0.3.1", "0.4.0"] }, "0.4.0", ["0.3.1", "0.4.0"]],
    ["an unknown one beside a known", { cniVersion: "3.0.0", cniVersions: ["0.4.0"] }, "0.4.0", ["0.4.0", "3.0.0"]],
    ["a short form", { cniVersion: "1.0" }, "1.0.0", ["1.0.0"]],
  ])("version: %s", (_, keys, version, versions) => {
    const list = parseNetworkList({ name: "a", plugins: [bridge], ...(keys as object) });
    expect([list.cniVersion, list.cniVersions]).toEqual([version, versions]);
  });
  test.each<[Json, boolean]>([
    [true, true],
    ["true", true],
    ["False", false],
    [false, false],
    [null, false],
  ])("disableCheck, disableGC and loadOnlyInlinedPlugins %p", (value, want) => {
    const keys = { disableCheck: value, disableGC: value, loadOnlyInlinedPlugins: value };
    const list = parseNetworkList({ name: "a", plugins: [bridge], ...keys });
    expect([list.disableCheck, list.disableGC, list.loadOnlyInlinedPlugins]).toEqual([want, want, want]);
  });
  test("the plugins beside a file follow the inline ones, unless it says otherwise", () => {
    const siblings = () => [{ type: "portmap" }];
    const types = (doc: Json): string[] => parseNetworkList(doc, { siblings }).plugins.map(typeOf);
    expect(types({ name: "a", plugins: [bridge] })).toEqual(["bridge", "portmap"]);
    expect(types({ name: "a" })).toEqual(["portmap"]);
    expect(types({ name: "a", plugins: [bridge], loadOnlyInlinedPlugins: true })).toEqual(["bridge"]);
    expect(types({ name: "a", ...bridge })).toEqual(["bridge"]);
    expect(() => types({ name: "a", loadOnlyInlinedPlugins: true })).toThrow('neither "type"');
    expect(() => parseNetworkList({ name: "a" }, { siblings: () => [] })).toThrow("it has no plugins");
  });
  test("gives a name to a configuration without one", () => {
    expect(parseNetworkList({ ...bridge }, { nameIfMissing: "nad" }).name as string).toBe("nad");
    expect(parseNetworkList({ name: "", ...bridge }, { nameIfMissing: "nad" }).name as string).toBe("nad");
  });
  test.each<[string, Json, number, string]>([
    ["no object", [], 7, "expected an object"],
    ["no name", { plugins: [bridge] }, 7, "name: expected a string, found nothing"],
    ["a name that leaves the directory", { name: "../a", plugins: [bridge] }, 7, "name: expected letters"],
    [
      "neither type nor plugins",
      { name: "a" },
      7,
      'it has neither "type" (a single configuration) nor "plugins" (a list)',
    ],
    ["an empty list", { name: "a", plugins: [] }, 7, "plugins: expected at least one plugin, found an empty list"],
    ["plugins that are no list", { name: "a", plugins: {} }, 7, "plugins: expected a list of plugins, found {}"],
    ["an entry without type", { name: "a", plugins: [{}] }, 7, "plugins[0].type: expected a string, found nothing"],
    [
      "a type that is a path",
      { name: "a", plugins: [{ type: "../sh" }] },
      7,
      "plugins[0].type: expected a plugin's name",
    ],
    [
      "an IPAM that is a path",
      { name: "a", type: "b", ipam: { type: "/bin/sh" } },
      7,
      "ipam.type: expected a plugin's name",
    ],
    [
      "a version that is a number",
      { name: "a", cniVersion: 1, plugins: [bridge] },
      7,
      "cniVersion: expected a CNI version",
    ],
    [
      "versions that are no list",
      { name: "a", cniVersions: "1.0.0", plugins: [bridge] },
      7,
      "cniVersions: expected a list",
    ],
    ["a version of the future", { name: "a", cniVersion: "2.0.0", plugins: [bridge] }, 1, '"2.0.0" is not one of ours'],
    [
      "a bad boolean",
      { name: "a", disableGC: "yes", plugins: [bridge] },
      7,
      'disableGC: expected true or false, found "yes"',
    ],
    [
      "a bad capability",
      { name: "a", type: "b", capabilities: { ips: 1 } },
      7,
      "capabilities.ips: expected true or false",
    ],
    ["too many plugins", { name: "a", plugins: Array.from({ length: 33 }, () => bridge) }, 7, "at most 32 plugins"],
  ])("refuses %s", (_, doc, code, message) => {
    let thrown: unknown;
    try {
      parseNetworkList(doc);
    } catch (caught) {
      thrown = caught;
    }
    expect((thrown as CniError).message).toContain(message);
    expect((thrown as CniError).code).toBe(code);
  });
});

test("declares() needs the boolean true", () => {
  expect(declares({ type: "a", capabilities: { ips: true, mac: false, bandwidth: null } }, "ips")).toBe(true);
  for (const name of ["mac", "bandwidth", "toString", "dns"]) {
    expect(declares({ type: "a", capabilities: { ips: true, mac: false, bandwidth: null } }, name)).toBe(false);
  }
  expect(ipamTypeOf(bridge)).toBe("host-local");
  expect(ipamTypeOf({ type: "macvlan", ipam: {} })).toBeUndefined();
});

describe("deriveRequest()", () => {
  const list = parseNetworkList({
    cniVersion: "1.0.0",
    name: "blue",
    plugins: [
      {
        ...bridge,
        Name: "other",
        cniVersion: "0.1.0",
        capabilities: { mac: true, ips: false, dns: true },
        prevResult: { a: 1 },
        RuntimeConfig: { portMappings: [{ hostPort: 22, containerPort: 22 }] },
      },
    ],
  });
  test("sets version and name, keeps the rest, drops what is made anew", () => {
    const request = deriveRequest(list, 0, "0.4.0");
    expect(request).toEqual({
      cniVersion: "0.4.0",
      name: "blue",
      ...bridge,
      capabilities: { mac: true, ips: false, dns: true },
    });
  });
  test("hands over what the plugin declares and the runtime gives", () => {
    const runtimeConfig = { mac: "02:00:00:00:00:01", ips: ["10.0.0.1"], dns: null, other: 1 };
    expect(deriveRequest(list, 0, "1.0.0", { runtimeConfig }).runtimeConfig).toEqual({ mac: "02:00:00:00:00:01" });
    expect(deriveRequest(list, 0, "1.0.0", { runtimeConfig: { ips: [] } })).not.toHaveProperty("runtimeConfig");
  });
  test("writes the previous result in the request's version", () => {
    const prevResult = { interfaces: [], ips: [{ address: "10.0.0.1/8" }], routes: [], dns: {} };
    expect(deriveRequest(list, 0, "0.4.0", { prevResult }).prevResult).toEqual({
      cniVersion: "0.4.0",
      ips: [{ version: "4", address: "10.0.0.1/8" }],
      dns: {},
    });
  });
});

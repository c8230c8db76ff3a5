import { describe, expect, test } from "bun:test";
import { CniError } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import { formatResult, parseErrorDocument, parseResult } from "./result.ts";
import { emptyResult, type Result } from "./types.ts";

const full: Result = {
  interfaces: [
    { name: "br0", mac: "02:00:00:00:00:01" },
    {
      name: "eth0",
      mac: "02:00:00:00:00:02",
      mtu: 1400,
      sandbox: "/run/netns/a",
      socketPath: "/s",
      pciID: "0000:00:01.0",
    },
  ],
  ips: [
    { address: "10.1.0.2/16", gateway: "10.1.0.1", interface: 1 },
    { address: "fd00::2/64", gateway: "fd00::1", interface: 1 },
    { address: "10.2.0.2/16" },
  ],
  routes: [
    { dst: "0.0.0.0/0", gw: "10.1.0.1", mtu: 1300, table: 0, scope: 0 },
    { dst: "fd01::/64", gw: "fd00::1" },
  ],
  dns: { nameservers: ["10.1.0.1"], domain: "a.b", search: ["b"], options: ["ndots:5"] },
};

describe("formatResult()", () => {
  test("1.1.0 has everything, keys as the reference prints them", () => {
    expect(JSON.stringify(formatResult(full, "1.1.0"))).toBe(
      '{"cniVersion":"1.1.0",' +
        '"dns":{"domain":"a.b","nameservers":["10.1.0.1"],"options":["ndots:5"],"search":["b"]},' +
        '"interfaces":[{"mac":"02:00:00:00:00:01","name":"br0"},{"mac":"02:00:00:00:00:02","mtu":1400,"name":"eth0",' +
        '"pciID":"0000:00:01.0","sandbox":"/run/netns/a","socketPath":"/s"}],' +
        '"ips":[{"address":"10.1.0.2/16","gateway":"10.1.0.1","interface":1},' +
        '{"address":"fd00::2/64","gateway":"fd00::1","interface":1},{"address":"10.2.0.2/16"}],' +
        '"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1300,"scope":0,"table":0},{"dst":"fd01::/64","gw":"fd00::1"}]}',
    );
  });
  test("1.0.0 differs from 1.1.0 in the version alone", () => {
    expect(formatResult(full, "1.0.0")).toEqual({ ...formatResult(full, "1.1.0"), cniVersion: "1.0.0" });
  });
  test.each(["0.3.0", "0.3.1", "0.4.0"])("%s has the family, not the later keys of an interface", (version) => {
    expect(JSON.stringify(formatResult(full, version))).toBe(
      `{"cniVersion":"${version}",` +
        '"interfaces":[{"name":"br0","mac":"02:00:00:00:00:01"},{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/a"}],' +
        '"ips":[{"version":"4","interface":1,"address":"10.1.0.2/16","gateway":"10.1.0.1"},' +
        '{"version":"6","interface":1,"address":"fd00::2/64","gateway":"fd00::1"},{"version":"4","address":"10.2.0.2/16"}],' +
        '"routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1","mtu":1300,"table":0,"scope":0},{"dst":"fd01::/64","gw":"fd00::1"}],' +
        '"dns":{"nameservers":["10.1.0.1"],"domain":"a.b","search":["b"],"options":["ndots:5"]}}',
    );
  });
  test.each(["0.1.0", "0.2.0"])("%s has the first address of each family, with its routes", (version) => {
    expect(JSON.stringify(formatResult(full, version))).toBe(
      `{"cniVersion":"${version}",` +
        '"ip4":{"ip":"10.1.0.2/16","gateway":"10.1.0.1","routes":[{"dst":"0.0.0.0/0","gw":"10.1.0.1"}]},' +
        '"ip6":{"ip":"fd00::2/64","gateway":"fd00::1","routes":[{"dst":"fd01::/64","gw":"fd00::1"}]},' +
        '"dns":{"nameservers":["10.1.0.1"],"domain":"a.b","search":["b"],"options":["ndots:5"]}}',
    );
  });
  test.each([
    ["1.1.0", '{"cniVersion":"1.1.0"}'],
    ["1.0.0", '{"cniVersion":"1.0.0"}'],
    ["0.4.0", '{"cniVersion":"0.4.0","dns":{}}'],
    ["0.3.0", '{"cniVersion":"0.3.0","dns":{}}'],
  ])("an empty result in %s", (version, want) => expect(JSON.stringify(formatResult(emptyResult, version))).toBe(want));
  test.each(["0.1.0", "0.2.0"])("refuses %s without an address", (version) => {
    expect(() => formatResult(emptyResult, version)).toThrow(`Cannot write the result in CNI version ${version}`);
  });
  test("refuses a version that is not ours", () => expect(() => formatResult(full, "1.2.0")).toThrow("1.2.0"));
});

describe("parseResult()", () => {
  test.each(["1.1.0", "1.0.0"])("reads back %s", (version) => {
    expect(parseResult(formatResult(full, version), "0.1.0")).toEqual(full);
  });
  test("reads 0.4.0, which lacks the later keys", () => {
    const { mtu: _, socketPath: __, pciID: ___, ...eth0 } = full.interfaces[1] ?? { name: "" };
    const want = { ...full, interfaces: [full.interfaces[0], eth0] };
    expect(parseResult(formatResult(full, "0.4.0"), "0.1.0")).toEqual(want as Result);
  });
  test("reads 0.2.0: IPv4, then IPv6, no interfaces", () => {
    expect(parseResult(formatResult(full, "0.2.0"), "1.0.0")).toEqual({
      interfaces: [],
      ips: [
        { address: "10.1.0.2/16", gateway: "10.1.0.1" },
        { address: "fd00::2/64", gateway: "fd00::1" },
      ],
      routes: [
        { dst: "0.0.0.0/0", gw: "10.1.0.1" },
        { dst: "fd01::/64", gw: "fd00::1" },
      ],
      dns: full.dns,
    });
  });
  test.each<[string, Json, string, Result]>([
    ["null", null, "1.0.0", emptyResult],
    [
      "no version: the configuration's",
      { ip4: { ip: "10.0.0.1/8" } },
      "0.2.0",
      { ...emptyResult, ips: [{ address: "10.0.0.1/8" }] },
    ],
    [
      "an empty version",
      { cniVersion: "", ips: [{ address: "10.0.0.1/8" }] },
      "1.0.0",
      { ...emptyResult, ips: [{ address: "10.0.0.1/8" }] },
    ],
    [
      "null members",
      { cniVersion: "1.0.0", ips: null, routes: null, dns: null, interfaces: null },
      "1.0.0",
      emptyResult,
    ],
    [
      "empty texts",
      { interfaces: [{ name: "a", mac: "", sandbox: "" }], dns: { domain: "", search: [] } },
      "1.0.0",
      { ...emptyResult, interfaces: [{ name: "a" }] },
    ],
    [
      "index -1 of old plugins",
      { ips: [{ version: "4", interface: -1, address: "10.0.0.1/8", gateway: "" }] },
      "0.3.0",
      { ...emptyResult, ips: [{ address: "10.0.0.1/8" }] },
    ],
    [
      "other spellings",
      { IPs: [{ Address: "FD00::1/64", Gateway: "::FFFF:1.2.3.4" }] },
      "1.0.0",
      { ...emptyResult, ips: [{ address: "fd00::1/64", gateway: "1.2.3.4" }] },
    ],
  ])("reads %s", (_, doc, version, want) => expect(parseResult(doc, version)).toEqual(want));
  test.each<[string, Json, number, string]>([
    ["no object", "x", 6, 'expected an object, found "x"'],
    ["an unknown version", { cniVersion: "7.0.0" }, 1, 'CNI version "7.0.0" is not known'],
    [
      "an address without prefix",
      { ips: [{ address: "10.0.0.1" }] },
      6,
      'ips[0].address: expected an address with prefix length such as "10.1.2.3/24", found "10.0.0.1"',
    ],
    ["a prefix too long", { ips: [{ address: "10.0.0.1/33" }] }, 6, "ips[0].address"],
    [
      "a bad gateway",
      { ips: [{ address: "10.0.0.1/8", gateway: "x" }] },
      6,
      'ips[0].gateway: expected an IP address such as "10.1.2.1", found "x"',
    ],
    [
      "an index of nothing",
      { ips: [{ address: "10.0.0.1/8", interface: 0 }] },
      6,
      "ips[0].interface: expected the index of one of the 0 interfaces, found 0",
    ],
    ["a route without a target", { routes: [{ gw: "10.0.0.1" }] }, 6, "routes[0].dst"],
    ["a broken number", { routes: [{ dst: "0.0.0.0/0", mtu: 1.5 }] }, 6, "routes[0].mtu: expected an integer"],
    [
      "too many addresses",
      { ips: Array.from({ length: 65 }, () => ({ address: "10.0.0.1/8" })) },
      6,
      "ips: expected at most 64 items, found 65",
    ],
    [
      "too many routes",
      { routes: Array.from({ length: 257 }, () => ({ dst: "10.0.0.0/8" })) },
      6,
      "routes: expected at most 256 items",
    ],
    [
      "a control character",
      { interfaces: [{ name: "a\u001b" }] },
      6,
      "interfaces[0].name: expected a string without control characters",
    ],
    [
      "an IPv6 address as ip4",
      { cniVersion: "0.2.0", ip4: { ip: "fd00::1/64" } },
      6,
      "ip4.ip: expected an IPv4 address",
    ],
  ])("refuses %s", (_, doc, code, message) => {
    const thrown = attempt(() => parseResult(doc, "1.0.0"));
    expect(thrown).toBeInstanceOf(CniError);
    expect((thrown as CniError).message).toContain(message);
    expect((thrown as CniError).code).toBe(code);
  });
  test("throws nothing but CniError on mutated results", () => {
    const seeds = ["1.1.0", "0.4.0", "0.2.0"].map((version) => JSON.stringify(formatResult(full, version)));
    const until = Date.now() + 1500;
    let seed = 7;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
      return seed % n;
    };
    for (let runs = 0; Date.now() < until && runs < 20_000; runs++) {
      let text = seeds[random(seeds.length)] ?? "";
      for (let i = 0; i <= random(4); i++) {
        const at = random(text.length);
        const piece = ['"', "0", "null", "{}", "[]", "-1", "/", ":", "a", ""][random(10)] ?? "";
        text = text.slice(0, at) + piece + text.slice(at + random(6));
      }
      let doc: Json;
      try {
        doc = JSON.parse(text);
      } catch {
        continue;
      }
      const thrown = attempt(() => parseResult(doc, "1.0.0"));
      if (thrown !== undefined) expect(thrown, text).toBeInstanceOf(CniError);
    }
  });
});

test("parseErrorDocument() takes error documents only", () => {
  expect(parseErrorDocument({ code: 7, msg: "no", details: "x" })).toEqual({ code: 7, msg: "no", details: "x" });
  expect(parseErrorDocument({ code: 7 })).toEqual({ code: 7, msg: "", details: "" });
  expect(parseErrorDocument({ msg: "no" })).toBeUndefined();
  expect(parseErrorDocument({ code: -1 })).toBeUndefined();
  expect(parseErrorDocument([])).toBeUndefined();
});

function attempt(work: () => unknown): unknown {
  try {
    work();
    return undefined;
  } catch (thrown) {
    return thrown;
  }
}

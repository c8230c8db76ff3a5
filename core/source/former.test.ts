import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import type { ContainerId, IfName } from "../base/brand.ts";
import { typeOf } from "../cni/list.ts";
import { cachedAttachments, cachedOfNetwork, readLibcniCache, readMultusCache } from "./former.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(`${tmpdir()}/patchbay-former-`);
  mkdirSync(`${root}/results`);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

const base64 = (value: unknown): string => btoa(JSON.stringify(value));
const id = "0123abcd" as ContainerId;
const conf = { cniVersion: "0.4.0", name: "blue", plugins: [{ type: "bridge", strange: 1 }] };
const record = (ifName: string, networkName = "blue", containerId: string = id) => ({
  kind: "cniCacheV1",
  containerId,
  config: base64({ ...conf, name: networkName }),
  ifName,
  networkName,
  netns: "/run/netns/a",
  cniArgs: [
    ["IgnoreUnknown", "1"],
    ["K8S_POD_NAME", "web-0"],
  ],
  capabilityArgs: { portMappings: [{ HostPort: 1 }] },
  result: { cniVersion: "0.4.0", ips: [{ version: "4", address: "10.0.0.2/24" }], dns: {} },
});
const put = (name: string, value: unknown): void =>
  writeFileSync(`${root}/${name}`, typeof value === "string" ? value : JSON.stringify(value));

describe("readLibcniCache()", () => {
  const read = () => readLibcniCache("blue", id, "eth0", `${root}/results`);
  test("reads a record", () => {
    put(`results/blue-${id}-eth0`, record("eth0"));
    expect(read()).toMatchObject({
      netns: "/run/netns/a",
      args: new Map([
        ["IgnoreUnknown", "1"],
        ["K8S_POD_NAME", "web-0"],
      ]),
      capabilityValues: { portMappings: [{ HostPort: 1 }] },
      result: { ips: [{ address: "10.0.0.2/24" }] },
    } as never);
    expect(read()?.list?.plugins).toEqual(conf.plugins);
  });
  test("reads a file of old versions, the result alone", () => {
    put(`results/blue-${id}-eth0`, { cniVersion: "0.3.1", ips: [{ version: "4", address: "10.0.0.2/24" }] });
    expect(read()?.result?.ips).toEqual([{ address: "10.0.0.2/24" }]);
    expect(read()).not.toHaveProperty("list");
  });
  test("keeps what can be read where a part is damaged", () => {
    put(`results/blue-${id}-eth0`, { ...record("eth0"), config: "!", result: { ips: [{}] } });
    expect(read()).toMatchObject({ netns: "/run/netns/a" });
    expect(read()).not.toHaveProperty("list");
    expect(read()).not.toHaveProperty("result");
  });
  test.each(["", "\0\0\0", "{", "[]", "null"])("a file with %p is no record", (content) => {
    put(`results/blue-${id}-eth0`, content);
    expect(read()).toBeUndefined();
  });
  test("no file, no record", () => expect(read()).toBeUndefined());
});

test("cachedAttachments() finds the container's own", () => {
  put(`results/blue-${id}-eth0`, record("eth0"));
  put(`results/red-${id}-net1`, record("net1", "red"));
  put(`results/x-${id}-y-other-eth0`, record("eth0", "x", "other"));
  put(`results/bad-${id}-net2`, "{");
  expect(cachedAttachments(id, `${root}/results`).map((a) => [a.network, a.ifname])).toEqual([
    ["blue", "eth0"],
    ["red", "net1"],
  ]);
  expect(cachedAttachments(id, `${root}/none`)).toEqual([]);
});

test("cachedOfNetwork() finds the network's own, of any container", () => {
  put(`results/blue-${id}-eth0`, record("eth0"));
  put("results/blue-c9-net1", record("net1", "blue", "c9"));
  put("results/blue-green-c9-eth0", record("eth0", "blue-green", "c9"));
  put("results/blue-bad-eth0", "{");
  expect(cachedOfNetwork("blue", `${root}/results`).map((a) => [a.containerId, a.ifname])).toEqual([
    [id, "eth0"],
    ["c9", "net1"],
  ]);
  expect(cachedOfNetwork("blue", `${root}/none`)).toEqual([]);
});

describe("readMultusCache()", () => {
  const read = () => readMultusCache(id, "eth0" as IfName, root);
  test("reads the networks of a pod, with libcni's records", () => {
    put(id, [
      {
        Conf: { name: "", type: "" },
        ConfList: { name: "cbr0" },
        Name: "cbr0",
        Bytes: base64({ ...conf, name: "cbr0" }),
      },
      {
        Conf: {},
        Name: "team/a",
        macRequest: "02:00:00:00:00:01",
        ipRequest: ["10.0.0.2"],
        Bytes: base64({ ...conf, name: "a" }),
      },
      {
        Conf: {},
        Name: "team/b",
        ifnameRequest: "data0",
        deviceID: "0000:00:02.0",
        resourceName: "x/y",
        Bytes: base64({ ...conf, name: "b" }),
      },
      { Conf: { cniVersion: "0.4.0", name: "c", type: "macvlan" }, Name: "team/c" },
      { Name: "team/d", Bytes: "!" },
    ]);
    put(`results/a-${id}-net1`, record("net1", "a"));
    const got = read();
    expect(got?.delegates.map((d) => [d.label, d.ifname as string, d.isDefault, d.list.name as string])).toEqual([
      ["cbr0", "eth0", true, "cbr0"],
      ["team/a", "net1", false, "a"],
      ["team/b", "data0", false, "b"],
      ["team/c", "net3", false, "c"],
    ]);
    expect(got?.damaged).toEqual([4]);
    expect(got?.delegates[0]?.list.plugins).toEqual(conf.plugins);
    expect(got?.delegates[1]).toMatchObject({
      mac: "02:00:00:00:00:01",
      ips: ["10.0.0.2"],
      cached: { netns: "/run/netns/a" },
    });
    expect(got?.delegates[2]).toMatchObject({ deviceID: "0000:00:02.0", resourceName: "x/y" });
    expect(got?.delegates[3]?.list.plugins.map(typeOf)).toEqual(["macvlan"]);
  });
  test.each(["", "[{", "{}", "null"])("a file with %p is none", (content) => {
    put(id, content);
    expect(read()).toBeUndefined();
  });
});

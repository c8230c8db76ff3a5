import { describe, expect, test } from "bun:test";
import type { JsonObject } from "../../base/json.ts";
import type { IpamRequest } from "../ipam.ts";
import { clientIdOf, parseDhcpConf } from "./conf.ts";

const request = (ipam: JsonObject, args: Readonly<Record<string, string>> = {}): IpamRequest => ({
  command: "ADD",
  conf: { name: "lan", type: "macvlan", ipam: { type: "dhcp", ...ipam } },
  network: "lan",
  containerId: "c1",
  ifname: "net1",
  cookie: "",
  args: new Map(Object.entries(args)),
  runtimeConfig: {},
  nodeFiles: true,
});
const usual = [121, 1, 3, 33, 6, 15, 42, 249];
const needed = [51, 54, 58, 59];
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("parseDhcpConf()", () => {
  test.each([
    ["nothing", {}, [...usual, ...needed]],
    ["more", { request: [{ option: "67" }, { option: "3" }] }, [...usual, 67, ...needed]],
    ["less", { request: [{ skipDefault: true }, { option: "subnet-mask" }] }, [1, ...needed]],
    ["nothing at all", { request: [{ skipDefault: true }] }, []],
    ["a number", { request: [{ option: 67 }] }, [...usual, 67, ...needed]],
  ])("requests %s", (_, ipam, want) => {
    expect(parseDhcpConf(request(ipam as JsonObject)).requested).toEqual(want);
  });

  test("provides values, and those of CNI_ARGS where they are given", () => {
    const provide = [
      { option: "host-name", value: "fixed", fromArg: "K8S_POD_NAME" },
      { option: "60", fromArg: "NONE" },
      { option: "user-class", value: "" },
      { option: "vendor-class-identifier", value: "v" },
    ];
    expect(parseDhcpConf(request({ provide }, { K8S_POD_NAME: "web-0" })).provided).toEqual([
      [12, bytes("fixed")],
      [12, bytes("web-0")],
      [60, bytes("v")],
    ]);
  });

  test.each([
    [{ request: [{ option: "dns" }] }, "request[0].option: expected an option's number"],
    [{ request: [{ option: "256" }] }, "request[0].option"],
    [{ request: ["3"] }, "request[0]: expected an object"],
    [{ request: [{ skipDefault: "yes" }] }, "request[0].skipDefault: expected true or false"],
    [{ provide: [{ value: "x" }] }, "provide[0].option: expected an option's number from 0 to 255"],
    [{ provide: [{ option: "55", value: "x" }] }, "provide[0].option: option 55 is the client's own"],
    [{ provide: [{ option: "0", value: "x" }] }, "option 0"],
    [{ provide: [{ option: "12", value: "x".repeat(256) }] }, "at most 255 bytes"],
    [{ priority: 1.5 }, "priority"],
    [{ daemonSocketPath: 7 }, "daemonSocketPath: expected a string"],
  ])("refuses %j", (ipam, words) => {
    expect(() => parseDhcpConf(request(ipam as JsonObject))).toThrow(words);
  });

  test("the reference's daemon's socket is passed over", () => {
    expect(parseDhcpConf(request({ daemonSocketPath: "/run/cni/dhcp.sock" })).priority).toBe(0);
  });
});

test("clientIdOf() is the reference's, in 255 bytes", () => {
  expect(clientIdOf(request({}))).toEqual(Uint8Array.of(0, ...bytes("c1/lan/net1")));
  const long = clientIdOf({ containerId: "c".repeat(200), network: "n".repeat(80), ifname: "eth0" });
  expect(long.length).toBe(255);
  expect(long[0]).toBe(0);
});

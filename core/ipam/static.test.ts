import { describe, expect, test } from "bun:test";
import type { CniError } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import { ReferenceLeases } from "../state/reference-leases.ts";
import type { IpamRequest } from "./ipam.ts";
import { ipams } from "./ipams.ts";
import { staticIpam } from "./static.ts";

const none = new ReferenceLeases("/nowhere");
const own = { addresses: [{ address: "10.1.0.5/24", gateway: "10.1.0.1" }, { address: "fd00::5/64" }] };
const ownIps = [{ address: "10.1.0.5/24", gateway: "10.1.0.1" }, { address: "fd00::5/64" }];

function request(ipam: JsonObject, args: Record<string, string> = {}, more: Partial<IpamRequest> = {}): IpamRequest {
  return {
    command: "ADD",
    network: "net",
    containerId: "c1",
    ifname: "eth0",
    cookie: "",
    args: new Map(Object.entries(args)),
    runtimeConfig: {},
    nodeFiles: false,
    ...more,
    conf: { cniVersion: "1.1.0", name: "net", ipam: { type: "static", ...ipam }, ...more.conf },
  };
}

describe("static", () => {
  const args = { args: { cni: { ips: ["10.7.0.1/24"] } } };
  const rows: [string, IpamRequest, { address: string; gateway?: string }[]][] = [
    ["nothing", request({}), []],
    ["the configuration's", request(own), ownIps],
    ["those of CNI_ARGS behind them", request(own, { IP: "10.3.0.1/24" }), [...ownIps, { address: "10.3.0.1/24" }]],
    [
      "a gateway of CNI_ARGS to the address of CNI_ARGS that it fits",
      request({ addresses: [{ address: "10.9.0.5/24" }] }, { IP: "10.3.0.1/24, 10.9.0.6/24", GATEWAY: "10.9.0.1" }),
      [{ address: "10.9.0.5/24" }, { address: "10.3.0.1/24" }, { address: "10.9.0.6/24", gateway: "10.9.0.1" }],
    ],
    [
      "args.cni.ips in place of those",
      request(own, { IP: "10.3.0.1/24" }, { conf: args }),
      [{ address: "10.7.0.1/24" }],
    ],
    [
      "the capability's in place of all, without gateways",
      request(own, { IP: "10.3.0.1/24" }, { conf: args, runtimeConfig: { ips: ["10.8.0.1/24", "fd00::3/64"] } }),
      [{ address: "10.8.0.1/24" }, { address: "fd00::3/64" }],
    ],
    ["an empty capability is none", request(own, {}, { runtimeConfig: { Ips: [] } }), ownIps],
    [
      "a gateway of another subnet as it is",
      request({ addresses: [{ address: "10.1.0.5/24", gateway: "10.9.0.1" }] }),
      [{ address: "10.1.0.5/24", gateway: "10.9.0.1" }],
    ],
  ];
  test.each(rows)("ADD gives %s", (_, r, want) => {
    expect(staticIpam.add(r, undefined, none).ips).toEqual(want);
  });

  test("ADD gives routes and names", () => {
    const routes = [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }];
    const dns = { nameservers: ["10.0.0.53"], domain: "d", search: ["s"], options: ["o"] };
    expect(staticIpam.add(request({ ...own, routes, dns }), undefined, none)).toEqual({ ips: ownIps, routes, dns });
  });

  const refused: [string, IpamRequest, string][] = [
    [
      "no prefix length",
      request({ addresses: [{ address: "10.1.0.5" }] }),
      'addresses[0].address: expected an address with its prefix length, such as "10.1.0.5/24", found "10.1.0.5"',
    ],
    ["none in CNI_ARGS", request({}, { IP: "10.1.0.5" }), "CNI_ARGS IP: expected an address with its prefix length"],
    [
      "none in the capability",
      request({}, {}, { runtimeConfig: { ips: ["10.1.0.5"] } }),
      "runtimeConfig.ips[0]: expected",
    ],
    [
      "a bad gateway",
      request({ addresses: [{ address: "10.1.0.5/24", gateway: "x" }] }),
      "addresses[0].gateway: expected an IP address",
    ],
    [
      "a bad gateway in CNI_ARGS",
      request(own, { IP: "10.1.0.5/24", GATEWAY: "x" }),
      "CNI_ARGS GATEWAY: expected an IP address",
    ],
    ["a bad route", request({ ...own, routes: [{ dst: "x" }] }), "routes[0].dst"],
    ["an address that is no object", request({ addresses: ["10.1.0.5/24"] }), "addresses[0]: expected an object"],
    [
      "two of a family in an old result",
      request(
        { addresses: [{ address: "10.1.0.5/24" }, { address: "10.1.0.6/24" }] },
        {},
        { conf: { cniVersion: "0.2.0" } },
      ),
      "one address a family only",
    ],
  ];
  test.each(refused)("ADD and STATUS refuse %s", (_, r, message) => {
    for (const run of [() => staticIpam.add(r, undefined, none), () => staticIpam.status(r, none)]) {
      expect(run).toThrow(message);
    }
  });

  const prev = (...list: JsonObject[]): Partial<IpamRequest> => ({
    command: "CHECK",
    conf: { prevResult: { cniVersion: "1.1.0", ips: list } },
  });
  const first = { address: "10.1.0.5/24", gateway: "10.1.0.1" };
  const checks: [string, Partial<IpamRequest>, string | undefined][] = [
    ["what is there", prev(first, { address: "fd00:0::5/64" }), undefined],
    ["a gateway that the plugin found", prev(first, { address: "fd00::5/64", gateway: "fd00::1" }), undefined],
    ["a lost address", prev(first), '"prevResult" lacks fd00::5/64'],
    ["another gateway", prev({ ...first, gateway: "10.1.0.2" }), "lacks 10.1.0.5/24 with gateway 10.1.0.1"],
    ["nothing to compare with", { command: "CHECK" }, 'there is no "prevResult"'],
  ];
  test.each(checks)("CHECK finds %s", (_, more, message) => {
    const run = (): void => staticIpam.check(request(own, {}, more), none);
    if (message === undefined) run();
    else expect(run).toThrow(message);
  });

  test("DEL and GC have nothing to do, whatever the configuration", () => {
    staticIpam.del(request({ addresses: "x" }), none);
    staticIpam.gc(request({ addresses: "x" }), none);
  });

  test("errors are CNI errors of code 7", () => {
    let code: number | undefined;
    try {
      staticIpam.add(request({ addresses: 5 }), undefined, none);
    } catch (thrown) {
      code = (thrown as CniError).code;
    }
    expect(code).toBe(7);
  });

  test("the IPAMs of this process are found by type", () => {
    expect([...ipams.keys()]).toEqual(["host-local", "static", "dhcp"]);
  });
});

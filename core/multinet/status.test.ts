import { describe, expect, test } from "bun:test";
import { emptyResult, type Result } from "../cni/types.ts";
import { formatStatus, statusOf } from "./status.ts";

const result = (parts: Partial<Result>): Result => ({ ...emptyResult, ...parts });
const pod = (name: string) => ({ name, mac: "02:00:00:00:00:01", sandbox: "/run/netns/a" });

describe("statusOf()", () => {
  test("no result: the name alone", () => {
    expect(statusOf("n/a", false, undefined)).toEqual([{ name: "n/a", dns: {} }]);
    expect(statusOf("n/a", true, undefined)).toEqual([{ name: "n/a", default: true, dns: {} }]);
  });
  test("a bridge: the interface in the pod, bare addresses, gateways of default routes", () => {
    const got = statusOf(
      "cbr0",
      true,
      result({
        interfaces: [{ name: "cni0" }, { name: "veth1" }, { ...pod("eth0"), mtu: 1400 }],
        ips: [{ address: "10.1.0.2/16", gateway: "10.1.0.1", interface: 2 }],
        routes: [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }, { dst: "10.0.0.0/8", gw: "10.1.0.9" }, { dst: "::/0" }],
        dns: { nameservers: ["10.1.0.1"] },
      }),
    );
    expect(got).toEqual([
      {
        name: "cbr0",
        interface: "eth0",
        ips: ["10.1.0.2"],
        mac: "02:00:00:00:00:01",
        mtu: 1400,
        default: true,
        dns: { nameservers: ["10.1.0.1"] },
        gateway: ["10.1.0.1"],
      },
    ]);
  });
  test("the gateway of a default route for packets of one source is not told", () => {
    const routes = [{ dst: "0.0.0.0/0", gw: "10.1.0.1", table: 100 }];
    expect(statusOf("a", false, result({ interfaces: [pod("net1")], routes }))[0]?.gateway).toBeUndefined();
  });
  test("one interface has every address, whatever the index says", () => {
    const ips = [{ address: "10.1.0.2/16" }, { address: "fd00::2/64", interface: 0 }];
    expect(statusOf("a", false, result({ interfaces: [pod("net1")], ips }))[0]?.ips).toEqual(["10.1.0.2", "fd00::2"]);
  });
  test("no interface in the pod: the addresses without an index", () => {
    const interfaces = [{ name: "h1" }, { name: "h2" }];
    const ips = [{ address: "10.1.0.2/16" }, { address: "10.9.0.2/16", interface: 1 }];
    expect(statusOf("a", false, result({ interfaces, ips }))).toEqual([{ name: "a", ips: ["10.1.0.2"], dns: {} }]);
    expect(statusOf("a", false, result({ ips: [{ address: "10.1.0.2/16" }] }))).toEqual([
      { name: "a", ips: ["10.1.0.2"], dns: {} },
    ]);
  });
  test("one interface of the node", () => {
    expect(
      statusOf("a", false, result({ interfaces: [{ name: "h1" }], ips: [{ address: "10.1.0.2/16", interface: 0 }] })),
    ).toEqual([{ name: "a", ips: ["10.1.0.2"], dns: {} }]);
  });
  const several = {
    interfaces: [pod("a0"), { name: "host" }, pod("a1"), pod("a2")],
    ips: [
      { address: "10.0.0.1/8", interface: 0 },
      { address: "10.0.0.2/8", interface: 1 },
      { address: "10.0.0.3/8", interface: 2, gateway: "10.0.0.254" },
      { address: "10.0.0.4/8" },
    ],
  };
  test("several: one entry each; default where the first gateway is; the last takes addresses without an index", () => {
    const got = statusOf("a", true, result(several));
    expect(got.map((s) => [s.interface, s.default ?? false, s.ips ?? []])).toEqual([
      ["a0", false, ["10.0.0.1"]],
      ["a1", true, ["10.0.0.3"]],
      ["a2", false, ["10.0.0.4"]],
    ]);
  });
  test("several without a gateway: the first is the default", () => {
    const ips = several.ips.map(({ gateway: _, ...ip }) => ip);
    expect(statusOf("a", true, result({ ...several, ips })).map((s) => s.default ?? false)).toEqual([
      true,
      false,
      false,
    ]);
    expect(statusOf("a", false, result(several)).some((s) => s.default)).toBe(false);
  });
  test("a gateway on an interface of the node does not take the default away", () => {
    const ips = [{ address: "10.0.0.2/8", interface: 1, gateway: "10.0.0.254" }];
    expect(statusOf("a", true, result({ ...several, ips })).map((s) => s.default ?? false)).toEqual([
      true,
      false,
      false,
    ]);
  });
});

test("formatStatus() is the client library's text, byte for byte", () => {
  const first = statusOf(
    "cbr0",
    true,
    result({
      interfaces: [{ ...pod("eth0"), mtu: 1500 }],
      ips: [{ address: "10.1.0.2/16", interface: 0 }],
      routes: [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }],
      dns: { nameservers: ["10.1.0.1"], domain: "a<b" },
    }),
  );
  const second = statusOf("default/macvlan", false, result({ interfaces: [pod("net1")] }), {
    type: "pci",
    version: "1.1.0",
  });
  expect(formatStatus([...first, ...second])).toBe(
    `[{
    "name": "cbr0",
    "interface": "eth0",
    "ips": [
        "10.1.0.2"
    ],
    "mac": "02:00:00:00:00:01",
    "mtu": 1500,
    "default": true,
    "dns": {
        "nameservers": [
            "10.1.0.1"
        ],
        "domain": "a\\u003cb"
    },
    "gateway": [
        "10.1.0.1"
    ]
},{
    "name": "default/macvlan",
    "interface": "net1",
    "mac": "02:00:00:00:00:01",
    "dns": {},
    "device-info": {
        "type": "pci",
        "version": "1.1.0"
    }
}]`,
  );
  expect(formatStatus([])).toBe("[]");
});

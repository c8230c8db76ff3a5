import { describe, expect, test } from "bun:test";
import { CniError } from "../base/error.ts";
import { formatIp, parseCidr, parseIp } from "../base/ip.ts";
import { emptyResult, type Result } from "../cni/types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import type { DefaultRoutes } from "../plan/plan.ts";
import { moveDefaultRoutes, type Routed } from "./default-route.ts";

interface Net {
  readonly ifname: string;
  /** Of the interface, with prefix. */
  readonly addresses: readonly string[];
  /** Gateways of the default routes that its plugins made. */
  readonly defaults: readonly string[];
}

const eth0: Net = { ifname: "eth0", addresses: ["10.0.0.2/24", "fd00:1::2/64"], defaults: ["10.0.0.1", "fd00:1::1"] };
const net1: Net = { ifname: "net1", addresses: ["10.1.0.2/24", "fd00:2::2/64"], defaults: [] };
const net2: Net = { ifname: "net2", addresses: ["10.2.0.2/24"], defaults: ["10.2.0.1"] };

const cidr = (text: string) => {
  const parsed = parseCidr(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
};
const ip = (text: string) => {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(text);
  return parsed;
};

/** A pod with these networks, and what their plugins said. */
function podWith(nets: readonly Net[]): { pod: Kernel; node: SimulatedNode; attachments: Routed[] } {
  const node = new SimulatedNode();
  node.netns("host", { host: true });
  const pod = node.netns("pod");
  const attachments = nets.map((net, index): Routed => {
    const link = pod.createLink({ kind: "dummy", name: net.ifname, mac: `02:00:00:00:00:0${index + 1}` });
    pod.setLink(link.index, { up: true });
    for (const address of net.addresses) pod.addAddress(link.index, { address: cidr(address), noDad: true });
    // Of several default routes the kernel tells one from another by the metric.
    for (const gw of net.defaults) {
      const gateway = ip(gw);
      pod.addRoute({ family: gateway.family, gateway, index: link.index, priority: 100 + index });
    }
    const result: Result = {
      ...emptyResult,
      interfaces: [{ name: net.ifname, sandbox: "/run/netns/pod" }],
      ips: net.addresses.map((address) => ({ address, interface: 0 })),
      routes: net.defaults.map((gw) => ({ dst: gw.includes(":") ? "::/0" : "0.0.0.0/0", gw })),
    };
    return { index, label: net.ifname, ifname: net.ifname, result };
  });
  return { pod, node, attachments };
}

/** "interface gateway" of each default route in the pod. */
const inPod = (pod: Kernel): string[] =>
  pod
    .routes()
    .filter((r) => r.dst === undefined || r.dst.prefix === 0)
    .map((r) => `${pod.linkByIndex(r.index ?? 0)?.name} ${r.gateway && formatIp(r.gateway)}`)
    .sort();
const inResult = (result: Result | undefined): string[] =>
  (result?.routes ?? []).map((r) => `${r.dst} ${r.gw ?? "-"}`).sort();

describe("moveDefaultRoutes()", () => {
  const cases: ReadonlyArray<readonly [string, readonly Net[], DefaultRoutes, string[], string[][]]> = [
    [
      "nothing asked: nothing changes",
      [eth0, net1],
      {},
      ["eth0 10.0.0.1", "eth0 fd00:1::1"],
      [["0.0.0.0/0 10.0.0.1", "::/0 fd00:1::1"], []],
    ],
    [
      "IPv4 alone moves, IPv6 stays",
      [eth0, net1],
      { 4: { owner: 1, gateway: "10.1.0.1" } },
      ["eth0 fd00:1::1", "net1 10.1.0.1"],
      [["::/0 fd00:1::1"], ["0.0.0.0/0 10.1.0.1"]],
    ],
    [
      "IPv6 alone moves, IPv4 stays",
      [eth0, net1],
      { 6: { owner: 1, gateway: "fd00:2::1" } },
      ["eth0 10.0.0.1", "net1 fd00:2::1"],
      [["0.0.0.0/0 10.0.0.1"], ["::/0 fd00:2::1"]],
    ],
    [
      "both families, each to another network",
      [eth0, net1, net2],
      { 4: { owner: 2, gateway: "10.2.0.9" }, 6: { owner: 1, gateway: "fd00:2::1" } },
      ["net1 fd00:2::1", "net2 10.2.0.9"],
      [[], ["::/0 fd00:2::1"], ["0.0.0.0/0 10.2.0.9"]],
    ],
    [
      "an empty list: the network keeps what it has, all others lose theirs",
      [eth0, net1, net2],
      { 4: { owner: 2 }, 6: { owner: 2 } },
      ["net2 10.2.0.1"],
      [[], [], ["0.0.0.0/0 10.2.0.1"]],
    ],
    [
      "the default network's own, by another gateway",
      [eth0, net2],
      { 4: { owner: 0, gateway: "10.0.0.254" } },
      ["eth0 10.0.0.254", "eth0 fd00:1::1"],
      [["0.0.0.0/0 10.0.0.254", "::/0 fd00:1::1"], []],
    ],
  ];

  test.each(cases)("%s", (_, nets, routes, pods, results) => {
    const { pod, attachments } = podWith(nets);
    const edited = moveDefaultRoutes(routes, attachments, pod);
    expect(inPod(pod)).toEqual(pods);
    expect(attachments.map((a) => inResult(edited.get(a.index)))).toEqual(results);
  });

  test("other routes stay, in the pod and in the result", () => {
    const { pod, attachments } = podWith([eth0, net1]);
    const index = pod.linkByName("eth0")?.index ?? 0;
    pod.addRoute({ family: 4, dst: cidr("10.96.0.0/12"), gateway: ip("10.0.0.1"), index });
    pod.addRoute({ family: 4, gateway: ip("10.0.0.1"), index, table: 100 }); // somebody's policy routing
    const before = attachments.map((a) =>
      a.index === 0 ? { ...a, result: { ...a.result, routes: [...a.result.routes, { dst: "10.96.0.0/12" }] } } : a,
    );
    const edited = moveDefaultRoutes({ 4: { owner: 1, gateway: "10.1.0.1" } }, before, pod);
    const left = pod.routes().filter((r) => r.index === index && r.gateway !== undefined);
    expect(left.map((r) => [r.table ?? 254, r.dst?.prefix ?? 0, r.family]).sort()).toEqual([
      [100, 0, 4],
      [254, 0, 6],
      [254, 12, 4],
    ]);
    expect(inResult(edited.get(0))).toEqual(["10.96.0.0/12 -", "::/0 fd00:1::1"]);
  });

  test("a provider's interface before us in the list loses its route too", () => {
    const { pod, attachments } = podWith([eth0, net1]);
    const [theirs, ours] = attachments;
    if (theirs === undefined || ours === undefined) throw new Error("two networks");
    const shifted = [
      { ...theirs, index: -1 },
      { ...ours, index: 0 },
    ];
    const edited = moveDefaultRoutes({ 4: { owner: 0, gateway: "10.1.0.1" } }, shifted, pod);
    expect(inPod(pod)).toEqual(["eth0 fd00:1::1", "net1 10.1.0.1"]);
    expect(inResult(edited.get(-1))).toEqual(["::/0 fd00:1::1"]);
  });

  test("a gateway that the network does not reach: 123, which names both", () => {
    const { pod, node, attachments } = podWith([eth0, net1]);
    node.fault = (call) => (call.call === "addRoute" ? 101 : undefined); // ENETUNREACH
    const move = () => moveDefaultRoutes({ 4: { owner: 1, gateway: "192.0.2.1" } }, attachments, pod);
    expect(move).toThrow(CniError);
    expect(move).toThrow(/"192.0.2.1" on "net1"/);
  });

  test("routes that are there again when read back are an error, not a success", () => {
    const { pod, attachments } = podWith([eth0, net1]);
    Object.defineProperty(pod, "deleteRoute", { value: () => true });
    expect(() => moveDefaultRoutes({ 4: { owner: 1, gateway: "10.1.0.1" } }, attachments, pod)).toThrow(
      'Cannot move the pod\'s IPv4 default route: "eth0" still has one',
    );
  });

  test("an interface that is not there is named", () => {
    const { pod, attachments } = podWith([eth0, net1]);
    pod.deleteLink(pod.linkByName("net1")?.index ?? 0);
    expect(() => moveDefaultRoutes({ 4: { owner: 1, gateway: "10.1.0.1" } }, attachments, pod)).toThrow('"net1"');
  });
});

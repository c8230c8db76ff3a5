import { describe, expect, test } from "bun:test";
import { parseCidr } from "../base/ip.ts";
import { kernelContract } from "./contract.ts";
import { KernelError } from "./kernel.ts";
import { SimulatedNode } from "./simulated.ts";

const open = (vlanFiltering: boolean) => () => {
  const node = new SimulatedNode({ vlanFiltering });
  return { host: node.netns("host", { host: true }), pod: node.netns("pod"), [Symbol.dispose]() {} };
};
const kinds = { dummy: true, vlan: true, ipvlan: true, vrf: true };
kernelContract("simulated", open(true), { ...kinds, vlanFiltering: true });
kernelContract("simulated without VLAN filtering", open(false), { ...kinds, vlanFiltering: false });

const address = parseCidr("fd00::5/64") ?? { ip: { family: 6, bytes: new Uint8Array(16) }, prefix: 64 };

describe("SimulatedNode", () => {
  test("ipv6: false is a kernel booted with ipv6.disable=1", () => {
    const pod = new SimulatedNode({ ipv6: false }).netns("pod");
    expect(pod.sysctl("net/ipv6/conf/lo/disable_ipv6")).toBeUndefined();
    expect(() => pod.addAddress(1, { address })).toThrow("EOPNOTSUPP");
    expect(pod.rules(6)).toEqual([]);
  });
  test("fault() answers in the kernel's place, and calls are recorded", () => {
    const node = new SimulatedNode();
    const pod = node.netns("pod");
    node.fault = ({ call }) => (call === "addAddress" ? 12 : undefined);
    expect(() => pod.addAddress(1, { address })).toThrow(KernelError);
    node.fault = undefined;
    pod.setLink(1, { up: true });
    expect(node.calls.map((c) => `${c.namespace} ${String(c.call)}`)).toEqual(["pod addAddress", "pod setLink"]);
  });
  test("waitAddresses() fails for an address that somebody else has", () => {
    const node = new SimulatedNode();
    const pod = node.netns("pod");
    node.usedElsewhere.add("fd00::5");
    pod.addAddress(1, { address });
    expect(() => pod.waitAddresses(1, 10)).toThrow("EADDRINUSE");
  });
  test("removeNetns() takes the other ends along, and a new namespace has a new cookie", () => {
    const node = new SimulatedNode();
    const host = node.netns("host");
    const before = node.netns("pod");
    host.createLink({ kind: "veth", name: "veth0", peer: { name: "eth0", in: before } });
    node.removeNetns("pod");
    expect(host.linkByName("veth0")).toBeUndefined();
    expect(node.netns("pod").cookie).not.toBe(before.cookie);
  });
  test("plug() puts a physical device, which cannot be deleted", () => {
    const node = new SimulatedNode();
    const device = node.plug("host", { name: "ens1", mac: "02:00:00:00:00:09" });
    expect(device).toMatchObject({ kind: "", name: "ens1" });
    expect(() => node.netns("host").deleteLink(device.index)).toThrow("EOPNOTSUPP");
  });
  test("announce() is recorded", () => {
    const node = new SimulatedNode();
    node.netns("pod").announce(1, [address.ip]);
    expect(node.announced).toEqual([{ namespace: "pod", link: "lo", address: "fd00::5" }]);
  });
});

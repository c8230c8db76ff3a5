/** The bridge's VLANs against the simulated kernel, which has VLAN filtering whatever this machine's has. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { JsonObject } from "../core/base/json.ts";
import type { IpamAnswer } from "../core/host/context.ts";
import { SimulatedNode } from "../core/kernel/simulated.ts";
import { PluginPod } from "../test/support/plugin.ts";

setDefaultTimeout(60_000); // a guest may have to be compiled first

const ipam = (last: number): IpamAnswer => ({
  ips: [{ address: `10.9.0.${last}/24`, gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: {},
});

test("bridge: the port is in its VLAN and no other, and the gateway is in it too", () => {
  const node = new SimulatedNode({ vlanFiltering: true });
  const host = node.netns("node", { host: true });
  const conf = { bridge: "br9", vlan: 100, isGateway: true };
  const [a, b] = [new PluginPod(host, node.netns("a")), new PluginPod(host, node.netns("b"))];
  const result = a.add("bridge", conf, ipam(5));
  b.add("bridge", conf, ipam(6));
  const names = (result.interfaces as JsonObject[]).map((i) => i.name);
  expect(names).toEqual(["br9", expect.any(String), "eth0", "br9.100"]);
  const master = host.linkByName("br9")?.index;
  const ports = host.links().filter((l) => l.master === master);
  expect(ports).toHaveLength(3);
  for (const port of ports) {
    expect(host.bridgeVlans(port.index)).toEqual([expect.objectContaining({ first: 100, pvid: true, untagged: true })]);
  }
  const gateway = host.linkByName("br9.100")?.index ?? 0;
  expect(host.addresses(gateway).filter((x) => x.address.ip.family === 4)).toHaveLength(1);
  expect(a.check("bridge", conf, result, ipam(5))).toBe("");
  a.undo();
  b.undo();
  expect(host.links().filter((l) => l.master === master)).toHaveLength(1);
});

test("bridge: the port of a trunk", () => {
  const node = new SimulatedNode({ vlanFiltering: true });
  const host = node.netns("node", { host: true });
  const pod = new PluginPod(host, node.netns("a"));
  const conf = { bridge: "br9", vlan: 11, vlanTrunk: [{ minID: 10, maxID: 12 }, { id: 20 }] };
  const result = pod.add("bridge", conf);
  const port = host.linkByName(String((result.interfaces as JsonObject[])[1]?.name))?.index ?? 0;
  const vlans = host.bridgeVlans(port).flatMap((v) => {
    const all = Array.from({ length: (v.last ?? v.first) - v.first + 1 }, (_, i) => v.first + i);
    return all.map((id) => `${id}${v.pvid ? " pvid" : ""}${v.untagged ? " untagged" : ""}`);
  });
  expect(vlans.sort()).toEqual(["10", "11 pvid untagged", "12", "20"]);
  expect(pod.check("bridge", conf, result)).toBe("");
});

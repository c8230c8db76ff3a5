/** VLANs of the built-in bridge: not every kernel's bridges can filter them. */
import { expect, test } from "bun:test";
import type { Document } from "../support/cni.ts";
import { guestMachine } from "../support/guest-machine.ts";
import { TestNetns } from "../support/netns.ts";
import { TestNode } from "../support/node.ts";
import { built, requires } from "../support/requires.ts";

const conf = (last: number, more: Document): Document => ({
  cniVersion: "1.0.0",
  name: "n",
  type: "bridge",
  bridge: "br9",
  ipam: { type: "static", addresses: [{ address: `10.9.0.${last}/24`, gateway: "10.9.0.1" }] },
  ...more,
});

requires(...guestMachine, built)("bridge with VLANs", () => {
  test("parts the pods, and the gateway is in theirs", async () => {
    using node = await TestNode.create();
    node.link("bridge");
    using a = TestNetns.create();
    using b = TestNetns.create();
    using c = TestNetns.create();
    const first = { as: "bridge", pod: a, container: "a", conf: conf(5, { vlan: 100, isGateway: true }) };
    const { result } = node.ok("ADD", first);
    node.ok("ADD", { as: "bridge", pod: b, container: "b", conf: conf(6, { vlan: 100, isGateway: true }) });
    node.ok("ADD", { as: "bridge", pod: c, container: "c", conf: conf(7, { vlan: 200 }) });
    const names = ["br9", expect.any(String), "eth0", "br9.100"];
    expect(result?.interfaces?.map((i) => i.name)).toEqual(names);
    node.ok("CHECK", { ...first, conf: { ...first.conf, prevResult: result } });
    expect(a.ping("10.9.0.1")).toBe(true);
    expect(a.ping("10.9.0.6")).toBe(true);
    expect(a.ping("10.9.0.7", { seconds: 1 })).toBe(false);
  });

  test("a trunk", async () => {
    using node = await TestNode.create();
    node.link("bridge");
    using pod = TestNetns.create();
    const call = { as: "bridge", pod, conf: conf(5, { vlanTrunk: [{ minID: 10, maxID: 12 }, { id: 20 }] }) };
    const { result } = node.ok("ADD", call);
    const port = result?.interfaces?.[1]?.name ?? "";
    expect(JSON.parse(node.netns.run("bridge", "-j", "vlan", "show", "dev", port))[0].vlans).toEqual([
      { vlan: 1, flags: ["PVID", "Egress Untagged"] },
      { vlan: 10 },
      { vlan: 11 },
      { vlan: 12 },
      { vlan: 20 },
    ]);
    node.ok("CHECK", { ...call, conf: { ...call.conf, prevResult: result } });
  });
});

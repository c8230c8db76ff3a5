/** This boot has `ipv6.disable=1`: every built-in that makes a link works with IPv4, and says what it cannot do. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync } from "node:fs";
import { guestMachine } from "../../support/guest-machine.ts";
import { TestNetns } from "../../support/netns.ts";
import { TestNode } from "../../support/node.ts";
import { built, requires } from "../../support/requires.ts";

setDefaultTimeout(180_000);

const kinds = [
  ["bridge", { bridge: "br0", isGateway: true, ipMasq: true, macspoofchk: true }],
  ["macvlan", { master: "uplink" }],
  ["ipvlan", { master: "ens" }],
  ["vlan", { master: "uplink", vlanId: 100 }],
  ["ptp", {}],
  ["dummy", {}],
  ["tap", {}],
] as const;

requires(...guestMachine, built)("a kernel without IPv6", () => {
  let node: TestNode;
  beforeAll(async () => {
    expect(existsSync("/proc/sys/net/ipv6")).toBe(false);
    node = await TestNode.create();
    for (const [type] of kinds) node.link(type);
    // An ipvlan's parent can have no macvlan.
    node.netns.ip("link", "add", "ens", "type", "dummy");
  });
  afterAll(() => node?.[Symbol.dispose]());

  test.each(kinds)("%s", (type, keys) => {
    using pod = TestNetns.create("pod");
    const ipam = { type: "static", addresses: [{ address: "10.9.0.5/24", gateway: "10.9.0.1" }] };
    const conf = { cniVersion: "1.0.0", name: "n", type, ...keys, ipam };
    const call = { as: type, pod, conf };
    const { result } = node.ok("ADD", call);
    expect(pod.ip("address", "show", "eth0")).toContain("10.9.0.5/24");
    node.ok("CHECK", { ...call, conf: { ...conf, prevResult: result } });
    node.ok("DEL", call);

    const six = { type: "static", addresses: [{ address: "fd00:9::5/64", gateway: "fd00:9::1" }] };
    const refused = node.answer("ADD", { ...call, container: "six", conf: { ...conf, ipam: six } });
    expect(refused.error?.msg).toMatch(/^Cannot .*(EOPNOTSUPP|keep_addr_on_down|forwarding)/);
    node.ok("DEL", { ...call, container: "six", conf: { ...conf, ipam: six } });
    expect(pod.ipJson("link", "show").map((l) => l.ifname)).toEqual(["lo"]);
  });

  test("plugins on a bridge's interface", () => {
    using pod = TestNetns.create("pod");
    node.netns.run("iptables-nft", "-P", "FORWARD", "DROP");
    const ipam = { type: "static", addresses: [{ address: "10.9.0.5/24", gateway: "10.9.0.1" }] };
    const rate = { ingressRate: 8e6, ingressBurst: 8e5, egressRate: 8e6, egressBurst: 8e5 };
    const plugins = [
      { type: "bridge", bridge: "br0", isGateway: true, ipMasq: true, ipam },
      { type: "portmap", capabilities: { portMappings: true } },
      { type: "firewall", ingressPolicy: "same-bridge" },
      { type: "bandwidth", ...rate },
      { type: "tuning", mtu: 1400 },
      { type: "route-override", addroutes: [{ dst: "10.99.0.0/16" }] },
      { type: "vrf", vrfname: "red" },
    ];
    const conf = node.conf({ plugins }, undefined, {
      capabilities: { "io.kubernetes.cri.pod-annotations": true, portMappings: true },
      runtimeConfig: { portMappings: [{ hostPort: 18080, containerPort: 80, protocol: "tcp" }] },
    });
    const { result } = node.ok("ADD", { pod, conf });
    expect(pod.ping("10.9.0.1", { from: "red" })).toBe(true);
    node.ok("CHECK", { pod, conf: { ...conf, prevResult: result ?? {} } });
    node.ok("DEL", { pod, conf });
    expect(pod.ipJson("link", "show").map((l) => l.ifname)).toEqual(["lo"]);
  });
});

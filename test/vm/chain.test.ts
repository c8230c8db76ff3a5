/** The plugins that work on other plugins' interfaces, on kernels of distributions: rules, queues and sysctls, with traffic. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Document } from "../support/cni.ts";
import { ask, Echo } from "../support/echo.ts";
import { guestMachine } from "../support/guest-machine.ts";
import { TestNetns, veth } from "../support/netns.ts";
import { TestNode, Witness } from "../support/node.ts";
import { built, requires } from "../support/requires.ts";

const TIMEOUT_MS = 180_000;
const annotations = "io.kubernetes.cri.pod-annotations";
const portMappings = [
  { hostPort: 18080, containerPort: 80, protocol: "tcp" },
  { hostPort: 18053, containerPort: 80, protocol: "udp" },
];
const leased = (subnet: string, more: object = {}): object => ({ type: "host-local", ranges: [[{ subnet }]], ...more });

requires(...guestMachine, built)("a chain of plugins", () => {
  let node: TestNode;
  let outside: TestNetns;

  beforeAll(async () => {
    node = await TestNode.create();
    outside = TestNetns.create("outside");
    veth(
      { in: node.netns, name: "wan", address: "198.51.100.1/24" },
      { in: outside, name: "eth0", address: "198.51.100.2/24" },
    );
    node.netns.run("iptables-nft", "-P", "FORWARD", "DROP");
    node.network("tapped", {
      plugins: [
        { type: "tap", ipam: leased("10.82.1.0/24") },
        { type: "route-override", addroutes: [{ dst: "10.99.0.0/16", gw: "10.82.1.1" }] },
      ],
    });
  }, TIMEOUT_MS);
  afterAll(() => {
    outside?.[Symbol.dispose]();
    node?.[Symbol.dispose]();
  });

  const conf = (): Document =>
    node.conf(
      {
        plugins: [
          {
            type: "bridge",
            bridge: "br0",
            isGateway: true,
            ipMasq: true,
            ipam: leased("10.82.0.0/24", { routes: [{ dst: "0.0.0.0/0" }] }),
          },
          { type: "portmap", capabilities: { portMappings: true } },
          { type: "firewall", ingressPolicy: "same-bridge" },
          { type: "bandwidth", ingressRate: 8e6, ingressBurst: 8e5, egressRate: 8e6, egressBurst: 8e5 },
          { type: "tuning", sysctl: { "net.core.somaxconn": "512" }, mtu: 1400 },
        ],
      },
      [{ name: "tapped" }],
      {
        capabilities: { [annotations]: true, portMappings: true },
        runtimeConfig: {
          [annotations]: { "k8s.v1.cni.cncf.io/networks": "tapped" },
          portMappings,
        },
      },
    );

  test(
    "a packet each way, CHECK, and nothing left",
    async () => {
      {
        using first = TestNetns.create("first"); // what the networks' first pod leaves is theirs
        node.ok("ADD", { pod: first, conf: conf(), container: "c0" });
        node.ok("DEL", { pod: first, conf: conf(), container: "c0" });
      }
      using pod = TestNetns.create("pod");
      const witness = new Witness(node, pod);
      const { result } = node.ok("ADD", { pod, conf: conf() });
      {
        using _server = await Echo.start(pod, "pod", 80);
        using _other = await Echo.start(outside, "outside", 81);
        const [tcp, udp] = ask(outside, ["tcp 198.51.100.1 18080", "udp 198.51.100.1 18053"], 5000);
        expect([tcp, udp]).toEqual(["pod 198.51.100.2 80", "pod 198.51.100.2 80"]);
        expect(ask(pod, ["tcp 198.51.100.2 81"], 5000)).toEqual(["outside 198.51.100.1 81"]);
      }
      expect(pod.run("cat", "/proc/sys/net/core/somaxconn").trim()).toBe("512");
      expect(pod.ipJson("link", "show", "eth0")[0]).toMatchObject({ mtu: 1400 });
      expect(pod.ip("route", "show", "10.99.0.0/16")).toContain("via 10.82.1.1 dev net1");
      expect(pod.ipJson("-d", "link", "show", "net1")[0]).toMatchObject({ linkinfo: { info_kind: "tun" } });
      node.ok("CHECK", { pod, conf: { ...conf(), prevResult: result ?? {} } });
      node.ok("DEL", { pod, conf: conf() });
      expect(witness.changes()).toBe("");
      node.ok("DEL", { pod, conf: conf() });
    },
    TIMEOUT_MS,
  );
});

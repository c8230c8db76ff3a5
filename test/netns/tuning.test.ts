/** tuning on a real kernel: what it changes, what CHECK says of it, and that all of it comes back. */
import { expect, setDefaultTimeout, test } from "bun:test";
import type { JsonObject } from "../../core/base/json.ts";
import type { IpamAnswer } from "../../core/host/context.ts";
import { type NetnsPod, PluginNode } from "../support/plugin-node.ts";
import { requires, root } from "../support/requires.ts";
import { difference, snapshot } from "../support/snapshot.ts";

setDefaultTimeout(30_000);

const v4: IpamAnswer = {
  ips: [{ address: "10.9.0.5/24", gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: {},
};
const all = {
  mac: "0a:58:00:00:00:05",
  mtu: 1400,
  promisc: true,
  allmulti: true,
  txQLen: 77,
  sysctl: {
    "net.core.somaxconn": "512",
    "net.ipv4.conf.IFNAME.arp_announce": "2",
    "net/ipv4/conf/all/log_martians": "1",
    "net.ipv4.tcp_rmem": "4096 8192 16384",
    "net.ipv4.ip_local_reserved_ports": "4000-4100,5000",
  },
};
const sysctl = (pod: NetnsPod, key: string): string => pod.ns.run("cat", `/proc/sys/${key}`).trim();
/** As `ip` shows it. */
const link = (pod: NetnsPod): Record<string, unknown> => pod.ns.ipJson("link", "show", "eth0")[0] ?? {};
const before = { cniVersion: "1.1.0", interfaces: [{ name: "eth0", sandbox: "/run/netns/pod" }] };

/** An interface that another plugin made, with a peer on the node. */
function foreign(node: PluginNode, pod: NetnsPod): void {
  node.ns.ip("link", "add", "cali7", "type", "veth", "peer", "name", "eth0", "netns", pod.ns.name);
  for (const [ns, name] of [[node.ns, "cali7"] as const, [pod.ns, "eth0"] as const]) {
    ns.ip("link", "set", name, "addrgenmode", "none", "up");
  }
}

requires(...root)("tuning on a kernel", () => {
  test("behind bridge: everything is set, traffic passes, and it all goes with the pod", () => {
    using node = new PluginNode();
    const pod = node.pod();
    const first = pod.add("bridge", { bridge: "br9", isGateway: true }, v4);
    const somaxconn = sysctl(pod, "net/core/somaxconn");
    const result = pod.add("tuning", { ...all, prevResult: first });
    const [, , eth0] = result.interfaces as JsonObject[];
    expect(eth0).toMatchObject({ name: "eth0", mac: all.mac, mtu: 1400 });
    expect(link(pod)).toMatchObject({ address: all.mac, mtu: 1400, txqlen: 77 });
    expect(link(pod).flags).toEqual(expect.arrayContaining(["PROMISC", "ALLMULTI", "UP"]));
    expect(sysctl(pod, "net/core/somaxconn")).toBe("512");
    expect(sysctl(pod, "net/ipv4/conf/eth0/arp_announce")).toBe("2");
    expect(sysctl(pod, "net/ipv4/tcp_rmem")).toBe("4096\t8192\t16384");
    expect(pod.ns.ping("10.9.0.1")).toBe(true);
    expect(pod.check("tuning", all, result)).toBe("");
    pod.undo();
    expect(pod.names()).toEqual(["lo"]);
    expect(sysctl(pod, "net/core/somaxconn")).toBe(somaxconn);
    expect(sysctl(pod, "net/ipv4/ip_local_reserved_ports")).toBe("");
  });

  test("behind a plugin of others everything is as before", () => {
    using node = new PluginNode();
    const pod = node.pod();
    foreign(node, pod);
    const values = ["net/core/somaxconn", "net/ipv4/tcp_rmem", "net/ipv4/ip_local_reserved_ports"];
    const was = [snapshot({ netns: pod.ns }), values.map((key) => sysctl(pod, key))] as const;
    const result = pod.add("tuning", { ...all, prevResult: before });
    expect(pod.check("tuning", all, result)).toBe("");
    expect(difference(was[0], snapshot({ netns: pod.ns }))).not.toBe("");
    pod.undo();
    expect(difference(was[0], snapshot({ netns: pod.ns }))).toBe("");
    expect(values.map((key) => sysctl(pod, key))).toEqual(was[1]);
    pod.undo();
  });

  test("an ADD that is refused half way leaves nothing", () => {
    using node = new PluginNode();
    const pod = node.pod();
    foreign(node, pod);
    const was = snapshot({ netns: pod.ns });
    const { "net.core.somaxconn": first, ...rest } = all.sysctl;
    const sysctls = { "net.core.somaxconn": first, ...rest, "net.ipv4.tcp_syncookies": "many" };
    const refused = pod.refused("tuning", { ...all, sysctl: sysctls, prevResult: before });
    expect(refused).toContain('Cannot set the sysctl "net.ipv4.tcp_syncookies" to "many": ');
    expect(pod.refused("tuning", { mtu: 65_536, promisc: true, prevResult: before })).toContain('plugin "tuning"');
    pod.undo();
    expect(difference(was, snapshot({ netns: pod.ns }))).toBe("");
  });

  test("one that is written only, and one that this kernel lacks", () => {
    using node = new PluginNode();
    const pod = node.pod();
    foreign(node, pod);
    pod.add("tuning", { sysctl: { "net.ipv4.route.flush": "1" }, prevResult: before });
    expect(pod.refused("tuning", { sysctl: { "net.ipv4.no_such_thing": "1" }, prevResult: before })).toContain(
      "this kernel has none of that name",
    );
    pod.undo();
  });

  test("CHECK sees what was changed by hand", () => {
    using node = new PluginNode();
    const pod = node.pod();
    foreign(node, pod);
    const result = pod.add("tuning", { ...all, prevResult: before });
    const says = (...change: string[]): string => {
      pod.ns.ip("link", "set", "eth0", ...change);
      return pod.check("tuning", all, result);
    };
    expect(says("txqueuelen", "78")).toBe('the queue\'s length of "eth0" is 78, expected 77');
    expect(says("mtu", "1300")).toContain('the MTU of "eth0" is 1300');
    expect(says("allmulticast", "off")).toContain("takes not all multicast packets");
    expect(says("promisc", "off")).toContain("is not promiscuous");
    expect(says("address", "0a:58:00:00:00:06")).toContain('has MAC address "0a:58:00:00:00:06"');
    pod.ns.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/eth0/arp_announce");
    expect(pod.check("tuning", all, result)).toContain('"net.ipv4.conf.IFNAME.arp_announce" is "1", expected "2"');
  });

  test("no sysctl of the node changes, whatever is asked", () => {
    using node = new PluginNode();
    const pod = node.pod();
    foreign(node, pod);
    const seen = (): string =>
      node.ns.run("sh", "-c", "grep -rs '' /proc/sys/net/core /proc/sys/net/ipv4 | sort | md5sum");
    const was = seen();
    pod.add("tuning", { sysctl: { "net.core.somaxconn": "5", "net.ipv4.ip_forward": "1" }, prevResult: before });
    for (const name of ["kernel.hostname", "net/../kernel/hostname", "net/ipv4/../../kernel/hostname"]) {
      expect(pod.refused("tuning", { sysctl: { [name]: "x" }, prevResult: before })).toContain('no name below "net"');
    }
    expect(seen()).toBe(was);
  });
});

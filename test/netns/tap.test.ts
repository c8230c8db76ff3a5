/** tap on a real kernel, with a program that does what a virtual machine does. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { statSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject } from "../../core/base/json.ts";
import type { IpamAnswer } from "../../core/host/context.ts";
import type { TestNetns } from "../support/netns.ts";
import { PluginNode } from "../support/plugin-node.ts";
import { has, requires, root } from "../support/requires.ts";
import { difference, snapshot } from "../support/snapshot.ts";

setDefaultTimeout(30_000);

const v4: IpamAnswer = {
  ips: [{ address: "10.9.0.5/24", gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: {},
};
const program = join(import.meta.dir, "../support/virtual-machine.py");

/** Opens the tap and answers for an address; ends with the test. */
async function machine(ns: TestNetns, name: string, address: string, ...more: string[]): Promise<Disposable> {
  const child = Bun.spawn(ns.argv("python3", program, name, address, ...more), { stdout: "pipe", stderr: "inherit" });
  const { value } = await child.stdout.getReader().read();
  expect(new TextDecoder().decode(value)).toStartWith("ready");
  return { [Symbol.dispose]: () => child.kill("SIGKILL") };
}
const details = (ns: TestNetns, name = "eth0"): JsonObject =>
  (ns.ipJson("-details", "link", "show", name)[0] ?? {}) as JsonObject;

requires(
  ...root,
  ["/dev/net/tun", exists("/dev/net/tun")],
  ["python3", has("python3")],
)("tap on a kernel", () => {
  test("with addresses: the pod reaches the machine, CHECK agrees, nothing stays", async () => {
    using node = new PluginNode();
    const pod = node.pod();
    const was = snapshot({ netns: pod.ns });
    const conf = { mac: "0a:58:00:00:00:05", mtu: 1400, owner: 1000, group: 1001 };
    const result = pod.add("tap", conf, v4);
    expect(result).toMatchObject({ interfaces: [{ name: "eth0", mac: conf.mac }], ips: [{ interface: 0 }] });
    const link = details(pod.ns);
    expect(link).toMatchObject({ address: conf.mac, mtu: 1400 });
    expect(link.linkinfo).toMatchObject({ info_kind: "tun", info_data: { type: "tap", persist: true, pi: false } });
    expect(pod.check("tap", conf, result, v4)).toBe("");
    using _ = await machine(pod.ns, "eth0", "10.9.0.77");
    expect(pod.ns.ping("10.9.0.77")).toBe(true);
    expect(pod.ns.ip("route")).toContain("default via 10.9.0.1 dev eth0");
    expect(pod.check("tap", conf, result, v4)).toBe("");
    expect(pod.check("tap", { ...conf, owner: 7 }, result, v4)).toContain("belongs to another user");
    pod.undo();
    expect(difference(was, snapshot({ netns: pod.ns }))).toBe("");
    pod.undo();
  });

  test("as a port of a bridge in the pod, several queues", async () => {
    using node = new PluginNode();
    const pod = node.pod();
    pod.ns.ip("link", "add", "k6t", "type", "bridge");
    pod.ns.ip("address", "add", "10.9.0.5/24", "dev", "k6t");
    pod.ns.ip("link", "set", "k6t", "up");
    const conf = { bridge: "k6t", multiQueue: true };
    const result = pod.add("tap", conf);
    expect(details(pod.ns)).toMatchObject({ master: "k6t", linkinfo: { info_data: { multi_queue: true } } });
    {
      using _first = await machine(pod.ns, "eth0", "10.9.0.77", "multi");
      using _second = await machine(pod.ns, "eth0", "10.9.0.77", "multi");
      expect(pod.ns.ping("10.9.0.77")).toBe(true);
    }
    expect(pod.check("tap", conf, result)).toBe("");
    pod.ns.ip("link", "set", "eth0", "nomaster");
    expect(pod.check("tap", conf, result)).toContain('is not a port of bridge "k6t"');
    pod.undo();
    expect(pod.names()).toEqual(["lo", "k6t"]);
  });

  test("a name that is taken, and a bridge that is none, are refused and left as they are", () => {
    using node = new PluginNode();
    const pod = node.pod();
    pod.ns.ip("tuntap", "add", "mode", "tap", "name", "eth0");
    const was = snapshot({ netns: pod.ns });
    expect(pod.refused("tap", {})).toContain('Cannot create tap "eth0": EEXIST');
    expect(pod.refused("tap", { selinuxContext: "u:r:t:s0" })).toContain("EEXIST");
    expect(pod.refused("tap", { bridge: "eth0" })).toContain('it is of kind "tun"');
    expect(pod.refused("tap", { bridge: "absent" })).toContain("the pod has no link of that name");
    pod.undo();
    expect(difference(was, snapshot({ netns: pod.ns }))).toBe("");
  });

  test("an address that the kernel refuses leaves no tap", () => {
    using node = new PluginNode();
    const pod = node.pod();
    expect(pod.refused("tap", { mtu: 65_536 })).toContain("Cannot ");
    expect(pod.names()).toEqual(["lo"]);
    pod.undo();
  });

  test.if(!exists("/sys/fs/selinux/enforce"))("a label needs SELinux", () => {
    using node = new PluginNode();
    const pod = node.pod();
    expect(pod.refused("tap", { selinuxContext: "u:r:t:s0" })).toContain("EOPNOTSUPP");
    expect(pod.names()).toEqual(["lo"]);
    pod.undo();
  });
});

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** Who wrote a network's configuration, and what follows for files of the node and for addresses. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { bridge, TestNode, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, requires, root } from "../support/requires.ts";

requires(
  ...root,
  built,
  hasPeer("reference"),
)("whose configuration it is", () => {
  let node: TestNode;
  let pod: TestNetns;
  let witness: Witness;

  const ipam = (more: Document = {}): Document => ({ type: "host-local", subnet: "10.79.0.0/24", ...more });
  const plugin = (more: Document = {}): Document => ({ type: "bridge", bridge: "br0", ipam: ipam(more) });

  /** A definition without a configuration, which stands for the node's file of its name. */
  const standFor = (name: string, namespace = "default"): void => {
    const kind = "NetworkAttachmentDefinition";
    const nad = { apiVersion: "k8s.cni.cncf.io/v1", kind, metadata: { name, namespace }, spec: {} };
    writeFileSync(join(node.networks, `${namespace}-${name}.json`), JSON.stringify(nad), { mode: 0o644 });
  };
  const file = (name: string, conf: Document): void =>
    writeFileSync(join(node.networks, `${name}.conf`), JSON.stringify({ cniVersion: "1.0.0", name, ...conf }), {
      mode: 0o644,
    });

  beforeAll(async () => {
    node = await TestNode.settled();
    node.link("host-local");
    node.link("bridge");
    copyFileSync(peerFile("reference", "bridge"), join(node.bin, "ref-bridge"));
    chmodSync(join(node.bin, "ref-bridge"), 0o755);
    writeFileSync(join(node.directory, "resolv.conf"), "nameserver 10.0.0.53\n", { mode: 0o644 });
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    pod = TestNetns.create("pod");
    witness = new Witness(node, pod);
  });
  afterEach(() => {
    expect(witness.changes()).toBe("");
    pod[Symbol.dispose]();
  });

  test("resolvConf in a file of the node is read, also where a definition stands for the file", () => {
    const resolvConf = join(node.directory, "resolv.conf");
    file("standing", plugin({ resolvConf }));
    standFor("standing");
    const conf = node.conf(bridge, "standing");
    node.ok("ADD", { pod, conf });
    expect(node.status()[0]?.status[1]).toMatchObject({ dns: { nameservers: ["10.0.0.53"] } });
    node.ok("CHECK", { pod, conf });
    node.ok("DEL", { pod, conf });
  });

  test("resolvConf in a definition is refused", () => {
    node.network("reader", plugin({ resolvConf: "/etc/shadow" }));
    const conf = node.conf(bridge, "reader");
    expect(node.answer("ADD", { pod, conf }).error).toMatchObject({ code: 101 });
  });

  test("a CNI binary that runs host-local for a definition leads it to no path of the node", () => {
    const dataDir = node.at("/var/lib/cni/elsewhere");
    node.network("binary", { type: "ref-bridge", bridge: "br0", ipam: ipam({ dataDir: "/var/lib/cni/elsewhere" }) });
    const conf = node.conf(bridge, "binary");
    node.ok("ADD", { pod, conf });
    expect(existsSync(dataDir)).toBe(false);
    node.ok("CHECK", { pod, conf });
    node.ok("DEL", { pod, conf });
    node.network("reader", { type: "ref-bridge", bridge: "br0", ipam: ipam({ resolvConf: "/etc/shadow" }) });
    expect(node.answer("ADD", { pod, conf: node.conf(bridge, "reader") }).error).toMatchObject({ code: 101 });
    rmSync(node.at("/var/lib/cni/networks"), { recursive: true });
  });

  test("in a file of the node dataDir is what it says", () => {
    file("paths", { type: "ref-bridge", bridge: "br0", ipam: ipam({ dataDir: "/var/lib/cni/elsewhere" }) });
    standFor("paths");
    const conf = node.conf(bridge, "paths");
    node.ok("ADD", { pod, conf });
    expect(existsSync(node.at("/var/lib/cni/elsewhere/paths/10.79.0.2"))).toBe(true);
    node.ok("DEL", { pod, conf });
    expect(existsSync(node.at("/var/lib/cni/elsewhere/paths/10.79.0.2"))).toBe(false);
    rmSync(node.at("/var/lib/cni/elsewhere"), { recursive: true });
  });

  test("the policy holds below a CNI binary, and the meta-plugin is not to be had there", () => {
    const policyFile = join(node.directory, "policy.json");
    writeFileSync(policyFile, JSON.stringify({ strict: true, binaries: [{ types: ["runs"] }] }), { mode: 0o644 });
    // What flannel does: it runs another plugin with a configuration of its own making.
    for (const [name, type] of [
      ["links", "bridge"],
      ["whole", "patchbay"],
    ] as const) {
      const inner = { cniVersion: "1.1.0", name: "inner", type, bridge: "br0", defaultNetwork: { type: "bridge" } };
      node.script("runs", `cat >/dev/null; echo '${JSON.stringify(inner)}' | exec ${join(node.bin, type)}`);
      node.network(name, { type: "runs" }, "team-a");
      const conf = node.conf(bridge, `team-a/${name}`, { policyFile });
      expect(node.answer("ADD", { pod, conf }).error).toMatchObject({ code: 101 });
    }
  });

  test("in strict a namespace can neither exhaust nor free the leases of another, in open they share them", () => {
    const policyFile = join(node.directory, "strict.json");
    writeFileSync(policyFile, JSON.stringify({ strict: true, hostLinks: [{ links: ["br0"] }] }), { mode: 0o644 });
    const one = { name: "shared", ...plugin({ rangeStart: "10.79.0.2", rangeEnd: "10.79.0.2" }) };
    for (const namespace of ["team-a", "team-b"]) node.network("one", one, namespace);
    const of = (namespace: string, more: Document): { pod: TestNetns; container: string; conf: Document } => ({
      pod: TestNetns.create(namespace),
      container: namespace,
      conf: node.conf(bridge, `${namespace}/one`, more),
    });
    const [a, b] = [of("team-a", { policyFile }), of("team-b", { policyFile })];
    node.ok("ADD", a);
    node.ok("ADD", b);
    expect([node.leases("team-a:shared"), node.leases("team-b:shared")]).toEqual([["10.79.0.2"], ["10.79.0.2"]]);
    node.ok("CHECK", a);
    node.ok("DEL", b);
    const valid = [{ containerID: "team-b", ifname: "eth0" }];
    node.ok("GC", { conf: { ...b.conf, "cni.dev/valid-attachments": valid } });
    expect([node.leases("team-a:shared"), node.leases("team-b:shared")]).toEqual([["10.79.0.2"], []]);
    // Without the policy the address is the bridge's, not the namespace's.
    const open = { ...b, conf: node.conf(bridge, "team-b/one") };
    const first = { ...a, container: "first", conf: node.conf(bridge, "team-a/one") };
    expect(node.answer("ADD", { ...first, pod }).error).toMatchObject({ code: 11 });
    node.ok("DEL", a);
    node.ok("ADD", { ...first, pod });
    expect(node.answer("ADD", open).error).toMatchObject({ code: 11 });
    node.ok("DEL", { ...first, pod });
    for (const each of [a, b]) each.pod[Symbol.dispose]();
  });
});

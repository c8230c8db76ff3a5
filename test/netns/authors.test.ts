/** Who wrote a network's configuration, and what follows for files of the node and for addresses. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { bridge, TestNode, Witness } from "../support/node.ts";
import { built, requires, root } from "../support/requires.ts";

requires(...root, built)("whose configuration it is", () => {
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
});

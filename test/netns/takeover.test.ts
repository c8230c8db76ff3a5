/** Pods that Multus attached, deleted by us: its own cache says what they have. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { TestNode, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, requires, root } from "../support/requires.ts";

requires(
  ...root,
  built,
  hasPeer("multus"),
  hasPeer("reference"),
)("a pod of Multus", () => {
  let node: TestNode;
  let pod: TestNetns;
  let witness: Witness;
  let multus: Document;

  const install = (name: string, from: string): void => {
    copyFileSync(from, join(node.bin, name));
    chmodSync(join(node.bin, name), 0o755);
  };
  const cache = (): string[] => {
    const directory = node.at("/var/lib/cni/multus");
    return existsSync(directory) ? readdirSync(directory, { recursive: true, encoding: "utf8" }).sort() : [];
  };

  beforeAll(async () => {
    node = await TestNode.settled();
    install("multus", peerFile("multus", "multus"));
    // Under a name of its own, as the built-in has the reference's.
    install("ref-bridge", peerFile("reference", "bridge"));
    install("host-local", peerFile("reference", "host-local"));
    // One address: then what the reference remembers of the last one does not change.
    const ipam = { type: "host-local", subnet: "10.78.0.0/24", rangeStart: "10.78.0.5", rangeEnd: "10.78.0.5" };
    multus = {
      cniVersion: "1.0.0",
      name: "node",
      type: "multus",
      binDir: node.bin,
      delegates: [
        { cniVersion: "1.0.0", name: "default", plugins: [{ type: "ref-bridge", bridge: "br1", ipam }, node.spy()] },
        { cniVersion: "1.0.0", name: "second", plugins: [node.spy()] },
      ],
    };
    using first = TestNetns.create("first");
    node.ok("ADD", { pod: first, conf: multus, as: "multus" });
    node.ok("DEL", { pod: first, conf: multus, as: "multus" });
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    rmSync(node.log, { force: true });
    pod = TestNetns.create("pod");
    witness = new Witness(node, pod, { leaveOut: ["br0", "br1"] });
  });
  afterEach(() => {
    expect(witness.changes()).toBe("");
    pod[Symbol.dispose]();
  });

  const deleted = (): string[] =>
    node.calls().flatMap((call) => (call.command === "DEL" ? [`${call.network} ${call.ifname}`] : []));

  test("all its delegates are deleted in reverse, with their results, and Multus's records go", () => {
    const before = cache();
    node.ok("ADD", { pod, conf: multus, as: "multus" });
    expect(cache()).not.toEqual(before);
    node.ok("DEL", { pod, conf: node.conf(undefined) });
    expect(deleted()).toEqual(["second net1", "default eth0"]);
    expect(node.calls().findLast((call) => call.command === "DEL")?.conf).toHaveProperty("prevResult");
    expect(cache()).toEqual(before);
    node.ok("DEL", { pod, conf: node.conf(undefined) });
    expect(deleted()).toHaveLength(2);
  });

  test("a record of which a part cannot be read stays, and the rest is deleted", () => {
    node.ok("ADD", { pod, conf: multus, as: "multus" });
    const path = node.at("/var/lib/cni/multus/c1");
    const [first] = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify([first, { Name: "second", Bytes: "!" }]));
    node.ok("DEL", { pod, conf: node.conf(undefined) });
    expect(deleted()).toContain("default eth0");
    expect(existsSync(path)).toBe(true);
    rmSync(path);
    for (const name of cache().filter((name) => name.startsWith("results/"))) {
      rmSync(join(node.at("/var/lib/cni/multus"), name));
    }
  });

  test("a delegate that fails keeps Multus's record for the retry", () => {
    const failWhile = join(node.directory, "broken");
    const before = cache();
    const [first] = multus.delegates as Document[];
    const fails = { cniVersion: "1.0.0", name: "second", plugins: [node.spy({ fail: ["DEL"], failWhile })] };
    node.ok("ADD", { pod, conf: { ...multus, delegates: [first, fails] }, as: "multus" });
    writeFileSync(failWhile, "");
    const conf = node.conf(undefined);
    expect(node.answer("DEL", { pod, conf }).error?.msg).toContain('Cannot detach "second", which Multus attached');
    rmSync(failWhile);
    node.ok("DEL", { pod, conf });
    expect(cache()).toEqual(before);
  });
});

/** Pods that Multus attached, deleted by us: its own cache says what they have. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { sh, TestNetns } from "../support/netns.ts";
import { TestNode, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, requires, root } from "../support/requires.ts";

/** One address: then what the reference remembers of the last one does not change. */
const ipam = { type: "host-local", subnet: "10.78.0.0/24", rangeStart: "10.78.0.5", rangeEnd: "10.78.0.5" };

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

  test("what cannot be read in Multus's record is found in libcni's, and the record stays", () => {
    node.ok("ADD", { pod, conf: multus, as: "multus" });
    const path = node.at("/var/lib/cni/multus/c1");
    const [first] = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify([first, { Name: "second", Bytes: "!" }]));
    node.ok("DEL", { pod, conf: node.conf(undefined) });
    expect(deleted()).toEqual(["second net1", "default eth0"]);
    expect(existsSync(path)).toBe(true);
    rmSync(path);
  });

  test("without Multus's record libcni's are enough", () => {
    const before = cache();
    node.ok("ADD", { pod, conf: multus, as: "multus" });
    rmSync(node.at("/var/lib/cni/multus/c1"));
    node.ok("DEL", { pod, conf: node.conf(undefined) });
    expect(deleted().toSorted()).toEqual(["default eth0", "second net1"]);
    expect(cache()).toEqual(before);
  });

  test("is in the list of valid attachments that the plugins of our own pods get", () => {
    using theirs = TestNetns.create("theirs");
    const network = { name: "second", plugins: [node.spy()] };
    const conf = node.conf(network);
    node.ok("ADD", { pod: theirs, container: "theirs", conf: multus, as: "multus" });
    node.ok("ADD", { pod, conf });
    const validOf = (valid: Document[]): unknown => {
      rmSync(node.log);
      node.ok("GC", { conf: { ...conf, "cni.dev/valid-attachments": valid } });
      return node.calls().find(({ command }) => command === "GC")?.conf?.["cni.dev/valid-attachments"];
    };
    const ours = { containerID: "c1", ifname: "eth0" };
    const other = { containerID: "theirs", ifname: "net1" };
    expect(validOf([ours, { ...other, ifname: "eth0" }])).toEqual([ours, other]);
    // The runtime forgot it, and its namespace is there.
    expect(validOf([ours])).toEqual([ours, other]);
    sh(["ip", "netns", "del", theirs.name]);
    expect(validOf([ours])).toEqual([ours]);
    node.ok("DEL", { pod, conf });
    node.ok("DEL", { pod: "", container: "theirs", conf: multus, as: "multus" });
  });

  describe("whose plugin has become ours", () => {
    const plugin = { type: "bridge", bridge: "br1", ipam };
    const ours = (cniVersion = "1.0.0"): Document => ({
      ...multus,
      delegates: [{ cniVersion, name: "default", plugins: [plugin] }],
    });
    const become = (whose: "reference" | "ours"): void => {
      rmSync(join(node.bin, "bridge"), { force: true });
      if (whose === "ours") node.link("bridge");
      else install("bridge", peerFile("reference", "bridge"));
    };
    const lease = (): string => node.at("/var/lib/cni/networks/default/10.78.0.5");
    const left = (): string =>
      pod
        .ipJson("link")
        .map((link) => String(link.ifname))
        .join(" ");

    test.each([
      ["Multus", "multus", "1.0.0"],
      ["Multus without a result", "multus", "0.3.1"],
      ["us", "patchbay", "1.0.0"],
    ])("is deleted by %s", (_, as, version) => {
      const before = cache();
      become("reference");
      node.ok("ADD", { pod, conf: ours(version), as: "multus" });
      expect(existsSync(lease())).toBe(true);
      become("ours");
      if (as === "patchbay") node.ok("CHECK", { pod, conf: node.conf(undefined) });
      node.ok("DEL", { pod, conf: as === "multus" ? ours(version) : node.conf(undefined), as });
      expect(left()).toBe("lo");
      expect(existsSync(lease())).toBe(false);
      expect(cache()).toEqual(before);
      rmSync(join(node.bin, "bridge"));
    });

    test("is deleted by us without any program of the plugin's name", () => {
      become("reference");
      node.ok("ADD", { pod, conf: ours(), as: "multus" });
      rmSync(join(node.bin, "bridge"));
      node.ok("DEL", { pod, conf: node.conf(undefined) });
      expect(left()).toBe("lo");
      expect(existsSync(lease())).toBe(false);
    });
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

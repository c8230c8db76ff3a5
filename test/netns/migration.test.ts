/** Pods that the reference plugins made, through libcni or Multus, and that are checked and deleted by us. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { CniAnswer, Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { podArgs, TestNode, until, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, requires, root } from "../support/requires.ts";

const names = ["bridge", "ptp", "macvlan"] as const;
type Name = (typeof names)[number];

/** One address: then what the reference remembers of the last one does not change. */
const ipam = { type: "host-local", subnet: "10.80.0.0/24", rangeStart: "10.80.0.5", rangeEnd: "10.80.0.5" };
const plugins: Readonly<Record<Name, Document & { type: string }>> = {
  bridge: { type: "bridge", bridge: "br0", isGateway: true, forceAddress: true, ipam },
  ptp: { type: "ptp", ipam },
  macvlan: { type: "macvlan", master: "up0", ipam },
};
const lease = (network: string): string => `/var/lib/cni/networks/${network}/10.80.0.5`;

requires(
  ...root,
  built,
  hasPeer("reference"),
)("a pod of the reference plugins", () => {
  let node: TestNode;
  let pod: TestNetns;
  let witness: Witness;

  const single = (name: Name, cniVersion = "1.0.0"): Document => ({ cniVersion, name: `n-${name}`, ...plugins[name] });
  /** ADD by the reference, found as its own IPAM is; DEL and CHECK by ours under the same name. */
  const reference = (name: Name, conf: Document = single(name)): CniAnswer =>
    node.ok("ADD", { pod, conf, as: `ref/${name}` });
  const links = (): string[] => pod.ipJson("link").map((link) => String(link.ifname));
  const veths = (): string[] => node.netns.ipJson("link", "show", "type", "veth").map((link) => String(link.ifname));

  beforeAll(async () => {
    node = await TestNode.settled();
    mkdirSync(join(node.bin, "ref"), { mode: 0o755 });
    for (const name of [...names, "host-local", "bandwidth"]) {
      copyFileSync(peerFile("reference", name), join(node.bin, "ref", name));
      chmodSync(join(node.bin, "ref", name), 0o755);
    }
    for (const name of [...names, "host-local", "bandwidth"]) node.link(name);
    copyFileSync(peerFile("reference", "cnitool"), join(node.directory, "cnitool"));
    chmodSync(join(node.directory, "cnitool"), 0o755);
    node.netns.ip("link", "add", "up0", "type", "veth", "peer", "name", "up1");
    node.netns.ip("link", "set", "up0", "up");
    node.netns.ip("addr", "add", "10.80.0.1/24", "dev", "br0");
    // What the reference keeps for ever: its directories, and the node's forwarding.
    for (const name of names) {
      using first = TestNetns.create("first");
      node.ok("ADD", { pod: first, conf: single(name), as: `ref/${name}` });
      node.ok("DEL", { pod: first, conf: single(name), as: `ref/${name}` });
    }
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

  describe("by the name of the plugin", () => {
    test.each(names)("%s: CHECK finds what is there, DEL removes it", (name) => {
      const prevResult = reference(name).result;
      const conf = { ...single(name), prevResult };
      expect(existsSync(node.at(lease(`n-${name}`)))).toBe(true);
      node.ok("CHECK", { pod, conf, as: name });
      pod.ip("addr", "del", "10.80.0.5/24", "dev", "eth0");
      expect(node.answer("CHECK", { pod, conf, as: name }).error?.code).toBe(210);
      node.ok("DEL", { pod, conf, as: name });
      expect(links()).toEqual(["lo"]);
      expect(existsSync(node.at(lease(`n-${name}`)))).toBe(false);
      node.ok("DEL", { pod, conf, as: name });
    });

    test("a lease that has gone fails CHECK", () => {
      const conf = { ...single("bridge"), prevResult: reference("bridge").result };
      rmSync(node.at(lease("n-bridge")));
      expect(node.answer("CHECK", { pod, conf, as: "bridge" }).error?.code).toBe(210);
      node.ok("DEL", { pod, conf, as: "bridge" });
    });

    test.each([
      ["bridge", "iptables"],
      ["bridge", "nftables"],
      ["ptp", "iptables"],
    ] as const)("%s: the rules of ipMasq by %s and of macspoofchk go", (name, ipMasqBackend) => {
      const rules = (): string => node.run("nft", "list", "ruleset").replaceAll(/counter packets \d+ bytes \d+/g, "");
      const conf = { ...single(name), ipMasq: true, ipMasqBackend, ...(name === "bridge" && { macspoofchk: true }) };
      const life = (as: string): void => {
        const prevResult = reference(name, conf).result;
        expect(rules()).toContain("10.80.0.5");
        node.ok("DEL", { pod, conf: { ...conf, prevResult }, as });
      };
      life(`ref/${name}`); // what is shared stays
      const before = rules();
      witness = new Witness(node, pod);
      life(name);
      expect(rules()).toBe(before);
    });

    test("bandwidth: the queue on the node goes, whatever became of the pair", () => {
      const shape = (more: Document = {}): Document => ({
        ...{ cniVersion: "1.0.0", name: "n-bridge", type: "bandwidth" },
        ...{ ingressRate: 1_000_000, ingressBurst: 800_000, egressRate: 1_000_000, egressBurst: 800_000 },
        ...more,
      });
      const pair = reference("bridge").result;
      const prevResult = node.ok("ADD", { pod, conf: shape({ prevResult: pair }), as: "ref/bandwidth" }).result;
      expect(node.netns.ipJson("link", "show", "type", "ifb")).toHaveLength(1);
      node.ok("DEL", { pod, conf: shape({ prevResult }), as: "bandwidth" });
      expect(node.netns.ipJson("link", "show", "type", "ifb")).toEqual([]);
      node.ok("DEL", { pod, conf: { ...single("bridge"), prevResult }, as: "bridge" });
    });

    test.each(["bridge", "ptp"] as const)("%s: without the namespace the node's end leads to the pair", (name) => {
      const conf = { ...single(name), prevResult: reference(name).result };
      node.ok("DEL", { pod: "", conf, as: name });
      expect(links()).toEqual(["lo"]);
    });

    test("with the namespace gone the address is freed", async () => {
      using short = TestNetns.create("short");
      const conf = single("macvlan");
      const prevResult = node.ok("ADD", { pod: short, conf, as: "ref/macvlan" }).result;
      const { path } = short;
      short[Symbol.dispose]();
      node.ok("DEL", { pod: path, conf: { ...conf, prevResult }, as: "macvlan" });
      expect(existsSync(node.at(lease("n-macvlan")))).toBe(false);
      // The kernel takes the interface away when it comes to it.
      await until(() => node.netns.ipJson("-d", "link", "show", "up0")[0]?.promiscuity === 0);
    });

    test("links that are not what the result says are left alone", () => {
      const { result } = reference("bridge");
      const conf = single("bridge");
      const [bridge, host, eth0] = result?.interfaces ?? [];
      const before = veths();
      for (const interfaces of [
        [bridge, { ...host, mac: "02:00:00:00:00:01" }, { ...eth0, mac: "02:00:00:00:00:02" }],
        [{ name: "br0" }, { name: "up0", mac: macOf("up0") }, { name: "lo", sandbox: pod.path }],
      ]) {
        node.ok("DEL", { pod, conf: { ...conf, prevResult: { ...result, interfaces } }, as: "bridge" });
        expect(links()).toEqual(["lo", "eth0"]);
        expect(veths()).toEqual(before);
      }
      // Of a macvlan, too: the kind is another.
      node.ok("DEL", { pod, conf: { ...single("macvlan"), prevResult: result }, as: "macvlan" });
      expect(links()).toEqual(["lo", "eth0"]);
      node.ok("DEL", { pod, conf: { ...conf, prevResult: result }, as: "bridge" });
    });

    test("without any result nobody says that there was one: no link goes, the addresses do", () => {
      const prevResult = reference("bridge").result;
      node.ok("DEL", { pod, conf: single("bridge"), as: "bridge" });
      expect(links()).toEqual(["lo", "eth0"]);
      expect(existsSync(node.at(lease("n-bridge")))).toBe(false);
      expect(node.answer("CHECK", { pod, conf: single("bridge"), as: "bridge" }).error?.code).toBe(3);
      node.ok("DEL", { pod, conf: { ...single("bridge"), prevResult }, as: "bridge" });
    });

    test("a CNI binary that gave the address takes it back", () => {
      node.link("ref/ipam", join(node.bin, "spy"));
      node.link("ipam", join(node.bin, "spy"));
      const answer = { cniVersion: "1.0.0", ips: [{ address: "10.81.0.5/24", gateway: "10.81.0.1" }] };
      const conf = { ...single("macvlan"), ipam: { type: "ipam" }, spy: { log: node.log, result: answer } };
      const prevResult = node.ok("ADD", { pod, conf, as: "ref/macvlan" }).result;
      rmSync(node.log);
      node.ok("DEL", { pod, conf: { ...conf, prevResult }, as: "macvlan" });
      expect(node.calls().map(({ command }) => command)).toEqual(["DEL"]);
    });
  });

  const macOf = (link: string): string => String(node.netns.ipJson("link", "show", link)[0]?.address);

  describe("by libcni's cache", () => {
    const confDir = (): string => join(node.directory, "net.d");
    const results = (): string[] => readdirSync(node.at("/var/lib/cni/results"));
    const tool = (command: "add" | "check" | "del", network: string, bin = node.bin): void => {
      const environment = [`CNI_PATH=${bin}`, `NETCONFPATH=${confDir()}`, `CNI_ARGS=${podArgs}`];
      node.run("env", ...environment, join(node.directory, "cnitool"), command, network, pod.path);
    };
    const install = (name: string, cniVersion: string, plugin: Document): void => {
      mkdirSync(confDir(), { recursive: true });
      writeFileSync(join(confDir(), `${name}.conflist`), JSON.stringify({ cniVersion, name, plugins: [plugin] }));
    };
    const containerOf = (): string =>
      JSON.parse(readFileSync(node.at(`/var/lib/cni/results/${results()[0]}`), "utf8")).containerId;

    beforeAll(() => {
      for (const name of names) install(`n-${name}`, "0.4.0", plugins[name]);
      // The directory of the cache stays.
      pod = TestNetns.create("first");
      tool("add", "n-bridge", join(node.bin, "ref"));
      tool("del", "n-bridge", join(node.bin, "ref"));
      pod[Symbol.dispose]();
    });

    test.each(names)("%s: added by the reference, checked and deleted by ours", (name) => {
      tool("add", `n-${name}`, join(node.bin, "ref"));
      tool("check", `n-${name}`);
      tool("del", `n-${name}`);
      expect(links()).toEqual(["lo"]);
      expect(results()).toEqual([]);
    });

    test("a version that hands on no result is looked up", () => {
      install("n-bridge", "0.3.1", plugins.bridge);
      tool("add", "n-bridge", join(node.bin, "ref"));
      tool("del", "n-bridge");
      expect(links()).toEqual(["lo"]);
      install("n-bridge", "0.4.0", plugins.bridge);
    });

    test.each(["n-bridge", "node"])(
      "the meta-plugin in the place of list %p checks and deletes what it had",
      (name) => {
        install(name, "0.4.0", { ...plugins.bridge, bridge: "br0" });
        tool("add", name, join(node.bin, "ref"));
        const container = containerOf();
        const conf = node.conf(undefined);
        node.ok("CHECK", { pod, container, conf });
        node.ok("DEL", { pod, container, conf });
        expect(links()).toEqual(["lo"]);
        // The record under the runtime's own name is libcni's to remove.
        expect(results()).toEqual(name === "node" ? [`node-${container}-eth0`] : []);
        if (name === "node") {
          rmSync(node.at(`/var/lib/cni/results/node-${container}-eth0`));
          rmSync(node.at("/var/lib/cni/networks/node"), { recursive: true });
        }
      },
    );

    test("an attachment of ours in the cache is not taken for another's", () => {
      install("ours", "1.0.0", { ...node.conf({ plugins: [node.spy()] }), type: "patchbay" });
      tool("add", "ours");
      const container = containerOf();
      node.ok("DEL", { pod, container, conf: { ...node.conf(undefined), name: "ours" } });
      rmSync(node.log);
      node.ok("DEL", { pod, container, conf: { ...node.conf(undefined), name: "ours" } });
      expect(node.calls()).toEqual([]);
      tool("del", "ours");
    });
  });
});

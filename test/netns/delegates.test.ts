/** Built-ins and CNI binaries in one list, in any order, as a runtime starts them: the compiled program, a real kernel. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { bridge, subnet, TestNode, until, Witness } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, has, requires, root } from "../support/requires.ts";

const hostLocal = { type: "host-local", subnet };

requires(
  ...root,
  built,
  ["nft", has("nft")],
  hasPeer("debian-cni"),
)("delegates", () => {
  let node: TestNode;
  let pod: TestNetns;
  let witness: Witness;

  beforeAll(async () => {
    node = await TestNode.settled();
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    rmSync(node.log, { force: true });
    pod = TestNetns.create("pod");
    // The kernel gives it 127.0.0.1 when it first comes up, and leaves it there.
    pod.ip("link", "set", "lo", "up");
    pod.ip("link", "set", "lo", "down");
    witness = new Witness(node, pod);
  });
  afterEach(() => {
    using _done = pod;
    expect(witness.changes()).toBe("");
  });

  /** A file as long as which a spy fails. */
  const reason = (): string => {
    const path = join(node.directory, "reason");
    writeFileSync(path, "");
    return path;
  };
  /** In the pod, of `eth0`. */
  const addresses = (): string[] => {
    const [link] = pod.ipJson("-4", "address", "show").filter((l) => l.ifname === "eth0");
    return ((link?.addr_info ?? []) as Document[]).map((a) => `${a.local}/${a.prefixlen}`);
  };
  const commands = (): string[] => node.calls().map((call) => `${call.command} ${call.type}`);

  describe("a binary between built-ins", () => {
    const parts: Record<string, () => Document> = {
      bridge: () => bridge,
      spy: () => node.spy(),
      loopback: () => ({ type: "loopback" }),
    };
    const orders = [
      ["bridge", "spy", "loopback"],
      ["bridge", "loopback", "spy"],
      ["spy", "bridge", "loopback"],
      ["spy", "loopback", "bridge"],
      ["loopback", "bridge", "spy"],
      ["loopback", "spy", "bridge"],
    ] as const;

    test.each(orders.map((order) => [order.join(", "), order] as const))("%s", (_, order) => {
      const conf = node.conf({ plugins: order.map((name) => parts[name]?.() ?? {}) });
      node.ok("ADD", { pod, conf });
      const [address] = addresses();
      expect(address).toStartWith("10.77.0.");
      expect(JSON.stringify(pod.ipJson("link", "show", "dev", "lo"))).toContain('"UP"');
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
      expect(commands()).toEqual(["ADD spy", "CHECK spy", "DEL spy"]);
      // However the list is ordered, the link with its address is there until all delegates are done.
      expect(node.calls().at(-1)?.addresses).toEqual([address ?? ""]);
      expect(node.leases()).toEqual([]);
      node.ok("DEL", { pod, conf });
      expect(commands()).toHaveLength(3);
    });

    test("gets its configuration whole, with the result so far; on DEL the final one", () => {
      const odd = {
        unknown: { deep: [1, 2.5, "ü", true], none: null },
        "x.org/y": [],
        capabilities: { portMappings: true },
      };
      const portMappings = [{ hostPort: 80, containerPort: 80, protocol: "tcp" }];
      const runtimeConfig = { portMappings, "io.kubernetes.cri.pod-annotations": {} };
      const spy = node.spy({}, odd);
      const conf = node.conf({ plugins: [bridge, spy] }, undefined, { runtimeConfig });
      const { result } = node.ok("ADD", { pod, conf });
      node.ok("DEL", { pod, conf });
      const [add, del] = node.calls();
      expect(add?.conf).toEqual({
        ...spy,
        cniVersion: "1.1.0",
        name: "default",
        runtimeConfig: { portMappings },
        prevResult: result,
      });
      expect(del?.conf).toEqual(add?.conf ?? {});
    });

    test("whose first DEL fails: its link and address stay, the others go, a retry frees all, a third call is silent", () => {
      const failWhile = reason();
      const plain = { type: "bridge", bridge: "br0", ipam: hostLocal };
      node.network("flaky", { name: "flaky", plugins: [plain, node.spy({ fail: ["DEL"], failWhile })] });
      node.network("other", { name: "other", plugins: [plain] });
      const conf = node.conf({ plugins: [bridge, node.spy()] }, "flaky,other");
      node.ok("ADD", { pod, conf });
      const failed = node.answer("DEL", { pod, conf });
      expect(failed.error).toMatchObject({
        code: 200,
        msg: 'Cannot detach "net1" from network "default/flaky": Cannot DEL with plugin "spy": told to fail DEL',
      });
      const names = pod.ipJson("link", "show").map((link) => link.ifname);
      expect(names).toEqual(["lo", "net1"]);
      expect(pod.ipJson("-4", "address", "show", "dev", "net1")).toHaveLength(1);
      expect([node.leases("flaky"), node.leases("other"), node.leases()].map((l) => l.length)).toEqual([1, 0, 0]);
      expect(node.calls().map((c) => `${c.command} ${c.network}`)).toEqual([
        "ADD default",
        "ADD flaky",
        "DEL flaky",
        "DEL default",
      ]);
      rmSync(failWhile);
      node.ok("DEL", { pod, conf });
      // It reads its address from the link on the retry too.
      expect(node.calls().at(-1)).toMatchObject({ command: "DEL", network: "flaky" });
      expect(node.calls().at(-1)?.addresses).toHaveLength(1);
      const before = node.calls().length;
      node.ok("DEL", { pod, conf });
      expect(node.calls()).toHaveLength(before);
    });

    test("that fails in ADD: it is deleted too, with what was made before it, and its code is the answer's", () => {
      const conf = node.conf({ plugins: [bridge, node.spy({ fail: ["ADD"], failCode: 42 }), { type: "loopback" }] });
      const answer = node.answer("ADD", { pod, conf });
      expect(answer.error?.code).toBe(42);
      expect(answer.error?.msg).toContain("told to fail ADD");
      expect(answer.error?.details).toMatch(/^remove the reason.* \(operation [0-9a-f]{8}\)$/);
      expect(commands()).toEqual(["ADD spy", "DEL spy"]);
      expect(node.calls()[1]?.conf.prevResult).toBeDefined(); // by which it finds what it made
      node.ok("DEL", { pod, conf });
      expect(commands()).toHaveLength(2);
    });
  });

  describe("a binary as IPAM of a built-in", () => {
    const withIpam = (ipam: Document): Document => node.conf({ type: "bridge", bridge: "br0", ipam });

    beforeAll(() => node.link("ipam", join(node.bin, "spy")));

    test("Debian's host-local, which has no 1.1.0: ADD, CHECK, DEL, in its own files", () => {
      node.link("debian-host-local", peerFile("debian-cni", "host-local"));
      const conf = withIpam({ type: "debian-host-local", subnet });
      const files = node.at("/var/lib/cni/networks/default");
      node.ok("ADD", { pod, conf });
      expect(existsSync(join(files, "10.77.0.2"))).toBe(true);
      node.ok("CHECK", { pod, conf });
      expect(addresses()).toEqual(["10.77.0.2/24"]);
      node.ok("DEL", { pod, conf });
      expect(existsSync(join(files, "10.77.0.2"))).toBe(false);
      rmSync(node.at("/var/lib/cni/networks"), { recursive: true }); // it keeps its lock and its last address
    });

    test("gets the plugin's whole configuration, is asked on CHECK, and after the link has gone on DEL", () => {
      const conf = { ...withIpam(node.spyIpam({ result: { ips: [{ address: "10.77.0.9/24" }] } })) };
      node.ok("ADD", { pod, conf });
      expect(addresses()).toEqual(["10.77.0.9/24"]);
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
      expect(node.calls().map((c) => [c.command, c.addresses])).toEqual([
        ["ADD", []],
        ["CHECK", ["10.77.0.9/24"]],
        ["DEL", null],
      ]);
      expect(node.calls()[0]?.conf).toMatchObject({
        type: "bridge",
        bridge: "br0",
        name: "default",
        ipam: { type: "ipam" },
      });
    });

    test("one that fails: its code, and it is deleted", () => {
      const answer = node.answer("ADD", { pod, conf: withIpam(node.spyIpam({ fail: ["ADD"], failCode: 142 })) });
      expect(answer.error?.code).toBe(142);
      expect(answer.error?.msg).toContain('"ipam": told to fail ADD');
      expect(node.calls().map((c) => c.command)).toEqual(["ADD", "DEL"]);
    });

    test("one that answers no address: an error that names it, and it is deleted", () => {
      const answer = node.answer("ADD", { pod, conf: withIpam(node.spyIpam({ result: { ips: [] } })) });
      expect(answer.error?.msg).toContain('IPAM "ipam": it has no address');
      expect(node.calls().map((c) => c.command)).toEqual(["ADD", "DEL"]);
    });

    test("one whose DEL fails: DEL fails, the link is gone, the retry needs only the IPAM", () => {
      const failWhile = reason();
      const result = { ips: [{ address: "10.77.0.9/24" }] };
      const conf = withIpam(node.spyIpam({ result, fail: ["DEL"], failWhile }));
      node.ok("ADD", { pod, conf });
      expect(node.answer("DEL", { pod, conf }).error?.msg).toContain("told to fail DEL");
      expect(pod.ipJson("link", "show")).toHaveLength(1);
      rmSync(failWhile);
      node.ok("DEL", { pod, conf });
      expect(node.calls().map((c) => c.command)).toEqual(["ADD", "DEL", "DEL"]);
    });

    test("one that is not there: known before anything is made", () => {
      const answer = node.answer("ADD", { pod, conf: withIpam({ type: "nowhere" }) });
      expect(answer.error).toMatchObject({ code: 7, msg: expect.stringContaining('Cannot find plugin "nowhere"') });
    });
  });

  describe("a binary that runs our own plugins from CNI_PATH", () => {
    beforeAll(() => {
      node.link("bridge");
      node.link("host-local");
    });

    test("as flannel runs bridge: no deadlock, one DEL undoes both", () => {
      const inner = { type: "bridge", bridge: "br0", ipam: hostLocal };
      const conf = node.conf(node.spy({ runs: inner }));
      const { ms } = node.ok("ADD", { pod, conf });
      expect(addresses()).toHaveLength(1);
      node.ok("CHECK", { pod, conf });
      expect(node.ok("DEL", { pod, conf }).ms + ms).toBeLessThan(5000);
      expect(pod.ipJson("link", "show")).toHaveLength(1);
    });

    test("as flannel runs bridge, which fails: nothing is left", () => {
      const inner = { type: "bridge", bridge: "br0", mtu: 70_000, ipam: hostLocal };
      const answer = node.answer("ADD", { pod, conf: node.conf(node.spy({ runs: inner })) });
      expect(answer.error?.code).toBe(7);
    });

    test("Debian's bridge with our host-local: leases in the reference's own files", () => {
      node.link("debian-bridge", peerFile("debian-cni", "bridge"));
      const plugin = { type: "debian-bridge", bridge: "br0", ipam: hostLocal };
      const conf = node.conf(plugin);
      node.ok("ADD", { pod, conf });
      const files = node.at("/var/lib/cni/networks/default");
      const [address = ""] = addresses();
      expect(readFileSync(join(files, address.replace("/24", "")), "utf8")).toBe("c1\r\neth0");
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
      expect(readdirSync(files).filter((name) => /^\d/.test(name))).toEqual([]);
      rmSync(node.at("/var/lib/cni/networks"), { recursive: true });
    });

    test("and is stopped in the middle: nothing is left of either", async () => {
      const inner = { type: "bridge", bridge: "br0", ipam: hostLocal };
      const conf = node.conf(node.spy({ runs: inner, sleepMs: 5000 }));
      const add = node.start("ADD", { pod, conf });
      await until(() => addresses().length > 0);
      add.kill("SIGTERM");
      expect((await add.answer).error?.code).toBe(11);
    });
  });
});

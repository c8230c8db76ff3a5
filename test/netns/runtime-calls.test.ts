/** Every CNI command as runtimes send it, with what can be odd about a call: the compiled program, a real kernel. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { bridge, subnet, TestNode, Witness } from "../support/node.ts";
import { built, has, requires, root } from "../support/requires.ts";

requires(...root, built, ["nft", has("nft")])("calls of a runtime", () => {
  let node: TestNode;
  let pod: TestNetns;
  let witness: Witness;

  beforeAll(async () => {
    node = await TestNode.settled();
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(() => {
    rmSync(node.log, { force: true });
    for (const file of readdirSync(node.networks)) rmSync(join(node.networks, file));
    pod = TestNetns.create("pod");
    witness = new Witness(node, pod);
  });
  afterEach(() => {
    using _done = pod;
    expect(witness.changes()).toBe("");
  });

  const plain = { ...bridge, ipMasq: false, macspoofchk: false };
  const links = (of = pod): unknown[] => of.ipJson("link", "show").map((link) => link.ifname);
  const commands = (): string[] => node.calls().map((call) => `${call.command} ${call.ifname}`);

  describe("ADD", () => {
    test("again, with the namespace alive: 102, and nothing changes", () => {
      const conf = node.conf(bridge);
      node.ok("ADD", { pod, conf });
      const between = new Witness(node, pod);
      const again = node.answer("ADD", { pod, conf });
      expect(again.error).toMatchObject({ code: 102, msg: expect.stringContaining("it is there already") });
      expect(between.changes()).toBe("");
      node.ok("DEL", { pod, conf });
    });

    test("of a pod address that another network's pod masquerades already: each goes without the other", () => {
      const one = (name: string): Document =>
        node.conf({ ...bridge, name, ipam: { type: "static", addresses: [{ address: "10.79.0.9/24" }] } });
      const life = (): void => {
        using other = TestNetns.create("other");
        const [first, second] = [
          { pod: other, container: "c2", conf: one("first") },
          { pod, conf: one("second") },
        ];
        for (const each of [first, second]) node.ok("ADD", each);
        for (const each of [first, second]) node.ok("CHECK", each);
        node.ok("DEL", first);
        node.ok("CHECK", second);
        node.ok("DEL", second);
      };
      life();
      witness = new Witness(node, pod); // the maps and the chain that all such pods share stay
      life();
    });

    test("again, with the namespace gone: the former is undone, the new one added", () => {
      const conf = node.conf({ plugins: [bridge, node.spy()] });
      const former = TestNetns.create("former");
      node.ok("ADD", { pod: former, conf });
      former[Symbol.dispose]();
      node.ok("ADD", { pod, conf });
      expect(node.calls().map((c) => [c.command, c.netns])).toEqual([
        ["ADD", former.path],
        ["DEL", ""],
        ["ADD", pod.path],
      ]);
      expect(node.leases()).toHaveLength(1);
      node.ok("DEL", { pod, conf });
    });

    test("with another interface name of the same container is another attachment", () => {
      const conf = node.conf(bridge);
      node.ok("ADD", { pod, conf });
      node.ok("ADD", { pod, conf, ifname: "eth1" });
      expect(links()).toEqual(["lo", "eth0", "eth1"]);
      node.ok("DEL", { pod, conf, ifname: "eth1" });
      expect(links()).toEqual(["lo", "eth0"]);
      node.ok("DEL", { pod, conf });
    });

    test("two interfaces of one container at once: one after the other, and both are there", async () => {
      const conf = node.conf(bridge);
      const started = ["eth0", "eth1"].map((ifname) => node.start("ADD", { pod, conf, ifname }).answer);
      expect((await Promise.all(started)).map((a) => a.error?.msg ?? a.exit)).toEqual([0, 0]);
      expect(links().sort()).toEqual(["eth0", "eth1", "lo"]);
      const deleted = ["eth0", "eth1"].map((ifname) => node.start("DEL", { pod, conf, ifname }).answer);
      expect((await Promise.all(deleted)).map((a) => a.exit)).toEqual([0, 0]);
    });

    test("of an interface that the pod has already: an error, and it stays", () => {
      pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other");
      const between = new Witness(node, pod);
      expect(node.answer("ADD", { pod, conf: node.conf(bridge) }).error?.msg).toContain("eth0");
      expect(between.changes()).toBe("");
      pod.ip("link", "delete", "eth0");
    });

    test("without a namespace, with a file that is none, with the node's own: 8", () => {
      const file = join(node.directory, "file");
      writeFileSync(file, "");
      const conf = node.conf(bridge);
      expect(node.answer("ADD", { pod: "/run/netns/nowhere", conf }).error?.code).toBe(8);
      expect(node.answer("ADD", { pod: file, conf }).error?.code).toBe(8);
      expect(node.answer("ADD", { pod: "/proc/self/ns/uts", conf }).error?.code).toBe(8);
      const own = node.answer("ADD", { pod: node.netns, conf });
      expect(own.error).toMatchObject({ code: 8, msg: expect.stringContaining("node's own") });
    });

    test("into the node's own namespace when CNI_NETNS_OVERRIDE says so", () => {
      const conf = node.conf(node.spy());
      const env = { CNI_NETNS_OVERRIDE: "TRUE" };
      node.ok("ADD", { pod: node.netns, conf, env });
      node.ok("DEL", { pod: node.netns, conf, env });
      expect(commands()).toEqual(["ADD eth0", "DEL eth0"]);
    });

    test.each([
      ["no CNI_CONTAINERID", { CNI_CONTAINERID: "" }],
      ["no CNI_NETNS", { CNI_NETNS: "" }],
      ["a container id that is a path", { CNI_CONTAINERID: "../x" }],
      ["an interface name that is too long", { CNI_IFNAME: "a234567890123456" }],
      ["arguments that are none", { CNI_ARGS: "K8S_POD_NAME" }],
    ])("with %s: 4", (_, env) => {
      expect(node.answer("ADD", { pod, conf: node.conf(bridge), env }).error?.code).toBe(4);
    });

    test("with what is no JSON: 6; with an unknown key: 7, which it names", () => {
      expect(node.answer("ADD", { pod, conf: "{" }).error?.code).toBe(6);
      const conf = node.conf(bridge, undefined, { defaultNetwrok: "x" });
      expect(node.answer("ADD", { pod, conf }).error).toMatchObject({
        code: 7,
        msg: expect.stringContaining("defaultNetwrok"),
      });
    });

    test("for a pod of Kubernetes whose annotations nobody can read: 7, with the line to add", () => {
      const { capabilities: _, runtimeConfig: __, ...conf } = node.conf(bridge);
      const answer = node.answer("ADD", { pod, conf });
      expect(answer.error?.code).toBe(7);
      expect(answer.error?.details).toContain('"capabilities": {"io.kubernetes.cri.pod-annotations": true}');
      const args = "IgnoreUnknown=1";
      node.ok("ADD", { pod, conf, args }); // not a pod: the default network alone
      node.ok("DEL", { pod, conf, args });
    });

    test("sixteen at once on one bridge and one pool: each its own address, and all can be deleted at once", async () => {
      const pods = Array.from({ length: 16 }, () => TestNetns.create("many"));
      const conf = node.conf(bridge);
      const all = async (command: "ADD" | "DEL") =>
        await Promise.all(pods.map((p, i) => node.start(command, { pod: p, conf, container: `many-${i}` }).answer));
      const added = await all("ADD");
      expect(added.map((a) => a.error?.msg ?? "ok")).toEqual(added.map(() => "ok"));
      expect(new Set(added.map((a) => a.result?.ips?.[0]?.address)).size).toBe(16);
      expect(node.leases()).toHaveLength(16);
      expect((await all("DEL")).map((a) => a.exit)).toEqual(added.map(() => 0));
      for (const p of pods) p[Symbol.dispose]();
    }, 60_000);

    test.each([
      ["0.1.0", { ip4: { ip: "10.77.0.0/24", gateway: "10.77.0.1" }, dns: {} }],
      ["0.2.0", { ip4: { ip: "10.77.0.0/24", gateway: "10.77.0.1" }, dns: {} }],
      ["0.3.0", { ips: [{ version: "4", address: "10.77.0.0/24", gateway: "10.77.0.1", interface: 2 }], dns: {} }],
      ["0.3.1", { ips: [{ version: "4", address: "10.77.0.0/24", gateway: "10.77.0.1", interface: 2 }], dns: {} }],
      ["0.4.0", { ips: [{ version: "4", address: "10.77.0.0/24", gateway: "10.77.0.1", interface: 2 }], dns: {} }],
      ["1.0.0", { ips: [{ address: "10.77.0.0/24", gateway: "10.77.0.1", interface: 2 }] }],
      ["1.1.0", { ips: [{ address: "10.77.0.0/24", gateway: "10.77.0.1", interface: 2 }] }],
    ])("in version %s answers in that version", (cniVersion, expected) => {
      const conf = node.conf({ ...bridge, cniVersion }, undefined, { cniVersion });
      const { stdout } = node.ok("ADD", { pod, conf });
      const { interfaces, ...result } = JSON.parse(stdout.replace(/10\.77\.0\.\d+\/24/, "10.77.0.0/24"));
      expect(result).toEqual({ cniVersion, ...expected });
      expect(interfaces?.length ?? 0).toBe(cniVersion < "0.3.0" ? 0 : 3);
      node.ok("DEL", { pod, conf });
    });
  });

  describe("DEL", () => {
    test("with CNI_NETNS empty while the namespace lives: its path is in the journal", () => {
      const conf = node.conf({ plugins: [bridge, node.spy()] });
      node.ok("ADD", { pod, conf });
      node.ok("DEL", { pod: "", conf });
      expect(links()).toEqual(["lo"]);
      expect(node.calls()[1]?.netns).toBe(pod.path);
    });

    test("with another namespace at the path: that one is left alone", () => {
      const conf = node.conf(bridge);
      const former = TestNetns.create("former");
      node.ok("ADD", { pod: former, conf });
      former[Symbol.dispose]();
      pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other");
      const between = new Witness(node, pod);
      node.ok("DEL", { pod, conf });
      expect(between.changes()).not.toContain("pod ");
      expect(links()).toContain("eth0");
      pod.ip("link", "delete", "eth0");
    });

    test.each(["", "/run/netns/gone"])("after the namespace has gone, with %p; and once more", (path) => {
      const conf = node.conf({ plugins: [bridge, node.spy()] });
      const former = TestNetns.create("former");
      node.ok("ADD", { pod: former, conf });
      former[Symbol.dispose]();
      node.ok("DEL", { pod: path, conf });
      expect(node.calls()[1]?.netns).toBe("");
      expect(witness.changes()).toBe("");
      node.ok("DEL", { pod: path, conf });
      expect(node.calls()).toHaveLength(2);
    });

    test("of a container that nobody added says nothing and makes nothing", () => {
      const answer = node.ok("DEL", { pod, conf: node.conf(bridge), container: "unknown" });
      expect([answer.stdout, answer.stderr]).toEqual(["", ""]);
    });

    test("with a configuration of which only the name can be read", () => {
      const conf = node.conf({ plugins: [bridge, node.spy()] });
      node.ok("ADD", { pod, conf });
      node.ok("DEL", { pod, conf: { name: "node", type: "patchbay", cniVersion: "9.9", defaultNetwork: 42, odd: {} } });
      expect(commands()).toEqual(["ADD eth0", "DEL eth0"]);
    });

    test("with the networks and the default network's plugin changed since: by the records alone", () => {
      node.network("a", { name: "a", plugins: [{ ...plain, ipam: { type: "host-local", subnet: "10.78.0.0/24" } }] });
      node.ok("ADD", { pod, conf: node.conf(bridge, "a") });
      rmSync(join(node.networks, "default-a.json"));
      node.ok("DEL", { pod, conf: node.conf({ type: "nowhere" }) });
      expect(links()).toEqual(["lo"]);
    });
  });

  describe("CHECK", () => {
    const conf = (): Document =>
      node.conf({
        ...bridge,
        ipam: { type: "host-local", subnet, routes: [{ dst: "0.0.0.0/0" }, { dst: "10.99.0.0/16" }] },
      });
    const hostEnd = (): string =>
      String(
        node.netns.ipJson("link", "show", "master", "br0").find((link) => String(link.ifname).startsWith("veth"))
          ?.ifname,
      );

    test.each([
      ["nothing", () => {}, undefined],
      ["the address removed", () => pod.ip("address", "flush", "dev", "eth0", "scope", "global"), /10\.77\.0\.\d+/],
      ["the link down", () => pod.ip("link", "set", "eth0", "down"), /down/],
      ["the link removed", () => pod.ip("link", "delete", "eth0"), /eth0/],
      ["a route removed", () => pod.ip("route", "delete", "10.99.0.0/16"), /10\.99\.0\.0\/16/],
      ["the master changed", () => node.netns.ip("link", "set", hostEnd(), "nomaster"), /br0/],
      ["the masquerading gone", () => node.netns.run("nft", "flush", "map", "inet", "patchbay", "masq4"), /masquerad/i],
    ] as const)("finds %s", (_, damage, message) => {
      node.ok("ADD", { pod, conf: conf() });
      damage();
      const answer = node.answer("CHECK", { pod, conf: conf() });
      node.ok("DEL", { pod, conf: conf() });
      expect(answer.stdout).toMatch(message ?? /^$/);
      expect(answer.exit).toBe(message === undefined ? 0 : 1);
    });

    test("of an attachment that nobody made: 3", () => {
      expect(node.answer("CHECK", { pod, conf: conf() }).error?.code).toBe(3);
    });

    test("in another namespace than that of ADD: 3", () => {
      using other = TestNetns.create("other");
      node.ok("ADD", { pod: other, conf: conf() });
      expect(node.answer("CHECK", { pod, conf: conf() }).error?.code).toBe(3);
      node.ok("DEL", { pod: other, conf: conf() });
    });

    test("is passed over where the network says disableCheck", () => {
      const quiet = node.conf({ disableCheck: true, plugins: [node.spy({ fail: ["CHECK"] })] });
      node.ok("ADD", { pod, conf: quiet });
      node.ok("CHECK", { pod, conf: quiet });
      node.ok("DEL", { pod, conf: quiet });
      expect(commands()).toEqual(["ADD eth0", "DEL eth0"]);
    });
  });

  describe("behind another provider", () => {
    const prevResult = (): Document => ({
      cniVersion: "1.1.0",
      interfaces: [{ name: "eth0", sandbox: pod.path }],
      ips: [{ address: "10.50.0.2/24", gateway: "10.50.0.1", interface: 0 }],
      routes: [
        { dst: "0.0.0.0/0", gw: "10.50.0.1" },
        { dst: "10.60.0.0/16", gw: "10.50.0.1" },
      ],
      dns: { nameservers: ["10.50.0.53"] },
    });
    beforeEach(() => {
      pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "theirs");
      pod.ip("address", "add", "10.50.0.2/24", "dev", "eth0");
      for (const link of ["theirs", "eth0"]) pod.ip("link", "set", link, "addrgenmode", "none", "up");
      pod.ip("route", "add", "default", "via", "10.50.0.1");
      pod.ip("route", "add", "10.60.0.0/16", "via", "10.50.0.1");
      witness = new Witness(node, pod);
      node.network("a", { name: "a", plugins: [{ ...plain, ipam: { type: "host-local", subnet: "10.78.0.0/24" } }] });
    });

    test("adds the secondaries, and returns what came before unchanged", () => {
      const conf = node.conf(undefined, "a", { prevResult: prevResult() });
      const { result } = node.ok("ADD", { pod, conf });
      expect(result as Document).toEqual(prevResult());
      expect(links()).toContain("net1");
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
    });

    test("moves the default route where the annotation says so: in the pod and in the result", () => {
      const annotation = [{ name: "a", "default-route": ["10.78.0.1"] }];
      const conf = node.conf(undefined, annotation, { prevResult: prevResult() });
      const { result } = node.ok("ADD", { pod, conf });
      expect(pod.ipJson("route", "show", "default")).toMatchObject([{ gateway: "10.78.0.1", dev: "net1" }]);
      expect(result?.routes).toEqual([{ dst: "10.60.0.0/16", gw: "10.50.0.1" }]);
      node.ok("DEL", { pod, conf });
      // The other provider's route went with ADD; a runtime deletes such a pod as a whole.
      pod.ip("route", "add", "default", "via", "10.50.0.1");
    });

    test("with nothing selected it changes nothing", () => {
      const conf = node.conf(undefined, undefined, { prevResult: prevResult() });
      const between = new Witness(node, pod);
      expect(node.ok("ADD", { pod, conf }).result as Document).toEqual(prevResult());
      expect(between.changes()).toBe("");
      node.ok("DEL", { pod, conf });
    });

    test("a secondary cannot have the provider's interface", () => {
      const conf = node.conf(undefined, "a@eth0", { prevResult: prevResult() });
      expect(node.answer("ADD", { pod, conf }).error?.code).toBe(102);
    });
  });

  describe("STATUS", () => {
    test("of a network that can be served is silent", () => {
      const answer = node.ok("STATUS", { conf: node.conf({ plugins: [bridge, node.spy()] }) });
      expect([answer.stdout, answer.stderr]).toEqual(["", ""]);
      expect(node.calls().map((c) => c.command)).toEqual(["STATUS"]);
    });

    test.each([
      ["a plugin", { type: "nowhere" }],
      ["an IPAM", { ...bridge, ipam: { type: "nowhere" } }],
    ])("without %s: 50, which names it", (_, network) => {
      const answer = node.answer("STATUS", { conf: node.conf(network) });
      expect(answer.error).toMatchObject({ code: 50, msg: expect.stringContaining('"nowhere"') });
    });

    test("with a state directory that cannot be written: 50", () => {
      node.run("mount", "-o", "remount,ro", "/run/patchbay");
      const answer = node.answer("STATUS", { conf: node.conf(bridge) });
      node.run("mount", "-o", "remount,rw", "/run/patchbay");
      expect(answer.error).toMatchObject({ code: 50, msg: expect.stringContaining("/run/patchbay") });
    });

    test("passes on a plugin's own 51", () => {
      const conf = node.conf({ plugins: [bridge, node.spy({ fail: ["STATUS"], failCode: 51 })] });
      expect(node.answer("STATUS", { conf }).error).toMatchObject({
        code: 51,
        msg: expect.stringContaining("told to fail"),
      });
    });

    test("does not look at secondaries", () => {
      node.network("broken", { name: "broken", type: "nowhere" });
      node.ok("STATUS", { conf: node.conf(bridge, "broken") });
    });
  });

  describe("GC", () => {
    const valid = (...ids: readonly string[]): Document => {
      const list = ids.map((containerID) => ({ containerID, ifname: "eth0" }));
      return { "cni.dev/valid-attachments": list, "cni.dev/attachments": list };
    };
    const conf = (more: Document = {}): Document => node.conf({ plugins: [plain, node.spy()] }, undefined, more);
    const containers = (): string[] => readdirSync(`${node.generation}/containers`).sort();

    /** A pod whose namespace has gone without a DEL, beside one that lives. */
    function twoPods(): void {
      using gone = TestNetns.create("gone");
      node.ok("ADD", { pod: gone, conf: conf(), container: "dead" });
      node.ok("ADD", { pod, conf: conf(), container: "alive" });
    }
    const deleteBoth = (): void => {
      for (const container of ["dead", "alive"]) node.ok("DEL", { pod, conf: conf(), container });
    };

    test("removes a container that is not listed and whose namespace has gone, and keeps one that lives", () => {
      twoPods();
      node.ok("GC", { conf: conf(valid("somebody")) });
      expect(containers()).toEqual(["alive"]);
      expect(node.leases()).toHaveLength(1);
      const gc = node.calls().filter((call) => call.command === "GC");
      // Each delegate hears of our own attachments to its network, not of the runtime's list.
      expect(gc.map((call) => [call.network, call.conf["cni.dev/valid-attachments"]])).toEqual([
        ["default", [{ containerID: "alive", ifname: "eth0" }]],
      ]);
      deleteBoth();
    });

    test("keeps a container that is listed, though its namespace has gone", () => {
      twoPods();
      node.ok("GC", { conf: conf(valid("dead")) });
      expect(containers()).toEqual(["alive", "dead"]);
      deleteBoth();
    });

    test.each([
      ["null lists", { "cni.dev/valid-attachments": null, "cni.dev/attachments": null }],
      ["empty lists", { "cni.dev/valid-attachments": [], "cni.dev/attachments": [] }],
      ["no lists", {}],
    ])("with %s nothing whose namespace lives is removed", (_, lists) => {
      twoPods();
      node.ok("GC", { conf: conf(lists) });
      expect(containers()).toEqual(["alive"]);
      deleteBoth();
    });

    test("frees a lease of nobody", () => {
      twoPods();
      // Somebody cleaned up by hand, and not everywhere.
      rmSync(`${node.generation}/containers/dead`, { recursive: true });
      const references = `${node.generation}/networks/bridge@br0`;
      for (const name of readdirSync(references)) if (name.startsWith("dead@")) rmSync(join(references, name));
      expect(node.leases()).toHaveLength(2);
      node.ok("GC", { conf: conf(valid("alive")) });
      expect(node.leases()).toHaveLength(1);
      deleteBoth();
    });

    test("leaves a container alone while its ADD runs", async () => {
      const slow = node.conf({ plugins: [plain, node.spy({ sleepMs: 1500 })] });
      const add = node.start("ADD", { pod, conf: slow });
      while (node.calls().length === 0) await Bun.sleep(10);
      node.ok("GC", { conf: conf(valid("somebody")) });
      expect((await add.answer).exit).toBe(0);
      expect(node.leases()).toHaveLength(1);
      node.ok("CHECK", { pod, conf: slow });
      node.ok("DEL", { pod, conf: slow });
    });

    test("that cannot remove one goes on with the others, and fails", () => {
      const failWhile = join(node.directory, "reason");
      writeFileSync(failWhile, "");
      for (const [container, network] of [
        ["stuck", { plugins: [plain, node.spy({ fail: ["DEL"], failWhile })] }],
        ["other", { plugins: [plain, node.spy()] }],
      ] as const) {
        using gone = TestNetns.create("gone");
        node.ok("ADD", { pod: gone, conf: node.conf(network), container });
      }
      expect(node.answer("GC", { conf: conf(valid("somebody")) }).error?.code).toBe(200);
      expect(containers()).toEqual(["stuck"]);
      rmSync(failWhile);
      node.ok("GC", { conf: conf(valid("somebody")) });
      expect(containers()).toEqual([]);
    });
  });

  describe("by the name of a link", () => {
    beforeAll(() => {
      for (const name of ["loopback", "bridge", "host-local"]) node.link(name);
    });

    test("loopback, as containerd calls it", () => {
      pod.ip("link", "set", "lo", "up");
      pod.ip("link", "set", "lo", "down");
      witness = new Witness(node, pod);
      const conf = { cniVersion: "0.3.1", name: "cni-loopback", type: "loopback" };
      const { result } = node.ok("ADD", { as: "loopback", pod, conf, ifname: "lo" });
      expect(result).toMatchObject({
        interfaces: [{ name: "lo", sandbox: pod.path }],
        ips: [{ address: "127.0.0.1/8" }, {}],
      });
      expect(JSON.stringify(pod.ipJson("link", "show", "dev", "lo"))).toContain('"UP"');
      node.ok("DEL", { as: "loopback", pod, conf, ifname: "lo" });
      node.ok("DEL", { as: "loopback", pod, conf, ifname: "lo" });
    });

    test("bridge, beside a pod that the meta-plugin made with the same id and interface", () => {
      const single = {
        cniVersion: "1.0.0",
        name: "single",
        ...plain,
        ipam: { type: "host-local", subnet: "10.78.0.0/24" },
      };
      node.ok("ADD", { pod, conf: node.conf(bridge) });
      node.ok("ADD", { as: "bridge", pod, conf: single, ifname: "eth1" });
      node.ok("CHECK", { as: "bridge", pod, conf: single, ifname: "eth1" });
      node.ok("DEL", { as: "bridge", pod, conf: single, ifname: "eth1" });
      expect(links()).toEqual(["lo", "eth0"]);
      node.ok("DEL", { pod, conf: node.conf(bridge) });
    });

    test("VERSION and STATUS of each", () => {
      for (const as of ["loopback", "bridge", "host-local", "patchbay"]) {
        const { result } = node.ok("VERSION", { as, conf: { cniVersion: "1.1.0" } });
        expect(result?.supportedVersions).toContain("1.1.0");
      }
      node.ok("STATUS", { as: "bridge", conf: { cniVersion: "1.1.0", name: "s", ...bridge } });
    });
  });
});

/** What goes wrong in the middle: kills, signals, disks, damaged files, reboots. One DEL frees all, or fails and says why. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { sh, TestNetns } from "../support/netns.ts";
import { bridge, TestNode, until, Witness } from "../support/node.ts";
import { built, has, requires, root } from "../support/requires.ts";

requires(
  ...root,
  built,
  ["nft", has("nft")],
  ["chattr", has("chattr")],
)("interrupted", () => {
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
    witness = new Witness(node, pod);
  });
  afterEach(() => {
    using _done = pod;
    expect(witness.changes()).toBe("");
  });

  const commands = (): string[] => node.calls().map((call) => call.command);
  const links = (): unknown[] => pod.ipJson("link", "show").map((link) => link.ifname);
  const withSpy = (o: Parameters<TestNode["spy"]>[0] = {}): Document => node.conf({ plugins: [bridge, node.spy(o)] });
  const journal = (): string => {
    const directory = `${node.generation}/containers/c1`;
    const [name = ""] = readdirSync(directory).filter((n) => n.endsWith(".journal"));
    return join(directory, name);
  };

  describe("signals", () => {
    test("a delegate that outlives its killed parent is ended by the DEL, before it does more", async () => {
      const lease = join(node.directory, "late-lease");
      const conf = withSpy({ sleepMs: 2000, makesLink: "pbtlate", makesFile: lease });
      const begun = performance.now();
      const add = node.start("ADD", { pod, conf });
      await until(() => commands().length > 0);
      await Bun.sleep(1000 - (performance.now() - begun));
      add.kill("SIGKILL");
      expect((await add.answer).signal).toBe("SIGKILL");
      node.ok("DEL", { pod, conf });
      expect(witness.changes()).toBe("");
      await Bun.sleep(5000 - (performance.now() - begun));
      expect(existsSync(lease)).toBe(false);
      expect(commands()).toEqual(["ADD", "DEL"]);
    }, 15_000);

    test.each(["SIGTERM", "SIGINT"] as const)("%s in the middle of ADD: all is undone, code 11", async (signal) => {
      const conf = withSpy({ sleepMs: 20_000 });
      const add = node.start("ADD", { pod, conf });
      await until(() => commands().length > 0);
      add.kill(signal);
      const answer = await add.answer;
      expect(answer.error).toMatchObject({ code: 11, msg: expect.stringContaining("asked to stop") });
      expect(answer.ms).toBeLessThan(5000);
      expect(witness.changes()).toBe("");
      expect(commands()).toEqual(["ADD", "DEL"]);
    });

    test("SIGTERM in the middle of DEL: code 11, what it came to is kept, the next DEL frees the rest", async () => {
      const quick = join(node.directory, "quick");
      node.script(
        "slow",
        'case "$CNI_COMMAND" in',
        `VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}';;`,
        `ADD) echo '{"cniVersion":"1.1.0"}';;`,
        `DEL) touch ${node.directory}/begun; [ -e ${quick} ] || exec sleep 20;;`,
        "esac",
      );
      const conf = node.conf({ plugins: [bridge, { type: "slow" }] });
      node.ok("ADD", { pod, conf });
      const del = node.start("DEL", { pod, conf });
      await until(() => existsSync(join(node.directory, "begun")));
      del.kill("SIGTERM");
      const answer = await del.answer;
      expect(answer.error?.code).toBe(11);
      expect(answer.ms).toBeLessThan(5000);
      expect(links()).toEqual(["lo", "eth0"]);
      writeFileSync(quick, "");
      node.ok("DEL", { pod, conf });
    });

    test("a DEL asks a live ADD to undo itself, and goes on when it has", async () => {
      const conf = withSpy({ sleepMs: 20_000 });
      const add = node.start("ADD", { pod, conf });
      await until(() => commands().length > 0);
      const { ms } = node.ok("DEL", { pod, conf });
      expect(ms).toBeLessThan(5000);
      expect((await add.answer).error?.code).toBe(11);
      expect(commands()).toEqual(["ADD", "DEL"]);
    });

    test("a DEL ends an ADD that does not answer, after ten seconds, and undoes it", async () => {
      const conf = withSpy({ sleepMs: 60_000 });
      const add = node.start("ADD", { pod, conf });
      await until(() => commands().length > 0);
      add.kill("SIGSTOP");
      const { ms } = node.ok("DEL", { pod, conf });
      expect(ms).toBeWithin(9_500, 15_000);
      expect((await add.answer).signal).toBe("SIGKILL");
    }, 30_000);

    test("a second ADD waits for the first, and hears that it is taken", async () => {
      const conf = withSpy({ sleepMs: 1000 });
      const first = node.start("ADD", { pod, conf });
      await until(() => commands().length > 0);
      expect(node.answer("ADD", { pod, conf }).error?.code).toBe(102);
      expect((await first.answer).exit).toBe(0);
      node.ok("DEL", { pod, conf });
    });

    test("one that outlasts delegateTimeout is ended with its whole group, and undone", () => {
      const conf = { ...withSpy({ sleepMs: 20_000 }), delegateTimeout: "700ms" };
      const answer = node.answer("ADD", { pod, conf });
      expect(answer.error).toMatchObject({ code: 126, msg: expect.stringContaining('ADD of plugin "spy"') });
      expect(answer.ms).toBeWithin(700, 3000);
      expect(commands()).toEqual(["ADD", "DEL"]);
    });

    test("the whole operation has a time too", () => {
      const conf = { ...withSpy({ sleepMs: 20_000 }), timeout: "900ms" };
      const answer = node.answer("ADD", { pod, conf });
      expect(answer.error?.code).toBe(126);
      expect(answer.ms).toBeWithin(700, 3000);
    });
  });

  describe("what cannot be freed", () => {
    test("an immutable lease: DEL fails, the retry after repair frees it, a third is silent", () => {
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      const [address = ""] = node.leases();
      const file = `${node.generation}/leases/default/${address}`;
      sh(["chattr", "+i", file]);
      const failed = node.answer("DEL", { pod, conf });
      sh(["chattr", "-i", file]);
      expect(failed.error).toMatchObject({ code: 5, msg: expect.stringContaining(address) });
      expect(links()).toEqual(["lo"]); // a lease outlives its link, never the other way round
      expect(node.leases()).toEqual([address]);
      node.ok("DEL", { pod, conf });
      expect(witness.changes()).toBe("");
      node.ok("DEL", { pod, conf });
    });

    test("an immutable journal: DEL fails and names it, the retry removes it", () => {
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      const file = journal();
      sh(["chattr", "+i", file]);
      const failed = node.answer("DEL", { pod, conf });
      sh(["chattr", "-i", file]);
      expect(failed.error).toMatchObject({ code: 5, msg: expect.stringContaining("journal") });
      node.ok("DEL", { pod, conf });
    });

    test("a state directory that is read-only: ADD fails before anything is made", () => {
      node.run("mount", "-o", "remount,ro", "/run/patchbay");
      const failed = node.answer("ADD", { pod, conf: withSpy() });
      node.run("mount", "-o", "remount,rw", "/run/patchbay");
      expect(failed.error?.code).toBe(5);
      expect(commands()).toEqual([]);
    });

    test("a state directory that becomes read-only: DEL fails, the retry frees all", () => {
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      node.run("mount", "-o", "remount,ro", "/run/patchbay");
      const failed = node.answer("DEL", { pod, conf });
      node.run("mount", "-o", "remount,rw", "/run/patchbay");
      expect(failed.error?.code).toBe(5);
      node.ok("DEL", { pod, conf });
      expect(witness.changes()).toBe("");
      node.ok("DEL", { pod, conf });
    });

    /** Fills a file system of the node to the last byte, and calls. */
    function whileFull<T>(directory: string, work: () => T): T {
      const file = node.at(`${directory}/filler`);
      Bun.spawnSync(["dd", "if=/dev/zero", `of=${file}`, "bs=4k"], { stderr: "ignore" });
      try {
        return work();
      } finally {
        rmSync(file);
      }
    }

    test.each(["/run/patchbay", "/var/lib/patchbay"])(
      "%s is full: ADD fails with what to do, nothing is left",
      (directory) => {
        const failed = whileFull(directory, () => node.answer("ADD", { pod, conf: withSpy() }));
        expect(failed.error).toMatchObject({ code: 5, msg: expect.stringContaining("no space left") });
        expect(failed.error?.details).toContain("Free space");
        expect(witness.changes()).toBe("");
      },
    );

    test.each(["/run/patchbay", "/var/lib/patchbay"])("%s is full: DEL needs no room", (directory) => {
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      whileFull(directory, () => node.ok("DEL", { pod, conf }));
      expect(commands()).toEqual(["ADD", "DEL"]);
    });
  });

  describe("a damaged journal", () => {
    /** Of what the quarantine keeps for people to look at. */
    const clearQuarantine = (): string[] => {
      const path = `${node.generation}/quarantine`;
      const names = existsSync(path) ? readdirSync(path) : [];
      rmSync(path, { recursive: true, force: true });
      return names;
    };

    test.each([
      ["a byte in the middle is another", (text: string) => text.replace('"kind":"veth"', '"kind":"vetX"')],
      ["it is empty", () => ""],
      ["it is of a later format", (text: string) => text.replace('"format":1', '"format":9')],
    ] as const)("%s: DEL goes by derived names, and frees links, nft, lease and what binaries have", (_, damage) => {
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      const file = journal();
      writeFileSync(file, damage(readFileSync(file, "utf8")));
      node.ok("DEL", { pod, conf });
      expect(commands()).toEqual(["ADD", "DEL"]);
      expect(clearQuarantine()).toHaveLength(1);
      expect(witness.changes()).toBe("");
      node.ok("DEL", { pod, conf });
    });

    test("whose last line is torn is whole up to there", () => {
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      const file = journal();
      writeFileSync(file, readFileSync(file).subarray(0, -7));
      node.ok("DEL", { pod, conf });
      expect(clearQuarantine()).toEqual([]);
    });

    test("of one attachment leaves the others' DEL as it is", () => {
      node.network("other", {
        name: "other",
        plugins: [{ ...bridge, ipam: { type: "host-local", subnet: "10.78.0.0/24" } }],
      });
      const conf = node.conf({ plugins: [bridge, node.spy()] }, "other");
      node.ok("ADD", { pod, conf });
      const file = journal();
      writeFileSync(file, "none");
      node.ok("DEL", { pod, conf });
      expect(node.leases("other")).toEqual([]);
      expect(clearQuarantine()).toHaveLength(1);
    });
  });

  describe("after a reboot", () => {
    /** What a reboot does to a node: the pods' namespaces go, /run is empty, the kernel has another id. */
    async function rebooted(work: (other: TestNode) => void): Promise<void> {
      using other = await TestNode.create();
      using gone = TestNetns.create("gone");
      const conf = other.conf({ plugins: [other.spy({}, { first: true }), other.spy()] });
      other.ok("ADD", { pod: gone, conf });
      gone[Symbol.dispose]();
      other.run("umount", "/run/patchbay");
      other.run("mount", "-t", "tmpfs", "pbt", "/run/patchbay");
      const id = join(other.directory, "boot-id");
      writeFileSync(id, "11111111-2222-3333-4444-555555555555\n");
      other.run("mount", "--bind", id, "/proc/sys/kernel/random/boot_id");
      work(other);
    }
    const records = (of: TestNode): string[] => readdirSync(of.at("/var/lib/patchbay/records"));

    test("the DEL of each binary is run, the last first, without a namespace, and the records go", async () => {
      await rebooted((other) => {
        expect(records(other)).toHaveLength(4); // two delegates, each with its result
        const path = `/run/netns/${pod.name}-old`;
        other.ok("DEL", { pod: path, conf: { name: "node" } });
        const [first, second, ...dels] = other.calls();
        expect(dels.map((call) => [call.command, call.netns, call.args, call.conf.first])).toEqual([
          ["DEL", "", first?.args ?? "", undefined],
          ["DEL", "", first?.args ?? "", true],
        ]);
        expect(dels[1]?.conf).toMatchObject({ name: "default", spy: second?.conf.spy ?? {}, prevResult: {} });
        expect(records(other)).toEqual([]);
        other.ok("DEL", { conf: { name: "node" } });
        expect(other.calls()).toHaveLength(4);
      });
    });

    test("one whose DEL fails keeps its record for the retry", async () => {
      await rebooted((other) => {
        const spy = join(other.bin, "spy");
        const text = readFileSync(spy, "utf8");
        writeFileSync(spy, '#!/bin/sh\necho \'{"code":77,"msg":"not now"}\'; exit 1\n');
        const failed = other.answer("DEL", { conf: { name: "node" } });
        expect(failed.error).toMatchObject({ code: 77, msg: expect.stringContaining("not now") });
        expect(records(other).filter((name) => name.endsWith(".record"))).toHaveLength(2);
        writeFileSync(spy, text);
        other.ok("DEL", { conf: { name: "node" } });
        expect(records(other)).toEqual([]);
      });
    });
  });
});

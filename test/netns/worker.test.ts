/** Operations that a worker does for the processes that the runtime starts, and what happens when either of them ends. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, existsSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { nodeNetns, TestNetns } from "../support/netns.ts";
import { bridge, TestNode, until, Witness, type Worker } from "../support/node.ts";
import { built, requires, root } from "../support/requires.ts";

requires(...root, built)("a worker", () => {
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
    witness = new Witness(node, pod, { leaveOut: ["br0"], leaveOutFiles: leftOut });
  });
  afterEach(() => {
    using _done = pod;
    expect(witness.changes()).toBe("");
  });

  /** Its socket stays when it is killed, like the log, the cache and the reference's own files. */
  const leftOut = [/\/run\/patchbay\/(ops\.jsonl|worker\.sock)/, /\/cache(\/|$)/, /\/var\/lib\/cni\//];
  const withSpy = (o: Parameters<TestNode["spy"]>[0] = {}): Document => node.conf({ plugins: [bridge, node.spy(o)] });
  const commands = (): string[] => node.calls().map((call) => call.command);
  const parents = (): number[] => [...new Set(node.calls().map((call) => call.parent))];
  const descriptors = (worker: Worker): number => readdirSync(`/proc/${worker.pid}/fd`).length;

  test("does ADD, CHECK and DEL, with the same answers", async () => {
    const conf = withSpy();
    const alone = node.ok("ADD", { pod, conf }).result;
    node.ok("DEL", { pod, conf });
    rmSync(node.log);
    using worker = await node.worker();
    const didAll = (): boolean =>
      ["ADD", "CHECK", "DEL"].every((one) =>
        node.calls().some(({ command, parent }) => command === one && parent === worker.pid),
      );
    // A process that the machine lets wait for the worker does its operation itself, so once may not be enough.
    for (let round = 1; round === 1 || (!didAll() && round <= 5); round++) {
      const added = node.ok("ADD", { pod, conf }).result;
      expect(added?.interfaces?.map((i) => i.sandbox)).toEqual(alone?.interfaces?.map((i) => i.sandbox));
      expect(Object.keys(added ?? {})).toEqual(Object.keys(alone ?? {}));
      node.ok("CHECK", { pod, conf: { ...conf, prevResult: added } });
      node.ok("DEL", { pod, conf });
      expect(commands().slice(-3)).toEqual(["ADD", "CHECK", "DEL"]);
    }
    expect(didAll()).toBe(true);
  });

  test("a failure has its exit code, its error and its log", async () => {
    using _worker = await node.worker();
    const conf = withSpy({ fail: ["ADD"] });
    const { exit, error, stderr } = node.answer("ADD", { pod, conf });
    expect(exit).toBe(1);
    expect(error).toMatchObject({ code: 200, cniVersion: "1.1.0" });
    expect(stderr).toContain('"container":"c1"');
    node.ok("DEL", { pod, conf });
    expect(node.answer("ADD", { pod, conf: "{" }).error?.code).toBe(6);
  });

  test("holds nothing of an operation that is over", async () => {
    using worker = await node.worker();
    const conf = withSpy();
    const round = (): void => {
      node.ok("ADD", { pod, conf });
      node.ok("DEL", { pod, conf });
    };
    round();
    await Bun.sleep(100);
    const before = descriptors(worker);
    for (let i = 0; i < 5; i++) round();
    await Bun.sleep(100);
    expect(descriptors(worker)).toBe(before);
    expect(parents()).toContain(worker.pid);
    using gone = TestNetns.create("gone");
    node.ok("ADD", { pod: gone, conf, container: "c2" });
    gone[Symbol.dispose]();
    await until(() => !node.netns.ipJson("link", "show").some((link) => String(link.ifname).startsWith("veth")));
    node.ok("DEL", { pod: "", conf, container: "c2" });
  });

  describe("is passed over", () => {
    test("when it is busy: nobody waits for it", async () => {
      using worker = await node.worker();
      using other = TestNetns.create("other");
      const slow = node.start("ADD", { pod, conf: withSpy({ sleepMs: 3000 }) });
      await until(() => commands().length > 0);
      const conf = withSpy();
      const beside = Array.from({ length: 3 }, (_, i) =>
        node.start("ADD", { pod: other, conf, container: `b${i}`, ifname: `eth${i}` }),
      );
      for (const { answer } of beside) expect((await answer).exit).toBe(0);
      expect((await slow.answer).exit).toBe(0);
      expect(node.calls().filter((call) => call.parent === worker.pid).length).toBe(1);
      for (let i = 0; i < 3; i++) node.ok("DEL", { pod: other, conf, container: `b${i}`, ifname: `eth${i}` });
      node.ok("DEL", { pod, conf });
    });

    test("when it does not answer", async () => {
      using worker = await node.worker();
      worker.kill("SIGSTOP");
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      worker.kill("SIGCONT");
      node.ok("DEL", { pod, conf });
      expect(node.calls()[0]?.parent).not.toBe(worker.pid);
      expect(node.calls()[1]?.parent).toBe(worker.pid);
    });

    test("from another network namespace, which is another node", async () => {
      using worker = await node.worker();
      using elsewhere = nodeNetns();
      const state = node.at("/run/patchbay");
      const known = readdirSync(state);
      const conf = withSpy();
      const env = {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "c1",
        CNI_IFNAME: "eth0",
        CNI_NETNS: pod.path,
        CNI_PATH: node.bin,
      };
      const argv = elsewhere.argv(...node.inside(), join(node.bin, "patchbay"));
      const call = (command: string): number =>
        Bun.spawnSync(argv, { env: { ...env, CNI_COMMAND: command }, stdin: Buffer.from(JSON.stringify(conf)) })
          .exitCode;
      expect([call("ADD"), call("DEL")]).toEqual([0, 0]);
      for (const name of readdirSync(state)) if (!known.includes(name)) rmSync(join(state, name), { recursive: true });
      expect(parents()).not.toContain(worker.pid);
    });

    test("for a configuration that is larger than a request", async () => {
      using worker = await node.worker();
      const conf = node.conf({ plugins: [bridge, node.spy({}, { note: "x".repeat(200_000) })] });
      node.ok("ADD", { pod, conf });
      node.ok("DEL", { pod, conf });
      expect(commands()).toEqual(["ADD", "DEL"]);
      expect(parents()).not.toContain(worker.pid);
    });

    test("by a plugin that one of its own delegates runs, at once", async () => {
      using _worker = await node.worker();
      node.link("host-local");
      const runs = { type: "host-local", ipam: { type: "host-local", subnet: "10.79.0.0/24" } };
      const conf = node.conf({ plugins: [node.spy({ runs })] });
      expect(node.ok("ADD", { pod, conf }).result?.ips?.[0]?.address).toBe("10.79.0.2/24");
      node.ok("DEL", { pod, conf });
    });
  });

  test("strangers on its socket do not keep it from its work", async () => {
    using worker = await node.worker();
    const socket = node.at("/run/patchbay/worker.sock");
    for (const text of ["", "\0", "x".repeat(100_000)]) {
      const stranger = connect(socket);
      stranger.on("error", () => {}); // it is thrown out
      stranger.once("connect", () => stranger.end(text));
      await new Promise((resolve) => stranger.once("close", resolve));
    }
    const conf = withSpy();
    node.ok("ADD", { pod, conf });
    node.ok("DEL", { pod, conf });
    expect(parents()).toContain(worker.pid);
  });

  describe("killed", () => {
    test("in an ADD: the error says to try again, and DEL frees what was made", async () => {
      using worker = await node.worker();
      const conf = withSpy({ sleepMs: 20_000 });
      const add = node.start("ADD", { pod, conf });
      await until(() => commands().length > 0);
      worker.kill("SIGKILL");
      expect((await add.answer).error).toMatchObject({ code: 11, msg: expect.stringContaining("worker") });
      node.ok("DEL", { pod, conf });
    });

    test("in a DEL: the process does it by itself", async () => {
      using worker = await node.worker();
      const conf = withSpy();
      node.ok("ADD", { pod, conf });
      const quick = join(node.directory, "quick");
      const slow = node.conf({ plugins: [bridge, { type: "slow" }] });
      node.script(
        "slow",
        'case "$CNI_COMMAND" in',
        `VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}';;`,
        `ADD) echo '{"cniVersion":"1.1.0"}';;`,
        `DEL) touch ${node.directory}/begun; [ -e ${quick} ] || exec sleep 20;;`,
        "esac",
      );
      node.ok("ADD", { pod, conf: slow, container: "c2", ifname: "net7" });
      const del = node.start("DEL", { pod, conf: slow, container: "c2", ifname: "net7" });
      await until(() => existsSync(join(node.directory, "begun")));
      writeFileSync(quick, "");
      worker.kill("SIGKILL");
      expect((await del.answer).exit).toBe(0);
      node.ok("DEL", { pod, conf });
    });
  });

  test("the process that handed an ADD over is killed: the ADD is undone", async () => {
    using worker = await node.worker();
    const conf = withSpy({ sleepMs: 20_000 });
    const add = node.start("ADD", { pod, conf });
    await until(() => commands().length > 0);
    add.kill("SIGKILL");
    await add.answer;
    await until(() => commands().includes("DEL"));
    await until(() => witness.changes() === "");
    expect(parents()).toEqual([worker.pid]);
    node.ok("DEL", { pod, conf });
    expect(worker.exitCode).toBe(null);
  });

  test("SIGTERM in an ADD: it is undone, then the worker ends", async () => {
    using worker = await node.worker();
    const conf = withSpy({ sleepMs: 20_000 });
    const add = node.start("ADD", { pod, conf });
    await until(() => commands().length > 0);
    worker.kill("SIGTERM");
    expect((await add.answer).error).toMatchObject({ code: 11, msg: expect.stringContaining("asked to stop") });
    expect(await worker.exited).toBe(0);
    expect(existsSync(node.at("/run/patchbay/worker.sock"))).toBe(false);
  });

  test("replaced by another binary it ends, and keeps nobody waiting", async () => {
    using worker = await node.worker();
    const program = join(node.bin, "patchbay");
    copyFileSync(program, `${program}.new`);
    renameSync(`${program}.new`, program);
    const conf = withSpy();
    node.ok("ADD", { pod, conf });
    expect(await worker.exited).toBe(0);
    node.ok("DEL", { pod, conf });
    expect(parents()).not.toContain(worker.pid);
  });

  test("a second one says that there is one", async () => {
    using _first = await node.worker();
    const argv = node.netns.argv(...node.inside(), join(node.bin, "patchbay"), "worker");
    const second = Bun.spawnSync(argv, { stderr: "pipe" });
    expect(second.exitCode).toBe(1);
    expect(second.stderr.toString()).toContain(
      'Cannot start a worker: another one has the socket "/run/patchbay/worker.sock"',
    );
  });
});

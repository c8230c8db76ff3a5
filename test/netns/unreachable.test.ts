/** A pod's namespace whose path is gone while a process is still in it: it is alive, and what we made there is found. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { sh, TestNetns } from "../support/netns.ts";
import { bridge, TestNode, until, Witness } from "../support/node.ts";
import { built, has, requires, root } from "../support/requires.ts";

requires(...root, built, ["nft", has("nft")])("a namespace without a path", () => {
  let node: TestNode;
  let witness: Witness;
  let pod: TestNetns;
  let held: Bun.Subprocess;

  beforeAll(async () => {
    node = await TestNode.settled();
  });
  afterAll(() => node?.[Symbol.dispose]());
  beforeEach(async () => {
    witness = new Witness(node);
    pod = TestNetns.create("held");
    held = Bun.spawn(pod.argv("sleep", "60"), { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    await until(() => links().length > 0);
  });
  afterEach(async () => {
    held.kill();
    await held.exited;
    pod[Symbol.dispose]();
    expect(witness.changes()).toBe("");
  });

  /** Names of the links in the namespace, by the process that holds it. */
  const links = (): unknown[] =>
    JSON.parse(sh(["nsenter", "-t", String(held.pid), "-n", "--", "ip", "-j", "link"])).map(
      (link: { ifname: string }) => link.ifname,
    );

  test("DEL finds it by the process, and takes the links out of it", () => {
    const conf = node.conf(bridge);
    node.ok("ADD", { pod, conf });
    expect(links()).toEqual(["lo", "eth0"]);
    sh(["ip", "netns", "del", pod.name]);
    node.ok("DEL", { pod: "", conf });
    expect(links()).toEqual(["lo"]);
    node.ok("DEL", { pod: "", conf });
  });

  test("GC keeps what is in it", () => {
    const conf = { ...node.conf(bridge), cniVersion: "1.1.0" };
    node.ok("ADD", { pod, conf });
    sh(["ip", "netns", "del", pod.name]);
    const gone = [{ containerID: "another", ifname: "eth0" }];
    node.ok("GC", { conf: { ...conf, "cni.dev/valid-attachments": gone } });
    expect(links()).toEqual(["lo", "eth0"]);
    node.ok("DEL", { pod: "", conf });
  });
});

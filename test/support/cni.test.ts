import { afterAll, describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { CniList, cni, startCni } from "./cni.ts";
import { nodeNetns, TestNetns } from "./netns.ts";
import { hasPeer, peer, peerFile } from "./peers.ts";
import { requires, root } from "./requires.ts";
import { difference, snapshot } from "./snapshot.ts";

requires(...root, hasPeer("reference"))("calls of reference plugins", () => {
  const list = {
    cniVersion: "1.0.0",
    name: "support",
    plugins: [
      {
        type: "bridge",
        bridge: "br0",
        isGateway: true,
        ipam: { type: "static", addresses: [{ address: "10.9.0.2/24" }] },
      },
      { type: "tuning", capabilities: { mac: true } },
    ],
  };

  test("a list adds, checks and deletes, and a snapshot finds nothing left", () => {
    using node = nodeNetns();
    using pod = TestNetns.create("pod");
    const options = { netns: node, leaveOut: ["br0"] };
    const [before, inside] = [snapshot(options), snapshot({ netns: pod })];
    const network = new CniList(list, [peer("reference") ?? ""]);
    const to = { containerId: "c1", netns: pod, ifname: "eth0", node, capabilities: { mac: "02:11:22:33:44:55" } };
    const result = network.add(to);
    expect(result.ips?.[0]?.address).toBe("10.9.0.2/24");
    expect(result.interfaces?.at(-1)?.mac).toBe("02:11:22:33:44:55");
    expect(pod.ping("10.9.0.1")).toBe(true);
    expect(network.check(to).map((answer) => answer.exit)).toEqual([0, 0]);
    expect(network.del(to).map((answer) => answer.exit)).toEqual([0, 0]);
    expect(difference(before, snapshot(options))).toBe("");
    expect(difference(inside, snapshot({ netns: pod }))).toBe("");
  });

  test("an error is an answer with its code", () => {
    const answer = cni({
      plugin: peerFile("reference", "bridge"),
      command: "ADD",
      stdin: { cniVersion: "1.0.0", name: "n", type: "bridge" },
    });
    expect(answer).toMatchObject({ exit: 1, result: undefined, error: { code: 4 } });
  });

  test("a started call answers as well", async () => {
    const answer = await startCni({
      plugin: peerFile("reference", "bridge"),
      command: "VERSION",
      stdin: { cniVersion: "1.0.0" },
    }).answer;
    expect(answer.result?.supportedVersions).toContain("1.1.0");
  });
});

describe("cni()", () => {
  const path = `${tmpdir()}/patchbay-cni-test-${process.pid}`;
  afterAll(() => rmSync(path, { force: true }));

  test("kills a plugin that outlives its time", () => {
    writeFileSync(path, "#!/bin/sh\nexec sleep 30\n", { mode: 0o755 });
    const answer = cni({ plugin: path, command: "ADD", stdin: "", timeoutMs: 100 });
    expect(answer).toMatchObject({ exit: undefined, signal: "SIGKILL", result: undefined, error: undefined });
    expect(answer.ms).toBeLessThan(5_000);
  });
});

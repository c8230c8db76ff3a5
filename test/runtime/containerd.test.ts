/** The harness by itself: pods on Debian's bridge plugin, before any test blames Patchbay. */
import { expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { peerFile } from "../support/peers.ts";
import { requires } from "../support/requires.ts";
import { difference, snapshot } from "../support/snapshot.ts";
import { Containerd, containerdNeeds, pluginDirectory } from "./containerd.ts";

const [first = ["", true] as const, ...more] = containerdNeeds;

requires(...first, ...more)("containerd with Debian's plugins", () => {
  test("two pods reach each other; nothing is left after them", async () => {
    const scratch = mkdtempSync("/tmp/pbt-conf-");
    try {
      const plugins = ["bridge", "host-local", "loopback"].map((name) => [name, peerFile("debian-cni", name)]);
      const cniBinDir = pluginDirectory(join(scratch, "bin"), Object.fromEntries(plugins));
      const cniConfDir = join(scratch, "net.d");
      mkdirSync(cniConfDir);
      const ipam = { type: "host-local", ranges: [[{ subnet: "10.88.1.0/24" }]], dataDir: join(scratch, "leases") };
      const list = {
        cniVersion: "1.0.0",
        name: "debian",
        plugins: [{ type: "bridge", bridge: "rt0", isGateway: true, ipam }],
      };
      writeFileSync(join(cniConfDir, "10.conflist"), JSON.stringify(list));

      await using containerd = await Containerd.start({ cniBinDir, cniConfDir });
      const before = snapshot({ leaveOut: ["rt0"], files: ["/run/netns"] });
      const [a, b] = await Promise.all([containerd.run({ name: "a" }), containerd.run({ name: "b" })]);
      const status = await containerd.cri.podSandboxStatus(b.id);
      expect(await containerd.pings(a, status?.status?.network?.ip ?? "")).toBe(true);
      await containerd.down("SIGKILL");
      await containerd.up();
      expect((await containerd.cri.listPodSandbox()).map((pod) => pod.id).sort()).toEqual([a.id, b.id].sort());
      for (const pod of [a, b]) {
        await containerd.cri.stopPodSandbox(pod.id);
        await containerd.remove(pod.id);
      }
      expect(difference(before, snapshot({ leaveOut: ["rt0"], files: ["/run/netns"] }))).toBe("");
    } finally {
      Bun.spawnSync(["ip", "link", "delete", "rt0"]);
      rmSync(scratch, { recursive: true, force: true });
    }
  });
});

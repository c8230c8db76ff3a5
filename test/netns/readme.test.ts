/** The pod of README.md has the interfaces that README.md shows. */
import { expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readme } from "../docs/readme.ts";
import { cni } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, distBinary, requires, root } from "../support/requires.ts";

requires(
  ...root,
  built,
  hasPeer("debian-cni"),
)("README.md", () => {
  test("its pod has the interfaces that it shows", () => {
    const place = mkdtempSync(join(tmpdir(), "patchbay-readme-"));
    using stack = new DisposableStack();
    stack.defer(() => rmSync(place, { recursive: true, force: true }));
    for (const directory of ["bin", "networks.d"]) mkdirSync(join(place, directory));
    cpSync(peerFile("debian-cni", "ptp"), join(place, "bin/debian-ptp"));
    cpSync(peerFile("debian-cni", "host-local"), join(place, "bin/host-local"));
    writeFileSync(join(place, "networks.d/networks.yaml"), readme.manifests());
    const node = stack.use(TestNetns.create("readme-node"));
    const pod = stack.use(TestNetns.create("readme"));
    node.ip("link", "add", "eth1", "type", "veth", "peer", "name", "wire");
    for (const end of ["eth1", "wire"]) node.ip("link", "set", end, "up");

    const { plugins, ...list } = readme.list();
    const call = {
      plugin: distBinary,
      path: [join(place, "bin")],
      containerId: "readme",
      netns: pod,
      node,
      ifname: "eth0",
      args: "K8S_POD_NAMESPACE=default;K8S_POD_NAME=readme;K8S_POD_UID=1",
      stdin: {
        ...list,
        ...plugins[0],
        networksDir: join(place, "networks.d"),
        runtimeConfig: {
          "io.kubernetes.cri.pod-annotations": { "k8s.v1.cni.cncf.io/networks": readme.annotation() },
        },
      },
    };
    const added = cni({ ...call, command: "ADD" });
    expect(added.error).toBeUndefined();
    const mac = /link\/ether (\S+)/.exec(pod.ip("link", "show", "net1"))?.[1] ?? "";
    const shown = [...pod.ip("-brief", "-4", "address").trimEnd().split("\n"), mac];
    // Which index the other end of a veth has depends on what the node did before.
    const plain = (lines: readonly string[]): string[] =>
      lines.map((line) =>
        line
          .replace(/@if\d+/, "@if")
          .replaceAll(/\s+/g, " ")
          .trim(),
      );
    expect(plain(shown)).toEqual(plain(readme.output()));
    expect(cni({ ...call, command: "DEL" }).exit).toBe(0);
    expect(pod.ip("-brief", "link", "show")).not.toMatch(/eth0|net[12]/);
  });
});

/** DEL of a pod whose journals are no longer what was written: what they named is found all the same. */
import { expect, test } from "bun:test";
import { globSync, readFileSync, writeFileSync } from "node:fs";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { bridge, TestNode, Witness } from "../support/node.ts";
import { built, requires, root } from "../support/requires.ts";

const portMappings = [{ hostPort: 18080, containerPort: 80, protocol: "tcp" }];
const portmap = { type: "portmap", capabilities: { portMappings: true } };
const networks: Record<string, Document["plugins"]> = {
  "a bridge": [bridge, portmap, { type: "firewall", ingressPolicy: "same-bridge" }],
  // Of it nothing is on the node that carries an alias.
  "a macvlan": [
    { type: "macvlan", master: "uplink", ipam: { type: "host-local", subnet: "10.76.0.0/24" } },
    portmap,
    { type: "firewall" },
  ],
};
const damages: Record<string, (path: string, bytes: number) => void> = {
  "changed in its middle": (path) => {
    const lines = readFileSync(path, "utf8").split("\n");
    lines[2] = "?";
    writeFileSync(path, lines.join("\n"));
  },
  "all zeros": (path, bytes) => writeFileSync(path, new Uint8Array(bytes)),
};

requires(...root, built)("a damaged journal", () => {
  const cases = Object.keys(networks).flatMap((network) =>
    Object.keys(damages).map((damage) => [network, damage] as const),
  );
  test.each(cases)("of %s, %s: DEL leaves nothing", async (network, damage) => {
    using node = await TestNode.settled();
    node.netns.run("iptables-nft", "-P", "FORWARD", "DROP");
    const conf = {
      ...node.conf({ plugins: networks[network] ?? [] }),
      capabilities: { "io.kubernetes.cri.pod-annotations": true, portMappings: true },
      runtimeConfig: { "io.kubernetes.cri.pod-annotations": {}, portMappings },
    };
    {
      using first = TestNetns.create("first"); // what the networks' first pod leaves is theirs
      node.ok("ADD", { pod: first, conf, container: "c0" });
      node.ok("DEL", { pod: first, conf, container: "c0" });
    }
    using pod = TestNetns.create("pod");
    const witness = new Witness(node, pod, {
      leaveOut: ["br0"],
      leaveOutFiles: [/\/run\/patchbay\/ops\.jsonl/, /\/cache(\/|$)/, /\/quarantine(\/|$)/],
    });
    node.ok("ADD", { pod, conf });
    const [journal = ""] = globSync(`${node.at("/run/patchbay")}/*/containers/c1/*.journal`);
    damages[damage]?.(journal, readFileSync(journal).length);
    pod[Symbol.dispose]();
    node.ok("DEL", { pod: "", conf });
    expect(witness.changes()).toBe("");
    node.ok("DEL", { pod: "", conf });
  });
});

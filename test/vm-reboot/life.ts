/** What is attached before a reboot and deleted after it: by the compiled program, on the guest itself, with its disk. */
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pluginDirectory } from "../support/card.ts";
import { type CniAnswer, type CniCommand, cni, type Document } from "../support/cni.ts";
import type { TestNetns } from "../support/netns.ts";
import { distBinary } from "../support/requires.ts";

const rented = "/tmp/rented";

/** A directory of plugins, with an IPAM that is a CNI binary: its addresses are somebody else's to free. */
export function plugins(): string {
  const directory = pluginDirectory(distBinary, ["bridge", "macvlan", "ipvlan", "vlan", "dummy", "sriov"]);
  const script = `#!/bin/sh
case $CNI_COMMAND in
  VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.4.0","1.0.0"]}'; exit ;;
  ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.9.0.9/24"}]}' ;;
esac
echo "$CNI_COMMAND $CNI_CONTAINERID" >> ${rented}
`;
  writeFileSync(join(directory, "rented"), script);
  chmodSync(join(directory, "rented"), 0o755);
  return directory;
}

/** What the binary was asked since this boot. */
export const rents = (): string => (existsSync(rented) ? readFileSync(rented, "utf8").trim() : "");

export function call(
  directory: string,
  command: CniCommand,
  container: string,
  conf: Document,
  pod: TestNetns | "",
): CniAnswer {
  return cni({
    plugin: join(directory, String(conf.type)),
    path: [directory],
    command,
    containerId: container,
    netns: pod,
    ifname: "net1",
    stdin: { cniVersion: "1.0.0", name: `n-${container}`, ...conf },
  });
}

/** Container and configuration. The VF is that of the first card, whose address does not change. */
export const attachments = (vf: string): readonly (readonly [container: string, conf: Document])[] => [
  ["rents", { type: "bridge", bridge: "br0", ipam: { type: "rented" } }],
  ["leases", { type: "bridge", bridge: "br0", ipam: { type: "host-local", subnet: "10.8.0.0/24" } }],
  ["function", { type: "sriov", deviceID: vf, vlan: 100, ipam: { type: "host-local", subnet: "10.7.0.0/24" } }],
];

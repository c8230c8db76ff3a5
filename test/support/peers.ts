/** What Patchbay is compared with and tested under: brought into the cache by `scripts/peers.sh`, which installs nothing. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Need } from "./requires.ts";

const script = new URL("../../scripts/peers.sh", import.meta.url).pathname;

/**
 * `debian-cni`: Debian's containernetworking-plugins. `reference`: the current release of the reference plugins, and
 * cnitool. `multus`: Multus thin. `floor`: the raw netlink floor of the bench. `runner`: the bench's timer. `firewalld`:
 * Debian's, with a bus.
 */
export type Part =
  | "debian-cni"
  | "reference"
  | "multus"
  | "floor"
  | "runner"
  | "containerd"
  | "runc"
  | "busybox"
  | "firewalld";

const found = new Map<Part, string | undefined>();

/** The directory of a part, made when it is not in the cache yet; undefined when this machine cannot have it. */
export function peer(part: Part): string | undefined {
  if (!found.has(part)) {
    const ended = Bun.spawnSync([script, part], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const line = ended.stdout
      .toString()
      .split("\n")
      .find((text) => text.startsWith(`${part} `));
    if (line === undefined || ended.exitCode !== 0) console.error(ended.stderr.toString().trim());
    found.set(part, ended.exitCode === 0 ? line?.slice(part.length + 1) : undefined);
  }
  return found.get(part);
}

/** A file of a part. @throws {Error} when it is not there. */
export function peerFile(part: Part, name: string): string {
  const directory = peer(part);
  if (directory === undefined) throw new Error(`${part} cannot be had on this machine: see scripts/peers.sh ${part}`);
  const path = join(directory, name);
  if (!existsSync(path)) throw new Error(`${path} is missing`);
  return path;
}

/** For `requires()`. As an ordinary user nothing is fetched: suites that need a peer need root too. */
export const hasPeer = (part: Part): Need => [
  `${part} (scripts/peers.sh ${part})`,
  process.getuid?.() === 0 && peer(part) !== undefined,
];

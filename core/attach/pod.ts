/** The network namespace that journals are about, as long as it exists. */
import { type NetnsPath, parseNetnsPath } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import type { Journal } from "../state/journal.ts";
import { openRecorded } from "../sys/find-netns.ts";
import { asPod, type Node, type PodNetns } from "./node.ts";

/**
 * The namespace that the journals are about: at the path that the runtime gives, else where it was on ADD, else by a
 * process that is still in it. A path alone proves nothing, so its cookie has to be the recorded one.
 */
export function podOfJournals(
  journals: readonly Journal[],
  path: NetnsPath | undefined,
  node: Node,
): PodNetns | undefined {
  const { netns } = journals[0]?.header ?? {};
  if (netns === undefined) return undefined;
  const candidates = path === undefined ? [] : [path];
  if (netns.path !== "" && netns.path !== path) candidates.push(parseNetnsPath(netns.path));
  for (const candidate of candidates) {
    try {
      const pod = node.openPod(candidate);
      if (pod === undefined) continue;
      if (pod.cookie === netns.cookie) return pod;
      pod[Symbol.dispose]();
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw thrown; // something else stands at the path now
    }
  }
  return node.findPod(netns.cookie);
}

/** Whether the pod's namespace still exists: at its path, or with a process in it. */
export function isAlive(journal: Journal, node: Node): boolean {
  using pod = podOfJournals([journal], undefined, node);
  return pod !== undefined;
}

/** The namespace that a record names, by its path or by a process that is in it. */
export function openPodOf(netns: { readonly path: string; readonly cookie: string }): PodNetns | undefined {
  const found = openRecorded(netns);
  return found && asPod(found, netns.path);
}

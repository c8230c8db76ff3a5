import type { NetnsPath } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { SysError } from "./error.ts";
import { namesInDirectory, readLink } from "./files.ts";
import { Netns } from "./netns.ts";

/**
 * A network namespace to which no path leads any more, by a process that is still in it. It looks at every process of
 * the machine, so it is for when a path was tried and did not lead there.
 *
 * @returns The namespace, to be disposed of; `undefined` when no process that we can see is in it.
 */
export function findNetns(cookie: string): Netns | undefined {
  const seen = new Set<string>();
  for (const pid of namesInDirectory("/proc")) {
    if (pid < "1" || pid > "9~") continue; // not a number
    const path = `/proc/${pid}/ns/net`;
    try {
      const inode = readLink(path);
      if (seen.has(inode)) continue;
      seen.add(inode);
      const netns = Netns.open(path as NetnsPath);
      if (String(netns.cookie) === cookie) return netns;
      netns[Symbol.dispose]();
    } catch (thrown) {
      // The process has ended meanwhile, or is a kernel thread's or another user namespace's that we may not look at.
      if (!(thrown instanceof SysError) && !(thrown instanceof CniError)) throw thrown;
    }
  }
  return undefined;
}

/**
 * The namespace of that cookie: at the path where it was, else by a process that is still in it.
 *
 * @returns The namespace, to be disposed of; `undefined` when neither leads to it.
 */
export function openRecorded(netns: { readonly path: string; readonly cookie: string }): Netns | undefined {
  try {
    if (netns.path !== "") {
      const found = Netns.open(netns.path as NetnsPath);
      if (String(found.cookie) === netns.cookie) return found;
      found[Symbol.dispose]();
    }
  } catch (thrown) {
    if (!(thrown instanceof SysError) && !(thrown instanceof CniError)) throw thrown;
  }
  return findNetns(netns.cookie);
}

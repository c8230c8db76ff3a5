/** Whose an object of the node is, by the journals: for the message to whoever wanted it too. */
import { parseNetnsPath } from "../base/brand.ts";
import { nftKey } from "../host/context.ts";
import type { AttachmentHeader } from "../state/entries.ts";
import type { Store } from "../state/store.ts";
import { findNetns } from "../sys/find-netns.ts";
import { Netns } from "../sys/netns.ts";

export interface Owner {
  readonly label: string;
  /** While its network namespace exists. */
  readonly alive: boolean;
}

/** @param key As `nftKey()` makes it. @returns undefined when no journal is about such an attachment */
export function ownerOf(store: Store, key: string): Owner | undefined {
  for (const id of store.containers()) {
    for (const { header } of store.peek(id)) {
      if (nftKey(header) === key) return { label: labelOf(header), alive: isAlive(header) };
    }
  }
  return undefined;
}

function labelOf({ pod, container, label, ifname }: AttachmentHeader): string {
  const whose = pod === undefined ? `container "${container}"` : `pod "${pod.namespace}/${pod.name}"`;
  return `${whose} ("${ifname}" of network "${label}")`;
}

/** At its path, or with a process in it. */
function isAlive({ netns }: AttachmentHeader): boolean {
  if (netns.path !== "") {
    try {
      using found = Netns.open(parseNetnsPath(netns.path));
      if (String(found.cookie) === netns.cookie) return true;
    } catch {
      // Nothing is there, or something else is.
    }
  }
  using found = findNetns(netns.cookie);
  return found !== undefined;
}

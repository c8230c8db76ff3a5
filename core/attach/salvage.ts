/**
 * A container whose journal was damaged: what can still be known of it is found by the names that we derive, by the
 * alias that our links on the node carry (only root can write it there), and by the container id in the files of leases
 * and of what networks own. Whose rules to look for, the first line of the journal says, or a link or a lease.
 */
import { CniError } from "../base/error.ts";
import { salvageFilter } from "../host/calls/filter.ts";
import { salvageNft } from "../host/calls/nft.ts";
import { nftKey } from "../host/context.ts";
import { salvagePorts } from "../kernel/nft-ports.ts";
import type { ContainerState } from "../state/container.ts";
import type { Node } from "./node.ts";
import { leaveObject } from "./objects.ts";

interface Attached {
  readonly network: string;
  readonly ifname: string;
}

/** Removes what of the container no journal names. @returns What could not be removed. */
export function salvage(container: ContainerState, node: Node): readonly CniError[] {
  const failures: CniError[] = [];
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (thrown) {
      failures.push(CniError.from(thrown));
    }
  };
  const known = new Set(container.attachments().map(({ header }) => `${header.network}/${header.ifname}`));
  const lost = new Map<string, Attached>();
  const lose = ({ network, ifname }: Attached): void => {
    const name = `${network}/${ifname}`;
    if (!known.has(name)) lost.set(name, { network, ifname });
  };
  const leases = node.store.leases.ofContainer(container.id);
  for (const header of container.lost) lose(header);
  for (const { pool, owner } of leases) lose({ network: pool, ifname: owner.ifname }); // mostly it has the network's name
  const prefix = `patchbay ${container.id}/`;
  for (const link of node.host().links()) {
    if (link.alias?.startsWith(prefix) !== true) continue;
    const [network = "", ifname = ""] = link.alias.slice(prefix.length).split("/");
    if (known.has(`${network}/${ifname}`)) continue;
    lose({ network, ifname });
    attempt(() => void node.host().deleteLink(link.index));
  }
  for (const of of lost.values()) {
    const key = nftKey({ container: container.id, ...of });
    for (const rules of [salvageNft, salvagePorts, salvageFilter]) attempt(() => rules(node.host(), key));
  }
  const interfaces = new Set(container.attachments().map(({ header }) => header.ifname));
  for (const { pool, address, owner } of leases) {
    if (interfaces.has(owner.ifname)) continue;
    attempt(() => void node.store.leases.release(pool, address, owner));
  }
  const keys = new Set(container.attachments().map((journal) => journal.key));
  attempt(() => {
    for (const { kind, name, attachments } of node.store.networks.list()) {
      const ours = attachments.filter((ref) => ref.container === container.id && !keys.has(ref.key));
      for (const ref of ours) attempt(() => leaveObject({ kind, name }, ref, node));
    }
  });
  return failures;
}

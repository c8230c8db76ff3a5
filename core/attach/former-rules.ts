/**
 * Rules of the reference firewall plugin, for pods that it attached before us. It keeps no record: what it made for an
 * address it finds again by the address alone, and so its rules are found here, in the chains of iptables-nft and in
 * firewalld's zone.
 */
import { parseCidr } from "../base/ip.ts";
import type { NetConf, Result } from "../cni/types.ts";
import { sourceOf } from "../dbus/firewalld.ts";
import type { DelegateNode } from "../delegate/node.ts";
import { withdrawReference } from "../kernel/filter.ts";
import { openFirewalld } from "./objects.ts";

export function deleteFormerRules({ backend, firewalldZone }: NetConf, result: Result, node: DelegateNode): void {
  const addresses = result.ips.flatMap(({ address }) => parseCidr(address)?.ip ?? []);
  if (addresses.length === 0) return;
  withdrawReference(node.host(), addresses);
  if (backend === "iptables") return;
  const zone = typeof firewalldZone === "string" && firewalldZone !== "" ? firewalldZone : "trusted";
  removeSources(zone, addresses.map(sourceOf), node);
}

/** What an attachment of ours has by now stays. */
function removeSources(zone: string, sources: readonly string[], node: DelegateNode): void {
  const used = (source: string): boolean =>
    (node.store.networks.find("firewalld", `${zone} ${source}`)?.attachments.length ?? 0) > 0;
  const ours = sources.filter((source) => !used(source));
  if (ours.length === 0) return;
  using firewalld = openFirewalld(node);
  for (const source of ours) firewalld?.removeSource(zone, source);
}

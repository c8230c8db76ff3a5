/**
 * Ports that the reference portmap mapped before a migration. Its DEL will not come: ours does, and there is no journal.
 * What it made says whose it is: a chain of iptables by its name, rules of nftables by their comment. Rules of iptables-legacy are out of reach of nf_tables, and stay.
 */
import type { Kernel, NftChange, NftFoundRule } from "../kernel/kernel.ts";

const families = ["ip", "ip6"] as const;

/** The reference's name for an attachment's chain of iptables: 28 characters at the most. */
function chainOf(network: string, container: string): string {
  const hash = new Bun.CryptoHasher("sha512").update(network + container).digest("hex");
  return `CNI-DN-${hash}`.slice(0, 28);
}

const jumpsTo = (rule: NftFoundRule): string | undefined =>
  rule.expressions.findLast((e) => e.immediate?.data?.verdict?.chain !== undefined)?.immediate?.data?.verdict?.chain;

/** @throws {KernelError} */
export function removeFormerPorts(host: Kernel, network: string, container: string): void {
  for (const family of families) {
    const changes = [...ofIptables(host, family, chainOf(network, container)), ...ofNftables(host, family, container)];
    if (changes.length > 0) host.nft(changes);
  }
}

function ofIptables(host: Kernel, family: "ip" | "ip6", chain: string): NftChange[] {
  const at = { family, table: "nat" } as const;
  const all = "CNI-HOSTPORT-DNAT";
  const jumps = (host.nftFoundRules(family, at.table, all) ?? []).filter((rule) => jumpsTo(rule) === chain);
  return [
    ...jumps.map(({ handle }): NftChange => ({ op: "delete", ...at, what: "rule", chain: all, handle })),
    { op: "delete", ...at, what: "chain", chain },
  ];
}

function ofNftables(host: Kernel, family: "ip" | "ip6", container: string): NftChange[] {
  const at = { family, table: "cni_hostport" } as const;
  return ["hostports", "hostip_hostports", "masquerading"].flatMap((chain) =>
    (host.nftFoundRules(family, at.table, chain) ?? [])
      .filter(({ comment }) => comment === container)
      .map(({ handle }): NftChange => ({ op: "delete", ...at, what: "rule", chain, handle })),
  );
}

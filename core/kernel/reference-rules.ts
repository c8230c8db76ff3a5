/**
 * Rules that the reference plugins made for an attachment, by iptables or in nft tables of their own, and that are found
 * by the names and comments which they derive from it. Rules of iptables-legacy are out of netlink's reach.
 * Source: containernetworking/plugins, pkg/ip, pkg/link and plugins/meta/portmap
 */
import type { NftFamily } from "../netlink/nft.ts";
import type { Kernel } from "./kernel.ts";
import type { NftChange, NftRule } from "./nftables.ts";

export interface Attached {
  readonly network: string;
  readonly container: string;
  readonly ifname: string;
}

const sha512 = (text: string): string => new Bun.CryptoHasher("sha512").update(text).digest("hex");

/** Whether the rule sends packets to the chain, whatever else it says. */
const leadsTo =
  (chain: string) =>
  ({ expressions }: NftRule): boolean =>
    expressions.some((e) => e.immediate?.data?.verdict?.chain === chain);

/** Removes what `ipMasq` made, with either of its backends. */
export function removeReferenceMasquerade(kernel: Kernel, { network, container, ifname }: Attached): void {
  const chain = `CNI-${sha512(network + container)}`.slice(0, 28);
  for (const family of ["ip", "ip6"] as const) {
    removeChains(kernel, { family, table: "nat" }, [chain], "POSTROUTING", leadsTo(chain));
  }
  const comment = `${sha512(network).slice(0, 16)}-${sha512(`${ifname}:${container}`).slice(0, 16)}`;
  const own = { family: "inet", table: "cni_plugins_masquerade" } as const;
  removeChains(kernel, own, [], "masq_checks", (rule) => commentOf(rule)?.startsWith(comment) === true);
}

/** Removes what `macspoofchk` of bridge made. */
export function removeReferenceMacCheck(kernel: Kernel, { container, ifname }: Attached): void {
  const chain = `cni-br-iface-${container}-${ifname}`;
  const nat = { family: "bridge", table: "nat" } as const;
  removeChains(kernel, nat, [chain, `${chain}-mac`], "PREROUTING", leadsTo(chain));
}

/** Removes what portmap made, with either of its backends. What its own DEL leaves, all pods share. */
export function removeReferencePorts(kernel: Kernel, { network, container }: Attached): void {
  const chain = `CNI-DN-${sha512(network + container)}`.slice(0, 28);
  for (const family of ["ip", "ip6"] as const) {
    removeChains(kernel, { family, table: "nat" }, [chain], "CNI-HOSTPORT-DNAT", leadsTo(chain));
    for (const shared of ["hostports", "hostip_hostports", "masquerading"]) {
      const own = { family, table: "cni_hostport" } as const;
      removeChains(kernel, own, [], shared, (rule) => commentOf(rule) === container);
    }
  }
}

/** Removes rules of a chain that others share, and the chains that they lead to, at once. */
function removeChains(
  kernel: Kernel,
  at: { readonly family: NftFamily; readonly table: string },
  chains: readonly string[],
  shared: string,
  isTheirs: (rule: NftRule) => boolean,
): void {
  const rules = (kernel.nft.rules(at.family, at.table, shared) ?? []).filter(isTheirs);
  const known = chains.length === 0 ? [] : kernel.nft.chains(at.family, at.table);
  const there = chains.filter((chain) => known.includes(chain));
  const changes: NftChange[] = [
    ...rules.map(({ handle }): NftChange => ({ op: "delete", ...at, what: "rule", chain: shared, handle })),
    ...there.map((chain): NftChange => ({ op: "flush", ...at, what: "chain", chain })),
    ...there.map((chain): NftChange => ({ op: "delete", ...at, what: "chain", chain })),
  ];
  if (changes.length > 0) kernel.nft.change(changes);
}

/** nft(8)'s comment on a rule: of its notes (type, length, content) the one of type 0, with its NUL. */
function commentOf({ userData: notes }: NftRule): string | undefined {
  for (let at = 0; notes !== undefined && at + 2 <= notes.length; at += 2 + (notes[at + 1] ?? 0)) {
    if (notes[at] !== 0) continue;
    return new TextDecoder().decode(notes.subarray(at + 2, at + 2 + (notes[at + 1] ?? 0))).replace(/\0.*$/s, "");
  }
  return undefined;
}

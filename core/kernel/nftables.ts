/** What one network namespace has in nf_tables: tables, chains, rules and maps, as values. */
import type { NftFamily } from "../netlink/nft.ts";
import type { NftExpression } from "../netlink/nft-expression.ts";

export interface NftBase {
  readonly type: "filter" | "nat";
  readonly hook: "prerouting" | "input" | "forward" | "output" | "postrouting";
  readonly priority: number;
  /** What no rule judged is dropped; else it goes on. */
  readonly drops?: boolean;
}
/** What the keys of a map are: `proto-port` is a protocol's number and a port, to which others add an address. */
export type NftKeyType = "ipv4" | "ipv6" | "ifname" | "port" | "proto-port" | "proto-port-ipv4" | "proto-port-ipv6";

interface InTable {
  readonly family: NftFamily;
  readonly table: string;
}
interface NftTable extends InTable {
  readonly what: "table";
}
interface NftChain extends InTable {
  readonly what: "chain";
  readonly chain: string;
  readonly base?: NftBase;
}
interface NftRuleIn extends InTable {
  readonly what: "rule";
  readonly chain: string;
  readonly expressions: readonly NftExpression[];
  /** Before all others of the chain; else after them. */
  readonly first?: boolean;
  /** Written as iptables-nft writes its rules. */
  readonly compat?: boolean;
  /** A note that the kernel keeps with the rule: type, length, content, as nft(8) has them. */
  readonly userData?: Uint8Array | undefined;
}
interface NftMap extends InTable {
  readonly what: "map";
  readonly map: string;
  readonly key: NftKeyType;
  /** What it maps to; a verdict if absent. */
  readonly data?: "port";
}
interface NftElement extends InTable {
  readonly what: "element";
  readonly map: string;
  readonly key: Uint8Array;
  /** Where the verdict jumps; "" in a map of values. A delete leaves an element alone that jumps elsewhere. */
  readonly chain: string;
  readonly value?: Uint8Array;
}
/** Left alone while that map has a key that begins with this one's, beside those that the same transaction deletes. */
interface NftUnused {
  readonly unlessIn?: string;
}
interface NftRuleByHandle extends InTable {
  readonly what: "rule";
  readonly chain: string;
  readonly handle: bigint;
}

/**
 * One change of a transaction. Adding what is there already is no error, except an element that jumps elsewhere
 * (EEXIST) and a rule, of which there is then one more. Deleting what is not there is no error. `flush` empties a chain.
 */
export type NftChange =
  | ({ readonly op: "add" } & (NftTable | NftChain | NftRuleIn | NftMap | NftElement))
  | ({ readonly op: "delete" } & (
      | NftTable
      | Omit<NftChain, "base">
      | NftRuleByHandle
      | Omit<NftMap, "key" | "data">
      | (NftElement & NftUnused)
    ))
  | ({ readonly op: "flush" } & Omit<NftChain, "base">);

export interface NftMapElement {
  readonly key: Uint8Array;
  readonly chain: string;
  readonly value?: Uint8Array;
}

/** A base chain: where packets come into a table, and what becomes of one that no rule judged. */
export interface NftBaseChain {
  readonly family: NftFamily;
  readonly table: string;
  readonly chain: string;
  readonly priority: number;
  readonly drops: boolean;
}
/** A rule as the kernel has it, whoever made it. */
export interface NftRule {
  readonly chain: string;
  readonly handle: bigint;
  readonly expressions: readonly NftExpression[];
  readonly userData?: Uint8Array | undefined;
}

export interface NftTableContent {
  readonly chains: readonly string[];
  /** Those of one chain are in its order. */
  readonly rules: readonly NftRule[];
}

/** The nf_tables objects of one network namespace. Every call throws `KernelError` when the kernel refuses. */
export interface Nftables {
  /** One transaction: all of it, or nothing. */
  change(changes: readonly NftChange[]): void;
  /**
   * Changes that depend on what is there: `decide` looks, and what it answers is done only if nothing has changed since
   * it began; else it is asked anew. What it deletes must be there.
   */
  revise(decide: () => readonly NftChange[]): void;
  /** The names of a table's chains. */
  chains(family: NftFamily, table: string): string[];
  /** The base chains at hook `forward` in the tables of IPv4, of IPv6 and of both; dormant tables have none. */
  forwardChains(): NftBaseChain[];
  /** The rules of a chain in order; undefined when there is no such chain. */
  rules(family: NftFamily, table: string, chain: string): NftRule[] | undefined;
  /** Undefined when there is no such table. */
  table(family: NftFamily, table: string): NftTableContent | undefined;
  /** Undefined when there is no such map. */
  elements(family: NftFamily, table: string, map: string): NftMapElement[] | undefined;
}

/** nf_tables objects in memory, for `simulated.ts`. */
import type { NftFamily } from "../netlink/nft.ts";
import type { NftExpression } from "../netlink/nft-expression.ts";
import { Errno } from "../sys/error.ts";
import { KernelError } from "./kernel.ts";
import { describe } from "./nft-messages.ts";
import type {
  Nftables,
  NftBase,
  NftBaseChain,
  NftChange,
  NftKeyType,
  NftMapElement,
  NftRule,
  NftTableContent,
} from "./nftables.ts";

interface SimRule {
  readonly handle: bigint;
  readonly expressions: NftExpression[];
  readonly userData: Uint8Array | undefined;
}
interface SimChain {
  readonly base: NftBase | undefined;
  rules: SimRule[];
}
interface SimMap {
  readonly key: NftKeyType;
  readonly elements: Map<string, NftMapElement>;
}
interface SimTable {
  readonly chains: Map<string, SimChain>;
  readonly maps: Map<string, SimMap>;
}

/** The tables of a simulated namespace, by family and name. */
export type SimulatedTables = Map<string, SimTable>;

export class SimulatedNftables implements Nftables {
  readonly #tables: SimulatedTables;
  readonly #begin: (changes: readonly NftChange[]) => void;

  /** @param begin Hears of every transaction before it is carried out; what it throws is the kernel's answer. */
  constructor(tables: SimulatedTables, begin: (changes: readonly NftChange[]) => void) {
    this.#tables = tables;
    this.#begin = begin;
  }

  change(changes: readonly NftChange[]): void {
    this.#begin(changes);
    const after = structuredClone(this.#tables);
    for (const change of changes) apply(after, change);
    this.#tables.clear();
    for (const [name, table] of after) this.#tables.set(name, table);
  }

  revise(decide: () => readonly NftChange[]): void {
    const changes = decide();
    if (changes.length > 0) this.change(changes);
  }

  chains(family: NftFamily, table: string): string[] {
    return [...(this.#table(family, table)?.chains.keys() ?? [])];
  }

  forwardChains(): NftBaseChain[] {
    return [...this.#tables].flatMap(([name, { chains }]) => {
      const [family, table = ""] = name.split(" ");
      if (family !== "inet" && family !== "ip" && family !== "ip6") return [];
      return [...chains].flatMap(([chain, { base }]): NftBaseChain[] =>
        base?.hook === "forward" ? [{ family, table, chain, priority: base.priority, drops: base.drops === true }] : [],
      );
    });
  }

  rules(family: NftFamily, table: string, chain: string): NftRule[] | undefined {
    return rulesOf(this.#table(family, table), chain);
  }

  table(family: NftFamily, table: string): NftTableContent | undefined {
    const found = this.#table(family, table);
    return found === undefined ? undefined : contentOf(found);
  }

  elements(family: NftFamily, table: string, map: string): NftMapElement[] | undefined {
    const found = this.#table(family, table)?.maps.get(map);
    return found === undefined ? undefined : [...found.elements.values()];
  }

  #table(family: NftFamily, table: string): SimTable | undefined {
    return this.#tables.get(`${family} ${table}`);
  }
}

let handles = 0n;

const jumpsTo = (table: SimTable, chain: string): boolean =>
  [...table.chains.values()].some(({ rules }) =>
    rules.some((rule) => rule.expressions.some((e) => e.immediate?.data?.verdict?.chain === chain)),
  );

const hex = (bytes: Uint8Array): string => bytes.toHex();

/** Carries out one change of a transaction, on tables that the caller drops if a later one fails. */
function apply(tables: Map<string, SimTable>, change: NftChange): void {
  const refuse = (errno: number): never => {
    throw new KernelError(describe(change), errno);
  };
  const name = `${change.family} ${change.table}`;
  const table = tables.get(name);
  if (change.op === "add") {
    if (change.what === "table") {
      if (table === undefined) tables.set(name, { chains: new Map(), maps: new Map() });
      return;
    }
    addNft(table ?? refuse(Errno.ENOENT), change, refuse);
    return;
  }
  if (table === undefined) {
    if (change.op === "flush") refuse(Errno.ENOENT);
    return;
  }
  if (change.op === "flush") {
    const chain = table.chains.get(change.chain) ?? refuse(Errno.ENOENT);
    chain.rules = [];
  } else if (change.what === "table") tables.delete(name);
  else if (change.what === "chain") {
    for (const map of table.maps.values()) {
      for (const element of map.elements.values()) if (element.chain === change.chain) refuse(Errno.EBUSY);
    }
    if (jumpsTo(table, change.chain)) refuse(Errno.EBUSY);
    table.chains.delete(change.chain);
  } else if (change.what === "rule") {
    const chain = table.chains.get(change.chain) ?? refuse(Errno.ENOENT);
    const at = chain.rules.findIndex((rule) => rule.handle === change.handle);
    if (at < 0) refuse(Errno.ENOENT);
    chain.rules.splice(at, 1);
  } else if (change.what === "map") {
    const used = [...table.chains.values()].some((chain) =>
      chain.rules.some((rule) => rule.expressions.some((e) => e.lookup?.set === change.map)),
    );
    if (used) refuse(Errno.EBUSY);
    table.maps.delete(change.map);
  } else {
    const elements = table.maps.get(change.map)?.elements;
    const users = change.unlessIn === undefined ? undefined : table.maps.get(change.unlessIn)?.elements;
    if ([...(users?.keys() ?? [])].some((key) => key.startsWith(hex(change.key)))) return;
    if (elements?.get(hex(change.key))?.chain === change.chain) elements.delete(hex(change.key));
  }
}

function addNft(table: SimTable, change: NftChange & { op: "add" }, refuse: (errno: number) => never): void {
  switch (change.what) {
    case "table":
      return;
    case "chain":
      if (!table.chains.has(change.chain)) table.chains.set(change.chain, { base: change.base, rules: [] });
      return;
    case "map":
      if (!table.maps.has(change.map)) table.maps.set(change.map, { key: change.key, elements: new Map() });
      return;
    case "rule": {
      const chain = table.chains.get(change.chain) ?? refuse(Errno.ENOENT);
      for (const { lookup } of change.expressions) {
        if (lookup?.set !== undefined && !table.maps.has(lookup.set)) refuse(Errno.ENOENT);
      }
      const rule = { handle: ++handles, expressions: [...change.expressions], userData: change.userData };
      if (change.first === true) chain.rules.unshift(rule);
      else chain.rules.push(rule);
      return;
    }
    case "element": {
      const map = table.maps.get(change.map) ?? refuse(Errno.ENOENT);
      if (change.value === undefined && !table.chains.has(change.chain)) refuse(Errno.ENOENT);
      const there = map.elements.get(hex(change.key));
      if (there !== undefined && there.chain !== change.chain) refuse(Errno.EEXIST);
      const value = change.value === undefined ? {} : { value: change.value };
      map.elements.set(hex(change.key), { key: change.key, chain: change.chain, ...value });
      return;
    }
  }
}

const contentOf = (table: SimTable): NftTableContent => ({
  chains: [...table.chains.keys()],
  rules: [...table.chains.keys()].flatMap((chain) => rulesOf(table, chain) ?? []),
});

const rulesOf = (table: SimTable | undefined, chain: string): NftRule[] | undefined =>
  table?.chains.get(chain)?.rules.map((rule) => ({ chain, ...rule }));

/** What the tables of iptables-legacy do with forwarded packets; they are read, never written. */
import type { Netns } from "../sys/netns.ts";
import { readXtTables, type XtTable } from "../sys/xtables.ts";
import type { LegacyTable } from "./kernel.ts";

/**
 * `struct ipt_entry` and `struct ip6t_entry`: bytes of the conditions on the header and of the whole entry, and which bit
 * among the conditions is none, but makes a jump one that does not come back (`IPT_F_GOTO`).
 */
const layouts = {
  4: { conditions: 84, entry: 112, flags: 82, goto: 2 },
  6: { conditions: 136, entry: 168, flags: 131, goto: 4 },
} as const;
/** `struct xt_entry_target` and `xt_entry_match`: u16 size, name of 29 bytes, revision; a verdict's target has no name. */
const HEADER_BYTES = 32;
const NAME_BYTES = 29;
/** `-NF_DROP - 1`, `-NF_ACCEPT - 1`, `XT_RETURN`; what is not negative is where to jump. */
const Verdict = { DROP: -1, ACCEPT: -2, RETURN: -5 } as const;

export function readLegacyTables(ns: Netns): LegacyTable[] {
  return ([4, 6] as const).flatMap((family) =>
    readXtTables(ns, family).flatMap((table): LegacyTable[] => {
      if (table.forward === undefined) return [];
      return [{ family, table: table.name, forward: forwardDrops(family, table, table.forward) ? "drop" : "accept" }];
    }),
  );
}

/** By its policy, or by a rule without conditions that comes before any other of that kind. */
function forwardDrops(
  family: 4 | 6,
  table: XtTable,
  { first, policy }: { readonly first: number; readonly policy: number },
): boolean {
  const rules = new Rules(family, table.entries);
  return rules.fate(policy) === "drop" || rules.fate(first) === "drop";
}

/** What becomes of a packet that meets no condition; `on`: that chain has nothing to say of it. */
type Fate = "drop" | "accept" | "on";

/** As deep as rules are followed; the kernel keeps loops out. */
const MAX_JUMPS = 16;

class Rules {
  readonly #layout: (typeof layouts)[4 | 6];
  readonly #entries: Uint8Array;
  readonly #view: DataView;
  readonly #known = new Map<number, Fate>();

  constructor(family: 4 | 6, entries: Uint8Array) {
    this.#layout = layouts[family];
    this.#entries = entries;
    this.#view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
  }

  /** Goes from a rule to the next, and into the chains that rules without conditions lead to: what comes first decides. */
  fate(start: number, jumps = 0): Fate {
    const before = this.#known.get(start);
    if (before !== undefined || jumps > MAX_JUMPS) return before ?? "on";
    const fate = this.#along(start, jumps);
    this.#known.set(start, fate);
    return fate;
  }

  #along(start: number, jumps: number): Fate {
    const { conditions, entry } = this.#layout;
    for (let at = start; at + entry <= this.#entries.length; ) {
      const next = at + this.#view.getUint16(at + conditions + 6, true);
      if (next < at + entry) break; // no entry is shorter: what follows cannot be read
      const target = at + this.#view.getUint16(at + conditions + 4, true);
      if (this.#takesAll(at, target)) {
        const fate = this.#verdict(at, target, next, jumps);
        if (fate !== undefined) return fate;
      }
      at = next;
    }
    return "on";
  }

  /** @returns undefined when the packet goes on to the next rule. */
  #verdict(at: number, target: number, next: number, jumps: number): Fate | undefined {
    const name = this.#name(target);
    if (name !== "") return name === "REJECT" ? "drop" : undefined;
    const verdict = this.#view.getInt32(target + HEADER_BYTES, true);
    if (verdict === Verdict.DROP) return "drop";
    if (verdict === Verdict.ACCEPT) return "accept";
    if (verdict === Verdict.RETURN) return "on";
    if (verdict < 0 || verdict === next) return undefined;
    const fate = this.fate(verdict, jumps + 1);
    const { flags, goto } = this.#layout;
    return fate === "on" && (this.#view.getUint8(at + flags) & goto) === 0 ? undefined : fate;
  }

  /** No condition on the header, and no match but comments. */
  #takesAll(at: number, target: number): boolean {
    const { conditions, entry, flags, goto } = this.#layout;
    const header = this.#entries.subarray(at, at + conditions);
    if (!header.every((byte, i) => (i === flags ? byte & ~goto : byte) === 0)) return false;
    for (let match = at + entry; match < target; ) {
      const size = this.#view.getUint16(match, true);
      if (size < HEADER_BYTES || this.#name(match) !== "comment") return false;
      match += size;
    }
    return true;
  }

  #name(at: number): string {
    const bytes = this.#entries.subarray(at + 2, at + 2 + NAME_BYTES);
    const end = bytes.indexOf(0);
    return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  }
}

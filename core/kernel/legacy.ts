/** What the tables of iptables-legacy do with forwarded packets; they are read, never written. */
import type { Netns } from "../sys/netns.ts";
import { readXtTables, type XtTable } from "../sys/xtables.ts";
import type { LegacyTable } from "./kernel.ts";

/** `struct ipt_entry` and `struct ip6t_entry`: bytes of the conditions on the header, and of the whole entry. */
const layouts = { 4: { conditions: 84, entry: 112 }, 6: { conditions: 136, entry: 168 } } as const;
/** `struct xt_entry_target`: u16 size, name of 29 bytes, revision; a standard target has no name, and a verdict. */
const TARGET_BYTES = 32;
const TARGET_NAME_BYTES = 29;
/** `-NF_DROP - 1` */
const DROP = -1;

export function readLegacyTables(ns: Netns): LegacyTable[] {
  return ([4, 6] as const).flatMap((family) =>
    readXtTables(ns, family).flatMap((table): LegacyTable[] => {
      if (table.forward === undefined) return [];
      return [{ family, table: table.name, forward: forwardDrops(family, table, table.forward) ? "drop" : "accept" }];
    }),
  );
}

/** By its policy, or by a last rule without conditions. */
function forwardDrops(
  family: 4 | 6,
  { entries }: XtTable,
  { first, policy }: { readonly first: number; readonly policy: number },
): boolean {
  const { conditions, entry } = layouts[family];
  const view = new DataView(entries.buffer, entries.byteOffset, entries.byteLength);
  const drops = (at: number): boolean => {
    const target = at + view.getUint16(at + conditions + 4, true);
    const name = entries.subarray(target + 2, target + 2 + TARGET_NAME_BYTES);
    const text = new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
    return text === "REJECT" || (text === "" && view.getInt32(target + TARGET_BYTES, true) === DROP);
  };
  let last: number | undefined;
  for (let at = first; at < policy; ) {
    last = at;
    const next = view.getUint16(at + conditions + 6, true);
    if (next < entry) break; // no entry is shorter: what follows cannot be read
    at += next;
  }
  if (drops(policy)) return true;
  if (last === undefined || view.getUint16(last + conditions + 4, true) !== entry) return false;
  return entries.subarray(last, last + conditions).every((byte) => byte === 0) && drops(last);
}

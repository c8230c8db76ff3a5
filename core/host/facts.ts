/** What a journal says an attachment made, and whether a link of the kernel is one of those. */
import { isObject } from "../base/json.ts";
import type { Link } from "../kernel/kernel.ts";
import type { Entry, UndoStep } from "../state/entries.ts";

export type LinkStep = Extract<UndoStep, { readonly do: "link" }>;

/** A link that the journal names: the intent, and once it was made what the kernel said of it. */
export interface OwnLink {
  readonly id: number;
  readonly step: LinkStep;
  readonly made?: { readonly in: "pod" | "host"; readonly index: number; readonly kind: string; readonly mac: string };
}

/** The links of a journal that were not undone, in the order in which they were begun. */
export function ownLinks(entries: readonly Entry[]): readonly OwnLink[] {
  const found = new Map<number, OwnLink>();
  for (const e of entries) {
    if (e.is === "undo" && e.step.do === "link") found.set(e.id, { id: e.id, step: e.step });
    else if (e.is === "undone") found.delete(e.id);
    else if (e.is === "made") {
      const own = found.get(e.id);
      if (own === undefined || !isObject(e.facts)) continue;
      const { index, kind, mac } = e.facts;
      const where = e.facts.in;
      if (typeof index !== "number" || typeof kind !== "string" || typeof mac !== "string") continue;
      const at = where === "pod" || where === "host" ? where : own.step.in;
      found.set(e.id, { id: own.id, step: own.step, made: { in: at, index, kind, mac } });
    }
  }
  return [...found.values()];
}

/** The next free number of an undo step. */
export function nextUndo(entries: readonly Entry[]): number {
  let highest = 0;
  for (const e of entries) if (e.is === "undo" && e.id > highest) highest = e.id;
  return highest + 1;
}

/**
 * Whether a link is the one that was made. In the pod its name, alias and address are the pod's to change, so the
 * index and the kind tell, in a namespace already known by its cookie; on the node the address has to match too, so
 * that an index used again by another attachment is safe.
 */
export function isMade(own: OwnLink, where: "pod" | "host", link: Link): boolean {
  const made = own.made;
  if (made === undefined || made.in !== where || made.index !== link.index || made.kind !== link.kind) return false;
  return where === "pod" || made.mac === link.mac;
}

/**
 * Whether a link is the one that was begun, when the process ended before the kernel's answer was written: its
 * address, or group, is as unpredictable as a name is not.
 */
export function isBegun(own: OwnLink, link: Link): boolean {
  const step = own.step;
  if (own.made !== undefined || step.kind !== link.kind) return false;
  if (step.mac !== "") return step.mac === link.mac;
  // A kind that takes its parent's address.
  if (step.group !== undefined) return step.group === link.group;
  return link.name === step.name || link.name === step.temporary; // a labelled tap, or written by a version that drew no group
}

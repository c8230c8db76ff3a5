/** What DEL does to the kernel, for tests of one guest or one call. */
import { type UndoFailure, type UndoPart, type UndoPlaces, undoLinks, undoStep } from "../../core/host/undo.ts";

/**
 * Undoes the kernel's part of journals, the last journal first. Leases, delegates and references on network objects
 * are for others, who come after: an address is free only when nothing has it.
 *
 * @returns What could not be undone. The rest was, whatever failed before it.
 */
export function undoKernelSteps(parts: readonly UndoPart[], places: UndoPlaces): UndoFailure[] {
  const failures: UndoFailure[] = [];
  for (const [p, part] of [...parts.entries()].toReversed()) {
    const over = new Set(part.entries.flatMap((e) => (e.is === "undone" ? [e.id] : [])));
    for (const e of part.entries.toReversed()) {
      if (e.is !== "undo" || over.has(e.id)) continue;
      try {
        if (undoStep(e.step, part.entries, places)) part.undone?.(e.id);
      } catch (cause) {
        failures.push({ part: p, id: e.id, step: e.step, cause });
      }
    }
  }
  return [...failures, ...undoLinks(parts, places)];
}

/** A guest's small integers for kernel objects: positive, each with a kind, never reused in a run, gone after it. */
import { CniError, Code } from "../base/error.ts";
import type { Target } from "../policy/decide.ts";

/** A link that a guest may name. Its ifindex stays on this side. */
export interface LinkHandle {
  readonly is: "link";
  in: "pod" | "host";
  index: number;
  name: string;
  mac: string;
  readonly kind: string;
  readonly mtu: number;
  /** Whose it is, worked out when the handle was given. */
  readonly target: Target;
  /** The undo step of the journal that removes it, or gives it back; only what this attachment made or took has one. */
  readonly undo?: number;
  /** Not made but borrowed: it goes home, and is never deleted. */
  readonly borrowed?: boolean;
}

export class Handles {
  readonly #links: LinkHandle[] = [];

  add(link: LinkHandle): number {
    return this.#links.push(link);
  }

  /** @throws {CniError} 124 for a number that was never given, or that names a link deleted in this run. */
  link(handle: number): LinkHandle {
    const found = this.#links[handle - 1];
    if (found !== undefined && found.index !== 0) return found;
    throw new CniError(Code.NoSuchHandle, `Cannot use handle "${handle}": this run has no such link`, {
      remedy: "Use a handle that link_create, link_open or link_list answered in this run",
    });
  }

  /** The handle keeps its number and names nothing any more. */
  forget(link: LinkHandle): void {
    link.index = 0;
  }

  /** Every link that was named in this run and is still there. */
  links(): readonly LinkHandle[] {
    return this.#links.filter((l) => l.index !== 0);
  }
}

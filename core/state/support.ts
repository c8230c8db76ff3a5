/** For the tests of this folder and of core/ipam. */
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseContainerId } from "../base/brand.ts";
import { deadlineIn } from "../sys/clock.ts";
import { ownProcessId } from "../sys/process-id.ts";
import type { AttachmentHeader } from "./entries.ts";
import { type ContainerOptions, Store } from "./store.ts";

export const BOOT = "0123abcd-0000-4000-8000-000000000000";

/** A directory of the test's own, gone with it. */
export class Scratch implements Disposable {
  readonly path: string;
  readonly #stores: Store[] = [];

  constructor() {
    this.path = mkdtempSync(join(tmpdir(), "patchbay-state-"));
    chmodSync(this.path, 0o700);
  }

  /** Disposed of with the directory, if not before. */
  store(bootId: string = BOOT): Store {
    const store = Store.open({
      runDir: `${this.path}/run`,
      libDir: `${this.path}/lib`,
      referenceDir: `${this.path}/reference`,
      netnsCookie: 4n,
      bootId,
    });
    this.#stores.push(store);
    return store;
  }

  /** Every file and link below `under`, sorted; without the cache, which no attachment owns. */
  files(under = ""): string[] {
    const base = join(this.path, under);
    try {
      const all = readdirSync(base, { recursive: true, withFileTypes: true });
      return all
        .filter((entry) => !entry.isDirectory())
        .map((entry) => join(entry.parentPath, entry.name).slice(base.length + 1))
        .filter((name) => !/(^|\/)cache\//.test(name))
        .sort();
    } catch {
      return [];
    }
  }

  exists(path: string): boolean {
    return statSync(join(this.path, path), { throwIfNoEntry: false }) !== undefined;
  }

  [Symbol.dispose](): void {
    for (const store of this.#stores) store[Symbol.dispose]();
    rmSync(this.path, { recursive: true, force: true });
  }
}

export const container = (name = "c1") => parseContainerId(name);

export function options(more: Partial<ContainerOptions> = {}): ContainerOptions {
  const as = { ...ownProcessId(), command: "ADD", operation: "op1" };
  return { create: true, deadlineMs: deadlineIn(200), as, ...more };
}

export function header(more: Partial<AttachmentHeader> = {}): Omit<AttachmentHeader, "format" | "seq"> {
  return {
    container: "c1",
    network: "net",
    ifname: "eth0",
    type: "patchbay",
    call: { network: "net", ifname: "eth0" },
    label: "net",
    isDefault: true,
    netns: { path: "/run/netns/x", cookie: "77" },
    operation: "op1",
    createdMs: 0,
    ...more,
  };
}

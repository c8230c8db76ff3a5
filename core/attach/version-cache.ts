/**
 * What CNI binaries answered to VERSION, so that an ADD costs one process a binary and not two. A file of this boot,
 * keyed by the identity of each binary's file; it is a cache, so what goes wrong with it is passed over.
 */
import { isObject, parseJson } from "../base/json.ts";
import type { VersionCache } from "../delegate/node.ts";
import { Dir } from "../sys/dir.ts";

const DIRECTORY = "cache";
const FILE = "versions.json";
const MAX_BYTES = 256 << 10;
const MAX_ENTRIES = 512;

/** @param stateDir The directory of this boot's state, asked for on first use. */
export function fileVersionCache(stateDir: () => string): VersionCache {
  let known: Map<string, readonly string[]> | undefined;
  const load = (): Map<string, readonly string[]> => {
    const found = new Map<string, readonly string[]>();
    try {
      using dir = Dir.open(`${stateDir()}/${DIRECTORY}`);
      const bytes = dir.read(FILE, MAX_BYTES);
      const doc = bytes === undefined ? {} : parseJson(bytes, { maxBytes: MAX_BYTES });
      for (const [identity, versions] of Object.entries(isObject(doc) ? doc : {})) {
        if (Array.isArray(versions)) found.set(identity, versions.map(String));
      }
    } catch {
      // Not there yet, or not as it was written: the binaries are asked again.
    }
    return found;
  };
  return {
    get(identity) {
      known ??= load();
      return known.get(identity);
    },
    put(identity, versions) {
      const entries = known ?? load();
      if (entries.size >= MAX_ENTRIES) entries.clear();
      entries.set(identity, versions);
      known = entries;
      try {
        using dir = Dir.open(`${stateDir()}/${DIRECTORY}`, { create: true });
        dir.replace(FILE, new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries))));
      } catch {
        // The next operation asks the binary again.
      }
    },
  };
}

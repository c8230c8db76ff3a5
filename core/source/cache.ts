/**
 * What the files of the networks' directory held when they were last read, so that an ADD does not parse them all again
 * (and does not load the YAML parser). A file counts as unchanged while its state is the same; anything wrong with the
 * cache means that it is not there.
 */
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import { Dir } from "../sys/dir.ts";
import type { FileState } from "./file.ts";
import type { FileContent } from "./manifest.ts";

const FORMAT = 1;
const NAME = "networks.json";
const MAX_BYTES = 16 << 20;
/** A file changed this recently may change again within the same tick of the file system's clock. */
const SETTLED_MS = 2000;

export interface CacheEntry {
  readonly key: string;
  readonly content: FileContent;
}

/** By path. */
export type CacheEntries = ReadonlyMap<string, CacheEntry>;

/** @param runDir The state directory of this boot; nothing is cached without. */
export function loadCache(runDir: string | undefined): CacheEntries {
  const entries = new Map<string, CacheEntry>();
  if (runDir === undefined) return entries;
  try {
    using root = Dir.open(runDir);
    using dir = root.sub("cache");
    const bytes = dir?.read(NAME, MAX_BYTES);
    if (bytes === undefined) return entries;
    // Written by us into a directory that only root can write to: the engine's own parser is enough.
    const doc: Json = JSON.parse(new TextDecoder().decode(bytes));
    if (!isObject(doc) || doc.format !== FORMAT || !isObject(doc.files)) return entries;
    for (const [path, entry] of Object.entries(doc.files)) {
      if (isEntry(entry)) entries.set(path, entry);
    }
  } catch {
    entries.clear(); // a cache that cannot be read is no cache
  }
  return entries;
}

function isEntry(entry: Json | undefined): entry is JsonObject & CacheEntry {
  return (
    isObject(entry) && typeof entry.key === "string" && isObject(entry.content) && Array.isArray(entry.content.nads)
  );
}

export function maySettle(state: FileState, nowMs: number): boolean {
  return nowMs - state.changedMs > SETTLED_MS;
}

/** Errors are swallowed: the next call reads the files again. One writer at a time, the others leave it to them. */
export function saveCache(runDir: string | undefined, entries: CacheEntries): void {
  if (runDir === undefined) return;
  const text = JSON.stringify({ format: FORMAT, files: Object.fromEntries(entries) });
  if (text.length > MAX_BYTES / 2) return;
  try {
    using root = Dir.open(runDir, { create: true });
    using dir = root.sub("cache", { create: true });
    using lock = dir?.lock({ deadlineMs: 0 });
    if (lock !== undefined) dir?.replace(NAME, new TextEncoder().encode(text));
  } catch {
    // a full or read-only disk must not fail the pod
  }
}

/**
 * What the binary carries: the engine's library and the built-in plugins. Nothing is read here; the paths lead into the
 * binary itself, or into `build/` when Bun runs the sources.
 */

import built from "../build/embedded.json" with { type: "json" };
import type { EmbeddedLibrary } from "../core/engine/library.ts";
import { files } from "./embedded.generated.ts";

export interface EmbeddedPlugin {
  /** `plugin.json`, as text: a call parses those it needs. */
  readonly manifestText: string;
  /** What `Engine.load` takes. */
  readonly artifactPath: string;
  /** Of the module itself, which is what journals and policies name. */
  readonly sha256: string;
}

export interface Embedded extends EmbeddedLibrary {
  readonly plugins: Readonly<Record<string, EmbeddedPlugin>>;
}

const hashes: Readonly<Record<string, { readonly sha256: string }>> = built.plugins;
const plugins: Readonly<Record<string, Omit<EmbeddedPlugin, "sha256">>> = files.plugins;

export const embedded: Embedded = {
  inBinary: files.libwasmtime.startsWith("/$bunfs/"),
  libwasmtime: { path: files.libwasmtime, ...built.libwasmtime },
  libgcc: { path: files.libgcc, ...built.libgcc },
  plugins: withHashes(),
};

function withHashes(): Record<string, EmbeddedPlugin> {
  const all: Record<string, EmbeddedPlugin> = {};
  for (const name in plugins) {
    const plugin = plugins[name];
    if (plugin !== undefined) all[name] = { ...plugin, sha256: hashes[name]?.sha256 ?? "" };
  }
  return all;
}

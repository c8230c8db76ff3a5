/** The built-in plugins: each folder of plugins-wasm that has a `plugin.json`, in alphabetical order. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export const root = join(import.meta.dir, "..");

export function pluginNames(): string[] {
  const folder = join(root, "plugins-wasm");
  return readdirSync(folder)
    .filter((name) => existsSync(join(folder, name, "plugin.json")))
    .sort();
}

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Every file that is loaded with `file`, and who imports what from outside the project. */
function loadedWith(file: string, seen = new Set<string>(), outside: string[] = []): string[] {
  if (seen.has(file)) return outside;
  seen.add(file);
  const source = readFileSync(file, "utf8");
  for (const [statement, name = ""] of source.matchAll(/^(?:import|export)\b(?!\s*\()[^;]*?from "([^"]+)"/gm)) {
    if (/^(?:import|export) type\b/.test(statement)) continue;
    if (name.endsWith(".ts")) loadedWith(join(dirname(file), name), seen, outside);
    else if (!name.startsWith(".")) outside.push(name);
  }
  return outside;
}

test("a CNI call loads nothing but our own files and the system calls: node:fs alone takes 0.6 ms", () => {
  const outside = ["main.ts", "cni.ts"].flatMap((file) => loadedWith(join(import.meta.dir, file)));
  expect([...new Set(outside)].sort()).toEqual(["bun:ffi"]);
});

/** The table of folders in docs/architecture.md holds for every import of core. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

const root = join(import.meta.dir, "../..");
const page = readFileSync(join(root, "docs/architecture.md"), "utf8");

interface Folder {
  readonly name: string;
  /** Nearest ones; what those may import is included. */
  readonly imports: readonly string[];
  readonly packages: readonly string[];
}
const cells = (text: string): string[] => (text.trim() === "–" ? [] : text.split(",").map((cell) => cell.trim()));
const folders: readonly Folder[] = [...page.matchAll(/^\| `core\/(\w+)` \|[^|]*\|([^|]*)\|([^|]*)\|$/gm)].map(
  ([, name = "", imports = "", packages = ""]) => ({
    name,
    imports: cells(imports),
    packages: cells(packages).map((text) => text.replaceAll("`", "")),
  }),
);

/** The folder's own name, and all that it may import. */
function reach(name: string): ReadonlySet<string> {
  const found = new Set([name]);
  for (const next of folders.find((folder) => folder.name === name)?.imports ?? []) {
    for (const further of reach(next)) found.add(further);
  }
  return found;
}

const sources = [...new Glob("core/**/*.ts").scanSync(root)].sort();

/** What a source imports, statically, lazily or by `require`, without what stands in comments and text. */
function importsOf(path: string): string[] {
  const scanned = new Bun.Transpiler({ loader: "ts" }).scanImports(readFileSync(join(root, path), "utf8"));
  const types = [
    ...readFileSync(join(root, path), "utf8").matchAll(/^(?:import|export) type [^;]*? from "([^"]+)";$/gm),
  ];
  return [...scanned.map((one) => one.path), ...types.map((one) => one[1] ?? "")];
}

/** Tests, and suites that several of them share. */
const ofTests = new Set(sources.filter((path) => path.endsWith(".test.ts") || importsOf(path).includes("bun:test")));
const isTest = (path: string): boolean => path.endsWith(".test.ts") || ofTests.has(path);

/** "" when the import is allowed. */
function fault(path: string, specifier: string): string {
  const own = path.split("/")[1] ?? "";
  if (specifier.startsWith("node:")) return "";
  if (!specifier.startsWith(".")) {
    if (isTest(path) && specifier === "bun:test") return "";
    const allowed = folders.find((folder) => folder.name === own)?.packages ?? [];
    return allowed.includes(specifier) ? "" : `${path} imports ${specifier}`;
  }
  const target = relative(root, join(root, dirname(path), specifier));
  if (isTest(target) && !isTest(path)) return `${path} imports ${specifier}, which is a test's`;
  const [top, folder] = target.split("/");
  if (top === "test" && isTest(path)) return "";
  const name = top === "core" ? folder : `${top}/${folder}`;
  return name !== undefined && reach(own).has(name) ? "" : `${path} imports ${specifier}`;
}

describe("docs/architecture.md", () => {
  test("names every folder of core", () => {
    const there = readdirSync(join(root, "core")).sort();
    expect(folders.map((folder) => folder.name).toSorted()).toEqual(there);
  });

  test("lets a folder import only folders above it", () => {
    for (const [i, { name, imports }] of folders.entries()) {
      const above = [...folders.slice(0, i).map((folder) => folder.name), "proto/gen"];
      expect([name, imports.filter((one) => !above.includes(one))]).toEqual([name, []]);
    }
  });
});

test("every import of core is one that the table allows", () => {
  const faults = sources.flatMap((path) => importsOf(path).map((specifier) => fault(path, specifier)));
  expect(faults.filter((text) => text !== "")).toEqual([]);
});

test("fault() finds what is not allowed", () => {
  const cases: (readonly [path: string, specifier: string, allowed: boolean])[] = [
    ["core/host/a.ts", "../engine/engine.ts", true],
    ["core/host/a.ts", "../netlink/link.ts", true],
    ["core/host/a.ts", "../attach/add.ts", false],
    ["core/engine/a.ts", "../host/call.ts", false],
    ["core/engine/a.ts", "bun:ffi", false],
    ["core/sys/a.ts", "bun:ffi", true],
    ["core/sys/a.ts", "../../cmd/main.ts", false],
    ["core/sys/a.ts", "../../test/support/netns.ts", false],
    ["core/sys/a.test.ts", "../../test/support/netns.ts", true],
    ["core/kernel/a.ts", "./contract.ts", false],
    ["core/kernel/a.test.ts", "./contract.ts", true],
    ["core/base/a.ts", "zod", false],
    ["core/base/calls/a.ts", "../error.ts", true],
  ];
  for (const [path, specifier, allowed] of cases) {
    expect([path, specifier, fault(path, specifier) === ""]).toEqual([path, specifier, allowed]);
  }
});

test("importsOf() sees types, values, lazy imports and require", () => {
  expect(importsOf("core/sys/child.ts")).toContain("bun:ffi");
  expect(importsOf("core/source/manifest.ts")).toContain("yaml");
  expect(importsOf("core/attach/add.ts")).toContain("../cni/types.ts");
});

/** What README.md and CONTRIBUTING.md show is what the code takes. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import manifest from "../../package.json" with { type: "json" };
import { readme } from "./readme.ts";

const root = join(import.meta.dir, "../..");
const read = (path: string): string => readFileSync(join(root, path), "utf8");

test("every npm command of the documentation exists", () => {
  const pages = ["README.md", "CONTRIBUTING.md", "docs/testing.md", "docs/engine.md"];
  const named = pages.flatMap((page) => [...read(page).matchAll(/npm run ([\w:]+)/g)].map((m) => m[1] ?? ""));
  expect(named.length).toBeGreaterThan(5);
  expect(named.filter((name) => !Object.hasOwn(manifest.scripts, name))).toEqual([]);
});

describe("README.md", () => {
  test("has a configuration that Patchbay takes", () => {
    expect(readme.meta().defaultNetwork).toBeObject();
  });

  test("defines the networks that its pod selects", () => {
    const selected = readme.selections().map((s) => `${s.namespace}/${s.name}`);
    expect(selected).toEqual(readme.nads().map((nad) => `${nad.namespace}/${nad.name}`));
  });

  test("shows the plugin of docs/writing-plugins.md", () => {
    expect(read("docs/writing-plugins.md")).toContain(readme.block("ts"));
  });

  test("has no figure that docs/performance.md does not have", () => {
    const table = /<!-- bench -->([\s\S]*)<!-- \/bench -->/.exec(readme.text)?.[1] ?? "";
    const figures = [...table.matchAll(/\d+(?:\.\d+)? (?:ms|MB|ADD\/s)/g)].map((m) => m[0].replace(/ (ms|MB|ADD)/, ""));
    const measured = existsSync(join(root, "docs/performance.md")) ? read("docs/performance.md") : "";
    expect(figures.filter((figure) => !measured.includes(figure.replace("/s", "")))).toEqual([]);
    expect(table).not.toBe("");
  });
});

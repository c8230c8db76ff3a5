/** Every link in the documentation leads somewhere, and every function that a link names is in the file it leads to. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { Glob } from "bun";

const root = join(import.meta.dir, "../..");
const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...new Glob("docs/**/*.md").scanSync(root)].sort();
const read = (path: string): string => readFileSync(join(root, path), "utf8");
const withoutBlocks = (text: string): string => text.replaceAll(/^```[\s\S]*?^```$/gm, "");

interface Reference {
  readonly text: string;
  readonly target: string;
}
const linksOf = (page: string): Reference[] =>
  [...withoutBlocks(read(page)).matchAll(/\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g)].map(
    ([, text = "", target = ""]) => ({
      text,
      target,
    }),
  );

/** Anchors as the usual renderers make them of headings. */
const anchorsOf = (page: string): string[] =>
  [...withoutBlocks(read(page)).matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );

/** What a link on `page` is broken by; "" when it is whole. */
function fault(page: string, { text, target }: Reference): string {
  if (/^[a-z]+:/.test(target)) return "";
  const [file = "", anchor] = target.split("#");
  const path = file === "" ? page : relative(root, join(root, dirname(page), file));
  if (path.startsWith("..")) return `${target}: outside of the project`;
  if (!existsSync(join(root, path))) return `${target}: no such file`;
  if (anchor !== undefined && !anchorsOf(path).includes(anchor)) return `${target}: no such heading`;
  const name = /^`(\w+)(\(\))?`$/.exec(text);
  if (name?.[1] === undefined || !path.endsWith(".ts")) return "";
  return defines(read(path), name[1]) ? "" : `${target}: does not define ${text}`;
}

const defines = (source: string, name: string): boolean =>
  new RegExp(
    `^(?:export )?(?:async )?(?:abstract )?(?:function|class|const|interface|type) ${name}\\b|^  (?:static |async |#)*${name}[(<]`,
    "m",
  ).test(source);

test.each(pages)("%s: each link leads somewhere", (page) => {
  expect(
    linksOf(page)
      .map((link) => fault(page, link))
      .filter((text) => text !== ""),
  ).toEqual([]);
});

test("fault() finds what is broken", () => {
  const cases: (readonly [text: string, target: string, found: RegExp])[] = [
    ["x", "docs/none.md", /no such file/],
    ["x", "../x.md", /outside/],
    ["x", "docs/state.md#none", /no such heading/],
    ["`none()`", "cmd/main.ts", /does not define/],
    ["`main()`", "cmd/main.ts", /^$/],
    ["x", "docs/state.md#locks", /^$/],
  ];
  for (const [text, target, found] of cases) expect(fault("README.md", { text, target })).toMatch(found);
});

/** Paths of the project in backquotes, such as `core/sys` or `scripts/build.sh`; not patterns, not what is built. */
describe("paths in backquotes exist", () => {
  const tops = "core|cmd|plugins-wasm|proto|test|bench|scripts|docs";
  test.each(pages)("%s", (page) => {
    const named = [...withoutBlocks(read(page)).matchAll(new RegExp(`\`((?:${tops})/[\\w./-]*)\``, "g"))].map(
      (m) => m[1] ?? "",
    );
    const lost = named.filter((path) => !existsSync(join(root, path)));
    // docs/writing-plugins.md writes a plugin of its own.
    expect(lost.filter((path) => !path.startsWith("plugins-wasm/stub/"))).toEqual([]);
  });
});

test("docs/README.md names every page", () => {
  const named = linksOf("docs/README.md").map(({ target }) => target);
  const own = pages.filter((page) => /^docs\/[^/]+\.md$/.test(page) && page !== "docs/README.md");
  expect(own.filter((page) => !named.includes(page.slice("docs/".length)))).toEqual([]);
});

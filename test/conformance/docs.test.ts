/** What the pages for users say is what the code does. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { Code } from "../../core/base/error.ts";
import type { JsonObject } from "../../core/base/json.ts";
import { parseNetworkList } from "../../core/cni/list.ts";
import { deriveRequest } from "../../core/cni/request.ts";
import { networkOf } from "../../core/multinet/nad.ts";
import { parseSelections } from "../../core/multinet/selection.ts";
import { DEFAULTS, parseMetaConf } from "../../core/plan/conf.ts";
import { readManifest } from "../../core/source/manifest.ts";

const page = (name: string): string => readFileSync(`${import.meta.dir}/../../docs/${name}`, "utf8");
const blocks = (text: string, language: string): string[] =>
  [...text.matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, "g"))].map((match) => match[1] ?? "");

describe("docs/configuration.md", () => {
  const text = page("configuration.md");
  const lists = blocks(text, "json").filter((block) => block.includes('"plugins"'));
  test("has lists to try", () => expect(lists).toHaveLength(2));
  test.each(lists)("list %#: Patchbay takes its part", (block) => {
    const list = parseNetworkList(JSON.parse(block));
    const index = list.plugins.findIndex((plugin) => plugin.type === "patchbay");
    expect(() => parseMetaConf(deriveRequest(list, index, list.cniVersion))).not.toThrow();
  });
  test("every manifest is read", () => {
    const manifest = blocks(text, "yaml").find((block) => block.includes("NetworkAttachmentDefinition")) ?? "";
    const { nads, fault } = readManifest("a.yaml", new TextEncoder().encode(manifest));
    expect([nads.map((nad) => `${nad.namespace}/${nad.name}`), fault]).toEqual([
      ["infra/storage", "default/legacy"],
      undefined,
    ]);
    for (const nad of nads) if (nad.config !== undefined) expect(networkOf(nad).name as string).toBe("storage");
  });
  test("both forms of the annotation are read", () => {
    const short = /networks: (.*)/.exec(text)?.[1] ?? "";
    expect(parseSelections(short, "n").map((s) => s.name)).toEqual(["storage", "legacy"]);
    const json = blocks(text, "json").find((block) => block.startsWith("[")) ?? "";
    expect(parseSelections(json, "n")).toHaveLength(1);
  });
  test("each key stands in the table with its default", () => {
    const rows = new Map(
      [...text.matchAll(/^\| `(\w+)` \| ([^|]*) \|/gm)].map((m) => [m[1] ?? "", (m[2] ?? "").trim()]),
    );
    const values: JsonObject = {
      defaultNetwork: "none",
      networksDir: `\`${DEFAULTS.networksDir}\``,
      capabilities: "none",
      namespaceIsolation: "`false`",
      globalNamespaces: `\`${JSON.stringify(DEFAULTS.globalNamespaces)}\``,
      systemNamespaces: `\`${JSON.stringify(DEFAULTS.systemNamespaces)}\``,
      delegateTimeout: `\`${DEFAULTS.delegateTimeoutMs / 1000}s\``,
      timeout: `\`${DEFAULTS.timeoutMs / 1000}s\``,
      policyFile: `\`${DEFAULTS.policyFile}\``,
    };
    for (const [key, value] of Object.entries(values)) expect([key, rows.get(key)]).toEqual([key, value as string]);
  });
});

test("docs/errors.md has a row for each code", () => {
  const rows = [...page("errors.md").matchAll(/^\| (\d+)/gm)].map((match) => Number(match[1]));
  expect(Object.values(Code).filter((code) => !rows.includes(code))).toEqual([]);
});

/** What the documentation says of plugins, held against the plugins. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseJson } from "../core/base/json.ts";
import { admit } from "../core/host/admit.ts";
import { canonical } from "../core/host/conf.ts";
import { parseManifest } from "../core/policy/manifest.ts";
import { describe as describeSchema } from "../core/policy/schema.ts";
import { pluginNames } from "../scripts/plugins.ts";
import { compileGuest, runGuest } from "./testing.ts";

setDefaultTimeout(60_000); // a guest may have to be compiled first

const root = join(import.meta.dir, "..");
const page = (name: string): string => readFileSync(join(root, "docs", name), "utf8");

/** The first block of a language. */
function block(text: string, language: string): string {
  const found = new RegExp(`\`\`\`${language}\n([^]*?)\`\`\``).exec(text)?.[1];
  if (found === undefined) throw new Error(`no block of ${language}`);
  return found;
}

describe.each(pluginNames())("docs/plugins/%s.md", (name) => {
  const text = page(`plugins/${name}.md`);
  const manifest = parseManifest(parseJson(readFileSync(join(root, "plugins-wasm", name, "plugin.json"), "utf8")));

  test("has each key with its default, and the meaning that the manifest gives", () => {
    for (const [key, schema] of Object.entries(manifest.schema)) {
      if (["ipam", "dns", "runtimeConfig", "args"].includes(key)) continue;
      const row = text.split("\n").find((line) => line.startsWith(`| \`${key}\` |`));
      expect(row, `${key}: ${describeSchema(schema)}`).toBeDefined();
      const preset = "default" in schema && schema.default !== undefined ? `\`${JSON.stringify(schema.default)}\`` : "";
      expect(
        row
          ?.split("|")
          .map((c) => c.trim())
          .slice(3, 5),
      ).toEqual([preset, schema.doc ?? ""]);
    }
  });

  test("has an example that the plugin accepts", () => {
    const network = JSON.parse(block(text, "json"));
    const example = (network.plugins ?? [network]).find((plugin: { type: string }) => plugin.type === name);
    expect(example).toBeDefined();
    expect(() => canonical(manifest, example)).not.toThrow();
  });
});

test("docs/writing-plugins.md has a plugin that works", () => {
  const text = page("writing-plugins.md");
  const folder = join(root, "build/test-guests/example");
  mkdirSync(folder, { recursive: true });
  const source = block(text, "ts").replace("../../sdk/", "../../../plugins-wasm/sdk/");
  writeFileSync(join(folder, "index.ts"), source);
  const module = compileGuest("build/test-guests/example/index.ts");
  const manifest = parseManifest(parseJson(block(text, "json")));
  admit(manifest, WebAssembly.Module.imports(module));

  const end = runGuest(module, {
    env: { CNI_COMMAND: "ADD", CNI_IFNAME: "net1", CNI_NETNS: "/run/netns/p" },
    stdin: JSON.stringify(canonical(manifest, { cniVersion: "1.1.0", name: "n", type: "dummy", mtu: 1400 })),
    answer(call) {
      if (call === "link_create") return { link: 1, in: "pod", name: "net1", mac: "02:00:00:00:00:01" };
      return call === "ipam_add" ? { ips: [{ address: "10.1.0.5/24" }], routes: [], dns: {} } : undefined;
    },
  });
  expect(JSON.parse(end.stdout)).toEqual({
    cniVersion: "1.1.0",
    interfaces: [{ name: "net1", mac: "02:00:00:00:00:01", sandbox: "/run/netns/p" }],
    ips: [{ interface: 0, address: "10.1.0.5/24" }],
  });
  expect(end.calls.map(([name]) => name)).toEqual(["link_create", "ipam_add", "link_configure"]);
});

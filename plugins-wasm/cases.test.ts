/**
 * Every built-in plugin against its cases: a configuration and what the host says to each call on one side, the calls
 * and the result on the other. The real host and kernel come in test/netns.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject } from "../core/base/json.ts";
import { parseJson } from "../core/base/json.ts";
import { admit } from "../core/host/admit.ts";
import { canonical } from "../core/host/conf.ts";
import { parseManifest } from "../core/policy/manifest.ts";
import { pluginNames } from "../scripts/plugins.ts";
import { compileGuest, runGuest } from "./testing.ts";

setDefaultTimeout(60_000); // a guest may have to be compiled first

interface Case {
  readonly name: string;
  /** ADD when absent. */
  readonly command?: string;
  /** Beside CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS and CNI_IFNAME. */
  readonly env?: Readonly<Record<string, string>>;
  readonly conf: JsonObject;
  /** By call: an answer for each time, the last one for all that follow. `{"error": …}` is a refusal. */
  readonly answers?: Readonly<Record<string, readonly JsonObject[]>>;
  /** Left out where only the outcome matters. */
  readonly calls?: readonly (readonly [string, JsonObject])[];
  /** What stdout has, with exit code 0; null for nothing. */
  readonly result?: JsonObject | null;
  /** Members of the CNI error, with exit code 1. */
  readonly error?: JsonObject;
}

const plugins = pluginNames();
const load = (plugin: string, file: string): string => readFileSync(join(import.meta.dir, plugin, file), "utf8");

describe.each(plugins)("plugin %s", (plugin) => {
  const manifest = parseManifest(parseJson(load(plugin, "plugin.json")));
  const module = compileGuest(`plugins-wasm/${plugin}/assembly/index.ts`);
  const cases: readonly Case[] = JSON.parse(load(plugin, "cases.json"));

  test("imports what its manifest names, and nothing else", () => {
    const imports = WebAssembly.Module.imports(module);
    expect(() => admit(manifest, imports)).not.toThrow();
    const ours = imports.filter((i) => i.module === "patchbay_1" && i.name !== "answer_read").map((i) => i.name);
    expect(ours.sort()).toEqual([...manifest.calls.keys()].sort());
  });

  test.each(cases.map((c) => [c.name, c] as const))("%s", (_, c) => {
    const times = new Map<string, number>();
    const end = runGuest(module, {
      env: {
        CNI_COMMAND: c.command ?? "ADD",
        CNI_CONTAINERID: "c1",
        CNI_NETNS: "/run/netns/p",
        CNI_IFNAME: plugin === "loopback" ? "lo" : "eth0",
        ...c.env,
      },
      stdin: JSON.stringify(canonical(manifest, { cniVersion: "1.1.0", name: "n", type: plugin, ...c.conf })),
      answer(call) {
        const script = c.answers?.[call];
        const time = times.get(call) ?? 0;
        times.set(call, time + 1);
        return script?.[Math.min(time, script.length - 1)];
      },
    });
    if (c.error !== undefined) expect(JSON.parse(end.stdout)).toMatchObject(c.error);
    else if (c.result === null) expect(end.stdout).toBe("");
    else if (c.result !== undefined) expect(JSON.parse(end.stdout)).toEqual(c.result);
    expect(end.exit).toBe(c.error === undefined ? 0 : 1);
    if (c.calls !== undefined) expect(end.calls).toEqual(c.calls);
  });
});

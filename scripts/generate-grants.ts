/**
 * Prints test/golden/grants.txt: all that the manifests of the project's plugins ask for, a line each, so that whoever
 * reviews a change sees what it gives to whom.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseJson } from "../core/base/json.ts";
import { limitCeiling, type Manifest, type ManifestLimits, parseManifest } from "../core/policy/manifest.ts";

const folder = join(import.meta.dir, "../plugins-wasm");

function linesOf(m: Manifest): string[] {
  const limits = (Object.keys(limitCeiling) as (keyof ManifestLimits)[]).map((name) => `${name} ${m.limits[name]}`);
  const device = Object.entries(m.device ?? {}).map(([by, keys]) => `device ${by}: ${[keys].flat().join(" ")}`);
  return [
    m.name,
    ...[...m.calls].map(([call, roles]) => `  call ${call}: ${roles.toSorted().join(" ") || "-"}`).toSorted(),
    ...m.sysctls.map((pattern) => `  sysctl ${pattern}`).toSorted(),
    ...[...m.links].map(([role, link]) => `  link ${role}: ${JSON.stringify(link)}`).toSorted(),
    ...device.map((line) => `  ${line}`),
    ...(m.podLink === undefined ? [] : [`  pod link: ${m.podLink}`]),
    `  undo by ${m.undo}; network objects ${m.keepNetworkObjects ? "stay" : "go"}; ${limits.join(", ")}`,
    "",
  ];
}

const lines = readdirSync(folder, { withFileTypes: true })
  .filter((e) => e.isDirectory() && e.name !== "sdk")
  .map((e) => parseManifest(parseJson(readFileSync(join(folder, e.name, "plugin.json")))))
  .toSorted((a, b) => (a.name < b.name ? -1 : 1))
  .flatMap(linesOf);
process.stdout.write(lines.join("\n"));

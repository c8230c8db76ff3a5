/** The examples of README.md, read as the program reads them. */
import { readFileSync } from "node:fs";
import { parseNetworkList } from "../../core/cni/list.ts";
import { deriveRequest } from "../../core/cni/request.ts";
import type { NetworkAttachmentDefinition } from "../../core/multinet/nad.ts";
import { NETWORKS, parseSelections, type Selection } from "../../core/multinet/selection.ts";
import { type MetaConf, parseMetaConf } from "../../core/plan/conf.ts";
import { readManifest } from "../../core/source/manifest.ts";

const text = readFileSync(new URL("../../README.md", import.meta.url), "utf8");

/** The text of the first block of a language that has `part` in it. @throws {Error} when there is none. */
function block(language: string, part = ""): string {
  const blocks = [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter((m) => m[1] === language)
    .map((m) => m[2] ?? "");
  const found = blocks.find((one) => one.includes(part));
  if (found === undefined) throw new Error(`README.md has no block of ${language} with ${part}`);
  return found;
}

/** The value of the pod's annotation. */
const annotation = (): string => (block("yaml", NETWORKS).split("|\n")[1] ?? "").replaceAll(/^ {4}/gm, "");
const manifests = (): string => block("yaml", "NetworkAttachmentDefinition");

export const readme = {
  text,
  block,
  annotation,
  manifests,
  selections: (): Selection[] => [...parseSelections(annotation(), "default")],
  nads: (): readonly NetworkAttachmentDefinition[] => {
    const { nads, fault } = readManifest("a.yaml", new TextEncoder().encode(manifests()));
    if (fault !== undefined) throw new Error(String(fault));
    return nads;
  },
  /** The list that goes to `/etc/cni/net.d`. */
  list: (): { cniVersion: string; name: string; plugins: Record<string, unknown>[] } =>
    JSON.parse(block("json", "plugins")),
  meta: (): MetaConf => {
    const list = parseNetworkList(JSON.parse(block("json", "plugins")));
    return parseMetaConf(deriveRequest(list, 0, list.cniVersion));
  },
  /** What `ip -brief -4 address` and the address of net1 are shown to be. */
  output: (): readonly string[] =>
    block("", "$ ip")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("$")),
};

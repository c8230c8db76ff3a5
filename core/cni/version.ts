/** CNI versions: their order, what a plugin says it supports, and the one that a list runs in. */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, member } from "../base/json.ts";
import { NEWEST, SUPPORTED, type Version } from "./supported.ts";

export { NEWEST, SUPPORTED, type Version } from "./supported.ts";

/** The versions of a plugin that answers VERSION with an error, because it is older than the command. */
const BEFORE_VERSION: readonly string[] = ["0.1.0"];

/**
 * A version with its missing parts filled in: `1.0` is `1.0.0`, the empty string is `0.1.0`. Nothing else is compared.
 *
 * @returns `undefined` when the text is no version: four parts, a sign, a letter.
 */
export function normaliseVersion(text: string): string | undefined {
  if (text === "") return "0.1.0";
  if (SUPPORTED.includes(text as Version)) return text;
  const parts = text.length > 20 ? [] : text.split(".");
  if (parts.length === 0 || parts.length > 3) return undefined;
  while (parts.length < 3) parts.push("0");
  const numbers = parts.map((part) => (/^\d{1,6}$/.test(part) ? Number(part) : -1));
  return numbers.includes(-1) ? undefined : numbers.join(".");
}

/** Negative, 0 or positive. A text that is no version orders before every version. */
export function compareVersions(a: string, b: string): number {
  const places = [SUPPORTED.indexOf(a as Version), SUPPORTED.indexOf(b as Version)] as const;
  if (places[0] >= 0 && places[1] >= 0) return places[0] - places[1];
  const left = (normaliseVersion(a) ?? "-1.0.0").split(".").map(Number);
  const right = (normaliseVersion(b) ?? "-1.0.0").split(".").map(Number);
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export const isAtLeast = (version: string, least: string): boolean => compareVersions(version, least) >= 0;

/** One of our versions, or `undefined`. */
export function knownVersion(text: string): Version | undefined {
  const version = normaliseVersion(text);
  return SUPPORTED.find((v) => v === version);
}

/**
 * The highest version of ours, not above `ceiling`, that every plugin supports.
 *
 * @param supported One list a plugin, as its VERSION answered.
 */
export function highestCommon(ceiling: string, supported: readonly (readonly string[])[]): Version | undefined {
  return SUPPORTED.findLast(
    (version) =>
      compareVersions(version, ceiling) <= 0 &&
      supported.every((list) => list.some((own) => normaliseVersion(own) === version)),
  );
}

/**
 * The version that a network runs in.
 *
 * @throws {CniError} 1 when its plugins have none in common, naming what each supports.
 */
export function chooseVersion(
  network: string,
  ceiling: string,
  plugins: readonly { readonly type: string; readonly supported: readonly string[] }[],
): Version {
  const version = highestCommon(
    ceiling,
    plugins.map((plugin) => plugin.supported),
  );
  if (version !== undefined) return version;
  const each = plugins.map((plugin) => `"${plugin.type}" supports ${plugin.supported.join(", ") || "none"}`).join("; ");
  throw new CniError(
    Code.IncompatibleVersion,
    `Cannot run network "${network}": its plugins have no CNI version in common up to ${ceiling}: ${each}`,
    { remedy: "Update the older plugin, or name a version that all of them support in cniVersion" },
  );
}

/**
 * What a plugin's answer to VERSION says, be it the document of the command or the error of a plugin that predates it.
 *
 * @param answer The document on its stdout.
 * @throws {CniError} 6 when it is neither.
 */
export function parseVersionAnswer(type: string, answer: Json): readonly string[] {
  const fail = (sentence: string): CniError =>
    new CniError(Code.Decode, `Cannot read the VERSION answer of plugin "${type}": ${sentence}`, {
      remedy: `Run CNI_COMMAND=VERSION with the plugin "${type}" and see what it prints`,
    });
  if (!isObject(answer)) throw fail(`expected an object, found ${show(answer)}`);
  const message = member(answer, "msg");
  if (typeof message === "string" && member(answer, "code") !== undefined) {
    if (message.includes("unknown CNI_COMMAND: VERSION")) return BEFORE_VERSION;
    throw fail(`it failed with ${show(message)}`);
  }
  const own = member(answer, "cniVersion");
  const list = member(answer, "supportedVersions");
  if (list === undefined || (Array.isArray(list) && list.length === 0)) {
    if (own === "0.2.0") return ["0.1.0", "0.2.0"];
    throw fail('the key "supportedVersions" is missing');
  }
  if (!Array.isArray(list) || list.length > 64) {
    throw fail(`supportedVersions: expected a list of versions, found ${show(list)}`);
  }
  return list.map((item, i) => {
    const version = typeof item === "string" ? normaliseVersion(item) : undefined;
    if (version === undefined) throw fail(`supportedVersions[${i}]: expected a version, found ${show(item)}`);
    return version;
  });
}

/** What we print on VERSION. */
export function versionAnswer(): { readonly cniVersion: string; readonly supportedVersions: readonly string[] } {
  return { cniVersion: NEWEST, supportedVersions: SUPPORTED };
}

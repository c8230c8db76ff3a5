/**
 * The administrator's list of the sysctls that networks may set: one regular expression a line, of which one has to fit.
 * It is the file that the reference plugin `tuning` reads, so its expressions are Go's.
 */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";

export type SysctlList = readonly RegExp[];

/** What the administrator says of a sysctl that a manifest does not name, but leaves open to any. */
export type SysctlWord =
  /** There is a list, and it names it. */
  | "named"
  /** There is a list, and it does not. */
  | "omitted"
  /** There is no list, and the network's author is trusted with any. */
  | "free"
  /** There is no list, and the author is not. */
  | "unlisted";

/** Classes that Go knows by name. */
const classes: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  digit: "0-9",
  lower: "a-z",
  upper: "A-Z",
  word: "0-9A-Za-z_",
};

/**
 * A Go expression as one of ours that fits the same. What the two could read differently is refused: the `u` flag leaves
 * nothing that has a meaning in one and none in the other.
 */
function translate(line: string): RegExp {
  const text = line
    .replaceAll(/\[:([a-z]+):\]/g, (whole, name: string) => classes[name] ?? whole)
    // Go lets any punctuation be escaped, where it means itself.
    .replaceAll(/\\([-_,:;=~!@#%&"'`<> ])/g, (_, mark: string) => `\\u{${mark.charCodeAt(0).toString(16)}}`);
  return new RegExp(text, "u");
}

/** @throws {CniError} 7, naming the line. */
export function parseSysctlList(text: string, path: string): SysctlList {
  const lines = text.split("\n").map((line, i) => [i + 1, line.trim()] as const);
  return lines
    .filter(([, line]) => line !== "")
    .map(([number, line]) => {
      try {
        return translate(line);
      } catch (cause) {
        throw new CniError(
          Code.InvalidConfig,
          `Cannot use the list of sysctls "${path}": line ${number}: ${show(line)} is no regular expression that we read`,
          { remedy: `Correct line ${number} of "${path}"`, cause },
        );
      }
    });
}

/**
 * The ways to write a sysctl in a configuration, for any of which it may be listed.
 *
 * @param key With slashes, and `<link>` in the place of `link`.
 * @param link Of the pod: "IFNAME" stands for it too.
 */
function spellings(key: string, link: string | undefined): readonly string[] {
  const plain = link === undefined ? [key] : ["IFNAME", link].map((name) => key.replace("<link>", name));
  return plain.flatMap((one) => [one.replaceAll("/", "."), one]);
}

export function isListed(list: SysctlList, key: string, link: string | undefined): boolean {
  return spellings(key, link).some((text) => list.some((expression) => expression.test(text)));
}

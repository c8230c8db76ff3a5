import { CniError, type Code } from "../base/error.ts";
import { readText, statOf } from "./files.ts";

let userNamespace: boolean | undefined;

/** Whether user ids are mapped, so that what root owns outside appears here as nobody's. */
export function inUserNamespace(): boolean {
  userNamespace ??= !/^\s*0\s+0\s+4294967295\s*$/.test(readText("/proc/self/uid_map", 64 << 10));
  return userNamespace;
}

/**
 * Refuses a file or directory that somebody other than root (or the user we run as) could have written: what it holds
 * is run or obeyed as root.
 *
 * @param path Followed when it is a link: a link in a trusted directory is the administrator's.
 * @throws {CniError} `code`, with the command that mends it; an absent path passes.
 */
export function requireTrusted(path: string, what: string, code: Code): void {
  const stat = statOf(path);
  if (stat === undefined) return;
  const writable = (stat.mode & 0o022) !== 0;
  const foreign = stat.uid !== 0 && stat.uid !== process.geteuid?.() && !inUserNamespace();
  if (!writable && !foreign) return;
  const why = foreign ? `it is owned by user ${stat.uid}` : "others than its owner can write to it";
  throw new CniError(code, `Cannot trust ${what} "${path}": ${why}`, {
    remedy: foreign ? `Run "chown root:root ${path}"` : `Run "chmod go-w ${path}"`,
  });
}

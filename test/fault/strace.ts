/**
 * Kills one process at one of its calls, from outside: strace's `inject` sends SIGKILL when the call is entered, so the
 * call itself is never made. Only the first thread is traced, which is the one that Patchbay works in; the programs that
 * it starts run on.
 */
import { readFileSync } from "node:fs";

/** Calls that can change something outside the process, and `poll` where it waits for a program that we have started. */
export const kinds = [
  "open",
  "openat",
  "openat2",
  "linkat",
  "renameat",
  "renameat2",
  "rename",
  "unlinkat",
  "unlink",
  "rmdir",
  "mkdirat",
  "mkdir",
  "symlinkat",
  "symlink",
  "ftruncate",
  "fchmod",
  "write",
  "pwrite64",
  "writev",
  "sendto",
  "sendmsg",
  "setns",
  "ioctl",
  "clone",
  "clone3",
  "vfork",
  "poll",
  "ppoll",
  "kill",
  "pidfd_send_signal",
  "fsync",
  "fdatasync",
] as const;
export type Kind = (typeof kinds)[number];

/** One call of a run, as it is found again in another run: the nth of its kind after the first change of our state. */
export interface Point {
  readonly kind: Kind;
  /** From 1. */
  readonly nth: number;
}

export interface Call extends Point {
  /** From 1, among all calls of that name since the process began: what strace counts. */
  readonly when: number;
  /** The line of the trace, for people. */
  readonly text: string;
}

export interface Trace {
  readonly calls: readonly Call[];
  /** The call that was entered and never left. */
  readonly killedAt: string | undefined;
}

/** The program's arguments, under strace. */
export function straceArgv(output: string, at?: { kind: Kind; when: number }): string[] {
  // The runtime polls as it likes: strace is to count only what looks at a process of ours.
  const only = at !== undefined && isWait(at.kind) ? ["-P", PROCESS] : [];
  const inject = at === undefined ? [] : ["-e", `inject=${at.kind}:signal=KILL:when=${at.when}`];
  // An unknown name would be an error, and not every architecture has them all: "?" lets strace pass it over.
  const trace = kinds.map((kind) => `?${kind}`).join(",");
  return [
    "strace",
    "-qq",
    "-y",
    "-s",
    "48",
    "-o",
    output,
    "-e",
    `trace=${trace}`,
    "-e",
    "signal=none",
    ...only,
    ...inject,
    "--",
  ];
}

/** How strace shows the descriptor of a process that we have started. */
const PROCESS = "anon_inode:[pidfd]";

export const isWait = (kind: Kind): boolean => kind === "poll" || kind === "ppoll";

/** Not every call of a name changes something: opening a file to read it, starting a thread. */
function changes(name: Kind, line: string): boolean {
  if (name.startsWith("open")) return /O_CREAT|O_TMPFILE/.test(line);
  if (isWait(name)) return !line.includes("POLLOUT"); // it has all of its input
  return !line.includes("CLONE_THREAD");
}

const isKind = (name: string): name is Kind => (kinds as readonly string[]).includes(name);

/** @param state A path: calls count from the first that changes something below it. */
export function readTrace(file: string, state: string): Trace {
  const seen = new Map<string, number>();
  const nth = new Map<string, number>();
  const calls: Call[] = [];
  let begun = false;
  let last = "";
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const name = /^(\w+)\(/.exec(line)?.[1] ?? "";
    if (!isKind(name)) continue;
    last = line;
    if (isWait(name) && !line.includes(PROCESS)) continue;
    const when = (seen.get(name) ?? 0) + 1;
    seen.set(name, when);
    if (!changes(name, line)) continue;
    begun ||= line.includes(state) || isWait(name); // nothing is started before
    if (!begun) continue;
    const n = (nth.get(name) ?? 0) + 1;
    nth.set(name, n);
    calls.push({ kind: name, nth: n, when, text: line });
  }
  return { calls, killedAt: /(= \?|<unfinished \.\.\.>)\s*$/.test(last) ? last : undefined };
}

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { type ChildOutcome, type ChildSpec, endGroup, isAlive, type ProcessId, runChild } from "./child.ts";
import { deadlineIn, leftMs, monotonicMs, sleepMs } from "./clock.ts";
import { Fd } from "./fd.ts";
import { libc, Open } from "./libc.ts";
import { processStat } from "./process-id.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync("/tmp/patchbay-child-");
});
afterEach(() => {
  rmSync(dir, { recursive: true });
});

const openNow = (): readonly string[] => readdirSync("/proc/self/fd").sort();
/** `runChild()`, and it leaves no descriptor open whatever happens. */
const run = (spec: ChildSpec): ChildOutcome => {
  const before = openNow();
  try {
    return runChild(spec);
  } finally {
    // Bun closes descriptors of its own at times of its own, so one less is no fault of ours.
    expect(openNow().filter((fd) => !before.includes(fd))).toEqual([]);
  }
};

const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const sh = (script: string, more: Partial<ChildSpec> = {}): ChildOutcome =>
  run({
    path: "/bin/sh",
    argv: ["sh", "-c", script],
    env: { PATH: "/usr/bin:/bin" },
    stdin: new Uint8Array(0),
    deadlineMs: deadlineIn(10_000),
    maxStdoutBytes: 1 << 20,
    maxStderrBytes: 1 << 16,
    ...more,
  });
const timed = <T>(work: () => T): [T, number] => {
  const began = monotonicMs();
  const result = work();
  return [result, monotonicMs() - began];
};

/** Processes that were started with this mark in their arguments. */
const marked = (mark: string): number =>
  readdirSync("/proc").filter((pid) => {
    if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(mark);
    } catch {
      return false;
    }
  }).length;

/** Whether what was killed is gone: the members of a killed group end one after the other. */
const gone = (mark: string): boolean => {
  for (const deadline = deadlineIn(1000); leftMs(deadline) > 0; sleepMs(2)) if (marked(mark) === 0) return true;
  return false;
};

describe("runChild()", () => {
  test.each([
    ["cat; echo log >&2", { exit: 0 }, "in", "log\n"],
    ["exit 3", { exit: 3 }, "", ""],
    ["kill -9 $$", { signal: 9 }, "", ""],
    ["kill -TERM $$", { signal: 15 }, "", ""],
    ["exec >&- 2>&-; sleep 0.05; exit 4", { exit: 4 }, "", ""],
    ["exec <&-; sleep 0.05; echo x", { exit: 0 }, "x\n", ""],
  ])("%s", (script, end, stdout, stderr) => {
    const outcome = sh(script, { stdin: new TextEncoder().encode("in") });
    expect(outcome.end).toEqual(end);
    expect([decode(outcome.stdout), decode(outcome.stderr)]).toEqual([stdout, stderr]);
  });

  test("passes more than a pipe holds both ways", () => {
    const stdin = new Uint8Array(1 << 20).map((_, i) => i);
    const outcome = sh("cat", { stdin });
    expect(outcome.end).toEqual({ exit: 0 });
    expect(Buffer.compare(outcome.stdout, stdin)).toBe(0);
  });

  test("is not disturbed by a program that leaves its input unread", () => {
    expect(sh("exit 0", { stdin: new Uint8Array(1 << 20) }).end).toEqual({ exit: 0 });
  });

  test("gives exactly the environment, the directory and three descriptors", () => {
    using leaked = Fd.open("/dev/null", Open.READ);
    const F_SETFD = 2;
    libc().fcntl(leaked.raw, F_SETFD, 0); // as if the runtime had left it open
    const outcome = run({
      path: "/usr/bin/env",
      argv: ["env"],
      env: { A: "1", B: "x=y z", EMPTY: "" },
      cwd: dir,
      stdin: new Uint8Array(0),
      deadlineMs: deadlineIn(5000),
      maxStdoutBytes: 1000,
      maxStderrBytes: 1000,
    });
    expect(decode(outcome.stdout).split("\n").sort()).toEqual(["", "A=1", "B=x=y z", "EMPTY="]);
    expect(decode(sh("pwd", { cwd: dir }).stdout)).toBe(`${dir}\n`);
    // The fourth is ls's own, of the directory it reads.
    expect(decode(sh("ls /proc/self/fd").stdout)).toBe("0\n1\n2\n3\n");
  });

  test("gives default signals and an empty mask", () => {
    const status = decode(sh("exec cat /proc/self/status").stdout);
    for (const field of ["SigBlk", "SigIgn", "SigCgt"]) expect(status).toContain(`${field}:\t0000000000000000`);
  });

  test("is a process group, and tells of it before it writes the input", () => {
    const seen: (ProcessId & { group?: number })[] = [];
    const outcome = sh("cat; echo $$", {
      stdin: new TextEncoder().encode("in "),
      onStart: (id) => seen.push({ ...id, group: processStat(id.pid)?.group ?? 0 }),
    });
    const pid = Number(decode(outcome.stdout).slice(3));
    expect(seen).toEqual([{ pid, group: pid, startTime: expect.stringMatching(/^[1-9]\d*$/) }]);
    expect(processStat(pid)).toBeUndefined(); // reaped
  });

  test.each([
    ["/nonexistent", "ENOENT"],
    ["/etc/passwd", "EACCES"],
    ["/tmp", "EACCES"],
  ])("refuses to start %s", (path, message) => {
    expect(() => sh("", { path })).toThrow(`posix_spawn "${path}": ${message}`);
  });

  test("waits for a program that is being installed, within the deadline", async () => {
    const path = `${dir}/true`;
    copyFileSync("/bin/true", path);
    {
      using _writer = Fd.open(path, Open.WRITE);
      const [outcome, ms] = timed(() => sh("", { path, deadlineMs: deadlineIn(200) }));
      expect(outcome.end).toEqual({ timedOut: true });
      expect(ms).toBeLessThan(900);
    }
    const writer = Bun.spawn(["/bin/sh", "-c", `exec 3>>'${path}'; echo open; sleep 0.5`], { stdout: "pipe" });
    while (!decode(new Uint8Array(readFileSync(`/proc/${writer.pid}/cmdline`))).includes("sleep")) sleepMs(5);
    sleepMs(50);
    const [outcome, ms] = timed(() => sh("", { path }));
    expect(outcome.end).toEqual({ exit: 0 });
    expect(ms).toBeGreaterThan(500);
    await writer.exited;
  });

  test("kills the whole group at the deadline", () => {
    const mark = `71.${process.pid}`;
    const [outcome, ms] = timed(() =>
      sh(`trap '' TERM; sleep ${mark} & sleep ${mark} & echo out; wait`, { deadlineMs: deadlineIn(150) }),
    );
    expect(outcome.end).toEqual({ timedOut: true });
    expect(decode(outcome.stdout)).toBe("out\n");
    expect(ms).toBeGreaterThanOrEqual(149);
    expect(ms).toBeLessThan(600);
    sleepMs(50);
    expect(marked(mark)).toBe(0);
  });

  test.each([
    ["stdout", "head -c 5000 /dev/zero; sleep 60"],
    ["stderr", "head -c 5000 /dev/zero >&2; sleep 60"],
    ["stdout", "yes"],
  ] as const)("kills it for too much %s: %s", (overflow, script) => {
    const [outcome, ms] = timed(() => sh(script, { maxStdoutBytes: 4999, maxStderrBytes: 4999 }));
    expect(outcome.end).toEqual({ overflow });
    expect(outcome[overflow].length).toBe(4999);
    expect(ms).toBeLessThan(2000);
  });

  test("takes exactly as much output as it may", () => {
    expect(sh("head -c 5000 /dev/zero", { maxStdoutBytes: 5000 }).end).toEqual({ exit: 0 });
    expect(sh("head -c 5000 /dev/zero", { maxStdoutBytes: 4999 }).end).toEqual({ overflow: "stdout" });
  });

  test("is not held up by what it leaves behind with a pipe open, nor ends it", () => {
    const mark = `72.${process.pid}`;
    let id: ProcessId | undefined;
    const [outcome, ms] = timed(() =>
      sh(`sleep ${mark} & echo done`, {
        onStart: (started) => {
          id = started;
        },
      }),
    );
    expect(outcome.end).toEqual({ exit: 0 });
    expect(decode(outcome.stdout)).toBe("done\n");
    expect(ms).toBeLessThan(500);
    expect(marked(mark)).toBe(1);
    if (id !== undefined) endGroup(id, 1000);
    expect(marked(mark)).toBe(0);
  });

  test("reads what a process that it left behind writes at once", () => {
    expect(decode(sh("(sleep 0.02; echo late) & echo early").stdout)).toBe("early\nlate\n");
  });

  test("ends it when onStart throws", () => {
    const mark = `73.${process.pid}`;
    let id: ProcessId | undefined;
    expect(() =>
      sh(`sleep ${mark}`, {
        onStart: (started) => {
          id = started;
          throw new Error("no room in the journal");
        },
      }),
    ).toThrow("no room in the journal");
    expect(id && isAlive(id)).toBe(false);
    expect(gone(mark)).toBe(true);
  });

  test("ends it on a stop, and starts none after", () => {
    using readable = Fd.open("/dev/zero", Open.READ);
    let requested = false;
    const stop = {
      fd: readable.raw,
      get requested() {
        return requested;
      },
    };
    const [outcome, ms] = timed(() => sh("sleep 60", { stop }));
    expect(outcome.end).toEqual({ stopped: true });
    expect(ms).toBeLessThan(500);
    requested = true;
    expect(sh("sleep 60", { stop, path: "/nonexistent" }).end).toEqual({ stopped: true });
  });

  test("knows how a child ended where SIGCHLD was ignored by whoever started us", () => {
    const script = `
      const { runChild } = await import("${import.meta.dir}/child.ts");
      const { deadlineIn } = await import("${import.meta.dir}/clock.ts");
      const spec = { path: "/bin/sh", argv: ["sh", "-c", "exit 7"], env: {}, stdin: new Uint8Array(0) };
      const limits = { deadlineMs: deadlineIn(5000), maxStdoutBytes: 10, maxStderrBytes: 10 };
      console.log(JSON.stringify(runChild({ ...spec, ...limits }).end));`;
    const ignoring = ["/bin/sh", "-c", `trap '' CHLD; exec "$0" "$@"`, process.execPath, "-e", script];
    expect(Bun.spawnSync(ignoring).stdout.toString()).toBe('{"exit":7}\n');
  });

  test("goes on a hundred times without a descriptor or a zombie left", () => {
    for (let i = 0; i < 100; i++) expect(sh("exit 0").end).toEqual({ exit: 0 });
    const zombies = readdirSync("/proc")
      .filter((pid) => /^\d+$/.test(pid))
      .filter((pid) => {
        const stat = processStat(Number(pid)); // other processes of the machine end meanwhile
        return stat?.state === "Z" && stat.parent === process.pid;
      });
    expect(zombies).toEqual([]);
  });
});

describe("endGroup()", () => {
  const start = (script: string): { id: ProcessId; exited: Promise<number> } => {
    // setsid makes a group whose number is the process's own.
    const child = Bun.spawn(["setsid", "sh", "-c", script], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    while (processStat(child.pid)?.group !== child.pid) sleepMs(1);
    sleepMs(50);
    return { id: { pid: child.pid, startTime: processStat(child.pid)?.startTime ?? "" }, exited: child.exited };
  };

  test("ends all of it by SIGTERM", async () => {
    const mark = `74.${process.pid}`;
    const { id, exited } = start(`sleep ${mark} & sleep ${mark}`);
    const [, ms] = timed(() => endGroup(id, 5000));
    await exited;
    expect(ms).toBeLessThan(1000);
    expect(marked(mark)).toBe(0);
  });

  test("ends by SIGKILL what SIGTERM does not", async () => {
    const mark = `75.${process.pid}`;
    const { id, exited } = start(`trap '' TERM; sleep ${mark} & while :; do sleep ${mark}; done`);
    const [, ms] = timed(() => endGroup(id, 100));
    await exited;
    expect(ms).toBeGreaterThanOrEqual(99);
    expect(marked(mark)).toBe(0);
  });

  test("finds members whose leader is gone", async () => {
    const mark = `76.${process.pid}`;
    const { id, exited } = start(`sleep ${mark} & sleep 0.1`);
    await exited;
    expect(isAlive(id)).toBe(false);
    expect(marked(mark)).toBe(1);
    endGroup(id, 1000);
    expect(marked(mark)).toBe(0);
  });

  test("leaves a later group of the same number alone", async () => {
    const mark = `77.${process.pid}`;
    const { id, exited } = start(`exec sleep ${mark}`);
    endGroup({ ...id, startTime: `${Number(id.startTime) - 5}` }, 0);
    endGroup({ ...id, startTime: `${Number(id.startTime) + 5}` }, 0);
    expect(isAlive(id)).toBe(true);
    endGroup(id, 1000);
    await exited;
    expect(isAlive(id)).toBe(false);
  });

  test.each([[0], [1], [-1]])("never signals pid %d", (pid) => {
    endGroup({ pid, startTime: "0" }, 0);
  });
});

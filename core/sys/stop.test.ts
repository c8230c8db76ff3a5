import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { StopSignal } from "./stop.ts";

/** Starts a process that runs `script` with `stop` installed, and waits for its first line. */
async function started(script: string): Promise<{ pid: number; kill(signal: string): void; rest(): Promise<string> }> {
  const lines = `
    const { StopSignal } = await import("${import.meta.dir}/stop.ts");
    const { pollOne } = await import("${import.meta.dir}/poll.ts");
    const { deadlineIn, monotonicMs, sleepMs } = await import("${import.meta.dir}/clock.ts");
    const { runChild } = await import("${import.meta.dir}/child.ts");
    const { errno, libc } = await import("${import.meta.dir}/libc.ts");
    const { writeSync } = await import("node:fs");
    const say = (word) => writeSync(1, word + "\\n");
    const stop = StopSignal.install();
    ${script}
    process.exit(0);`;
  const child = Bun.spawn([process.execPath, "-e", lines], { stdout: "pipe", stderr: "inherit" });
  const reader = child.stdout.getReader();
  const decoder = new TextDecoder();
  expect(decoder.decode((await reader.read()).value)).toBe("ready\n");
  return {
    pid: child.pid,
    kill: (signal) => child.kill(signal as NodeJS.Signals),
    rest: async () => {
      let text = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) text += decoder.decode(part.value);
      await child.exited;
      return `${text}${child.signalCode ?? `exit ${child.exitCode}`}`;
    },
  };
}

describe("StopSignal", () => {
  test.each(["SIGTERM", "SIGINT"])("ends a wait in poll(2) by %s", async (signal) => {
    const child = await started(`
      say("ready");
      const began = monotonicMs();
      while (pollOne(stop.fd, 1, 10_000) === 0 && monotonicMs() - began < 10_000);
      say(String(stop.requested) + " " + (monotonicMs() - began < 5000));`);
    await Bun.sleep(30);
    child.kill(signal);
    expect(await child.rest()).toBe("true true\nexit 0");
  });

  test("is noticed by a loop that never waits and never turns", async () => {
    const child = await started(`
      say("ready");
      let turns = 0;
      const began = monotonicMs();
      while (!stop.requested && monotonicMs() - began < 10_000) turns++;
      say(String(stop.requested) + " " + (turns > 0));`);
    await Bun.sleep(30);
    child.kill("SIGTERM");
    expect(await child.rest()).toBe("true true\nexit 0");
  });

  test("comes any number of times, and nothing else is closed or ended by it", async () => {
    const child = await started(`
      say("ready");
      while (!stop.requested) pollOne(stop.fd, 1, 1000);
      say("once");
      const began = monotonicMs();
      let wrong = 0;
      while (monotonicMs() - began < 300) {
        const fd = libc().openat(-100, new Uint8Array(Buffer.from("/dev/null\\0")), 0x80000, 0);
        if (fd < 0 || libc().close(fd) !== 0) wrong++;
        if (libc().close(-1) !== -1 || errno() !== 9) wrong++;
        Bun.gc(true);
      }
      say(stop.requested + " " + wrong);`);
    for (let i = 0; i < 200; i++) {
      child.kill(i % 3 === 0 ? "SIGINT" : "SIGTERM");
      await Bun.sleep(1);
    }
    expect(await child.rest()).toBe("once\ntrue 0\nexit 0");
  });

  test("ends a sleep of a child, not our own sleep", async () => {
    const child = await started(`
      const spec = { path: "/bin/sleep", argv: ["sleep", "60"], env: {}, stdin: new Uint8Array(0), stop };
      const limits = { deadlineMs: deadlineIn(20_000), maxStdoutBytes: 10, maxStderrBytes: 10 };
      const began = monotonicMs();
      say("ready");
      say(JSON.stringify(runChild({ ...spec, ...limits }).end));
      sleepMs(100);
      say(String(monotonicMs() - began > 100));`);
    await Bun.sleep(50);
    child.kill("SIGTERM");
    expect(await child.rest()).toBe('{"stopped":true}\ntrue\nexit 0');
  });

  test("puts the former actions back", async () => {
    const child = await started(`
      stop[Symbol.dispose]();
      stop[Symbol.dispose]();
      say("ready");
      sleepMs(10_000);`);
    child.kill("SIGTERM");
    expect(await child.rest()).toBe("SIGTERM");
  });

  test("keeps its code in a page that is not writable, and its descriptor from children", () => {
    using stop = StopSignal.install();
    expect(stop.requested).toBe(false);
    expect(readFileSync(`/proc/self/fdinfo/${stop.fd}`, "utf8")).toMatch(/flags:\t0?2004002/);
    process.kill(process.pid, "SIGTERM");
    expect(stop.requested).toBe(true);
    expect(stop.requested).toBe(true);
    expect(readFileSync(`/proc/self/fdinfo/${stop.fd}`, "utf8")).toMatch(/eventfd-count:\s+1\n/);
  });
});

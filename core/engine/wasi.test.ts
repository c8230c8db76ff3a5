import { describe, expect, test } from "bun:test";
import { GuestFault } from "./fault.ts";
import { type GuestMemory, guestMemory } from "./memory.ts";
import { GuestExit, Wasi, type WasiInput, wasiFunction, wasiNames } from "./wasi.ts";

const size = 4096;

/** A guest's memory without a guest. */
function fakeMemory(): GuestMemory & { readonly bytes: Uint8Array } {
  const bytes = new Uint8Array(size);
  const fits = (offset: number, length: number): boolean => offset + length <= size;
  const raw = {
    read: (offset: number, length: number) => (fits(offset, length) ? bytes.slice(offset, offset + length) : undefined),
    write(offset: number, from: Uint8Array) {
      if (!fits(offset, from.length)) return false;
      bytes.set(from, offset);
      return true;
    },
  };
  return { ...guestMemory(raw), bytes };
}

function start(input: Partial<WasiInput> = {}) {
  const memory = fakeMemory();
  const view = new DataView(memory.bytes.buffer);
  const wasi = new Wasi({
    argv: ["bridge"],
    env: { A: "1", BC: "" },
    stdin: new TextEncoder().encode("0123456789"),
    stdoutBytes: 10,
    stderrBytes: 10,
    wallMs: 1000,
    remainingMs: () => 1000,
    stopRequested: () => false,
    ...input,
  });
  const call = (name: string, ...args: readonly (number | bigint)[]): number => {
    const found = wasiFunction(name);
    if (found === undefined) throw new Error(`no ${name}`);
    expect(args.map((arg) => (typeof arg === "bigint" ? "i64" : "i32"))).toEqual([...found.params]);
    return found.body(wasi, memory, args);
  };
  return {
    memory,
    view,
    wasi,
    call,
    text: (at: number, length: number) => new TextDecoder().decode(memory.read(at, length)),
  };
}

/** Writes 32-bit words from offset 0 on. */
function words(view: DataView, ...values: readonly number[]): void {
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value, true);
}

describe("arguments and environment", () => {
  test.each([
    ["args", "bridge\0", 1],
    ["environ", "A=1\0BC=\0", 2],
  ])("%s", (what, text, count) => {
    const { view, call, text: at } = start();
    expect(call(`${what}_sizes_get`, 0, 4)).toBe(0);
    expect([view.getUint32(0, true), view.getUint32(4, true)]).toEqual([count, text.length]);
    expect(call(`${what}_get`, 16, 100)).toBe(0);
    expect(view.getUint32(16, true)).toBe(100);
    expect(at(100, text.length)).toBe(text);
  });
});

describe("fd_read()", () => {
  test("fills iovecs in order and then answers 0 bytes", () => {
    const { view, call, text } = start();
    words(view, 100, 4, 200, 100);
    expect(call("fd_read", 0, 0, 2, 32)).toBe(0);
    expect([view.getUint32(32, true), text(100, 4), text(200, 6)]).toEqual([10, "0123", "456789"]);
    expect(call("fd_read", 0, 0, 2, 32)).toBe(0);
    expect(view.getUint32(32, true)).toBe(0);
  });
});

describe("fd_write()", () => {
  test("gathers, keeps the two outputs apart and counts each against its limit", () => {
    const { memory, view, wasi, call } = start();
    memory.write(100, new TextEncoder().encode("abcdef"));
    words(view, 100, 3, 103, 3);
    expect(call("fd_write", 1, 0, 2, 32)).toBe(0);
    expect(call("fd_write", 2, 0, 1, 32)).toBe(0);
    expect(view.getUint32(32, true)).toBe(3);
    expect(() => call("fd_write", 1, 0, 2, 32)).toThrow("more than 10 bytes on stdout");
    const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
    expect([text(wasi.stdout.bytes()), text(wasi.stderr.bytes())]).toEqual([
      "abcdefabc".slice(0, 9).slice(0, 9),
      "abc",
    ]);
  });
});

describe("clocks", () => {
  test("real time and a clock that never goes back", () => {
    const { view, call } = start();
    expect(call("clock_time_get", 0, 0n, 8)).toBe(0);
    expect(Math.abs(Number(view.getBigUint64(8, true) / 1_000_000n) - Date.now())).toBeLessThan(1000);
    expect(call("clock_time_get", 1, 0n, 16)).toBe(0);
    expect(call("clock_time_get", 1, 0n, 24)).toBe(0);
    expect(view.getBigUint64(24, true)).toBeGreaterThanOrEqual(view.getBigUint64(16, true));
    expect([call("clock_time_get", 2, 0n, 8), call("clock_res_get", 1, 8), call("clock_res_get", 7, 8)]).toEqual([
      28, 0, 28,
    ]);
  });
});

describe("random_get()", () => {
  test("fills what was asked for, and no more", () => {
    const { memory, call } = start();
    expect(call("random_get", 64, 64)).toBe(0);
    expect(new Set(memory.read(64, 64)).size).toBeGreaterThan(16);
    expect(memory.read(128, 8)).toEqual(new Uint8Array(8));
    expect(call("random_get", 0, -1)).toBe(28);
    expect(() => call("random_get", 4000, 100)).toThrow(GuestFault);
  });
});

describe("poll_oneoff()", () => {
  /** A subscription: user data, then a clock and its timeout, or a descriptor to read from. */
  const subscribe = (
    view: DataView,
    index: number,
    o: { userdata: bigint; ms?: number; absolute?: boolean; clock?: number },
  ) => {
    const at = index * 48;
    view.setBigUint64(at, o.userdata, true);
    view.setUint8(at + 8, o.ms === undefined ? 1 : 0);
    view.setUint32(at + 16, o.clock ?? 1, true);
    view.setBigUint64(at + 24, BigInt(Math.round((o.ms ?? 0) * 1e6)), true);
    view.setUint16(at + 40, o.absolute === true ? 1 : 0, true);
  };
  const events = (view: DataView): unknown[] =>
    Array.from({ length: view.getUint32(2000, true) }, (_, i) => [
      view.getBigUint64(1000 + i * 32, true),
      view.getUint16(1000 + i * 32 + 8, true),
      view.getUint8(1000 + i * 32 + 10),
    ]);
  const poll = (s: ReturnType<typeof start>, count: number): number => s.call("poll_oneoff", 0, 1000, count, 2000);

  test("waits for the earliest clock and reports it alone", () => {
    const s = start();
    subscribe(s.view, 0, { userdata: 7n, ms: 60_000 });
    subscribe(s.view, 1, { userdata: 8n, ms: 3 });
    const before = performance.now();
    expect(poll(s, 2)).toBe(0);
    expect(performance.now() - before).toBeGreaterThanOrEqual(2.9);
    expect(events(s.view)).toEqual([[8n, 0, 0]]);
  });

  test("a point in the past is now, on either clock", () => {
    const s = start();
    subscribe(s.view, 0, { userdata: 1n, ms: 1, absolute: true, clock: 0 });
    subscribe(s.view, 1, { userdata: 2n, ms: 0, absolute: true });
    expect(poll(s, 2)).toBe(0);
    expect(events(s.view)).toEqual([
      [1n, 0, 0],
      [2n, 0, 0],
    ]);
  });

  test("a descriptor is ready at once, with EBADF", () => {
    const s = start();
    subscribe(s.view, 0, { userdata: 1n, ms: 60_000 });
    subscribe(s.view, 1, { userdata: 2n });
    expect(poll(s, 2)).toBe(0);
    expect(events(s.view)).toEqual([[2n, 8, 1]]);
  });

  test("is bounded by the run's time, by a request to stop, and in number", () => {
    let left = 40;
    const late = start({ remainingMs: () => (left -= 20) });
    subscribe(late.view, 0, { userdata: 1n, ms: 60_000 });
    expect(() => poll(late, 1)).toThrow("more than 1000 ms, asleep at the end");
    const stopped = start({ stopRequested: () => true });
    subscribe(stopped.view, 0, { userdata: 1n, ms: 60_000 });
    expect(() => poll(stopped, 1)).toThrow("asked to stop");
    expect([poll(start(), 0), poll(start(), 65), poll(start(), -1)]).toEqual([28, 28, 28]);
  });
});

describe("the rest", () => {
  test("proc_exit leaves with its code, unsigned", () => {
    const { call } = start();
    expect(() => call("proc_exit", -1)).toThrow(GuestExit);
    expect(() => call("proc_exit", -1)).toThrow("exit 4294967295");
  });

  test("what is not served answers an error and touches nothing", () => {
    const served =
      /^(args|environ)_|^clock_|^random_get|^sched_yield|^proc_exit|^fd_(read|write|seek|tell)$|^poll_oneoff/;
    const { memory, wasi } = start();
    const answers = new Map<number, string[]>();
    for (const name of wasiNames.filter((each) => !served.test(each))) {
      const found = wasiFunction(name);
      const answer =
        found?.body(
          wasi,
          memory,
          found.params.map((type) => (type === "i64" ? 0n : 0)),
        ) ?? -1;
      answers.set(answer, [...(answers.get(answer) ?? []), name]);
    }
    expect([...answers.keys()].sort()).toEqual([52, 8]);
    expect(answers.get(52)).toEqual(["proc_raise"]);
    expect(answers.get(8)?.every((name) => /^(fd|path|sock)_/.test(name))).toBe(true);
    expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test("standard streams cannot be sought", () => {
    const { call } = start();
    expect([call("fd_seek", 1, 0n, 0, 0), call("fd_seek", 3, 0n, 0, 0), call("fd_tell", 0, 0)]).toEqual([70, 8, 70]);
    expect(call("sched_yield")).toBe(0);
  });

  test("a name that is no function's is none, whatever Object has", () => {
    expect([wasiFunction("toString"), wasiFunction("fd_nothing")]).toEqual([undefined, undefined]);
  });
});

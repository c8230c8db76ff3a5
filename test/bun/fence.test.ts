/** What the fence relies on: memory that C sees stays where it is, callbacks stay alive, and traps leave JavaScript whole. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { Engine, type HostFunction, type Module, type RunOutcome } from "../../core/engine/engine.ts";
import { libc, Open } from "../../core/sys/libc.ts";
import { has, requires } from "../support/requires.ts";
import { root, run as runProgram, Scratch } from "./program.ts";

const native = join(root, "build/native");
let engine: Engine;
beforeAll(() => {
  engine = Engine.forCompiling({ path: join(native, "libwasmtime.so"), libgccPath: join(native, "libgcc_s.so.1") });
});
afterAll(() => engine[Symbol.dispose]());

const limits = { memoryBytes: 1 << 20, cpuMs: 1000, wallMs: 10_000, stdoutBytes: 4096, stderrBytes: 4096 };
const load = (wat: string): Module => engine.load(engine.compile(engine.assemble(wat)));
const run = (module: Module, functions: readonly HostFunction[] = []): RunOutcome =>
  engine.run({ module, argv0: "guest", env: {}, stdin: new Uint8Array(0), functions, limits });

describe("garbage collection", () => {
  const { openat, close, read } = libc();

  test("a buffer lives through the call that it was made for", () => {
    const rounds = 20_000;
    for (let i = 0; i < rounds; i++) {
      const path = new TextEncoder().encode("/dev/zero\0");
      const fd = openat(-100, path, Open.READ | Open.CLOEXEC, 0);
      expect(fd).toBeGreaterThanOrEqual(0);
      const into = new Uint8Array(64).fill(1);
      expect(Number(read(fd, into, into))).toBe(64);
      expect(into[0] === 0 && into[63] === 0).toBe(true);
      close(fd);
      if (i % 500 === 0) Bun.gc(true);
    }
  });

  test("callbacks, guests and their answers survive a collection in the middle of a call", () => {
    using module = load(`(module (import "h" "call" (func $call (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1) (data (i32.const 8) "0123456789")
      (func (export "_start") (local $i i32) (local $sum i32)
        (loop
          (local.set $sum (i32.add (local.get $sum) (call $call (i32.const 8) (i32.const 10))))
          (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 20))))
        (call $exit (local.get $sum))))`);
    const call: HostFunction = {
      module: "h",
      name: "call",
      params: ["i32", "i32"],
      results: ["i32"],
      run(memory, [at, length]) {
        const bytes = memory.read(Number(at), Number(length));
        Bun.gc(true);
        memory.write(Number(at), bytes.toReversed().toReversed());
        return bytes.length;
      },
    };
    for (let i = 0; i < 20; i++) expect(run(module, [call])).toMatchObject({ exit: 200 });
  });
});

describe("a system that gives no timer", () => {
  // An unarmed timer would be an unbounded guest. The signal of each timer is reserved when it is made.
  requires("prlimit", has("prlimit"))("(RLIMIT_SIGPENDING is 0)", () => {
    test("is an error before the guest runs, and the engine can be disposed", () => {
      using scratch = new Scratch();
      const script = `
        import { Engine } from "${root}/core/engine/engine.ts";
        const engine = Engine.forCompiling({ path: "${native}/libwasmtime.so", libgccPath: "${native}/libgcc_s.so.1" });
        const wasm = engine.assemble('(module (memory (export "memory") 1) (func (export "_start") (loop (br 0))))');
        const limits = { memoryBytes: 65536, cpuMs: 1000, wallMs: 1000, stdoutBytes: 0, stderrBytes: 0 };
        const module = engine.load(engine.compile(wasm));
        for (let i = 0; i < 2; i++) {
          try {
            engine.run({ module, argv0: "g", env: {}, stdin: new Uint8Array(0), functions: [], limits });
          } catch (thrown) {
            console.log(thrown.message);
          }
        }
        engine[Symbol.dispose]();`;
      const file = join(scratch.write({ "no-timer.ts": script }), "no-timer.ts");
      const ended = runProgram([Bun.which("prlimit") ?? "", "--sigpending=0", process.execPath, file]);
      const message = "timer_create failed: the system's limit of pending signals is reached\n";
      expect(ended).toEqual({ exit: 0, stdout: message + message, stderr: "" });
    });
  });
});

describe("traps beside JavaScript's own signal handlers", () => {
  /** A module for JavaScript's own engine that reads outside its memory, which that engine catches by a signal. */
  const jsTrap = (): (() => void) => {
    const wat = '(module (memory 1) (func (export "f") (drop (i32.load (i32.const 100000000)))))';
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(Uint8Array.from(engine.assemble(wat)))).exports;
    if (typeof f !== "function") throw new Error("no function");
    return () => f();
  };
  const deep = (n: number): number => 1 + deep(n + 1);
  const faults = [
    ["unreachable", "unreachable"],
    ["a load outside", "(drop (i32.load (i32.const 100000000)))"],
    ["a division by zero", "(drop (i32.div_s (i32.const 1) (i32.const 0)))"],
    ["an endless recursion", "(call $start)"],
  ] as const;

  function storm(rounds: number): number {
    const modules = faults.map(([, body]) =>
      load(`(module (memory (export "memory") 1) (func $start (export "_start") ${body}))`),
    );
    const trapInJs = jsTrap();
    let traps = 0;
    const start = performance.now();
    for (let i = 0; i < rounds; i++) {
      const module = modules[i % modules.length];
      if (module !== undefined && "fault" in run(module)) traps++;
      if (i % 100 === 0) expect(trapInJs).toThrow("Out of bounds memory access");
      if (i % 1000 === 0) expect(() => deep(0)).toThrow(RangeError);
      if (i % 5000 === 0) Bun.gc(true);
    }
    for (const module of modules) module[Symbol.dispose]();
    console.log(`${traps} traps in ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return traps;
  }

  test("100,000 traps of four kinds, with JavaScript's own among them", () => {
    expect(storm(100_000)).toBe(100_000);
  }, 60_000);
});

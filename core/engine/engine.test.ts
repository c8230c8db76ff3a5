import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import {
  Engine,
  graceMs,
  type HostFunction,
  type Limits,
  type Module,
  type RunOutcome,
  type RunRequest,
} from "./engine.ts";
import { GuestFault } from "./fault.ts";

const native = join(import.meta.dir, "../../build/native");
if (!existsSync(native)) throw new Error(`${native} is missing. Run: npm run build`);
const files = { path: join(native, "libwasmtime.so"), libgccPath: join(native, "libgcc_s.so.1") };

let engine: Engine;
beforeAll(() => {
  engine = Engine.forCompiling(files);
});
afterAll(() => engine[Symbol.dispose]());

const limits: Limits = { memoryBytes: 2 << 20, cpuMs: 1000, wallMs: 10_000, stdoutBytes: 1000, stderrBytes: 1000 };
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
const bytes = (value: string): Uint8Array => new TextEncoder().encode(value);

/** Imports that the guests below use, under short names. */
const imports = `
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "patchbay_1" "call" (func $call (param i32 i32) (result i32)))`;
const code = (body: string, memory = '(memory (export "memory") 1)'): string =>
  `(module ${imports} ${memory} (func (export "_start") ${body}))`;
const load = (wat: string): Module => engine.load(engine.compile(engine.assemble(wat)));

function hostCall(run: HostFunction["run"], more: Partial<HostFunction> = {}): HostFunction {
  return { module: "patchbay_1", name: "call", params: ["i32", "i32"], results: ["i32"], run, ...more };
}

function run(wat: string, more: Partial<RunRequest> = {}): RunOutcome {
  using module = load(wat);
  return engine.run({
    module,
    argv0: "guest",
    env: {},
    stdin: new Uint8Array(0),
    functions: [hostCall(() => 0)],
    limits,
    ...more,
  });
}

/** Outcome in one line: `exit 3`, or the fault and its detail. */
const say = (outcome: RunOutcome): string =>
  "exit" in outcome ? `exit ${outcome.exit}` : `${outcome.fault}: ${outcome.detail}`;

/** 48 bytes at 0: one subscription to the monotonic clock, `ms` from now. */
const sleepFor = (ms: number): string => `
  (i32.store (i32.const 16) (i32.const 1))
  (i64.store (i32.const 24) (i64.const ${ms * 1_000_000}))
  (call $exit (call $poll (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))`;
/** One iovec at 0. */
const iovec = (offset: number, length: number): string =>
  `(i32.store (i32.const 0) (i32.const ${offset})) (i32.store (i32.const 4) (i32.const ${length}))`;
const write = (fd: number): string => `(call $fd_write (i32.const ${fd}) (i32.const 0) (i32.const 1) (i32.const 8))`;

describe("Engine.run()", () => {
  // what, code of _start, outcome
  const table: readonly (readonly [what: string, body: string, want: string | RegExp])[] = [
    ["returning is exit 0", "", "exit 0"],
    ["proc_exit 0", "(call $exit (i32.const 0))", "exit 0"],
    ["proc_exit 7", "(call $exit (i32.const 7))", "exit 7"],
    ["proc_exit above 255", "(call $exit (i32.const 300))", "exit 300"],
    ["unreachable", "unreachable", /^trap: .*`unreachable` instruction executed/],
    ["division by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", /^trap: .*divide by zero/],
    ["a load outside", "(drop (i32.load (i32.const 65536)))", /^trap: .*out of bounds memory access/],
    [
      "a load far outside",
      "(drop (i32.load offset=4294967295 (i32.const -1)))",
      /^trap: .*out of bounds memory access/,
    ],
    [
      "a write from outside",
      `${iovec(65_530, 100)} (drop ${write(1)})`,
      "pointer: 100 bytes at 0xfffa are outside the guest's memory",
    ],
    [
      "an iovec outside",
      "(drop (call $fd_write (i32.const 1) (i32.const -8) (i32.const 1) (i32.const 8)))",
      /^pointer: 8 bytes at 0xfffffff8/,
    ],
    [
      "a count outside",
      `${iovec(8, 1)} (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const -4)))`,
      /^pointer: 4 bytes/,
    ],
    [
      "a clock outside",
      "(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 65529)))",
      /^pointer: 8 bytes at 0xfff9/,
    ],
    [
      "too many iovecs: EINVAL",
      "(call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)))",
      "exit 28",
    ],
    ["a closed descriptor: EBADF", `(call $exit ${write(3)})`, "exit 8"],
    [
      "reading stdout: EBADF",
      "(call $exit (call $fd_read (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 8)))",
      "exit 8",
    ],
    [
      "a clock that does not exist: EINVAL",
      "(call $exit (call $clock (i32.const 9) (i64.const 0) (i32.const 0)))",
      "exit 28",
    ],
    ["1000 bytes of stdout", `${iovec(100, 1000)} (call $exit ${write(1)})`, "exit 0"],
    ["1001 bytes of stdout", `${iovec(100, 1001)} (call $exit ${write(1)})`, "output: more than 1000 bytes on stdout"],
    [
      "a flood of stderr",
      `${iovec(100, 60_000)} (loop (drop ${write(2)}) (br 0))`,
      "output: more than 1000 bytes on stderr",
    ],
    [
      "no sleep at all: EINVAL",
      "(call $exit (call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)))",
      "exit 28",
    ],
    ["a short sleep", sleepFor(5), "exit 0"],
    ["memory of another size", "(drop (memory.grow (i32.const 1000)))", "exit 0"],
    [
      "eats memory",
      "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable",
      /^memory: .*unreachable/,
    ],
  ];
  test.each(table)("%s", (_, body, want) => {
    expect(say(run(code(body)))).toMatch(want);
  });

  test("refuses a memory that starts above the limit", () => {
    expect(say(run(code("", '(memory (export "memory") 33)')))).toMatch(/^memory: .*exceeds memory limits/);
  });

  test("ends deep recursion with a trap", () => {
    const wat = '(module (memory (export "memory") 1) (func $f (export "_start") (call $f) (call $f)))';
    expect(say(run(wat))).toMatch(/^trap: .*call stack exhausted/);
  });

  test("faults a module without _start", () => {
    expect(say(run('(module (memory (export "memory") 1))'))).toBe("trap: the module exports no function _start");
  });

  test("bounds a start function too, and lets it use its memory", () => {
    const start = (body: string): string => `(module ${imports} (memory (export "memory") 1) (start $s)
      (func (export "_start")) (func $s ${body}))`;
    expect(say(run(start("(loop (br 0))"), { limits: { ...limits, cpuMs: 50 } }))).toBe(
      "cpu: more than 50 ms of CPU time",
    );
    expect(
      say(
        run(start("(drop (call $call (i32.const 0) (i32.const 4)))"), {
          functions: [hostCall((m, [at, n]) => m.read(Number(at), Number(n)).length)],
        }),
      ),
    ).toBe("exit 0");
  });

  test("passes arguments, environment and stdin, and returns both outputs", () => {
    const wat = `(module ${imports}
      (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func $environ (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func $out (param $fd i32) (param $at i32) (param $n i32)
        (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $n))
        (drop (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
      (func (export "_start")
        (drop (call $args (i32.const 500) (i32.const 600)))
        (call $out (i32.const 1) (i32.const 600) (i32.const 5))
        (drop (call $sizes (i32.const 20) (i32.const 24)))
        (drop (call $environ (i32.const 500) (i32.const 700)))
        (call $out (i32.const 1) (i32.load (i32.const 500)) (i32.load (i32.const 24)))
        (i32.store (i32.const 0) (i32.const 900)) (i32.store (i32.const 4) (i32.const 100))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (call $out (i32.const 2) (i32.const 900) (i32.load (i32.const 8)))))`;
    const outcome = run(wat, { env: { CNI_COMMAND: "ADD", K: "ü" }, stdin: bytes('{"a":1}') });
    expect(say(outcome)).toBe("exit 0");
    expect(text(outcome.stdout)).toBe("guestCNI_COMMAND=ADD\0K=ü\0");
    expect(text(outcome.stderr)).toBe('{"a":1}');
  });

  test("keeps what was written before a fault", () => {
    const outcome = run(
      code(`${iovec(100, 4)} (i32.store (i32.const 100) (i32.const 0x34333231)) (drop ${write(1)}) unreachable`),
    );
    expect(outcome).toMatchObject({ fault: "trap" });
    expect(text(outcome.stdout)).toBe("1234");
  });

  test("gives a guest a fresh memory each time", () => {
    using module = load(
      code(
        "(i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (call $exit (i32.load (i32.const 0)))",
      ),
    );
    const request = { module, argv0: "g", env: {}, stdin: new Uint8Array(0), functions: [hostCall(() => 0)], limits };
    expect([engine.run(request), engine.run(request)].map(say)).toEqual(["exit 1", "exit 1"]);
  });
});

describe("time", () => {
  const loop = "(loop (br 0))";
  const timed = (work: () => RunOutcome): { outcome: string; ms: number } => {
    const start = performance.now();
    const outcome = say(work());
    return { outcome, ms: performance.now() - start };
  };

  test("a loop ends within the grace after its CPU limit", () => {
    const { outcome, ms } = timed(() => run(code(loop), { limits: { ...limits, cpuMs: 60 } }));
    expect(outcome).toBe("cpu: more than 60 ms of CPU time");
    expect(ms).toBeGreaterThanOrEqual(60);
  });

  test("the overrun of a loop is at most the grace, in CPU time", () => {
    using module = load(code(loop));
    const before = process.cpuUsage();
    engine.run({
      module,
      argv0: "g",
      env: {},
      stdin: new Uint8Array(0),
      functions: [hostCall(() => 0)],
      limits: { ...limits, cpuMs: 100 },
    });
    const used = process.cpuUsage(before);
    expect((used.user + used.system) / 1000).toBeLessThan(100 + graceMs + 20);
  });

  test("the wall limit ends a loop that still has CPU time", () => {
    expect(say(run(code(loop), { limits: { ...limits, wallMs: 50 } }))).toBe("wall: more than 50 ms");
  });

  test("the wall limit ends a sleep", () => {
    const { outcome, ms } = timed(() => run(code(sleepFor(60_000)), { limits: { ...limits, wallMs: 50 } }));
    expect(outcome).toBe("wall: more than 50 ms, asleep at the end");
    expect(ms).toBeLessThan(5000);
  });

  const busy =
    (ms: number): HostFunction["run"] =>
    () => {
      for (const start = performance.now(); performance.now() - start < ms; );
      return 0;
    };
  const oneCallThenSpin =
    "(drop (call $call (i32.const 0) (i32.const 0))) (local $i i32) (loop (br_if 0 (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 1000))))";
  const body = `(local $i i32) ${oneCallThenSpin.replace("(local $i i32) ", "")}`;

  test("a host function's CPU time is not the guest's", () => {
    expect(say(run(code(body), { functions: [hostCall(busy(150))], limits: { ...limits, cpuMs: 50 } }))).toBe("exit 0");
  });

  test("a host function's wall time is the run's, unless it has a deadline of its own", () => {
    const short = { ...limits, wallMs: 50 };
    expect(say(run(code(body), { functions: [hostCall(busy(150))], limits: short }))).toBe("wall: more than 50 ms");
    expect(say(run(code(body), { functions: [hostCall(busy(150), { ownDeadline: true })], limits: short }))).toBe(
      "exit 0",
    );
  });

  test("a request to stop ends a loop and a sleep", () => {
    for (const guest of [loop, sleepFor(60_000)]) {
      const start = performance.now();
      const outcome = run(code(guest), { stopRequested: () => performance.now() - start > 30 });
      expect(say(outcome)).toBe("stopped: asked to stop");
    }
  });
});

describe("host functions", () => {
  const once = code("(call $exit (call $call (i32.const 4) (i32.const 8)))");

  test("get their arguments and the guest's memory, and answer", () => {
    const seen: unknown[] = [];
    const wat = `(module ${imports} (import "patchbay_1" "wide" (func $wide (param i64 i32) (result i64)))
      (memory (export "memory") 1) (data (i32.const 4) "abcdefgh")
      (func (export "_start")
        (drop (call $call (i32.const 4) (i32.const 8)))
        (call $exit (i32.wrap_i64 (call $wide (i64.const -5) (i32.load8_u (i32.const 4)))))))`;
    const outcome = run(wat, {
      functions: [
        hostCall((memory, [at, length]) => {
          seen.push(text(memory.read(Number(at), Number(length))));
          memory.write(4, bytes("Z"));
          return -1;
        }),
        {
          module: "patchbay_1",
          name: "wide",
          params: ["i64", "i32"],
          results: ["i64"],
          run(_, args) {
            seen.push(...args);
            return 42n;
          },
        },
      ],
    });
    expect(say(outcome)).toBe("exit 42");
    expect(seen).toEqual(["abcdefgh", -5n, 90]);
  });

  test("a GuestFault ends the guest with its kind", () => {
    const refuse = hostCall(() => {
      throw new GuestFault("host", "more than 512 calls");
    });
    expect(say(run(once, { functions: [refuse] }))).toBe("host: more than 512 calls");
  });

  test("any other exception leaves run() unchanged, and the engine goes on", () => {
    const bug = new TypeError("a bug");
    const throwing = hostCall(() => {
      throw bug;
    });
    let thrown: unknown;
    try {
      run(once, { functions: [throwing] });
    } catch (caught) {
      thrown = caught;
    }
    expect(thrown).toBe(bug);
    expect(say(run(once, { functions: [hostCall(() => 5)] }))).toBe("exit 5");
  });

  test("each run has its own, though the linker is one", () => {
    expect(say(run(once, { functions: [hostCall(() => 1)] }))).toBe("exit 1");
    expect(say(run(once, { functions: [hostCall((_, [at, n]) => Number(at) + Number(n))] }))).toBe("exit 12");
  });

  test("one may run another guest", () => {
    const inner = code("(call $exit (call $call (i32.const 0) (i32.const 0)))");
    const outer = hostCall((memory) => {
      const outcome = run(inner, { functions: [hostCall(() => 9)] });
      memory.write(0, Uint8Array.of(1));
      return "exit" in outcome ? outcome.exit : 0;
    });
    expect(say(run(once, { functions: [outer] }))).toBe("exit 9");
  });

  test("refuses to run a module whose import is not offered", () => {
    const wat = `(module (import "patchbay_1" "unknown" (func)) (memory (export "memory") 1) (func (export "_start")))`;
    expect(() => run(wat)).toThrow("import patchbay_1.unknown is not offered");
  });
});

describe("Engine.compile() and load()", () => {
  const hello = code("");

  test("the same module gives the same bytes, in another engine too", () => {
    using other = Engine.forCompiling(files);
    const wasm = engine.assemble(hello);
    expect(Buffer.from(engine.compile(wasm)).equals(other.compile(wasm))).toBe(true);
    expect(other.fingerprint).toBe(engine.fingerprint);
  });

  test("an engine that does not compile runs what another compiled", () => {
    using runner = Engine.open(files);
    using module = runner.load(engine.compile(engine.assemble(code("(call $exit (i32.const 3))"))));
    const outcome = runner.run({
      module,
      argv0: "g",
      env: {},
      stdin: new Uint8Array(0),
      functions: [hostCall(() => 0)],
      limits,
    });
    expect(say(outcome)).toBe("exit 3");
  });

  test("refuses what another engine made, and what is no artefact", () => {
    const artifact = engine.compile(engine.assemble(hello));
    const at = Buffer.from(artifact).indexOf(engine.fingerprint);
    artifact[at + engine.fingerprint.length - 1] = 0x7a;
    expect(() => engine.load(artifact)).toThrow(/^compiled for engine "wasmtime-.*z", this is /);
    expect(() => engine.load(bytes("\x7fELF"))).toThrow('compiled for engine "unknown"');
  });

  test.each([
    ["vectors", '(module (func (export "_start") (drop (v128.const i64x2 0 0))))', "SIMD support is not enabled"],
    ["threads", "(module (memory 1 1 shared))", "threads must be enabled"],
    ["64-bit memory", "(module (memory i64 1))", "memory64 must be enabled"],
    ["two memories", "(module (memory 1) (memory 1))", "multiple memories"],
    ["references", "(module (func (param externref)))", "reference types support is not enabled"],
    ["tail calls", "(module (func $f (return_call $f)))", "tail calls support is not enabled"],
    ["exceptions", "(module (tag))", "exceptions proposal not enabled"],
  ])("refuses to compile %s", (_, wat, why) => {
    const wasm = engine.assemble(wat);
    expect(() => engine.compile(wasm)).toThrow(why);
  });
});

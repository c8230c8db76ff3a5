/**
 * Runs guests: one engine, one linker and one timer for all of a process's runs; a fresh instance for each.
 *
 * Bun's FFI and the library are behind `core/sys/wasmtime.ts`. Here are the configuration, the limits and the verdict.
 */
import { sha256 } from "../base/hash.ts";
import {
  type EngineHandle,
  type EngineOption,
  type GuestEnd,
  type LinkerHandle,
  type ModuleHandle,
  type RawMemory,
  tickMs,
  trapCode,
  type ValueType,
  Wasmtime,
  wasmtimeVersion,
} from "../sys/wasmtime.ts";
import { decodeArtifact, encodeArtifact } from "./artifact.ts";
import { type FaultKind, GuestFault } from "./fault.ts";
import { inspect } from "./inspect.ts";
import { type GuestMemory, guestMemory } from "./memory.ts";
import { GuestExit, Wasi, type WasiFunction, wasiFunction, wasiModule } from "./wasi.ts";

/** What no run may pass, whatever its limits say; the engine reserves address space for it. */
export const maxMemoryBytes = 32 << 20;
const stackBytes = 512 << 10;
const detailLength = 500;

/**
 * All of it is part of the fingerprint. Left out on purpose is what most of the library's advisories were about:
 * components, WASI, threads, garbage collection, references, 64-bit memories, vectors, pooled allocation. No signal
 * handler is installed: JavaScript's engine has its own, and a guest of this size does not feel explicit checks.
 */
const options: readonly EngineOption[] = [
  ["epoch_interruption", true],
  ["signals_based_traps", false],
  ["max_wasm_stack", stackBytes],
  ["memory_reservation", maxMemoryBytes],
  ["memory_reservation_for_growth", 0],
  ["memory_guard_size", 65_536],
  ["memory_may_move", false],
  ["memory_init_cow", true],
  ["native_unwind_info", false],
  ["parallel_compilation", false],
  ["concurrency_support", false],
  ["gc_support", false],
  ["wasm_component_model", false],
  ["wasm_threads", false],
  ["wasm_tail_call", false],
  ["wasm_gc", false],
  ["wasm_function_references", false],
  ["wasm_reference_types", false],
  ["wasm_relaxed_simd", false],
  ["wasm_simd", false],
  ["wasm_multi_memory", false],
  ["wasm_memory64", false],
  ["wasm_exceptions", false],
  ["wasm_wide_arithmetic", false],
  ["wasm_custom_page_sizes", false],
  ["wasm_stack_switching", false],
];

/** The oldest CPU of each architecture, so that an artefact runs wherever the binary does. */
const target = `${process.arch === "arm64" ? "aarch64" : "x86_64"}-unknown-linux-gnu`;

/** One function that guests may import. */
export interface HostFunction {
  readonly module: string;
  readonly name: string;
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  /** Has a deadline of its own: its time is not taken from the run's wall time. */
  readonly ownDeadline?: boolean;
  /** Synchronous. A `GuestFault` ends the guest; whatever else it throws ends the guest and leaves `Engine.run`. */
  run(memory: GuestMemory, args: readonly (number | bigint)[]): number | bigint | undefined;
}

export interface Limits {
  readonly memoryBytes: number;
  /** CPU time of the guest and of WASI on its behalf; that of host functions is not counted. */
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
}

export interface RunRequest {
  readonly module: Module;
  readonly argv0: string;
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Uint8Array;
  readonly functions: readonly HostFunction[];
  readonly limits: Limits;
  /** Asked about every 10 ms while the guest runs or sleeps. */
  readonly stopRequested?: () => boolean;
}

export type RunOutcome = { readonly stdout: Uint8Array; readonly stderr: Uint8Array } & (
  | { readonly exit: number }
  | { readonly fault: FaultKind; readonly detail: string }
);

/** A module loaded into one engine. Released with it, or before by `using`. */
export class Module implements Disposable {
  readonly handle: ModuleHandle;
  /** `module\0name` of each import. */
  readonly imports: readonly string[];

  constructor(handle: ModuleHandle, imports: readonly string[]) {
    this.handle = handle;
    this.imports = imports;
  }

  [Symbol.dispose](): void {
    this.handle[Symbol.dispose]();
  }
}

/** What of a host function is fixed for all runs: a linker is defined once. */
interface Defined {
  readonly key: string;
  readonly signature: string;
  readonly params: readonly ValueType[];
  readonly result: ValueType | undefined;
  readonly wasi: WasiFunction | undefined;
}

/** Files of the library, as `findLibrary` gives them. */
export interface LibraryFiles {
  readonly path: string;
  readonly libgccPath?: string | undefined;
}

const signatureOf = (f: { params: readonly ValueType[]; results: readonly ValueType[] }): string =>
  `${f.params}:${f.results}`;
const keyOf = (module: string, name: string): string => `${module}\0${name}`;

export class Engine implements Disposable {
  /** Version, configuration and target: native code of another fingerprint is refused. */
  readonly fingerprint = `wasmtime-${wasmtimeVersion}-${target}-${sha256(JSON.stringify(options)).slice(0, 12)}`;
  readonly #library: Wasmtime;
  readonly #engine: EngineHandle;
  readonly #linker: LinkerHandle;
  readonly #defined: Defined[] = [];
  readonly #known = new Map<string, Defined>();
  readonly #modules: Module[] = [];

  private constructor(library: Wasmtime, forCompiling: boolean) {
    this.#library = library;
    this.#engine = library.newEngine(options, forCompiling ? target : undefined);
    this.#linker = library.newLinker(this.#engine);
  }

  /** @throws {WasmtimeError} when the library cannot be loaded. */
  static open(files: LibraryFiles): Engine {
    return new Engine(Wasmtime.open(files.path, files.libgccPath), false);
  }

  /** An engine whose `compile` makes code for the oldest CPU of this architecture. */
  static forCompiling(files: LibraryFiles): Engine {
    return new Engine(Wasmtime.open(files.path, files.libgccPath), true);
  }

  /**
   * Native code of a module, for `load`. Takes a time that nothing bounds: for the build, or a child process with limits.
   *
   * @throws {ModuleError | WasmtimeError} for a module that is malformed or uses what the configuration leaves out.
   */
  compile(wasm: Uint8Array): Uint8Array {
    const imports = inspect(wasm).imports.map((item) => [item.module, item.name] as const);
    return encodeArtifact({ engine: this.fingerprint, imports, native: this.#library.compile(this.#engine, wasm) });
  }

  /** WebAssembly text to bytes, for tests. */
  assemble(text: string): Uint8Array {
    return this.#library.assemble(text);
  }

  /**
   * @param artifact What `compile` made. **Trusted**: it is native code, so it comes out of our own binary or from a
   * directory that only root writes, under a hash that was checked.
   * @throws {Error} when another engine made it.
   */
  load(artifact: Uint8Array): Module {
    const decoded = decodeArtifact(artifact);
    if (decoded?.engine !== this.fingerprint) {
      throw new Error(`compiled for engine "${decoded?.engine ?? "unknown"}", this is "${this.fingerprint}"`);
    }
    const imports = new Set(decoded.imports.map(([module, name]) => keyOf(module, name)));
    const module = new Module(this.#library.deserialize(this.#engine, decoded.native), [...imports]);
    this.#modules.push(module);
    return module;
  }

  /**
   * Runs a guest from `_start` to its end. A host function may call it again for another guest.
   *
   * @throws {Error} what a host function threw, unchanged; or when the module imports what is not offered.
   */
  run(request: RunRequest): RunOutcome {
    const run = new Run(request, this.#library);
    for (const key of request.module.imports) this.#define(key, run.functions.get(key));
    const end = this.#library.run({
      engine: this.#engine,
      linker: this.#linker,
      module: request.module.handle,
      memoryBytes: Math.min(request.limits.memoryBytes, maxMemoryBytes),
      onCall: (index, slots, memory) => run.call(this.#defined[index], slots, memory),
      onTick: () => run.tick(),
    });
    return run.outcome(end);
  }

  [Symbol.dispose](): void {
    for (const module of this.#modules) module[Symbol.dispose]();
    this.#linker[Symbol.dispose]();
    this.#engine[Symbol.dispose]();
    this.#library[Symbol.dispose]();
  }

  #define(key: string, offered: HostFunction | undefined): void {
    const known = this.#known.get(key);
    const [module = "", name = ""] = key.split("\0");
    if (known !== undefined) {
      if (known.wasi !== undefined || (offered !== undefined && signatureOf(offered) === known.signature)) return;
      throw new Error(`import ${module}.${name} is not offered as in the run before`);
    }
    const wasi = module === wasiModule ? wasiFunction(name) : undefined;
    const source = wasi ?? offered;
    if (source === undefined) throw new Error(`import ${module}.${name} is not offered`);
    this.#library.define(this.#linker, module, name, source.params, source.results);
    const defined = { key, signature: signatureOf(source), params: source.params, result: source.results[0], wasi };
    this.#defined.push(defined);
    this.#known.set(key, defined);
  }
}

/** The state of one run, from its start to its verdict. */
class Run {
  readonly functions: ReadonlyMap<string, HostFunction>;
  readonly #request: RunRequest;
  readonly #library: Wasmtime;
  readonly #wasi: Wasi;
  readonly #startMs = performance.now();
  readonly #startCpuMs: number;
  /** One instance has one memory, from its first call on. */
  #memory: GuestMemory | undefined;
  /** Spent inside host functions. */
  #hostCpuMs = 0;
  /** Spent inside host functions with deadlines of their own. */
  #ownDeadlineMs = 0;
  /** The first thing that ended the guest from our side; the trap that follows is only how it left. */
  #thrown: { readonly what: unknown } | undefined;

  constructor(request: RunRequest, library: Wasmtime) {
    this.#request = request;
    this.#library = library;
    this.functions = new Map(request.functions.map((f) => [keyOf(f.module, f.name), f]));
    this.#wasi = new Wasi({
      argv: [request.argv0],
      env: request.env,
      stdin: request.stdin,
      stdoutBytes: request.limits.stdoutBytes,
      stderrBytes: request.limits.stderrBytes,
      wallMs: request.limits.wallMs,
      remainingMs: () => request.limits.wallMs - this.#wallMs(),
      stopRequested: () => request.stopRequested?.() ?? false,
    });
    this.#startCpuMs = library.threadCpuMs();
  }

  /** Runs one import. @returns the text of the trap that ends the guest, or undefined. */
  call(defined: Defined | undefined, slots: DataView, raw: RawMemory): string | undefined {
    try {
      if (defined === undefined) throw new Error("an import without a definition was called");
      const args: (number | bigint)[] = [];
      let at = 0;
      for (const type of defined.params) {
        args.push(type === "i64" ? slots.getBigInt64(at, true) : slots.getInt32(at, true));
        at += 16;
      }
      this.#memory ??= guestMemory(raw);
      const memory = this.#memory;
      const result = defined.wasi
        ? defined.wasi.body(this.#wasi, memory, args)
        : this.#callHost(defined.key, memory, args);
      if (defined.result === "i64") slots.setBigInt64(0, BigInt(result ?? 0), true);
      else if (defined.result === "i32") slots.setInt32(0, Number(result ?? 0), true);
      return undefined;
    } catch (thrown) {
      this.#thrown ??= { what: thrown };
      return thrown instanceof Error ? thrown.message : String(thrown);
    }
  }

  #callHost(key: string, memory: GuestMemory, args: readonly (number | bigint)[]): number | bigint | undefined {
    const host = this.functions.get(key);
    if (host === undefined) throw new Error(`import ${key.replace("\0", ".")} is not offered`);
    const cpu = this.#library.threadCpuMs();
    const wall = performance.now();
    try {
      return host.run(memory, args);
    } finally {
      this.#hostCpuMs += this.#library.threadCpuMs() - cpu;
      if (host.ownDeadline === true) this.#ownDeadlineMs += performance.now() - wall;
    }
  }

  /** @returns why the guest must end now, or undefined. */
  tick(): string | undefined {
    const { limits, stopRequested } = this.#request;
    const fault =
      stopRequested?.() === true
        ? new GuestFault("stopped", "asked to stop")
        : this.#cpuMs() >= limits.cpuMs
          ? new GuestFault("cpu", `more than ${limits.cpuMs} ms of CPU time`)
          : this.#wallMs() >= limits.wallMs
            ? new GuestFault("wall", `more than ${limits.wallMs} ms`)
            : undefined;
    if (fault === undefined) return undefined;
    this.#thrown ??= { what: fault };
    return fault.message;
  }

  #cpuMs(): number {
    return this.#library.threadCpuMs() - this.#startCpuMs - this.#hostCpuMs;
  }

  #wallMs(): number {
    return performance.now() - this.#startMs - this.#ownDeadlineMs;
  }

  outcome(end: GuestEnd): RunOutcome {
    const output = { stdout: this.#wasi.stdout.bytes(), stderr: this.#wasi.stderr.bytes() };
    if (this.#thrown !== undefined) {
      const { what } = this.#thrown;
      if (what instanceof GuestExit) return { exit: what.code, ...output };
      if (what instanceof GuestFault) return { fault: what.fault, detail: what.message, ...output };
      throw what;
    }
    if (end.is === "returned") return { exit: 0, ...output };
    return { fault: this.#isMemory(end) ? "memory" : "trap", detail: oneLine(end.message), ...output };
  }

  /**
   * The library tells nobody that a growth was refused; the guest sees -1, and most allocators then trap. So a module
   * that starts above the limit, or reaches unreachable code with more than half of it in use, is said to have met it.
   */
  #isMemory(end: GuestEnd): boolean {
    if (end.is === "failed") return end.message.includes("exceeds memory limits");
    const limit = Math.min(this.#request.limits.memoryBytes, maxMemoryBytes);
    return end.is === "trapped" && end.code === trapCode.unreachableCodeReached && end.memoryBytes > limit / 2;
  }
}

/** The library's message without its line breaks; the cause comes last in it, so both ends are kept. */
function oneLine(message: string): string {
  const text = message.trim().replace(/\s*\n\s*/g, "; ");
  if (text.length <= detailLength) return text;
  return `${text.slice(0, detailLength / 2)} … ${text.slice(-detailLength / 2)}`;
}

/** How long after a limit a guest may still run: one period of the timer, and its own way to the next check. */
export const graceMs = 5 * tickMs;

/**
 * wasmtime's C library. All memory that C and JavaScript share for the engine is touched in this file; what it exports
 * can be used wrongly, but not so that memory is read or written out of bounds.
 *
 * Memory of a guest is never seen through a view: bytes are copied in and out, each time against the size that the
 * memory has then, because a guest that grows its memory may move it.
 */
import { dlopen, FFIType, JSCallback, type Pointer } from "bun:ffi";
import { Owned } from "../base/owned.ts";
import { LoaderError, loadShared, symbolOf } from "./shared-object.ts";
import { compileSymbols, kind, layout, runSymbols, wasmtimeVersion } from "./wasmtime-layout.generated.ts";

export { trapCode, wasmtimeVersion } from "./wasmtime-layout.generated.ts";

/** Number types of WebAssembly that cross the boundary. */
export type ValueType = "i32" | "i64";

/** One option of the engine: what follows `wasmtime_config_` and precedes `_set`, and its value. */
export type EngineOption = readonly [name: OptionName, value: boolean | number];
type OptionName = {
  [K in keyof typeof runSymbols]: K extends `wasmtime_config_${infer Name}_set` ? Name : never;
}[keyof typeof runSymbols];

/** The library refused something: a module that does not validate, an artefact of another version, a failed import. */
export class WasmtimeError extends Error {
  override readonly name = "WasmtimeError";
}

/** Bytes of the guest that is on the stack. Both answer false or undefined for a range outside its memory. */
export interface RawMemory {
  read(offset: number, length: number): Uint8Array | undefined;
  write(offset: number, bytes: Uint8Array): boolean;
}

/**
 * One import called by a guest.
 *
 * @param slots Argument n is at byte 16 n, little-endian; a result goes to byte 0.
 * @returns undefined to go on, else the text of a trap.
 */
export type OnCall = (index: number, slots: DataView, memory: RawMemory) => string | undefined;

export interface GuestRun {
  readonly engine: EngineHandle;
  readonly linker: LinkerHandle;
  readonly module: ModuleHandle;
  readonly memoryBytes: number;
  readonly onCall: OnCall;
  /** Called about every `tickMs` while the guest itself runs. Answers undefined to go on, else why it must stop. */
  readonly onTick: () => string | undefined;
}

export type GuestEnd = { readonly memoryBytes: number } & (
  | { readonly is: "returned" }
  /** `code` is absent for a trap that the host asked for. */
  | { readonly is: "trapped"; readonly code?: number; readonly message: string }
  /** Not instantiated, or stopped by `onTick`. */
  | { readonly is: "failed"; readonly message: string }
);

/** Each is released with `using`; an engine's memory stays until the process ends (see `newEngine`). */
export type EngineHandle = Owned<EngineState>;
export type ModuleHandle = Owned<Pointer>;
export type LinkerHandle = Owned<LinkerState>;
/** What a C function that answers an address gives in Bun. */
type AnyPointer = Pointer | bigint | null;
interface EngineState {
  readonly raw: Pointer;
  /** Created at the first run. */
  timer: bigint | undefined;
}
interface LinkerState {
  readonly raw: Pointer;
  /** By index: whether the import has a result. */
  readonly hasResult: boolean[];
  readonly types: Map<string, Pointer>;
}
interface Running {
  readonly run: GuestRun;
  readonly context: Pointer;
  readonly memory: InstanceMemory;
}

/** Period of the timer that advances the engine's epoch while a guest runs. */
export const tickMs = 10;

const CLOCK_MONOTONIC = 1;
const CLOCK_THREAD_CPUTIME_ID = 3;
const SIGEV_THREAD = 2;
const MAX_SLOTS = 16;
const MESSAGE_BYTES = 2048;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const cstring = (text: string): Uint8Array => encoder.encode(`${text}\0`);
const address = (cell: BigUint64Array): Pointer => Number(cell[0]) as Pointer;
const memoryName = encoder.encode("memory");
const startName = encoder.encode("_start");

const libcTable = {
  // int timer_create(clockid_t clock, struct sigevent *event, timer_t *id)
  timer_create: { args: ["i32", "buffer", "buffer"], returns: "i32" },
  // int timer_settime(timer_t id, int flags, const struct itimerspec *new, struct itimerspec *old)
  timer_settime: { args: ["u64", "i32", "buffer", "ptr"], returns: "i32" },
  // int timer_delete(timer_t id)
  timer_delete: { args: ["u64"], returns: "i32" },
  // int clock_gettime(clockid_t clock, struct timespec *time)
  clock_gettime: { args: ["i32", "buffer"], returns: "i32" },
  // Copies bytes; two names for it, so that each direction has one side that is a buffer of ours.
  memcpy: { args: ["buffer", "ptr", "u64"], returns: "ptr" },
  memmove: { args: ["ptr", "buffer", "u64"], returns: "ptr" },
} as const;

const openLibc = () => dlopen("libc.so.6", libcTable).symbols;
type Libc = ReturnType<typeof openLibc>;
const openRunLibrary = (path: string) => dlopen(path, runSymbols).symbols;
type RunLibrary = ReturnType<typeof openRunLibrary>;

/** The memory of one instance. It has no bytes before the instance exists for us, nor after its run. */
class InstanceMemory implements RawMemory {
  /** Of the call that is going on. */
  caller: Pointer | undefined;
  readonly #c: RunLibrary;
  readonly #libc: Libc;
  readonly #context: Pointer;
  /** `wasmtime_memory_t`, once known. */
  #memory: Uint8Array | undefined;

  constructor(c: RunLibrary, libc: Libc, context: Pointer) {
    this.#c = c;
    this.#libc = libc;
    this.#context = context;
  }

  read(offset: number, length: number): Uint8Array | undefined {
    const at = this.#locate(offset, length);
    if (at === undefined) return undefined;
    const bytes = new Uint8Array(length);
    if (length > 0) this.#libc.memcpy(bytes, at, length);
    return bytes;
  }

  write(offset: number, bytes: Uint8Array): boolean {
    const at = this.#locate(offset, bytes.length);
    if (at === undefined) return false;
    if (bytes.length > 0) this.#libc.memmove(at, bytes, bytes.length);
    return true;
  }

  /** In bytes; 0 while unknown. */
  get size(): number {
    return this.#memory === undefined ? 0 : Number(this.#c.wasmtime_memory_data_size(this.#context, this.#memory));
  }

  /** @param item A `wasmtime_extern_t`, which is taken when it is a memory. */
  keep(item: Uint8Array): void {
    if (item[layout.wasmtime_extern.kind] !== kind.WASMTIME_EXTERN_MEMORY) return;
    this.#memory = item.slice(layout.wasmtime_extern.of, layout.wasmtime_extern.of + layout.wasmtime_memory.bytes);
  }

  end(): void {
    this.#memory = undefined;
    this.caller = undefined;
  }

  #locate(offset: number, length: number): Pointer | undefined {
    if (this.#memory === undefined) this.#find();
    if (this.#memory === undefined || offset < 0 || length < 0 || offset + length > this.size) return undefined;
    return (Number(this.#c.wasmtime_memory_data(this.#context, this.#memory)) + offset) as Pointer;
  }

  /** While a module's start function runs, its instance does not exist for us yet: then the caller knows it. */
  #find(): void {
    if (this.caller === undefined) return;
    const item = new Uint8Array(layout.wasmtime_extern.bytes);
    if (this.#c.wasmtime_caller_export_get(this.caller, memoryName, memoryName.length, item)) this.keep(item);
  }
}

/** One loaded library, its two callbacks and the guests on the stack. */
export class Wasmtime implements Disposable {
  readonly #libc = openLibc();
  readonly #path: string;
  readonly #tickFunction: Pointer;
  readonly #c: RunLibrary;
  readonly #call: JSCallback;
  readonly #tick: JSCallback;
  /** Innermost last: a host function may run another guest. */
  readonly #running: Running[] = [];
  #compiler: ReturnType<typeof openCompiler> | undefined;
  #linker: LinkerState | undefined;
  readonly #slots = new DataView(new ArrayBuffer(MAX_SLOTS * 16));
  readonly #out = new BigUint64Array(1);
  readonly #vector = new BigUint64Array(2);
  /** `struct timespec`, of which the lower halves of both 64-bit numbers matter. */
  readonly #time = new Uint32Array(4);

  private constructor(path: string, tickFunction: Pointer) {
    this.#path = path;
    this.#tickFunction = tickFunction;
    this.#c = openRunLibrary(path);
    // The fast integer types arrive as numbers: an index and a count of slots, both small.
    this.#call = new JSCallback((index, caller, slots, count) => this.#onCall(index, caller, slots, count), {
      args: [FFIType.u64_fast, "ptr", "ptr", FFIType.u64_fast],
      returns: "ptr",
    });
    this.#tick = new JSCallback((_context, _data, delta, kind) => this.#onTick(delta, kind), {
      args: ["ptr", "ptr", "ptr", "ptr"],
      returns: "ptr",
    });
  }

  /**
   * Loads the library. There is no way back: neither it nor what it made global is ever unloaded.
   *
   * @param libgccPath Loaded first and made global, so that the system needs no libgcc_s of its own.
   * @throws {LoaderError}
   */
  static open(path: string, libgccPath: string | undefined): Wasmtime {
    if (libgccPath !== undefined) loadShared(libgccPath, { global: true });
    const tick = symbolOf(loadShared(path), "wasmtime_engine_increment_epoch");
    if (tick === undefined) throw new LoaderError(`${path} is not wasmtime ${wasmtimeVersion}`);
    return new Wasmtime(path, tick);
  }

  /**
   * @param target Compiles for this target's baseline CPU; undefined for an engine that only runs.
   *
   * Releasing it stops its timer and keeps its memory: a thread that the timer started before may still be about to
   * count on it, and nobody can wait for that thread.
   */
  newEngine(options: readonly EngineOption[], target?: string): EngineHandle {
    const config = notNull(this.#c.wasm_config_new(), "wasm_config_new");
    for (const [name, value] of options) {
      // Every setter takes the configuration and one number or boolean; the names come from the same table.
      const set: (config: Pointer, value: never) => void = this.#c[`wasmtime_config_${name}_set`];
      set(config, value as never);
    }
    if (target !== undefined) this.#check(this.#compile.wasmtime_config_target_set(config, cstring(target)));
    const raw = notNull(this.#c.wasm_engine_new_with_config(config), "wasm_engine_new_with_config");
    return new Owned<EngineState>("engine", { raw, timer: undefined }, (engine) => {
      if (engine.timer !== undefined) this.#libc.timer_delete(engine.timer);
    });
  }

  /** @throws {WasmtimeError} for text that is not WebAssembly in text form. For tests. */
  assemble(text: string): Uint8Array {
    const source = encoder.encode(text);
    return this.#takeBytes((vector) => this.#check(this.#compile.wasmtime_wat2wasm(source, source.length, vector)));
  }

  /** Native code of a module, in the library's own format. @throws {WasmtimeError} when it does not validate. */
  compile(engine: EngineHandle, wasm: Uint8Array): Uint8Array {
    this.#check(this.#compile.wasmtime_module_new(engine.raw.raw, wasm, wasm.length, this.#out));
    const module = address(this.#out);
    try {
      return this.#takeBytes((vector) => this.#check(this.#compile.wasmtime_module_serialize(module, vector)));
    } finally {
      this.#c.wasmtime_module_delete(module);
    }
  }

  /**
   * What `compile` made, ready to run. **The bytes are native code and are trusted**: one flipped bit can do anything.
   *
   * @throws {WasmtimeError} when they come from another version or another configuration.
   */
  deserialize(engine: EngineHandle, bytes: Uint8Array): ModuleHandle {
    this.#check(this.#c.wasmtime_module_deserialize(engine.raw.raw, bytes, bytes.length, this.#out));
    return new Owned("module", address(this.#out), (module) => this.#c.wasmtime_module_delete(module));
  }

  newLinker(engine: EngineHandle): LinkerHandle {
    const raw = notNull(this.#c.wasmtime_linker_new(engine.raw.raw), "wasmtime_linker_new");
    return new Owned<LinkerState>("linker", { raw, hasResult: [], types: new Map() }, (linker) => {
      for (const type of linker.types.values()) this.#c.wasm_functype_delete(type);
      this.#c.wasmtime_linker_delete(linker.raw);
    });
  }

  /** Defines an import for every guest of the linker. @returns the index that `onCall` gets. */
  define(
    linker: LinkerHandle,
    module: string,
    name: string,
    params: readonly ValueType[],
    results: readonly ValueType[],
  ): number {
    if (params.length > MAX_SLOTS || results.length > 1) throw new RangeError(`${module}.${name} has too many values`);
    const { raw, hasResult, types } = linker.raw;
    const key = `${params.join()}:${results.join()}`;
    let type = types.get(key);
    if (type === undefined) {
      // Takes over both vectors, whose storage the library allocated itself.
      type = notNull(
        this.#c.wasm_functype_new(this.#valueTypes(params), this.#valueTypes(results)),
        "wasm_functype_new",
      );
      types.set(key, type);
    }
    const index = hasResult.length;
    const moduleBytes = encoder.encode(module);
    const nameBytes = encoder.encode(name);
    this.#check(
      this.#c.wasmtime_linker_define_func_unchecked(
        raw,
        moduleBytes,
        moduleBytes.length,
        nameBytes,
        nameBytes.length,
        type,
        notNull(this.#call.ptr, "callback"),
        index as Pointer,
        null,
      ),
    );
    hasResult.push(results.length === 1);
    return index;
  }

  /** CPU time of this thread. */
  threadCpuMs(): number {
    this.#libc.clock_gettime(CLOCK_THREAD_CPUTIME_ID, this.#time);
    return (this.#time[0] ?? 0) * 1000 + (this.#time[2] ?? 0) / 1e6;
  }

  /** Gives up the callbacks: no guest may run after. */
  [Symbol.dispose](): void {
    this.#call.close();
    this.#tick.close();
  }

  /** Instantiates a module, calls its `_start`, and throws the instance away. */
  run(run: GuestRun): GuestEnd {
    const c = this.#c;
    const engine = run.engine.raw;
    const store = notNull(c.wasmtime_store_new(engine.raw, null, null), "wasmtime_store_new");
    const context = notNull(c.wasmtime_store_context(store), "wasmtime_store_context");
    const running: Running = { run, context, memory: new InstanceMemory(c, this.#libc, context) };
    const outerLinker = this.#linker;
    this.#linker = run.linker.raw;
    this.#running.push(running);
    try {
      // One instance, one memory; tables hold function references only.
      c.wasmtime_store_limiter(store, run.memoryBytes, 65_536, 1, 4, 1);
      c.wasmtime_store_epoch_deadline_callback(store, notNull(this.#tick.ptr, "callback"), null, null);
      c.wasmtime_context_set_epoch_deadline(context, 1);
      if (this.#running.length === 1) this.#arm(engine, tickMs);
      const instance = new Uint8Array(layout.wasmtime_instance.bytes);
      const trap = new BigUint64Array(1);
      const failed =
        this.#end(
          running,
          c.wasmtime_linker_instantiate(run.linker.raw.raw, context, run.module.raw, instance, trap),
          trap,
        ) ?? this.#start(running, instance, trap);
      return failed ?? { is: "returned", memoryBytes: running.memory.size };
    } finally {
      running.memory.end();
      this.#running.pop();
      this.#linker = outerLinker;
      c.wasmtime_store_delete(store);
      if (this.#running.length === 0 && engine.timer !== undefined) this.#arm(engine, 0);
    }
  }

  #start(running: Running, instance: Uint8Array, trap: BigUint64Array): GuestEnd | undefined {
    const item = new Uint8Array(layout.wasmtime_extern.bytes);
    if (this.#c.wasmtime_instance_export_get(running.context, instance, memoryName, memoryName.length, item)) {
      running.memory.keep(item);
    }
    const found = this.#c.wasmtime_instance_export_get(running.context, instance, startName, startName.length, item);
    if (!found || item[layout.wasmtime_extern.kind] !== kind.WASMTIME_EXTERN_FUNC) {
      return { is: "failed", message: "the module exports no function _start", memoryBytes: 0 };
    }
    const start = item.subarray(layout.wasmtime_extern.of);
    // The library writes results over the arguments: none of either, but the address must be good.
    const error = this.#c.wasmtime_func_call_unchecked(running.context, start, this.#vector, 0, trap);
    return this.#end(running, error, trap);
  }

  #end(running: Running, error: AnyPointer, trap: BigUint64Array): GuestEnd | undefined {
    if (error !== null) {
      return { is: "failed", message: this.#errorMessage(error), memoryBytes: running.memory.size };
    }
    if (trap[0] === 0n) return undefined;
    const raw = address(trap);
    const code = new Uint8Array(1);
    const known = this.#c.wasmtime_trap_code(raw, code);
    const message = this.#takeText((vector) => this.#c.wasm_trap_message(raw, vector));
    this.#c.wasm_trap_delete(raw);
    const end = { is: "trapped", message, memoryBytes: running.memory.size } as const;
    return known && code[0] !== undefined ? { ...end, code: code[0] } : end;
  }

  /** Called by C. Nothing may be thrown from here: it would surface only after the guest has gone on. */
  #onCall(index: number, caller: Pointer, slots: Pointer, count: number): AnyPointer {
    let trap: string | undefined;
    try {
      const running = this.#running[this.#running.length - 1];
      const linker = this.#linker;
      if (running === undefined || linker === undefined || count > MAX_SLOTS) return this.#trap("no guest runs");
      // A call within a call has slots of its own.
      const own = this.#running.length === 1 ? this.#slots : new DataView(new ArrayBuffer(MAX_SLOTS * 16));
      if (count > 0) this.#libc.memcpy(own, slots, count * 16);
      running.memory.caller = caller;
      trap = running.run.onCall(index, own, running.memory);
      if (trap === undefined && linker.hasResult[index] === true) this.#libc.memmove(slots, own, 8);
    } catch (thrown) {
      trap = String(thrown);
    }
    return trap === undefined ? null : this.#trap(trap);
  }

  /** Called by C when the epoch has advanced while guest code ran. */
  #onTick(delta: Pointer, updateKind: Pointer): AnyPointer {
    let why: string | undefined;
    try {
      why = this.#running.at(-1)?.run.onTick();
    } catch (thrown) {
      why = String(thrown);
    }
    if (why !== undefined) return this.#c.wasmtime_error_new(cstring(why));
    this.#libc.memmove(delta, new BigUint64Array([1n]), 8);
    this.#libc.memmove(updateKind, new Uint8Array(1), 1); // WASMTIME_UPDATE_DEADLINE_CONTINUE
    return null;
  }

  #trap(text: string): AnyPointer {
    const message = encoder.encode(text);
    return this.#c.wasmtime_trap_new(message.length === 0 ? memoryName : message, message.length);
  }

  /**
   * Starts or (0) stops the timer. Each expiry runs `wasmtime_engine_increment_epoch(engine)` in a thread of libc's, with
   * no JavaScript in it. A timer that cannot be had is an error: the guest would be unbounded.
   */
  #arm(engine: EngineState, periodMs: number): void {
    engine.timer ??= this.#newTimer(engine.raw);
    const spec = new BigInt64Array(4); // struct itimerspec: interval, then first expiry; seconds, nanoseconds
    spec[1] = spec[3] = BigInt(periodMs) * 1_000_000n;
    if (this.#libc.timer_settime(engine.timer, 0, spec, null) !== 0) throw new WasmtimeError("timer_settime failed");
  }

  #newTimer(engine: Pointer): bigint {
    const event = new DataView(new ArrayBuffer(64)); // struct sigevent
    event.setBigUint64(0, BigInt(engine), true); // sigev_value
    event.setInt32(12, SIGEV_THREAD, true); // sigev_notify
    event.setBigUint64(16, BigInt(this.#tickFunction), true); // sigev_notify_function
    const id = new BigUint64Array(1);
    if (this.#libc.timer_create(CLOCK_MONOTONIC, new Uint8Array(event.buffer), id) !== 0) {
      throw new WasmtimeError("timer_create failed: the system's limit of pending signals is reached");
    }
    return id[0] ?? 0n;
  }

  get #compile() {
    this.#compiler ??= openCompiler(this.#path);
    return this.#compiler;
  }

  #valueTypes(types: readonly ValueType[]): Uint8Array {
    const handles = new BigUint64Array(Math.max(1, types.length));
    types.forEach((type, i) => {
      const raw = this.#c.wasm_valtype_new(type === "i64" ? kind.WASM_I64 : kind.WASM_I32);
      handles[i] = BigInt(notNull(raw, "wasm_valtype_new"));
    });
    const vector = new Uint8Array(layout.wasm_valtype_vec_t.bytes);
    this.#c.wasm_valtype_vec_new(vector, types.length, handles);
    return vector;
  }

  #check(error: AnyPointer): void {
    if (error !== null) throw new WasmtimeError(this.#errorMessage(error));
  }

  #errorMessage(raw: AnyPointer): string {
    const error = notNull(raw, "error");
    const message = this.#takeText((vector) => this.#c.wasmtime_error_message(error, vector));
    this.#c.wasmtime_error_delete(error);
    return message;
  }

  /** Text of the library's, shortened, without the zero byte that some end with. */
  #takeText(fill: (vector: BigUint64Array) => void): string {
    const bytes = this.#takeBytes(fill, MESSAGE_BYTES);
    return decoder.decode(bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes);
  }

  /** A copy of a `wasm_byte_vec_t` that the library fills, which is then released. */
  #takeBytes(fill: (vector: BigUint64Array) => void, atMost = Number.POSITIVE_INFINITY): Uint8Array {
    const vector = new BigUint64Array(2); // size, data
    fill(vector);
    const bytes = new Uint8Array(Math.min(Number(vector[0]), atMost));
    if (bytes.length > 0) this.#libc.memcpy(bytes, Number(vector[1]) as Pointer, bytes.length);
    this.#c.wasm_byte_vec_delete(vector);
    return bytes;
  }
}

function openCompiler(path: string) {
  return dlopen(path, compileSymbols).symbols;
}

/** Addresses in user space are below 2^48, so a number holds them. */
function notNull(pointer: AnyPointer, call: string): Pointer {
  if (pointer === null) throw new WasmtimeError(`${call} failed`);
  return Number(pointer) as Pointer;
}

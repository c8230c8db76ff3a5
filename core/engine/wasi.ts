/**
 * The part of WASI preview 1 that a CNI plugin needs: arguments, environment, clocks, random numbers, stdin, stdout,
 * stderr, sleeping, and the exit code. There are no files and no sockets. Every other function of preview 1 exists and
 * answers an error number, because the start-up code of Go, C and Rust imports them without needing them.
 *
 * Source: wasi_snapshot_preview1.witx
 */
import type { ValueType } from "../sys/wasmtime.ts";
import { GuestFault } from "./fault.ts";
import type { GuestMemory } from "./memory.ts";

export const wasiModule = "wasi_snapshot_preview1";

const SUCCESS = 0;
const BADF = 8;
const INVAL = 28;
const NOSYS = 52;
const SPIPE = 70;

const MAX_IOVECS = 1024;
const MAX_SUBSCRIPTIONS = 64;
const MAX_RANDOM_BYTES = 1 << 20;
const SLEEP_SLICE_MS = 20;

/** How the guest ended itself, by `proc_exit`. */
export class GuestExit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

/** Bytes that a guest wrote to one descriptor, up to a limit. */
class Sink {
  readonly #name: string;
  readonly #maxBytes: number;
  readonly #chunks: Uint8Array[] = [];
  #length = 0;

  constructor(name: string, maxBytes: number) {
    this.#name = name;
    this.#maxBytes = maxBytes;
  }

  /** @throws {GuestFault} `output` when it would hold more than its limit. */
  reserve(bytes: number): void {
    this.#length += bytes;
    if (this.#length > this.#maxBytes)
      throw new GuestFault("output", `more than ${this.#maxBytes} bytes on ${this.#name}`);
  }

  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
  }

  bytes(): Uint8Array {
    const [first] = this.#chunks;
    if (first === undefined) return new Uint8Array(0);
    return this.#chunks.length === 1 ? first : new Uint8Array(Buffer.concat(this.#chunks));
  }
}

export interface WasiInput {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Uint8Array;
  readonly stdoutBytes: number;
  readonly stderrBytes: number;
  /** The run's wall time, and what is left of it. */
  readonly wallMs: number;
  readonly remainingMs: () => number;
  readonly stopRequested: () => boolean;
}

const encoder = new TextEncoder();
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

function u32(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const words = view(bytes);
  for (const [i, value] of values.entries()) words.setUint32(i * 4, value, true);
  return bytes;
}
function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  view(bytes).setBigUint64(0, value, true);
  return bytes;
}

/** Nanoseconds of clock 0 (real time) or 1 (monotonic); others do not exist here. */
function clockNs(id: number): bigint | undefined {
  if (id === 0) return BigInt(Date.now()) * 1_000_000n;
  return id === 1 ? BigInt(Math.round(performance.now() * 1e6)) : undefined;
}

/** One run's side of WASI. */
export class Wasi {
  readonly stdout: Sink;
  readonly stderr: Sink;
  readonly #input: WasiInput;
  #arguments: readonly Uint8Array[] | undefined;
  #environment: readonly Uint8Array[] | undefined;
  #read = 0;

  constructor(input: WasiInput) {
    this.#input = input;
    this.stdout = new Sink("stdout", input.stdoutBytes);
    this.stderr = new Sink("stderr", input.stderrBytes);
  }

  get arguments(): readonly Uint8Array[] {
    this.#arguments ??= this.#input.argv.map((text) => encoder.encode(`${text}\0`));
    return this.#arguments;
  }

  get environment(): readonly Uint8Array[] {
    this.#environment ??= Object.entries(this.#input.env).map(([key, value]) => encoder.encode(`${key}=${value}\0`));
    return this.#environment;
  }

  /** `fd_read` and `fd_write`: each iovec is an offset and a length, both 32 bits. */
  transfer(memory: GuestMemory, fd: number, iovecs: number, count: number, done: number, write: boolean): number {
    const sink = fd === 1 ? this.stdout : fd === 2 ? this.stderr : undefined;
    if (write ? sink === undefined : fd !== 0) return BADF;
    if (count >>> 0 > MAX_IOVECS) return INVAL;
    const list = view(memory.read(iovecs, count * 8));
    let total = 0;
    for (let i = 0; i < count; i++) {
      const offset = list.getUint32(i * 8, true);
      const length = list.getUint32(i * 8 + 4, true);
      if (sink !== undefined) {
        sink.reserve(length);
        sink.push(memory.read(offset, length));
        total += length;
      } else {
        const bytes = this.#input.stdin.subarray(this.#read, this.#read + length);
        memory.write(offset, bytes);
        this.#read += bytes.length;
        total += bytes.length;
        if (bytes.length < length) break;
      }
    }
    memory.write(done, u32(total));
    return SUCCESS;
  }

  /** Waits for the earliest clock. Other subscriptions are ready at once, with EBADF as their error. */
  poll(memory: GuestMemory, input: number, output: number, count: number, done: number): number {
    if (count <= 0 || count > MAX_SUBSCRIPTIONS) return INVAL;
    const subscriptions = memory.read(input, count * 48);
    const list = view(subscriptions);
    const waits: number[] = [];
    for (let at = 0; at < subscriptions.length; at += 48) {
      if (subscriptions[at + 8] !== 0) {
        waits.push(0);
        continue;
      }
      let timeout = list.getBigUint64(at + 24, true);
      if ((list.getUint16(at + 40, true) & 1) === 1) {
        const now = clockNs(list.getUint32(at + 16, true));
        if (now === undefined) return INVAL;
        timeout = timeout > now ? timeout - now : 0n;
      }
      waits.push(Number(timeout) / 1e6);
    }
    const shortest = Math.min(...waits);
    this.#sleep(shortest);
    const events = new Uint8Array(count * 32);
    let ready = 0;
    waits.forEach((wait, i) => {
      if (wait > shortest) return;
      const type = subscriptions[i * 48 + 8] ?? 0;
      events.set(subscriptions.subarray(i * 48, i * 48 + 8), ready * 32);
      view(events).setUint16(ready * 32 + 8, type === 0 ? SUCCESS : BADF, true);
      events[ready * 32 + 10] = type;
      ready++;
    });
    memory.write(output, events.subarray(0, ready * 32));
    memory.write(done, u32(ready));
    return SUCCESS;
  }

  /** @throws {GuestFault} `wall` when the run's time ends first, `stopped` within one slice of the request. */
  #sleep(ms: number): void {
    const until = performance.now() + ms;
    for (let left = ms; left > 0; left = until - performance.now()) {
      const remaining = this.#input.remainingMs();
      if (this.#input.stopRequested()) throw new GuestFault("stopped", "asked to stop");
      if (remaining <= 0) throw new GuestFault("wall", `more than ${this.#input.wallMs} ms, asleep at the end`);
      Bun.sleepSync(Math.min(left, remaining, SLEEP_SLICE_MS));
    }
  }
}

function putList(memory: GuestMemory, list: readonly Uint8Array[], pointers: number, texts: number): number {
  let at = texts >>> 0;
  const offsets = list.map((text) => {
    const offset = at;
    at += text.length;
    return offset;
  });
  memory.write(pointers, u32(...offsets));
  memory.write(texts, new Uint8Array(Buffer.concat(list)));
  return SUCCESS;
}

function putSizes(memory: GuestMemory, list: readonly Uint8Array[], count: number, bytes: number): number {
  memory.write(count, u32(list.length));
  memory.write(bytes, u32(list.reduce((sum, text) => sum + text.length, 0)));
  return SUCCESS;
}

function putRandom(memory: GuestMemory, offset: number, length: number): number {
  if (length >>> 0 > MAX_RANDOM_BYTES) return INVAL;
  const bytes = new Uint8Array(length >>> 0);
  for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  memory.write(offset, bytes);
  return SUCCESS;
}

type Args = readonly (number | bigint)[];
type Body = (wasi: Wasi, memory: GuestMemory, args: Args) => number;
export interface WasiFunction {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
  readonly body: Body;
}

/** Argument n, which the signature says is an i32. */
const n = (args: Args, index: number): number => Number(args[index]);
const isStdio = (fd: number): boolean => fd >= 0 && fd <= 2;

const served: Readonly<Record<string, Body>> = {
  args_get: (w, m, a) => putList(m, w.arguments, n(a, 0), n(a, 1)),
  args_sizes_get: (w, m, a) => putSizes(m, w.arguments, n(a, 0), n(a, 1)),
  environ_get: (w, m, a) => putList(m, w.environment, n(a, 0), n(a, 1)),
  environ_sizes_get: (w, m, a) => putSizes(m, w.environment, n(a, 0), n(a, 1)),
  clock_res_get: (_, m, a) => {
    if (clockNs(n(a, 0)) === undefined) return INVAL;
    m.write(n(a, 1), u64(1_000_000n));
    return SUCCESS;
  },
  clock_time_get: (_, m, a) => {
    const now = clockNs(n(a, 0));
    if (now === undefined) return INVAL;
    m.write(n(a, 2), u64(now));
    return SUCCESS;
  },
  fd_read: (w, m, a) => w.transfer(m, n(a, 0), n(a, 1), n(a, 2), n(a, 3), false),
  fd_write: (w, m, a) => w.transfer(m, n(a, 0), n(a, 1), n(a, 2), n(a, 3), true),
  fd_seek: (_w, _m, a) => (isStdio(n(a, 0)) ? SPIPE : BADF),
  fd_tell: (_w, _m, a) => (isStdio(n(a, 0)) ? SPIPE : BADF),
  poll_oneoff: (w, m, a) => w.poll(m, n(a, 0), n(a, 1), n(a, 2), n(a, 3)),
  proc_exit: (_w, _m, a) => {
    throw new GuestExit(n(a, 0) >>> 0);
  },
  random_get: (_, m, a) => putRandom(m, n(a, 0), n(a, 1)),
  sched_yield: () => SUCCESS,
};

/** Parameters of every function of preview 1: `i` for i32, `I` for i64. All but `proc_exit` answer an i32. */
const signatures: Readonly<Record<string, string>> = {
  args_get: "ii",
  args_sizes_get: "ii",
  clock_res_get: "ii",
  clock_time_get: "iIi",
  environ_get: "ii",
  environ_sizes_get: "ii",
  fd_advise: "iIIi",
  fd_allocate: "iII",
  fd_close: "i",
  fd_datasync: "i",
  fd_fdstat_get: "ii",
  fd_fdstat_set_flags: "ii",
  fd_fdstat_set_rights: "iII",
  fd_filestat_get: "ii",
  fd_filestat_set_size: "iI",
  fd_filestat_set_times: "iIIi",
  fd_pread: "iiiIi",
  fd_prestat_dir_name: "iii",
  fd_prestat_get: "ii",
  fd_pwrite: "iiiIi",
  fd_read: "iiii",
  fd_readdir: "iiiIi",
  fd_renumber: "ii",
  fd_seek: "iIii",
  fd_sync: "i",
  fd_tell: "ii",
  fd_write: "iiii",
  path_create_directory: "iii",
  path_filestat_get: "iiiii",
  path_filestat_set_times: "iiiiIIi",
  path_link: "iiiiiii",
  path_open: "iiiiiIIii",
  path_readlink: "iiiiii",
  path_remove_directory: "iii",
  path_rename: "iiiiii",
  path_symlink: "iiiii",
  path_unlink_file: "iii",
  poll_oneoff: "iiii",
  proc_exit: "i",
  proc_raise: "i",
  random_get: "ii",
  sched_yield: "",
  sock_accept: "iii",
  sock_recv: "iiiiii",
  sock_send: "iiiii",
  sock_shutdown: "ii",
};

/** What a function does that is not served: there is no such descriptor, or no such thing at all. */
const unserved = (name: string): Body => (/^(fd|path|sock)_/.test(name) ? () => BADF : () => NOSYS);

/** A function of preview 1, or undefined when it has none of that name. */
export function wasiFunction(name: string): WasiFunction | undefined {
  const signature = Object.hasOwn(signatures, name) ? signatures[name] : undefined;
  if (signature === undefined) return undefined;
  return {
    params: [...signature].map((letter) => (letter === "I" ? "i64" : "i32")),
    results: name === "proc_exit" ? [] : ["i32"],
    body: served[name] ?? unserved(name),
  };
}

/** Every function of preview 1, for the check of a module before it is installed. */
export const wasiNames: readonly string[] = Object.keys(signatures);

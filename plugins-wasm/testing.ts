/**
 * Runs guests in tests: Bun's own WebAssembly, and a host that answers from a script. What a guest asks for is checked
 * against the call table, so a script cannot answer what the real host would refuse to read.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { isObject, type JsonObject, parseJson } from "../core/base/json.ts";
import { hostCalls } from "../core/host/calls.ts";
import { checkClosed } from "../core/policy/schema.ts";

const root = join(import.meta.dir, "..");

function sourcesBelow(folder: string): string[] {
  const found: string[] = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...sourcesBelow(path));
    else if (path.includes("/assembly/") && path.endsWith(".ts")) found.push(path);
  }
  return found.sort();
}

/** Compiles a guest as the build does, once for each state of the sources. @param entry Relative to the project. */
export function compileGuest(entry: string): WebAssembly.Module {
  return new WebAssembly.Module(guestBytes(entry));
}

/** The same, as a file has it. */
export function guestBytes(entry: string): Uint8Array<ArrayBuffer> {
  const flags: unknown = JSON.parse(readFileSync(join(root, "plugins-wasm/asc.flags.json"), "utf8"));
  if (!Array.isArray(flags)) throw new Error("plugins-wasm/asc.flags.json: expected an array");
  const hash = createHash("sha256")
    .update(JSON.stringify([entry, flags]))
    .update(readFileSync(join(root, entry)));
  for (const path of sourcesBelow(join(root, "plugins-wasm"))) hash.update(path).update(readFileSync(path));
  const folder = join(root, "build/test-guests");
  const file = join(folder, `${hash.digest("hex").slice(0, 32)}.wasm`);
  if (!existsSync(file)) {
    mkdirSync(folder, { recursive: true });
    const made = `${file}.${process.pid}`; // another test process may want the same one now
    const asc = join(root, "node_modules/assemblyscript/bin/asc.js");
    const run = Bun.spawnSync([process.execPath, asc, entry, "-o", made, ...flags.map(String)], { cwd: root });
    if (!run.success) throw new Error(`asc ${entry}: ${run.stderr.toString()}`);
    renameSync(made, file);
  }
  return new Uint8Array(readFileSync(file));
}

export interface GuestRun {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string | Uint8Array;
  /** What the host says to a call; an `error` member makes it a refusal. */
  answer?(call: string, request: JsonObject): JsonObject | undefined;
}

export interface GuestEnd {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly calls: readonly (readonly [string, JsonObject])[];
}

class Exit extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit ${code}`);
    this.code = code;
  }
}

/** Answers that most scripts leave out. */
const usual: { readonly [call: string]: JsonObject } = {
  addr_add: { created: true },
  addr_list: { addresses: [] },
  link_wait: { ready: true },
  nft_check: { present: true },
  route_list: { routes: [] },
  sysctl_set: { changed: true },
};

export function runGuest(module: WebAssembly.Module, run: GuestRun): GuestEnd {
  const stdin = typeof run.stdin === "string" ? new TextEncoder().encode(run.stdin) : run.stdin;
  const env = Object.entries(run.env).map(([k, v]) => new TextEncoder().encode(`${k}=${v}\0`));
  const out: Uint8Array[][] = [[], [], []];
  const calls: [string, JsonObject][] = [];
  let readTo = 0;
  let answer = new Uint8Array(0);
  let memory = new WebAssembly.Memory({ initial: 0 });
  const view = (): DataView => new DataView(memory.buffer);
  const bytes = (at: number, length: number): Uint8Array => new Uint8Array(memory.buffer, at >>> 0, length >>> 0);

  const wasi = {
    fd_read(fd: number, vectors: number, count: number, got: number): number {
      if (fd !== 0 || count !== 1) return 8;
      const length = Math.min(view().getUint32(vectors + 4, true), stdin.length - readTo, 4096); // short reads on purpose
      bytes(view().getUint32(vectors, true), length).set(stdin.subarray(readTo, readTo + length));
      readTo += length;
      view().setUint32(got, length, true);
      return 0;
    },
    fd_write(fd: number, vectors: number, count: number, put: number): number {
      if ((fd !== 1 && fd !== 2) || count !== 1) return 8;
      const length = Math.min(view().getUint32(vectors + 4, true), 1000); // short writes on purpose
      out[fd]?.push(bytes(view().getUint32(vectors, true), length).slice());
      view().setUint32(put, length, true);
      return 0;
    },
    environ_sizes_get(count: number, size: number): number {
      view().setUint32(count, env.length, true);
      view().setUint32(
        size,
        env.reduce((n, e) => n + e.length, 0),
        true,
      );
      return 0;
    },
    environ_get(pointers: number, block: number): number {
      let at = block;
      for (const [i, e] of env.entries()) {
        view().setUint32(pointers + 4 * i, at, true);
        bytes(at, e.length).set(e);
        at += e.length;
      }
      return 0;
    },
    proc_exit(code: number): never {
      throw new Exit(code);
    },
  };

  const patchbay: Record<string, (a: number, b: number) => number> = {
    answer_read(to, capacity) {
      const length = Math.min(capacity, answer.length);
      bytes(to, length).set(answer.subarray(0, length));
      return length;
    },
  };
  for (const row of hostCalls) {
    patchbay[row.name] = (at, length) => {
      const request = parseJson(bytes(at, length).slice());
      if (!isObject(request)) throw new Error(`${row.name}: the request is no object`);
      checkClosed(row.request, request);
      calls.push([row.name, request]);
      const said = run.answer?.(row.name, request) ?? usual[row.name] ?? {};
      answer = new TextEncoder().encode(JSON.stringify(said.error ?? said));
      return said.error === undefined ? answer.length : -answer.length;
    };
  }

  const text = (fd: number): string => Buffer.concat(out[fd] ?? []).toString();
  const instance = new WebAssembly.Instance(module, { wasi_snapshot_preview1: wasi, patchbay_1: patchbay });
  const { memory: own, _start: start } = instance.exports;
  if (!(own instanceof WebAssembly.Memory) || typeof start !== "function") throw new Error("no memory, or no _start");
  memory = own;
  try {
    start();
  } catch (thrown) {
    if (!(thrown instanceof Exit)) throw thrown;
    return { exit: thrown.code, stdout: text(1), stderr: text(2), calls };
  }
  return { exit: 0, stdout: text(1), stderr: text(2), calls };
}

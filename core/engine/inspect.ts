/**
 * What a module asks for and offers, read from its bytes without running or compiling anything: the list that a plugin's
 * manifest is held against before it is installed.
 *
 * Source: WebAssembly Core Specification, "Binary Format"
 */
import { show } from "../base/brand.ts";
import type { ValueType } from "../sys/wasmtime.ts";
import { wasiFunction, wasiModule } from "./wasi.ts";

/** A module that we do not take. The message says why, as the end of a sentence. */
export class ModuleError extends Error {
  override readonly name = "ModuleError";
}

export interface ModuleImport {
  readonly module: string;
  readonly name: string;
  /** `other` is a table, a memory, a global or a tag. */
  readonly kind: "function" | "other";
  readonly params: readonly string[];
  readonly results: readonly string[];
}
export interface ModuleExport {
  readonly name: string;
  readonly kind: "function" | "table" | "memory" | "global" | "tag";
  readonly index: number;
}
export interface ModuleShape {
  readonly imports: readonly ModuleImport[];
  readonly exports: readonly ModuleExport[];
  readonly memories: readonly { readonly minPages: number; readonly flags: number }[];
}

const maxModuleBytes = 32 << 20;
const maxEntries = 100_000;
const exportKinds = ["function", "table", "memory", "global", "tag"] as const;
const valueTypes: Readonly<Record<number, string>> = { 127: "i32", 126: "i64", 125: "f32", 124: "f64", 123: "v128" };
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A cursor that never leaves its range. */
class Reader {
  readonly #bytes: Uint8Array;
  #at: number;
  readonly #end: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#end = end;
  }

  get more(): boolean {
    return this.#at < this.#end;
  }

  byte(): number {
    const value = this.#at < this.#end ? this.#bytes[this.#at] : undefined;
    if (value === undefined) throw new ModuleError(`it ends inside a section (at byte ${this.#at})`);
    this.#at++;
    return value;
  }

  /** Unsigned LEB128 of at most 64 bits; values over 2^53 lose digits, which no limit here cares for. */
  number(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new ModuleError(`it has a number of more than 64 bits (at byte ${this.#at})`);
  }

  count(): number {
    const value = this.number();
    if (value > maxEntries)
      throw new ModuleError(`it lists ${value} entries in one section, at most ${maxEntries} are taken`);
    return value;
  }

  bytes(length: number): Uint8Array {
    if (length > this.#end - this.#at) throw new ModuleError(`it ends inside a section (at byte ${this.#at})`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  text(): string {
    const bytes = this.bytes(this.number());
    try {
      return decoder.decode(bytes);
    } catch {
      throw new ModuleError(`it has a name that is not UTF-8 (at byte ${this.#at})`);
    }
  }

  section(length: number): Reader {
    const from = this.#at;
    this.bytes(length);
    return new Reader(this.#bytes, from, from + length);
  }
}

type FunctionType = { readonly params: readonly string[]; readonly results: readonly string[] };

function values(reader: Reader): string[] {
  const list: string[] = [];
  for (let left = reader.count(); left > 0; left--) {
    const code = reader.byte();
    list.push(valueTypes[code] ?? `type 0x${code.toString(16)}`);
  }
  return list;
}

function functionTypes(reader: Reader): FunctionType[] {
  const types: FunctionType[] = [];
  for (let left = reader.count(); left > 0; left--) {
    if (reader.byte() !== 0x60) throw new ModuleError("it defines a type that is not a function's");
    types.push({ params: values(reader), results: values(reader) });
  }
  return types;
}

/** Limits of a table or memory: bit 0 a maximum, 1 shared, 2 64-bit, 3 a page size of its own. */
function limits(reader: Reader): { minPages: number; flags: number } {
  const flags = reader.byte();
  const minPages = reader.number();
  if ((flags & 1) !== 0) reader.number();
  if ((flags & 8) !== 0) reader.number();
  return { minPages, flags };
}

function readImports(reader: Reader, types: readonly FunctionType[]): ModuleImport[] {
  const imports: ModuleImport[] = [];
  for (let left = reader.count(); left > 0; left--) {
    const module = reader.text();
    const name = reader.text();
    const kind = reader.byte();
    if (kind === 0) {
      const type = types[reader.number()];
      if (type === undefined) throw new ModuleError(`its import ${show(`${module}.${name}`)} has no type`);
      imports.push({ module, name, kind: "function", ...type });
      continue;
    }
    imports.push({ module, name, kind: "other", params: [], results: [] });
    if (kind === 1) reader.byte();
    if (kind === 1 || kind === 2) limits(reader);
    else if (kind === 3) reader.bytes(2);
    else if (kind === 4) {
      reader.byte();
      reader.number();
    } else throw new ModuleError(`it imports ${show(`${module}.${name}`)} of unknown kind ${kind}`);
  }
  return imports;
}

function readExports(reader: Reader): ModuleExport[] {
  const exports: ModuleExport[] = [];
  for (let left = reader.count(); left > 0; left--) {
    const name = reader.text();
    const kind = exportKinds[reader.byte()];
    if (kind === undefined) throw new ModuleError(`it exports ${show(name)} of an unknown kind`);
    exports.push({ name, kind, index: reader.number() });
  }
  return exports;
}

/** @throws {ModuleError} for bytes that are no core module. Function bodies are not looked at: the compiler does that. */
export function inspect(wasm: Uint8Array): ModuleShape {
  if (wasm.length > maxModuleBytes)
    throw new ModuleError(`it has ${wasm.length} bytes, at most ${maxModuleBytes} are taken`);
  const reader = new Reader(wasm, 0, wasm.length);
  const head = Buffer.from(reader.bytes(Math.min(8, wasm.length))).toString("hex");
  if (head === "0061736d0d000100") throw new ModuleError("it is a component, not a core module");
  if (head !== "0061736d01000000") throw new ModuleError("it is not a WebAssembly module of version 1");
  let types: FunctionType[] = [];
  let imports: ModuleImport[] = [];
  let exports: ModuleExport[] = [];
  const memories: { minPages: number; flags: number }[] = [];
  while (reader.more) {
    const id = reader.byte();
    const section = reader.section(reader.number());
    if (id === 1) types = functionTypes(section);
    else if (id === 2) imports = readImports(section, types);
    else if (id === 5) for (let left = section.count(); left > 0; left--) memories.push(limits(section));
    else if (id === 7) exports = readExports(section);
  }
  return { imports, exports, memories };
}

/** A host module as a guest may import it: its functions by name. */
export type HostNames = ReadonlyMap<
  string,
  { readonly params: readonly ValueType[]; readonly results: readonly ValueType[] }
>;

/**
 * Refuses a module that is not a WASI command of ABI 1.
 *
 * @param hostModule The module name of our own functions, such as `patchbay_1`.
 * @returns the names that it imports from `hostModule`, for the comparison with its manifest.
 * @throws {ModuleError}
 */
export function checkModule(wasm: Uint8Array, hostModule: string, host: HostNames): readonly string[] {
  const { imports, exports, memories } = inspect(wasm);
  const calls: string[] = [];
  for (const { module, name, kind, params, results } of imports) {
    const shown = show(`${module}.${name}`);
    if (kind !== "function") throw new ModuleError(`it imports ${shown}, which is not a function`);
    const known = module === wasiModule ? wasiFunction(name) : module === hostModule ? host.get(name) : undefined;
    if (known === undefined) throw new ModuleError(`it imports ${shown}, which does not exist`);
    if (`${known.params}:${known.results}` !== `${params}:${results}`) {
      throw new ModuleError(
        `it imports ${shown} as (${params}) -> (${results}), expected (${known.params}) -> (${known.results})`,
      );
    }
    if (module === hostModule) calls.push(name);
  }
  const [memory, ...others] = memories;
  if (memory === undefined || others.length > 0) {
    throw new ModuleError(`it has ${memories.length} memories, expected one of its own`);
  }
  if (memory.flags > 1) throw new ModuleError("its memory is shared, 64-bit or has a page size of its own");
  if (!exports.some((e) => e.kind === "memory" && e.name === "memory")) {
    throw new ModuleError('it does not export its memory as "memory"');
  }
  if (!exports.some((e) => e.kind === "function" && e.name === "_start")) {
    throw new ModuleError('it exports no function "_start", so it is not a WASI command');
  }
  return [...new Set(calls)];
}

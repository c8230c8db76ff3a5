import { describe, expect, test } from "bun:test";
import { checkModule, type HostNames, inspect, ModuleError } from "./inspect.ts";

/** A section: its id, then its length and content. Lengths here are below 128, one byte each. */
const section = (id: number, ...content: readonly number[]): number[] => [id, content.length, ...content];
const name = (text: string): number[] => [text.length, ...Buffer.from(text)];
const list = (...items: readonly (readonly number[])[]): number[] => [items.length, ...items.flat()];
const wasm = (...sections: readonly (readonly number[])[]): Uint8Array =>
  Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections.flat()]);

const i32 = 0x7f;
const i64 = 0x7e;
const func = (params: readonly number[], results: readonly number[]): number[] => [
  0x60,
  params.length,
  ...params,
  results.length,
  ...results,
];
// Types 0 to 2: a call of ours, _start, something else.
const types = section(1, ...list(func([i32, i32], [i32]), func([], []), func([i64], [])));
const importOf = (module: string, field: string, type = 0): number[] => [...name(module), ...name(field), 0, type];
const memory = section(5, ...list([0, 1]));
const start = [...name("_start"), 0, 0];
const exported = [...name("memory"), 2, 0];
const exports = section(7, ...list(start, exported));
const command = (...imports: readonly (readonly number[])[]): Uint8Array =>
  wasm(types, section(2, ...list(...imports)), memory, exports);

const host: HostNames = new Map([["link_create", { params: ["i32", "i32"], results: ["i32"] }]]);
const check = (bytes: Uint8Array): readonly string[] => checkModule(bytes, "patchbay_1", host);

describe("inspect()", () => {
  test("lists imports with their types, exports and memories", () => {
    expect(inspect(command(importOf("patchbay_1", "link_create"), importOf("env", "wide", 2)))).toEqual({
      imports: [
        { module: "patchbay_1", name: "link_create", kind: "function", params: ["i32", "i32"], results: ["i32"] },
        { module: "env", name: "wide", kind: "function", params: ["i64"], results: [] },
      ],
      exports: [
        { name: "_start", kind: "function", index: 0 },
        { name: "memory", kind: "memory", index: 0 },
      ],
      memories: [{ minPages: 1, flags: 0 }],
    });
  });

  test.each([
    ["nothing", [], "it is not a WebAssembly module"],
    ["another format", [0x7f, 0x45, 0x4c, 0x46, 0, 0, 0, 0], "it is not a WebAssembly module"],
    ["a component", [0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0], "it is a component"],
    ["a section past the end", [...wasm(), 1, 5, 0], "it ends inside a section"],
    ["a number without end", [...wasm(), 1, ...Array(12).fill(0x80)], "more than 64 bits"],
    ["a list past the section", [...wasm(section(5, 2, 0, 1))], "it ends inside a section"],
    ["an endless list", [...wasm(section(1, 0xff, 0xff, 0xff, 0x7f))], "entries in one section"],
    ["an import without type", [...wasm(section(2, ...list(importOf("a", "b", 7))))], 'import "a.b" has no type'],
    ["a name that is not UTF-8", [...wasm(types, section(2, 1, 1, 0xff, 1, 0x61, 0, 0))], "not UTF-8"],
    ["a type that is no function's", [...wasm(section(1, 1, 0x5f, 0))], "not a function's"],
  ])("refuses %s", (_, bytes, why) => {
    expect(() => inspect(Uint8Array.from(bytes))).toThrow(why);
  });

  test("ends every truncation and every flipped byte with a ModuleError or an answer", () => {
    const whole = command(importOf("patchbay_1", "link_create"));
    const survives = (bytes: Uint8Array): void => {
      try {
        inspect(bytes);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(ModuleError);
      }
    };
    for (let length = 0; length < whole.length; length++) survives(whole.subarray(0, length));
    for (let at = 0; at < whole.length; at++) {
      for (let bit = 0; bit < 8; bit++) survives(whole.with(at, (whole[at] ?? 0) ^ (1 << bit)));
    }
  });
});

describe("checkModule()", () => {
  test("names the calls of a module that is as it should be", () => {
    expect(
      check(command(importOf("patchbay_1", "link_create"), importOf("wasi_snapshot_preview1", "args_get"))),
    ).toEqual(["link_create"]);
    expect(check(command())).toEqual([]);
  });

  test.each([
    ["an import of another module", command(importOf("env", "abort")), 'imports "env.abort", which does not exist'],
    [
      "a call that does not exist",
      command(importOf("patchbay_1", "format_disk")),
      '"patchbay_1.format_disk", which does not exist',
    ],
    ["a name of Object's", command(importOf("wasi_snapshot_preview1", "constructor")), "which does not exist"],
    [
      "a call of another type",
      command(importOf("patchbay_1", "link_create", 2)),
      "as (i64) -> (), expected (i32,i32) -> (i32)",
    ],
    ["an imported memory", command([...name("patchbay_1"), ...name("memory"), 2, 0, 1]), "which is not a function"],
    ["no memory", wasm(types, exports), "it has 0 memories"],
    ["two memories", wasm(section(5, ...list([0, 1], [0, 1])), exports), "it has 2 memories"],
    ["a shared memory", wasm(section(5, ...list([3, 1, 1])), exports), "shared, 64-bit or has a page size"],
    ["a 64-bit memory", wasm(section(5, ...list([4, 1])), exports), "shared, 64-bit or has a page size"],
    ["a memory under another name", wasm(memory, section(7, ...list(start))), 'does not export its memory as "memory"'],
    ["no _start", wasm(memory, section(7, ...list(exported))), 'exports no function "_start"'],
    [
      "a memory named _start",
      wasm(memory, section(7, ...list(exported, [...name("_start"), 2, 0]))),
      'no function "_start"',
    ],
  ])("refuses %s", (_, bytes, why) => {
    expect(() => check(bytes)).toThrow(why);
  });
});

/** Whole guests, in WebAssembly text: what the runtime hears of each, good or bad. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { TestGuest, wideManifest } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import { Engine } from "../engine/engine.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { type GuestOutcome, hostFunctions, runGuest } from "./run.ts";

const native = join(import.meta.dir, "../../build/native");
if (!existsSync(native)) throw new Error(`${native} is missing. Run: npm run build`);
let engine: Engine;
beforeAll(() => {
  engine = Engine.forCompiling({ path: join(native, "libwasmtime.so"), libgccPath: join(native, "libgcc_s.so.1") });
});
afterAll(() => engine[Symbol.dispose]());

const request = '{"kind":"veth","peer":{"in":"host"}}';
const escaped = (text: string): string => text.replaceAll('"', "\\22");

/** Requests at 64, an answer at 4096, an iovec at 0. */
function wat(body: string, data: Readonly<Record<number, string>> = {}): string {
  const segments = Object.entries(data).map(([at, text]) => `(data (i32.const ${at}) "${escaped(text)}")`);
  return `(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (import "patchbay_1" "link_create" (func $create (param i32 i32) (result i32)))
    (import "patchbay_1" "link_list" (func $list (param i32 i32) (result i32)))
    (import "patchbay_1" "answer_read" (func $answer (param i32 i32) (result i32)))
    (memory (export "memory") 8) ${segments.join(" ")}
    (func $print (param i32 i32)
      (i32.store (i32.const 0) (local.get 0)) (i32.store (i32.const 4) (local.get 1))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
    (func (export "_start") (local $n i32) ${body}))`;
}
const create = `(local.set $n (call $create (i32.const 64) (i32.const ${request.length})))`;
const printAt = (at: number, text: string): string => `(call $print (i32.const ${at}) (i32.const ${text.length}))`;

function run(text: string, guest: TestGuest): GuestOutcome {
  using module = engine.load(engine.compile(engine.assemble(text)));
  return runGuest({ engine, module, guest: guest.context, env: { CNI_COMMAND: "ADD" } });
}

function fresh(limits: Record<string, number> = {}): { guest: TestGuest; undo(): unknown[]; links(): string[] } {
  const node = new SimulatedNode();
  const [host, pod] = [node.netns("host", { host: true }), node.netns("pod")];
  const guest = new TestGuest({ pod, host, manifest: wideManifest({ limits }) });
  return {
    guest,
    undo: () => undoKernelSteps([{ entries: guest.journal.entries }], { pod, host }),
    links: () => [...host.links(), ...pod.links()].map((l) => l.name),
  };
}

const honest = '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/pod"}]}';
const lie = '{"interfaces":[{"name":"eth7","sandbox":"/run/netns/pod"}]}';
const failure = '{"code":207,"msg":"Cannot do it","details":"Do less"}';

test("a good guest: its calls take effect, its result is read", () => {
  const { guest, links } = fresh();
  const outcome = run(wat(create + printAt(512, honest), { 64: request, 512: honest }), guest);
  expect(outcome).toMatchObject({ result: { interfaces: [{ name: "eth0" }] } });
  expect(links()).toContain("eth0");
});

test("an answer is read as far as the guest has room, and never past it", () => {
  const { guest } = fresh();
  const body = `(drop (call $list (i32.const 64) (i32.const 2)))
    (drop (call $answer (i32.const 4096) (i32.const 10)))
    (call $print (i32.const 4096) (i32.const 12)) (call $exit (i32.const 1))`;
  const outcome = run(wat(body, { 64: "{}" }), guest);
  expect(outcome).toMatchObject({
    error: { message: expect.stringContaining('Cannot use the answer of plugin "wide"') },
  });
});

describe("a bad guest is named with what it did, and what it made is undone", () => {
  test.each([
    ["a trap", `${create} unreachable`, {}, 999, "trap: "],
    ["a loop", `${create} (loop $l (br $l))`, { cpuMs: 50 }, 125, "cpu: more than 50 ms"],
    [
      "too many calls",
      `${create} (loop $l (drop (call $list (i32.const 600) (i32.const 2))) (br $l))`,
      { calls: 20 },
      125,
      "more than 20 host calls",
    ],
    [
      "a range outside its memory",
      `${create} (drop (call $list (i32.const 524280) (i32.const 64)))`,
      {},
      120,
      "pointer: ",
    ],
    [
      "an answer outside its memory",
      `${create} (drop (call $answer (i32.const 524280) (i32.const 64)))`,
      {},
      120,
      "pointer: ",
    ],
    [
      "a request over 256 KiB",
      `${create} (drop (call $list (i32.const 64) (i32.const 300000)))`,
      {},
      120,
      'bytes to "link_list"',
    ],
    ["a request that is no JSON", `${create} (drop (call $list (i32.const 0) (i32.const 1)))`, {}, 120, "is not JSON"],
    [
      "too much on stdout",
      `${create} (loop $l (call $print (i32.const 64) (i32.const 4096)) (br $l))`,
      {},
      125,
      "output: ",
    ],
    ["no result", create, {}, 6, "stdout is empty"],
    ["a result that is no JSON", `${create} ${printAt(64, "{{{{")}`, {}, 6, "Cannot use the answer"],
    ["a result that lies", `${create} ${printAt(700, lie)}`, {}, 101, 'claims the interface "eth7"'],
    ["its own error", `${create} ${printAt(1000, failure)} (call $exit (i32.const 1))`, {}, 207, "Cannot do it"],
    ["a failure without an error", `${create} (call $exit (i32.const 3))`, {}, 999, "exit 3 without a CNI error"],
  ] as [string, string, Record<string, number>, number, string][])("%s", (what, body, limits, code, words) => {
    const { guest, undo, links } = fresh(limits);
    const outcome = run(wat(body, { 64: request, 600: "{}", 700: lie, 1000: failure }), guest);
    if (!("error" in outcome)) throw new Error("it passed");
    expect(outcome.error.code).toBe(code);
    expect(outcome.error.message).toContain(words);
    if (what !== "its own error") expect(outcome.error.message).toContain('plugin "wide"');
    expect(links()).toContain("eth0");
    expect(undo()).toEqual([]);
    expect(links()).toEqual(["lo", "lo"]);
  });
});

test("a guest that runs inside another's call has its own handles and its own answer", () => {
  const outer = fresh();
  const inner = fresh();
  const innerText = wat(create + printAt(512, honest), { 64: request, 512: honest });
  let inside: GuestOutcome | undefined;
  const text = `(module
    (import "patchbay_1" "ipam_add" (func $ipam (param i32 i32) (result i32)))
    (memory (export "memory") 1) (data (i32.const 64) "{}")
    (func (export "_start") (drop (call $ipam (i32.const 64) (i32.const 2)))))`;
  Object.assign(outer.guest.context.setup, {
    runIpam: () => {
      inside = run(innerText, inner.guest);
      return undefined;
    },
  });
  run(text, outer.guest);
  expect(inside).toMatchObject({ result: { interfaces: [{ name: "eth0" }] } });
  expect(outer.guest.context.calls).toBe(1);
  expect(outer.guest.traces.map((t) => t.call)).toEqual(["ipam_add"]);
  expect(inner.guest.traces.map((t) => t.call)).toEqual(["link_create"]);
});

test("the list of functions is one for all runs", () => {
  expect(hostFunctions()).toBe(hostFunctions());
});

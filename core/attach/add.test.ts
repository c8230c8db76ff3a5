import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { parseIfName, parseNetnsPath } from "../base/brand.ts";
import { Code } from "../base/error.ts";
import { container, header, options, Scratch } from "../state/support.ts";
import { replaceDead } from "./add.ts";
import { BuiltIns } from "./built-ins.ts";
import { Node } from "./node.ts";
import { Operation } from "./operation.ts";

const OWN = "/proc/self/ns/net";

let scratch: Scratch;
let node: Node;

beforeEach(() => {
  scratch = new Scratch();
  const file = { path: "", sha256: "", bytes: 0 };
  const library = { inBinary: false, libwasmtime: file, libgcc: file };
  const [runDir, libDir] = [`${scratch.path}/run`, `${scratch.path}/lib`];
  node = new Node({ environment: {}, builtIns: new BuiltIns(library, {}), runDir, libDir });
});
afterEach(() => {
  node[Symbol.dispose]();
  scratch[Symbol.dispose]();
});

describe("ADD again, into another namespace", () => {
  /** @returns How many journals are left. */
  function again(former: { path: string; cookie: string }): number {
    using state = node.store.container(container(), options());
    if (state === undefined) throw new Error("not opened");
    state.begin(header({ netns: former }));
    using opened = node.openPod(parseNetnsPath(OWN));
    if (opened === undefined) throw new Error("no namespace");
    const invocation = {
      command: "ADD",
      containerId: container(),
      ifname: parseIfName("eth0"),
      netns: parseNetnsPath(OWN),
      args: new Map(),
      path: [],
      overrideNetnsCheck: false,
    } as const;
    const another = { path: "/run/netns/new", cookie: "2", kernel: opened.kernel, [Symbol.dispose]() {} };
    replaceDead(state, invocation, { type: "patchbay", network: "net" }, another, new Operation("ADD", node));
    return state.attachments().length;
  }

  test("undoes what was in one that has gone", () => {
    expect(again({ path: "/run/netns/patchbay-gone", cookie: "1" })).toBe(0);
  });

  test("is refused while the former one lives: its links still have their addresses", () => {
    const cookie = String(node.ownNetns.cookie);
    expect(() => again({ path: OWN, cookie })).toThrow(expect.objectContaining({ code: Code.InterfaceTaken }));
  });
});

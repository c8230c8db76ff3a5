import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { Code } from "../base/error.ts";
import { container, header, options, Scratch } from "../state/support.ts";
import { BuiltIns } from "./built-ins.ts";
import { Node } from "./node.ts";
import { Operation } from "./operation.ts";
import { findOrphans, removeOrphan } from "./reconcile.ts";

let scratch: Scratch;
let node: Node;
let operation: Operation;

beforeEach(() => {
  scratch = new Scratch();
  const file = { path: "", sha256: "", bytes: 0 };
  const library = { inBinary: false, libwasmtime: file, libgcc: file };
  const [runDir, libDir] = [`${scratch.path}/run`, `${scratch.path}/lib`];
  node = new Node({ environment: {}, builtIns: new BuiltIns(library, {}), runDir, libDir });
  operation = new Operation("gc", node);
});
afterEach(() => {
  node[Symbol.dispose]();
  scratch[Symbol.dispose]();
});

/** One attachment whose namespace has gone, with a record of a binary. @returns The path of its journal. */
function attach(): string {
  using state = node.store.container(container(), options());
  const journal = state?.begin(header({ netns: { path: "/run/netns/patchbay-gone", cookie: "1" } }));
  const record = { container: "c1", key: journal?.key ?? "", plugin: 0, network: "net", ifname: "eth0" };
  const call = { type: "p", how: "binary", netns: "", config: {}, args: "", path: "" } as const;
  node.store.durable.put({ ...record, ...call });
  return `${node.store.path}/containers/c1/${journal?.fileName}`;
}

describe("an orphan", () => {
  test("is one whose namespace has gone", () => {
    attach();
    expect(findOrphans(operation)).toMatchObject([{ container: "c1", needsRuntime: false }]);
  });

  test("that somebody is working on again stays, records and all", () => {
    attach();
    const [orphan] = findOrphans(operation);
    using _ = node.store.container(container(), options());
    expect(orphan && removeOrphan(orphan.container, operation)).toMatchObject([{ code: Code.Busy }]);
    expect(node.store.durable.list("c1")).toHaveLength(1);
  });

  test("is none whose journal is damaged: its namespace may live, and DEL has to find the journal", () => {
    const file = attach();
    writeFileSync(file, "none\n");
    expect(findOrphans(operation)).toEqual([]);
    expect(readdirSync(`${node.store.path}/containers/c1`)).toEqual([file.slice(file.lastIndexOf("/") + 1)]);
  });
});

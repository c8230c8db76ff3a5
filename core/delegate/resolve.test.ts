import { expect, test } from "bun:test";
import { CniError } from "../base/error.ts";
import { parseManifest } from "../policy/manifest.ts";
import type { BuiltIn } from "./node.ts";
import { recordedGuest } from "./resolve.ts";

const manifest = {
  name: "keeper",
  abi: 1,
  version: "0.1.0",
  description: "Keeps",
  calls: {},
  schema: {},
  undo: "guest",
};

function nodeWith(sha256: string | undefined): { builtIn(): BuiltIn | undefined; log(): void; logged: string[] } {
  const logged: string[] = [];
  const artifact = (): Uint8Array => new Uint8Array();
  const plugin = sha256 === undefined ? undefined : { manifest: parseManifest(manifest), sha256, artifact };
  return { logged, builtIn: () => plugin, log: (...line: string[]) => void logged.push(line.join(" ")) };
}

test.each([
  ["the same module", "a".repeat(64), []],
  ["one of a record that has no sum", undefined, []],
  ["another release's", "b".repeat(64), ['info module "keeper" was bbbbbbbbbbbb on ADD and is aaaaaaaaaaaa now']],
])("recordedGuest() takes %s", (_, sha256, logged) => {
  const node = nodeWith("a".repeat(64));
  expect(recordedGuest("keeper", sha256, node)).toMatchObject({ how: "guest-undo", sha256: "a".repeat(64) });
  expect(node.logged).toEqual(logged);
});

test("recordedGuest() never takes a CNI binary for a module that is not here", () => {
  const find = () => recordedGuest("keeper", "a".repeat(64), nodeWith(undefined));
  expect(find).toThrow(CniError);
  expect(find).toThrow('Cannot undo what module "keeper" did: the module aaaaaaaaaaaa is not here');
});

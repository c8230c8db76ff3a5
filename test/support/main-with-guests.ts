/**
 * The CNI process with guests of a test among the built-in plugins.
 *
 * main-with-guests.ts FILE: a JSON object, type of the plugin → what `EmbeddedPlugin` has.
 */
import { readFileSync, writeSync } from "node:fs";
import { runCni } from "../../cmd/cni.ts";
import { embedded } from "../../cmd/embedded.ts";
import { BuiltIns } from "../../core/attach/built-ins.ts";

function main(): void {
  const guests = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8"));
  const { exit, document } = runCni(
    { environment: process.env, startedAs: "patchbay", readInput: () => readFileSync(0) },
    new BuiltIns(embedded, { ...embedded.plugins, ...guests }),
  );
  if (document !== undefined) writeSync(1, `${JSON.stringify(document)}\n`);
  process.exit(exit);
}

main();

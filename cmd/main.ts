/** The only file that knows there is a process: argv, environment, stdin, stdout, exit code. */
import { NEWEST, SUPPORTED } from "../core/cni/supported.ts";

/** The largest configuration that a runtime may send. */
const MAX_STDIN_BYTES = 4 << 20;

function main(): void {
  process.umask(0o077);
  const command = process.env.CNI_COMMAND ?? "";
  if (command === "VERSION") {
    // Runtimes ask often. Written by the console, which is there already, it costs no library and no module.
    console.log(JSON.stringify({ cniVersion: NEWEST, supportedVersions: SUPPORTED }));
    process.exit(0);
  }
  if (command === "") void runOperator();
  else void runPlugin();
}

async function runPlugin(): Promise<never> {
  const { readBounded, runCni, writeText } = await import("./cni.ts");
  const { exit, document } = runCni({
    environment: process.env,
    startedAs: process.argv0,
    readInput: () => readBounded(0, MAX_STDIN_BYTES, "the network configuration on stdin"),
  });
  if (exit !== 0) {
    // An operation that failed has said why in its log; one that went well has nothing to say, and does not load it.
    const { flushLog } = await import("./log.ts");
    await flushLog().catch(() => {}); // what cannot be logged must not keep the error from the runtime
  }
  if (document !== undefined) writeText(1, `${JSON.stringify(document)}\n`); // stdout carries exactly one JSON document
  process.exit(exit);
}

async function runOperator(): Promise<never> {
  Bun.unsafe.setJITPolicy(1); // a command may run long, so it gets the compilers that a CNI call does without
  const { runCommand } = await import("./cli.ts");
  process.exit(await runCommand(process.argv.slice(2)));
}

main();

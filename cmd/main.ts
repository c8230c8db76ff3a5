/** The only file that knows there is a process: argv, environment, stdin, stdout, exit code. */
import { NEWEST, SUPPORTED } from "../core/cni/supported.ts";
import { askWorker } from "./handover.ts";

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
  else void runPlugin(command);
}

/** Operations that a worker takes over; the others are rare, or cost nothing. */
const handedOver = new Set(["ADD", "DEL", "CHECK"]);

async function runPlugin(command: string): Promise<never> {
  let read: Uint8Array | undefined;
  // Called by one of our own, it is that one's operation: the worker, if there is one, may be waiting for us.
  if (handedOver.has(command) && process.env.PATCHBAY_HELD === undefined) {
    read = askWorker(command);
  }
  const { readBounded, runCni, takeLog, writeText } = await import("./cni.ts");
  const readInput = (): Uint8Array => {
    const rest = readBounded(0, MAX_STDIN_BYTES, "the network configuration on stdin");
    return read === undefined ? rest : Buffer.concat([read, rest]);
  };
  const { exit, document } = runCni({ environment: process.env, startedAs: process.argv0, readInput });
  if (exit !== 0) {
    // An operation that failed has said why in its log; one that went well has nothing to say, and does not load it.
    writeText(2, await takeLog().catch(() => "")); // what cannot be logged must not keep the error from the runtime
  }
  if (document !== undefined) writeText(1, `${JSON.stringify(document)}\n`); // stdout carries exactly one JSON document
  process.exit(exit);
}

async function runOperator(): Promise<never> {
  Bun.unsafe.setJITPolicy(1); // a command may run long, so it gets the compilers that a CNI call does without
  const { runCommand } = await import("./cli.ts");
  process.exit(await runCommand(process.argv.slice(2), process.argv0));
}

main();

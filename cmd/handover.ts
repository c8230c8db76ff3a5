/** Asks the node's worker to do the operation of this process, and passes on what it says. */
import { handOver, pass } from "../core/sys/handover.ts";

/**
 * Ends the process when a worker did the operation.
 *
 * @returns what of stdin was read, for the process to do it by itself
 */
export function askWorker(command: string): Uint8Array {
  const call = { environment: process.env, startedAs: process.argv0, directory: process.cwd() };
  const handed = handOver(call);
  if (handed.is === "done") {
    pass(2, handed.log);
    pass(1, handed.output);
    process.exit(handed.exit);
  }
  // DEL and CHECK are as good a second time. An ADD has left a journal, by which the DEL that follows goes.
  if (handed.is === "lost" && command === "ADD") {
    pass(1, new TextEncoder().encode(`${JSON.stringify(lost(handed.input))}\n`));
    process.exit(1);
  }
  return handed.input;
}

function lost(input: Uint8Array): object {
  return {
    cniVersion: versionOf(input),
    code: 11,
    msg: "Cannot finish ADD: the worker that was at it has ended",
    details: "Try again, after the DEL that frees what was made",
  };
}

function versionOf(input: Uint8Array): string {
  try {
    const { cniVersion } = JSON.parse(new TextDecoder().decode(input));
    return typeof cniVersion === "string" ? cniVersion : "1.0.0";
  } catch {
    return "1.0.0";
  }
}

/** The only file that knows there is a process: argv, environment, stdin, stdout, exit code. */
import { CniError } from "../core/base/error.ts";
import { SUPPORTED } from "../core/cni/version.ts";
import { readBounded, writeText } from "../core/sys/files.ts";

/** The largest configuration that a runtime may send. */
const MAX_STDIN_BYTES = 4 << 20;
const NEWEST = SUPPORTED.at(-1) ?? "1.1.0";

function answer(document: unknown, exit: number): never {
  if (document !== undefined) writeText(1, `${JSON.stringify(document)}\n`); // stdout carries exactly one JSON document
  process.exit(exit);
}

/** An operation that failed has said why in its log; one that went well has nothing to say, and does not load it. */
async function answerFailure(document: unknown): Promise<never> {
  const { flushLog } = await import("./log.ts");
  await flushLog().catch(() => {}); // what cannot be logged must not keep the error from the runtime
  answer(document, 1);
}

function main(): void {
  process.umask(0o077);
  const command = process.env.CNI_COMMAND;
  if (command === "VERSION") {
    answer({ cniVersion: NEWEST, supportedVersions: SUPPORTED }, 0);
  } else if (command !== undefined && command !== "") {
    import("./cni.ts")
      .then(({ runCni }) =>
        runCni({
          environment: process.env,
          startedAs: process.argv0,
          readInput: () => readBounded(0, MAX_STDIN_BYTES, "the network configuration on stdin"),
        }),
      )
      .then(({ exit, document }) => (exit === 0 ? answer(document, 0) : answerFailure(document)))
      .catch((thrown) => answer({ cniVersion: NEWEST, ...CniError.from(thrown).toJSON() }, 1));
  } else {
    Bun.unsafe.setJITPolicy(1); // a command may run long, so it gets the compilers that a CNI call does without
    import("./cli.ts")
      .then(({ runCommand }) => runCommand(process.argv.slice(2)))
      .then(
        (exit) => process.exit(exit),
        (thrown) => {
          const error = CniError.from(thrown);
          writeText(2, `${error.message}\n${error.remedy}\n`);
          process.exit(1);
        },
      );
  }
}

main();

/**
 * `patchbay worker`: a process that stays, with the engine loaded and its code warm, and does operations for the
 * processes that the runtime starts. Nothing depends on it: where none is free, they do their work themselves.
 */
import { BuiltIns } from "../core/attach/built-ins.ts";
import { CniError, Code } from "../core/base/error.ts";
import { Dir } from "../core/sys/dir.ts";
import { Errno, isErrno } from "../core/sys/error.ts";
import { writeText } from "../core/sys/files.ts";
import { workerSocket } from "../core/sys/handover.ts";
import { StopSignal } from "../core/sys/stop.ts";
import { type HandedOver, listenForWork, type WorkerSocket } from "../core/sys/worker-socket.ts";
import { runCni } from "./cni.ts";
import { embedded } from "./embedded.ts";
import { takeLog } from "./log.ts";

/** After that many a new process takes its place: what an engine of JavaScript keeps grows slowly. */
const MAX_OPERATIONS = 10_000;

/** Ends on SIGTERM, when the program was replaced, and after many operations; a supervisor starts the next. @returns 0 */
export async function worker(): Promise<number> {
  using stop = StopSignal.install();
  using builtIns = new BuiltIns(embedded, embedded.plugins);
  builtIns.engine();
  using socket = listen();
  const encoder = new TextEncoder();
  let done = 0;
  while (done < MAX_OPERATIONS && !stop.requested) {
    const work = socket.next(stop, () => Bun.gc(true));
    if (work !== undefined) {
      using _ = work;
      await serve(work, builtIns, encoder);
      done++;
    } else if (socket.outdated) break;
  }
  writeText(2, `patchbay worker: ${done} operations\n`);
  return 0;
}

async function serve(work: HandedOver, builtIns: BuiltIns, encoder: TextEncoder): Promise<void> {
  const { call, input, stop } = work;
  const { environment, startedAs } = call;
  using resources = new DisposableStack();
  enter(call.directory); // relative paths are the caller's, and what it starts begins where it was
  const { exit, document } = runCni(
    { environment, startedAs, readInput: () => input, worker: { stop, resources } },
    builtIns,
  );
  enter("/");
  const log = exit === 0 ? "" : await takeLog();
  const output = document === undefined ? "" : `${JSON.stringify(document)}\n`;
  try {
    work.answer(exit, encoder.encode(output), encoder.encode(log));
  } catch {
    // Whoever asked is gone. The operation is in the log and in the journal, where the runtime's next call finds it.
  }
}

/** One that is gone is no reason to fail: nothing that a runtime sends has a relative path. */
function enter(directory: string): void {
  try {
    process.chdir(directory);
  } catch {
    process.chdir("/");
  }
}

function listen(): WorkerSocket {
  const directory = workerSocket.slice(0, workerSocket.lastIndexOf("/"));
  try {
    Dir.open(directory, { create: true })[Symbol.dispose]();
    return listenForWork();
  } catch (thrown) {
    if (!isErrno(thrown, Errno.EADDRINUSE)) throw thrown;
    throw new CniError(Code.Busy, `Cannot start a worker: another one has the socket "${workerSocket}"`, {
      remedy: "Stop the other one first; one on a node is enough",
    });
  }
}

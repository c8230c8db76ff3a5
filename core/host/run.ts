/** Runs one guest to its end: imports from the call table, its answer read and checked. */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, JsonError, type JsonObject, parseJson } from "../base/json.ts";
import type { Engine, HostFunction, Module, RunOutcome } from "../engine/engine.ts";
import { type FaultKind, GuestFault } from "../engine/fault.ts";
import { GuestStop, invoke } from "./call.ts";
import { hostCalls, importModule } from "./calls.ts";
import { configBytes } from "./conf.ts";
import type { GuestContext } from "./context.ts";
import { checkHonest } from "./result.ts";

/** The guest on the stack. A guest's call may run another one (an IPAM), so the former is put back. */
let current: GuestContext | undefined;

function guestNow(): GuestContext {
  if (current === undefined) throw new TypeError("Cannot serve a host call: no guest runs");
  return current;
}

let made: readonly HostFunction[] | undefined;

/** One list for every run of the process, so that the engine links it once. */
export function hostFunctions(): readonly HostFunction[] {
  made ??= [
    ...hostCalls.map(
      (row): HostFunction => ({
        module: importModule,
        name: row.name,
        params: ["i32", "i32"],
        results: ["i32"],
        ownDeadline: row.waits,
        run(memory, args) {
          const length = Number(args[1]) >>> 0;
          try {
            // Past the limit the size alone decides, and the bytes are not copied.
            return invoke(guestNow(), row, memory.read(Number(args[0]), Math.min(length, (256 << 10) + 1)));
          } catch (thrown) {
            throw thrown instanceof GuestStop ? new GuestFault("host", thrown.message) : thrown;
          }
        },
      }),
    ),
    {
      module: importModule,
      name: "answer_read",
      params: ["i32", "i32"],
      results: ["i32"],
      run(memory, args) {
        const { answer } = guestNow();
        const length = Math.min(answer.length, Number(args[1]) >>> 0);
        memory.write(Number(args[0]), answer.subarray(0, length));
        return length;
      },
    },
  ];
  return made;
}

export interface GuestRun {
  readonly engine: Engine;
  readonly module: Module;
  readonly guest: GuestContext;
  /** CNI_* as the guest is to see them. */
  readonly env: Readonly<Record<string, string>>;
  /** Asked while the guest runs. */
  readonly stopRequested?: () => boolean;
}

/** What a run came to. Of a run that failed the journal still says what it did. */
export type GuestOutcome =
  | { readonly result: JsonObject | undefined; readonly stderr: Uint8Array }
  | { readonly error: CniError; readonly stderr: Uint8Array };

export function runGuest(run: GuestRun): GuestOutcome {
  const { guest, engine, module, env } = run;
  const { manifest, grants, conf } = guest.setup;
  const former = current;
  current = guest;
  let outcome: RunOutcome;
  try {
    outcome = engine.run({
      module,
      argv0: manifest.name,
      env: { ...env },
      stdin: configBytes(manifest, conf),
      functions: hostFunctions(),
      ...(run.stopRequested === undefined ? {} : { stopRequested: run.stopRequested }),
      limits: {
        memoryBytes: grants.limits.memoryBytes,
        cpuMs: grants.limits.cpuMs,
        wallMs: grants.limits.wallMs,
        stdoutBytes: grants.limits.stdoutBytes,
        stderrBytes: grants.limits.logBytes,
      },
    });
  } finally {
    current = former;
  }
  const stderr = outcome.stderr;
  try {
    return { result: readOutcome(guest, outcome), stderr };
  } catch (thrown) {
    return { error: CniError.from(thrown), stderr };
  }
}

const remedies: { readonly [K in FaultKind]: readonly [Code, string] } = {
  trap: [Code.Internal, "Report this to the author of the plugin, with the log lines of the same container"],
  memory: [Code.Limit, 'Raise "memoryBytes" of the plugin, if it needs that much'],
  cpu: [Code.Limit, 'Raise "cpuMs" of the plugin, if it needs that much'],
  wall: [Code.TimedOut, 'Raise "wallMs" of the plugin, if it needs that much'],
  output: [Code.Limit, 'Raise "stdoutBytes" or "logBytes" of the plugin, if it needs that much'],
  pointer: [Code.BadRequest, "Report this to the author of the plugin"],
  host: [Code.Internal, "Report this with the log lines of the same container"],
  stopped: [Code.TryAgainLater, "Try again"],
};

function readOutcome(guest: GuestContext, outcome: RunOutcome): JsonObject | undefined {
  const { manifest, operation } = guest.setup;
  const plugin = `plugin "${manifest.name}"`;
  if ("fault" in outcome) {
    if (guest.stop !== undefined) throw guest.stop;
    const [code, remedy] = remedies[outcome.fault];
    throw new CniError(code, `Cannot run ${plugin} to its end: ${outcome.fault}: ${outcome.detail}`, { remedy });
  }
  const document = readDocument(plugin, outcome.stdout);
  if (outcome.exit !== 0) {
    const { code, msg, details } = document ?? {};
    if (typeof code !== "number" || typeof msg !== "string") {
      throw new CniError(Code.Internal, `Cannot run ${plugin}: exit ${outcome.exit} without a CNI error on stdout`, {
        remedy: "Report this to the author of the plugin, with the log lines of the same container",
      });
    }
    throw new CniError(code, msg, { remedy: typeof details === "string" ? details : "" });
  }
  if (operation !== "ADD") return undefined;
  if (document === undefined) {
    throw new CniError(Code.Decode, `Cannot use the answer of ${plugin}: stdout is empty, expected a result`, {
      remedy: "Report this to the author of the plugin",
    });
  }
  checkHonest(guest, document);
  return document;
}

function readDocument(plugin: string, stdout: Uint8Array): JsonObject | undefined {
  if (stdout.length === 0) return undefined;
  try {
    const document = parseJson(stdout);
    if (isObject(document)) return document;
    throw new JsonError(`expected an object, got ${show(document)}`);
  } catch (thrown) {
    if (!(thrown instanceof JsonError)) throw thrown;
    throw new CniError(Code.Decode, `Cannot use the answer of ${plugin}: ${thrown.message}`, {
      remedy: "Report this to the author of the plugin",
      cause: thrown,
    });
  }
}

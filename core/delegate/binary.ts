/** CNI binaries as delegates: found on CNI_PATH, run with a deadline in a process group of their own. */
import { type PluginType, parsePluginType, show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, JsonError, type JsonObject, parseJson } from "../base/json.ts";
import { delegateEnvironment } from "../cni/env.ts";
import { parseResult } from "../cni/result.ts";
import type { Result } from "../cni/types.ts";
import { parseVersionAnswer } from "../cni/version.ts";
import { ioFailure } from "../state/failure.ts";
import { type ChildOutcome, type ChildSpec, runChild } from "../sys/child.ts";
import { deadlineIn } from "../sys/clock.ts";
import { requireExecutable, statOf } from "../sys/files.ts";
import { statTarget } from "../sys/libc.ts";
import { requireTrusted } from "../sys/trust.ts";
import { tellAuthor } from "./author.ts";
import type { Delegate, DelegateCall } from "./delegate.ts";
import { HELD, heldBy } from "./held.ts";
import type { AttachmentContext, DelegateNode } from "./node.ts";

/** The most that a delegate may print on stdout, and on stderr: security.md gives no larger sane result. */
const MAX_OUTPUT_BYTES = 1 << 20;
const MAX_STDERR_SHOWN = 400;
const VERSION_DEADLINE_MS = 5_000;

/**
 * The executable that a plugin type names.
 *
 * @throws {CniError} 7 when no directory of CNI_PATH has it, or the one that has it could be written by others.
 */
export function findBinary(type: PluginType, path: readonly string[]): string {
  for (const directory of path) {
    if (!directory.startsWith("/")) continue;
    const file = `${directory.replace(/\/+$/, "")}/${type}`;
    if (statOf(file)?.isFile !== true) continue;
    requireTrusted(directory, "the plugin directory", Code.InvalidConfig);
    requireTrusted(file, "the plugin", Code.InvalidConfig);
    try {
      requireExecutable(file);
    } catch (cause) {
      throw new CniError(Code.InvalidConfig, `Cannot run plugin "${type}": "${file}" is not executable`, {
        remedy: `Run "chmod 755 ${file}"`,
        cause,
      });
    }
    return file;
  }
  throw new CniError(
    Code.InvalidConfig,
    `Cannot find plugin "${type}" in ${path.length === 0 ? "CNI_PATH, which is empty" : `"${path.join(":")}"`}`,
    { remedy: 'Install the plugin into one of these directories, or correct the key "type"' },
  );
}

/** A CNI binary as a delegate. The file is looked up at once, so a missing plugin is known before anything is made. */
export function binaryDelegate(type: string, path: readonly string[], node: DelegateNode): Delegate {
  const file = findBinary(parsePluginType(type), path);
  return {
    type,
    how: "binary",
    versions: () => binaryVersions(type, file, node),
    run: (call, context) => runBinary(type, file, call, context),
  };
}

function binaryVersions(type: string, file: string, node: DelegateNode): readonly string[] {
  const identity = statTarget(file).state;
  const known = node.versions.get(identity);
  if (known !== undefined) return known;
  const outcome = runProgram(type, {
    path: file,
    argv: [file],
    // Old plugins look at the whole environment before the command: libcni fills it with the same word.
    env: delegateEnvironment(node.environment, {
      command: "VERSION",
      containerId: "dummy",
      netns: "dummy",
      ifname: "dummy",
      path: ["dummy"],
    }),
    stdin: new TextEncoder().encode('{"cniVersion":"1.1.0"}'),
    deadlineMs: Math.min(deadlineIn(VERSION_DEADLINE_MS), node.deadlineMs),
    maxStdoutBytes: MAX_OUTPUT_BYTES,
    maxStderrBytes: MAX_OUTPUT_BYTES,
    ...(node.stop && { stop: node.stop }),
  });
  requireEnded(type, "VERSION", outcome);
  const versions = parseVersionAnswer(type, answerOf(type, outcome.stdout));
  node.versions.put(identity, versions);
  return versions;
}

function runBinary(type: string, file: string, call: DelegateCall, context: AttachmentContext): Result | undefined {
  const { node, journal } = context;
  const { target, plugin } = call;
  const above = {
    ...(target.containerId !== "" && { [HELD]: heldBy(target.containerId) }),
    ...tellAuthor(context.author, node),
  };
  const outcome = runProgram(type, {
    path: file,
    argv: [file],
    env: { ...delegateEnvironment(node.environment, { command: call.command, ...target }), ...above },
    stdin: new TextEncoder().encode(JSON.stringify(call.conf)),
    deadlineMs: Math.min(deadlineIn(node.delegateTimeoutMs), node.deadlineMs),
    maxStdoutBytes: MAX_OUTPUT_BYTES,
    maxStderrBytes: MAX_OUTPUT_BYTES,
    // Before it has its input: whoever takes the lock after we were killed can end it.
    onStart: (process) => journal?.append({ is: "running", plugin, process }),
    ...(node.stop && { stop: node.stop }),
  });
  journal?.ended(plugin);
  requireEnded(type, call.command, outcome);
  if (!("exit" in outcome.end) || outcome.end.exit !== 0) throw failureOf(type, call.command, outcome);
  if (call.command !== "ADD") return undefined;
  const answer = answerOf(type, outcome.stdout);
  const version = typeof call.conf.cniVersion === "string" ? call.conf.cniVersion : "0.1.0";
  return parseResult(answer, version);
}

function runProgram(type: string, spec: ChildSpec): ChildOutcome {
  try {
    return runChild(spec);
  } catch (cause) {
    throw ioFailure(`Cannot start plugin "${type}"`, `Check that "${spec.path}" is a program for this machine`, cause);
  }
}

/** Ends that say nothing about the request itself: too long, too much, stopped, killed. */
function requireEnded(type: string, command: string, outcome: ChildOutcome): void {
  const { end } = outcome;
  if ("exit" in end) return;
  const stderr = stderrOf(outcome);
  if ("timedOut" in end) {
    throw new CniError(Code.TimedOut, `Cannot finish ${command} of plugin "${type}": it did not end in time${stderr}`, {
      remedy: 'Look for what it waits for, or raise "delegateTimeout" in the configuration',
    });
  }
  if ("stopped" in end) throw stopped(`${command} of plugin "${type}"`);
  if ("overflow" in end) {
    throw new CniError(
      Code.Limit,
      `Cannot take more than ${MAX_OUTPUT_BYTES} bytes on ${end.overflow} of plugin "${type}"`,
      {
        remedy: "Report this to the plugin's author",
      },
    );
  }
  throw new CniError(
    Code.Internal,
    `Cannot finish ${command} of plugin "${type}": signal ${end.signal} ended it${stderr}`,
    {
      remedy: "Look at the plugin's own log and at the kernel's, for the out-of-memory killer",
    },
  );
}

/** The error of an operation that was asked to stop: a retry mends it. */
export function stopped(what: string): CniError {
  return new CniError(Code.TryAgainLater, `Cannot finish ${what}: this process was asked to stop`, {
    remedy: "Try again; what was done so far is undone",
  });
}

function answerOf(type: string, stdout: Uint8Array): Json {
  try {
    return parseJson(stdout, { maxBytes: MAX_OUTPUT_BYTES });
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause;
    throw new CniError(Code.Decode, `Cannot read the answer of plugin "${type}": ${cause.message}`, {
      remedy: "Report this to the plugin's author",
      cause,
    });
  }
}

/** The delegate's own error document with its own code; without one, what it wrote to stderr. */
function failureOf(type: string, command: string, outcome: ChildOutcome): CniError {
  let doc: JsonObject = {};
  try {
    const parsed = parseJson(outcome.stdout, { maxBytes: MAX_OUTPUT_BYTES });
    if (isObject(parsed)) doc = parsed;
  } catch (thrown) {
    if (!(thrown instanceof JsonError)) throw thrown;
  }
  const code = typeof doc.code === "number" && doc.code > 0 ? doc.code : Code.Internal;
  const text = typeof doc.msg === "string" && doc.msg !== "" ? doc.msg : undefined;
  const exit = "exit" in outcome.end ? `exit code ${outcome.end.exit}` : "a signal";
  const details = typeof doc.details === "string" && doc.details !== "" ? doc.details : undefined;
  return new CniError(
    code,
    `Cannot ${command} with plugin "${type}": ${text ?? `${exit} and no error document${stderrOf(outcome)}`}`,
    { remedy: details ?? `See the documentation of plugin "${type}"` },
  );
}

function stderrOf(outcome: ChildOutcome): string {
  const text = new TextDecoder().decode(outcome.stderr).trim();
  return text === "" ? "" : `; it wrote ${show(text.slice(-MAX_STDERR_SHOWN))}`;
}

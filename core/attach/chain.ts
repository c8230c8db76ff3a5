/** One attachment's plugins, in order: ADD, CHECK. What DEL needs is written before each of them runs. */
import { CniError, Code } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import { typeOf } from "../cni/list.ts";
import { deriveRequest } from "../cni/request.ts";
import { formatResult } from "../cni/result.ts";
import { emptyResult, type NetworkList, type Result } from "../cni/types.ts";
import { chooseVersion, NEWEST } from "../cni/version.ts";
import { stopped } from "../delegate/binary.ts";
import type { Delegate, Target } from "../delegate/delegate.ts";
import { ipamBinary, requireMayGiveAddresses } from "../delegate/ipam.ts";
import type { AttachmentContext } from "../delegate/node.ts";
import { intendDelegate, recordId } from "../delegate/record.ts";
import { resolveDelegate } from "../delegate/resolve.ts";
import type { Journal } from "../state/journal.ts";
import { monotonicMs } from "../sys/clock.ts";

export interface ChainRequest {
  readonly list: NetworkList;
  readonly target: Target;
  readonly capabilityValues: JsonObject;
  /** What stood before us in the runtime's own list. */
  readonly prevResult?: Result;
}

/** A list whose plugins are found and that has a version: nothing has been made yet. */
export interface Chain {
  readonly request: ChainRequest;
  readonly delegates: readonly Delegate[];
  readonly version: string;
}

/**
 * Finds the plugins of a list, with the CNI binaries that give built-ins their addresses, and the version that all of
 * them run in.
 *
 * @throws {CniError} 7 for a plugin that is not there, 1 for plugins without a version in common.
 */
export function openChain(
  request: ChainRequest,
  context: Pick<AttachmentContext, "node" | "network" | "author">,
): Chain {
  const { list, target } = request;
  const delegates = list.plugins.map((plugin) => resolveDelegate(typeOf(plugin), target.path, context));
  const ipams = list.plugins.flatMap((plugin, i) => {
    if (delegates[i]?.how !== "binary") return ipamBinary(plugin, target.path, context) ?? [];
    requireMayGiveAddresses(plugin, context); // the binary finds it itself
    return [];
  });
  const version = chooseVersion(
    list.name,
    list.cniVersion,
    [...delegates, ...ipams].map((d) => ({ type: d.type, supported: d.versions() })),
  );
  return { request, delegates, version };
}

/**
 * Runs ADD of each plugin in order. On failure what was done stays in the journal, for the caller to undo.
 *
 * @returns The last plugin's result.
 * @throws {CniError} The first failure.
 */
export function addChain(chain: Chain, context: AttachmentContext & { readonly journal: Journal }): Result {
  const { request, delegates, version } = chain;
  let result = request.prevResult;
  for (const [plugin, delegate] of delegates.entries()) {
    requireTime(context, `ADD of plugin "${delegate.type}"`);
    const conf = deriveRequest(request.list, plugin, version, {
      runtimeConfig: request.capabilityValues,
      ...(result && { prevResult: result }),
    });
    const { type, how, sha256 } = delegate;
    intendDelegate({ plugin, type, how, conf, sha256 }, request.target, context);
    result = delegate.run({ command: "ADD", target: request.target, plugin, conf }, context) ?? emptyResult;
    const known = formatResult(result, NEWEST);
    context.journal.append({ is: "result", plugin, result: known });
    if (delegate.how !== "guest") context.node.store.durable.putResult(recordId(context.journal, plugin), known);
  }
  return result ?? emptyResult;
}

/** @throws {CniError} 11 when we were asked to stop, 126 when the whole operation's time is over. */
export function requireTime(context: Pick<AttachmentContext, "node">, what: string): void {
  if (context.node.stop?.requested) throw stopped(what);
  if (monotonicMs() < context.node.deadlineMs) return;
  throw new CniError(Code.TimedOut, `Cannot begin ${what}: the operation's time is over`, {
    remedy: 'Find what was slow in the operations log, or raise "timeout" in the configuration',
  });
}

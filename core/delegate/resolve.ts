/** From a plugin's type to what runs it. */
import { type PluginType, parsePluginType, show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { refuseBinary } from "../policy/policy.ts";
import { statOf } from "../sys/files.ts";
import { binaryDelegate, findBinary } from "./binary.ts";
import type { Delegate } from "./delegate.ts";
import { guestDelegate } from "./guest.ts";
import type { AttachmentContext } from "./node.ts";

/** Types of ours that attach whole pods or give addresses: they are not plugins of a network. */
const NOT_IN_A_LIST: ReadonlySet<string> = new Set(["patchbay", "host-local", "static"]);

/**
 * A built-in where we have one of that name, else a CNI binary of CNI_PATH.
 *
 * @param path The runtime's CNI_PATH.
 * @throws {CniError} 7 when there is none, 101 when the policy does not let this network run it.
 */
export function resolveDelegate(
  type: string,
  path: readonly string[],
  context: Pick<AttachmentContext, "node" | "network" | "author" | "settled">,
): Delegate {
  const plugin = context.node.builtIn(type);
  if (plugin !== undefined) return guestDelegate(plugin);
  if (NOT_IN_A_LIST.has(type)) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot use ${show(type)} as a plugin of network "${context.network}": it ${type === "patchbay" ? "is what attaches the network" : "gives addresses and attaches nothing"}`,
      {
        remedy:
          type === "patchbay"
            ? "Name the plugins that the network is made of"
            : `Use it as "ipam": {"type": "${type}"}`,
      },
    );
  }
  const refusal = context.settled ? undefined : refuseBinary(context.node.policy, context.author, type);
  if (refusal !== undefined) throw refusal;
  const delegate = binaryDelegate(type, path, context.node);
  if (!isOurselves(parsePluginType(type), path)) return delegate;
  // As a meta-plugin we would take a configuration for the administrator's that somebody else wrote.
  throw new CniError(
    Code.InvalidConfig,
    `Cannot use ${show(type)} as a plugin of network "${context.network}": its file is Patchbay itself`,
    { remedy: "Name the plugins that the network is made of" },
  );
}

/**
 * The module that a record names, for its DEL. A built-in of another release is taken for it: each undoes what its
 * former releases noted. A CNI binary of the same name never is.
 *
 * @param sha256 Of the module that ran on ADD; `undefined` in records of before it was kept.
 * @throws {CniError} 7 when there is no such module here.
 */
export function recordedGuest(
  type: string,
  sha256: string | undefined,
  node: Pick<AttachmentContext["node"], "builtIn" | "log">,
): Delegate {
  const plugin = node.builtIn(type);
  if (plugin === undefined) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot undo what module ${show(type)} did: ${sha256 === undefined ? "it" : `the module ${sha256.slice(0, 12)}`} is not here`,
      { remedy: "Install the release of Patchbay that has it, then delete the pod again" },
    );
  }
  if (sha256 !== undefined && sha256 !== plugin.sha256) {
    node.log("info", `module "${type}" was ${sha256.slice(0, 12)} on ADD and is ${plugin.sha256.slice(0, 12)} now`);
  }
  return guestDelegate(plugin);
}

/** Whether the file is the program that runs now, by whichever link. */
export const isOurselves = (type: PluginType, path: readonly string[]): boolean =>
  statOf(findBinary(type, path))?.state === statOf("/proc/self/exe")?.state;

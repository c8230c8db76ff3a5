/** STATUS: whether an ADD of the default network can be served. Never the agent, the API server or a secondary. */
import { CniError, Code } from "../base/error.ts";
import { typeOf } from "../cni/list.ts";
import { deriveRequest } from "../cni/request.ts";
import type { NetworkList } from "../cni/types.ts";
import { isAtLeast } from "../cni/version.ts";
import type { MetaConf } from "../plan/conf.ts";
import type { Author } from "../policy/policy.ts";
import { openNetworks } from "../source/networks.ts";
import { ioFailure } from "../state/failure.ts";
import { Dir } from "../sys/dir.ts";
import { authorOf } from "./add.ts";
import { openChain } from "./chain.ts";
import type { Node } from "./node.ts";
import type { Operation } from "./operation.ts";

const STATUS_SINCE = "1.1.0";

/** @throws {CniError} 50, with what is missing and what to do. */
export function statusOfPods(path: readonly string[], conf: MetaConf, operation: Operation): void {
  const { node } = operation;
  if (conf.defaultNetwork === undefined) {
    probeState(node); // another provider stands before us and answers for its network
    return;
  }
  const networks = openNetworks({
    networksDir: conf.networksDir,
    runDir: node.store.path,
    ownTypes: ["patchbay", conf.type],
  });
  try {
    const found = networks.defaultNetwork(conf.defaultNetwork, conf);
    statusOfNetwork(found.list, path, authorOf(found), operation);
  } catch (thrown) {
    throw notAvailable(thrown);
  }
}

/** The network's plugins are found, the engine loads where one of them is a guest, and each says that it can serve. */
export function statusOfNetwork(
  list: NetworkList,
  path: readonly string[],
  author: Author,
  operation: Operation,
): void {
  const { node } = operation;
  probeState(node);
  const target = { containerId: "", ifname: "", netns: "", args: new Map(), path };
  const context = { node, network: list.name, author };
  const chain = openChain({ list, target, capabilityValues: {} }, context);
  if (list.plugins.some((plugin) => node.builtIn(typeOf(plugin)) !== undefined)) node.engine();
  for (const [plugin, delegate] of chain.delegates.entries()) {
    if (!isAtLeast(chain.version, STATUS_SINCE)) continue;
    delegate.run({ command: "STATUS", target, plugin, conf: deriveRequest(list, plugin, chain.version) }, context);
  }
}

function probeState(node: Node): void {
  try {
    using dir = Dir.open(node.store.path, { create: true });
    const probe = `probe-${process.pid}`;
    dir.replace(probe, new Uint8Array([1]));
    dir.remove(probe);
  } catch (cause) {
    const remedy = `Make "${node.store.path}" a writable directory on a local file system`;
    throw notAvailable(ioFailure(`Cannot write to the state directory "${node.store.path}"`, remedy, cause));
  }
}

/** A plugin's own 50 or 51 goes through; whatever else stands in the way means "not available". */
function notAvailable(thrown: unknown): CniError {
  const cause = CniError.from(thrown);
  if (cause.code === Code.NotAvailable || cause.code === Code.NotAvailableImpaired) return cause;
  return new CniError(Code.NotAvailable, cause.message, { remedy: cause.remedy, cause: thrown });
}

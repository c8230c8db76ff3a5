/**
 * GC: the runtime says which of its attachments are valid. Its list names containers and its own interfaces, so what of
 * ours stays is worked out from the journals.
 */
import { parseNetnsPath, parseNetworkName } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { typeOf } from "../cni/list.ts";
import type { ValidAttachment } from "../cni/request.ts";
import type { NetConf, NetworkList } from "../cni/types.ts";
import { isAtLeast, NEWEST } from "../cni/version.ts";
import { isIpamNumber } from "../delegate/ipam.ts";
import type { AttachmentContext } from "../delegate/node.ts";
import { settledAuthor } from "../delegate/record.ts";
import { resolveDelegate } from "../delegate/resolve.ts";
import type { GarbageQuestion } from "../ipam/ipam.ts";
import type { Author } from "../policy/policy.ts";
import { cachedOfNetwork, LIBCNI_RESULTS, MULTUS_RESULTS } from "../source/former.ts";
import type { Journal } from "../state/journal.ts";
import { monotonicMs } from "../sys/clock.ts";
import { deleteJournals } from "./delete.ts";
import type { Node } from "./node.ts";
import type { Operation } from "./operation.ts";
import { isAlive } from "./pod.ts";
import { combined } from "./undo.ts";

const GC_SINCE = "1.1.0";

export interface GarbageCall {
  /** The name of the runtime's configuration, whose attachments the list is about. */
  readonly network: string;
  readonly type: string;
  /** `undefined` when the runtime sent none, or `null`. */
  readonly valid: readonly ValidAttachment[] | undefined;
  readonly path: readonly string[];
  /** Whose GC is asked for beside that of the networks that the journals name. */
  readonly networks: readonly NetworkList[];
  /** Who wrote those. */
  readonly author: Author;
}

/** A network's plugins, as they are asked. */
interface Known {
  readonly name: string;
  readonly plugins: readonly NetConf[];
  readonly rights: Pick<AttachmentContext, "author" | "settled">;
}

interface Kept {
  readonly container: string;
  readonly ifname: string;
  readonly network: string;
}

/** @throws {CniError} When something could not be removed, after everything else was. */
export function collectGarbage(call: GarbageCall, operation: Operation): void {
  const { node } = operation;
  const listed = new Set(call.valid?.map((attachment) => attachment.containerID));
  const failures: CniError[] = [];
  const networks = new Map<string, Known>();
  for (const list of call.networks) {
    if (list.disableGC) continue;
    const { author } = call;
    networks.set(keyOf(list.name, author), { name: list.name, plugins: withNames(list), rights: { author } });
  }
  const kept: Kept[] = [];
  for (const id of node.store.containers()) {
    using container = operation.lockIfFree(id);
    const journals = container?.attachments() ?? node.store.peek(id);
    for (const journal of journals) remember(journal, networks);
    const ours = journals.filter(({ header }) => header.type === call.type && header.call.network === call.network);
    const dead = container === undefined || listed.has(id) ? [] : ours.filter((journal) => !isAlive(journal, node));
    failures.push(...deleteJournals(dead, { path: call.path }, operation));
    for (const { header, removed } of journals) {
      if (!removed) kept.push({ container: id, ifname: header.ifname, network: header.network });
    }
  }
  for (const { name, plugins, rights } of networks.values()) {
    for (const [plugin, conf] of plugins.entries()) {
      try {
        collectDelegate({ network: name, plugin, conf, rights, kept, path: call.path, listed }, node);
      } catch (thrown) {
        failures.push(CniError.from(thrown));
      }
    }
  }
  if (failures.length > 0) throw combined(failures);
}

/** Networks of one name that different people wrote are different ones. */
const keyOf = (name: string, author: Author): string => `${"node" in author ? "" : author.namespace}/${name}`;

/** The plugins of networks that live on in journals alone, as their last ADD had them. */
function remember(journal: Journal, networks: Map<string, Known>): void {
  const { network, disableGC } = journal.header;
  const rights = settledAuthor(journal.header);
  const key = keyOf(network, rights.author);
  if (disableGC || networks.has(key)) return;
  const confs = journal.entries.flatMap((entry) =>
    entry.is === "delegate" && !isIpamNumber(entry.plugin) ? [withoutResult(entry.config)] : [],
  );
  networks.set(key, { name: network, plugins: confs, rights });
}

function withoutResult(config: NetConf): NetConf {
  const { prevResult: _, runtimeConfig: __, ...conf } = config;
  return conf;
}

const withNames = (list: NetworkList): readonly NetConf[] =>
  list.plugins.map((plugin) => ({ ...plugin, cniVersion: list.cniVersion, name: list.name }));

interface DelegateGarbage {
  readonly network: string;
  readonly plugin: number;
  readonly conf: NetConf;
  readonly rights: Known["rights"];
  readonly kept: readonly Kept[];
  readonly path: readonly string[];
  /** Container ids of the runtime's list. */
  readonly listed: ReadonlySet<string>;
}

function collectDelegate({ network, plugin, conf, rights, kept, path, listed }: DelegateGarbage, node: Node): void {
  const version = typeof conf.cniVersion === "string" ? conf.cniVersion : NEWEST;
  if (!isAtLeast(version, GC_SINCE) || monotonicMs() > node.deadlineMs) return;
  const ours = kept.filter((k) => k.network === network);
  const valid = [...ours, ...othersOf(network, ours, listed, node)].map(({ container, ifname }) => ({
    containerID: container,
    ifname,
  }));
  const context = {
    node,
    network: parseNetworkName(network),
    ...rights,
    gc: question(valid, listed, node),
  };
  const delegate = resolveDelegate(typeOf(conf), path, context);
  if (!delegate.versions().some((v) => isAtLeast(v, GC_SINCE))) return;
  delegate.run(
    {
      command: "GC",
      target: { containerId: "", ifname: "", netns: "", args: new Map(), path },
      plugin,
      conf: { ...conf, "cni.dev/valid-attachments": valid, "cni.dev/attachments": valid },
    },
    context,
  );
}

/**
 * Attachments of the network that another program made: a plugin that frees what no list names must not free theirs.
 * They count while the runtime knows the container, or its namespace is where it was.
 */
function othersOf(
  network: string,
  ours: readonly Kept[],
  listed: ReadonlySet<string>,
  node: Node,
): readonly Pick<Kept, "container" | "ifname">[] {
  return [LIBCNI_RESULTS, MULTUS_RESULTS]
    .flatMap((dir) => cachedOfNetwork(network, dir))
    .filter(({ containerId, ifname }) => !ours.some((o) => o.container === containerId && o.ifname === ifname))
    .filter(({ containerId, netns }) => listed.has(containerId) || isNamespace(netns, node))
    .map(({ containerId, ifname }) => ({ container: containerId, ifname }));
}

function isNamespace(path: string | undefined, node: Node): boolean {
  if (path === undefined) return false;
  try {
    using pod = node.openPod(parseNetnsPath(path));
    return pod !== undefined;
  } catch (thrown) {
    if (thrown instanceof CniError) return false; // no path, or something else stands there
    throw thrown;
  }
}

/**
 * What an IPAM of ours may free. A lease of a container that has no journal and that the runtime does not know is
 * nobody's; without the runtime's word it stays.
 */
function question(valid: GarbageQuestion["valid"], listed: ReadonlySet<string>, node: Node): GarbageQuestion {
  let named: Set<string> | undefined;
  return {
    valid,
    isAlive({ container }) {
      if (listed.has(container) || node.store.containers().some((id) => id === container)) return true;
      return listed.size > 0 ? false : undefined;
    },
    isNamed(pool, address) {
      named ??= namedLeases(node);
      return named.has(`${pool}/${address}`);
    },
  };
}

function namedLeases(node: Node): Set<string> {
  const named = new Set<string>();
  for (const id of node.store.containers()) {
    for (const journal of node.store.peek(id)) {
      for (const { step } of journal.pending()) if (step.do === "lease") named.add(`${step.pool}/${step.address}`);
    }
  }
  return named;
}

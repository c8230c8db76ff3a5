/** ADD of a pod: the default network first, then each selected one; all of them or none. */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import { POD_ANNOTATIONS } from "../cni/capability.ts";
import type { AttachmentInvocation } from "../cni/env.ts";
import { formatResult } from "../cni/result.ts";
import { emptyResult, type NetworkList, type Result } from "../cni/types.ts";
import { NEWEST } from "../cni/version.ts";
import type { AttachmentContext } from "../delegate/node.ts";
import { RESOURCE_NAME } from "../multinet/nad.ts";
import {
  choosesAddress,
  DEFAULT_NETWORK,
  NETWORKS,
  parseDefaultSelection,
  parseSelections,
  type Selection,
} from "../multinet/selection.ts";
import { statusDocument, statusOf } from "../multinet/status.ts";
import { type MetaConf, podAnnotations } from "../plan/conf.ts";
import { type Attachment, makePlan, type Plan, type PlanInput, requireMaySelect } from "../plan/plan.ts";
import { type Pod, podOf } from "../plan/pod.ts";
import { type Author, refuseChosenAddress, refuseChosenDevice, refuseNodeFile } from "../policy/policy.ts";
import { type FoundNetwork, openNetworks } from "../source/networks.ts";
import type { ContainerState } from "../state/container.ts";
import type { Journal } from "../state/journal.ts";
import { addChain, type Chain, openChain } from "./chain.ts";
import { moveDefaultRoutes, type Routed } from "./default-route.ts";
import { beginInfo, finishedInfo, withInfoFile } from "./device-info.ts";
import type { PodNetns } from "./node.ts";
import type { Operation } from "./operation.ts";
import { isAlive } from "./pod.ts";
import { undoAttachments } from "./undo.ts";

export type AddInvocation = Extract<AttachmentInvocation, { command: "ADD" | "CHECK" }>;

/** One attachment as it is to be made; `author` decides what the policy lets it do. */
export interface Wanted {
  readonly attachment: Attachment;
  readonly author: Author;
  readonly prevResult?: Result;
}

/** What the runtime asked for, by which its DEL will find it again. */
export interface Caller {
  /** "patchbay", or the name of the built-in that was called. */
  readonly type: string;
  readonly network: string;
  readonly pod?: Pod;
}

/**
 * @returns The default network's result in the configuration's version; where another provider's result came in, that
 * one.
 * @throws {CniError} The first failure, after everything was undone.
 */
export function addPod(invocation: AddInvocation, conf: MetaConf, operation: Operation): JsonObject {
  const { node } = operation;
  const pod = podOf(invocation.args);
  using netns = openPodNetns(invocation, operation);
  const { plan, authors } = planPod(invocation, conf, pod, operation);
  operation.step("plan");
  const caller: Caller = { type: "patchbay", network: conf.name, ...(pod && { pod }) };
  if (plan.attachments.length === 0) return formatResult(conf.prevResult ?? emptyResult, conf.cniVersion);
  using container = lockForAdd(invocation, operation);
  replaceDead(container, invocation, caller, netns, operation);
  const wanted = plan.attachments.map(
    (attachment, i): Wanted => ({ attachment, author: authors[i] ?? { node: true } }),
  );
  const before: Routed[] =
    conf.prevResult === undefined
      ? []
      : [{ index: -1, label: conf.name, ifname: invocation.ifname, result: conf.prevResult }];
  const results = attachAll(wanted, plan.defaultRoutes, before, { invocation, caller, container, netns, operation });
  node.log("debug", `attached ${plan.attachments.length} networks`);
  const answer = results.get(conf.prevResult === undefined ? 0 : -1) ?? emptyResult;
  return formatResult(answer, conf.cniVersion);
}

/** @throws {CniError} 8 when there is no network namespace at the path, or it is our own. */
export function openPodNetns(invocation: AddInvocation, operation: Operation): PodNetns {
  const netns = operation.node.openPod(invocation.netns);
  if (netns === undefined) {
    throw new CniError(Code.InvalidNetns, `Cannot use network namespace "${invocation.netns}": it is not there`, {
      remedy: "Start the pod again; its sandbox has gone",
    });
  }
  if (!invocation.overrideNetnsCheck && netns.cookie === String(operation.node.ownNetns.cookie)) {
    netns[Symbol.dispose]();
    throw new CniError(
      Code.InvalidNetns,
      `Cannot attach networks to "${invocation.netns}": it is the node's own network namespace`,
      { remedy: "Leave a pod with hostNetwork to the node's network" },
    );
  }
  return netns;
}

export function lockForAdd(invocation: AddInvocation, operation: Operation): ContainerState {
  const container = operation.lock(invocation.containerId, true);
  if (container === undefined) throw new TypeError("Cannot lock the container: it was not made");
  return container;
}

/**
 * ADD again with the identity of a journal: its namespace gone, it is undone; alive, that is an error.
 *
 * @throws {CniError} 102
 */
export function replaceDead(
  container: ContainerState,
  invocation: AddInvocation,
  caller: Caller,
  netns: PodNetns,
  operation: Operation,
): void {
  const former = container.attachments().filter((journal) => isOf(journal, caller, invocation.ifname));
  if (former.length === 0) return;
  const { node } = operation;
  const alive = former.find((journal) => journal.header.netns.cookie === netns.cookie || isAlive(journal, node));
  if (alive !== undefined) {
    throw new CniError(
      Code.InterfaceTaken,
      `Cannot add "${invocation.ifname}" of network "${caller.network}" to container "${invocation.containerId}": ${
        alive.done === undefined ? "an ADD that did not end has begun it" : "it is there already"
      }`,
      { remedy: "Delete it first (CNI DEL with the same container id and interface)" },
    );
  }
  const failures = undoAttachments(former, { node, pod: undefined, netns: "", path: invocation.path });
  if (failures[0] !== undefined) throw failures[0];
}

export function isOf(journal: Journal, caller: Pick<Caller, "type" | "network">, ifname: string): boolean {
  const { header } = journal;
  return header.type === caller.type && header.call.network === caller.network && header.call.ifname === ifname;
}

// --- what to attach ----------------------------------------------------------------------------------------------

interface Planned {
  readonly plan: Plan;
  /** Who wrote each attachment's configuration, in their order. */
  readonly authors: readonly Author[];
}

/** Reads the annotations, finds the networks, and makes the plan. @throws {CniError} 7, 100 to 103 */
export function planPod(
  invocation: AddInvocation,
  conf: MetaConf,
  pod: Pod | undefined,
  operation: Operation,
): Planned {
  const { policy, store } = operation.node;
  const annotations = podAnnotations(conf);
  if (annotations === undefined && pod !== undefined) throw noSource(conf);
  const namespace = pod?.namespace ?? "default";
  const networks = openNetworks({
    networksDir: conf.networksDir,
    runDir: store.path,
    ownTypes: ["patchbay", conf.type],
  });
  const authors: Author[] = [];
  const defaultNetwork = conf.prevResult === undefined ? findDefault() : undefined;
  const selections = parseSelections(annotations?.[NETWORKS], namespace).map((selection) => {
    requireMaySelect(conf, pod, selection);
    const found = networks.nad(selection.namespace, selection.name);
    const author = authorOf(found);
    requirePolicy(selection, found, author);
    authors.push(author);
    return { selection, list: found.list, resource: found.nad?.annotations[RESOURCE_NAME] };
  });
  const input: PlanInput = {
    invocation,
    conf,
    ...(pod && { pod }),
    ...(defaultNetwork && { defaultNetwork }),
    selections,
    ...(conf.prevResult && { taken: new Map([[invocation.ifname, "the network before Patchbay in the list"]]) }),
  };
  return { plan: makePlan(input), authors };

  function findDefault(): NonNullable<PlanInput["defaultNetwork"]> {
    const selection = parseDefaultSelection(annotations?.[DEFAULT_NETWORK], conf.systemNamespaces[0] ?? "kube-system");
    if (selection !== undefined) {
      requireMaySelect(conf, pod, selection, true);
      const found = networks.nad(selection.namespace, selection.name);
      const author = authorOf(found);
      requirePolicy(selection, found, author);
      authors.push(author);
      return { list: found.list, label: found.label, selection };
    }
    if (conf.defaultNetwork === undefined) {
      throw new CniError(Code.InvalidConfig, 'Cannot attach the pod: "defaultNetwork" is not in the configuration', {
        remedy: 'Add "defaultNetwork", or put Patchbay behind the plugin that makes the default network',
      });
    }
    const found = networks.defaultNetwork(conf.defaultNetwork, conf);
    authors.push(authorOf(found));
    return { list: found.list, label: found.label };
  }

  function requirePolicy(selection: Selection, found: FoundNetwork, author: Author): void {
    const refusal =
      (choosesAddress(selection) ? refuseChosenAddress(policy, namespace) : undefined) ??
      (selection.deviceID === undefined ? undefined : refuseChosenDevice(policy, namespace)) ??
      (found.nad !== undefined && found.nad.config === undefined
        ? refuseNodeFile(policy, author, selection.name)
        : undefined);
    if (refusal !== undefined) throw refusal;
  }
}

export function authorOf({ nad }: FoundNetwork): Author {
  if (nad === undefined) return { node: true };
  return { namespace: nad.namespace, ...(nad.config === undefined && { nodeFile: true }) };
}

/** A pod must never start without a network that it asked for, only because nobody could read what it asked. */
function noSource(conf: MetaConf): CniError {
  return new CniError(
    Code.InvalidConfig,
    `Cannot know which networks the pod asks for: configuration "${conf.name}" has no source of its annotations`,
    { remedy: `Add "capabilities": {"${POD_ANNOTATIONS}": true} to the plugin's configuration` },
  );
}

// --- attaching ---------------------------------------------------------------------------------------------------

interface AttachContext {
  readonly invocation: AddInvocation;
  readonly caller: Caller;
  readonly container: ContainerState;
  readonly netns: PodNetns;
  readonly operation: Operation;
}

/**
 * Makes the attachments in order, moves the default routes, and records that all is done. When anything fails, all of
 * it is undone.
 *
 * @returns Each attachment's result by its index.
 */
export function attachAll(
  wanted: readonly Wanted[],
  defaultRoutes: Plan["defaultRoutes"],
  before: readonly Routed[],
  context: AttachContext,
): Map<number, Result> {
  const { operation, netns, invocation } = context;
  const { node } = operation;
  const opened = wanted.map((w) => ({ wanted: w, chain: naming(w.attachment, () => openWanted(w, context)) }));
  const journals: Journal[] = [];
  try {
    const made = opened.map(({ wanted: w, chain }, index) => {
      const journal = begin(w, context);
      journals.push(journal);
      beginInfo(w.attachment, journal);
      const result = naming(w.attachment, () => addChain(chain, { ...attachmentContext(w, context), journal }));
      operation.step(index === 0 ? "default" : "secondaries");
      return { index, label: w.attachment.label, ifname: w.attachment.ifname, result };
    });
    const results = moveDefaultRoutes(defaultRoutes, [...before, ...made], netns.kernel);
    for (const [index, journal] of journals.entries()) {
      const result = results.get(index) ?? emptyResult;
      const { label, isDefault } = journal.header;
      const attachment = wanted[index]?.attachment;
      const info = attachment && finishedInfo(attachment, context.container.id);
      journal.commit(formatResult(result, NEWEST), statusOf(label, isDefault, result, info).map(statusDocument));
    }
    operation.step("commit");
    return results;
  } catch (thrown) {
    node.beginUndo();
    const failures = undoAttachments(journals, {
      node,
      pod: netns.kernel,
      netns: invocation.netns,
      path: invocation.path,
    });
    for (const failure of failures) node.log("error", `undo: ${failure.message}`);
    operation.step("undo");
    throw thrown;
  }
}

/** Of a pod's several networks the error says which one it was. */
function naming<T>({ ifname, label, isDefault }: Attachment, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    if (isDefault) throw thrown;
    const cause = CniError.from(thrown);
    throw new CniError(cause.code, `Cannot attach "${ifname}" to network ${show(label)}: ${cause.message}`, {
      remedy: cause.remedy,
      cause: thrown,
    });
  }
}

function begin({ attachment, author }: Wanted, context: AttachContext): Journal {
  const { network, ifname, label, isDefault, list } = attachment;
  const { caller, container, netns, operation, invocation } = context;
  return container.begin({
    container: container.id,
    network,
    ifname,
    type: caller.type,
    call: { network: caller.network, ifname: invocation.ifname },
    label,
    isDefault,
    netns: { path: netns.path, cookie: netns.cookie },
    ...(caller.pod && { pod: caller.pod }),
    ...(!("node" in author) && { author }),
    ...(list.disableCheck && { disableCheck: true }),
    ...(list.disableGC && { disableGC: true }),
    operation: operation.id,
    createdMs: Date.now(),
  });
}

function attachmentContext(wanted: Wanted, context: AttachContext): AttachmentContext {
  const { attachment, author } = wanted;
  return {
    node: context.operation.node,
    network: attachment.network,
    identity: { container: context.container.id, ifname: attachment.ifname },
    author,
    pod: context.netns.kernel,
  };
}

function openWanted(wanted: Wanted, context: AttachContext): Chain {
  const { attachment, prevResult } = wanted;
  const { invocation } = context;
  return openChain(
    {
      list: attachment.list,
      target: {
        containerId: context.container.id,
        ifname: attachment.ifname,
        netns: invocation.netns,
        args: attachment.cniArgs,
        path: invocation.path,
      },
      capabilityValues: withInfoFile(attachment, context.container.id),
      ...(prevResult && { prevResult }),
    },
    attachmentContext(wanted, context),
  );
}

/**
 * One plugin object as a network of its own, for a built-in that the runtime calls by its name. Its capability values
 * were chosen by whoever calls, who may have kept the declarations to itself, as flannel does.
 */
export function soleAttachment(
  list: NetworkList,
  invocation: Pick<AttachmentInvocation, "ifname" | "args">,
  runtimeConfig: Json | undefined,
): Attachment {
  const capabilityValues = isObject(runtimeConfig) ? runtimeConfig : {};
  const capabilities = Object.fromEntries(Object.keys(capabilityValues).map((name) => [name, true]));
  return {
    network: list.name,
    label: list.name,
    ifname: invocation.ifname,
    isDefault: true,
    list: { ...list, plugins: list.plugins.map((plugin) => ({ ...plugin, capabilities })) },
    capabilityValues,
    cniArgs: invocation.args,
  };
}

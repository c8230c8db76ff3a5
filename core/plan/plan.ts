/**
 * What to attach, in which order, with which names and values: decided here and nowhere else. Pure, so `explain` prints
 * what ADD executes.
 */
import { type IfName, type NetworkName, parseIfName } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import { type AttachmentInvocation, type CniArgs, delegateArgs, formatCniArgs } from "../cni/env.ts";
import { declares, typeOf } from "../cni/list.ts";
import { familyOf, isDefaultRoute } from "../cni/result.ts";
import type { NetConf, NetworkList, Result, ResultRoute } from "../cni/types.ts";
import {
  type Bandwidth,
  DEFAULT_NETWORK,
  labelOf,
  MAX_ATTACHMENTS,
  NETWORKS,
  type Selection,
} from "../multinet/selection.ts";
import type { MetaConf } from "./conf.ts";
import type { Pod } from "./pod.ts";

export interface Attachment {
  /** The configuration's name: with container id and interface name the attachment's identity. */
  readonly network: NetworkName;
  /** `namespace/name` of the NAD, else the configuration's name: what the status calls it. */
  readonly label: string;
  readonly ifname: IfName;
  readonly isDefault: boolean;
  /** The configuration, requested arguments already in `args.cni` of each plugin. */
  readonly list: NetworkList;
  /** Values by capability; each plugin gets those that it declares. */
  readonly capabilityValues: JsonObject;
  readonly cniArgs: CniArgs;
  /** The device that the network's resource gave the pod, or that the selection names. */
  readonly deviceID?: string;
  /** The resource that the network's devices are of. */
  readonly resource?: string;
}

/** Who has the default route of a family, once all is attached. */
export interface RouteOwner {
  /** Index into `attachments`. */
  readonly owner: number;
  /** Absent: the attachment keeps the default routes that its network gave it. */
  readonly gateway?: string;
}

/** Families that nobody asked for stay as the networks made them. */
export interface DefaultRoutes {
  readonly 4?: RouteOwner;
  readonly 6?: RouteOwner;
}

export interface Plan {
  readonly pod?: Pod;
  readonly attachments: readonly Attachment[];
  readonly defaultRoutes: DefaultRoutes;
}

/** A network that the pod selected, with its configuration found. */
export interface SelectedNetwork {
  readonly selection: Selection;
  readonly list: NetworkList;
  /** The resource that the network's devices are of. */
  readonly resource?: string | undefined;
}

export interface PlanInput {
  readonly invocation: Pick<AttachmentInvocation, "ifname" | "args">;
  readonly conf: Pick<MetaConf, "namespaceIsolation" | "globalNamespaces" | "systemNamespaces" | "runtimeConfig">;
  readonly pod?: Pod;
  /** Absent when another provider stands before us in the list and has attached it. */
  readonly defaultNetwork?: {
    readonly list: NetworkList;
    readonly label: string;
    /** Of the annotation that replaces the default network. */
    readonly selection?: Selection;
  };
  readonly selections: readonly SelectedNetwork[];
  /** Interface names that the pod has already, with whose they are, such as `the network "cbr0"`. */
  readonly taken?: ReadonlyMap<string, string>;
}

/**
 * @throws {CniError} 7 for requests that contradict each other, 101 for a network of a namespace that the pod may not
 * use, 102 for an interface name used twice, 103 for a request that no plugin of the network declares.
 */
export function makePlan(input: PlanInput): Plan {
  const { invocation, conf, pod } = input;
  const attachments: Attachment[] = [];
  const asked: (readonly string[] | undefined)[] = [];
  const names = new Names(input.taken);
  const runtime = invocation.args;
  if (input.defaultNetwork !== undefined) {
    const { list, label, selection } = input.defaultNetwork;
    if (selection?.interface !== undefined && selection.interface !== invocation.ifname) {
      throw new CniError(
        Code.InvalidConfig,
        `Cannot use annotation "${DEFAULT_NETWORK}": interface: expected "${invocation.ifname}", which the runtime asked for, found "${selection.interface}"`,
        { remedy: `Leave "interface" out of the annotation "${DEFAULT_NETWORK}"` },
      );
    }
    if (selection !== undefined) requireMaySelect(conf, pod, selection, true);
    names.take(invocation.ifname, label, "the runtime's");
    asked.push(selection?.defaultRoute);
    attachments.push({
      ...attachment(list, label, invocation.ifname, true, selection, runtime),
      capabilityValues: { ...conf.runtimeConfig, ...requestedValues(list, label, selection) },
    });
  }
  if (input.selections.length + attachments.length > MAX_ATTACHMENTS) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot attach the pod: expected at most ${MAX_ATTACHMENTS} networks, found ${input.selections.length + attachments.length}`,
      { remedy: `Select fewer networks in the annotation "${NETWORKS}"` },
    );
  }
  // The default network is number 0 wherever it comes from, so the first selected network is net1.
  for (const [index, { selection, list, resource }] of input.selections.entries()) {
    const label = labelOf(selection);
    requireMaySelect(conf, pod, selection);
    const ifname = selection.interface ?? parseIfName(`net${index + 1}`);
    names.take(ifname, label, selection.interface === undefined ? "generated from its place" : "requested");
    asked.push(selection.defaultRoute);
    attachments.push({
      ...attachment(list, label, ifname, false, selection, runtime),
      capabilityValues: requestedValues(list, label, selection),
      ...(resource === undefined ? {} : { resource }),
    });
  }
  return { ...(pod === undefined ? {} : { pod }), attachments, defaultRoutes: chooseRoutes(attachments, asked) };
}

function attachment(
  list: NetworkList,
  label: string,
  ifname: IfName,
  isDefault: boolean,
  selection: Selection | undefined,
  runtime: CniArgs,
): Omit<Attachment, "capabilityValues"> {
  const requests = {
    ...(selection?.mac === undefined ? {} : { mac: selection.mac }),
    ...(selection?.ips === undefined ? {} : { ips: selection.ips }),
  };
  return {
    network: list.name,
    label,
    ifname,
    isDefault,
    list: withDevice(withArgs(list, label, selection), selection?.deviceID),
    cniArgs: delegateArgs(runtime, requests),
    ...(selection?.deviceID === undefined ? {} : { deviceID: selection.deviceID }),
  };
}

/** Plugins look for the device under either name, with the capability and without. */
function withDevice(list: NetworkList, deviceID: string | undefined): NetworkList {
  if (deviceID === undefined) return list;
  const plugins = list.plugins.map((plugin) => {
    // Go takes keys without regard to case, so a second "deviceid" would win over ours.
    const rest = Object.entries(plugin).filter(([key]) => !["deviceid", "pcibusid"].includes(key.toLowerCase()));
    return { ...Object.fromEntries(rest), deviceID, pciBusID: deviceID };
  });
  return { ...list, plugins };
}

/** The interface names of one pod, each with who has it. */
class Names {
  readonly #owners: Map<string, string>;

  constructor(taken: ReadonlyMap<string, string> = new Map()) {
    this.#owners = new Map([["lo", "the loopback interface"], ...taken]);
  }

  take(ifname: IfName, label: string, how: string): void {
    const owner = this.#owners.get(ifname);
    if (owner !== undefined) {
      throw new CniError(
        Code.InterfaceTaken,
        `Cannot attach network "${label}": its interface name "${ifname}" (${how}) is already used by ${owner}`,
        { remedy: `Give one of them another "interface" in the annotation "${NETWORKS}"` },
      );
    }
    this.#owners.set(ifname, `network "${label}" (${how})`);
  }
}

/**
 * Refuses a selection that namespace isolation does not allow. To be asked before the network is looked up, so that the
 * answer does not tell whether it exists. A caller that names no pod has what every pod has: the rights of `default`.
 *
 * @throws {CniError} 101
 */
export function requireMaySelect(
  conf: Pick<MetaConf, "namespaceIsolation" | "globalNamespaces" | "systemNamespaces">,
  pod: Pick<Pod, "namespace"> | undefined,
  selection: Pick<Selection, "namespace" | "name">,
  isDefault = false,
): void {
  if (!conf.namespaceIsolation) return;
  const { namespace } = selection;
  const own = pod?.namespace ?? "default";
  if (namespace === own || conf.globalNamespaces.includes(namespace)) return;
  if (isDefault && conf.systemNamespaces.includes(namespace)) return;
  throw new CniError(
    Code.NotAllowed,
    `Cannot attach network "${labelOf(selection)}" to a pod in namespace "${own}": namespace isolation is on and "${namespace}" is not shared`,
    { remedy: `Use a network of namespace "${own}", or add "${namespace}" to globalNamespaces` },
  );
}

/**
 * The capability values that a selection asks for.
 *
 * @throws {CniError} 103 when no plugin of the network declares one of them: it would be ignored in silence.
 */
function requestedValues(list: NetworkList, label: string, selection: Selection | undefined): JsonObject {
  if (selection === undefined) return {};
  const values: Record<string, Json> = {};
  const request = (key: string, capability: string, value: Json | undefined): void => {
    if (value === undefined) return;
    if (!list.plugins.some((plugin) => declares(plugin, capability))) {
      const types = list.plugins.map((plugin) => `"${typeOf(plugin)}"`).join(", ");
      throw new CniError(
        Code.CapabilityMissing,
        `Cannot give network "${label}" the requested "${key}": none of its plugins (${types}) declares the capability "${capability}"`,
        {
          remedy: `Add "capabilities": {"${capability}": true} to the plugin of "${label}" that takes it, or leave "${key}" out of the pod's annotation`,
        },
      );
    }
    values[capability] = value;
  };
  request("ips", "ips", selection.ips);
  request("mac", "mac", selection.mac);
  request("infiniband-guid", "infinibandGUID", selection.infinibandGuid);
  request(
    "portMappings",
    "portMappings",
    selection.portMappings?.map((mapping) => ({ ...mapping })),
  );
  request("bandwidth", "bandwidth", selection.bandwidth === undefined ? undefined : withBursts(selection.bandwidth));
  // A device is a hint to the plugin, not a request of the pod: networks without the capability go without.
  if (selection.deviceID !== undefined) values.deviceID = selection.deviceID;
  return values;
}

/** Bits: what one full-sized segmented packet needs, below which tbf passes nothing. */
const LEAST_BURST = 64 * 1024 * 8;
/** Bits: tbf counts its bucket in a 32-bit number of bytes. */
const GREATEST_BURST = 0xffff_ffff * 8;

/** A rate without its burst gets a tenth of a second's worth: the reference plugin requires both. */
function withBursts(bandwidth: Bandwidth): JsonObject {
  const out: Record<string, number> = {};
  for (const way of ["ingress", "egress"] as const) {
    const rate = bandwidth[`${way}Rate`];
    if (rate === undefined) continue;
    const usual = Math.min(Math.max(Math.ceil(rate / 10), LEAST_BURST), GREATEST_BURST);
    out[`${way}Rate`] = rate;
    out[`${way}Burst`] = bandwidth[`${way}Burst`] ?? usual;
  }
  return out;
}

/** Merges what the pod asks for into `args.cni` of every plugin; the pod's value wins over the network's. */
function withArgs(list: NetworkList, label: string, selection: Selection | undefined): NetworkList {
  const asked: JsonObject = {
    ...selection?.cniArgs,
    ...(selection?.ipamClaimReference === undefined ? {} : { "ipam-claim-reference": selection.ipamClaimReference }),
  };
  if (Object.keys(asked).length === 0) return list;
  return { ...list, plugins: list.plugins.map((plugin) => mergeArgs(plugin, label, asked)) };
}

function mergeArgs(plugin: NetConf, label: string, asked: JsonObject): NetConf {
  const key = Object.keys(plugin).find((k) => k.toLowerCase() === "args") ?? "args";
  const args = plugin[key] ?? {};
  const cni = isObject(args) ? (args.cni ?? {}) : undefined;
  if (!isObject(args) || !isObject(cni)) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot use "cni-args" with network "${label}": args of plugin "${typeOf(plugin)}" is not an object of objects`,
      { remedy: `Correct "args" in the configuration of "${label}"` },
    );
  }
  return { ...plugin, [key]: { ...args, cni: { ...cni, ...asked } } };
}

/** At most one attachment a family; an empty request is one for both. */
function chooseRoutes(
  attachments: readonly Attachment[],
  asked: readonly (readonly string[] | undefined)[],
): DefaultRoutes {
  const chosen: { 4?: RouteOwner; 6?: RouteOwner } = {};
  for (const [owner, gateways] of asked.entries()) {
    if (gateways === undefined) continue;
    for (const family of [4, 6] as const) {
      const gateway = gateways.find((candidate) => familyOf(candidate) === family);
      if (gateways.length > 0 && gateway === undefined) continue;
      const former = chosen[family];
      if (former !== undefined) {
        const both = [former.owner, owner].map((i) => `"${attachments[i]?.label}"`).join(" and ");
        throw new CniError(
          Code.InvalidConfig,
          `Cannot use annotation "${NETWORKS}": default-route: expected one network with the IPv${family} default route, found ${both}`,
          { remedy: `Leave "default-route" on one of them` },
        );
      }
      chosen[family] = gateway === undefined ? { owner } : { owner, gateway };
    }
  }
  return chosen;
}

export interface RouteEdit {
  /** Default routes to remove from the pod, those of the result. */
  readonly remove: readonly ResultRoute[];
  /** Default routes to add on the attachment's interface. */
  readonly add: readonly ResultRoute[];
  /** The result with both done. */
  readonly result: Result;
}

/**
 * What the plan's default routes change of one attachment.
 *
 * @param index Of the attachment; -1 for the default network of a provider before us in the list.
 */
export function editDefaultRoutes(routes: DefaultRoutes, index: number, result: Result): RouteEdit {
  const remove: ResultRoute[] = [];
  const add: ResultRoute[] = [];
  for (const family of [4, 6] as const) {
    const chosen = routes[family];
    if (chosen === undefined || (chosen.owner === index && chosen.gateway === undefined)) continue;
    remove.push(...result.routes.filter((r) => isDefaultRoute(r) && familyOf(r.dst) === family));
    if (chosen.owner === index && chosen.gateway !== undefined) {
      add.push({ dst: family === 4 ? "0.0.0.0/0" : "::/0", gw: chosen.gateway });
    }
  }
  if (remove.length === 0 && add.length === 0) return { remove, add, result };
  return { remove, add, result: { ...result, routes: [...result.routes.filter((r) => !remove.includes(r)), ...add] } };
}

/** Families whose default routes this attachment must not have. */
export function strippedFamilies(routes: DefaultRoutes, index: number): readonly (4 | 6)[] {
  return ([4, 6] as const).filter((family) => {
    const chosen = routes[family];
    return chosen !== undefined && (chosen.owner !== index || chosen.gateway !== undefined);
  });
}

/** The plan as `explain --json` prints it. */
export function explainPlan(plan: Plan): JsonObject {
  const route = (family: 4 | 6): JsonObject => {
    const chosen = plan.defaultRoutes[family];
    if (chosen === undefined) return {};
    const network = plan.attachments[chosen.owner]?.label ?? "";
    return { [`IPv${family}`]: { network, ...(chosen.gateway === undefined ? {} : { gateway: chosen.gateway }) } };
  };
  return {
    ...(plan.pod === undefined ? {} : { pod: { ...plan.pod } }),
    attachments: plan.attachments.map((a) => ({
      network: a.label,
      name: a.network,
      interface: a.ifname,
      default: a.isDefault,
      cniVersion: a.list.cniVersion,
      plugins: a.list.plugins,
      capabilities: a.capabilityValues,
      args: formatCniArgs(a.cniArgs),
    })),
    defaultRoutes: { ...route(4), ...route(6) },
  };
}

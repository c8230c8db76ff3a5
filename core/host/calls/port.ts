/**
 * Ports of the node that lead to the attachment; what they are in the kernel's terms is `core/kernel/nft-ports.ts`.
 * The journal keeps the mappings themselves, and all names and keys follow from them.
 */
import { CniError, Code } from "../../base/error.ts";
import { type Cidr, contains, formatCidr, formatIp, parseCidr, parseIp } from "../../base/ip.ts";
import { loopback4 } from "../../kernel/conntrack.ts";
import { type Kernel, KernelError, type UdpFlows } from "../../kernel/kernel.ts";
import { sparing } from "../../kernel/nft.ts";
import {
  claimOf,
  MAX_MAPPINGS,
  mapPorts,
  type PortFeature,
  type PortMapping,
  type PortPlan,
  portChainKey,
  portHolders,
  portsAmiss,
  unmapPorts,
} from "../../kernel/nft-ports.ts";
import type { NftChange } from "../../kernel/nftables.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { UndoStep } from "../../state/entries.ts";
import { Errno } from "../../sys/error.ts";
import { changing, creating, type HostCall, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";

export type PortStep = Extract<UndoStep, { readonly do: "ports" }>;

/** Each port is an element in the kernel and a probe on DEL, so there is an end to them. */
export const MAX_PORTS = 1024;
const LAST_PORT = 65_535;
/** A flush that takes longer is given up: it helps flows that were there before, and nobody else. */
const FLUSH_MS = 200;
/** How often ports of pods that are gone are taken over before whoever still has one is an error. */
const TAKE_OVERS = 3;
const ROUTE_LOCALNET = "net/ipv4/conf/<link>/route_localnet";

const request = {
  mappings: {
    type: "array",
    required: true,
    maxItems: MAX_MAPPINGS,
    items: {
      type: "object",
      keys: {
        protocol: { type: "string", enum: ["tcp", "udp", "sctp"], required: true },
        hostPort: { type: "integer", min: 1, max: LAST_PORT, required: true, doc: "Port of the node" },
        containerPort: { type: "integer", min: 1, max: LAST_PORT, required: true, doc: "Port of the pod" },
        length: { type: "integer", min: 1, max: MAX_PORTS, default: 1, doc: "Ports in a row" },
        hostIP: {
          type: "string",
          format: "ip",
          doc: "Address of the node that it is for; unspecified (`0.0.0.0`, `::`) for all of that family, absent for all",
        },
      },
    },
  },
  addresses: {
    type: "array",
    required: true,
    maxItems: 2,
    items: { type: "string", format: "cidr" },
    doc: "Addresses of the attachment that the ports lead to, one of a family; with the prefix length of its network",
  },
  snat: {
    type: "string",
    enum: ["none", "local", "all"],
    default: "local",
    doc: "Whose connections get the node's address: those from the pod's own network and from 127.0.0.1, or all",
  },
  markBit: { type: "integer", min: 0, max: 31, default: 13, doc: "Bit of the packet's mark that `snat` uses" },
  conditions: {
    type: "array",
    maxItems: 64,
    items: {
      type: "object",
      keys: {
        side: { type: "string", enum: ["source", "destination"], required: true },
        not: { type: "boolean", default: false },
        network: { type: "string", format: "cidr", required: true },
      },
    },
    doc: "Of each family, what a connection has to fulfil; others find the port as if it were not mapped",
  },
} as const satisfies Keys;
type Request = ValueOfKeys<typeof request>;

function bad(call: string, member: string, why: string): CniError {
  return new CniError(Code.BadRequest, `Cannot make the call "${call}": "${member}": ${why}`, {
    remedy: `Correct "${member}" of the request`,
  });
}

function addressesOf(guest: GuestContext, call: string, texts: readonly string[]): readonly Cidr[] {
  const addresses = texts.flatMap((text) => parseCidr(text) ?? []);
  if (new Set(addresses.map(({ ip }) => ip.family)).size !== addresses.length || addresses.length === 0) {
    throw bad(call, "addresses", "expected one of a family, or one of each");
  }
  const foreign = addresses.find(({ ip }) => !guest.isOwnAddress(ip));
  if (foreign === undefined) return addresses;
  throw new CniError(
    Code.NotGranted,
    `Cannot map ports to "${formatIp(foreign.ip)}": it is not this attachment's address`,
    { remedy: "Use addresses of ipam_add, or of the result of the plugins before" },
  );
}

type MappingRequest = Request["mappings"][number];

function toMapping({ hostIP, protocol, hostPort, containerPort, length }: MappingRequest): PortMapping {
  const ip = hostIP === undefined ? undefined : parseIp(hostIP);
  const everywhere = ip?.bytes.every((byte) => byte === 0) === true;
  const where = ip === undefined ? {} : everywhere ? { family: ip.family } : { hostIP: ip };
  return { protocol, hostPort, containerPort, length, ...where };
}

function mappingsOf(call: string, asked: Request["mappings"]): PortMapping[] {
  let total = 0;
  for (const [i, { hostPort, containerPort, length }] of asked.entries()) {
    if (Math.max(hostPort, containerPort) + length - 1 > LAST_PORT) {
      throw bad(call, `mappings[${i}].length`, `the range ends behind port ${LAST_PORT}`);
    }
    total += length;
  }
  if (total === 0) throw bad(call, "mappings", "expected at least one");
  if (total > MAX_PORTS) throw bad(call, "mappings", `expected at most ${MAX_PORTS} ports, got ${total}`);
  return asked.map(toMapping);
}

/** Whether a connection of the node to 127.0.0.1 can mean one of the ports. */
function meansLoopback(mappings: readonly PortMapping[]): boolean {
  return mappings.some(({ hostIP, family }) =>
    hostIP === undefined ? family !== 6 : hostIP.family === 4 && contains(loopback4, hostIP),
  );
}

/** What lets the node send from 127.0.0.1 to the pod. */
function loopbackSysctl(host: Kernel, addresses: readonly Cidr[]): string | undefined {
  const four = addresses.find(({ ip }) => ip.family === 4);
  const link = four && host.linkTo(four.ip);
  return link && ROUTE_LOCALNET.replace("<link>", link.name);
}

function planFor(guest: GuestContext, call: HostCall, r: Request): { plan: PortPlan; sysctl: string | undefined } {
  const mappings = mappingsOf(call.name, r.mappings);
  const addresses = addressesOf(guest, call.name, r.addresses);
  const wanted = r.snat !== "none" && meansLoopback(mappings);
  const granted = wanted && guest.may(call, { whose: "sysctl", pattern: `host:${ROUTE_LOCALNET}` }, true);
  const sysctl = granted ? loopbackSysctl(guest.kernel("host"), addresses) : undefined;
  const conditions = (r.conditions ?? []).flatMap(({ side, not, network }) => {
    const cidr = parseCidr(network);
    return cidr === undefined ? [] : [{ side, not, network: cidr }];
  });
  const { snat, markBit } = r;
  const plan = { key: guest.nftKey(), addresses, mappings, snat, markBit, conditions, loopback: sysctl !== undefined };
  return { plan, sysctl };
}

// --- The record ------------------------------------------------------------------------------------------------------

function toStep({ key, addresses, snat, markBit, loopback, conditions, mappings }: PortPlan): PortStep {
  return {
    do: "ports",
    key,
    addresses: addresses.map(formatCidr),
    snat,
    markBit,
    loopback,
    conditions: conditions.map(({ network, ...rest }) => ({ ...rest, network: formatCidr(network) })),
    mappings: mappings.map(({ hostIP, family, ...rest }) => ({
      ...rest,
      ...(hostIP && { hostIP: formatIp(hostIP) }),
      ...(family && { family }),
    })),
  };
}

function planOf({ key, snat, markBit, loopback, ...texts }: PortStep): PortPlan {
  return {
    key,
    addresses: texts.addresses.flatMap((text) => parseCidr(text) ?? []),
    snat,
    markBit,
    loopback,
    conditions: texts.conditions.flatMap(({ network, ...rest }) => {
      const cidr = parseCidr(network);
      return cidr === undefined ? [] : [{ ...rest, network: cidr }];
    }),
    mappings: texts.mappings.map(({ hostIP, ...rest }) => {
      const ip = hostIP === undefined ? undefined : parseIp(hostIP);
      return { ...rest, ...(ip && { hostIP: ip }) };
    }),
  };
}

/** What the attachment's journal says of its ports; the last word counts. */
function recorded(guest: GuestContext): PortStep | undefined {
  const entries = guest.setup.journal?.entries ?? [];
  const undone = new Set(entries.flatMap((e) => (e.is === "undone" ? [e.id] : [])));
  const found = entries.findLast((e) => e.is === "undo" && e.step.do === "ports" && !undone.has(e.id));
  return found?.is === "undo" && found.step.do === "ports" ? found.step : undefined;
}

/** The UDP flows that a plan is about: those that went to the pod, or those that should and do not. */
function flowsOf(plan: PortPlan, which: "answeredBy" | "exceptBy"): UdpFlows[] {
  const udp = plan.mappings.filter(({ protocol }) => protocol === "udp");
  return plan.addresses.flatMap(({ ip }) => {
    const own = udp.filter((m) => (m.hostIP?.family ?? m.family ?? ip.family) === ip.family);
    const ports = own.map(({ hostPort, length, hostIP }) => ({ first: hostPort, count: length, address: hostIP }));
    return ports.length === 0 ? [] : [{ family: ip.family, ports, [which]: ip }];
  });
}

/** Takes the ports of a record away, and has the kernel forget the UDP flows that went by them. */
export function removePorts(host: Kernel, step: PortStep): void {
  const plan = planOf(step);
  host.nft.change(unmapPorts(claimOf(plan)));
  const flows = flowsOf(plan, "answeredBy");
  if (flows.length > 0) host.forgetUdp(flows, FLUSH_MS);
}

// --- Ports that somebody else has ------------------------------------------------------------------------------------

/** @returns what gives up the ports of pods that are gone. @throws {CniError} 102 for a port that a living pod has */
function takeOver(guest: GuestContext, feature: PortFeature, cause: unknown): readonly NftChange[] {
  const release: NftChange[] = [];
  for (const holder of portHolders(guest.kernel("host"), feature)) {
    const owner = guest.setup.ownerOf?.(portChainKey(holder.chain) ?? "");
    if (owner?.alive) {
      throw new CniError(Code.InterfaceTaken, `Cannot map ${holder.port} of the node: ${owner.label} has it`, {
        remedy: "Give the pods different host ports or host addresses, or delete the other pod",
        cause,
      });
    }
    release.push(...holder.release);
  }
  return release;
}

function applyPorts(guest: GuestContext, feature: PortFeature): void {
  const host = guest.kernel("host");
  let release: readonly NftChange[] = [];
  for (let attempt = 1; ; attempt++) {
    try {
      host.nft.change([...release, ...sparing(host, feature.add, feature.own)]);
      return;
    } catch (thrown) {
      if (!(thrown instanceof KernelError) || thrown.errno !== Errno.EEXIST || attempt > TAKE_OVERS) throw thrown;
      release = takeOver(guest, feature, thrown);
    }
  }
}

// --- The calls -------------------------------------------------------------------------------------------------------

export const portMap: HostCall = hostCall({
  name: "port_map",
  operations: creating,
  roles: [],
  doc: "Has ports of the node lead to the attachment; again in place of the former ones. A port is one attachment's",
  request,
  answer: {
    loopback: { type: "boolean", required: true, doc: "Whether the node reaches them by 127.0.0.1" },
  },
  run(guest, r) {
    const { plan, sysctl } = planFor(guest, portMap, r);
    const host = guest.kernel("host");
    guest.intend(toStep(plan));
    applyPorts(guest, mapPorts(plan));
    // By now the rules drop what would come from outside by it.
    if (sysctl !== undefined && host.sysctl(sysctl)?.trim() !== "1") host.setSysctl(sysctl, "1");
    return { loopback: plan.loopback };
  },
});

export const portCheck = hostCall({
  name: "port_check",
  operations: ["ADD", "CHECK"],
  roles: [],
  doc: "Whether the ports that port_map gave the attachment still lead to it",
  request: {},
  answer: { amiss: { type: "string", doc: "What is not as it was made; absent when all is" } },
  run(guest) {
    const step = recorded(guest);
    if (step === undefined) return { amiss: "no ports were mapped" };
    const plan = planOf(step);
    const host = guest.kernel("host");
    const amiss = portsAmiss(host, mapPorts(plan));
    const sysctl = plan.loopback ? loopbackSysctl(host, plan.addresses) : undefined;
    if (amiss !== undefined || sysctl === undefined || host.sysctl(sysctl)?.trim() === "1") return { amiss };
    return { amiss: `sysctl "${sysctl}" is not 1` };
  },
});

export const conntrackFlush = hostCall({
  name: "conntrack_flush",
  operations: changing,
  roles: [],
  doc: "Forgets the UDP flows to the ports that port_map gave the attachment, so that their next packet is translated",
  request: {},
  answer: {
    forgotten: { type: "integer", required: true },
    all: { type: "boolean", required: true, doc: "False when there was no time for all, or no connection tracking" },
  },
  run(guest) {
    const step = recorded(guest);
    const which = guest.setup.operation === "ADD" ? "exceptBy" : "answeredBy";
    const flows = step === undefined ? [] : flowsOf(planOf(step), which);
    return flows.length === 0 ? { forgotten: 0, all: true } : guest.kernel("host").forgetUdp(flows, FLUSH_MS);
  },
});

/**
 * Brings a borrowed device home: out of the pod's namespace, or from where the kernel put it when that went, or, where
 * nobody can reach it, by its driver; then as it was, its virtual function and its interface.
 */
import { CniError, Code } from "../base/error.ts";
import type { Json, JsonObject } from "../base/json.ts";
import {
  type Kernel,
  KernelError,
  type Link,
  type LinkChange,
  type VirtualFunction,
  type VirtualFunctionChange,
} from "../kernel/kernel.ts";
import type { DeviceOwner, DeviceRecord } from "../state/devices.ts";
import type { BusDevice } from "../sys/buses.ts";
import { SysError } from "../sys/error.ts";
import { type DeviceNode, isForProgram, linksOf, physicalFunction } from "./device-find.ts";
import { awaited, patiently } from "./patience.ts";

/** The kernel empties a namespace after everybody has left it, when it gets round to that. */
const FALL_BACK_MS = 3000;
/** A driver makes the interface anew while it starts the device. */
const PROBE_MS = 10_000;
/** How long a driver may be busy before it takes an address, and how long where it can be started anew. */
const ADDRESS_MS = 2000;
const STARTED_MS = 300;

/** What is kept of an interface, to be given back. */
export function formerOf(link: Link, host: Kernel): NonNullable<DeviceRecord["link"]> {
  const { index, name, kind, mac, mtu, up, promisc, allmulti, txQueueLength, alias, permanentMac } = link;
  const master = link.master === undefined ? undefined : host.linkByIndex(link.master);
  return {
    index,
    name,
    kind,
    mac,
    mtu,
    up,
    promisc,
    allmulti,
    txQueueLength,
    ...(alias === undefined ? {} : { alias }),
    ...(permanentMac === undefined ? {} : { permanentMac }),
    ...(master === undefined ? {} : { master: master.name }),
    ...(link.alternativeNames === undefined ? {} : { alternativeNames: link.alternativeNames }),
  };
}

/** What the record and the journal say of where the interface went. */
export interface Home {
  readonly record: DeviceRecord;
  /** The namespace that it was moved to, while that can be reached. */
  readonly pod: Kernel | undefined;
  /** Its index there, as the journal has it. */
  readonly index: number | undefined;
}

/** @throws {CniError} 123 when it is not home, or not as it was; what is left is for the retry. */
export function bringHome(home: Home, node: DeviceNode): void {
  const { record } = home;
  const what = record.link?.name ?? record.device?.name ?? "the device";
  try {
    const link = record.link === undefined ? undefined : comeHome(home, record.link, node);
    restoreFunction(record, node);
    if (link !== undefined && record.link !== undefined) restoreLink(link, record, record.link, node);
  } catch (thrown) {
    if (!(thrown instanceof KernelError) && !(thrown instanceof SysError)) throw thrown;
    throw new CniError(Code.Kernel, `Cannot give device "${what}" back to the node: ${thrown.message}`, {
      remedy: `${thrown.errnoName} (${thrown.errno}); DEL tries again`,
      cause: thrown,
    });
  }
}

// --- where it is -----------------------------------------------------------------------------------------------------

type Former = NonNullable<DeviceRecord["link"]>;

/** @returns the interface on the node, or nothing when there is none any more. */
function comeHome({ record, pod, index }: Home, former: Former, node: DeviceNode): Link | undefined {
  const device = record.device === undefined ? undefined : node.buses.find(record.device);
  if (record.device !== undefined && device === undefined) return undefined; // pulled out
  if (device === undefined) {
    const away = pod && virtualLink(pod, former, record.owner, index);
    if (away !== undefined && pod !== undefined) return moveOut(away, pod, former, node);
    const here = node.host.linkByName(former.name);
    return here !== undefined && here.kind === former.kind && here.mac === former.mac ? here : undefined;
  }
  const own = (kernel: Kernel): Link | undefined =>
    linksOf(device, kernel).find((link) => isSame(link.permanentMac, former.permanentMac));
  const here = own(node.host);
  if (here !== undefined) return here;
  const away = pod && own(pod);
  if (away !== undefined && pod !== undefined) return moveOut(away, pod, former, node);
  // Its driver was changed while the pod had it: there is no interface to bring home.
  if (device.driver === undefined || isForProgram(device)) return undefined;
  const fallen = pod === undefined ? awaited(() => own(node.host), FALL_BACK_MS) : undefined;
  if (fallen !== undefined) return fallen;
  node.log("warn", `device "${device.name}" is in a namespace that cannot be reached: its driver is started anew`);
  return startAnew(device, device.driver, node);
}

/** Lets the driver make the interface anew, with the address that the physical function has for it. */
function startAnew(device: BusDevice, driver: string, node: Pick<DeviceNode, "host" | "buses">): Link {
  node.buses.rebind(device, driver);
  const back = awaited(() => linksOf(device, node.host)[0], PROBE_MS);
  if (back !== undefined) return back;
  throw new CniError(Code.TryAgainLater, `Cannot use device "${device.name}": its driver makes no interface`, {
    remedy: `Look in the kernel's log for what its driver "${driver}" says`,
  });
}

/**
 * Gives the interface of a device its address. A virtual function whose physical one has an address for it may not be
 * given any, be it the same: it has to ask for it anew, which it does when it starts.
 *
 * @returns The interface, which may be another one. @throws {KernelError} when the driver does not take the address
 */
export function giveAddress(
  link: Link,
  mac: string,
  device: BusDevice | undefined,
  node: Pick<DeviceNode, "host" | "buses">,
): Link {
  const { host } = node;
  if (link.mac === mac) return link;
  const set = (one: Link, withinMs: number): Link => {
    if (one.up) host.setLink(one.index, { up: false });
    patiently(() => host.setLink(one.index, { mac }), withinMs);
    return { ...one, up: false, mac };
  };
  if (device?.virtualFunction === undefined || device.driver === undefined) return set(link, ADDRESS_MS);
  try {
    return set(link, STARTED_MS);
  } catch (thrown) {
    if (!(thrown instanceof KernelError)) throw thrown;
    const anew = startAnew(device, device.driver, node);
    return anew.mac === mac ? anew : set(anew, ADDRESS_MS);
  }
}

const isSame = (now: string | undefined, former: Json | undefined): boolean =>
  now === undefined || former === undefined || now === former;

/** A link that is no device's, in the pod: by what the kernel said of it, else as it was when it was moved. */
function virtualLink(pod: Kernel, former: Former, owner: DeviceOwner, index: number | undefined): Link | undefined {
  if (index !== undefined) {
    const link = pod.linkByIndex(index);
    return link?.kind === former.kind ? link : undefined;
  }
  const named = (link: Link): boolean => link.name === former.name || link.name === owner.ifname;
  return pod.links().find((link) => named(link) && link.kind === former.kind && link.mac === former.mac);
}

/** Renamed in the pod where that can be done, so that nobody on the node sees it under another name. */
function moveOut(link: Link, pod: Kernel, former: Former, node: DeviceNode): Link {
  pod.setLink(link.index, { up: false });
  if (link.name !== former.name && pod.linkByName(former.name) === undefined) {
    pod.setLink(link.index, { name: former.name });
  }
  for (const name of [former.name, freeName(former, node.host)]) {
    try {
      return pod.moveLink(link.index, node.host, name);
    } catch (thrown) {
      if (!(thrown instanceof KernelError) || thrown.errnoName !== "EEXIST") throw thrown;
    }
  }
  throw new KernelError(`move link ${link.index}`, 17, "no name is free on the node");
}

/** For a device whose own name another link of the node has taken. */
function freeName(former: Former, host: Kernel): string {
  for (let i = 0; ; i++) {
    const name = `${former.name.slice(0, 10)}-${i}`;
    if (host.linkByName(name) === undefined) return name;
  }
}

// --- as it was -------------------------------------------------------------------------------------------------------

/** What has to be changed for a virtual function to be as wanted: nothing that it is already, for not every driver can. */
export function vfDifference(now: VirtualFunction, wanted: Partial<VirtualFunction>): VirtualFunctionChange {
  const differs = <K extends keyof VirtualFunction>(...keys: readonly K[]): boolean =>
    keys.some((key) => wanted[key] !== undefined && wanted[key] !== now[key]);
  const change: { -readonly [K in keyof VirtualFunctionChange]: VirtualFunctionChange[K] } = {};
  if (differs("vlan", "qos", "protocol")) {
    const { vlan, qos, protocol } = { ...now, ...wanted };
    change.vlan = { vlan, qos, protocol };
  }
  if (differs("mac")) change.mac = wanted.mac;
  if (differs("minTxRate", "maxTxRate")) {
    const { minTxRate: min, maxTxRate: max } = { ...now, ...wanted };
    change.rate = { min, max };
  }
  for (const key of ["spoofCheck", "trust"] as const) if (differs(key)) change[key] = wanted[key];
  if (differs("linkState")) change.linkState = wanted.linkState;
  return change;
}

function restoreFunction({ vf, device }: DeviceRecord, node: DeviceNode): void {
  if (vf === undefined || (device !== undefined && node.buses.find(device) === undefined)) return;
  const physical = physicalFunction(vf, node);
  if (physical === undefined) {
    node.log("warn", `virtual function ${vf.number} of "${vf.of}" stays as it is: its physical function is not there`);
    return;
  }
  const change = vfDifference(physical.now, vf.former as Partial<VirtualFunction>);
  // The address with which none was given is all zeros, which some drivers take and others refuse: then the next one is set over it.
  const { mac, ...rest } = change;
  patiently(() => node.host.setVirtualFunction(physical.link.index, vf.number, rest));
  if (mac === undefined) return;
  try {
    patiently(() => node.host.setVirtualFunction(physical.link.index, vf.number, { mac }));
  } catch (thrown) {
    if (!(thrown instanceof KernelError) || !/^[0:]+$/.test(mac)) throw thrown;
    node.log("warn", `virtual function ${vf.number} of "${vf.of}" keeps its address: ${thrown.message}`);
  }
}

function restoreLink(found: Link, record: DeviceRecord, former: Former, node: DeviceNode): void {
  const { host } = node;
  const device = record.device && node.buses.find(record.device);
  const { mac } = former;
  let link = typeof mac === "string" && mac !== "" ? giveAddress(found, mac, device, node) : found;
  if (link.name !== former.name) {
    if (host.linkByName(former.name) === undefined) {
      if (link.up) host.setLink(link.index, { up: false });
      host.setLink(link.index, { name: former.name });
      link = { ...link, up: false, name: former.name };
    } else node.log("warn", `device "${former.name}" is called "${link.name}" now: another link has its name`);
  }
  for (const change of lesser(link, former, host)) {
    try {
      host.setLink(link.index, change);
    } catch (thrown) {
      // Not worth a pod that cannot be deleted.
      if (!(thrown instanceof KernelError)) throw thrown;
      node.log("warn", `device "${former.name}" is not all as it was: ${thrown.message}`);
    }
  }
  for (const name of (former.alternativeNames ?? []) as readonly string[]) {
    if (link.alternativeNames?.includes(name) || host.linkByName(name) !== undefined) continue;
    host.setAlternativeName(link.index, name, true);
  }
  if (typeof former.up === "boolean" && former.up !== link.up) host.setLink(link.index, { up: former.up });
}

/** What differs beside name and address, one change each. */
function lesser(now: Link, former: JsonObject, host: Kernel): LinkChange[] {
  const changes: LinkChange[] = [];
  const { mtu, txQueueLength, promisc, allmulti, alias, master } = former;
  if (typeof mtu === "number" && mtu !== now.mtu) changes.push({ mtu });
  if (typeof txQueueLength === "number" && txQueueLength !== now.txQueueLength) changes.push({ txQueueLength });
  if (typeof promisc === "boolean" && promisc !== now.promisc) changes.push({ promisc });
  if (typeof allmulti === "boolean" && allmulti !== now.allmulti) changes.push({ allmulti });
  const text = typeof alias === "string" ? alias : "";
  if (text !== (now.alias ?? "")) changes.push({ alias: text });
  const bridge = typeof master === "string" ? host.linkByName(master) : undefined;
  if (bridge !== undefined && bridge.index !== now.master) changes.push({ master: bridge.index });
  return changes;
}

/** Finds the device that a configuration names, its interface, and for a virtual function the physical one. */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { formatMac, parseMac } from "../base/ip.ts";
import { isObject, type JsonObject } from "../base/json.ts";
import type { Kernel, Link, VirtualFunction } from "../kernel/kernel.ts";
import type { DeviceSelectors } from "../policy/manifest.ts";
import type { DeviceOwner, Devices } from "../state/devices.ts";
import type { BusDevice, Buses, DeviceName } from "../sys/buses.ts";

/** What of the node the borrowing of devices needs. */
export interface DeviceNode {
  readonly host: Kernel;
  readonly records: Devices;
  readonly buses: Buses;
  /** The namespace that an attachment was made in, while it exists. */
  openPod(netns: DeviceOwner["netns"]): ({ readonly kernel: Kernel } & Disposable) | undefined;
  /** Whether a pod that the reference SR-IOV plugin attached has the device: the path of its namespace. */
  referenceUser(pci: string): string | undefined;
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
}

/** A device as it is now. */
export interface FoundDevice {
  /** The name of its record: bus and name, or the name of a link that is no device's. */
  readonly key: string;
  readonly device?: BusDevice;
  /** Its interface on the node; absent when that is elsewhere, or there is none. */
  readonly link?: Link;
}

/** Drivers that leave a device to a program: it has no interface. */
const userDrivers: ReadonlySet<string> = new Set(["vfio-pci", "uio_pci_generic", "igb_uio"]);
export const isForProgram = (device: BusDevice | undefined): boolean => userDrivers.has(device?.driver ?? "");

const PCI = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;
const AUXILIARY = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+\.[0-9]+$/;

/** How a configuration names its device. */
export interface DeviceQuery {
  /** The key that does, as people write it. */
  readonly key: string;
  readonly by: "id" | "name" | "mac" | "path";
  readonly value: string;
}

/** The value of a key, or of `outer.inner`. */
function textAt(conf: JsonObject, key: string): string {
  let value: unknown = conf;
  for (const part of key.split(".")) value = isObject(value) ? value[part] : undefined;
  return typeof value === "string" ? value : "";
}

/** @throws {CniError} 7 when no key names a device, or one names what cannot be one. */
export function deviceQuery(selectors: DeviceSelectors, conf: JsonObject): DeviceQuery {
  const { ids, name, mac, path } = selectors;
  const keys = [
    ...ids.map((key) => ({ key, by: "id" }) as const),
    ...(name === undefined ? [] : [{ key: name, by: "name" } as const]),
    ...(mac === undefined ? [] : [{ key: mac, by: "mac" } as const]),
    ...(path === undefined ? [] : [{ key: path, by: "path" } as const]),
  ];
  for (const { key, by } of [...keys.slice(0, 1), ...order(keys.slice(1))]) {
    const value = textAt(conf, key).trim();
    if (value !== "") return { key, by, value };
  }
  const list = keys.map(({ key }) => `"${key}"`).join(", ");
  throw new CniError(Code.InvalidConfig, `Cannot know which device is meant: the configuration has none of ${list}`, {
    remedy: "Name the device, or ask for one of the network's resource in the pod",
  });
}

/** After the runtime's own choice, as the reference looks: name, MAC address, path, address on the bus. */
function order<T extends { readonly by: DeviceQuery["by"] }>(keys: readonly T[]): T[] {
  const rank = { name: 0, mac: 1, path: 2, id: 3 } as const;
  return keys.toSorted((a, b) => rank[a.by] - rank[b.by]);
}

const wrong = (query: DeviceQuery, why: string): CniError =>
  new CniError(Code.InvalidConfig, `Cannot use "${query.key}" ${show(query.value)}: ${why}`, {
    remedy: `Correct "${query.key}" of the network's configuration`,
  });

export const keyOf = (device: DeviceName): string => `${device.bus}-${device.name}`;

/** @throws {CniError} 7 for a value that names no device of this node. */
export function findDevice(query: DeviceQuery, node: Pick<DeviceNode, "host" | "buses">): FoundDevice | undefined {
  switch (query.by) {
    case "id":
      return ofBus(query, idOf(query), node);
    case "path": {
      if (!query.value.startsWith("/sys/devices/") || query.value.split("/").includes("..")) {
        throw wrong(query, "expected a path that begins with /sys/devices/");
      }
      const device = node.buses.atPath(query.value);
      if (device === undefined) throw wrong(query, "there is no device at that path");
      return ofBus(query, device, node);
    }
    case "name": {
      const link = node.host.linkByName(query.value);
      return link && ofLink(query, link, node);
    }
    case "mac": {
      const bytes = parseMac(query.value);
      if (bytes === undefined) throw wrong(query, "expected a hardware address such as 02:00:00:00:00:01");
      const mac = formatMac(bytes);
      const links = node.host.links().filter((link) => link.mac === mac);
      const link = links.find((one) => one.device !== undefined) ?? links[0];
      return link && ofLink(query, link, node);
    }
  }
}

function idOf(query: DeviceQuery): DeviceName {
  const lower = query.value.toLowerCase();
  if (PCI.test(lower)) return { bus: "pci", name: lower };
  if (AUXILIARY.test(query.value)) return { bus: "auxiliary", name: query.value };
  throw wrong(query, "expected a PCI address such as 0000:01:10.0, or the name of an auxiliary device");
}

function ofBus(query: DeviceQuery, name: DeviceName, node: Pick<DeviceNode, "host" | "buses">): FoundDevice {
  const device = node.buses.find(name);
  if (device === undefined) throw wrong(query, "this node has no such device");
  const [link] = linksOf(device, node.host);
  return { key: keyOf(device), device, ...(link && { link }) };
}

function ofLink(query: DeviceQuery, link: Link, node: Pick<DeviceNode, "host" | "buses">): FoundDevice {
  if (link.loopback) throw wrong(query, "it is the loopback interface");
  const device = link.device === undefined ? undefined : node.buses.find(link.device);
  return { key: device === undefined ? `link-${link.name}` : keyOf(device), ...(device && { device }), link };
}

/** The interfaces of a device in a namespace; those of a physical function's representatives come after its own. */
export function linksOf(device: Pick<BusDevice, "carriers">, kernel: Kernel): Link[] {
  const carried = (link: Link): boolean =>
    device.carriers.some((c) => c.bus === link.device?.bus && c.name === link.device.name);
  const own = kernel.links().filter((link) => link.kind === "" && carried(link));
  return own.toSorted((a, b) => Number(a.permanentMac === undefined) - Number(b.permanentMac === undefined));
}

/** The physical function of a virtual one, by the interface that answers for it. */
export interface PhysicalFunction {
  readonly link: Link;
  readonly now: VirtualFunction;
}

/** @returns undefined when its interface is not on the node. */
export function physicalFunction(
  vf: { readonly of: string; readonly number: number },
  node: Pick<DeviceNode, "host">,
): PhysicalFunction | undefined {
  const carriers = [{ bus: "pci", name: vf.of }];
  for (const link of linksOf({ carriers }, node.host)) {
    const now = node.host.virtualFunctions(link.index).find((one) => one.number === vf.number);
    if (now !== undefined) return { link, now };
  }
  return undefined;
}

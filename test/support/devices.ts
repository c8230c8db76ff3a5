/** Devices for tests without root: a simulated node's, on a bus in memory, with their records in a directory of the test. */
import type { DeviceNode } from "../../core/host/device-find.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import type { SimulatedNode } from "../../core/kernel/simulated.ts";
import { Devices } from "../../core/state/devices.ts";
import type { BusDevice, Buses, DeviceName } from "../../core/sys/buses.ts";

export class SimulatedBuses implements Buses {
  readonly devices: BusDevice[] = [];
  readonly #node: SimulatedNode;
  /** What each device's driver makes when it is started anew. */
  readonly #plugs = new Map<string, { readonly name: string; readonly mac: string }>();

  constructor(node: SimulatedNode) {
    this.#node = node;
  }

  /** A PCI device, with an interface unless its driver leaves it to a program. */
  plug(
    name: string,
    o: { driver: string; of?: string; number?: number; link?: string; mac?: string; vfs?: number },
  ): void {
    const own = { bus: "pci", name };
    const { driver, of, number = 0, link, mac = "02:00:00:00:00:99", vfs } = o;
    this.devices.push({ ...own, driver, ...(of && { virtualFunction: { of, number } }), carriers: [own] });
    if (link === undefined) return;
    this.#plugs.set(name, { name: link, mac });
    this.#node.plug("host", { name: link, mac, device: own, ...(vfs && { vfs }) });
  }

  find(device: DeviceName): BusDevice | undefined {
    return this.devices.find((d) => d.bus === device.bus && d.name === device.name);
  }

  atPath(path: string): DeviceName | undefined {
    return this.find({ bus: "pci", name: path.slice(path.lastIndexOf("/") + 1) });
  }

  rebind(device: DeviceName): void {
    this.#node.unplug(device.name);
    const plug = this.#plugs.get(device.name);
    const own = { bus: device.bus, name: device.name };
    if (plug !== undefined) this.#node.plug("host", { ...plug, name: `new${device.name.at(-1)}`, device: own });
  }
}

/** @param pods The namespaces that can be reached. */
export function deviceNode(
  directory: string,
  host: Kernel,
  buses: Buses,
  pods: ReadonlyMap<string, Kernel>,
  bootId = "boot-1",
): DeviceNode & { readonly logged: string[] } {
  const logged: string[] = [];
  return {
    host,
    buses,
    records: new Devices(directory, bootId),
    openPod({ cookie }) {
      const kernel = [...pods.values()].find((one) => String(one.cookie) === cookie);
      return kernel && { kernel, [Symbol.dispose]() {} };
    },
    referenceUser: () => undefined,
    log: (level, message) => void logged.push(`${level} ${message}`),
    logged,
  };
}

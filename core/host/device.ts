/**
 * Devices of the node that one attachment borrows at a time. Who has a device, and what it was before, is on the disk
 * before it is changed; a device that somebody has is refused with the name of who that is.
 */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import type { DeviceOwner, DeviceRecord, LockedDevice } from "../state/devices.ts";
import {
  type DeviceNode,
  type DeviceQuery,
  type FoundDevice,
  findDevice,
  isForProgram,
  physicalFunction,
} from "./device-find.ts";
import { bringHome, formerOf } from "./device-home.ts";

/** How a person knows who has a device. */
export function nameOf({ container, network, ifname, pod }: DeviceOwner): string {
  const who = pod === undefined ? `container "${container}"` : `pod "${pod.namespace}/${pod.name}"`;
  return `${who} (interface "${ifname}" of network "${network}")`;
}

const taken = (query: DeviceQuery, who: string): CniError =>
  new CniError(
    Code.InterfaceTaken,
    `Cannot use the device that "${query.key}" names, ${show(query.value)}: ${who} has it`,
    {
      remedy: "Wait until that is deleted, or name another device",
    },
  );

/** Whether an attachment's namespace still exists, and with it whatever has the device there. */
function lives(owner: DeviceOwner, node: DeviceNode): boolean {
  using pod = node.openPod(owner.netns);
  return pod !== undefined;
}

/**
 * Takes a device for an attachment.
 *
 * @param intend Writes the undo step into the attachment's journal; called before anything else is written, be it a device that is refused then.
 * @param permit Asks the policy, by the name that an administrator knows the device by. @throws {CniError} 101
 * @throws {CniError} 7 for a device that is not there, 102 for one that somebody has, 104, 5
 */
export function takeDevice(
  query: DeviceQuery,
  owner: DeviceOwner,
  node: DeviceNode,
  o: { intend(key: string): void; permit(found: FoundDevice): void },
): FoundDevice {
  const found = findDevice(query, node) ?? lost(query, node);
  o.permit(found);
  o.intend(found.key);
  const got = node.records.locked(found.key, { create: true }, (device) => {
    const before = currentRecord(device);
    if (before !== undefined && before.owner.key !== owner.key) {
      if (lives(before.owner, node)) throw taken(query, nameOf(before.owner));
      // Its DEL is late: what that would do is done now, and then finds nothing that is its own.
      bringHome({ record: before, pod: undefined, index: undefined }, node);
      device.remove();
    }
    // What was found may have come home since, or gone.
    const now = findDevice(query, node);
    if (now === undefined || now.key !== found.key) throw missing(query);
    if (before?.owner.key === owner.key) return now;
    requireHere(query, now, node);
    device.write(recordOf(now, owner, node));
    return now;
  });
  if (got === undefined) throw new TypeError("Cannot lock the device: its record was not made");
  return got;
}

/** A record of an earlier boot says nothing: the kernel has made the device anew. */
function currentRecord(device: LockedDevice): DeviceRecord | undefined {
  const record = device.read();
  if (record?.earlierBoot !== true) return record;
  device.remove();
  return undefined;
}

/** No link of the node has the name or address: perhaps because a pod has it. */
function lost(query: DeviceQuery, node: DeviceNode): FoundDevice {
  for (const record of node.records.list()) {
    const is = query.by === "mac" ? record.link?.mac === query.value.toLowerCase() : record.link?.name === query.value;
    if (record.earlierBoot || !is) continue;
    if (lives(record.owner, node)) throw taken(query, nameOf(record.owner));
    const { device } = record;
    const found = device && node.buses.find(device);
    return { key: record.key, ...(found && { device: found }) };
  }
  throw missing(query);
}

const missing = (query: DeviceQuery): CniError =>
  new CniError(
    Code.InvalidConfig,
    `Cannot find the device that "${query.key}" names, ${show(query.value)}: the node has no such interface`,
    {
      remedy: `Look at "ip link" on the node, and correct "${query.key}" of the network's configuration`,
    },
  );

/**
 * A pod that the reference plugin attached keeps its device. Beyond that, a device that its driver gives an interface has
 * to have it on the node, or somebody has it of whom we know nothing; of a program's device the file alone tells.
 */
function requireHere(query: DeviceQuery, { device, link }: FoundDevice, node: DeviceNode): void {
  const user = device?.bus === "pci" ? node.referenceUser(device.name) : undefined;
  if (user !== undefined) throw taken(query, `the network namespace "${user}"`);
  if (link !== undefined || device === undefined || isForProgram(device)) return;
  if (device.driver === undefined) {
    throw new CniError(Code.InvalidConfig, `Cannot use device "${device.name}": no driver is bound to it`, {
      remedy: `Bind its driver, or one of vfio-pci, uio_pci_generic and igb_uio`,
    });
  }
  throw new CniError(
    Code.InterfaceTaken,
    `Cannot use device "${device.name}": its driver "${device.driver}" shows no interface on the node`,
    { remedy: "Look whether another network namespace has it, and whether its driver has started" },
  );
}

function recordOf(found: FoundDevice, owner: DeviceOwner, node: DeviceNode): Omit<DeviceRecord, "format" | "bootId"> {
  const { device, link } = found;
  const vf = device?.virtualFunction;
  const physical = vf && physicalFunction(vf, node);
  return {
    owner,
    ...(device && {
      device: { bus: device.bus, name: device.name, ...(device.driver && { driver: device.driver }) },
    }),
    ...(link && { link: formerOf(link, node.host) }),
    ...(vf && physical && { vf: { ...vf, former: physical.now as unknown as JsonObject } }),
  };
}

/** What has become of an attempt to give a device back. */
export interface Return {
  readonly container: string;
  /** `Journal.key` */
  readonly key: string;
}

/**
 * Gives a device back, if the attachment still has it: once somebody else does, or nobody, there is nothing to do.
 *
 * @param device The key of its record.
 * @throws {CniError} as `bringHome()`
 */
export function returnDevice(
  device: string,
  of: Return,
  where: { readonly pod: DeviceNode["host"] | undefined; readonly index: number | undefined },
  node: DeviceNode,
): void {
  node.records.locked(device, { create: false }, (locked) => {
    const record = currentRecord(locked);
    if (record === undefined || record.owner.key !== of.key || record.owner.container !== of.container) return;
    bringHome({ record, ...where }, node);
    locked.remove();
  });
}

/**
 * Gives back what a container has of which no journal tells any more.
 *
 * @param known `Journal.key` of the journals that there are.
 * @returns What could not be given back.
 */
export function returnUnknown(container: string, known: ReadonlySet<string>, node: DeviceNode): readonly CniError[] {
  const failures: CniError[] = [];
  for (const { key, owner } of node.records.list()) {
    if (owner.container !== container || known.has(owner.key)) continue;
    try {
      using pod = node.openPod(owner.netns);
      returnDevice(key, { container, key: owner.key }, { pod: pod?.kernel, index: undefined }, node);
    } catch (thrown) {
      failures.push(CniError.from(thrown));
    }
  }
  return failures;
}

/** The one device that an attachment borrows: taken, looked at, its virtual function set. */
import { CniError, Code } from "../../base/error.ts";
import { isObject } from "../../base/json.ts";
import { KernelError, type Link, type VirtualFunction } from "../../kernel/kernel.ts";
import type { Target } from "../../policy/decide.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import { INFO_DIRECTORY, infoFileName, pciInfo, writeInfo } from "../../state/device-info.ts";
import { sleepMs } from "../../sys/clock.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";
import { takeDevice } from "../device.ts";
import {
  type DeviceQuery,
  deviceQuery,
  type FoundDevice,
  findDevice,
  isForProgram,
  linksOf,
  type PhysicalFunction,
  physicalFunction,
} from "../device-find.ts";
import { giveAddress, vfDifference } from "../device-home.ts";
import { patiently } from "../patience.ts";
import { answerFor, bad, linkAnswer, ownTarget, plainMac } from "./link-common.ts";

/** A driver takes the address over when it next looks; the reference plugin waits as long. */
const ADDRESS_TRIES = 20;
const ADDRESS_PAUSE_MS = 100;

const device: Target = { whose: "granted", role: "device" };

const vfSettings = {
  mac: { type: "string", format: "mac" },
  vlan: { type: "integer", min: 0, max: 4094, doc: "0 for none" },
  qos: { type: "integer", min: 0, max: 7 },
  protocol: { type: "string", enum: ["802.1q", "802.1ad"] },
  spoofCheck: { type: "boolean" },
  trust: { type: "boolean" },
  linkState: { type: "string", enum: ["auto", "enable", "disable"] },
  minTxRate: { type: "integer", min: 0, max: 2_147_483_647, doc: "Mbit/s; 0 for none" },
  maxTxRate: { type: "integer", min: 0, max: 2_147_483_647, doc: "Mbit/s; 0 for none" },
} as const satisfies Keys;

const deviceAnswer = {
  id: { type: "string", required: true, doc: "Such as its PCI address; empty for a link that is no device's" },
  bus: { type: "string", required: true, doc: "Such as pci or auxiliary" },
  driver: { type: "string", required: true },
  program: { type: "boolean", required: true, doc: "It has no interface: a program in the pod drives it" },
  link: { type: "object", keys: linkAnswer, doc: "Its interface, on the node or in the pod" },
  function: {
    type: "object",
    keys: {
      number: { type: "integer", required: true },
      physical: { type: "string", required: true, doc: "The interface of the physical function" },
      mtu: { type: "integer", required: true, doc: "Of that interface" },
      ...vfSettings,
    },
    doc: "Of a virtual function, as its physical function has it; what the driver does not say is absent",
  },
} as const satisfies Keys;
type DeviceAnswer = ValueOfKeys<typeof deviceAnswer>;

function query(guest: GuestContext): DeviceQuery {
  const { manifest, conf } = guest.setup;
  return deviceQuery(manifest.device ?? { ids: [] }, conf);
}

/** The administrator knows a virtual function by its physical one, another device by its interface, else by its address. */
function permit(guest: GuestContext, { device: on, link }: FoundDevice): void {
  const { node } = guest.setup.devices();
  const physical = on?.virtualFunction && physicalFunction(on.virtualFunction, node);
  const refusal = guest.setup.refuseHostLink(physical?.link.name ?? link?.name ?? on?.name ?? "");
  if (refusal !== undefined) throw refusal;
}

function describe(guest: GuestContext, found: FoundDevice, link: DeviceAnswer["link"]): DeviceAnswer {
  const on = found.device;
  const physical = on?.virtualFunction && physicalFunction(on.virtualFunction, guest.setup.devices().node);
  return {
    id: on?.name ?? "",
    bus: on?.bus ?? "",
    driver: on?.driver ?? "",
    program: isForProgram(on),
    link,
    function: physical && {
      ...physical.now,
      physical: physical.link.name,
      mtu: physical.link.mtu,
    },
  };
}

/** Keeps what the run knows of its device. */
function remember(guest: GuestContext, found: FoundDevice, undo: number | undefined): void {
  const on = found.device;
  const physical = on?.virtualFunction && physicalFunction(on.virtualFunction, guest.setup.devices().node);
  guest.device = {
    key: found.key,
    id: on?.name ?? "",
    undo,
    virtualFunction: on?.virtualFunction,
    macs: isForProgram(on) ? (physical === undefined ? [] : [physical.now.mac]) : undefined,
  };
}

/** The undo step of a device that the attachment has taken and not given back. */
function takenBefore(guest: GuestContext, key: string): number | undefined {
  const entries = guest.setup.journal?.entries ?? [];
  const over = new Set(entries.flatMap((e) => (e.is === "undone" ? [e.id] : [])));
  for (const e of entries) {
    if (e.is === "undo" && e.step.do === "device" && e.step.device === key && !over.has(e.id)) return e.id;
  }
  return undefined;
}

export const deviceTake = hostCall({
  name: "device_take",
  operations: creating,
  waits: true,
  roles: ["device"],
  doc: "Takes the device that the configuration names for this attachment. One that another attachment has is refused; what it was before is on the disk, for DEL",
  request: {},
  answer: deviceAnswer,
  targets: () => [device],
  run(guest) {
    const asked = query(guest);
    const { node, owner } = guest.setup.devices();
    let undo: number | undefined;
    const found = takeDevice(asked, owner, node, {
      intend: (key) => {
        undo = takenBefore(guest, key) ?? guest.intend({ do: "device", device: key });
      },
      permit: (what) => permit(guest, what),
    });
    remember(guest, found, undo);
    const { link } = found;
    const known = { target: device, borrowed: true, ...(undo === undefined ? {} : { undo }) } as const;
    const number = link && guest.open("host", link, known);
    if (guest.device !== undefined && number !== undefined) {
      guest.device = { ...guest.device, handle: guest.handles.link(number) };
    }
    const shown = link === undefined || number === undefined ? undefined : answerFor(guest, "host", link, number);
    return describe(guest, found, shown);
  },
});

/** Its interface where it is to be after ADD: in the pod. */
function linkInPod(guest: GuestContext, found: FoundDevice): Link | undefined {
  const pod = guest.kernel("pod");
  if (found.device !== undefined) return linksOf(found.device, pod)[0];
  const made = guest.setup.journal?.entries.findLast((e) => e.is === "made" && e.id === takenBefore(guest, found.key));
  const index = made?.is === "made" ? made.facts.index : undefined;
  return typeof index === "number" ? pod.linkByIndex(index) : undefined;
}

export const deviceGet = hostCall({
  name: "device_get",
  operations: ["CHECK"],
  roles: ["device"],
  doc: "Shows the device that this attachment has taken, and its interface in the pod",
  request: {},
  answer: { ...deviceAnswer, taken: { type: "boolean", required: true, doc: "Whether it is still this attachment's" } },
  targets: () => [device],
  run(guest) {
    const asked = query(guest);
    const { node, owner } = guest.setup.devices();
    const record = node.records.list().find((r) => r.owner.key === owner.key && r.owner.container === owner.container);
    const on = record?.device && node.buses.find(record.device);
    const found: FoundDevice | undefined =
      record === undefined ? findDevice(asked, node) : { key: record.key, ...(on && { device: on }) };
    if (found === undefined) return { ...nothing, taken: false };
    remember(guest, found, undefined);
    const link = linkInPod(guest, found);
    const known = link && ({ target: ownTarget(guest, "pod", link.name), borrowed: true } as const);
    const shown = link && known && answerFor(guest, "pod", link, guest.open("pod", link, known));
    return { ...describe(guest, found, shown), taken: record !== undefined };
  },
});

const nothing = { id: "", bus: "", driver: "", program: false, link: undefined, function: undefined };

// --- virtual functions -----------------------------------------------------------------------------------------------

function functionOf(guest: GuestContext): PhysicalFunction {
  const vf = guest.device?.virtualFunction;
  if (vf === undefined) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot set "${guest.device?.id ?? "the device"}": it is no virtual function`,
      {
        remedy: "Name a virtual function, or leave out what only those have",
      },
    );
  }
  const physical = physicalFunction(vf, guest.setup.devices().node);
  if (physical !== undefined) return physical;
  throw new CniError(
    Code.Kernel,
    `Cannot set virtual function ${vf.number} of "${vf.of}": the interface of its physical function is not on the node`,
    { remedy: "Give the physical function's interface back to the node's namespace" },
  );
}

export const vfSet = hostCall({
  name: "vf_set",
  operations: creating,
  waits: true,
  roles: ["device"],
  doc: "Sets the virtual function that was taken, by its physical function. What it is already is not set again; what it was before is in its record",
  request: vfSettings,
  answer: {},
  targets: () => [device],
  run(guest, r) {
    const physical = functionOf(guest);
    const { node } = guest.setup.devices();
    const mac = r.mac === undefined ? undefined : plainMac(r.mac);
    const wanted = Object.fromEntries(
      Object.entries({ ...r, mac }).filter(([, value]) => value !== undefined),
    ) as Partial<VirtualFunction>;
    const change = vfDifference(physical.now, wanted);
    if (guest.device?.undo === undefined) {
      throw new CniError(Code.NotGranted, "Cannot set the virtual function: it was not taken", {
        remedy: "Take the device first",
      });
    }
    const { link, now } = physical;
    patiently(() => node.host.setVirtualFunction(link.index, now.number, change));
    if (change.mac !== undefined) awaitAddress(guest, physical, change.mac);
    if (mac !== undefined) {
      guest.device.macs?.push(mac);
      giveInterface(guest, mac);
    }
    return {};
  },
});

function awaitAddress(guest: GuestContext, { now }: PhysicalFunction, mac: string): void {
  for (let i = 0; i < ADDRESS_TRIES; i++) {
    if (functionOf(guest).now.mac === mac) return;
    sleepMs(ADDRESS_PAUSE_MS);
  }
  throw new KernelError(`give virtual function ${now.number} the address ${mac}`, 110, "the driver does not take it");
}

/** The interface gets the address too, before it is the pod's. */
function giveInterface(guest: GuestContext, mac: string): void {
  const { handle, key } = guest.device ?? {};
  const { node } = guest.setup.devices();
  const record = node.records.list().find((r) => r.key === key);
  const link = handle && node.host.linkByIndex(handle.index);
  if (handle === undefined || link === undefined || record?.device === undefined) return;
  const now = giveAddress(link, mac, node.buses.find(record.device), node);
  Object.assign(handle, { index: now.index, name: now.name, mac });
}

// --- what is told of it ----------------------------------------------------------------------------------------------

export const deviceInfo = hostCall({
  name: "device_info",
  operations: creating,
  roles: ["device"],
  doc: "Writes what the taken device is into the file that the runtime named for that, if it named one and nobody has written it",
  request: {},
  answer: { written: { type: "boolean", required: true } },
  targets: () => [device],
  run(guest) {
    const runtime = guest.setup.conf.runtimeConfig;
    const path = isObject(runtime) ? runtime.CNIDeviceInfoFile : undefined;
    const { device: taken } = guest;
    if (taken === undefined || typeof path !== "string" || path === "") return { written: false };
    const { node } = guest.setup.devices();
    const on = node.records.list().find((r) => r.key === taken.key)?.device;
    if (on?.bus !== "pci") return { written: false };
    const name = infoFileName(path);
    if (name === undefined)
      throw bad("device_info", "runtimeConfig.CNIDeviceInfoFile", `expected a file in ${INFO_DIRECTORY}`);
    guest.intend({ do: "device-info", name });
    return { written: writeInfo(name, pciInfo(on.name, taken.virtualFunction?.of)) };
  },
});

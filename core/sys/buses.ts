/**
 * Devices as sysfs has them, by bus and name. sysfs is opened once and everything below it by that descriptor, so nothing
 * that is mounted over it later, and no name that is given, leads elsewhere.
 */
import { Errno, isErrno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { cstring, errno, fileSystemOf, libc, namesIn, Open, openat2, Resolve, tryOpenat2, writeAll } from "./libc.ts";

const SYSFS_MAGIC = 0x62656572;
const BELOW = Resolve.BENEATH | Resolve.NO_MAGICLINKS;
/** Names of buses, devices and drivers: one component each, and none that is a way up. */
const NAME = /^[A-Za-z0-9_-][A-Za-z0-9_.:-]{0,127}$/;

export interface DeviceName {
  /** Such as "pci", "auxiliary", "virtio". */
  readonly bus: string;
  /** Such as "0000:01:10.0". */
  readonly name: string;
}

export interface BusDevice extends DeviceName {
  /** Absent while none is bound. */
  readonly driver?: string;
  /** Of a virtual function: the PCI address of its physical function, and its number there. */
  readonly virtualFunction?: { readonly of: string; readonly number: number };
  /** What an interface of it may name as its device: itself, and the virtio device that it carries. */
  readonly carriers: readonly DeviceName[];
}

/** The devices of a node. Tests have an implementation in memory. */
export interface Buses {
  /** @returns undefined when there is no such device. @throws {SysError} */
  find(device: DeviceName): BusDevice | undefined;
  /** The device that a path below /sys/devices is. @returns undefined when there is none. @throws {SysError} */
  atPath(path: string): DeviceName | undefined;
  /** Takes the device from its driver, which ends what it does wherever that is, and gives it to `driver`. @throws {SysError} */
  rebind(device: DeviceName, driver: string): void;
}

/** /sys, from the first use to the end of the process. */
let root: number | undefined;

function sysfs(): number {
  root ??= openSysfs();
  return root;
}

function openSysfs(): number {
  using fd = Fd.open("/sys", Open.PATH | Open.DIRECTORY | Open.NOFOLLOW);
  if (fileSystemOf(fd.raw, "/sys") !== SYSFS_MAGIC) throw new SysError("fstatfs", Errno.EXDEV, "/sys");
  return fd.surrender();
}

function component(name: string): string {
  if (!NAME.test(name)) throw new SysError("name", Errno.EINVAL, name);
  return name;
}

function openDirectory(path: string): Fd | undefined {
  const found = tryOpenat2(sysfs(), path, Open.READ | Open.DIRECTORY, BELOW);
  if (found >= 0) return Fd.adopt(found, path);
  if (found === -Errno.ENOENT || found === -Errno.ENOTDIR) return undefined;
  throw new SysError("openat2", -found, path);
}

/** The last component of what a link in a directory says. */
const target = (directory: Fd, name: string): string | undefined => linkText(directory, name)?.split("/").at(-1);

function linkText(directory: Fd, name: string): string | undefined {
  const buffer = new Uint8Array(4096);
  const length = Number(libc().readlinkat(directory.raw, cstring(name), buffer, buffer));
  if (length < 0) {
    const code = errno();
    if (code === Errno.ENOENT || code === Errno.EINVAL) return undefined;
    throw new SysError("readlink", code, name);
  }
  return new TextDecoder().decode(buffer.subarray(0, length));
}

const pathOf = ({ bus, name }: DeviceName): string => `bus/${component(bus)}/devices/${component(name)}`;

const PCI = /^[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$/;

/** The device that is allocated and bound: what virtio speaks over is a PCI device. */
function find(device: DeviceName): BusDevice | undefined {
  if (device.bus === "virtio") {
    using all = openDirectory("bus/virtio/devices");
    const parent = all && linkText(all, component(device.name))?.split("/").at(-2);
    if (parent !== undefined && PCI.test(parent)) return find({ bus: "pci", name: parent });
  }
  using directory = openDirectory(pathOf(device));
  if (directory === undefined) return undefined;
  const driver = target(directory, "driver");
  const of = device.bus === "pci" ? target(directory, "physfn") : undefined;
  const number = of === undefined ? undefined : numberOf(of, device.name);
  const virtio = namesIn(directory.raw, device.name).filter((name) => /^virtio\d+$/.test(name));
  return {
    bus: device.bus,
    name: device.name,
    ...(driver === undefined ? {} : { driver }),
    ...(of === undefined || number === undefined ? {} : { virtualFunction: { of, number } }),
    carriers: [device, ...virtio.map((name) => ({ bus: "virtio", name }))],
  };
}

/** The number that a physical function gives its virtual function. */
function numberOf(physical: string, virtual: string): number | undefined {
  using directory = openDirectory(pathOf({ bus: "pci", name: physical }));
  if (directory === undefined) return undefined;
  for (const name of namesIn(directory.raw, physical)) {
    if (!name.startsWith("virtfn")) continue;
    if (target(directory, name) === virtual) return Number(name.slice("virtfn".length));
  }
  return undefined;
}

function atPath(path: string): DeviceName | undefined {
  const below = path.replace(/^\/sys\//, "").replace(/\/+$/, "");
  if (!path.startsWith("/sys/devices/") || below.split("/").includes("..")) {
    throw new SysError("path", Errno.EINVAL, path);
  }
  using directory = openDirectory(below);
  const bus = directory && target(directory, "subsystem");
  return bus === undefined ? undefined : { bus, name: below.slice(below.lastIndexOf("/") + 1) };
}

function write(path: string, text: string): void {
  using file = Fd.adopt(openat2(sysfs(), path, Open.WRITE, BELOW), path);
  writeAll(file.raw, new TextEncoder().encode(text), path);
}

function rebind(device: DeviceName, driver: string): void {
  const drivers = `bus/${component(device.bus)}/drivers`;
  const now = find(device)?.driver;
  if (now !== undefined) write(`${drivers}/${component(now)}/unbind`, device.name);
  try {
    write(`${drivers}/${component(driver)}/bind`, device.name);
  } catch (thrown) {
    // Bound by somebody else meanwhile, as udev does.
    if (!isErrno(thrown, Errno.EBUSY, Errno.ENODEV) || find(device)?.driver !== driver) throw thrown;
  }
}

export const buses: Buses = { find, atPath, rebind };

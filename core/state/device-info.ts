/**
 * The files in which a device is described to programs, by the device information specification of the Network Plumbing
 * Working Group: a device plugin's, one a device, and one an attachment, which goes with it.
 */
import { isObject, type JsonObject, parseJson } from "../base/json.ts";
import { Dir } from "../sys/dir.ts";
import { Errno, isErrno } from "../sys/error.ts";

const ROOT = "/var/run/k8s.cni.cncf.io/devinfo";
/** Where an attachment's file is. */
export const INFO_DIRECTORY = `${ROOT}/cni`;
const MAX_BYTES = 64 << 10;
const VERSION = "1.1.0";

const types: ReadonlySet<unknown> = new Set(["pci", "vdpa", "vhost-user", "memif"]);

/** The name of an attachment's file, as the other implementation has it. */
export function infoName(of: {
  readonly network: string;
  readonly container: string;
  readonly ifname: string;
}): string {
  return `${of.network}-${of.container}_${of.ifname}`.replaceAll("/", "-").slice(0, 200);
}

export const infoPath = (name: string): string => `${INFO_DIRECTORY}/${name}`;

/** The name of a file of that directory. @returns undefined for a path that leads elsewhere. */
export function infoFileName(path: string): string | undefined {
  const name = path.slice(path.lastIndexOf("/") + 1);
  const directory = path.slice(0, path.lastIndexOf("/")).replace(/^\/run\//, "/var/run/");
  const good = directory === INFO_DIRECTORY && /^[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,199}$/.test(name);
  return good ? name : undefined;
}

export function pciInfo(address: string, physical: string | undefined): JsonObject {
  return {
    type: "pci",
    version: VERSION,
    pci: { "pci-address": address, ...(physical === undefined ? {} : { "pf-pci-address": physical }) },
  };
}

/** Writes an attachment's file. @returns false when it is there already. @throws {SysError} */
export function writeInfo(name: string, info: JsonObject): boolean {
  using dir = Dir.open(INFO_DIRECTORY, { create: true });
  return dir.createWhole(name, new TextEncoder().encode(JSON.stringify(info)));
}

/** @returns undefined when there is none, or it is none of the known kinds. */
export function readInfo(name: string): JsonObject | undefined {
  return read(INFO_DIRECTORY, name);
}

/** What a device plugin has written of a device. */
export function readDevicePluginInfo(resource: string, device: string): JsonObject | undefined {
  const name = `${resource}-${device}-device.json`.replaceAll("/", "-");
  return name.startsWith(".") ? undefined : read(`${ROOT}/dp`, name);
}

/** @returns whether it was there. @throws {SysError} */
export function removeInfo(name: string): boolean {
  try {
    using dir = Dir.open(INFO_DIRECTORY);
    return dir.remove(name);
  } catch (thrown) {
    if (isErrno(thrown, Errno.ENOENT)) return false;
    throw thrown;
  }
}

function read(directory: string, name: string): JsonObject | undefined {
  try {
    using dir = Dir.open(directory);
    const bytes = dir.read(name, MAX_BYTES);
    const info = bytes === undefined ? undefined : parseJson(bytes);
    if (!isObject(info) || !types.has(info.type) || typeof info.version !== "string") return undefined;
    return isObject(info[String(info.type)]) ? info : undefined;
  } catch {
    return undefined; // a file that is not there or cannot be read is no error, says the specification
  }
}

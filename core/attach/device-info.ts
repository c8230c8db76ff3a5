/** The file in which an attachment's device is described, for networks with a plugin that writes or wants one. */
import type { JsonObject } from "../base/json.ts";
import { declares } from "../cni/list.ts";
import type { Attachment } from "../plan/plan.ts";
import { infoName, infoPath, readDevicePluginInfo, readInfo, writeInfo } from "../state/device-info.ts";
import type { Journal } from "../state/journal.ts";

const CAPABILITY = "CNIDeviceInfoFile";

/** The name of the file. @returns undefined when no plugin asks for one, or whoever called us has named one already. */
export function infoFileOf(
  { list, network, ifname, capabilityValues }: Attachment,
  container: string,
): string | undefined {
  if (CAPABILITY in capabilityValues || !list.plugins.some((plugin) => declares(plugin, CAPABILITY))) return undefined;
  return infoName({ network, container, ifname });
}

/** The attachment's capability values, with the file among them. */
export function withInfoFile(attachment: Attachment, container: string): JsonObject {
  const name = infoFileOf(attachment, container);
  return { ...attachment.capabilityValues, ...(name && { [CAPABILITY]: infoPath(name) }) };
}

/** Begins the file with what the device plugin has written of the device, before any plugin runs. @throws {CniError} 5 */
export function beginInfo(attachment: Attachment, journal: Journal): void {
  const name = infoFileOf(attachment, journal.header.container);
  if (name === undefined) return;
  journal.intend({ do: "device-info", name });
  const { resource, deviceID } = attachment;
  if (resource === undefined || deviceID === undefined) return;
  const info = readDevicePluginInfo(resource, deviceID);
  if (info !== undefined) writeInfo(name, info);
}

/** What is in the file after the last plugin has run. */
export function finishedInfo(attachment: Attachment, container: string): JsonObject | undefined {
  const name = infoFileOf(attachment, container);
  return name === undefined ? undefined : readInfo(name);
}

/** What the reference SR-IOV plugin says of devices: a file each, with the path of the pod's namespace. */
import { parseNetnsPath } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { SysError } from "../sys/error.ts";
import { readFileIfThere } from "../sys/files.ts";
import { Netns } from "../sys/netns.ts";

const DIRECTORY = "/var/lib/cni/sriov/pci";

/** The namespace of a pod to which it gave a device, while that exists. */
export function referenceUser(pci: string): string | undefined {
  const bytes = readFileIfThere(`${DIRECTORY}/${pci}`, 4096);
  const path = bytes === undefined ? "" : new TextDecoder().decode(bytes).trim();
  if (!path.startsWith("/")) return undefined;
  try {
    using _netns = Netns.open(parseNetnsPath(path));
    return path;
  } catch (thrown) {
    if (thrown instanceof CniError || thrown instanceof SysError) return undefined; // gone, or something else by now
    throw thrown;
  }
}

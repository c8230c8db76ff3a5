/**
 * Links on the node that the reference plugins made for an attachment and named after it.
 * Source: containernetworking/plugins, plugins/meta/bandwidth
 */
import type { Kernel } from "./kernel.ts";

/** Removes the queue of bandwidth, an ifb that only its name leads to. */
export function removeReferenceQueue(
  kernel: Kernel,
  { network, container }: { readonly network: string; readonly container: string },
): void {
  const hash = new Bun.CryptoHasher("sha512").update(network + container).digest("hex");
  const link = kernel.linkByName(`bwp${hash}`.slice(0, 15));
  if (link?.kind === "ifb") kernel.deleteLink(link.index);
}

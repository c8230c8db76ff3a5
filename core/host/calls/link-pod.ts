/** Links that the attachments of one pod share: its VRFs. */
import { show } from "../../base/brand.ts";
import { CniError, Code } from "../../base/error.ts";
import { derive } from "../../base/hash.ts";
import { formatCidr } from "../../base/ip.ts";
import type { Kernel, Link } from "../../kernel/kernel.ts";
import type { GuestContext } from "../context.ts";
import type { LinkHandle } from "../handles.ts";
import { type Create, specFor } from "./link-spec.ts";
import { lostRoutes, routeRecord } from "./route.ts";

/**
 * The address that tells a link of ours from one that the pod made: the same for all attachments of the pod, and given
 * with its birth. A pod that forges it harms its own links only.
 */
function addressOf(guest: GuestContext, name: string): string {
  const digits = derive(10, guest.setup.attachment.container, "pod", name);
  return `02:${digits.match(/../g)?.join(":")}`;
}

/**
 * Makes the link, or takes the one that is there. One that another attachment made is this one's too, which the journal
 * says: it goes with the last of them. One that the pod itself made stays.
 */
export function createForPod(guest: GuestContext, r: Create, name: string): { link: Link; created: boolean } {
  const kernel = guest.kernel("pod");
  const mac = addressOf(guest, name);
  const there = kernel.linkByName(name);
  if (there !== undefined) {
    if (there.kind !== r.kind || there.name !== name || there.data?.table !== r.table) {
      const what = there.kind === r.kind ? `it has table ${there.data?.table}` : `it is of kind ${show(there.kind)}`;
      throw new CniError(Code.Kernel, `Cannot use ${show(name)} of the pod as its ${r.kind}: ${what}`, {
        remedy: "EEXIST (17)",
      });
    }
    if (there.mac === mac) guest.intend({ do: "pod-link", in: "pod", kind: r.kind, name, mac });
    if (r.up && !there.up) kernel.setLink(there.index, { up: true });
    return { link: { ...there, up: there.up || r.up }, created: false };
  }
  guest.intend({ do: "pod-link", in: "pod", kind: r.kind, name, mac });
  const link = kernel.createLink(specFor(guest, r, name, mac));
  if (r.up) kernel.setLink(link.index, { up: true });
  return { link: { ...link, up: r.up }, created: true };
}

/**
 * Before a link that another plugin made goes into a VRF: the kernel takes it down and up again for that, which costs it
 * its routes and perhaps its IPv6 addresses. The undo takes it out, and then gives back what it had before.
 */
export function keepForUndo(guest: GuestContext, link: LinkHandle, kernel: Kernel): void {
  const { index, name } = link;
  const addresses = kernel.addresses(index).filter((a) => a.address.ip.family === 6 && (a.scope ?? 0) === 0);
  const routes = lostRoutes(kernel.routes({ index }));
  if (addresses.length === 0 && routes.length === 0) return;
  guest.intend({
    do: "restore",
    in: link.in,
    link: { index, name },
    addresses: addresses.map((a) => formatCidr(a.address)),
    routes: routes.map(routeRecord),
  });
}

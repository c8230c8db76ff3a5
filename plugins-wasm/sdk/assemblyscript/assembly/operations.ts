// STATUS and GC of a plugin that keeps nothing of its own: both are IPAM's matter.
import { ipamGc, ipamStatus } from "./calls.generated";
import { hasIpam } from "./interface";

/** Whether the network's IPAM could serve an ADD. */
export function statusOfIpam(): void {
  if (hasIpam()) ipamStatus({}).must();
}

/** Lets IPAM release what belongs to no attachment of `cni.dev/valid-attachments`. */
export function gcOfIpam(): void {
  if (hasIpam()) ipamGc({}).must();
}

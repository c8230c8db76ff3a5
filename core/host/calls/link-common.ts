import { CniError, Code } from "../../base/error.ts";
import { formatMac, parseMac } from "../../base/ip.ts";
import type { Json } from "../../base/json.ts";
import { type Kernel, KernelError, type Link } from "../../kernel/kernel.ts";
import type { Target } from "../../policy/decide.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { Place } from "../../state/entries.ts";
import { SysError } from "../../sys/error.ts";
import type { GuestContext } from "../context.ts";

export const place = { type: "string", enum: ["pod", "host"] } as const;
export const mtu = { type: "integer", min: 0, max: 65_536, doc: "Bytes; 0 is the kernel's choice" } as const;
export const handle = { type: "integer", min: 1, required: true, doc: "Handle of the link" } as const;
export const mac = { type: "string", format: "mac" } as const;

export const linkAnswer = {
  link: { type: "integer", required: true, doc: "Handle" },
  in: { ...place, required: true },
  name: { type: "string", required: true },
  index: { type: "integer", required: true, doc: "To compare with other answers; no call takes it" },
  kind: { type: "string", required: true, doc: "Empty for a physical link" },
  mac: { type: "string", required: true },
  mtu: { type: "integer", required: true, doc: "Bytes" },
  up: { type: "boolean", required: true },
  running: { type: "boolean", required: true },
  master: { type: "integer", doc: "Index of the bridge or VRF" },
  parent: { type: "integer", doc: "Index of the lower link, or of a veth's other end" },
  promisc: { type: "boolean" },
  allmulti: { type: "boolean" },
  isolated: { type: "boolean", doc: "Of a bridge port: no traffic with other isolated ports" },
  txQueueLength: { type: "integer", doc: "Packets" },
  role: { type: "string", required: true, doc: "pod-link, own, parent, bridge, device, or other" },
  data: { type: "any", doc: "What is particular to the kind, such as a macvlan's mode" },
} as const satisfies Keys;

export type LinkAnswer = ValueOfKeys<typeof linkAnswer>;

export function answerFor(guest: GuestContext, where: Place, link: Link, number: number): LinkAnswer {
  const target = guest.handles.link(number).target;
  return {
    link: number,
    in: where,
    name: link.name,
    index: link.index,
    kind: link.kind,
    mac: link.mac,
    mtu: link.mtu,
    up: link.up,
    running: link.running,
    master: link.master === 0 ? undefined : link.master,
    parent: link.parent,
    promisc: link.promisc,
    allmulti: link.allmulti,
    isolated: link.port?.isolated === true ? true : undefined,
    txQueueLength: link.txQueueLength,
    role: "role" in target ? target.role : "other",
    data: link.data === undefined ? undefined : (link.data as unknown as Json),
  };
}

/** In the kernel's own notation, so that the journal's text compares with its answers. */
export const plainMac = (text: string): string => formatMac(parseMac(text) ?? new Uint8Array(6));

/**
 * Every link on the node's side goes through here before it is up: a pod must not be able to give the node a router
 * or an address by a router advertisement.
 *
 * @param now As the kernel has it, where that is known.
 */
export function refuseAdvertisements(host: Kernel, name: string, now?: number): void {
  if (now === 0) return;
  try {
    host.setSysctl(`net/ipv6/conf/${name}/accept_ra`, "0");
  } catch (thrown) {
    if (!isAbsent(thrown)) throw thrown; // a kernel without IPv6 has no such file, and takes no advertisement
  }
}

export const isAbsent = (thrown: unknown): boolean =>
  (thrown instanceof SysError || thrown instanceof KernelError) && thrown.errnoName === "ENOENT";

export const isTaken = (thrown: unknown): boolean => thrown instanceof KernelError && thrown.errnoName === "EEXIST";

export function bad(call: string, member: string, why: string): CniError {
  return new CniError(Code.BadRequest, `Cannot make the call "${call}": "${member}": ${why}`, {
    remedy: `Correct "${member}" of the request`,
  });
}

export function ownTarget(guest: GuestContext, where: Place, name: string): Target {
  return { whose: "own", role: where === "pod" && name === guest.setup.attachment.ifname ? "pod-link" : "own" };
}

export function vanished(kind: string, name: string): CniError {
  return new CniError(Code.Kernel, `Cannot create the ${kind} "${name}": it was gone before it could be read`, {
    remedy: "ENODEV (19)",
  });
}

/** Rate limits and redirections between the values of `kernel.ts` and the messages of `core/netlink`. */
import {
  EGRESS_REDIRECT,
  everyPacket,
  FIRST_FOR_ALL,
  type FilterMessage,
  type FilterRequest,
  type QdiscMessage,
  type QdiscRequest,
  STOLEN,
  TrafficHandle,
} from "../netlink/traffic.ts";
import type { TokenBucket } from "./kernel.ts";

const WIDEST = 0xffff_ffff;
const FIRST_CLASS = TrafficHandle.FIRST | 1;

/** The queueing discipline that limits a link; without a bucket, the one to delete. */
export function limitRequest(index: number, bucket?: TokenBucket): QdiscRequest {
  const { FIRST: handle, ROOT: parent } = TrafficHandle;
  const itself = { index, handle, parent, kind: "tbf" };
  if (bucket === undefined) return itself;
  const { rate, buffer, limit } = bucket;
  const parameters = { rate: Math.min(rate, WIDEST), limit, buffer };
  return { ...itself, tbf: { parameters, ...(rate > WIDEST ? { rate64: BigInt(rate) } : {}) } };
}

export function toBucket(m: QdiscMessage): TokenBucket | undefined {
  const found = m.tbf?.parameters;
  if (found === undefined || m.parent !== TrafficHandle.ROOT || m.handle !== TrafficHandle.FIRST) return undefined;
  const { rate, buffer, limit } = found;
  return { rate: m.tbf?.rate64 === undefined ? rate : Number(m.tbf.rate64), buffer, limit };
}

export function ingressRequest(index: number): QdiscRequest {
  return { index, handle: TrafficHandle.INGRESS_ITSELF, parent: TrafficHandle.INGRESS, kind: "ingress" };
}

export const isOurIngress = (m: QdiscMessage): boolean =>
  m.kind === "ingress" && m.handle === TrafficHandle.INGRESS_ITSELF;

export function filtersOf(index: number): FilterRequest {
  return { index, parent: TrafficHandle.INGRESS_ITSELF };
}

/** Every packet that comes in over `index` leaves over `to`. */
export function redirectRequest(index: number, to: number): FilterRequest {
  const parameters = { action: STOLEN, direction: EGRESS_REDIRECT, target: to };
  return {
    ...filtersOf(index),
    info: FIRST_FOR_ALL,
    kind: "u32",
    u32: {
      classId: FIRST_CLASS,
      selector: everyPacket,
      actions: { first: { kind: "mirred", mirred: { parameters } } },
    },
  };
}

/** Index of the link that a filter sends every packet over, as ours do. */
export function redirectTarget(m: FilterMessage): number | undefined {
  const { selector, actions } = m.u32 ?? {};
  const found = actions?.first?.mirred?.parameters;
  if (found?.direction !== EGRESS_REDIRECT || found.action !== STOLEN) return undefined;
  // The kernel counts hits behind the selector, and a mask of zero fits all.
  const every = selector !== undefined && selector[2] === 1 && selector.subarray(16, 20).every((byte) => byte === 0);
  return every ? found.target : undefined;
}

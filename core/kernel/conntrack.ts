/** Forgets UDP flows: the kernel keeps sending what it knows to where it went before, whatever the rules say by now. */
import { contains, type Ip, sameIp } from "../base/ip.ts";
import {
  type ConnectionMessage,
  type ConnectionRequest,
  ConntrackMessage,
  connection,
  TupleFilter,
} from "../netlink/conntrack.ts";
import type { Request } from "../netlink/conversation.ts";
import type { LinkAddress, UdpFlows } from "./kernel.ts";

export const UDP = 17;
const families = { 4: 2, 6: 10 } as const;
/** With more ports than this, one list of all UDP flows costs less than a list for each. */
const FEW_PORTS = 8;

export const loopback4 = { ip: { family: 4, bytes: Uint8Array.of(127, 0, 0, 0) }, prefix: 8 } as const;

type Tuple = NonNullable<ConnectionMessage["original"]>;

function sourceOf(tuple: Tuple): Ip | undefined {
  const { source4, source6 } = tuple.addresses ?? {};
  return source4 ? { family: 4, bytes: source4 } : source6 && { family: 6, bytes: source6 };
}

function targetOf(tuple: Tuple): Ip | undefined {
  const { target4, target6 } = tuple.addresses ?? {};
  return target4 ? { family: 4, bytes: target4 } : target6 && { family: 6, bytes: target6 };
}

/** The lists to ask for, which the kernel filters. */
export function listRequests(flows: UdpFlows): Request<ConnectionMessage>[] {
  const family = families[flows.family];
  const ask = (value: ConnectionRequest): Request<ConnectionMessage> => ({
    type: ConntrackMessage.GET,
    codec: connection,
    value: { family, ...value },
    reply: connection,
  });
  const { answeredBy } = flows;
  if (answeredBy !== undefined) {
    const source = answeredBy.family === 4 ? { source4: answeredBy.bytes } : { source6: answeredBy.bytes };
    const reply = { addresses: source, protocol: { number: UDP } };
    return [ask({ reply, filter: { original: 0, reply: TupleFilter.SOURCE | TupleFilter.PROTOCOL } })];
  }
  const ports = flows.ports.flatMap(({ first, count }) =>
    count > FEW_PORTS ? [] : Array.from({ length: count }, (_, i) => first + i),
  );
  const total = flows.ports.reduce((sum, { count }) => sum + count, 0);
  if (total > FEW_PORTS) {
    const original = { protocol: { number: UDP } };
    return [ask({ original, filter: { original: TupleFilter.PROTOCOL, reply: 0 } })];
  }
  return [...new Set(ports)].map((targetPort) => {
    const original = { protocol: { number: UDP, targetPort } };
    return ask({ original, filter: { original: TupleFilter.PROTOCOL | TupleFilter.TARGET_PORT, reply: 0 } });
  });
}

/** Whether an entry is one of the flows: an older kernel does not filter, and no kernel knows what is local. */
export function isOf(flows: UdpFlows, entry: ConnectionMessage, local: () => readonly LinkAddress[]): boolean {
  const { original, reply } = entry;
  if (original?.protocol?.number !== UDP || reply === undefined) return false;
  const port = original.protocol.targetPort ?? 0;
  const target = targetOf(original);
  const answering = sourceOf(reply);
  if (target === undefined || answering === undefined || target.family !== flows.family) return false;
  const among = flows.ports.filter(({ first, count }) => port >= first && port < first + count);
  if (among.length === 0) return false;
  if (flows.answeredBy !== undefined) return sameIp(answering, flows.answeredBy);
  if (flows.exceptBy !== undefined && sameIp(answering, flows.exceptBy)) return false;
  return among.some(({ address }) => (address === undefined ? isLocal(target, local) : sameIp(address, target)));
}

const isLocal = (ip: Ip, local: () => readonly LinkAddress[]): boolean =>
  contains(loopback4, ip) || local().some(({ address }) => sameIp(address.ip, ip));

/** Deletes one entry, and by its number no other that has come in its place. */
export const deleteRequest = ({ family, original, id, zone }: ConnectionMessage): Request => ({
  type: ConntrackMessage.DELETE,
  codec: connection,
  value: { family, original, ...(id === undefined ? {} : { id }), ...(zone === undefined ? {} : { zone }) },
});

/** Forgets UDP flows: the kernel keeps sending what it knows to where it went before, whatever the rules say by now. */
import { contains, type Ip, sameIp } from "../base/ip.ts";
import {
  type ConnectionMessage,
  type ConnectionRequest,
  ConntrackMessage,
  connection,
  TupleFilter,
} from "../netlink/conntrack.ts";
import { type Clock, Conversation, type Request } from "../netlink/conversation.ts";
import { deadlineIn, monotonicMs, sleepMs } from "../sys/clock.ts";
import { Errno } from "../sys/error.ts";
import { NetlinkSocket } from "../sys/netlink-socket.ts";
import type { Netns } from "../sys/netns.ts";
import { KernelError, type LinkAddress, refuse, type UdpFlows } from "./kernel.ts";

const clock: Clock = { nowMs: monotonicMs, sleepMs };

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

/**
 * Forgets the flows, so that the next packet of each meets the rules again.
 *
 * @param local The addresses of the namespace.
 * @returns how many, and whether there was time for all of them; it never throws
 */
export function forgetUdp(
  ns: Netns,
  flows: readonly UdpFlows[],
  timeoutMs: number,
  local: () => readonly LinkAddress[],
): { forgotten: number; all: boolean } {
  const deadline = deadlineIn(timeoutMs);
  let forgotten = 0;
  let known: readonly LinkAddress[] | undefined;
  const own = (): readonly LinkAddress[] => (known ??= local());
  let seq = 1;
  try {
    // A socket of its own: what is still on its way when the time is over must not be met by whoever asks next.
    using socket = NetlinkSocket.open(12, ns);
    const conversation = (): Conversation => {
      const timeLeft = Math.max(0, deadline - monotonicMs());
      if (timeLeft === 0) throw new KernelError("forget UDP flows", Errno.ETIMEDOUT);
      seq += 100_000;
      return new Conversation(socket, clock, { timeoutMs: timeLeft, firstSeq: seq });
    };
    for (const wanted of flows) {
      for (const request of listRequests(wanted)) {
        const found = conversation().dump(request);
        refuse("list UDP flows", found);
        for (const entry of found.replies.filter((e) => isOf(wanted, e, own))) {
          if (conversation().ask(deleteRequest(entry)).errno === 0) forgotten++;
        }
      }
    }
    return { forgotten, all: true };
  } catch {
    return { forgotten, all: false };
  }
}

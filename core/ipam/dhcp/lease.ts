/** A lease between what a server gave, what is on the disk, and what time it is. */
import { formatMac, parseCidr, parseMac } from "../../base/ip.ts";
import type { JsonObject } from "../../base/json.ts";
import type { DhcpIdentity, DhcpLeases, DhcpRecord } from "../../state/dhcp.ts";
import { bootTimeMs } from "../../sys/clock.ts";
import { SysError } from "../../sys/error.ts";
import type { IpamResult, PodLink, PodNetwork } from "../ipam.ts";
import { type Client, Exchange, type Held, type Lease, type Surroundings } from "./client.ts";
import { CLIENT_PORT } from "./frame.ts";
import { formatAddress, INFINITE, parseAddress4 } from "./options.ts";

/** The surroundings of a real exchange; all processes of the machine agree on this clock. */
export function realWorld(stop: { readonly requested: boolean } | undefined): Surroundings {
  // The clock of the kernel's file has steps of 10 ms, so it is read once and the process's own goes on from there.
  const offset = bootTimeMs() - performance.now();
  return {
    nowMs: () => offset + performance.now(),
    random: Math.random,
    get stopped() {
      return stop?.requested === true;
    },
  };
}

export type Asking = Pick<DhcpRecord, "container" | "network" | "ifname" | "journal" | "netns" | "link" | "client">;

export function recordOf(
  asking: Asking,
  state: "asked" | "bound",
  lease: Lease,
  priority: number,
): Omit<DhcpRecord, "format" | "bootId"> {
  return {
    ...asking,
    state,
    address: `${formatAddress(lease.address)}/${lease.prefix}`,
    server: formatAddress(lease.server),
    serverMac: formatMac(lease.serverMac),
    askedMs: Math.round(lease.askedMs),
    times: lease.times,
    result: resultOf(lease, priority) as unknown as JsonObject,
    timeServers: lease.timeServers,
  };
}

/** The same record with new times, after a server has prolonged the lease. What the pod has of it stays as it is. */
export function prolonged(record: DhcpRecord, lease: Lease): DhcpRecord {
  return {
    ...record,
    server: formatAddress(lease.server),
    serverMac: formatMac(lease.serverMac),
    askedMs: Math.round(lease.askedMs),
    times: lease.times,
  };
}

function resultOf(lease: Lease, priority: number): IpamResult {
  const { address, prefix, gateway } = lease;
  return {
    ips: [{ address: `${formatAddress(address)}/${prefix}`, ...(gateway !== undefined && { gateway }) }],
    routes: priority === 0 ? lease.routes : lease.routes.map((route) => ({ ...route, priority })),
    dns: lease.dns,
  };
}

export function clientOf(record: Pick<DhcpRecord, "client">, link: PodLink): Client {
  const { id, requested, provided } = record.client;
  return {
    mac: parseMac(link.mac) ?? new Uint8Array(6),
    id: Uint8Array.fromHex(id),
    requested,
    provided: provided.map(([code, content]) => [code, Uint8Array.fromHex(content)] as const),
    // Links that share their parent's hardware address get a unicast frame only once the kernel knows their IP address.
    broadcast: link.kind === "ipvlan",
    mtu: link.mtu,
  };
}

export function heldOf(record: DhcpRecord): Held {
  return {
    address: parseAddress4(record.address.split("/")[0] ?? "") ?? 0,
    server: parseAddress4(record.server) ?? 0,
    serverMac: parseMac(record.serverMac) ?? new Uint8Array(0),
  };
}

/** A point of a lease on the clock of all processes; never, for a lease without an end. */
export function timeOf(record: Pick<DhcpRecord, "askedMs" | "times">, which: keyof DhcpRecord["times"]): number {
  const seconds = record.times[which];
  return seconds >= INFINITE ? Number.POSITIVE_INFINITY : record.askedMs + seconds * 1000;
}

export function isOver(record: Pick<DhcpRecord, "askedMs" | "times">, nowMs = bootTimeMs()): boolean {
  return nowMs >= timeOf(record, "lease");
}

/** The link that has the lease. Its name and its hardware address are the pod's, and later plugins', to change. */
export function linkOf(record: DhcpRecord, pod: PodNetwork): PodLink | undefined {
  return String(pod.cookie) === record.netns.cookie ? pod.linkByIndex(record.link.index) : undefined;
}

/**
 * Gives an attachment's lease back: the address leaves the link, the server hears of it as far as it can be reached, and
 * the record goes in any case. Nothing to give back is a success.
 *
 * @param pod Absent when the namespace is gone: then the lease runs out at the server.
 * @throws {CniError} 5
 */
export function giveBack(id: DhcpIdentity, leases: DhcpLeases, pod: PodNetwork | undefined): void {
  leases.alone(id, (record) => {
    const isHeld = !record.earlierBoot && record.state !== "expired" && !isOver(record);
    if (isHeld && pod !== undefined) sendRelease(record, pod);
    return "remove";
  });
}

function sendRelease(record: DhcpRecord, pod: PodNetwork): void {
  const tell = (link: PodLink): void => {
    using packets = pod.openPackets(link.index, CLIENT_PORT);
    new Exchange(clientOf(record, link), packets, realWorld(undefined)).release(heldOf(record));
  };
  try {
    const link = linkOf(record, pod);
    if (link === undefined) return;
    const address = parseCidr(record.address);
    // Before another can have it: from the release on the server may give it to anybody.
    if (address !== undefined) attempt(() => pod.deleteAddress(link.index, { address }));
    if (link.up) tell(link);
  } catch (thrown) {
    if (!isKernels(thrown)) throw thrown; // a link that went down or away meanwhile: it is the server's to notice
  }
}

function attempt(work: () => void): void {
  try {
    work();
  } catch (thrown) {
    if (!isKernels(thrown)) throw thrown;
  }
}

/** What the kernel refuses has an errno, whichever layer says it. */
export function isKernels(thrown: unknown): thrown is Error & { readonly errno: number } {
  return thrown instanceof SysError || (thrown instanceof Error && thrown.name === "KernelError");
}

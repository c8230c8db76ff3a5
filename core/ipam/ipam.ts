/** What an IPAM of ours is asked and what it answers. */

import type { Cidr } from "../base/ip.ts";
import type { JsonObject } from "../base/json.ts";
import type { CniArgs } from "../cni/env.ts";
import type { Dns, NetConf, ResultIp, ResultRoute } from "../cni/types.ts";
import type { DhcpLeases } from "../state/dhcp.ts";
import type { UndoLog } from "../state/journal.ts";
import type { LeaseBackend, LeaseOwner } from "../state/leases.ts";
import type { Packets } from "../sys/packet.ts";

/** The CNI code of a CHECK that found a difference, as the built-in plugins have it too. */
export const DIFFERENT = 210;

export interface IpamRequest {
  readonly command: "ADD" | "DEL" | "CHECK" | "GC" | "STATUS";
  /** The whole plugin object; `ipam` in it is what is read. */
  readonly conf: NetConf;
  /** The name of the configuration list. */
  readonly network: string;
  /** Empty on GC and STATUS. */
  readonly containerId: string;
  readonly ifname: string;
  /** Of the pod's network namespace, decimal digits; empty when it is not known. */
  readonly cookie: string;
  readonly args: CniArgs;
  /** Capability values that the configuration declares. */
  readonly runtimeConfig: JsonObject;
  /** The configuration is the node administrator's, so files that it names may be read. */
  readonly nodeFiles: boolean;
  /** Who wrote it, where that is a namespace; with `apart` its networks' leases are not those of others of the name. */
  readonly pool?: { readonly namespace: string; readonly apart: boolean };
  readonly gc?: GarbageQuestion;
  /** For an IPAM that talks on the network; the others need none of it. */
  readonly node?: IpamNode;
}

export interface IpamNode {
  readonly dhcp: DhcpLeases;
  /** The pod's namespace; absent when it is gone, or the command has none. */
  readonly pod: PodNetwork | undefined;
  /** As CNI_NETNS has it. */
  readonly netnsPath: string;
  /** Of the whole operation, on the monotonic clock. */
  readonly deadlineMs: number;
  /** True once the operation was asked to end. */
  readonly stop: { readonly requested: boolean } | undefined;
  /** Whether the namespace of an owner exists; it may look at every process of the machine. */
  isNetnsAlive(netns: { readonly path: string; readonly cookie: string }): boolean;
}

/** As much of a kernel as a client on one link needs. */
export interface PodNetwork {
  readonly cookie: bigint;
  linkByName(name: string): PodLink | undefined;
  linkByIndex(index: number): PodLink | undefined;
  setLink(index: number, change: { readonly up: boolean }): void;
  deleteAddress(index: number, address: { readonly address: Cidr }): boolean;
  waitRunning(index: number, timeoutMs: number): boolean;
  openPackets(index: number, port: number): Packets;
}

export interface PodLink {
  readonly index: number;
  readonly name: string;
  readonly kind: string;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
}

/** What GC may free, answered by who knows the journals and the namespaces. */
export interface GarbageQuestion {
  /** `cni.dev/valid-attachments`, as the runtime or our journals have it. */
  readonly valid: readonly { readonly containerID: string; readonly ifname: string }[];
  /** Whether the owner's namespace exists or its operation is in progress; `undefined` when that cannot be known. */
  isAlive(owner: LeaseOwner): boolean | undefined;
  /** Whether a journal names the lease: a damaged lease file that one names is kept. */
  isNamed(pool: string, address: string): boolean;
}

export interface IpamResult {
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Dns;
}

export interface Ipam {
  readonly type: string;
  /**
   * Takes addresses, or none: when it throws, it has given back what it took.
   *
   * @param journal Where each lease's undo step is written before the lease; without one (run by a foreign plugin)
   * an owner's earlier leases are looked for in the files.
   * @throws {CniError} 7 configuration, 11 what a retry may mend, 5 state that cannot be written.
   */
  add(request: IpamRequest, journal: UndoLog | undefined, leases: LeaseBackend): IpamResult;
  /** Frees all that the owner has in the pool. Nothing to free is a success. @throws {CniError} 5, 104 */
  del(request: IpamRequest, leases: LeaseBackend): void;
  /** @throws {CniError} 210 when the attachment has not what the configuration and `prevResult` say, 7, 5, 104. */
  check(request: IpamRequest, leases: LeaseBackend): void;
  gc(request: IpamRequest, leases: LeaseBackend): void;
  /** @throws {CniError} 7 for a configuration that ADD would refuse, 50 when nothing could be leased. */
  status(request: IpamRequest, leases: LeaseBackend): void;
}

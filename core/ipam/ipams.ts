import type { UndoLog } from "../state/journal.ts";
import type { LeaseBackend } from "../state/leases.ts";
import { dhcp } from "./dhcp/dhcp.ts";
import { hostLocal } from "./host-local.ts";
import type { Ipam, IpamRequest, IpamResult } from "./ipam.ts";
import { staticIpam } from "./static.ts";

/** The IPAMs that run in this process, by the `type` of an `ipam` object. Any other type is a delegate's. */
export const ipams: ReadonlyMap<string, Ipam> = new Map([hostLocal, staticIpam, dhcp].map((ipam) => [ipam.type, ipam]));

/**
 * Runs the command that the request names.
 *
 * @param journal Of the attachment, on ADD; see `Ipam.add`.
 * @returns What an ADD gave; nothing for the other commands. @throws {CniError}
 */
export function runOwn(
  ipam: Ipam,
  request: IpamRequest,
  leases: LeaseBackend,
  journal?: UndoLog,
): IpamResult | undefined {
  switch (request.command) {
    case "ADD":
      return ipam.add(request, journal, leases);
    case "DEL":
      ipam.del(request, leases);
      return undefined;
    case "CHECK":
      ipam.check(request, leases);
      return undefined;
    case "GC":
      ipam.gc(request, leases);
      return undefined;
    case "STATUS":
      ipam.status(request, leases);
      return undefined;
  }
}

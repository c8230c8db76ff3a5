/** Leases as the reference host-local keeps them, for a configuration that it may have run. */
import { ReferenceLeases } from "../state/reference-leases.ts";
import { dataDirOf, REFERENCE_DATA_DIR } from "./host-local.ts";
import type { IpamRequest } from "./ipam.ts";

/** Below `dataDir` where that is the node administrator's word, else in the usual place. @throws {CniError} 7 */
export function referenceLeases(request: Pick<IpamRequest, "conf" | "network" | "nodeFiles">): ReferenceLeases {
  return new ReferenceLeases(request.nodeFiles ? dataDirOf(request) : REFERENCE_DATA_DIR);
}

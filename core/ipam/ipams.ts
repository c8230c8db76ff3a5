import { hostLocal } from "./host-local.ts";
import type { Ipam } from "./ipam.ts";
import { staticIpam } from "./static.ts";

/** The IPAMs that run in this process, by the `type` of an `ipam` object. Any other type is a delegate's. */
export const ipams: ReadonlyMap<string, Ipam> = new Map([hostLocal, staticIpam].map((ipam) => [ipam.type, ipam]));

/**
 * The shapes of CNI 1.1.0, in one internal form: older versions are converted where a document comes in or goes out
 * (`result.ts`), so nothing between knows that they exist.
 */
import type { NetworkName } from "../base/brand.ts";
import type { JsonObject } from "../base/json.ts";

/** What an attachment came to. It carries no version: `formatResult()` adds the one that is asked for. */
export interface Result {
  readonly interfaces: readonly ResultInterface[];
  readonly ips: readonly ResultIp[];
  readonly routes: readonly ResultRoute[];
  readonly dns: Dns;
}

export interface ResultInterface {
  readonly name: string;
  readonly mac?: string;
  readonly mtu?: number;
  /** The path of the pod's network namespace; absent for an interface of the node. */
  readonly sandbox?: string;
  readonly socketPath?: string;
  readonly pciID?: string;
}

export interface ResultIp {
  /** Address with prefix length, host bits kept: `10.1.2.3/24`. */
  readonly address: string;
  readonly gateway?: string;
  /** Index into `interfaces`. */
  readonly interface?: number;
}

export interface ResultRoute {
  /** A network in CIDR form; `0.0.0.0/0` or `::/0` for a default route. */
  readonly dst: string;
  readonly gw?: string;
  readonly mtu?: number;
  readonly advmss?: number;
  readonly priority?: number;
  readonly table?: number;
  readonly scope?: number;
}

export interface Dns {
  readonly nameservers?: readonly string[];
  readonly domain?: string;
  readonly search?: readonly string[];
  readonly options?: readonly string[];
}

/** One plugin object exactly as its author wrote it: nothing lost, nothing added. */
export type NetConf = JsonObject;

/** A network: a CNI configuration list. A single configuration has become a list of one. */
export interface NetworkList {
  /** The version that the configuration asks for: the highest we know of `cniVersion` and `cniVersions`. */
  readonly cniVersion: string;
  /** Every version that the configuration names, ours or not, ascending. */
  readonly cniVersions: readonly string[];
  readonly name: NetworkName;
  readonly disableCheck: boolean;
  readonly disableGC: boolean;
  /** When false (the default) plugin objects in the directory beside the file, named by the network, follow ours. */
  readonly loadOnlyInlinedPlugins: boolean;
  readonly plugins: readonly NetConf[];
  /** The document as it was written, before any up-conversion. */
  readonly raw: JsonObject;
}

export const emptyResult: Result = { interfaces: [], ips: [], routes: [], dns: {} };

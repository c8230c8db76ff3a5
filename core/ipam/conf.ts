/** What both IPAMs read of a plugin object. */
import { show } from "../base/brand.ts";
import { Code } from "../base/error.ts";
import { type Cidr, type Ip, parseCidr, parseIp } from "../base/ip.ts";
import { isObject, type Json, type JsonObject, member, withoutNulls } from "../base/json.ts";
import { Document } from "../cni/document.ts";
import { MAX_ROUTES, parseResult, parseRoute } from "../cni/result.ts";
import type { ResultIp, ResultRoute } from "../cni/types.ts";
import type { IpamRequest } from "./ipam.ts";

const MAX_REQUESTED = 64;

/** As much of a request as the `ipam` object needs. */
export type IpamConf = Pick<IpamRequest, "conf" | "network">;

export function ipamDocument(request: IpamConf): Document {
  return new Document(
    `the "ipam" of network ${show(request.network)}`,
    Code.InvalidConfig,
    `Correct the key "ipam" in the configuration of network ${show(request.network)}`,
  );
}

/** @throws {CniError} 7 */
export function ipamObject(d: Document, request: IpamConf): JsonObject {
  return d.object("", withoutNulls(member(request.conf, "ipam") ?? null));
}

/** The addresses that `args.cni.ips` asks for, as written. @throws {CniError} 7 */
export function requestedByArgs(d: Document, request: IpamRequest): string[] {
  const args = member(request.conf, "args");
  const cni = isObject(args) ? member(args, "cni") : undefined;
  const ips = isObject(cni) ? member(cni, "ips") : undefined;
  return ips === undefined ? [] : d.texts("args.cni.ips", ips, MAX_REQUESTED, "addresses");
}

/** The addresses that the capability `ips` asks for, as written. @throws {CniError} 7 */
export function requestedByRuntime(d: Document, request: IpamRequest): string[] {
  const ips = member(request.runtimeConfig, "ips");
  return ips === undefined ? [] : d.texts("runtimeConfig.ips", ips, MAX_REQUESTED, "addresses");
}

/** @throws {CniError} 7 */
export function parseAddress(d: Document, path: string, value: Json | undefined): Ip {
  const ip = typeof value === "string" ? parseIp(value.trim()) : undefined;
  if (ip === undefined) throw d.refuse(path, "an IP address", value);
  return ip;
}

/** @throws {CniError} 7 */
export function parsePrefix(d: Document, path: string, value: Json | undefined, example: string): Cidr {
  const cidr = typeof value === "string" ? parseCidr(value.trim()) : undefined;
  if (cidr === undefined) throw d.refuse(path, `an address with its prefix length, such as "${example}"`, value);
  return cidr;
}

/** @throws {CniError} 7 */
export function parseRoutes(d: Document, ipam: JsonObject): ResultRoute[] {
  const routes = member(ipam, "routes");
  if (routes === undefined) return [];
  return d.list("routes", routes, MAX_ROUTES, "routes").map((route, i) => parseRoute(d, `routes[${i}]`, route));
}

/**
 * The addresses that ADD gave, from `prevResult`; `undefined` when the request has none.
 *
 * @throws {CniError} 6 when it is no result.
 */
export function previousIps(request: IpamRequest): readonly ResultIp[] | undefined {
  const result = member(request.conf, "prevResult");
  if (!isObject(result)) return undefined;
  const version = member(request.conf, "cniVersion");
  return parseResult(result, typeof version === "string" ? version : "", 'the "prevResult" of the request').ips;
}

/** Refuses what a result of 0.1.0 or 0.2.0 cannot say. @throws {CniError} 7 */
export function requireExpressible(d: Document, request: IpamRequest, families: readonly (4 | 6)[]): void {
  const version = member(request.conf, "cniVersion") ?? "";
  const old = version === "" || version === "0.1.0" || version === "0.2.0";
  if (!old || new Set(families).size === families.length) return;
  throw d.error(`CNI version ${show(version || "0.1.0")} has room for one address a family only`);
}

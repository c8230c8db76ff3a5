/**
 * static: the addresses that the configuration, or whoever starts the pod, names. It keeps no state and asks nobody
 * whether an address is in use.
 */
import { show } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { contains, formatCidr, formatIp, parseCidr, parseIp } from "../base/ip.ts";
import { isObject, type Json, member } from "../base/json.ts";
import type { Document } from "../cni/document.ts";
import { parseDns } from "../cni/result.ts";
import type { ResultIp } from "../cni/types.ts";
import {
  ipamDocument,
  ipamObject,
  parseAddress,
  parsePrefix,
  parseRoutes,
  previousIps,
  requestedByArgs,
  requestedByRuntime,
  requireExpressible,
} from "./conf.ts";
import { DIFFERENT, type Ipam, type IpamRequest, type IpamResult } from "./ipam.ts";

const MAX_ADDRESSES = 64;
const EXAMPLE = "10.1.0.5/24";

/**
 * The addresses of the configuration with those of CNI_ARGS behind them; `args.cni.ips` replaces both, and the
 * capability `ips` replaces all. Only an address of the configuration has a gateway of its own; GATEWAY of CNI_ARGS is
 * for addresses of CNI_ARGS.
 */
function parseAddresses(d: Document, request: IpamRequest): ResultIp[] {
  const named = (path: string, texts: readonly string[]): ResultIp[] =>
    texts.map((text, i) => ({ address: formatCidr(parsePrefix(d, `${path}[${i}]`, text, EXAMPLE)) }));
  const byRuntime = requestedByRuntime(d, request);
  if (byRuntime.length > 0) return named("runtimeConfig.ips", byRuntime);
  const byArgs = requestedByArgs(d, request);
  if (byArgs.length > 0) return named("args.cni.ips", byArgs);
  const configured = member(ipamObject(d, request), "addresses");
  const own =
    configured === undefined
      ? []
      : d.list("addresses", configured, MAX_ADDRESSES, "addresses").map((item, i) => parseConfigured(d, i, item));
  return [...own, ...byCniArgs(d, request)];
}

function parseConfigured(d: Document, i: number, item: Json): ResultIp {
  const entry = isObject(item) ? item : d.object(`addresses[${i}]`, item);
  const address = formatCidr(parsePrefix(d, `addresses[${i}].address`, member(entry, "address"), EXAMPLE));
  const gateway = member(entry, "gateway");
  if (gateway === undefined || gateway === "") return { address };
  return { address, gateway: formatIp(parseAddress(d, `addresses[${i}].gateway`, gateway)) };
}

function byCniArgs(d: Document, request: IpamRequest): ResultIp[] {
  const list = (key: string): string[] => {
    const text = request.args.get(key);
    return text === undefined || text === "" ? [] : text.split(",").map((item) => item.trim());
  };
  const gateways = list("GATEWAY").map((text) => parseAddress(d, "CNI_ARGS GATEWAY", text));
  return list("IP").map((text) => {
    const cidr = parsePrefix(d, "CNI_ARGS IP", text, EXAMPLE);
    const gateway = gateways.findLast((ip) => contains(cidr, ip));
    return { address: formatCidr(cidr), ...(gateway && { gateway: formatIp(gateway) }) };
  });
}

function answer(request: IpamRequest): IpamResult {
  const d = ipamDocument(request);
  const ips = parseAddresses(d, request);
  requireExpressible(
    d,
    request,
    ips.map(({ address }) => (address.includes(":") ? 6 : 4)),
  );
  const ipam = ipamObject(d, request);
  return { ips, routes: parseRoutes(d, ipam), dns: parseDns(d, "dns", member(ipam, "dns")) };
}

/** @throws {CniError} 210 when an address, or its gateway, is not in `prevResult`. */
function check(request: IpamRequest): void {
  const { ips } = answer(request);
  const previous = previousIps(request);
  const refuse = (why: string): CniError =>
    new CniError(
      DIFFERENT,
      `Cannot confirm "${request.ifname}" of container "${request.containerId}" in network ${show(request.network)}: ${why}`,
      { remedy: "Delete the pod, so that its controller makes it anew" },
    );
  if (previous === undefined) throw refuse('there is no "prevResult"');
  const same = (a: string | undefined, b: string | undefined): boolean => {
    const [first, second] = [a && parseIp(a), b && parseIp(b)];
    return (first ? formatIp(first) : "") === (second ? formatIp(second) : "");
  };
  for (const { address, gateway } of ips) {
    const wanted = parseCidr(address);
    const found = previous.some((ip) => {
      const cidr = parseCidr(ip.address);
      if (!cidr || !wanted || formatCidr(cidr) !== formatCidr(wanted)) return false;
      return gateway === undefined || same(ip.gateway, gateway); // the plugin that asked may have found one itself
    });
    if (!found) throw refuse(`"prevResult" lacks ${address}${gateway === undefined ? "" : ` with gateway ${gateway}`}`);
  }
}

export const staticIpam: Ipam = {
  type: "static",
  add: answer,
  del: () => {},
  check,
  gc: () => {},
  status: (request) => void answer(request),
};

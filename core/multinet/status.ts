/** The network-status document of a pod: what of a result other programs look for in the pod's annotation. */

import { formatIp, parseCidr } from "../base/ip.ts";
import type { Json, JsonObject } from "../base/json.ts";
import { formatDns, isDefaultRoute } from "../cni/result.ts";
import type { Dns, Result, ResultInterface } from "../cni/types.ts";

/** One interface of one attachment. */
export interface NetworkStatus {
  /** `namespace/name` of the NAD, or the name of the default network's configuration. */
  readonly name: string;
  readonly interface?: string;
  /** Without prefix length: reconcilers and policies compare these texts. */
  readonly ips?: readonly string[];
  readonly mac?: string;
  readonly mtu?: number;
  readonly default?: boolean;
  readonly dns: Dns;
  readonly deviceInfo?: JsonObject;
  /** Gateways of the result's default routes. */
  readonly gateway?: readonly string[];
}

const addressOf = (cidr: string): string => {
  const parsed = parseCidr(cidr);
  return parsed === undefined ? cidr : formatIp(parsed.ip);
};

/**
 * The status of one attachment: one entry for each of its interfaces in the pod, at least one.
 *
 * With one interface in the result every address is its. With several, an address goes to the interface that it names,
 * one that names none to the last, and one that names an interface of the node to none.
 *
 * @param network What the entries are called.
 * @param result The attachment's final result, default routes already as `default-route` has them.
 */
export function statusOf(
  network: string,
  isDefault: boolean,
  result: Result | undefined,
  deviceInfo?: JsonObject,
): NetworkStatus[] {
  if (result === undefined) return [entry(network, isDefault, undefined, [], [], {}, deviceInfo)];
  const gateways = result.routes.flatMap((r) => (isDefaultRoute(r) && r.gw !== undefined ? [r.gw] : []));
  const inPod = result.interfaces.flatMap((link, index) => (link.sandbox === undefined ? [] : [{ link, index }]));
  if (result.interfaces.length === 1 || inPod.length === 0) {
    // An index that names an interface of the node is no address of the pod.
    const ips = result.ips.filter((ip) => result.interfaces.length === 1 || ip.interface === undefined);
    const addresses = ips.map((ip) => addressOf(ip.address));
    return [entry(network, isDefault, inPod[0]?.link, addresses, gateways, result.dns, deviceInfo)];
  }
  const first = inPod[0]?.index;
  const withGateway = result.ips.find((ip) => ip.gateway !== undefined && ip.interface !== undefined)?.interface;
  const chosen = inPod.some(({ index }) => index === withGateway) ? withGateway : first;
  const last = inPod.at(-1)?.index;
  return inPod.map(({ link, index }) => {
    const own = result.ips.filter((ip) => ip.interface === index || (ip.interface === undefined && index === last));
    const addresses = own.map((ip) => addressOf(ip.address));
    return entry(network, isDefault && index === chosen, link, addresses, gateways, result.dns, deviceInfo);
  });
}

function entry(
  name: string,
  isDefault: boolean,
  link: ResultInterface | undefined,
  ips: readonly string[],
  gateway: readonly string[],
  dns: Dns,
  deviceInfo: JsonObject | undefined,
): NetworkStatus {
  return {
    name,
    ...(link === undefined ? {} : { interface: link.name }),
    ...(ips.length === 0 ? {} : { ips }),
    ...(link?.mac === undefined ? {} : { mac: link.mac }),
    ...(link?.mtu === undefined ? {} : { mtu: link.mtu }),
    ...(isDefault ? { default: true } : {}),
    dns,
    ...(deviceInfo === undefined ? {} : { deviceInfo }),
    ...(gateway.length === 0 ? {} : { gateway }),
  };
}

/** One entry as it stands in the document, keys in the order of the client library's struct. */
export function statusDocument(status: NetworkStatus): JsonObject {
  const out: Record<string, Json> = { name: status.name };
  if (status.interface !== undefined) out.interface = status.interface;
  if (status.ips !== undefined && status.ips.length > 0) out.ips = status.ips;
  if (status.mac !== undefined) out.mac = status.mac;
  if (status.mtu !== undefined && status.mtu !== 0) out.mtu = status.mtu;
  if (status.default === true) out.default = true;
  out.dns = formatDns(status.dns, false);
  if (status.deviceInfo !== undefined) out["device-info"] = status.deviceInfo;
  if (status.gateway !== undefined && status.gateway.length > 0) out.gateway = status.gateway;
  return out;
}

/**
 * The annotation's text, byte for byte as the client library writes it: each object by Go's `MarshalIndent` with four
 * blanks, the objects joined by a comma inside brackets. People compare and grep it.
 */
export function formatStatus(list: readonly NetworkStatus[]): string {
  return formatStatusDocuments(list.map(statusDocument));
}

/** The same from entries that were kept as documents. */
export function formatStatusDocuments(list: readonly Json[]): string {
  return `[${list.map((item) => escapeAsGo(JSON.stringify(item, null, 4))).join(",")}]`;
}

/** Go escapes these inside strings, and JSON has them nowhere else. */
function escapeAsGo(json: string): string {
  return json.replaceAll(/[<>&\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** What options of an answer mean, and how those of a request are written. A server's words are checked like a stranger's. */
import { formatIp, type Ip } from "../../base/ip.ts";
import { isPrintable } from "../../cni/document.ts";
import { MAX_ROUTES } from "../../cni/result.ts";
import type { Dns, ResultRoute } from "../../cni/types.ts";
import { OptionCode, type Options } from "./message.ts";

/** Option 51: a lease without an end. */
export const INFINITE = 0xffffffff;
/** Where a server names no time; the reference's. */
const DEFAULT_LEASE_SECONDS = 3600;
const MAX_SERVERS = 16;

export function formatAddress(address: number): string {
  return formatIp(toIp(address));
}

export function toIp(address: number): Ip {
  return { family: 4, bytes: fromNumber(address) };
}

/** An address as a number; `undefined` for text that is none of IPv4. */
export function parseAddress4(text: string): number | undefined {
  const parts = text.split(".").map(Number);
  if (parts.length !== 4 || !parts.every((part) => Number.isInteger(part) && part >= 0 && part <= 255))
    return undefined;
  return parts.reduce((sum, part) => sum * 256 + part, 0);
}

export function fromNumber(number: number): Uint8Array {
  return Uint8Array.of(number >>> 24, number >>> 16, number >>> 8, number);
}

function toNumber(bytes: Uint8Array, at = 0): number {
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  );
}

/** An option that is one 32-bit number. */
export function number32(options: Options, code: number): number | undefined {
  const content = options.get(code);
  return content?.length === 4 ? toNumber(content) : undefined;
}

export function messageType(options: Options): number {
  const content = options.get(OptionCode.MESSAGE_TYPE);
  return content?.length === 1 ? (content[0] ?? 0) : 0;
}

/** What a server says to people, option 56, fit for a message. */
export function textOf(options: Options, code: number): string {
  const text = new TextDecoder().decode(options.get(code) ?? new Uint8Array(0)).replace(/\0+$/, "");
  return text.replaceAll(/\p{Cc}/gu, "?").slice(0, 200);
}

/** An address that a host can have: no network of its own, loopback, multicast, reserved. */
export function isUsable(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

/** The prefix length of a mask; `undefined` for one whose ones are not all in front. */
export function prefixOf(mask: number | undefined): number | undefined {
  if (mask === undefined || mask === 0) return undefined;
  const hosts = ~mask >>> 0;
  return (hosts & (hosts + 1)) === 0 ? 32 - Math.log2(hosts + 1) : undefined;
}

function addressesOf(options: Options, code: number, most: number): number[] {
  const content = options.get(code) ?? new Uint8Array(0);
  const found: number[] = [];
  for (let at = 0; at + 4 <= content.length && found.length < most; at += 4) {
    const address = toNumber(content, at);
    if (isUsable(address)) found.push(address);
  }
  return found;
}

export function gatewayOf(options: Options): string | undefined {
  const [router] = addressesOf(options, OptionCode.ROUTER, 1);
  return router === undefined ? undefined : formatAddress(router);
}

export function timeServersOf(options: Options): string[] {
  return addressesOf(options, OptionCode.NTP, MAX_SERVERS).map(formatAddress);
}

export function dnsOf(options: Options): Dns {
  const nameservers = addressesOf(options, OptionCode.DNS, MAX_SERVERS).map(formatAddress);
  const domain = new TextDecoder().decode(options.get(OptionCode.DOMAIN) ?? new Uint8Array(0)).replace(/\0+$/, "");
  const isName = domain !== "" && domain.length <= 253 && isPrintable(domain) && /^[A-Za-z0-9_.-]+$/.test(domain);
  return { ...(nameservers.length > 0 && { nameservers }), ...(isName && { domain }) };
}

/** Seconds from the request to the end of the lease, and to its two calls before that. */
export interface Times {
  readonly lease: number;
  readonly renew: number;
  readonly rebind: number;
}

/** A server's own times count where they are in order; else half and seven eighths, RFC 2131 section 4.4.5. */
export function timesOf(options: Options): Times {
  const lease = number32(options, OptionCode.LEASE_TIME) ?? DEFAULT_LEASE_SECONDS;
  if (lease === INFINITE) return { lease, renew: INFINITE, rebind: INFINITE };
  const renew = number32(options, OptionCode.RENEWAL_TIME) ?? Math.floor(lease / 2);
  const rebind = number32(options, OptionCode.REBINDING_TIME) ?? Math.floor((lease * 7) / 8);
  if (renew <= rebind && rebind <= lease) return { lease, renew, rebind };
  return { lease, renew: Math.floor(lease / 2), rebind: Math.floor((lease * 7) / 8) };
}

const SCOPE_LINK = 253;

/** RFC 3442: classless routes put the others, and the routers, out of force. */
export function routesOf(options: Options): ResultRoute[] {
  const classless = options.get(OptionCode.CLASSLESS_ROUTES) ?? options.get(OptionCode.CLASSLESS_ROUTES_MICROSOFT);
  const routes = classless === undefined ? [] : classlessRoutes(classless);
  if (routes.length > 0) return routes;
  const gw = gatewayOf(options);
  return [
    ...staticRoutes(options.get(OptionCode.STATIC_ROUTES)),
    ...(gw === undefined ? [] : [{ dst: "0.0.0.0/0", gw }]),
  ];
}

/** Prefix length, so many bytes of the network as it needs, router. What comes after a broken one cannot be told. */
function classlessRoutes(content: Uint8Array): ResultRoute[] {
  const routes: ResultRoute[] = [];
  for (let at = 0; at < content.length && routes.length < MAX_ROUTES; ) {
    const prefix = content[at] ?? 0;
    const significant = Math.ceil(prefix / 8);
    const end = at + 1 + significant + 4;
    if (prefix > 32 || end > content.length) break;
    const network = new Uint8Array(4);
    network.set(content.subarray(at + 1, at + 1 + significant));
    const router = toNumber(content, end - 4);
    const dst = `${formatAddress(masked(toNumber(network), prefix))}/${prefix}`;
    const gw = formatAddress(router);
    // Plugins put the gateway of the address in the place of one that is absent, so it is named, though it is none.
    if (router === 0) routes.push({ dst, gw, scope: SCOPE_LINK });
    else if (isUsable(router)) routes.push({ dst, gw });
    at = end;
  }
  return routes;
}

/** Pairs of destination and router; how long the prefix is was a matter of an address's class then. */
function staticRoutes(content: Uint8Array = new Uint8Array(0)): ResultRoute[] {
  const routes: ResultRoute[] = [];
  for (let at = 0; at + 8 <= content.length && routes.length < MAX_ROUTES - 1; at += 8) {
    const destination = toNumber(content, at);
    const router = toNumber(content, at + 4);
    const first = destination >>> 24;
    if (!isUsable(destination) || !isUsable(router)) continue; // 0.0.0.0 is not to be given by this option
    const prefix = first < 128 ? 8 : first < 192 ? 16 : 24;
    routes.push({ dst: `${formatAddress(masked(destination, prefix))}/${prefix}`, gw: formatAddress(router) });
  }
  return routes;
}

const masked = (address: number, prefix: number): number =>
  prefix === 0 ? 0 : (address & (-1 << (32 - prefix))) >>> 0;

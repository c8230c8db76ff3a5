/** Ranges of addresses, and the order in which host-local tries them. Pure. */
import {
  addIp,
  type Cidr,
  compareIp,
  contains,
  formatCidr,
  formatIp,
  type Ip,
  lastIp,
  networkOf,
  sameIp,
} from "../base/ip.ts";
import { isObject, type Json, type JsonObject, member } from "../base/json.ts";
import type { Document } from "../cni/document.ts";
import { parseAddress, parsePrefix } from "./conf.ts";

/** Addresses from `start` to `end`, both included, less the gateway. */
export interface Range {
  readonly subnet: Cidr;
  readonly start: Ip;
  readonly end: Ip;
  /** May lie outside of the subnet: then it is given on, and excludes nothing. */
  readonly gateway: Ip;
}

/** One address is taken out of each set. Its ranges are of one family and do not overlap. */
export type RangeSet = readonly [Range, ...Range[]];

/**
 * One range with its defaults: the gateway is the subnet's first address; the range begins with it and ends with the
 * subnet's last address, in IPv4 the one before the broadcast address.
 *
 * @throws {CniError} 7
 */
export function parseRange(d: Document, path: string, value: Json): Range {
  const object = d.object(path, value);
  const key = (name: string): string => (path === "" ? name : `${path}.${name}`);
  const subnet = parsePrefix(d, key("subnet"), member(object, "subnet"), "10.1.0.0/24");
  const bits = subnet.ip.family === 4 ? 32 : 128;
  if (subnet.prefix > bits - 2) {
    throw d.refuse(
      key("subnet"),
      `a prefix length of at most ${bits - 2}: a smaller subnet has nothing to allocate`,
      formatCidr(subnet),
    );
  }
  const network = networkOf(subnet);
  if (!sameIp(network.ip, subnet.ip)) {
    throw d.refuse(key("subnet"), `"${formatCidr(network)}", the network's own address`, formatCidr(subnet));
  }
  const optional = (name: string, otherwise: Ip): Ip => {
    const given = member(object, name);
    return given === undefined || given === "" ? otherwise : parseAddress(d, key(name), given);
  };
  const first = addIp(network.ip, 1);
  const last = subnet.ip.family === 4 ? addIp(lastIp(network), -1) : lastIp(network);
  const start = optional("rangeStart", first);
  const end = optional("rangeEnd", last);
  const gateway = optional("gateway", first);
  for (const [name, ip] of [
    ["rangeStart", start],
    ["rangeEnd", end],
  ] as const) {
    if (!contains(network, ip)) throw d.refuse(key(name), `an address in ${formatCidr(network)}`, formatIp(ip));
  }
  if (compareIp(start, end) > 0) {
    throw d.refuse(key("rangeEnd"), `an address not before rangeStart ${formatIp(start)}`, formatIp(end));
  }
  if (gateway.family !== subnet.ip.family) {
    throw d.refuse(key("gateway"), `an IPv${subnet.ip.family} address`, formatIp(gateway));
  }
  return { subnet: network, start, end, gateway };
}

/** @throws {CniError} 7 for an empty set, mixed families or overlapping ranges. */
export function parseRangeSet(d: Document, path: string, value: Json): RangeSet {
  const [first, ...rest] = d.list(path, value, 64, "ranges").map((range, i) => parseRange(d, `${path}[${i}]`, range));
  if (first === undefined) throw d.refuse(path, "at least one range", "[]");
  const set: RangeSet = [first, ...rest];
  for (const [i, range] of rest.entries()) {
    if (range.subnet.ip.family !== first.subnet.ip.family) {
      throw d.refuse(
        `${path}[${i + 1}]`,
        `IPv${first.subnet.ip.family} as the set's first range`,
        formatCidr(range.subnet),
      );
    }
  }
  for (const [i, a] of set.entries()) {
    for (const b of set.slice(i + 1)) if (overlap(a, b)) throw d.error(`${path}: ${spell(a)} and ${spell(b)} overlap`);
  }
  return set;
}

/**
 * All sets of an `ipam` object, in the order of their addresses in the result: those of the capability `ipRanges`, the
 * range that the object's own keys describe, those of `ranges`.
 *
 * @throws {CniError} 7
 */
export function parseRangeSets(d: Document, ipam: JsonObject, ipRanges: Json | undefined): RangeSet[] {
  const sets: RangeSet[] = [];
  const add = (path: string, value: Json | undefined): void => {
    if (value === undefined) return;
    for (const [i, set] of d.list(path, value, 64, "range sets").entries())
      sets.push(parseRangeSet(d, `${path}[${i}]`, set));
  };
  add("runtimeConfig.ipRanges", ipRanges);
  const legacy = member(ipam, "subnet");
  if (legacy !== undefined && legacy !== "") sets.push([parseRange(d, "", ipam)]);
  add("ranges", member(ipam, "ranges"));
  if (sets.length === 0)
    throw d.refuse("ranges", "at least one range set", isObject(ipam) ? member(ipam, "ranges") : ipam);
  for (const [i, set] of sets.entries()) {
    for (const other of sets.slice(i + 1)) {
      for (const a of set) {
        for (const b of other)
          if (overlap(a, b)) throw d.error(`${spell(a)} and ${spell(b)}, of two range sets, overlap`);
      }
    }
  }
  return sets;
}

function overlap(a: Range, b: Range): boolean {
  return a.start.family === b.start.family && compareIp(a.start, b.end) <= 0 && compareIp(b.start, a.end) <= 0;
}

/** `10.1.0.0/24 (10.1.0.1 to 10.1.0.254)`, for messages. */
export function spell(range: Range): string {
  return `${formatCidr(range.subnet)} (${formatIp(range.start)} to ${formatIp(range.end)})`;
}

/** Whether the range holds the address, be it the gateway or not. */
export function holds(range: Range, ip: Ip): boolean {
  return ip.family === range.start.family && compareIp(range.start, ip) <= 0 && compareIp(ip, range.end) <= 0;
}

export function rangeOf(set: RangeSet, ip: Ip): Range | undefined {
  return set.find((range) => holds(range, ip));
}

function toBigInt(ip: Ip): bigint {
  let value = 0n;
  for (const byte of ip.bytes) value = (value << 8n) | BigInt(byte);
  return value;
}

/** How many addresses the set can give. */
export function capacity(set: RangeSet): bigint {
  let sum = 0n;
  for (const range of set) {
    sum += toBigInt(range.end) - toBigInt(range.start) + 1n;
    if (holds(range, range.gateway)) sum -= 1n;
  }
  return sum;
}

/**
 * Each address of the set once, without gateways: from the one after `last` round to `last` itself, or from the start
 * when `last` is in none of its ranges.
 */
export function* candidates(
  set: RangeSet,
  last: Ip | undefined,
): Generator<{ readonly ip: Ip; readonly range: Range }> {
  const found = last === undefined ? -1 : set.findIndex((range) => holds(range, last));
  const at = Math.max(found, 0);
  const begin = found >= 0 && last !== undefined ? addIp(last, 1) : set[0].start;
  for (let turn = 0; turn <= set.length; turn++) {
    const range = set[(at + turn) % set.length] ?? set[0];
    const from = turn === 0 ? begin : range.start;
    // The last turn is in the first range again, up to where the first turn began.
    const to = turn === set.length ? addIp(begin, -1) : range.end;
    for (let ip = from; holds(range, ip) && compareIp(ip, to) <= 0; ip = addIp(ip, 1)) {
      if (!sameIp(ip, range.gateway)) yield { ip, range };
      if (sameIp(ip, to)) break; // so that the family's last address does not wrap
    }
  }
}

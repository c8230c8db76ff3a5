/**
 * Results in and out, every version. Inside there is one form, that of 1.1.0; what an older version cannot say is
 * dropped where it goes out, as the reference library drops it.
 */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { formatCidr, formatIp, formatMac, parseCidr, parseIp, parseMac } from "../base/ip.ts";
import { isObject, type Json, type JsonObject, member } from "../base/json.ts";
import { Document } from "./document.ts";
import { type Dns, emptyResult, type Result, type ResultInterface, type ResultIp, type ResultRoute } from "./types.ts";
import { isAtLeast, knownVersion, type Version } from "./version.ts";

/** Counts that no honest plugin passes; without them one result could keep the process busy for minutes. */
export const MAX_INTERFACES = 64;
export const MAX_IPS = 64;
export const MAX_ROUTES = 256;
const MAX_DNS = 64;

/**
 * Reads a result of any version.
 *
 * @param doc What the plugin printed; `null` is an empty result.
 * @param confVersion The configuration's version: that of a result which names none.
 * @param what Names the result in errors.
 * @throws {CniError} 6 when it is no result: a bad address, an index without an interface, too many entries; 1 when its
 * version is not one of ours.
 */
export function parseResult(doc: Json, confVersion: string, what = "the result of the plugin"): Result {
  if (doc === null) return emptyResult;
  const d = new Document(what, Code.Decode, "Report this to the plugin's author, with what it printed on stdout");
  const root = d.object("", doc);
  const named = member(root, "cniVersion");
  const text = named === undefined || named === "" ? confVersion : d.text("cniVersion", named, 32);
  const version = knownVersion(text);
  if (version === undefined) {
    throw new CniError(Code.IncompatibleVersion, `Cannot use ${what}: CNI version ${show(text)} is not known`, {
      remedy: "Set cniVersion of the network to a version from 0.1.0 to 1.1.0 that the plugin supports",
    });
  }
  const dns = parseDns(d, "dns", member(root, "dns"));
  return isAtLeast(version, "0.3.0") ? parseCurrent(d, root, dns) : parseOld(d, root, dns);
}

/** 0.3.0 and later. */
function parseCurrent(d: Document, root: JsonObject, dns: Dns): Result {
  const interfaces = optionalList(d, "interfaces", member(root, "interfaces"), MAX_INTERFACES).map((item, i) =>
    parseInterface(d, `interfaces[${i}]`, item),
  );
  const ips = optionalList(d, "ips", member(root, "ips"), MAX_IPS).map((item, i) =>
    parseResultIp(d, `ips[${i}]`, item, interfaces.length),
  );
  const routes = optionalList(d, "routes", member(root, "routes"), MAX_ROUTES).map((item, i) =>
    parseRoute(d, `routes[${i}]`, item),
  );
  return { interfaces, ips, routes, dns };
}

/** 0.1.0 and 0.2.0: at most one address a family, its routes with it, and no interfaces. */
function parseOld(d: Document, root: JsonObject, dns: Dns): Result {
  const ips: ResultIp[] = [];
  const routes: ResultRoute[] = [];
  for (const [key, family] of [
    ["ip4", 4],
    ["ip6", 6],
  ] as const) {
    const value = member(root, key);
    if (value === undefined) continue;
    const entry = d.object(key, value);
    const address = cidr(d, `${key}.ip`, member(entry, "ip"));
    if ((address.includes(":") ? 6 : 4) !== family) throw d.refuse(`${key}.ip`, `an IPv${family} address`, address);
    ips.push({ address, ...optionalIp(d, `${key}.gateway`, member(entry, "gateway"), "gateway") });
    for (const [i, item] of optionalList(d, `${key}.routes`, member(entry, "routes"), MAX_ROUTES).entries()) {
      routes.push(parseRoute(d, `${key}.routes[${i}]`, item));
    }
  }
  if (routes.length > MAX_ROUTES) throw d.refuse("", `at most ${MAX_ROUTES} routes`, routes.length);
  return { interfaces: [], ips, routes, dns };
}

function parseInterface(d: Document, path: string, value: Json): ResultInterface {
  const entry = d.object(path, value);
  const text = (key: string): string | undefined => {
    const found = member(entry, key);
    return found === undefined ? undefined : d.textOrEmpty(`${path}.${key}`, found) || undefined;
  };
  const mac = text("mac");
  const bytes = mac === undefined ? undefined : parseMac(mac);
  const mtu = member(entry, "mtu");
  const [sandbox, socketPath, pciID] = [text("sandbox"), text("socketPath"), text("pciID")];
  return {
    name: d.textOrEmpty(`${path}.name`, member(entry, "name") ?? "", 256),
    ...(mac === undefined ? {} : { mac: bytes === undefined ? mac : formatMac(bytes) }),
    ...(mtu === undefined || mtu === 0 ? {} : { mtu: d.integer(`${path}.mtu`, mtu, 0, 0x7fff_ffff) }),
    ...(sandbox === undefined ? {} : { sandbox }),
    ...(socketPath === undefined ? {} : { socketPath }),
    ...(pciID === undefined ? {} : { pciID }),
  };
}

function parseResultIp(d: Document, path: string, value: Json, interfaces: number): ResultIp {
  const entry = d.object(path, value);
  const index = member(entry, "interface");
  // Before 0.3.1 plugins wrote -1 for "no interface".
  const none = index === undefined || index === -1;
  if (!none && !(typeof index === "number" && Number.isInteger(index) && index >= 0 && index < interfaces)) {
    throw d.refuse(`${path}.interface`, `the index of one of the ${interfaces} interfaces`, index);
  }
  return {
    address: cidr(d, `${path}.address`, member(entry, "address")),
    ...optionalIp(d, `${path}.gateway`, member(entry, "gateway"), "gateway"),
    ...(none ? {} : { interface: index }),
  };
}

export function parseRoute(d: Document, path: string, value: Json): ResultRoute {
  const entry = d.object(path, value);
  const integer = (key: string, max: number, zero: boolean): { [key: string]: number } => {
    const found = member(entry, key);
    if (found === undefined || (found === 0 && !zero)) return {};
    return { [key]: d.integer(`${path}.${key}`, found, 0, max) };
  };
  return {
    dst: cidr(d, `${path}.dst`, member(entry, "dst")),
    ...optionalIp(d, `${path}.gw`, member(entry, "gw"), "gw"),
    ...integer("mtu", 0x7fff_ffff, false),
    ...integer("advmss", 0x7fff_ffff, false),
    ...integer("priority", 0xffff_ffff, false),
    ...integer("table", 0xffff_ffff, true),
    ...integer("scope", 255, true),
  };
}

export function parseDns(d: Document, path: string, value: Json | undefined): Dns {
  if (value === undefined) return {};
  const entry = d.object(path, value);
  const list = (key: "nameservers" | "search" | "options"): { [key: string]: readonly string[] } => {
    const found = member(entry, key);
    if (found === undefined) return {};
    const items = d.texts(`${path}.${key}`, found, MAX_DNS);
    return items.length === 0 ? {} : { [key]: items };
  };
  const domain = member(entry, "domain");
  return {
    ...list("nameservers"),
    ...(domain === undefined || domain === "" ? {} : { domain: d.text(`${path}.domain`, domain, 253) }),
    ...list("search"),
    ...list("options"),
  };
}

function optionalList(d: Document, path: string, value: Json | undefined, max: number): readonly Json[] {
  return value === undefined ? [] : d.list(path, value, max);
}

function cidr(d: Document, path: string, value: Json | undefined): string {
  const parsed = typeof value === "string" ? parseCidr(value) : undefined;
  if (parsed === undefined) throw d.refuse(path, 'an address with prefix length such as "10.1.2.3/24"', value);
  return formatCidr(parsed);
}

function optionalIp<K extends string>(
  d: Document,
  path: string,
  value: Json | undefined,
  key: K,
): { [P in K]?: string } {
  if (value === undefined || value === "") return {};
  const ip = typeof value === "string" ? parseIp(value) : undefined;
  if (ip === undefined) throw d.refuse(path, 'an IP address such as "10.1.2.1"', value);
  return { [key]: formatIp(ip) } as { [P in K]?: string };
}

const isIpv6 = (text: string): boolean => text.includes(":");

/**
 * Writes a result in a version, keys in the order in which the reference library prints them (alphabetical from 1.0.0
 * on), since some users compare bytes. An empty `dns` is left out from 1.0.0 on and printed as `{}` before.
 *
 * @throws {CniError} 1 when the version is not one of ours, or is 0.1.0 or 0.2.0 and there is no address, which those
 * versions cannot say.
 */
export function formatResult(result: Result, version: string): JsonObject {
  const known = knownVersion(version);
  if (known === undefined) {
    throw new CniError(Code.IncompatibleVersion, `Cannot write a result in CNI version ${show(version)}`, {
      remedy: "Set cniVersion to a version from 0.1.0 to 1.1.0",
    });
  }
  if (isAtLeast(known, "1.0.0")) return formatCurrent(result, known);
  return isAtLeast(known, "0.3.0") ? formatMiddle(result, known) : formatOld(result, known);
}

const listed = (key: string, items: readonly JsonObject[]): JsonObject => (items.length === 0 ? {} : { [key]: items });

function formatCurrent(result: Result, cniVersion: Version): JsonObject {
  return {
    cniVersion,
    ...(isEmptyDns(result.dns) ? {} : { dns: formatDns(result.dns, true) }),
    ...listed(
      "interfaces",
      result.interfaces.map((i) =>
        compact([
          ["mac", i.mac],
          ["mtu", i.mtu],
          ["name", i.name],
          ["pciID", i.pciID],
          ["sandbox", i.sandbox],
          ["socketPath", i.socketPath],
        ]),
      ),
    ),
    ...listed(
      "ips",
      result.ips.map((ip) =>
        compact([
          ["address", ip.address],
          ["gateway", ip.gateway],
          ["interface", ip.interface],
        ]),
      ),
    ),
    ...listed(
      "routes",
      result.routes.map((r) =>
        compact([
          ["advmss", r.advmss],
          ["dst", r.dst],
          ["gw", r.gw],
          ["mtu", r.mtu],
          ["priority", r.priority],
          ["scope", r.scope],
          ["table", r.table],
        ]),
      ),
    ),
  };
}

/** 0.3.0 to 0.4.0. */
function formatMiddle(result: Result, cniVersion: Version): JsonObject {
  return {
    cniVersion,
    ...listed(
      "interfaces",
      result.interfaces.map((i) =>
        compact([
          ["name", i.name],
          ["mac", i.mac],
          ["sandbox", i.sandbox],
        ]),
      ),
    ),
    ...listed(
      "ips",
      result.ips.map((ip) =>
        compact([
          ["version", isIpv6(ip.address) ? "6" : "4"],
          ["interface", ip.interface],
          ["address", ip.address],
          ["gateway", ip.gateway],
        ]),
      ),
    ),
    ...listed("routes", result.routes.map(formatRoute)),
    dns: formatDns(result.dns, false),
  };
}

/** 0.1.0 and 0.2.0. */
function formatOld(result: Result, cniVersion: Version): JsonObject {
  const family = (six: boolean): JsonObject | undefined => {
    const ip = result.ips.find((candidate) => isIpv6(candidate.address) === six);
    if (ip === undefined) return undefined;
    const routes = result.routes.filter((route) => isIpv6(route.dst) === six);
    return {
      ...compact([
        ["ip", ip.address],
        ["gateway", ip.gateway],
      ]),
      ...listed(
        "routes",
        routes.map((route) =>
          compact([
            ["dst", route.dst],
            ["gw", route.gw],
          ]),
        ),
      ),
    };
  };
  const [ip4, ip6] = [family(false), family(true)];
  if (ip4 === undefined && ip6 === undefined) {
    throw new CniError(
      Code.IncompatibleVersion,
      `Cannot write the result in CNI version ${cniVersion}: it has no address, and that version cannot say so`,
      { remedy: 'Set cniVersion of the network to "0.3.1" or later' },
    );
  }
  return {
    cniVersion,
    ...(ip4 === undefined ? {} : { ip4 }),
    ...(ip6 === undefined ? {} : { ip6 }),
    dns: formatDns(result.dns, false),
  };
}

function formatRoute(r: ResultRoute): JsonObject {
  return compact([
    ["dst", r.dst],
    ["gw", r.gw],
    ["mtu", r.mtu],
    ["advmss", r.advmss],
    ["priority", r.priority],
    ["table", r.table],
    ["scope", r.scope],
  ]);
}

/** @param sorted Keys alphabetical, else in the order of the reference's struct. */
export function formatDns(dns: Dns, sorted: boolean): JsonObject {
  const nameservers = dns.nameservers?.length ? dns.nameservers : undefined;
  const search = dns.search?.length ? dns.search : undefined;
  const options = dns.options?.length ? dns.options : undefined;
  return compact(
    sorted
      ? [
          ["domain", dns.domain],
          ["nameservers", nameservers],
          ["options", options],
          ["search", search],
        ]
      : [
          ["nameservers", nameservers],
          ["domain", dns.domain],
          ["search", search],
          ["options", options],
        ],
  );
}

export function isEmptyDns(dns: Dns): boolean {
  return !dns.nameservers?.length && !dns.domain && !dns.search?.length && !dns.options?.length;
}

function compact(entries: readonly (readonly [string, Json | undefined])[]): JsonObject {
  const out: Record<string, Json> = {};
  for (const [key, value] of entries) if (value !== undefined && value !== "") out[key] = value;
  return out;
}

/** `RT_TABLE_UNSPEC`, which is the main one, and `RT_TABLE_MAIN` */
const mainTables: readonly unknown[] = [undefined, 0, 254];

/** True for `0.0.0.0/0`, `::/0` and every other way to write them, where it is not for packets of some source alone. */
export function isDefaultRoute({ dst, table }: ResultRoute): boolean {
  return dst.endsWith("/0") && mainTables.includes(table);
}

/** The family of an address or a network in text. */
export function familyOf(text: string): 4 | 6 {
  return isIpv6(text) ? 6 : 4;
}

/** An error document of a delegate, or `undefined` when the document is none. */
export function parseErrorDocument(doc: Json): { code: number; msg: string; details: string } | undefined {
  if (!isObject(doc)) return undefined;
  const code = member(doc, "code");
  if (typeof code !== "number" || !Number.isInteger(code) || code < 0 || code > 0xffff_ffff) return undefined;
  const text = (key: string): string => {
    const value = member(doc, key);
    return typeof value === "string" ? value.slice(0, 4096) : "";
  };
  return { code, msg: text("msg"), details: text("details") };
}

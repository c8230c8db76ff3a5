/** The keys of `"ipam": {"type": "dhcp"}`, with the reference's names and defaults. */
import { isObject, type Json, type JsonObject, member } from "../../base/json.ts";
import type { Document } from "../../cni/document.ts";
import { ipamDocument, ipamObject } from "../conf.ts";
import type { IpamRequest } from "../ipam.ts";
import { OptionCode } from "./message.ts";

const MAX_OPTIONS = 64;
const MAX_OPTION_BYTES = 255;

const names: ReadonlyMap<string, number> = new Map([
  ["dhcp-client-identifier", OptionCode.CLIENT_ID],
  ["subnet-mask", OptionCode.SUBNET_MASK],
  ["routers", OptionCode.ROUTER],
  ["host-name", OptionCode.HOST_NAME],
  ["user-class", OptionCode.USER_CLASS],
  ["vendor-class-identifier", OptionCode.VENDOR_CLASS],
]);

/** The client's own part of the conversation: a value for one of these would be a lie, or end the message. */
const reserved: ReadonlySet<number> = new Set([
  OptionCode.PAD,
  OptionCode.REQUESTED_ADDRESS,
  OptionCode.OVERLOAD,
  OptionCode.MESSAGE_TYPE,
  OptionCode.SERVER,
  OptionCode.REQUEST_LIST,
  OptionCode.MAX_SIZE,
  OptionCode.END,
]);

/** Classless routes before the others, as RFC 3442 wants it. */
const usual = [
  OptionCode.CLASSLESS_ROUTES,
  OptionCode.SUBNET_MASK,
  OptionCode.ROUTER,
  OptionCode.STATIC_ROUTES,
  OptionCode.DNS,
  OptionCode.DOMAIN,
  OptionCode.NTP,
  OptionCode.CLASSLESS_ROUTES_MICROSOFT,
] as const;
/** Without these there is no lease; servers give them unasked too. */
const needed = [OptionCode.LEASE_TIME, OptionCode.SERVER, OptionCode.RENEWAL_TIME, OptionCode.REBINDING_TIME] as const;

export interface DhcpConf {
  readonly requested: readonly number[];
  readonly provided: readonly (readonly [number, Uint8Array])[];
  /** Of all routes; 0 leaves it to the kernel. */
  readonly priority: number;
}

/** @throws {CniError} 7 */
export function parseDhcpConf(request: IpamRequest): DhcpConf {
  const d = ipamDocument(request);
  const ipam = ipamObject(d, request);
  const socket = member(ipam, "daemonSocketPath");
  if (socket !== undefined) d.textOrEmpty("daemonSocketPath", socket); // the reference's daemon's; ours has none
  const priority = member(ipam, "priority");
  return {
    requested: parseRequested(d, ipam),
    provided: parseProvided(d, ipam, request),
    priority: priority === undefined ? 0 : d.integer("priority", priority, 0, 0xffffffff),
  };
}

function entries(d: Document, ipam: JsonObject, key: string): readonly (readonly [string, JsonObject])[] {
  const list = member(ipam, key);
  if (list === undefined) return [];
  return d.list(key, list, MAX_OPTIONS, "options").map((item, i) => {
    const path = `${key}[${i}]`;
    return [path, isObject(item) ? item : d.object(path, item)];
  });
}

function parseRequested(d: Document, ipam: JsonObject): number[] {
  let skip = false;
  const found = new Set<number>();
  for (const [path, entry] of entries(d, ipam, "request")) {
    const skipDefault = member(entry, "skipDefault");
    if (skipDefault !== undefined && d.boolean(`${path}.skipDefault`, skipDefault)) skip = true;
    const option = member(entry, "option");
    if (option !== undefined && option !== "") found.add(parseOption(d, `${path}.option`, option));
  }
  return [...new Set([...(skip ? [] : usual), ...found, ...(skip && found.size === 0 ? [] : needed)])];
}

function parseProvided(d: Document, ipam: JsonObject, request: IpamRequest): (readonly [number, Uint8Array])[] {
  const provided: (readonly [number, Uint8Array])[] = [];
  for (const [path, entry] of entries(d, ipam, "provide")) {
    const code = parseOption(d, `${path}.option`, member(entry, "option"));
    if (reserved.has(code)) {
      throw d.error(`${path}.option: option ${code} is the client's own and cannot be given a value`);
    }
    const value = member(entry, "value");
    const text = value === undefined ? "" : d.textOrEmpty(`${path}.value`, value);
    if (text !== "") provided.push([code, encoded(d, `${path}.value`, text)]);
    const fromArg = member(entry, "fromArg");
    const name = fromArg === undefined ? "" : d.textOrEmpty(`${path}.fromArg`, fromArg);
    const given = name === "" ? undefined : request.args.get(name);
    if (given !== undefined && given !== "") provided.push([code, encoded(d, `CNI_ARGS ${name}`, given)]);
  }
  return provided;
}

function encoded(d: Document, path: string, text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length <= MAX_OPTION_BYTES) return bytes;
  throw d.mismatch(path, `at most ${MAX_OPTION_BYTES} bytes, which is what an option holds`, `${bytes.length}`);
}

/** A name of dhcp-options(5) that the reference knows, or a number. */
function parseOption(d: Document, path: string, value: Json | undefined): number {
  const text = typeof value === "number" ? String(value) : value;
  if (typeof text === "string") {
    const named = names.get(text);
    if (named !== undefined) return named;
    if (/^\d{1,3}$/.test(text) && Number(text) < 256) return Number(text);
  }
  throw d.refuse(path, `an option's number from 0 to 255, or ${[...names.keys()].join(", ")}`, value);
}

/**
 * What a server knows the attachment by: container, network and interface, as the reference has it, in the 254 bytes
 * that are left beside the type, which is 0 for a name of one's own.
 */
export function clientIdOf(request: Pick<IpamRequest, "containerId" | "network" | "ifname">): Uint8Array {
  const text = new TextEncoder().encode(`${request.containerId}/${request.network}/${request.ifname}`).slice(0, 254);
  return Uint8Array.of(0, ...text);
}

/**
 * The pod's annotation that selects networks. Both forms, `ns/name@ifname,…` and a JSON list, end in the same validator:
 * the annotation is written by whoever may create a pod.
 *
 * A value that breaks a rule fails the pod, with the element and the key named; the standard would have the whole
 * annotation ignored, and then pods run without a network that they asked for.
 */
import { type IfName, isDnsName, isIfName, type PodNamespace, show } from "../base/brand.ts";
import { Code } from "../base/error.ts";
import { formatCidr, formatIp, formatMac, parseCidr, parseIp, parseMac } from "../base/ip.ts";
import { isObject, type Json, JsonError, type JsonObject, member, parseJson } from "../base/json.ts";
import { Document } from "../cni/document.ts";

export const NETWORKS = "k8s.v1.cni.cncf.io/networks";
export const DEFAULT_NETWORK = "v1.multus-cni.io/default-network";
export const NETWORK_STATUS = "k8s.v1.cni.cncf.io/network-status";

/** The bounds of one pod. */
export const MAX_ATTACHMENTS = 32;
export const MAX_POD_IPS = 64;
export const MAX_POD_PORTS = 128;
export const MAX_ANNOTATION_BYTES = 256 * 1024;

export interface PortMapping {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: "tcp" | "udp" | "sctp";
  readonly hostIP?: string;
  /** So many ports in a row; of our own, which other plugins pass over. */
  readonly length?: number;
}

/** Bits a second, and bits. */
export interface Bandwidth {
  readonly ingressRate?: number;
  readonly ingressBurst?: number;
  readonly egressRate?: number;
  readonly egressBurst?: number;
}

/** One element of the annotation, checked. */
export interface Selection {
  readonly name: string;
  readonly namespace: string;
  readonly interface?: IfName;
  /** Addresses, with or without a prefix length. */
  readonly ips?: readonly string[];
  /** Lower case, six pairs. */
  readonly mac?: string;
  /** Lower case, eight pairs. */
  readonly infinibandGuid?: string;
  readonly portMappings?: readonly PortMapping[];
  readonly bandwidth?: Bandwidth;
  readonly cniArgs?: JsonObject;
  /** Gateways, at most one a family. Empty: the network keeps its own default routes and nobody else has one. */
  readonly defaultRoute?: readonly string[];
  readonly deviceID?: string;
  readonly ipamClaimReference?: string;
  /** Keys that no rule names: passed over, and printed by `explain`, since a misspelt key looks like this. */
  readonly unknownKeys?: readonly string[];
}

const KNOWN = new Set([
  "name",
  "namespace",
  "interface",
  "interfacerequest",
  "ips",
  "mac",
  "infiniband-guid",
  "portmappings",
  "bandwidth",
  "cni-args",
  "default-route",
  "deviceid",
  "ipam-claim-reference",
]);

/**
 * Reads the annotation `k8s.v1.cni.cncf.io/networks`.
 *
 * @param annotation Its value; absent, empty or blank selects nothing.
 * @param podNamespace Where a network without a namespace is looked up.
 * @throws {CniError} 7
 */
export function parseSelections(annotation: string | undefined, podNamespace: PodNamespace | string): Selection[] {
  return parse(annotation ?? "", podNamespace, new Annotation(NETWORKS));
}

/**
 * Reads the annotation `v1.multus-cni.io/default-network`: one network, in either form.
 *
 * @param namespace Where it is looked up when it names none: the first of `systemNamespaces`.
 * @returns `undefined` when the annotation is absent or empty.
 * @throws {CniError} 7
 */
export function parseDefaultSelection(annotation: string | undefined, namespace: string): Selection | undefined {
  const d = new Annotation(DEFAULT_NETWORK);
  const selections = parse(annotation ?? "", namespace, d);
  if (selections.length > 1) throw d.mismatch("", "one network", `${selections.length} networks`);
  return selections[0];
}

class Annotation extends Document {
  constructor(key: string) {
    super(`annotation "${key}"`, Code.InvalidConfig, `Correct the annotation "${key}" of the pod`);
  }
}

/** The annotation, positioned at one of its elements. */
class Element extends Document {
  constructor(d: Annotation, index: number, name: string) {
    super(`${d.what}: element ${index + 1}${name === "" ? "" : ` (${show(name)})`}`, d.code, d.remedy);
  }
}

function parse(annotation: string, namespace: string, d: Annotation): Selection[] {
  if (annotation.length > MAX_ANNOTATION_BYTES) {
    throw d.mismatch("", `at most ${MAX_ANNOTATION_BYTES} characters`, `${annotation.length} characters`);
  }
  if (annotation.trim() === "") return [];
  const elements = /[[{"]/.test(annotation) ? jsonElements(annotation, d) : shortElements(annotation, d);
  if (elements.length > MAX_ATTACHMENTS) {
    throw d.mismatch("", `at most ${MAX_ATTACHMENTS} networks`, `${elements.length} networks`);
  }
  const selections = elements.map(({ element, at }) => validate(element, at, namespace));
  const ips = selections.reduce((sum, s) => sum + (s.ips?.length ?? 0), 0);
  if (ips > MAX_POD_IPS) throw d.mismatch("", `at most ${MAX_POD_IPS} addresses in all`, `${ips} addresses`);
  const ports = selections.reduce((sum, s) => sum + (s.portMappings?.length ?? 0), 0);
  if (ports > MAX_POD_PORTS)
    throw d.mismatch("", `at most ${MAX_POD_PORTS} port mappings in all`, `${ports} port mappings`);
  return selections;
}

interface Raw {
  readonly element: JsonObject;
  readonly at: Element;
}

function jsonElements(annotation: string, d: Annotation): Raw[] {
  let doc: Json;
  try {
    doc = parseJson(annotation, { maxBytes: MAX_ANNOTATION_BYTES });
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause;
    throw d.error(`expected a JSON list of networks, found ${cause.message}`, cause);
  }
  const list = d.list("", doc, MAX_ATTACHMENTS, "networks");
  return list.map((item, i) => {
    const name = isObject(item) ? member(item, "name") : undefined;
    const at = new Element(d, i, typeof name === "string" ? name : "");
    return { element: at.object("", item), at };
  });
}

/** The short form as the field has it: `[ns/]name[@ifname]`, joined by commas, blanks around each part. */
function shortElements(annotation: string, d: Annotation): Raw[] {
  const items = annotation.split(",", MAX_ATTACHMENTS + 1);
  return items.map((item, i) => {
    const text = item.trim();
    const at = new Element(d, i, text);
    if (text === "") throw at.refuse("", "a network between the commas", text);
    const slashed = text.split("/");
    if (slashed.length > 2) throw at.refuse("", "[namespace/]name[@interface] with at most one '/'", text);
    const [namespace, rest] = slashed.length === 2 ? slashed : ["", text];
    const [name = "", ifname = "", ...more] = (rest ?? "").split("@").map((part) => part.trim());
    if (more.length > 0) throw at.refuse("", "[namespace/]name[@interface] with at most one '@'", text);
    return { element: { name, namespace: (namespace ?? "").trim(), interface: ifname }, at };
  });
}

function validate(element: JsonObject, d: Element, podNamespace: string): Selection {
  const name = d.textOrEmpty("name", member(element, "name") ?? "", 253);
  if (name === "") throw d.refuse("name", "the name of a network", name);
  if (name.includes(".") || !isDnsName(name, "subdomain")) {
    throw d.refuse("name", "lower-case letters, digits and '-', a letter or digit at both ends", name);
  }
  const namespace = d.textOrEmpty("namespace", member(element, "namespace") ?? "", 253) || podNamespace;
  if (!isDnsName(namespace, "label")) {
    throw d.refuse("namespace", "lower-case letters, digits and '-', a letter or digit at both ends", namespace);
  }
  const ips = present(element, "ips", (value) => parseIps(d, value));
  const claim = present(element, "ipam-claim-reference", (value) => parseClaim(d, value));
  if (ips !== undefined && claim !== undefined) {
    throw d.error('"ips" and "ipam-claim-reference" exclude each other: the addresses come from one of them');
  }
  const unknownKeys = Object.keys(element).filter((key) => !KNOWN.has(key.toLowerCase()));
  return {
    name,
    namespace,
    ...optional("interface", parseInterface(d, element)),
    ...optional("ips", ips),
    ...optional(
      "mac",
      present(element, "mac", (value) => parseUnicastMac(d, value)),
    ),
    ...optional(
      "infinibandGuid",
      present(element, "infiniband-guid", (value) => parseGuid(d, value)),
    ),
    ...optional(
      "portMappings",
      present(element, "portMappings", (value) => parsePorts(d, value)),
    ),
    ...optional(
      "bandwidth",
      present(element, "bandwidth", (value) => parseBandwidth(d, value)),
    ),
    ...optional(
      "cniArgs",
      present(element, "cni-args", (value) => d.object("cni-args", value)),
    ),
    ...optional(
      "defaultRoute",
      present(element, "default-route", (value) => parseGateways(d, value)),
    ),
    ...optional(
      "deviceID",
      present(element, "deviceID", (value) => d.text("deviceID", value, 256)),
    ),
    ...optional("ipamClaimReference", claim),
    ...(unknownKeys.length === 0 ? {} : { unknownKeys }),
  };
}

function present<T>(element: JsonObject, key: string, read: (value: Json) => T): T | undefined {
  const value = member(element, key);
  return value === undefined ? undefined : read(value);
}

function optional<K extends string, T>(key: K, value: T | undefined): { [P in K]?: T } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: T };
}

/** `interface`, or the older `interfaceRequest`; empty asks for nothing. */
function parseInterface(d: Document, element: JsonObject): IfName | undefined {
  for (const key of ["interface", "interfaceRequest"]) {
    const value = member(element, key);
    if (value === undefined || value === "") continue;
    if (typeof value === "string" && isIfName(value)) return value as IfName;
    throw d.refuse(key, "an interface name of 1 to 15 characters without '/', ':', '%' or white space", value);
  }
  return undefined;
}

function nonEmptyList(d: Document, path: string, value: Json, max: number, of: string): readonly Json[] {
  const list = d.list(path, value, max, of);
  if (list.length === 0) throw d.mismatch(path, "at least one entry", "an empty list");
  return list;
}

function parseIps(d: Document, value: Json): string[] {
  return nonEmptyList(d, "ips", value, MAX_POD_IPS, "addresses").map((item, i) => {
    const text = typeof item === "string" ? item : "";
    if (text.includes("/")) {
      const cidr = parseCidr(text);
      if (cidr !== undefined) return formatCidr(cidr);
    } else {
      const ip = parseIp(text);
      if (ip !== undefined) return formatIp(ip);
    }
    throw d.refuse(`ips[${i}]`, 'an address such as "10.1.2.3/24" or "fd00::3"', item);
  });
}

function parseUnicastMac(d: Document, value: Json): string {
  const bytes = typeof value === "string" ? parseMac(value) : undefined;
  if (bytes?.length !== 6) throw d.refuse("mac", 'six bytes such as "02:00:00:00:00:01"', value);
  if (((bytes[0] ?? 0) & 1) === 1) {
    throw d.refuse("mac", "a unicast address: an even first byte, such as 02", value);
  }
  if (bytes.every((byte) => byte === 0)) throw d.refuse("mac", "an address other than zero", value);
  return formatMac(bytes);
}

function parseGuid(d: Document, value: Json): string {
  const bytes = typeof value === "string" ? parseMac(value) : undefined;
  if (bytes?.length !== 8) throw d.refuse("infiniband-guid", 'eight bytes such as "02:00:00:00:00:00:00:01"', value);
  return formatMac(bytes);
}

function parsePorts(d: Document, value: Json): PortMapping[] {
  return nonEmptyList(d, "portMappings", value, MAX_POD_PORTS, "port mappings").map((item, i) => {
    const path = `portMappings[${i}]`;
    const entry = d.object(path, item);
    const protocol = member(entry, "protocol") ?? "tcp";
    const folded = typeof protocol === "string" ? protocol.toLowerCase() : "";
    if (folded !== "tcp" && folded !== "udp" && folded !== "sctp") {
      throw d.refuse(`${path}.protocol`, "TCP, UDP or SCTP", protocol);
    }
    const hostIP = member(entry, "hostIP");
    const ip = typeof hostIP === "string" ? parseIp(hostIP) : undefined;
    if (hostIP !== undefined && hostIP !== "" && ip === undefined) {
      throw d.refuse(`${path}.hostIP`, "an IP address", hostIP);
    }
    const length = member(entry, "length");
    return {
      hostPort: d.integer(`${path}.hostPort`, member(entry, "hostPort"), 1, 65_535),
      containerPort: d.integer(`${path}.containerPort`, member(entry, "containerPort"), 1, 65_535),
      protocol: folded,
      ...(ip === undefined ? {} : { hostIP: formatIp(ip) }),
      ...(length === undefined ? {} : { length: d.integer(`${path}.length`, length, 1, 65_535) }),
    };
  });
}

function parseBandwidth(d: Document, value: Json): Bandwidth {
  const entry = d.object("bandwidth", value);
  const out: Record<string, number> = {};
  for (const key of ["ingressRate", "ingressBurst", "egressRate", "egressBurst"]) {
    const number = member(entry, key);
    if (number !== undefined) out[key] = d.integer(`bandwidth.${key}`, number, 1, Number.MAX_SAFE_INTEGER);
  }
  if (Object.keys(out).length === 0) throw d.refuse("bandwidth", '"ingressRate" or "egressRate"', value);
  for (const way of ["ingress", "egress"]) {
    if (out[`${way}Burst`] !== undefined && out[`${way}Rate`] === undefined) {
      throw d.error(`bandwidth.${way}Burst: expected "${way}Rate" beside it, found nothing`);
    }
  }
  return out;
}

function parseGateways(d: Document, value: Json): string[] {
  const families = new Set<number>();
  return d.list("default-route", value, 2, "gateways, one a family").map((item, i) => {
    const ip = typeof item === "string" ? parseIp(item) : undefined;
    if (ip === undefined) throw d.refuse(`default-route[${i}]`, "the IP address of a gateway", item);
    if (families.has(ip.family)) {
      throw d.mismatch("default-route", `one IPv${ip.family} gateway`, "two");
    }
    families.add(ip.family);
    return formatIp(ip);
  });
}

function parseClaim(d: Document, value: Json): string {
  const text = d.text("ipam-claim-reference", value, 253);
  if (isDnsName(text, "subdomain")) return text;
  throw d.refuse("ipam-claim-reference", "the name of an IPAMClaim", value);
}

/** Whether the pod's owner chooses an IP or hardware address, in whichever of the ways that plugins listen to. */
export function choosesAddress({ ips, mac, infinibandGuid, cniArgs = {} }: Selection): boolean {
  if (ips !== undefined || mac !== undefined || infinibandGuid !== undefined) return true;
  return member(cniArgs, "ips") !== undefined || member(cniArgs, "mac") !== undefined;
}

/** `namespace/name`, as it stands in messages and in the status. */
export function labelOf(selection: { readonly namespace: string; readonly name: string }): string {
  return `${selection.namespace}/${selection.name}`;
}

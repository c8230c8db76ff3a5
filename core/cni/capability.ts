/**
 * The values of capabilities, as the runtimes write them and as we read them. containerd writes the keys in PascalCase,
 * CRI-O in camelCase; Go plugins take both, and `null` for absent. A CNI binary gets what the runtime wrote; everything
 * of ours reads the one form made here.
 */
import { show } from "../base/brand.ts";
import { Code } from "../base/error.ts";
import { formatIp, formatMac, parseIp, parseMac } from "../base/ip.ts";
import { isObject, type Json, type JsonObject, withoutNulls } from "../base/json.ts";
import { Document } from "./document.ts";

export const MAX_PORTS = 128;
const MAX_ADDRESSES = 64;

/** The pod's annotations, when the configuration declares this capability. */
export const POD_ANNOTATIONS = "io.kubernetes.cri.pod-annotations";

const KEYS: Readonly<Record<string, readonly string[]>> = {
  portMappings: ["hostPort", "containerPort", "protocol", "hostIP", "length"],
  bandwidth: ["ingressRate", "ingressBurst", "egressRate", "egressBurst"],
  dns: ["servers", "searches", "options", "domain"],
  ipRanges: ["subnet", "rangeStart", "rangeEnd", "gateway"],
};

/**
 * One capability value in our form, or `undefined` when the runtime gave `null` or nothing in it. A capability that we
 * do not know is returned as it came, without its nulls.
 *
 * @throws {CniError} 7 naming the member that cannot be read.
 */
export function normaliseCapability(name: string, value: Json | undefined): Json | undefined {
  if (value === undefined || value === null) return undefined;
  const d = new Document(
    `the runtime's value of capability ${show(name)}`,
    Code.InvalidConfig,
    "Check the runtime's version, or leave the capability out of the network's configuration",
  );
  switch (name) {
    case "portMappings":
      return d.list("", value, MAX_PORTS, "port mappings").flatMap((item, i) => portMapping(d, `[${i}]`, item));
    case "bandwidth":
      return bandwidth(d, value);
    case "dns":
      return rename("dns", withoutNulls(d.object("", value)));
    case "ips":
      return d.texts("", value, MAX_ADDRESSES, "addresses");
    case "mac": {
      const text = d.textOrEmpty("", value, 64);
      const bytes = parseMac(text);
      if (text !== "" && bytes === undefined) throw d.refuse("", "a hardware address", value);
      return bytes === undefined ? undefined : formatMac(bytes);
    }
    case "ipRanges":
      return d.list("", value, MAX_ADDRESSES, "range sets").map((set, i) =>
        d.list(`[${i}]`, set, MAX_ADDRESSES, "ranges").map((range, j) => {
          return rename("ipRanges", withoutNulls(d.object(`[${i}][${j}]`, range)));
        }),
      );
    case "infinibandGUID":
    case "deviceID":
    case "cgroupPath":
    case "CNIDeviceInfoFile":
      return d.textOrEmpty("", value) || undefined;
    case POD_ANNOTATIONS:
      return withoutNulls(d.object("", value));
    default:
      return withoutNulls(value);
  }
}

/** All of a `runtimeConfig`, each value in our form. */
export function normaliseCapabilities(values: JsonObject): JsonObject {
  const out: Record<string, Json> = {};
  for (const [name, value] of Object.entries(values)) {
    const normal = normaliseCapability(name, value);
    if (normal !== undefined) out[name] = normal;
  }
  return out;
}

/** Known keys in their own spelling; unknown ones stay. */
function rename(capability: string, value: Json): JsonObject {
  if (!isObject(value)) return {};
  const out: Record<string, Json> = {};
  for (const [key, inner] of Object.entries(value)) {
    const folded = key.toLowerCase();
    out[KEYS[capability]?.find((known) => known.toLowerCase() === folded) ?? key] = inner;
  }
  return out;
}

/** An entry without a host port asks for nothing: runtimes pass those of `containerPort` alone. */
function portMapping(d: Document, path: string, value: Json): JsonObject[] {
  const entry = rename("portMappings", withoutNulls(d.object(path, value)));
  const hostPort = d.integer(`${path}.hostPort`, entry.hostPort ?? 0, 0, 65_535);
  if (hostPort === 0) return [];
  const protocol = d.textOrEmpty(`${path}.protocol`, entry.protocol ?? "", 16).toLowerCase();
  const hostIP = entry.hostIP === "" ? undefined : entry.hostIP;
  const ip = typeof hostIP === "string" ? parseIp(hostIP) : undefined;
  if (hostIP !== undefined && ip === undefined) throw d.refuse(`${path}.hostIP`, "an IP address", hostIP);
  if (entry.length !== undefined) d.integer(`${path}.length`, entry.length, 1, 65_535);
  const { hostIP: _, ...rest } = entry;
  return [
    {
      ...rest,
      hostPort,
      containerPort: d.integer(`${path}.containerPort`, entry.containerPort, 1, 65_535),
      protocol: protocol === "" ? "tcp" : protocol,
      ...(ip === undefined ? {} : { hostIP: formatIp(ip) }),
    },
  ];
}

function bandwidth(d: Document, value: Json): JsonObject | undefined {
  const entry = rename("bandwidth", withoutNulls(d.object("", value)));
  for (const key of KEYS.bandwidth ?? []) {
    if (entry[key] !== undefined) d.integer(key, entry[key], 0, Number.MAX_SAFE_INTEGER);
  }
  return Object.values(entry).some((v) => v !== 0) ? entry : undefined;
}

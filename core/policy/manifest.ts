/**
 * `plugin.json`: what a plugin is, all that it can ever ask for, and the shape of its configuration.
 *
 * ```json
 * {
 *   "name": "bridge", "abi": 1, "version": "0.1.0",
 *   "calls": { "link_create": ["own", "pod-link", "bridge"], "addr_add": ["pod-link", "bridge"], "ipam_add": [] },
 *   "links": { "bridge": { "key": "bridge" } },
 *   "sysctls": ["pod:net/ipv4/conf/<link>/arp_notify", "host:net/ipv4/ip_forward"],
 *   "schema": { "bridge": { "type": "string", "format": "ifname", "default": "cni0" } }
 * }
 * ```
 */

import { CniError, Code } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import { checkClosed, type Keys, type Schema, SchemaError } from "./schema.ts";

/**
 * Whose a link is, seen from one attachment.
 *
 * - `pod-link`: the link named CNI_IFNAME in the pod's namespace, whoever made it; or the one of the manifest's `podLink`.
 * - `own`: made by this attachment, other than that: the node's end of a veth.
 * - `peer`: the node's end of the pod's interface, where that is a veth that somebody else made.
 * - `parent`: the link that the configuration names, such as `master`. Never changed, only built upon.
 * - `bridge`: a link of the network on this node, made if absent and shared by the network's attachments.
 * - `device`: the one device that was allocated to the attachment.
 * - `vrf`: a VRF of the pod, made if absent and shared by the pod's attachments.
 */
export type Role = "pod-link" | "own" | "peer" | "parent" | "bridge" | "device" | "vrf";
export const roles = [
  "pod-link",
  "own",
  "peer",
  "parent",
  "bridge",
  "device",
  "vrf",
] as const satisfies readonly Role[];
/** Of a link that a key of the configuration names. */
export type NamedRole = "parent" | "bridge" | "device" | "vrf";
const namedRoles = ["parent", "bridge", "device", "vrf"] as const satisfies readonly NamedRole[];

/** Which key of the configuration names a link that the plugin may open. */
export interface NamedLink {
  readonly key: string;
  /** When the key is absent, the link of the default route stands in. */
  readonly orDefaultRoute: boolean;
  /** The link is always looked for in the pod's namespace. */
  readonly inPod?: boolean | undefined;
  /** When the key is absent, the one interface of the plugin before stands in, in a chain. */
  readonly orPreviousInterface?: boolean | undefined;
  /** Boolean key of the configuration: when true the link is looked for in the pod's namespace. */
  readonly inPodWhen?: string | undefined;
}

/** Which keys of the configuration name the one device that the plugin borrows; `a.b` is a member of a member. */
export interface DeviceSelectors {
  /** Address on the bus, or name of an auxiliary device. The first stands above all other keys. */
  readonly ids: readonly string[];
  /** Name of an interface of the node. */
  readonly name?: string | undefined;
  /** Its hardware address. */
  readonly mac?: string | undefined;
  /** Path below /sys/devices. */
  readonly path?: string | undefined;
}

export interface ManifestLimits {
  readonly memoryBytes: number;
  readonly cpuMs: number;
  readonly wallMs: number;
  readonly calls: number;
  readonly stdoutBytes: number;
  readonly logBytes: number;
}

/** The most that any manifest can have, and what one has that says nothing. */
export const limitCeiling: ManifestLimits = {
  memoryBytes: 32 << 20,
  cpuMs: 1000,
  wallMs: 10_000,
  calls: 512,
  stdoutBytes: 64 << 10,
  logBytes: 64 << 10,
};
const limitDefault: ManifestLimits = { ...limitCeiling, memoryBytes: 16 << 20 };

export interface Manifest {
  readonly name: string;
  readonly abi: 1;
  readonly version: string;
  /** `guest`: DEL runs the plugin, because it has effects that the journal cannot undo. */
  readonly undo: "journal" | "guest";
  /** Call → the roles whose links it may be used on; an empty list for a call that has no link as its target. */
  readonly calls: ReadonlyMap<string, readonly Role[]>;
  readonly links: ReadonlyMap<NamedRole, NamedLink>;
  readonly device?: DeviceSelectors;
  /** The interface of the pod that the plugin is about, whatever CNI_IFNAME says, such as "lo". */
  readonly podLink?: string;
  /**
   * `pod:` or `host:`, then a key with `<link>` in place of an interface name. `pod:net/*` is any sysctl of the pod's
   * network that the administrator lets networks set.
   */
  readonly sysctls: readonly string[];
  /** Whether links with `"scope":"network"` stay when the network's last attachment goes. */
  readonly keepNetworkObjects: boolean;
  readonly limits: ManifestLimits;
  /** The keys of the configuration. Others are kept and not looked at. */
  readonly schema: Keys;
}

const limit = (of: keyof ManifestLimits, min: number) =>
  ({ type: "integer", min, max: limitCeiling[of], default: limitDefault[of] }) as const;
const namedLink = {
  type: "object",
  keys: {
    key: { type: "string", format: "key", required: true, doc: "Key of the configuration that holds the name" },
    orDefaultRoute: { type: "boolean", default: false, doc: "Without a name, the link of the default route" },
    inPod: { type: "boolean", doc: "The link is in the pod" },
    orPreviousInterface: {
      type: "boolean",
      doc: "Without a name, and behind another plugin, the one interface of that plugin's result",
    },
    inPodWhen: { type: "string", format: "key", doc: "Boolean key: when true the link is in the pod" },
  },
} as const satisfies Schema;

export const manifestSchema = {
  name: { type: "string", format: "key", required: true, doc: "The plugin's `type`" },
  abi: { type: "integer", min: 1, max: 1, required: true, doc: "Number of the host-call ABI" },
  version: { type: "string", format: "key", required: true, doc: "The plugin's own version" },
  description: { type: "string", doc: "One line" },
  undo: { type: "string", enum: ["journal", "guest"], default: "journal", doc: "Who undoes: the host, or DEL" },
  calls: {
    type: "map",
    values: { type: "array", items: { type: "string", enum: roles } },
    maxKeys: 64,
    required: true,
    doc: "Each call that the module imports, with the roles it is used on",
  },
  links: { type: "object", keys: { parent: namedLink, bridge: namedLink, device: namedLink, vrf: namedLink } },
  device: {
    type: "object",
    keys: {
      ids: { type: "array", items: { type: "string", format: "key" }, maxItems: 8, required: true },
      name: { type: "string", format: "key", doc: "Key that holds the name of an interface of the node" },
      mac: { type: "string", format: "key", doc: "Key that holds its hardware address" },
      path: { type: "string", format: "key", doc: "Key that holds its path below /sys/devices" },
    },
    doc: "Which keys of the configuration name the device that is borrowed",
  },
  podLink: { type: "string", format: "ifname", doc: "The pod's interface that it is about, whatever CNI_IFNAME says" },
  sysctls: { type: "array", items: { type: "string", maxLength: 128 }, maxItems: 64 },
  keepNetworkObjects: { type: "boolean", default: true },
  limits: {
    type: "object",
    keys: {
      memoryBytes: limit("memoryBytes", 1 << 16),
      cpuMs: limit("cpuMs", 1),
      wallMs: limit("wallMs", 1),
      calls: limit("calls", 1),
      stdoutBytes: limit("stdoutBytes", 256),
      logBytes: limit("logBytes", 0),
    },
  },
  schema: { type: "map", values: { type: "any" }, maxKeys: 128, required: true },
} as const satisfies Keys;

const schemaTypes = ["boolean", "integer", "string", "array", "object", "map", "any"] as const;

/** The keys that each type of schema may have; the schema language, written in itself. */
const common = {
  type: { type: "string", enum: schemaTypes, required: true },
  required: { type: "boolean" },
  doc: { type: "string" },
} as const;
const schemaOf: { readonly [T in (typeof schemaTypes)[number]]: Keys } = {
  boolean: { ...common, default: { type: "boolean" } },
  integer: { ...common, min: { type: "integer" }, max: { type: "integer" }, default: { type: "integer" } },
  string: {
    ...common,
    enum: { type: "array", items: { type: "string" }, maxItems: 64 },
    format: { type: "string", enum: ["ifname", "ip", "cidr", "mac", "key"] },
    maxLength: { type: "integer", min: 0, max: 65_536 },
    default: { type: "string" },
  },
  array: { ...common, items: { type: "any", required: true }, maxItems: { type: "integer", min: 0, max: 4096 } },
  object: { ...common, keys: { type: "map", values: { type: "any" }, required: true } },
  map: { ...common, values: { type: "any", required: true }, maxKeys: { type: "integer", min: 0, max: 4096 } },
  any: common,
};

function checkSchema(value: Json, at: string): Schema {
  const named = typeof value === "object" && value !== null && "type" in value ? value.type : undefined;
  const type = schemaTypes.find((t) => t === named);
  if (type === undefined) throw new SchemaError(`${at}.type`, `expected one of ${schemaTypes.join(", ")}`);
  const read: { readonly [key: string]: unknown } = checkClosed(schemaOf[type], value, at);
  if (type === "array") checkSchema(read.items as Json, `${at}.items`);
  if (type === "map") checkSchema(read.values as Json, `${at}.values`);
  if (type === "object") {
    const keys = read.keys as { readonly [key: string]: Json };
    for (const key of Object.keys(keys)) checkSchema(keys[key] ?? null, `${at}.keys.${key}`);
  }
  return read as unknown as Schema;
}

/** Any sysctl below a path, when the administrator says so too. */
export const isWildcard = (pattern: string): boolean => pattern.endsWith("/*");

/** Whether all that `narrow` means is meant by `pattern`. */
export function coversSysctl(pattern: string, narrow: string): boolean {
  return pattern === narrow || (isWildcard(pattern) && narrow.startsWith(pattern.slice(0, -1)));
}

/** `pod:` or `host:`, then `net/…` of plain components, one of which may be `<link>`; the pod's may end with `*`. */
export function isSysctlPattern(text: string): boolean {
  if (isWildcard(text))
    return text === "pod:net/*" || (text.startsWith("pod:") && isSysctlPattern(`${text.slice(0, -1)}x`));
  const colon = text.indexOf(":");
  const where = text.slice(0, colon);
  if (where !== "pod" && where !== "host") return false;
  const parts = text.slice(colon + 1).split("/");
  return (
    parts.length >= 3 &&
    parts[0] === "net" &&
    parts.every((p) => p === "<link>" || (p.length > 0 && /^[a-z0-9_]+$/.test(p)))
  );
}

/**
 * @throws {CniError} 7, naming the member.
 */
export function parseManifest(doc: Json): Manifest {
  try {
    const m = checkClosed(manifestSchema, doc);
    const schema: { [key: string]: Schema } = {};
    for (const key of Object.keys(m.schema)) schema[key] = checkSchema(m.schema[key] ?? null, `schema.${key}`);
    for (const [i, pattern] of (m.sysctls ?? []).entries()) {
      if (!isSysctlPattern(pattern)) {
        throw new SchemaError(`sysctls[${i}]`, `expected "pod:net/…" or "host:net/…", got "${pattern}"`);
      }
    }
    const links = new Map<NamedRole, NamedLink>();
    for (const role of namedRoles) {
      const link = m.links?.[role];
      if (link !== undefined) links.set(role, link);
    }
    return {
      name: m.name,
      abi: 1,
      version: m.version,
      undo: m.undo,
      calls: new Map(Object.entries(m.calls)),
      links,
      ...(m.device && { device: m.device }),
      ...(m.podLink && { podLink: m.podLink }),
      sysctls: m.sysctls ?? [],
      keepNetworkObjects: m.keepNetworkObjects,
      limits: m.limits ?? limitDefault,
      schema,
    };
  } catch (thrown) {
    if (!(thrown instanceof SchemaError)) throw thrown;
    throw new CniError(Code.InvalidConfig, `Cannot use the plugin's manifest: ${thrown.member}: ${thrown.message}`, {
      remedy: "Correct plugin.json",
      cause: thrown,
    });
  }
}

/**
 * A manifest that our own binary carries. It was checked when the binary was built, and the check would cost an ADD a
 * millisecond, so here it is only given its form.
 */
export function carriedManifest(text: string): Manifest {
  const doc: Partial<Omit<Manifest, "calls" | "links" | "limits">> &
    Pick<Manifest, "name" | "version" | "schema"> & {
      readonly calls: { readonly [call: string]: readonly Role[] };
      readonly links?: Partial<Record<NamedRole, Partial<NamedLink> & Pick<NamedLink, "key">>>;
      readonly limits?: Partial<ManifestLimits>;
    } = JSON.parse(text);
  const links = new Map<NamedRole, NamedLink>();
  for (const role of namedRoles) {
    const link = doc.links?.[role];
    if (link !== undefined) links.set(role, { orDefaultRoute: false, ...link });
  }
  return {
    name: doc.name,
    abi: 1,
    version: doc.version,
    undo: doc.undo ?? "journal",
    calls: new Map(Object.entries(doc.calls)),
    links,
    ...(doc.device && { device: doc.device }),
    ...(doc.podLink && { podLink: doc.podLink }),
    sysctls: doc.sysctls ?? [],
    keepNetworkObjects: doc.keepNetworkObjects ?? true,
    limits: { ...limitDefault, ...doc.limits },
    schema: doc.schema,
  };
}

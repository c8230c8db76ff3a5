/** VLANs of bridges, sysctls, nft rules. */
import { CniError, Code } from "../../base/error.ts";
import type { Target } from "../../policy/decide.ts";
import { creating, hostCall, linkRoles, onLink } from "../call.ts";
import type { GuestContext } from "../context.ts";

const handle = { type: "integer", min: 1, required: true, doc: "Handle of the link" } as const;
const place = { type: "string", enum: ["pod", "host"] } as const;
const vlan = { type: "integer", min: 1, max: 4094 } as const;

export const bridgeVlanSet = hostCall({
  name: "bridge_vlan_set",
  operations: creating,
  roles: ["own", "bridge"],
  doc: "Adds VLANs to a bridge port, or with `self` to the bridge itself, or takes them away",
  request: {
    link: handle,
    vlans: {
      type: "array",
      required: true,
      maxItems: 4094,
      items: {
        type: "object",
        keys: {
          first: { ...vlan, required: true },
          last: { ...vlan, doc: "For a range" },
          pvid: { type: "boolean", doc: "Frames without a tag belong to it" },
          untagged: { type: "boolean", doc: "Frames leave without a tag" },
        },
      },
    },
    mode: { type: "string", enum: ["add", "delete"], default: "add" },
    self: { type: "boolean", default: false, doc: "The link is the bridge and not a port of it" },
  },
  answer: {},
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    if (link.target.whose === "granted" && r.mode === "delete" && r.self) {
      throw new CniError(Code.NotGranted, `Cannot take VLANs from "${link.name}": the bridge is the network's`, {
        remedy: "Leave what other attachments use as it is",
      });
    }
    const vlans = r.vlans.map((v) => ({
      first: v.first,
      ...(v.last === undefined ? {} : { last: v.last }),
      ...(v.pvid === undefined ? {} : { pvid: v.pvid }),
      ...(v.untagged === undefined ? {} : { untagged: v.untagged }),
    }));
    guest.kernel(link.in).setBridgeVlans(link.index, vlans, r.mode, r.self);
    return {};
  },
});

// --- sysctls ---------------------------------------------------------------------------------------------------------

const sysctlRequest = {
  in: { ...place, default: "pod" },
  key: {
    type: "string",
    maxLength: 128,
    required: true,
    doc: "As the manifest lists it: `net/ipv4/conf/<link>/arp_notify`",
  },
  link: { type: "integer", min: 1, doc: "Handle of the link that `<link>` stands for" },
} as const;

interface SysctlRequest {
  readonly in: "pod" | "host";
  readonly key: string;
  readonly link?: number | undefined;
}

function sysctlTargets(guest: GuestContext, r: SysctlRequest): readonly Target[] {
  const targets: Target[] = [{ whose: "sysctl", pattern: `${r.in}:${r.key}` }];
  if (r.link !== undefined) targets.push(guest.handles.link(r.link).target);
  return targets;
}

/** The file below /proc/sys. Patterns were checked with the manifest, so nothing else can be written into one. */
function sysctlKey(guest: GuestContext, call: string, r: SysctlRequest): string {
  const needs = r.key.includes("<link>");
  const link = r.link === undefined ? undefined : guest.handles.link(r.link);
  if (needs !== (link !== undefined) || (link !== undefined && link.in !== r.in)) {
    throw new CniError(
      Code.BadRequest,
      `Cannot make the call "${call}": "link": expected ${needs ? `a link in the ${r.in}` : "none"}`,
      {
        remedy: "Give a handle exactly when the key has <link>",
      },
    );
  }
  return link === undefined ? r.key : r.key.replace("<link>", link.name);
}

export const sysctlGet = hostCall({
  name: "sysctl_get",
  operations: ["ADD", "CHECK", "DEL"],
  roles: linkRoles,
  doc: "Reads a sysctl that the manifest lists",
  request: sysctlRequest,
  answer: { value: { type: "string", doc: "Absent when this kernel has no such sysctl" } },
  targets: sysctlTargets,
  run: (guest, r) => ({
    value: guest
      .kernel(r.in)
      .sysctl(sysctlKey(guest, "sysctl_get", r))
      ?.trim(),
  }),
});

export const sysctlSet = hostCall({
  name: "sysctl_set",
  operations: creating,
  roles: linkRoles,
  doc: "Writes a sysctl that the manifest lists. One of the whole node stays, like the network's objects",
  request: {
    ...sysctlRequest,
    value: { type: "string", maxLength: 64, required: true },
    optional: { type: "boolean", default: false, doc: "No failure when this kernel has no such sysctl" },
  },
  answer: { changed: { type: "boolean", required: true, doc: "False when it had that value, or is not there" } },
  targets: sysctlTargets,
  run(guest, r) {
    const key = sysctlKey(guest, "sysctl_set", r);
    const kernel = guest.kernel(r.in);
    const link = r.link === undefined ? undefined : guest.handles.link(r.link);
    const former = kernel.sysctl(key)?.trim();
    if (former === undefined) {
      if (r.optional) return { changed: false };
      throw new CniError(Code.Kernel, `Cannot set the sysctl "${key}": this kernel has none of that name`, {
        remedy: "ENOENT (2)",
      });
    }
    if (former === r.value) return { changed: false };
    if (link === undefined && r.in === "host") guest.share("sysctl", key, { former });
    else if (link === undefined || (link.target.whose === "own" && !guest.goesWithLink(link))) {
      guest.intend({ do: "sysctl", in: r.in, key, former });
    }
    kernel.setSysctl(key, r.value);
    return { changed: true };
  },
});

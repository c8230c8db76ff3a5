/** VLANs of bridges, sysctls, nft rules. */
import { CniError, Code } from "../../base/error.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { Target } from "../../policy/decide.ts";
import { SysError } from "../../sys/error.ts";
import { creating, hostCall, linkRoles, onLink } from "../call.ts";
import type { GuestContext } from "../context.ts";
import { bad } from "./link-common.ts";

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
  const link = r.link === undefined ? undefined : guest.handles.link(r.link);
  const target = guest.sysctl(r.in, r.key, link?.name);
  return link === undefined ? [target] : [target, link.target];
}

/** What a key has that a wildcard of the manifest covers: no way out of net/. */
const isKey = (key: string): boolean => key.split("/").every((part) => part !== "" && part !== "." && part !== "..");

/** The file below /proc/sys. */
function sysctlKey(guest: GuestContext, call: string, r: SysctlRequest): string {
  if (!isKey(r.key)) throw bad(call, "key", 'expected names with "/" between them');
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

/** Its value; false for one that is there to be written only. */
function readable(kernel: Kernel, key: string): string | false | undefined {
  try {
    return kernel.sysctl(key)?.trim();
  } catch (thrown) {
    if (thrown instanceof SysError && ["EACCES", "EPERM"].includes(thrown.errnoName)) return false;
    throw thrown;
  }
}

/** The kernel puts tabs between the numbers of one that has several. */
const sameValue = (a: string, b: string): boolean =>
  a.trim().split(/\s+/).join(" ") === b.trim().split(/\s+/).join(" ");

export const sysctlGet = hostCall({
  name: "sysctl_get",
  operations: ["ADD", "CHECK", "DEL"],
  roles: linkRoles,
  doc: "Reads a sysctl that the manifest lists, or that sysctl_set could write",
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
  doc: "Writes a sysctl that the manifest lists, and in the pod with `pod:net/*` any that the administrator allows. One of the whole node stays, like the network's objects",
  request: {
    ...sysctlRequest,
    value: { type: "string", maxLength: 1024, required: true },
    optional: { type: "boolean", default: false, doc: "No failure when this kernel has no such sysctl" },
  },
  answer: { changed: { type: "boolean", required: true, doc: "False when it had that value, or is not there" } },
  targets: sysctlTargets,
  run(guest, r) {
    const key = sysctlKey(guest, "sysctl_set", r);
    const kernel = guest.kernel(r.in);
    const link = r.link === undefined ? undefined : guest.handles.link(r.link);
    const former = readable(kernel, key);
    if (former === undefined) {
      if (r.optional) return { changed: false };
      throw new CniError(Code.Kernel, `Cannot set the sysctl "${key}": this kernel has none of that name`, {
        remedy: "ENOENT (2)",
      });
    }
    if (former === false) {
      kernel.setSysctl(key, r.value); // one that acts, and keeps nothing to come back to
      return { changed: true };
    }
    if (sameValue(former, r.value)) return { changed: false };
    if (link === undefined && r.in === "host") guest.share("sysctl", key, { former });
    else if (link === undefined || (link.target.whose === "own" && !guest.goesWithLink(link))) {
      guest.intend({ do: "sysctl", in: r.in, key, former });
    }
    kernel.setSysctl(key, r.value);
    return { changed: true };
  },
});

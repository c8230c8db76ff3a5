/** What a request for a new link may say, and the kernel's words for it. */
import type { LinkSpec } from "../../kernel/kernel.ts";
import { type IpvlanMode, ipvlanModes } from "../../netlink/kinds/ipvlan.ts";
import { type MacvlanMode, macvlanModes } from "../../netlink/kinds/macvlan.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { GuestContext } from "../context.ts";
import { bad, mac, mtu, place } from "./link-common.ts";

export const createRequest = {
  kind: {
    type: "string",
    enum: ["veth", "bridge", "macvlan", "ipvlan", "vlan", "vrf", "dummy", "ifb", "tap"],
    required: true,
  },
  in: { ...place, default: "pod", doc: "Where it is made" },
  name: {
    type: "string",
    format: "ifname",
    doc: 'In the pod, CNI_IFNAME when absent. On the node only with `"scope":"network"`; an attachment\'s own links there get derived names',
  },
  scope: {
    type: "string",
    enum: ["attachment", "network", "pod"],
    default: "attachment",
    doc: "`network`, `pod`: made if absent, verified if there, never changed in kind; of a pod, a VRF, which goes with the last attachment that uses it",
  },
  mtu,
  mac: { ...mac, doc: "Random, locally administered, when absent" },
  up: { type: "boolean", default: false },
  parent: { type: "integer", min: 1, doc: "Handle of the lower link, of a macvlan, an ipvlan or a VLAN" },
  mode: {
    type: "string",
    enum: ["bridge", "private", "vepa", "passthru", "l2", "l3", "l3s"],
    doc: "Of a macvlan, `bridge` when absent; or of an ipvlan, `l2` when absent, and then that of all ipvlans on the lower link",
  },
  broadcastQueue: { type: "integer", min: 0, max: 2_147_483_647, doc: "Length of a macvlan's broadcast queue" },
  vlan: { type: "integer", min: 0, max: 4094, doc: "Number of a VLAN" },
  table: { type: "integer", min: 1, max: 4_294_967_295, doc: "Routing table of a VRF" },
  vlanFiltering: { type: "boolean", doc: "Of a bridge" },
  multiQueue: { type: "boolean", doc: "Of a tap" },
  owner: { type: "integer", min: 0, max: 4_294_967_294, doc: "User id that may open a tap" },
  ownerGroup: { type: "integer", min: 0, max: 4_294_967_294, doc: "Group id that may open a tap" },
  selinuxContext: { type: "string", maxLength: 255, doc: "Label of a tap" },
  peer: {
    type: "object",
    keys: {
      in: { ...place, default: "host" },
      name: { type: "string", format: "ifname", doc: "In the pod" },
      mtu,
      mac,
      master: { type: "integer", min: 1, doc: "Handle of a bridge that it becomes a port of" },
      up: { type: "boolean", default: false },
      hairpin: { type: "boolean", doc: "Of a port: send frames back where they came from" },
      isolated: { type: "boolean", doc: "Of a port: no traffic with other isolated ports" },
    },
    doc: "The other end of a veth",
  },
} as const satisfies Keys;
export type Create = ValueOfKeys<typeof createRequest>;

const macvlanMode = (r: Create): MacvlanMode =>
  r.mode !== undefined && isKey(macvlanModes, r.mode) ? r.mode : "bridge";
const ipvlanMode = (r: Create): IpvlanMode => (r.mode !== undefined && isKey(ipvlanModes, r.mode) ? r.mode : "l2");
const isKey = <T extends object>(table: T, word: PropertyKey): word is keyof T => Object.hasOwn(table, word);

/** What makes a link that has its parent's address: nobody can tell it from others by that. */
export const inheritsAddress = (r: Create): boolean =>
  r.kind === "ipvlan" || (r.kind === "vlan" && r.mac === undefined) || (r.kind === "macvlan" && r.mode === "passthru");

/** @throws {CniError} 120 for a member that the kind needs, or cannot have. */
export function checkKind(r: Create): void {
  const upper = r.kind === "macvlan" || r.kind === "ipvlan" || r.kind === "vlan";
  if (upper && r.parent === undefined) throw bad("link_create", "parent", "expected the handle of the lower link");
  if (r.kind === "vlan" && r.vlan === undefined) throw bad("link_create", "vlan", "expected the number of the VLAN");
  if (r.kind === "vrf" && r.table === undefined)
    throw bad("link_create", "table", "expected the number of a routing table");
  if (r.kind === "ipvlan" && r.mac !== undefined)
    throw bad("link_create", "mac", "expected none: an ipvlan has its parent's");
  if (r.kind === "tap" && r.in !== "pod") throw bad("link_create", "in", 'expected "pod": a tap is the pod\'s');
  const modes = r.kind === "macvlan" ? macvlanModes : r.kind === "ipvlan" ? ipvlanModes : {};
  if (r.mode !== undefined && !isKey(modes, r.mode)) {
    const words = Object.keys(modes).map((word) => `"${word}"`);
    throw bad(
      "link_create",
      "mode",
      `expected ${words.length === 0 ? "none" : words.join(", ")} for the kind "${r.kind}"`,
    );
  }
}

/** The kernel's message for a link that is no veth, less what differs between the cases. */
export function specFor(guest: GuestContext, r: Create, name: string, address: string): LinkSpec {
  const common = {
    name,
    ...(address === "" ? {} : { mac: address }),
    ...(r.mtu ? { mtu: r.mtu } : {}),
  };
  const parent = r.parent === undefined ? 0 : guest.handles.link(r.parent).index;
  switch (r.kind) {
    case "bridge":
      return {
        ...common,
        kind: "bridge",
        ...(r.vlanFiltering === undefined ? {} : { vlanFiltering: r.vlanFiltering }),
      };
    case "macvlan":
      return {
        ...common,
        kind: "macvlan",
        parent,
        mode: macvlanMode(r),
        ...(r.broadcastQueue === undefined ? {} : { bcQueueLength: r.broadcastQueue }),
      };
    case "ipvlan":
      return { ...common, kind: "ipvlan", parent, mode: ipvlanMode(r) };
    case "vlan":
      return { ...common, kind: "vlan", parent, id: r.vlan ?? 0 };
    case "vrf":
      return { ...common, kind: "vrf", table: r.table ?? 0 };
    case "tap":
      return {
        ...common,
        kind: "tap",
        multiQueue: r.multiQueue ?? false,
        ...(r.owner === undefined ? {} : { owner: r.owner }),
        ...(r.ownerGroup === undefined ? {} : { ownerGroup: r.ownerGroup }),
        ...(r.selinuxContext ? { selinuxContext: r.selinuxContext } : {}),
      };
    default:
      return { ...common, kind: r.kind === "ifb" ? "ifb" : "dummy" };
  }
}

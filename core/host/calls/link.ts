/** Links: made, found, changed, moved, deleted. */
import { show } from "../../base/brand.ts";
import { CniError, Code } from "../../base/error.ts";
import { derive } from "../../base/hash.ts";
import { formatMac, parseMac } from "../../base/ip.ts";
import type { Json, JsonObject } from "../../base/json.ts";
import {
  type Kernel,
  KernelError,
  type Link,
  type LinkChange,
  type LinkSpec,
  type SysctlSetting,
} from "../../kernel/kernel.ts";
import type { Target } from "../../policy/decide.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { Place } from "../../state/entries.ts";
import { SysError } from "../../sys/error.ts";
import { changing, creating, type HostCall, hostCall, linkRoles, onLink, reading } from "../call.ts";
import type { GuestContext } from "../context.ts";
import type { LinkHandle } from "../handles.ts";
import { routeKeys, toAddress, toRoute } from "./address.ts";

const place = { type: "string", enum: ["pod", "host"] } as const;
const mtu = { type: "integer", min: 0, max: 65_536, doc: "Bytes; 0 is the kernel's choice" } as const;
const handle = { type: "integer", min: 1, required: true, doc: "Handle of the link" } as const;
const mac = { type: "string", format: "mac" } as const;

const linkAnswer = {
  link: { type: "integer", required: true, doc: "Handle" },
  in: { ...place, required: true },
  name: { type: "string", required: true },
  index: { type: "integer", required: true, doc: "To compare with other answers; no call takes it" },
  kind: { type: "string", required: true, doc: "Empty for a physical link" },
  mac: { type: "string", required: true },
  mtu: { type: "integer", required: true, doc: "Bytes" },
  up: { type: "boolean", required: true },
  running: { type: "boolean", required: true },
  master: { type: "integer", doc: "Index of the bridge or VRF" },
  parent: { type: "integer", doc: "Index of the lower link, or of a veth's other end" },
  promisc: { type: "boolean" },
  allmulti: { type: "boolean" },
  role: { type: "string", required: true, doc: "pod-link, own, parent, bridge, device, or other" },
  data: { type: "any", doc: "What is particular to the kind, such as a macvlan's mode" },
} as const satisfies Keys;

type LinkAnswer = ValueOfKeys<typeof linkAnswer>;

function answerFor(guest: GuestContext, where: Place, link: Link, number: number): LinkAnswer {
  const target = guest.handles.link(number).target;
  return {
    link: number,
    in: where,
    name: link.name,
    index: link.index,
    kind: link.kind,
    mac: link.mac,
    mtu: link.mtu,
    up: link.up,
    running: link.running,
    master: link.master === 0 ? undefined : link.master,
    parent: link.parent,
    promisc: link.promisc,
    allmulti: link.allmulti,
    role: "role" in target ? target.role : "other",
    data: link.data === undefined ? undefined : (link.data as unknown as Json),
  };
}

const answerForPeer = (guest: GuestContext, peer: Created) => ({
  ...answerFor(guest, peer.in, peer.link, peer.number),
  masterMac: peer.masterMac,
});

/** In the kernel's own notation, so that the journal's text compares with its answers. */
const plainMac = (text: string): string => formatMac(parseMac(text) ?? new Uint8Array(6));

/** Locally administered and unicast, the rest random: two nodes never agree on one, and nobody can know it before. */
function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return formatMac(bytes);
}

/**
 * Every link on the node's side goes through here before it is up: a pod must not be able to give the node a router
 * or an address by a router advertisement.
 *
 * @param now As the kernel has it, where that is known.
 */
function refuseAdvertisements(host: Kernel, name: string, now?: number): void {
  if (now === 0) return;
  try {
    host.setSysctl(`net/ipv6/conf/${name}/accept_ra`, "0");
  } catch (thrown) {
    if (!isAbsent(thrown)) throw thrown; // a kernel without IPv6 has no such file, and takes no advertisement
  }
}

const isAbsent = (thrown: unknown): boolean =>
  (thrown instanceof SysError || thrown instanceof KernelError) && thrown.errnoName === "ENOENT";

const isTaken = (thrown: unknown): boolean => thrown instanceof KernelError && thrown.errnoName === "EEXIST";

function bad(call: string, member: string, why: string): CniError {
  return new CniError(Code.BadRequest, `Cannot make the call "${call}": "${member}": ${why}`, {
    remedy: `Correct "${member}" of the request`,
  });
}

const createRequest = {
  kind: { type: "string", enum: ["veth", "bridge", "macvlan", "dummy"], required: true },
  in: { ...place, default: "pod", doc: "Where it is made" },
  name: {
    type: "string",
    format: "ifname",
    doc: 'In the pod, CNI_IFNAME when absent. On the node only with `"scope":"network"`; an attachment\'s own links there get derived names',
  },
  scope: {
    type: "string",
    enum: ["attachment", "network"],
    default: "attachment",
    doc: "`network`: made if absent, verified if there, never changed in kind",
  },
  mtu,
  mac: { ...mac, doc: "Random, locally administered, when absent" },
  up: { type: "boolean", default: false },
  parent: { type: "integer", min: 1, doc: "Handle of the lower link; macvlan needs one" },
  mode: { type: "string", enum: ["bridge", "private", "vepa", "passthru"], doc: "Of a macvlan; `bridge` when absent" },
  broadcastQueue: { type: "integer", min: 0, max: 2_147_483_647, doc: "Length of a macvlan's broadcast queue" },
  vlanFiltering: { type: "boolean", doc: "Of a bridge" },
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
type Create = ValueOfKeys<typeof createRequest>;

/** The kernel's message for a link, less what differs between the cases. */
function specFor(guest: GuestContext, r: Create, name: string, address: string): LinkSpec {
  const common = {
    name,
    ...(address === "" ? {} : { mac: address }),
    ...(r.mtu ? { mtu: r.mtu } : {}),
  };
  switch (r.kind) {
    case "bridge":
      return {
        ...common,
        kind: "bridge",
        ...(r.vlanFiltering === undefined ? {} : { vlanFiltering: r.vlanFiltering }),
      };
    case "macvlan": {
      if (r.parent === undefined) throw bad("link_create", "parent", "expected the handle of the lower link");
      return {
        ...common,
        kind: "macvlan",
        parent: guest.handles.link(r.parent).index,
        mode: r.mode ?? "bridge",
        ...(r.broadcastQueue === undefined ? {} : { bcQueueLength: r.broadcastQueue }),
      };
    }
    default:
      return { ...common, kind: "dummy" };
  }
}

function begin(guest: GuestContext, where: Place, name: string, kind: string, address: string, temporary?: string) {
  return guest.intend({ do: "link", in: where, name, kind, mac: address, ...(temporary ? { temporary } : {}) });
}

/** What a link gets after its birth. */
type Settings = Pick<LinkChange, "up" | "master" | "hairpin" | "isolated">;

/**
 * What comes after the birth of a link on the node, and before it is up.
 *
 * @returns The address that its bridge has then, when it became a port.
 */
function settle(guest: GuestContext, where: Place, link: Link, r: Settings, own: boolean): string | undefined {
  const kernel = guest.kernel(where);
  if (where === "host") refuseAdvertisements(kernel, link.name, link.acceptRa);
  const change: { -readonly [K in keyof LinkChange]: LinkChange[K] } = {};
  if (where === "host" && own) change.alias = guest.alias();
  if (r.up) change.up = true;
  if (r.master === undefined) {
    if (change.alias !== undefined || change.up) kernel.setLink(link.index, change);
    return undefined;
  }
  if (r.hairpin !== undefined) change.hairpin = r.hairpin;
  if (r.isolated !== undefined) change.isolated = r.isolated;
  return kernel.joinBridge(link.index, { ...change, master: r.master });
}

function ownTarget(guest: GuestContext, where: Place, name: string): Target {
  return { whose: "own", role: where === "pod" && name === guest.setup.attachment.ifname ? "pod-link" : "own" };
}

interface Created {
  readonly link: Link;
  readonly in: Place;
  readonly number: number;
  readonly masterMac?: string | undefined;
}

/** Where the other end of a veth is when a request does not say. */
const onNode: NonNullable<Create["peer"]> = { in: "host", up: false };

function createVeth(guest: GuestContext, r: Create, name: string): { end: Created; peer: Created } {
  const other = r.peer ?? onNode;
  const network = r.scope === "network";
  const here = guest.kernel(r.in);
  const there = guest.kernel(other.in);
  // The network's link outlives the attachment, so its other end is named by it.
  const peerName = other.name ?? (network ? `veth${derive(11, "network", name)}` : guest.derivedName("veth", 11));
  const address = r.mac === undefined ? randomMac() : plainMac(r.mac);
  const peerAddress = other.mac === undefined ? randomMac() : plainMac(other.mac);
  const first = network ? undefined : begin(guest, r.in, name, "veth", address);
  const second = network ? undefined : begin(guest, other.in, peerName, "veth", peerAddress);
  const peerMtu = other.mtu || r.mtu;
  const link = here.createLink({
    name,
    kind: "veth",
    mac: address,
    ...(r.mtu ? { mtu: r.mtu } : {}),
    peer: {
      name: peerName,
      mac: peerAddress,
      ...(peerMtu ? { mtu: peerMtu } : {}),
      ...(other.in === r.in ? {} : { in: there }),
    },
  });
  if (first !== undefined) guest.made(first, r.in, link);
  const peer = otherEnd(link, { name: peerName, mac: peerAddress, mtu: peerMtu }) ?? there.linkByName(peerName);
  if (peer === undefined) throw vanished("veth", peerName);
  if (second !== undefined) guest.made(second, other.in, peer);
  const bridge = other.master === undefined ? undefined : guest.handles.link(other.master);
  const give = (where: Place, of: Link, undo: number | undefined, settings: Settings): Created => {
    const masterMac = settle(guest, where, of, settings, !network);
    const known = network
      ? { target: { whose: "granted", role: "bridge" } as const }
      : { target: ownTarget(guest, where, of.name), ...(undo === undefined ? {} : { undo }) };
    const { up, master } = settings;
    const now = { ...of, up: up === true, ...(master === undefined ? {} : { master }) };
    return { link: now, in: where, number: guest.open(where, of, known), masterMac };
  };
  const end = give(r.in, link, first, { up: r.up });
  const port = { up: r.up || other.up, master: bridge?.index, hairpin: other.hairpin, isolated: other.isolated };
  const given = give(other.in, peer, second, port);
  if (bridge !== undefined && given.masterMac) bridge.mac = given.masterMac;
  return { end, peer: given };
}

/** The other end of a new veth, of which all but the index was said when it was made, and this end tells that. */
function otherEnd(link: Link, made: { name: string; mac: string; mtu: number | undefined }): Link | undefined {
  if (link.parent === undefined) return undefined;
  const { index: parent, parentNetnsId: _, acceptRa: _ra, ...rest } = link;
  return { ...rest, index: link.parent, parent, name: made.name, mac: made.mac, mtu: made.mtu || link.mtu };
}

function vanished(kind: string, name: string): CniError {
  return new CniError(Code.Kernel, `Cannot create the ${kind} "${name}": it was gone before it could be read`, {
    remedy: "ENODEV (19)",
  });
}

interface Shared {
  readonly made: Created;
  readonly created: boolean;
  readonly peer?: Created;
}

/** Made if absent. Two attachments that make it at once: the kernel lets one, and the other verifies. */
function createShared(guest: GuestContext, r: Create, name: string): Shared {
  const kernel = guest.kernel(r.in);
  const verify = (link: Link): Shared => {
    if (link.kind !== r.kind || link.name !== name) {
      throw new CniError(
        Code.Kernel,
        `Cannot use ${show(name)} as the network's ${r.kind}: a link of kind ${show(link.kind)} has that name`,
        { remedy: "EEXIST (17)" },
      );
    }
    guest.share(r.kind, name, { made: false });
    settle(guest, r.in, link, { up: r.up && !link.up }, false);
    const target = { target: { whose: "granted", role: "bridge" } as const };
    return { made: { link, in: r.in, number: guest.open(r.in, link, target) }, created: false };
  };
  const there = kernel.linkByName(name);
  if (there !== undefined) return verify(there);
  guest.share(r.kind, name, { made: true });
  try {
    if (r.kind === "veth") {
      const { end, peer } = createVeth(guest, r, name);
      return { made: end, created: true, peer };
    }
    const address = r.mac === undefined ? randomMac() : plainMac(r.mac);
    const link = kernel.createLink(specFor(guest, r, name, address));
    settle(guest, r.in, link, { up: r.up }, false);
    const target = { target: { whose: "granted", role: "bridge" } as const };
    return { made: { link: { ...link, up: r.up }, in: r.in, number: guest.open(r.in, link, target) }, created: true };
  } catch (thrown) {
    if (!isTaken(thrown)) throw thrown;
    const winner = kernel.linkByName(name);
    if (winner === undefined) throw thrown;
    return verify(winner);
  }
}

/** One link of the attachment, born with its final address and, where the kernel allows, with its final name. */
function createOwn(guest: GuestContext, r: Create, name: string): Created {
  // A passthru macvlan takes its parent's address, whatever is asked.
  const address =
    r.kind === "macvlan" && r.mode === "passthru" ? "" : r.mac === undefined ? randomMac() : plainMac(r.mac);
  const parent = r.parent === undefined ? undefined : guest.handles.link(r.parent);
  const crosses = parent !== undefined && parent.in !== r.in;
  const temporary = crosses ? guest.derivedName("pbt", 12) : undefined;
  const spec = specFor(guest, r, name, address);
  const undo = begin(guest, r.in, name, r.kind, address, temporary);
  const kernel = guest.kernel(r.in);
  let link: Link;
  if (parent !== undefined && temporary !== undefined && spec.kind === "macvlan") {
    const born = { ...spec, in: kernel };
    const there = guest.kernel(parent.in);
    try {
      link = there.createLink(born);
    } catch (thrown) {
      if (!isTaken(thrown)) throw thrown;
      // Taken in the pod, or up to Linux 6.12 where it comes from: under another name the kernel makes it for certain.
      link = there.createLink({ ...born, name: temporary });
    }
  } else link = kernel.createLink(spec);
  guest.made(undo, r.in, link);
  if (link.name !== name) {
    kernel.setLink(link.index, { name });
    link = { ...link, name };
  }
  settle(guest, r.in, link, { up: r.up }, true);
  const number = guest.open(r.in, link, { target: ownTarget(guest, r.in, name), undo });
  return { link: r.up ? { ...link, up: true } : link, in: r.in, number };
}

/** The name that a request asks for, checked against where a guest may choose one. */
function nameFor(guest: GuestContext, r: Create): string {
  if (r.in === "pod") return r.name ?? guest.setup.attachment.ifname;
  if (r.scope === "network") {
    if (r.name === undefined) throw bad("link_create", "name", "expected the name that the configuration gives");
    return r.name;
  }
  if (r.name !== undefined) throw bad("link_create", "name", "expected none: names on the node are derived");
  return guest.derivedName("pbl", 12);
}

export const linkCreate = hostCall({
  name: "link_create",
  operations: creating,
  roles: ["pod-link", "own", "bridge", "parent"],
  doc: "Makes a link. It belongs to the attachment, or with `scope` `network` to the network on this node",
  request: createRequest,
  answer: {
    ...linkAnswer,
    created: { type: "boolean", required: true, doc: "False when the network's link was there" },
    peer: {
      type: "object",
      keys: { ...linkAnswer, masterMac: { type: "string", doc: "Of a port: the address that its bridge has with it" } },
      doc: "The other end of a veth",
    },
  },
  targets(guest, r) {
    const targets: Target[] = [];
    const name = nameFor(guest, r);
    if (r.scope === "network") {
      targets.push(r.in === "host" ? guest.grantedName("host", name) : { whose: "other" });
    } else targets.push(ownTarget(guest, r.in, name));
    if (r.peer !== undefined || r.kind === "veth") {
      const peer = r.peer ?? onNode;
      if (r.kind !== "veth") throw bad("link_create", "peer", "expected none: only a veth has one");
      if (peer.in === "host" && peer.name !== undefined) {
        throw bad("link_create", "peer.name", "expected none: names on the node are derived");
      }
      if (r.scope === "network" && peer.in !== "host") throw bad("link_create", "peer.in", 'expected "host"');
      if (r.scope !== "network") targets.push(ownTarget(guest, peer.in, peer.name ?? ""));
    }
    if (r.scope === "network" && r.kind !== "bridge" && r.kind !== "veth") {
      throw bad("link_create", "scope", `expected "attachment": a ${r.kind} is never the network's`);
    }
    if (r.kind === "bridge" && r.scope !== "network" && r.in === "host") {
      throw bad("link_create", "scope", 'expected "network": a bridge on the node is the network\'s');
    }
    if (r.parent !== undefined) targets.push(guest.handles.link(r.parent).target);
    if (r.peer?.master === undefined && (r.peer?.hairpin ?? r.peer?.isolated) !== undefined) {
      throw bad("link_create", "peer.master", "expected the handle of a bridge: only a port has these settings");
    }
    if (r.peer?.master !== undefined) {
      const master = guest.handles.link(r.peer.master);
      if (master.in !== r.peer.in) throw bad("link_create", "peer.master", "expected a link of the same namespace");
      targets.push(master.target);
    }
    return targets;
  },
  run(guest, r) {
    const name = nameFor(guest, r);
    if (r.scope === "network") {
      const { made, created, peer } = createShared(guest, r, name);
      return {
        ...answerFor(guest, made.in, made.link, made.number),
        created,
        peer: peer === undefined ? undefined : answerForPeer(guest, peer),
      };
    }
    if (r.kind === "veth") {
      const { end, peer } = createVeth(guest, r, name);
      return {
        ...answerFor(guest, end.in, end.link, end.number),
        created: true,
        peer: answerForPeer(guest, peer),
      };
    }
    const own = createOwn(guest, r, name);
    return { ...answerFor(guest, own.in, own.link, own.number), created: true, peer: undefined };
  },
});

const openRequest = {
  in: { ...place, default: "pod" },
  name: { type: "string", format: "ifname", doc: "In the pod CNI_IFNAME when absent" },
  defaultRoute: { type: "boolean", default: false, doc: "The link of the default route in place of a name" },
} as const satisfies Keys;

/** The link that a request means, or undefined when there is none of that name. */
function wanted(guest: GuestContext, r: ValueOfKeys<typeof openRequest>): Link | undefined {
  if (r.defaultRoute) return guest.defaultRouteLink(r.in);
  const name = r.name ?? (r.in === "pod" ? guest.setup.attachment.ifname : undefined);
  if (name === undefined) throw bad("link_open", "name", "expected the name that the configuration gives");
  // An alternative name is nobody's grant: the policy speaks of names.
  const link = guest.kernel(r.in).linkByName(name);
  return link?.name === name ? link : undefined;
}

export const linkOpen: HostCall = hostCall({
  name: "link_open",
  operations: reading,
  roles: ["pod-link", "own", "parent", "bridge", "device"],
  doc: "Gives a handle for a link that is the attachment's or that the configuration names",
  request: openRequest,
  answer: linkAnswer,
  run(guest, r) {
    const link = wanted(guest, r);
    if (link !== undefined) {
      const known = guest.whose(r.in, link);
      guest.permit(linkOpen, known.target);
      return answerFor(guest, r.in, link, guest.open(r.in, link, known));
    }
    // Whose a missing link would be decides too, so that the answer does not tell which links the node has.
    if (r.in === "host" && !r.defaultRoute) guest.permit(linkOpen, guest.grantedName("host", r.name ?? ""));
    const what = r.defaultRoute ? "the link of the default route" : show(r.name ?? guest.setup.attachment.ifname);
    const where = r.in === "pod" ? "the pod" : "the node";
    throw new CniError(Code.Kernel, `Cannot open ${what} in ${where}: no such link`, { remedy: "ENODEV (19)" });
  },
});

export const linkList = hostCall({
  name: "link_list",
  operations: reading,
  roles: ["pod-link", "own", "parent", "bridge", "device"],
  doc: "Lists the links of the pod, or those of the node that are the attachment's or that the configuration names",
  request: { in: { ...place, default: "pod" } },
  answer: { links: { type: "array", items: { type: "object", keys: linkAnswer }, required: true } },
  run(guest, r) {
    const links: LinkAnswer[] = [];
    for (const link of guest.kernel(r.in).links()) {
      if (r.in === "host" && !isOpen(guest, link)) continue;
      links.push(answerFor(guest, r.in, link, guest.open(r.in, link)));
    }
    return { links };
  },
});

/** Whether a link of the node is one that link_open would give. */
function isOpen(guest: GuestContext, link: Link): boolean {
  try {
    return guest.whose("host", link).target.whose !== "host";
  } catch (thrown) {
    if (thrown instanceof CniError && thrown.code === Code.NotAllowed) return false;
    throw thrown;
  }
}

const setRequest = {
  link: handle,
  up: { type: "boolean" },
  mtu: { type: "integer", min: 68, max: 65_536, doc: "Bytes" },
  mac,
  name: { type: "string", format: "ifname", doc: "Of an own link in the pod" },
  master: { type: "integer", min: 0, doc: "Handle of the bridge or VRF; 0 for none" },
  promisc: { type: "boolean" },
  allmulti: { type: "boolean" },
  hairpin: { type: "boolean", doc: "Of a bridge port: send frames back where they came from" },
  isolated: { type: "boolean", doc: "Of a bridge port: no traffic with other isolated ports" },
  vlanFiltering: { type: "boolean", doc: "Of a bridge" },
  txQueueLength: { type: "integer", min: 0, max: 2_147_483_647, doc: "Packets" },
} as const satisfies Keys;

/** What a network's own link may be changed in by one of its attachments: nothing that takes it from the others. */
const shared = new Set(["up", "mtu", "mac", "promisc", "allmulti", "vlanFiltering", "txQueueLength"]);

const changeable = [
  "up",
  "mtu",
  "mac",
  "name",
  "promisc",
  "allmulti",
  "hairpin",
  "isolated",
  "vlanFiltering",
  "txQueueLength",
] as const;

export const linkSet = hostCall({
  name: "link_set",
  operations: ["ADD", "DEL"],
  roles: linkRoles,
  doc: "Changes a link. What it was before is kept for DEL, unless the link goes with the attachment or is the network's",
  request: setRequest,
  answer: {},
  targets(guest, r) {
    const targets = [...onLink(guest, r)];
    if (r.master) targets.push(guest.handles.link(r.master).target);
    return targets;
  },
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const kernel = guest.kernel(link.in);
    const isShared = link.target.whose === "granted";
    const asked = changeable.flatMap((key) => (r[key] === undefined ? [] : [[key, r[key]] as const]));
    const taken = asked.find(([key, value]) => isShared && (!shared.has(key) || value === false));
    if (taken !== undefined) {
      throw new CniError(Code.NotGranted, `Cannot set "${taken[0]}" of "${link.name}": the link is the network's`, {
        remedy: "Leave what other attachments use as it is",
      });
    }
    const change: { -readonly [K in keyof LinkChange]: LinkChange[K] } = Object.fromEntries(asked);
    if (r.name !== undefined && link.in === "host")
      throw bad("link_set", "name", "expected none: names on the node are derived");
    if (r.master !== undefined) {
      if (isShared) throw bad("link_set", "master", "expected none: the link is the network's");
      const master = r.master === 0 ? undefined : guest.handles.link(r.master);
      if (master !== undefined && master.in !== link.in)
        throw bad("link_set", "master", "expected a link of the same namespace");
      change.master = master?.index ?? 0;
    }
    if (!isShared && !guest.goesWithLink(link)) {
      const now = kernel.linkByIndex(link.index);
      if (now === undefined) throw vanished(link.kind, link.name);
      const former = formerState(now, change);
      if (Object.keys(former).length === 0 && isAlready(now, change)) return {};
      guest.intend({ do: "unset", in: link.in, link: { name: link.name, index: link.index }, former });
    }
    // A link that this attachment made has heard so at its birth.
    if (link.in === "host" && r.up === true && !guest.goesWithLink(link)) refuseAdvertisements(kernel, link.name);
    if (change.mac !== undefined) change.mac = plainMac(change.mac);
    kernel.setLink(link.index, change);
    if (r.name !== undefined) link.name = r.name;
    if (r.mac !== undefined) {
      link.mac = plainMac(r.mac);
      if (link.undo !== undefined) guest.made(link.undo, link.in, link);
    }
    return {};
  },
});

/** The members of a change as they are now, where they differ. */
function formerState(now: Link, change: LinkChange): JsonObject {
  const former: { [key: string]: Json } = {};
  const keep = (key: keyof LinkChange, is: Json | undefined): void => {
    if (change[key] !== undefined && change[key] !== is && is !== undefined) former[key] = is;
  };
  keep("up", now.up);
  keep("mtu", now.mtu);
  keep("mac", now.mac);
  keep("name", now.name);
  keep("promisc", now.promisc);
  keep("allmulti", now.allmulti);
  keep("txQueueLength", now.txQueueLength);
  keep("master", now.master ?? 0);
  return former;
}

const isAlready = (now: Link, change: LinkChange): boolean =>
  change.hairpin === undefined &&
  change.isolated === undefined &&
  change.vlanFiltering === undefined &&
  Object.keys(formerState(now, change)).length === 0;

const configureRequest = {
  link: handle,
  sysctls: {
    type: "array",
    maxItems: 32,
    items: {
      type: "object",
      keys: {
        key: { type: "string", maxLength: 128, required: true, doc: "As the manifest lists it, with `<link>` in it" },
        value: { type: "string", maxLength: 64, required: true },
        optional: { type: "boolean", default: false, doc: "What is not granted or cannot be set is left as it is" },
      },
    },
  },
  addresses: {
    type: "array",
    maxItems: 64,
    items: {
      type: "object",
      keys: {
        address: { type: "string", format: "cidr", required: true, doc: "With prefix length, host bits kept" },
        noDad: { type: "boolean", default: false, doc: "No duplicate address detection" },
        noPrefixRoute: { type: "boolean", default: false, doc: "No route to the address's network" },
      },
    },
  },
  routes: { type: "array", maxItems: 512, items: { type: "object", keys: routeKeys } },
} as const satisfies Keys;

/** The sysctls of the link itself that are granted. @throws {CniError} 121 for one that is not and has to be set */
function ownSysctls(guest: GuestContext, link: LinkHandle, r: ValueOfKeys<typeof configureRequest>): SysctlSetting[] {
  const settings: SysctlSetting[] = [];
  for (const { key, value, optional } of r.sysctls ?? []) {
    if (!key.includes("<link>")) throw bad("link_configure", "sysctls", "expected keys with <link>");
    if (guest.may(linkConfigure, { whose: "sysctl", pattern: `pod:${key}` }, optional)) {
      settings.push({ key: key.replace("<link>", link.name), value, optional });
    }
  }
  return settings;
}

export const linkConfigure: HostCall = hostCall({
  name: "link_configure",
  operations: creating,
  roles: ["pod-link", "own"],
  doc: "Gives a link in the pod that the attachment made its sysctls, then its addresses, brings it up, and adds its routes beside those there are",
  request: configureRequest,
  answer: {},
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    // So all of this goes with the link, and the journal need not name it.
    if (link.in !== "pod" || !guest.goesWithLink(link)) {
      throw bad("link_configure", "link", "expected a link in the pod that the attachment made");
    }
    const kernel = guest.kernel("pod");
    const addresses = (r.addresses ?? []).map(toAddress);
    const routes = (r.routes ?? []).map((route) => toRoute(route, link.index));
    kernel.setSysctls(ownSysctls(guest, link, r));
    kernel.configureLink(link.index, { addresses, routes });
    for (const { address } of addresses) guest.configured.push(address);
    return {};
  },
});

export const linkMove = hostCall({
  name: "link_move",
  operations: creating,
  roles: ["pod-link", "own"],
  doc: "Moves an own link into the other namespace and answers a new handle for it",
  request: { link: handle, to: { ...place, required: true }, name: { type: "string", format: "ifname" } },
  answer: linkAnswer,
  targets(guest, r) {
    const targets = [...onLink(guest, r)];
    if (r.to === "pod") targets.push(ownTarget(guest, "pod", r.name ?? guest.handles.link(r.link).name));
    else if (r.name !== undefined) throw bad("link_move", "name", "expected none: names on the node are derived");
    return targets;
  },
  run(guest, r) {
    const link = guest.handles.link(r.link);
    if (link.undo === undefined || link.in === r.to)
      throw bad("link_move", "link", "expected an own link that is elsewhere");
    const to = guest.kernel(r.to);
    const name = r.to === "host" ? guest.derivedName("pbl", 12) : (r.name ?? link.name);
    const moved = guest.kernel(link.in).moveLink(link.index, to, name);
    guest.made(link.undo, r.to, moved);
    if (r.to === "host") refuseAdvertisements(to, name);
    const number = guest.open(r.to, moved, { target: ownTarget(guest, r.to, name), undo: link.undo });
    guest.handles.forget(link);
    return answerFor(guest, r.to, moved, number);
  },
});

export const linkDelete = hostCall({
  name: "link_delete",
  operations: changing,
  roles: ["pod-link", "own"],
  doc: "Deletes a link that the attachment made",
  request: { link: handle },
  answer: { was: { type: "boolean", required: true, doc: "Whether it was still there" } },
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    if (link.undo === undefined) throw bad("link_delete", "link", "expected a link that the attachment made");
    const was = guest.kernel(link.in).deleteLink(link.index);
    guest.undone(link.undo);
    guest.handles.forget(link);
    return { was };
  },
});

export const linkWait = hostCall({
  name: "link_wait",
  operations: ["ADD", "CHECK"],
  waits: true,
  roles: linkRoles,
  doc: "Waits until a link runs, or until duplicate address detection is done with its IPv6 addresses",
  request: {
    link: handle,
    for: { type: "string", enum: ["running", "addresses"], required: true },
    timeoutMs: { type: "integer", min: 0, max: 10_000, default: 5000, doc: "Milliseconds" },
  },
  answer: { ready: { type: "boolean", required: true, doc: "False when the time ran out" } },
  targets: onLink,
  run(guest, r) {
    const link: LinkHandle = guest.handles.link(r.link);
    const kernel = guest.kernel(link.in);
    if (r.for === "running") return { ready: kernel.waitRunning(link.index, r.timeoutMs) };
    try {
      kernel.waitAddresses(link.index, r.timeoutMs);
      return { ready: true };
    } catch (thrown) {
      if (thrown instanceof KernelError && thrown.errnoName === "ETIMEDOUT") return { ready: false };
      throw thrown;
    }
  },
});

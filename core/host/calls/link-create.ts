/** Links are born: a pair, on a parent, or a network's own. */
import { show } from "../../base/brand.ts";
import { CniError, Code } from "../../base/error.ts";
import { derive } from "../../base/hash.ts";
import { formatMac } from "../../base/ip.ts";
import { isUpper, KernelError, type Link, type LinkChange, type LinkSpec } from "../../kernel/kernel.ts";
import type { Target } from "../../policy/decide.ts";
import type { NamedRole } from "../../policy/manifest.ts";
import type { Place } from "../../state/entries.ts";
import { Errno } from "../../sys/error.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";
import type { LinkStep } from "../facts.ts";
import {
  answerFor,
  bad,
  isTaken,
  linkAnswer,
  ownTarget,
  plainMac,
  refuseAdvertisements,
  vanished,
} from "./link-common.ts";
import { createForPod } from "./link-pod.ts";
import { type Create, checkKind, createRequest, inheritsAddress, specFor } from "./link-spec.ts";

const answerForPeer = (guest: GuestContext, peer: Created) => ({
  ...answerFor(guest, peer.in, peer.link, peer.number),
  masterMac: peer.masterMac,
});

/** Locally administered and unicast, the rest random: two nodes never agree on one, and nobody can know it before. */
function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return formatMac(bytes);
}

/** What tells a link from others before its index is known, beside its address. */
type Marks = Pick<LinkStep, "temporary" | "group">;

function begin(guest: GuestContext, where: Place, name: string, kind: string, address: string, marks: Marks = {}) {
  return guest.intend({ do: "link", in: where, name, kind, mac: address, ...marks });
}

/** Above those that an administrator gives names to (/etc/iproute2/group). */
const randomGroup = (): number => 0x10000 + ((crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) >>> 1);

/** What a link gets after its birth. */
type Settings = Pick<LinkChange, "up" | "master" | "hairpin" | "isolated">;

/**
 * What comes after the birth of a link on the node, and before it is up.
 *
 * @returns The address that its bridge has then, when it became a port.
 */
function settle(guest: GuestContext, where: Place, link: Link, r: Settings, own: boolean): string | undefined {
  const kernel = guest.kernel(where);
  // Nothing comes in over an ifb: what it has sent comes in where it came in before.
  if (where === "host" && link.kind !== "ifb") refuseAdvertisements(kernel, link.name, link.acceptRa);
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
  const inherits = inheritsAddress(r);
  const address = inherits ? "" : r.mac === undefined ? randomMac() : plainMac(r.mac);
  const parent = r.parent === undefined ? undefined : guest.handles.link(r.parent);
  const crosses = parent !== undefined && parent.in !== r.in;
  const temporary = crosses ? guest.derivedName("pbt", 12) : undefined;
  const group = inherits ? randomGroup() : undefined;
  const spec: LinkSpec = { ...specFor(guest, r, name, address), ...(group === undefined ? {} : { group }) };
  const marks = { ...(temporary === undefined ? {} : { temporary }), ...(group === undefined ? {} : { group }) };
  // The program that makes a labelled tap gives it an address of its own first, so until then its name has to tell.
  const born = r.kind === "tap" && r.selinuxContext ? "" : address;
  if (born !== address && guest.kernel(r.in).linkByName(name) !== undefined) {
    throw new KernelError(`create tap "${name}"`, Errno.EEXIST); // not to be taken for ours
  }
  const undo = begin(guest, r.in, name, r.kind === "tap" ? "tun" : r.kind, born, marks);
  const kernel = guest.kernel(r.in);
  let link: Link;
  if (parent !== undefined && temporary !== undefined && isUpper(spec)) {
    const there = guest.kernel(parent.in);
    try {
      link = there.createLink({ ...spec, in: kernel });
    } catch (thrown) {
      if (!isTaken(thrown)) throw thrown;
      // Taken in the pod, or up to Linux 6.12 where it comes from: under another name the kernel makes it for certain.
      link = there.createLink({ ...spec, in: kernel, name: temporary });
    }
  } else link = kernel.createLink(spec);
  guest.made(undo, r.in, link);
  if (link.name !== name || group !== undefined) {
    kernel.setLink(link.index, {
      ...(link.name === name ? {} : { name }),
      ...(group === undefined ? {} : { group: 0 }),
    });
    link = { ...link, name };
  }
  settle(guest, r.in, link, { up: r.up }, true);
  const number = guest.open(r.in, link, { target: ownTarget(guest, r.in, name), undo });
  return { link: r.up ? { ...link, up: true } : link, in: r.in, number };
}

/** A shared link is found by its name, and its handle has this role: a parent would become one that may be changed. */
const asRole = (role: NamedRole, target: Target): Target =>
  target.whose === "granted" && target.role !== role ? { whose: "host" } : target;

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
  roles: ["pod-link", "own", "bridge", "parent", "vrf"],
  doc: "Makes a link. It belongs to the attachment, or with `scope` to the network on this node or to the pod",
  request: createRequest,
  answer: {
    ...linkAnswer,
    created: { type: "boolean", required: true, doc: "False when the network's or the pod's link was there" },
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
      targets.push(r.in === "host" ? asRole("bridge", guest.grantedName("host", name)) : { whose: "other" });
    } else if (r.scope === "pod") {
      targets.push(r.in === "pod" ? asRole("vrf", guest.grantedName("pod", name)) : { whose: "host" });
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
    checkKind(r);
    if (r.scope === "network" && r.kind !== "bridge" && r.kind !== "veth") {
      throw bad("link_create", "scope", `expected "attachment": a ${r.kind} is never the network's`);
    }
    if (r.scope === "pod" && r.kind !== "vrf") {
      throw bad("link_create", "scope", `expected "attachment": a ${r.kind} is never shared by a pod's attachments`);
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
    if (r.scope === "pod") {
      const { link, created } = createForPod(guest, r, name);
      const number = guest.open("pod", link, { target: { whose: "granted", role: "vrf" } });
      return { ...answerFor(guest, "pod", link, number), created, peer: undefined };
    }
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

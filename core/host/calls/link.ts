/** Links: found, changed, moved, deleted. */
import { show } from "../../base/brand.ts";
import { CniError, Code } from "../../base/error.ts";
import type { Json, JsonObject } from "../../base/json.ts";
import { KernelError, type Link, type LinkChange, type SysctlSetting } from "../../kernel/kernel.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import { changing, creating, type HostCall, hostCall, linkRoles, onLink, reading } from "../call.ts";
import type { GuestContext } from "../context.ts";
import type { LinkHandle } from "../handles.ts";
import { patiently } from "../patience.ts";
import { toAddress } from "./address.ts";
import {
  answerFor,
  bad,
  handle,
  type LinkAnswer,
  linkAnswer,
  mac,
  ownTarget,
  place,
  plainMac,
  refuseAdvertisements,
  vanished,
} from "./link-common.ts";
import { keepForUndo } from "./link-pod.ts";
import { routeKeys, toRoute } from "./route.ts";

const openRequest = {
  in: { ...place, default: "pod" },
  name: { type: "string", format: "ifname", doc: "In the pod CNI_IFNAME when absent" },
  defaultRoute: { type: "boolean", default: false, doc: "The link of the default route in place of a name" },
  peerOf: {
    type: "integer",
    min: 1,
    doc: 'With `"in":"host"`, in place of a name: the other end of the veth in the pod that has this handle',
  },
} as const satisfies Keys;

/** The link that a request means, or undefined when there is none of that name. */
function wanted(guest: GuestContext, r: ValueOfKeys<typeof openRequest>): Link | undefined {
  if (r.peerOf !== undefined) {
    if (r.in !== "host") throw bad("link_open", "in", 'expected "host"');
    return guest.peerOf(guest.handles.link(r.peerOf));
  }
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
  roles: ["pod-link", "own", "peer", "parent", "bridge", "device", "vrf"],
  doc: "Gives a handle for a link that is the attachment's or that the configuration names",
  request: openRequest,
  answer: linkAnswer,
  targets: (guest, r) => (r.peerOf === undefined ? [] : [guest.handles.link(r.peerOf).target]),
  run(guest, r) {
    const link = wanted(guest, r);
    if (link !== undefined) {
      const known = r.peerOf === undefined ? guest.whose(r.in, link) : guest.whosePeer(link);
      guest.permit(linkOpen, known.target);
      return answerFor(guest, r.in, link, guest.open(r.in, link, known));
    }
    // Whose a missing link would be decides too, so that the answer does not tell which links the node has.
    if (r.in === "host" && !r.defaultRoute && r.peerOf === undefined)
      guest.permit(linkOpen, guest.grantedName("host", r.name ?? ""));
    const name = r.peerOf === undefined ? r.name : guest.handles.link(r.peerOf).name;
    const named = show(name ?? guest.setup.attachment.ifname);
    const what = r.defaultRoute
      ? "the link of the default route"
      : r.peerOf === undefined
        ? named
        : `the other end of ${named}`;
    const where = r.in === "pod" ? "the pod" : "the node";
    throw new CniError(Code.Kernel, `Cannot open ${what} in ${where}: no such link`, { remedy: "ENODEV (19)" });
  },
});

export const linkList = hostCall({
  name: "link_list",
  operations: reading,
  roles: ["pod-link", "own", "parent", "bridge", "device", "vrf"],
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
  roles: [...linkRoles, "peer", "vrf"],
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
    const isPeer = link.target.whose === "own" && link.target.role === "peer";
    const asked = changeable.flatMap((key) => (r[key] === undefined ? [] : [[key, r[key]] as const]));
    const taken = asked.find(([key, value]) => isShared && (!shared.has(key) || value === false));
    if (taken !== undefined) {
      throw new CniError(Code.NotGranted, `Cannot set "${taken[0]}" of "${link.name}": the link is the network's`, {
        remedy: "Leave what other attachments use as it is",
      });
    }
    const notAsPort = asked.find(([key]) => isPeer && key !== "isolated" && key !== "hairpin");
    if (notAsPort !== undefined || (isPeer && r.master !== undefined)) {
      const member = notAsPort?.[0] ?? "master";
      throw new CniError(Code.NotGranted, `Cannot set "${member}" of "${link.name}": another plugin made the link`, {
        remedy: "Change no more of it than how it is a port of its bridge",
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
      if (master?.kind === "vrf" && !guest.goesWithLink(link)) keepForUndo(guest, link, kernel);
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
    if (link.borrowed) patiently(() => kernel.setLink(link.index, change));
    else kernel.setLink(link.index, change);
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
  keep("isolated", now.port?.isolated);
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
    if (guest.may(linkConfigure, guest.sysctl("pod", key, link.name), optional)) {
      settings.push({ key: key.replace("<link>", link.name), value, optional });
    }
  }
  return settings;
}

export const linkConfigure: HostCall = hostCall({
  name: "link_configure",
  operations: creating,
  roles: ["pod-link", "own"],
  doc: "Gives a link in the pod that the attachment made or borrowed its sysctls, then its addresses, brings it up, and adds its routes beside those there are",
  request: configureRequest,
  answer: {},
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    // So all of this goes with the link, and the journal need not name it.
    if (link.in !== "pod" || !guest.goesWithLink(link)) {
      throw bad("link_configure", "link", "expected a link in the pod that the attachment made or borrowed");
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
  roles: ["pod-link", "own", "device"],
  doc: "Moves an own link into the other namespace, or the borrowed device into the pod, and answers a new handle for it",
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
    if (link.borrowed) return moveDevice(guest, link, link.undo, r);
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

/** It comes into the pod by its final name at once: nobody on the node sees it renamed. */
function moveDevice(
  guest: GuestContext,
  link: LinkHandle,
  undo: number,
  r: { readonly to: "pod" | "host"; readonly name?: string | undefined },
): LinkAnswer {
  if (r.to !== "pod") throw bad("link_move", "to", 'expected "pod": the host brings a device home');
  const name = r.name ?? link.name;
  const [from, pod] = [guest.kernel("host"), guest.kernel("pod")];
  if (pod.linkByName(name) !== undefined) {
    throw new CniError(
      Code.InterfaceTaken,
      `Cannot move "${link.name}" into the pod as "${name}": that name is taken there`,
      {
        remedy: "Ask for another interface name",
      },
    );
  }
  const now = from.linkByIndex(link.index);
  if (now === undefined) throw vanished("device", link.name);
  // A name that is its own second one is taken, says the kernel.
  if (now.alternativeNames?.includes(name)) from.setAlternativeName(link.index, name, false);
  const moved = from.moveLink(link.index, pod, name);
  guest.made(undo, "pod", moved);
  const known = { target: ownTarget(guest, "pod", name), undo, borrowed: true } as const;
  const number = guest.open("pod", moved, known);
  guest.handles.forget(link);
  return answerFor(guest, "pod", moved, number);
}

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
    if (link.undo === undefined || link.borrowed)
      throw bad("link_delete", "link", "expected a link that the attachment made");
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

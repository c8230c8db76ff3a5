/** Addresses, neighbours and announcements. */
import { CniError, Code } from "../../base/error.ts";
import { type Cidr, formatCidr, formatIp, type Ip, parseCidr, parseIp } from "../../base/ip.ts";
import type { JsonObject } from "../../base/json.ts";
import { KernelError, type LinkAddress, type Neighbour } from "../../kernel/kernel.ts";
import type { Keys } from "../../policy/schema.ts";
import { changing, creating, hostCall, linkRoles, onLink, reading } from "../call.ts";

export const handle = { type: "integer", min: 1, required: true, doc: "Handle of the link" } as const;
export const cidr = { type: "string", format: "cidr" } as const;
export const ip = { type: "string", format: "ip" } as const;

// The schema has read both already, so these only fail on our own records.
export function cidrOf(text: string): Cidr {
  const read = parseCidr(text);
  if (read === undefined)
    throw new CniError(Code.BadRequest, `Cannot read "${text}" as an address with prefix`, {
      remedy: "Write it as 10.1.2.3/24",
    });
  return read;
}
export function ipOf(text: string): Ip {
  const read = parseIp(text);
  if (read === undefined)
    throw new CniError(Code.BadRequest, `Cannot read "${text}" as an address`, { remedy: "Write it as 10.1.2.3" });
  return read;
}

/** On the node a guest puts only what belongs to the networks that its IPAM gave the attachment. */
export function refuseForeign(what: string): CniError {
  return new CniError(Code.NotGranted, `Cannot use ${what} on the node: IPAM did not give it to this attachment`, {
    remedy: "Call ipam_add first, and use its addresses, their networks and gateways",
  });
}

/** The address of a request. */
export function toAddress(r: { address: string; noDad: boolean; noPrefixRoute: boolean }): LinkAddress {
  return {
    address: cidrOf(r.address),
    ...(r.noDad ? { noDad: true } : {}),
    ...(r.noPrefixRoute ? { noPrefixRoute: true } : {}),
  };
}

const addressRequest = {
  link: handle,
  address: { ...cidr, required: true, doc: "With prefix length, host bits kept" },
  noDad: { type: "boolean", default: false, doc: "No duplicate address detection" },
  noPrefixRoute: { type: "boolean", default: false, doc: "No route to the address's network" },
  scope: {
    type: "string",
    enum: ["attachment", "network"],
    default: "attachment",
    doc: "`network`: an address of the network's own link, kept with it and there before is no failure",
  },
} as const satisfies Keys;

export const isExisting = (thrown: unknown): boolean => thrown instanceof KernelError && thrown.errnoName === "EEXIST";

export const addrAdd = hostCall({
  name: "addr_add",
  operations: creating,
  roles: linkRoles,
  doc: "Adds an address to a link",
  request: addressRequest,
  answer: { created: { type: "boolean", required: true, doc: "False when the network's address was there" } },
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const kernel = guest.kernel(link.in);
    const address = cidrOf(r.address);
    const isShared = link.target.whose === "granted";
    if (isShared !== (r.scope === "network")) {
      throw new CniError(
        Code.BadRequest,
        `Cannot add "${r.address}" to "${link.name}": "scope": expected ${isShared ? '"network"' : '"attachment"'}`,
        {
          remedy: "Give network scope to addresses of the network's own links, and to no others",
        },
      );
    }
    if (link.in === "host" && !guest.isNetworkAddress(address.ip)) throw refuseForeign(`the address "${r.address}"`);
    if (!isShared && !guest.goesWithLink(link)) {
      guest.intend({ do: "address", in: link.in, link: { name: link.name, index: link.index }, address: r.address });
    }
    try {
      kernel.addAddress(link.index, toAddress(r));
    } catch (thrown) {
      if (!isShared || !isExisting(thrown)) throw thrown;
      return { created: false };
    }
    if (link.in === "pod") guest.configured.push(address);
    return { created: true };
  },
});

export const addrDelete = hostCall({
  name: "addr_delete",
  operations: changing,
  roles: linkRoles,
  doc: "Removes an address from a link",
  request: { link: handle, address: { ...cidr, required: true } },
  answer: { was: { type: "boolean", required: true, doc: "Whether it was there" } },
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const address = cidrOf(r.address);
    const foreign = link.target.whose !== "granted" && !guest.isNetworkAddress(address.ip);
    if (link.in === "host" && foreign) throw refuseForeign(`the address "${r.address}"`);
    return { was: guest.kernel(link.in).deleteAddress(link.index, { address }) };
  },
});

export const addrList = hostCall({
  name: "addr_list",
  operations: reading,
  roles: [...linkRoles, "parent"],
  doc: "Lists the addresses of a link",
  request: { link: handle },
  answer: {
    addresses: {
      type: "array",
      required: true,
      items: {
        type: "object",
        keys: {
          address: { ...cidr, required: true },
          scope: { type: "integer", doc: "0 global, 253 link, 254 host" },
          tentative: { type: "boolean", doc: "Duplicate address detection is under way" },
          dadFailed: { type: "boolean", doc: "Another node has the address" },
          noDad: { type: "boolean", doc: "Duplicate address detection is left out" },
          noPrefixRoute: { type: "boolean", doc: "The kernel made no route to the address's network" },
        },
      },
    },
  },
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    return {
      addresses: guest
        .kernel(link.in)
        .addresses(link.index)
        .map((a: LinkAddress) => ({
          address: formatCidr(a.address),
          scope: a.scope,
          tentative: a.tentative,
          dadFailed: a.dadFailed,
          noDad: a.noDad,
          noPrefixRoute: a.noPrefixRoute,
        })),
    };
  },
});

// --- neighbours and announcements ------------------------------------------------------------------------------------

const neighbourKeys = {
  address: { ...ip, required: true },
  mac: { type: "string", format: "mac", required: true },
} as const;

export function neighbourFromRecord(record: JsonObject, index: number): Neighbour | undefined {
  const { address, mac } = record;
  if (typeof address !== "string" || typeof mac !== "string") return undefined;
  const read = parseIp(address);
  return read === undefined ? undefined : { index, address: read, mac };
}

export const neighAdd = hostCall({
  name: "neigh_add",
  operations: creating,
  roles: ["pod-link", "own"],
  doc: "Adds a permanent neighbour to a link",
  request: { link: handle, ...neighbourKeys },
  answer: {},
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    if (link.in === "host" && !guest.isNetworkAddress(ipOf(r.address)))
      throw refuseForeign(`the neighbour "${r.address}"`);
    if (!guest.goesWithLink(link)) {
      guest.intend({
        do: "neighbour",
        in: link.in,
        link: { name: link.name, index: link.index },
        neighbour: { address: r.address, mac: r.mac },
      });
    }
    guest.kernel(link.in).addNeighbour({ index: link.index, address: ipOf(r.address), mac: r.mac });
    return {};
  },
});

export const announce = hostCall({
  name: "announce",
  operations: creating,
  roles: ["pod-link", "own", "bridge"],
  doc: "Tells the neighbours of a link its addresses: a gratuitous ARP or an unsolicited neighbour advertisement each",
  request: { link: handle, addresses: { type: "array", items: ip, maxItems: 64, required: true } },
  answer: {},
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const addresses = r.addresses.map(ipOf);
    const foreign = addresses.find(
      (a) => !guest.isNetworkAddress(a) && !guest.configured.some((c) => formatIp(c.ip) === formatIp(a)),
    );
    if (foreign !== undefined) {
      throw new CniError(Code.NotGranted, `Cannot announce "${formatIp(foreign)}": it is not this attachment's`, {
        remedy: "Announce addresses that IPAM gave or that this run added",
      });
    }
    guest.kernel(link.in).announce(link.index, addresses);
    return {};
  },
});

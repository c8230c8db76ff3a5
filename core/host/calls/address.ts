/** Addresses, routes, rules, neighbours and announcements. */
import { CniError, Code } from "../../base/error.ts";
import { type Cidr, formatCidr, formatIp, type Ip, parseCidr, parseIp } from "../../base/ip.ts";
import type { Json, JsonObject } from "../../base/json.ts";
import { KernelError, type LinkAddress, type Neighbour, type Route, type Rule } from "../../kernel/kernel.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import { changing, creating, hostCall, linkRoles, onLink, reading } from "../call.ts";
import type { GuestContext } from "../context.ts";
import type { LinkHandle } from "../handles.ts";

const handle = { type: "integer", min: 1, required: true, doc: "Handle of the link" } as const;
const cidr = { type: "string", format: "cidr" } as const;
const ip = { type: "string", format: "ip" } as const;
const u32 = { type: "integer", min: 0, max: 4_294_967_295 } as const;
/** For 0 the kernel would choose one itself, and no record could name it. */
const tableNumber = { ...u32, min: 1 } as const;

// The schema has read both already, so these only fail on our own records.
function cidrOf(text: string): Cidr {
  const read = parseCidr(text);
  if (read === undefined)
    throw new CniError(Code.BadRequest, `Cannot read "${text}" as an address with prefix`, {
      remedy: "Write it as 10.1.2.3/24",
    });
  return read;
}
function ipOf(text: string): Ip {
  const read = parseIp(text);
  if (read === undefined)
    throw new CniError(Code.BadRequest, `Cannot read "${text}" as an address`, { remedy: "Write it as 10.1.2.3" });
  return read;
}

/** On the node a guest puts only what belongs to the networks that its IPAM gave the attachment. */
function refuseForeign(what: string): CniError {
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

const isExisting = (thrown: unknown): boolean => thrown instanceof KernelError && thrown.errnoName === "EEXIST";
const isAbsent = (thrown: unknown): boolean =>
  thrown instanceof KernelError && ["ENOENT", "ESRCH", "ENODEV", "EADDRNOTAVAIL"].includes(thrown.errnoName);

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
        })),
    };
  },
});

// --- routes ----------------------------------------------------------------------------------------------------------

export const routeKeys = {
  dst: { ...cidr, required: true, doc: "`0.0.0.0/0` or `::/0` for a default route" },
  gateway: ip,
  source: { ...ip, doc: "Address that packets get by preference" },
  scope: { type: "integer", min: 0, max: 255, doc: "0 universe, 253 link, 254 host" },
  priority: { ...u32, doc: "Metric" },
  table: { ...tableNumber, doc: "254, main, when absent" },
  mtu: { ...u32, doc: "Bytes" },
  advmss: { ...u32, doc: "Bytes" },
  onlink: { type: "boolean", doc: "The gateway is on the link, whatever the routes say" },
} as const satisfies Keys;
type RouteRequest = ValueOfKeys<typeof routeKeys>;

export function toRoute(r: RouteRequest, index: number): Route {
  const dst = cidrOf(r.dst);
  return {
    family: dst.ip.family,
    index,
    ...(dst.prefix === 0 ? {} : { dst }),
    ...(r.gateway === undefined ? {} : { gateway: ipOf(r.gateway) }),
    ...(r.source === undefined ? {} : { source: ipOf(r.source) }),
    ...(r.scope === undefined ? {} : { scope: r.scope }),
    ...(r.priority === undefined ? {} : { priority: r.priority }),
    ...(r.table === undefined ? {} : { table: r.table }),
    ...(r.mtu === undefined ? {} : { mtu: r.mtu }),
    ...(r.advmss === undefined ? {} : { advmss: r.advmss }),
    ...(r.onlink === undefined ? {} : { onlink: r.onlink }),
  };
}

/** As the journal keeps a route: the request and the link's index. */
export function routeFromRecord(record: JsonObject): Route | undefined {
  const { index, ...rest } = record;
  if (typeof index !== "number" || typeof record.dst !== "string" || parseCidr(record.dst) === undefined)
    return undefined;
  return toRoute(rest as unknown as RouteRequest, index);
}

const plain = (request: { readonly [key: string]: unknown }): { [key: string]: Json } =>
  Object.fromEntries(Object.entries(request).filter(([, v]) => v !== undefined)) as { [key: string]: Json };

/** A route on the node leads to one of the attachment's own addresses and nowhere else. */
function checkHostRoute(guest: GuestContext, link: LinkHandle, dst: Cidr): void {
  if (link.in !== "host") return;
  const whole = dst.prefix === dst.ip.bytes.length * 8;
  if (!whole || !guest.isOwnAddress(dst.ip)) throw refuseForeign(`a route to "${formatCidr(dst)}"`);
}

export const routeAdd = hostCall({
  name: "route_add",
  operations: creating,
  roles: ["pod-link", "own"],
  doc: "Adds a route over a link. On the node: only to an address of the attachment",
  request: {
    link: handle,
    ...routeKeys,
    mode: {
      type: "string",
      enum: ["exclusive", "append"],
      default: "exclusive",
      doc: "`append`: beside one that is there",
    },
  },
  answer: {},
  targets: onLink,
  run(guest, r) {
    const { link: number, mode, ...route } = r;
    const link = guest.handles.link(number);
    checkHostRoute(guest, link, cidrOf(r.dst));
    if (!guest.goesWithLink(link))
      guest.intend({ do: "route", in: link.in, route: { ...plain(route), index: link.index } });
    guest.kernel(link.in).addRoute(toRoute(route, link.index), mode);
    return {};
  },
});

export const routeDelete = hostCall({
  name: "route_delete",
  operations: changing,
  roles: ["pod-link", "own"],
  doc: "Removes a route over a link",
  request: { link: handle, ...routeKeys },
  answer: { was: { type: "boolean", required: true, doc: "Whether it was there" } },
  targets: onLink,
  run(guest, r) {
    const { link: number, ...route } = r;
    const link = guest.handles.link(number);
    checkHostRoute(guest, link, cidrOf(r.dst));
    return { was: guest.kernel(link.in).deleteRoute(toRoute(route, link.index)) };
  },
});

export const routeList = hostCall({
  name: "route_list",
  operations: reading,
  roles: ["pod-link", "own", "bridge"],
  doc: "Lists the routes over a link, those of the kernel's local table left out",
  request: { link: handle, table: tableNumber },
  answer: { routes: { type: "array", required: true, items: { type: "object", keys: routeKeys } } },
  targets: onLink,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const filter = { index: link.index, ...(r.table === undefined ? {} : { table: r.table }) };
    return {
      routes: guest
        .kernel(link.in)
        .routes(filter)
        .filter((route: Route) => r.table !== undefined || route.table !== 255)
        .map((route: Route) => ({
          dst: route.dst === undefined ? (route.family === 4 ? "0.0.0.0/0" : "::/0") : formatCidr(route.dst),
          gateway: route.gateway === undefined ? undefined : formatIp(route.gateway),
          source: route.source === undefined ? undefined : formatIp(route.source),
          scope: route.scope,
          priority: route.priority,
          table: route.table,
          mtu: route.mtu,
          advmss: route.advmss,
        })),
    };
  },
});

// --- rules -----------------------------------------------------------------------------------------------------------

const ruleKeys = {
  // Required, because the kernel deletes the first rule that has what is named: without a source, anybody's.
  from: { ...cidr, required: true, doc: "Source" },
  to: { ...cidr, doc: "Destination" },
  table: { ...tableNumber, required: true },
  priority: { ...u32, doc: "The next below the lowest when absent; the answer has it" },
} as const satisfies Keys;
type RuleRequest = ValueOfKeys<typeof ruleKeys>;

function toRule(r: RuleRequest): Rule {
  const from = cidrOf(r.from);
  const to = r.to === undefined ? undefined : cidrOf(r.to);
  return {
    family: from.ip.family,
    table: r.table,
    from,
    ...(to === undefined ? {} : { to }),
    ...(r.priority === undefined ? {} : { priority: r.priority }),
  };
}

export function ruleFromRecord(record: JsonObject): Rule | undefined {
  if (typeof record.table !== "number" || typeof record.from !== "string") return undefined;
  for (const key of ["from", "to"] as const) {
    const value = record[key];
    if (value !== undefined && (typeof value !== "string" || parseCidr(value) === undefined)) return undefined;
  }
  return toRule(record as unknown as RuleRequest);
}

export const ruleAdd = hostCall({
  name: "rule_add",
  operations: creating,
  roles: [],
  doc: "Adds a policy routing rule in the pod",
  request: ruleKeys,
  answer: { priority: { ...u32, required: true } },
  run(guest, r) {
    const kernel = guest.kernel("pod");
    const priority = r.priority ?? nextPriority(kernel.rules(cidrOf(r.from).ip.family));
    const rule = { ...r, priority };
    guest.intend({ do: "rule", in: "pod", rule: plain(rule) });
    kernel.addRule(toRule(rule));
    return { priority };
  },
});

/** What the kernel would take itself, chosen here so that the journal can name it: one below the lowest but 0. */
function nextPriority(rules: readonly Rule[]): number {
  const taken = rules.flatMap((r) => (r.priority ? [r.priority] : []));
  return Math.max(1, Math.min(32_766, ...taken) - 1);
}

export const ruleDelete = hostCall({
  name: "rule_delete",
  operations: changing,
  roles: [],
  doc: "Removes a policy routing rule that the attachment added",
  request: ruleKeys,
  answer: { was: { type: "boolean", required: true, doc: "Whether it was there" } },
  run(guest, r) {
    const id = addedRule(guest, r);
    if (id === undefined) {
      throw new CniError(Code.NotGranted, 'Cannot make the call "rule_delete": the attachment added no such rule', {
        remedy: "Name the rule exactly as rule_add did",
      });
    }
    const was = guest.kernel("pod").deleteRule(toRule(r));
    guest.undone(id);
    return { was };
  },
});

/** The undo step of a rule that the attachment added and has still. */
function addedRule(guest: GuestContext, r: RuleRequest): number | undefined {
  const wanted = toRule(r);
  const over = new Set<number>();
  const entries = guest.setup.journal?.entries ?? [];
  for (const e of entries) if (e.is === "undone") over.add(e.id);
  for (const e of entries) {
    if (e.is !== "undo" || e.step.do !== "rule" || over.has(e.id)) continue;
    const added = ruleFromRecord(e.step.rule);
    if (added !== undefined && Bun.deepEquals(added, wanted)) return e.id;
  }
  return undefined;
}

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

export { isAbsent };

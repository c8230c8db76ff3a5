/** Routes, policy routing rules, and the tables of both. */
import { CniError, Code } from "../../base/error.ts";
import { type Cidr, formatCidr, formatIp, parseCidr } from "../../base/ip.ts";
import type { Json, JsonObject } from "../../base/json.ts";
import type { Route, Rule } from "../../kernel/kernel.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import { changing, creating, hostCall, onLink, reading } from "../call.ts";
import type { GuestContext } from "../context.ts";
import type { LinkHandle } from "../handles.ts";
import { cidr, cidrOf, handle, ip, ipOf, isExisting, refuseForeign } from "./address.ts";

const u32 = { type: "integer", min: 0, max: 4_294_967_295 } as const;
/** For 0 the kernel would choose one itself, and no record could name it. */
const tableNumber = { ...u32, min: 1 } as const;
/** `RT_TABLE_MAIN` and `RT_TABLE_LOCAL` */
const MAIN = 254;
const LOCAL = 255;

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
  protocol: { type: "integer", min: 1, max: 255, doc: "Who made it: 2 the kernel, 3 boot; 3 when absent" },
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
    ...(r.protocol === undefined ? {} : { protocol: r.protocol }),
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
    const step = guest.goesWithLink(link)
      ? undefined
      : guest.intend({ do: "route", in: link.in, route: { ...plain(route), index: link.index } });
    try {
      guest.kernel(link.in).addRoute(toRoute(route, link.index), mode);
    } catch (thrown) {
      // It was there before us, so it is not ours to take away.
      if (step !== undefined && isExisting(thrown)) guest.undone(step);
      throw thrown;
    }
    return {};
  },
});

export const routeDelete = hostCall({
  name: "route_delete",
  operations: changing,
  roles: ["pod-link", "own"],
  doc: "Removes a route over a link. One in the pod that the attachment did not make comes back with DEL",
  request: { link: handle, ...routeKeys },
  answer: { was: { type: "boolean", required: true, doc: "Whether it was there" } },
  targets: onLink,
  run(guest, r) {
    const { link: number, ...route } = r;
    const link = guest.handles.link(number);
    checkHostRoute(guest, link, cidrOf(r.dst));
    const kernel = guest.kernel(link.in);
    const wanted = toRoute(route, link.index);
    if (guest.setup.operation !== "ADD" || guest.goesWithLink(link)) return { was: kernel.deleteRoute(wanted) };
    const { family, table = MAIN } = wanted;
    const there = kernel.routes({ family, table, index: link.index }).find((found) => isOf(found, wanted));
    if (there === undefined) return { was: false };
    const { index, name } = link;
    guest.intend({ do: "restore", in: link.in, link: { index, name }, addresses: [], routes: [routeRecord(there)] });
    return { was: kernel.deleteRoute(there) };
  },
});

export const routeList = hostCall({
  name: "route_list",
  operations: reading,
  roles: ["pod-link", "own", "bridge"],
  doc: "Lists the routes over a link; those of the kernel's own for local and broadcast addresses are left out",
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
        .filter((route) => (r.table !== undefined || route.table !== LOCAL) && isUnicast(route))
        .map(answerOf),
    };
  },
});

const isUnicast = (r: Route): boolean => (r.type ?? 1) === 1;

function answerOf(r: Route): RouteRequest {
  return {
    dst: r.dst === undefined ? (r.family === 4 ? "0.0.0.0/0" : "::/0") : formatCidr(r.dst),
    gateway: r.gateway === undefined ? undefined : formatIp(r.gateway),
    source: r.source === undefined ? undefined : formatIp(r.source),
    scope: r.scope,
    priority: r.priority,
    table: r.table,
    mtu: r.mtu,
    advmss: r.advmss,
    onlink: r.onlink,
    protocol: r.protocol,
  };
}

/** As the journal keeps a route that is to be put back. */
export const routeRecord = (r: Route): JsonObject => ({ ...plain(answerOf(r)), index: r.index ?? 0 });

/**
 * The routes that a link loses when it goes into a VRF or comes out, in the order in which they can be put back: the
 * kernel makes its own of the main table again, and no other.
 */
export function lostRoutes(routes: readonly Route[]): readonly Route[] {
  const lost = routes.filter((r) => isUnicast(r) && r.table !== LOCAL && !(r.table === MAIN && r.protocol === 2));
  return [...lost.filter((r) => r.gateway === undefined), ...lost.filter((r) => r.gateway !== undefined)];
}

/** Whether a route is one that a request means: what the request leaves out, the kernel does not look at either. */
function isOf(found: Route, wanted: Route): boolean {
  const [there, asked] = [answerOf(found), answerOf(wanted)];
  const keys = ["dst", "gateway", "source", "scope", "protocol"] as const;
  if (asked.priority !== undefined && asked.priority !== (there.priority ?? 0)) return false;
  return isUnicast(found) && keys.every((key) => asked[key] === undefined || asked[key] === there[key]);
}

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
  return addedRules(guest).find(({ rule }) => Bun.deepEquals(rule, wanted))?.id;
}

/** The rules that the attachment added and did not delete again, with the numbers of their undo steps. */
function addedRules(guest: GuestContext): readonly { readonly id: number; readonly rule: Rule }[] {
  const over = new Set<number>();
  const entries = guest.setup.journal?.entries ?? [];
  for (const e of entries) if (e.is === "undone") over.add(e.id);
  return entries.flatMap((e) => {
    if (e.is !== "undo" || e.step.do !== "rule" || over.has(e.id)) return [];
    const rule = ruleFromRecord(e.step.rule);
    return rule === undefined ? [] : [{ id: e.id, rule }];
  });
}

const showRule = ({ from, to, table, priority }: Rule): RuleRequest => ({
  from: from === undefined ? "" : formatCidr(from),
  to: to === undefined ? undefined : formatCidr(to),
  table,
  priority,
});

export const ruleList = hostCall({
  name: "rule_list",
  operations: reading,
  roles: [],
  doc: "Lists the policy routing rules that the attachment added and that are there still",
  request: {},
  answer: { rules: { type: "array", required: true, items: { type: "object", keys: ruleKeys } } },
  run(guest) {
    const added = addedRules(guest);
    if (added.length === 0) return { rules: [] };
    const there = guest.kernel("pod").rules().map(showRule);
    return {
      rules: added.map(({ rule }) => showRule(rule)).filter((rule) => there.some((r) => Bun.deepEquals(r, rule))),
    };
  },
});

/** `RT_TABLE_COMPAT` to `RT_TABLE_LOCAL` */
const reserved: readonly number[] = [252, 253, MAIN, LOCAL];

export const tableFind = hostCall({
  name: "table_find",
  operations: creating,
  roles: [],
  doc: "Finds a routing table of the pod that no route, no rule and no VRF uses",
  request: { from: { ...tableNumber, required: true, doc: "The lowest number that is good" } },
  answer: { table: { ...tableNumber, required: true } },
  run(guest, r) {
    const kernel = guest.kernel("pod");
    const used = new Set(reserved);
    for (const { data } of kernel.links()) if (data?.table !== undefined) used.add(data.table);
    for (const { table } of kernel.rules()) used.add(table);
    for (const { table = MAIN } of kernel.routes()) used.add(table);
    let table = r.from;
    while (used.has(table)) table++;
    return { table };
  },
});

/**
 * The state of a network namespace and of given directories, as plain data that two moments can be compared by: links,
 * addresses, routes of all tables, rules, permanent neighbours, bridge VLANs, queueing disciplines, interface sysctls,
 * the nft ruleset, files. What the kernel counts or numbers (indexes, handles, counters, timers) is left out.
 */
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { parseIpJson, sh, TestNetns } from "./netns.ts";

export interface SnapshotOptions {
  /** The namespace; the caller's own when absent. */
  readonly netns?: TestNetns | string;
  /** Directories whose files belong to the snapshot. Absent ones are empty. */
  readonly files?: readonly string[];
  /** Links that a network owns and that stay after its last pod, such as bridges: left out with all that is on them. */
  readonly leaveOut?: readonly string[];
  /** Keep what forwarding changes on a node (`ip_forward` belongs to the network and stays); left out unless true. */
  readonly forwarding?: boolean;
  /** Also what links say of their kinds, in `kinds`, and what routes say beyond where they lead, in `metrics`. */
  readonly details?: boolean;
  /** Do not ask for these sections: they are empty. */
  readonly unasked?: readonly string[];
  /** Files left out, by what their path matches; the operations log and the cache unless told. */
  readonly leaveOutFiles?: readonly RegExp[];
}

/** Section, then key, then value: all strings, so that a difference reads as lines. */
export type Snapshot = Readonly<Record<string, Readonly<Record<string, string>>>>;

type Row = Record<string, unknown>;

/** The operations log and the cache: never part of an attachment. */
export const logAndCache: readonly RegExp[] = [
  /^\/run\/patchbay\/.*ops\.jsonl/,
  /^\/(run\/patchbay\/[^/]+|var\/lib\/patchbay)\/cache(\/|$)/,
];

const commands: Readonly<Record<string, string>> = {
  links: "ip -j -details link show",
  addresses: "ip -j address show",
  routes4: "ip -j -details -4 route show table all",
  routes6: "ip -j -details -6 route show table all",
  rules4: "ip -j -4 rule show",
  rules6: "ip -j -6 rule show",
  neighbours: "ip -j neighbour show nud permanent",
  proxies: "ip -j neighbour show proxy",
  vlans: "bridge -j vlan show",
  qdiscs: "tc -j qdisc show",
  nft: "nft -j list ruleset",
  sysctls: "grep -rs '' /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf /proc/sys/net/ipv4/ip_forward",
};
const divider = "----- ";
// A tool that fails (no IPv6, nothing to show) gives an empty section; its words go to the test's own output.
const script = (unasked: readonly string[]): string =>
  Object.entries(commands)
    .filter(([name]) => !unasked.includes(name))
    .map(([name, command]) => `echo '${divider}${name}'; ${command}; echo`)
    .join("\n");

export function snapshot(options: SnapshotOptions = {}): Snapshot {
  const { netns } = options;
  const path = netns instanceof TestNetns ? netns.path : netns;
  const inside = path === undefined ? [] : ["nsenter", `--net=${path}`, "--"];
  const text = sh([...inside, "sh", "-c", script(options.unasked ?? [])]);
  const raw = new Map<string, string>();
  for (const part of text.split(divider).slice(1)) {
    const end = part.indexOf("\n");
    raw.set(part.slice(0, end), part.slice(end + 1).trim());
  }
  const out = new Set(options.leaveOut);
  const rows = (name: string): Row[] => parseIpJson(raw.get(name) ?? "");
  const keep = (row: Row, ...keys: string[]): boolean => !keys.some((key) => out.has(String(row[key])));
  return {
    links: keyed(
      rows("links")
        .filter((l) => keep(l, "ifname", "master"))
        .map(linkOf),
    ),
    addresses: keyed(
      rows("addresses")
        .filter((l) => keep(l, "ifname", "master"))
        .flatMap(addressesOf),
    ),
    routes: keyed(
      ["routes4", "routes6"].flatMap((name) =>
        rows(name)
          .filter((r) => keep(r, "dev"))
          .map(
            (r): Entry => [routeKey(r), without(r, ["metrics", "cache", "expires", "used", "flags", "pref", "age"])],
          ),
      ),
    ),
    rules: keyed(
      ["rules4", "rules6"].flatMap((name) => rows(name).map((r): Entry => [`${name.at(-1)} ${r.priority}`, r])),
    ),
    neighbours: keyed(
      ["neighbours", "proxies"].flatMap((name) =>
        rows(name)
          .filter((n) => keep(n, "dev"))
          .map((n): Entry => [`${n.dev} ${n.dst}`, { lladdr: n.lladdr, proxy: name === "proxies" }]),
      ),
    ),
    vlans: keyed(
      rows("vlans")
        .filter((v) => keep(v, "ifname"))
        .map((v): Entry => [String(v.ifname), v.vlans]),
    ),
    qdiscs: keyed(
      rows("qdiscs")
        .filter((q) => keep(q, "dev") && !["noqueue", "pfifo_fast", "fq_codel", "mq"].includes(String(q.kind)))
        .map((q): Entry => [`${q.dev} ${q.parent ?? "root"}`, without(q, ["refcnt"])]),
    ),
    sysctls: keyed(sysctlsOf(raw.get("sysctls") ?? "", out, options.forwarding === true)),
    nft: keyed(nftOf(raw.get("nft") ?? "", out)),
    ...(options.details && {
      kinds: keyed(rows("links").flatMap(kindOf)),
      metrics: keyed(["routes4", "routes6"].flatMap((name) => rows(name).flatMap(metricsOf))),
    }),
    files: keyed((options.files ?? []).flatMap((top) => filesOf(top, options.leaveOutFiles ?? logAndCache))),
  };
}

type Entry = readonly [key: string, value: unknown];

/** Sorted by key; equal keys are numbered, so that two alike and one are different. */
function keyed(entries: readonly Entry[]): Record<string, string> {
  const texts = entries.map(
    ([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)] as const,
  );
  texts.sort((a, b) => (a[0] + a[1] < b[0] + b[1] ? -1 : 1));
  const all: Record<string, string> = {};
  for (const [key, value] of texts) {
    let name = key;
    for (let n = 2; name in all; n++) name = `${key} #${n}`;
    all[name] = value;
  }
  return all;
}

function without(row: Row, keys: readonly string[]): Row {
  return Object.fromEntries(
    Object.entries(row)
      .filter(([key]) => !keys.includes(key))
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** Flags that somebody set; the others follow carrier and drivers. */
const setFlags = ["UP", "PROMISC", "ALLMULTI", "NOARP"];

function linkOf(l: Row): Entry {
  const info = (l.linkinfo ?? {}) as Row;
  const flags = (l.flags as string[]).filter((flag) => setFlags.includes(flag)).sort();
  const kept = [
    "mtu",
    "address",
    "master",
    "link",
    "link_netnsid",
    "group",
    "ifalias",
    "altnames",
    "promiscuity",
    "allmulti",
    "txqlen",
  ];
  const shown = Object.fromEntries(kept.filter((key) => l[key] !== undefined).map((key) => [key, l[key]]));
  return [String(l.ifname), { kind: info.info_kind ?? l.link_type, flags: flags.join(","), ...shown }];
}

/** What somebody sets of a kind of link and of its place in a bridge; the rest counts, numbers or times. */
const set = new Set(
  (
    "mode bc_queue_len flags vlan_filtering vlan_default_pvid stp_state mcast_snooping ageing_time forward_delay state " +
    "hairpin guard root_block fastleave learning flood proxy_arp proxy_arp_wifi mcast_flood bcast_flood " +
    "mcast_to_unicast neigh_suppress isolated locked priority vlan_tunnel"
  ).split(" "),
);

function kindOf(l: Row): Entry[] {
  const info = (l.linkinfo ?? {}) as Record<string, Row | undefined>;
  const told = ["info_data", "info_slave_data"].flatMap((part) =>
    Object.entries(info[part] ?? {})
      .filter(([key]) => set.has(key))
      .map(([key, value]): Entry => [`${l.ifname} ${part} ${key}`, JSON.stringify(value)]),
  );
  return [...told, [`${l.ifname} addrgenmode`, String(l.inet6_addr_gen_mode)]];
}

const metricsOf = (r: Row): Entry[] => (r.metrics === undefined ? [] : [[routeKey(r), r.metrics]]);

function addressesOf(l: Row): Entry[] {
  const infos = (l.addr_info ?? []) as Row[];
  const passing = ["valid_life_time", "preferred_life_time", "tentative", "optimistic"];
  return infos.map((a) => [`${l.ifname} ${a.local}/${a.prefixlen}`, without(a, passing)]);
}

const routeKey = (r: Row): string => `table ${r.table ?? "main"}: ${r.type ?? "unicast"} ${r.dst} dev ${r.dev ?? "-"}`;

function sysctlsOf(text: string, out: ReadonlySet<string>, forwarding: boolean): Entry[] {
  const entries: Entry[] = [];
  for (const line of text.split("\n")) {
    const colon = line.indexOf(":");
    const key = line.slice("/proc/sys/".length, colon);
    const [, , , link = "", leaf = ""] = key.split("/");
    if (key === "" || out.has(link)) continue;
    if (!forwarding && (key.endsWith("ip_forward") || leaf.endsWith("forwarding") || leaf === "accept_redirects"))
      continue;
    entries.push([key, line.slice(colon + 1)]);
  }
  return entries;
}

/** Objects without handles and counts; rules are numbered in their chain, since their order matters. */
function nftOf(text: string, out: ReadonlySet<string>): Entry[] {
  if (text === "") return [];
  const objects = (JSON.parse(text) as { nftables: Row[] }).nftables;
  const inChain = new Map<string, number>();
  const entries: Entry[] = [];
  for (const object of objects) {
    const [kind = "", body] = Object.entries(object)[0] ?? [];
    if (kind === "metainfo" || kind === "") continue;
    const plain = JSON.parse(JSON.stringify(body), (key, value) =>
      ["handle", "packets", "bytes"].includes(key) ? undefined : value,
    );
    if ([...out].some((link) => JSON.stringify(plain).includes(JSON.stringify(link)))) continue;
    const place = `${plain.family} ${plain.table ?? ""}`;
    if (kind === "rule") {
      const chain = `${place} ${plain.chain}`;
      const number = (inChain.get(chain) ?? 0) + 1;
      inChain.set(chain, number);
      entries.push([`rule ${chain} ${number}`, plain]);
    } else entries.push([`${kind} ${place} ${plain.name ?? ""}`, plain]);
  }
  return entries;
}

const nsfsMagic = 0x6e736673;
/** One that is held under a name: it looks like a file, and cannot be read. */
const isNamespace = (path: string): boolean => path.startsWith("/run/netns/") && statfsSync(path).type === nsfsMagic;

function filesOf(top: string, leaveOut: readonly RegExp[]): Entry[] {
  const entries: Entry[] = [];
  const visit = (path: string): void => {
    if (leaveOut.some((pattern) => pattern.test(path))) return;
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return;
    const mode = (stat.mode & 0o7777).toString(8);
    if (stat.isDirectory()) {
      if (path !== top) entries.push([path, `directory ${mode}`]);
      for (const name of readdirSync(path)) visit(join(path, name));
    } else if (stat.isSymbolicLink()) entries.push([path, `link to ${readlinkSync(path)}`]);
    else if (isNamespace(path)) entries.push([path, "namespace"]);
    else if (stat.isFile()) {
      const hash = createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 12);
      entries.push([path, `file ${mode}, ${stat.size} bytes, ${hash}`]);
    } else entries.push([path, `special ${mode}`]);
  };
  visit(top);
  return entries;
}

/** What changed, a line each, `+` for new, `-` for gone; "" when nothing did. `expect(difference(a, b)).toBe("")`. */
export function difference(before: Snapshot, after: Snapshot): string {
  const lines: string[] = [];
  for (const section of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const was = before[section] ?? {};
    const is = after[section] ?? {};
    for (const key of [...new Set([...Object.keys(was), ...Object.keys(is)])].sort()) {
      if (was[key] === is[key]) continue;
      if (was[key] !== undefined) lines.push(`- ${section}: ${key}: ${was[key]}`);
      if (is[key] !== undefined) lines.push(`+ ${section}: ${key}: ${is[key]}`);
    }
  }
  return lines.join("\n");
}

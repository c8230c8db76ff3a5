/**
 * dhcp beside the reference's with its daemon: the same server, container, network and hardware address give the same
 * addresses and routes, and the server hears the same of the pod. What may differ is explained in docs/differences.md.
 */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { Dnsmasq } from "../support/dhcp.ts";
import { call, DhcpSite, macvlan } from "../support/dhcp-site.ts";
import { TestNetns } from "../support/netns.ts";
import { until } from "../support/node.ts";
import { hasPeer, type Part, peerFile } from "../support/peers.ts";
import { built, has, requires, root } from "../support/requires.ts";
import { dhcpHeadings } from "./differences.ts";

const MAC = "02:50:00:00:00:01";
const option = (text: string): string => `--dhcp-option=${text}`;

interface Story {
  readonly what: string;
  /** For dnsmasq. */
  readonly options: readonly string[];
  readonly ipam?: Document;
  /** "macvlan" unless told. */
  readonly type?: string;
  readonly newer?: true;
  /** One of its routes is on the link. */
  readonly onLink?: true;
}

const stories: readonly Story[] = [
  { what: "a router", options: [] },
  { what: "no router", options: [option("3")] },
  {
    what: "classless routes, one of them on the link",
    options: [option("121,10.9.0.0/16,192.168.50.5,169.254.169.254/32,0.0.0.0,0.0.0.0/0,192.168.50.6")],
    ipam: { request: [{ option: "121" }] },
    onLink: true,
  },
  {
    what: "routes by class, and a router",
    options: [option("33,10.0.0.0,192.168.50.5,172.16.0.0,192.168.50.6,192.168.60.0,192.168.50.7")],
    ipam: { request: [{ option: "33" }] },
  },
  { what: "a priority", options: [], ipam: { priority: 77 }, newer: true },
  {
    what: "what is provided",
    options: [],
    ipam: {
      provide: [
        { option: "host-name", value: "fixed" },
        { option: "12", fromArg: "K8S_POD_NAME" },
        { option: "vendor-class-identifier", value: "pb-test" },
      ],
    },
  },
  {
    what: "a client id of one's own",
    options: [],
    ipam: { provide: [{ option: "dhcp-client-identifier", value: "by-name" }] },
  },
  {
    what: "only what is requested",
    options: [],
    ipam: { request: [{ skipDefault: true, option: "subnet-mask" }, { option: "51" }, { option: "42" }] },
  },
  { what: "a bridge", options: [], type: "bridge" },
  { what: "name servers", options: [option("6,192.168.50.2"), "--domain=example.test"], ipam: {}, type: "bridge" },
];

interface Seen {
  readonly ips: unknown;
  readonly routes: readonly { readonly [key: string]: unknown }[];
  readonly dns: unknown;
  readonly clientId: string;
  /** What the server says of the client in its log. */
  readonly told: readonly string[];
  readonly check: number | undefined;
  readonly released: boolean;
}

async function tell(story: Story, theirs: Part | undefined): Promise<Seen> {
  using site = await DhcpSite.create({ keeper: theirs === undefined });
  const { node } = site;
  const server = site.use(
    new Dnsmasq(site.lan, [
      "--dhcp-range=192.168.50.10,192.168.50.20,255.255.255.0,2m",
      "--interface=eth0",
      ...story.options,
    ]),
  );
  await server.ready();
  const type = story.type ?? "macvlan";
  if (type === "bridge") {
    node.netns.ip("link", "add", "br1", "type", "bridge");
    node.netns.ip("link", "set", "br1", "up");
    node.netns.ip("link", "set", "up0", "master", "br1");
  }
  using daemon = new DisposableStack();
  const socket = join(node.directory, "dhcp.sock");
  let ours = { as: "patchbay" as string, env: {} };
  if (theirs !== undefined) {
    node.link("theirs", peerFile(theirs, type));
    node.link("dhcp", peerFile(theirs, "dhcp"));
    const argv = node.netns.argv(...node.inside(), join(node.bin, "dhcp"), "daemon", "-socketpath", socket);
    const child = Bun.spawn(argv, { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
    daemon.defer(() => child.kill("SIGKILL"));
    await until(() => existsSync(socket));
    ours = { as: "theirs", env: { CNI_PATH: node.bin } };
  }
  using pod = TestNetns.create("pod");
  const conf = macvlan(
    { cniVersion: "1.0.0", type, bridge: "br1", capabilities: { mac: true }, runtimeConfig: { mac: MAC } },
    { daemonSocketPath: socket, ...story.ipam },
  );
  const { result } = node.ok("ADD", call(pod, { conf, ...ours }));
  const address = result?.ips?.[0]?.address ?? "";
  const known = /(vendor class|client provides name|requested options): .*/;
  const check = node.answer("CHECK", call(pod, { conf: { ...conf, prevResult: result }, ...ours }));
  const seen = {
    ips: result?.ips?.map(({ interface: _, ...ip }) => ip),
    routes: result?.routes ?? [],
    dns: result?.dns ?? {},
    clientId: server.clientId(address.replace("/24", "")) ?? "",
    told: [...new Set(server.log.split("\n").flatMap((line) => known.exec(line)?.[0] ?? []))].sort(),
    check: check.exit,
  };
  node.ok("DEL", call(pod, { conf, ...ours }));
  await Bun.sleep(300);
  return { ...seen, released: server.leases.length === 0 };
}

const page = readFileSync(new URL("../../docs/differences.md", import.meta.url), "utf8");
const shown = new Set<keyof typeof dhcpHeadings>();

for (const part of ["reference", "debian-cni"] as const) {
  requires(
    ...root,
    built,
    ["dnsmasq", has("dnsmasq")],
    hasPeer(part),
  )(`dhcp beside ${part}`, () => {
    test.each(
      stories.filter(({ newer }) => !newer || part === "reference").map((story) => [story.what, story] as const),
    )("%s", async (_, story) => {
      const theirs = await tell(story, part);
      const ours = await tell(story, undefined);
      const same = (seen: Seen) => ({
        ips: seen.ips,
        routes: seen.routes.map(({ scope, ...route }) => ({ ...route, ...(part === "reference" && { scope }) })),
        clientId: seen.clientId,
        ...(!story.onLink && { check: seen.check }),
      });
      expect(same(ours)).toEqual(same(theirs));
      expect(ours.check).toBe(0);
      if (story.onLink && theirs.check !== 0) shown.add("onLink");
      const told = (seen: Seen): readonly string[] => seen.told.filter((line) => !line.startsWith("requested"));
      expect(told(ours)).toEqual(told(theirs));
      if (ours.told.length !== told(ours).length && ours.told.join() !== theirs.told.join()) shown.add("requested");
      expect(ours.released).toBe(true);
      if (!theirs.released) shown.add("released");
      if (JSON.stringify(ours.dns) === JSON.stringify(theirs.dns)) return;
      expect(theirs.dns).toEqual({});
      shown.add("dns");
    });
  });
}

describe("what differs", () => {
  test("is explained", () => {
    for (const key of shown) expect(page).toContain(`## ${dhcpHeadings[key]}\n`);
  });
  requires(
    ...root,
    built,
    ["dnsmasq", has("dnsmasq")],
    hasPeer("reference"),
  )("each", () => {
    test("still does", () => {
      expect([...shown].sort()).toEqual(["dns", "onLink", "released", "requested"]);
    });
  });
});

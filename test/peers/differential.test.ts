/**
 * Each built-in against the reference binary of its name, of the current release and of Debian's: the same story in twin
 * nodes, then the same answers, links, addresses, routes, sysctls, and the same packets through. What may differ is in
 * differences.ts, and explained in docs/differences.md.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pluginNames } from "../../scripts/plugins.ts";
import { pluginDirectory } from "../runtime/containerd.ts";
import { TestNetns } from "../support/netns.ts";
import { hasPeer, type Part, peer, peerFile } from "../support/peers.ts";
import { built, distBinary, requires, root } from "../support/requires.ts";
import { differences, type Told, tell } from "../support/twin.ts";
import { allowed, dhcpHeadings } from "./differences.ts";
import { bandwidthStories } from "./stories/bandwidth.ts";
import { bridgeStories } from "./stories/bridge.ts";
import type { Named } from "./stories/common.ts";
import { firewallStories } from "./stories/firewall.ts";
import { hostDeviceStories } from "./stories/host-device.ts";
import { onALinkStories } from "./stories/on-a-link.ts";
import { otherStories } from "./stories/others.ts";
import { portmapStories } from "./stories/portmap.ts";
import { sbrStories } from "./stories/routing.ts";
import { tapStories } from "./stories/tap.ts";
import { tuningStories } from "./stories/tuning.ts";

const stories: readonly Named[] = [
  ...bridgeStories,
  ...otherStories,
  ...bandwidthStories,
  ...firewallStories,
  ...portmapStories,
  ...hostDeviceStories,
  ...sbrStories,
  ...tapStories,
  ...tuningStories,
];
const told = (part: Part): Named[] => stories.filter((named) => part === "reference" || !named.newer);
const rows = (list: readonly Named[]): [string, Named][] => list.map((named) => [named.what, named]);

/** Whether bridges of this kernel filter VLANs; if not, both sides have to refuse them. */
function filtersVlans(): boolean {
  using scratch = TestNetns.create("able");
  try {
    scratch.ip("link", "add", "x0", "type", "bridge", "vlan_filtering", "1");
    return true;
  } catch {
    return false;
  }
}

requires(
  ...root,
  built,
  hasPeer("reference"),
  hasPeer("debian-cni"),
)("built-ins beside the reference plugins", () => {
  const names = [...pluginNames(), "static", "host-local"];
  const link = (what: string, plugins: Record<string, string>): string =>
    pluginDirectory(join(directory, what), plugins);
  let directory = "";
  let own = "";
  let filters = false;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), "patchbay-twin-"));
    own = link("own", Object.fromEntries(names.map((name) => [name, distBinary])));
    filters = filtersVlans();
  });
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  const shown = new Set<number>();
  const mayDiffer = (part: Part, what: string, line: string): boolean => {
    const found = allowed.flatMap((one, i) =>
      (one.only ?? part) === part && (one.stories?.test(what) ?? true) && one.line.test(line) ? [i] : [],
    );
    for (const i of found) shown.add(i);
    return found.length > 0;
  };
  const apart = (part: Part, named: Named, ours: Told): string[] => {
    const theirs = tell(named.story, [peer(part) ?? ""]);
    return differences(theirs, ours).filter((line) => !mayDiffer(part, named.what, line));
  };

  const known = new Map<string, Told>();
  const ours = (named: Named): Told => {
    const before = known.get(named.what);
    const now = before ?? tell(named.story, [own], { left: true });
    known.set(named.what, now);
    return now;
  };

  test.each(rows(told("reference")))("v1.9.1: %s", (_, named) => {
    const told = ours(named);
    const refused = named.refused === true || (named.vlan === true && !filters);
    const first = Object.entries(told.sections).find(([title]) => / ADD: answer$/.test(title));
    if (first !== undefined) expect(first[1].exit, JSON.stringify(told.words)).toBe(refused ? "failed" : "0");
    expect(told.wrong).toEqual([]);
    expect(told.left).toBe("");
    expect(apart("reference", named, told)).toEqual([]);
  });

  test.each(rows(told("debian-cni")))("Debian's: %s", (_, named) => {
    expect(apart("debian-cni", named, ours(named))).toEqual([]);
  });

  test.each(["bridge", "macvlan", "ptp"])(
    "the reference's %s works on our host-local and static as on its own",
    (type) => {
      const mixed = link(`mixed-${type}`, {
        [type]: peerFile("reference", type),
        static: distBinary,
        "host-local": distBinary,
      });
      const wanted = new RegExp(`^${type}, (two (families|pods|range sets)|the pod's namespace gone$|ADD twice)`);
      const chosen = stories.filter((named) => wanted.test(named.what));
      expect(chosen.length).toBeGreaterThan(2);
      for (const { what, story } of chosen) {
        expect([what, differences(tell(story, [peer("reference") ?? ""]), tell(story, [mixed]))]).toEqual([what, []]);
      }
    },
  );

  test("nothing of the stories is left in the state", () => {
    expect(known.size).toBe(stories.length);
    const state = ["/run/patchbay", "/var/lib/patchbay/records", "/var/lib/cni"];
    const leaveOut = ["--exclude=ops*.jsonl", "--exclude-dir=cache"];
    for (const { id } of known.values()) {
      const found = Bun.spawnSync(["find", ...state, "-name", `*${id}*`], { stderr: "ignore" }).stdout.toString();
      expect(found).toBe("");
    }
    const leases = Bun.spawnSync([
      "grep",
      "-rsl",
      ...leaveOut,
      "-e",
      [...known.values()].map((t) => t.id).join("\n"),
      ...state,
    ]);
    expect(leases.stdout.toString()).toBe("");
  });

  test("each allowed difference was seen", () => {
    expect(
      allowed.filter((one, i) => one.guest !== true && !shown.has(i)).map(({ heading, line }) => `${heading}: ${line}`),
    ).toEqual([]);
  });
});

describe("the stories", () => {
  const page = readFileSync(new URL("../../docs/differences.md", import.meta.url), "utf8");

  test.each([...new Set(allowed.map((one) => one.heading))])("docs/differences.md explains: %s", (heading) => {
    expect(page).toContain(`## ${heading}\n`);
  });

  /** From here on the page is about what no story can show. */
  const beyond = "## Beyond the stories";
  test("docs/differences.md explains no more than that", () => {
    expect(page).toContain(beyond);
    const told = page.slice(0, page.indexOf(beyond));
    const headings = [...told.matchAll(/^## (.*)$/gm)].map((match) => match[1] ?? "");
    const explained = new Set([...allowed.map((one) => one.heading), ...Object.values(dhcpHeadings)]);
    expect(headings.toSorted()).toEqual([...explained].toSorted());
  });

  // Two are not among the reference plugins; vrf is tested in test/vm alone, where the kernel has VRFs.
  const elsewhere: ReadonlySet<string> = new Set(["route-override", "sriov", "vrf"]);
  const needsCard: ReadonlySet<string> = new Set(["host-device pciBusID"]);
  test.each(pluginNames().filter((name) => !elsewhere.has(name)))("%s: each key of its schema is in one", (type) => {
    const schema = JSON.parse(readFileSync(new URL(`../../plugins-wasm/${type}/plugin.json`, import.meta.url), "utf8"))
      .schema as Record<string, unknown>;
    const used = new Set(
      [...stories, ...onALinkStories]
        .filter((named) => named.story.conf.type === type && !named.refused)
        .flatMap((named) => Object.keys(named.story.conf)),
    );
    const missing = Object.keys(schema).filter((key) => !used.has(key) && !needsCard.has(`${type} ${key}`));
    expect(missing).toEqual([]);
  });
});

/**
 * The same story told to two plugins of one name, each with a node, pods and a wire to the outside of its own, and what
 * differs afterwards: answers, links, addresses, routes, rules, neighbours, VLANs, sysctls, what packets do. What each
 * run draws anew (MACs, names, paths) is replaced by what it stands for, so that equal work reads equal.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import { type CniCommand, cni, type Document, findPlugin, type ResultDocument } from "./cni.ts";
import { nodeNetns, parseIpJson, TestNetns } from "./netns.ts";
import { difference, type Snapshot, snapshot } from "./snapshot.ts";

export interface Call {
  readonly call: CniCommand;
  /** Number of the pod, 0 unless told; each has a container id of its own. */
  readonly pod?: number;
  /** Over what the story's configuration says; undefined takes a key out, and `type` has another plugin called. */
  readonly conf?: Document;
  readonly args?: string;
  readonly ifname?: string;
  /** "" is what runtimes say of a namespace that is gone; the pod's own unless told. */
  readonly netns?: string;
  /** Over the environment that the call has. */
  readonly env?: Readonly<Record<string, string>>;
  /** What the runtime hands on; the pod's last result unless told. */
  readonly prevResult?: Document | undefined;
}

/** Something that happens to the world between two calls. */
export interface Act {
  readonly act: string;
  readonly does: (world: World) => void;
}

/** What packets do: a question whose answer is `yes` or not, the same on both sides. */
export interface Look {
  readonly look: string;
  readonly is: boolean;
  readonly see: (world: World) => boolean;
}

export type Step = CniCommand | Call | Act | Look;

export interface Story {
  /**
   * `type` names the plugin. `cniVersion` is 1.0.0 and `name` is "twin" unless given. In any text "<data>" is a
   * directory of this side alone, "<pod>" the namespace of its first pod.
   */
  readonly conf: Document & { readonly type: string };
  readonly ifname?: string;
  readonly args?: string;
  /** Before the first step. */
  readonly prepare?: (world: World) => void;
  readonly steps: readonly Step[];
  /** Links of the node that stay when the last pod is gone, or go meanwhile. */
  readonly stays?: readonly string[];
  /** Node and pods detect duplicate addresses, as the kernel has it; else not, which saves two seconds a call. */
  readonly detects?: boolean;
}

/** Addresses of links to come are taken into use without a probe, and without the kernel's random wait before it. */
function settleAtOnce(netns: TestNetns): void {
  const keys = ["dad_transmits", "router_solicitation_delay"];
  netns.run("sh", "-c", keys.map((key) => `echo 0 > /proc/sys/net/ipv6/conf/default/${key}`).join(" && "));
}

/** One side's node, pods and outside. */
export class World implements Disposable {
  readonly node = nodeNetns("twin-node");
  readonly #pods: TestNetns[] = [];
  readonly #detects: boolean;
  readonly #held: Subprocess[] = [];
  readonly #servers: Subprocess[] = [];
  #outside: TestNetns | undefined;
  readonly data = mkdtempSync(join(tmpdir(), "patchbay-twin-data-"));
  /** Begins each container id. */
  readonly id = `twin-${randomBytes(6).toString("hex")}`;

  constructor(detects = false) {
    this.#detects = detects;
    if (!detects) settleAtOnce(this.node);
  }

  /** The namespace of a pod, made when first asked for; later the same, even when it was deleted. */
  pod(number = 0): TestNetns {
    const known = this.#pods[number];
    if (known !== undefined) return known;
    const pod = TestNetns.create(`twin-pod${number}`);
    if (!this.#detects) settleAtOnce(pod);
    this.#pods[number] = pod;
    return pod;
  }

  /** A process of the pod that outlives the name of its namespace. */
  hold(number = 0): void {
    const pod = this.pod(number);
    const holder = Bun.spawn(pod.argv("sleep", "60"));
    this.#held.push(holder);
    const inside = (): boolean => statSync(`/proc/${holder.pid}/ns/net`).ino === statSync(pod.path).ino;
    for (let tries = 0; tries < 1000 && !inside(); tries++) Bun.sleepSync(5);
  }

  /** A process in a namespace of this side, until the end. */
  start(netns: TestNetns, ...command: readonly string[]): void {
    this.#servers.push(Bun.spawn(netns.argv(...command), { stdin: "ignore", stdout: "ignore", stderr: "ignore" }));
  }

  /** Deletes a pod's namespace and waits until the kernel has taken down what was in it, unless it is held. */
  lose(number = 0): void {
    const pod = this.pod(number);
    if (this.#held.length > 0) {
      pod[Symbol.dispose]();
      return;
    }
    // All links of a namespace go at once, so this one tells of the others.
    pod.ip("link", "add", "last", "type", "veth", "peer", "name", "last", "netns", this.node.name);
    pod[Symbol.dispose]();
    const there = (): boolean => this.node.ipJson("link", "show").some((link) => link.ifname === "last");
    for (let tries = 0; tries < 1000 && there(); tries++) Bun.sleepSync(20);
    if (there()) throw new Error(`${pod.name} is still there, 20 s after it was deleted`);
  }

  /** A host at the other end of the node's uplink, 192.0.2.1 and 2001:db8::1, which knows no way to any pod. */
  get outside(): TestNetns {
    if (this.#outside !== undefined) return this.#outside;
    this.#outside = TestNetns.create("twin-outside");
    this.node.ip("link", "set", "wire", "netns", this.#outside.name);
    this.#outside.ip("link", "set", "wire", "addrgenmode", "none", "up");
    this.#outside.ip("address", "add", "192.0.2.1/24", "dev", "wire");
    this.#outside.ip("address", "add", "2001:db8::1/64", "dev", "wire", "nodad");
    this.node.ip("address", "add", "2001:db8::10/64", "dev", "uplink", "nodad");
    // The kernel makes the route of an IPv6 address when it comes to it.
    const routed = (): boolean => this.node.ip("-6", "route", "show", "table", "local").includes("2001:db8::10 ");
    for (let tries = 0; tries < 1000 && !routed(); tries++) Bun.sleepSync(20);
    return this.#outside;
  }

  get namespaces(): readonly (readonly [name: string, netns: TestNetns])[] {
    return [["node", this.node], ...this.#pods.map((pod, i) => [i === 0 ? "pod" : `pod${i}`, pod] as const)];
  }

  [Symbol.dispose](): void {
    for (const process of [...this.#held, ...this.#servers]) process.kill("SIGKILL");
    for (const [, netns] of this.namespaces) netns[Symbol.dispose]();
    this.#outside?.[Symbol.dispose]();
    rmSync(this.data, { recursive: true, force: true });
  }
}

/** Whether an address answers. What is hoped for is waited for; what is feared is given half a second. */
export function answers(from: TestNetns, address: string, hoped: boolean): boolean {
  for (let tries = hoped ? 12 : 2; tries > 0; tries--) {
    const ping = from.argv("ping", "-q", "-n", "-c", "1", "-W", "0.25", address);
    if (Bun.spawnSync(ping, { stdout: "ignore", stderr: "ignore" }).exitCode === 0) return true;
    if (hoped) Bun.sleepSync(50);
  }
  return false;
}

/** Whatever one side did: sections named "<step>: …", of lines by key. */
export interface Told {
  readonly sections: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** The words of failures, by step: shown, never compared. */
  readonly words: Readonly<Record<string, string>>;
  /** What is left in the end that was not there in the beginning, but for links that stay and forwarding. */
  readonly left: string;
  /** Looks whose answer was not what the story says. */
  readonly wrong: readonly string[];
  /** What the ids of its containers begin with. */
  readonly id: string;
}

/**
 * @param path directories of CNI_PATH; the plugin is looked up there
 * @param o.left whether to look for what is left in the end, which takes a third of the time
 */
export function tell(story: Story, path: readonly string[], o: { left?: boolean } = {}): Told {
  using world = new World(story.detects);
  const pod = world.pod();
  const place = (value: Document): string =>
    JSON.stringify(value).replaceAll("<data>", world.data).replaceAll("<pod>", pod.path);
  story.prepare?.(world);
  const began = o.left === true ? tidy(world, story) : {};
  const sections: Record<string, Readonly<Record<string, string>>> = {};
  const words: Record<string, string> = {};
  const wrong: string[] = [];
  const names = new Names(JSON.stringify(story));
  names.learn(world);
  const results: (ResultDocument | undefined)[] = [];

  for (const [i, step] of story.steps.entries()) {
    if (typeof step === "object" && "act" in step) {
      step.does(world);
      continue;
    }
    if (typeof step === "object" && "look" in step) {
      const seen = step.see(world);
      sections[`${i + 1} ${step.look}`] = { seen: String(seen) };
      if (seen !== step.is) wrong.push(`${i + 1} ${step.look}: ${seen}, expected ${step.is}`);
      continue;
    }
    const call: Call = typeof step === "string" ? { call: step } : step;
    const number = call.pod ?? 0;
    const title = `${i + 1} ${call.call}${number > 0 ? ` of pod ${number}` : ""}`;
    const prevResult = "prevResult" in call ? call.prevResult : results[number];
    const attached = !["STATUS", "VERSION", "GC"].includes(call.call);
    const args = call.args ?? story.args;
    const answer = cni({
      plugin: findPlugin(String(call.conf?.type ?? story.conf.type), path),
      command: call.call,
      path,
      node: world.node,
      ...(attached && {
        netns: call.netns ?? world.pod(number).path,
        containerId: `${world.id}-pod${number}`,
        ifname: call.ifname ?? story.ifname ?? "eth0",
      }),
      stdin: place({
        cniVersion: "1.0.0",
        name: "twin",
        ...story.conf,
        ...call.conf,
        ...(prevResult !== undefined && attached && { prevResult }),
      }),
      ...(args !== undefined && { args }),
      ...(call.env !== undefined && { env: call.env }),
    });
    if (call.call === "ADD" && answer.exit === 0) results[number] = answer.result;
    if (call.call === "ADD") names.learn(world);
    sections[`${title}: answer`] = {
      exit: answer.signal ?? (answer.exit === 0 ? "0" : "failed"),
      ...(answer.exit === 0 && call.call !== "VERSION" ? members(answer.result, names) : {}),
    };
    if (call.call === "VERSION") sections[`${title}: versions`] = versions(answer.result);
    if (answer.exit !== 0) words[title] = `${answer.stdout}${answer.stderr}`;
    // What a failed ADD leaves is for the DEL that must follow it; what a second DEL does, `left` shows.
    const again = call.call === "DEL" && `${i} DEL: answer` in sections;
    if ((call.call === "ADD" && answer.exit === 0) || (call.call === "DEL" && !again)) {
      for (const [name, netns] of world.namespaces) {
        if (!netns.exists) continue;
        for (const [section, rows] of Object.entries(comparable(netns, names))) {
          sections[`${title}: ${name} ${section}`] = rows;
        }
      }
    }
  }
  const left = o.left === true ? difference(ofLiving(began, world), tidy(world, story)) : "";
  return { sections, words, left, wrong, id: world.id };
}

/**
 * What forwarding brings, the frame in nft that each pod's own rules hang in, and the address that the kernel gave the
 * loopback interface when it came up: all of that stays.
 */
const standing =
  /^routes: table local: anycast |^addresses: lo 127\.0\.0\.1\/8|^routes: table local: .*\bdev lo\b|^nft: (table (inet|bridge) {2}patchbay|(chain|rule) inet patchbay postrouting|(chain|rule) inet patchbay (isolation|deny)|map inet patchbay (masq[46]|isofrom|isoto)|(chain|rule) bridge patchbay prerouting|map bridge patchbay macs|table inet {2}patchbay_ports|map inet patchbay_ports (ports|hostips)[46]|(chain|rule) inet patchbay_ports (prerouting|output|hostports|hostips|loopback-guard|masquerade-\d+))\b/;

/** What must be as before when all is done: on the node, and in the first pod while it exists. */
function tidy(world: World, story: Story): Snapshot {
  const all: Record<string, Readonly<Record<string, string>>> = {};
  for (const [name, netns] of world.namespaces) {
    if (name !== "node" && (name !== "pod" || !netns.exists)) continue;
    for (const [section, rows] of Object.entries(snapshot({ netns, leaveOut: story.stays ?? [] }))) {
      const kept = Object.entries(rows).filter(([key]) => !standing.test(`${section}: ${key}`) && !passing.test(key));
      all[`${name} ${section}`] = Object.fromEntries(kept);
    }
  }
  return ofLiving(all, world);
}

/** Without the pod, when it has gone. */
function ofLiving(seen: Snapshot, world: World): Snapshot {
  if (world.pod().exists) return seen;
  return Object.fromEntries(Object.entries(seen).filter(([section]) => section.startsWith("node ")));
}

/** What differs between two sides, a line each: `-` the first, `+` the second; "" when nothing does. */
export function differences(first: Told, second: Told): string[] {
  const steps = Object.keys(first.sections).filter((title) => title.endsWith(": answer"));
  const lines: string[] = [];
  const left: Record<string, Readonly<Record<string, string>>> = { ...first.sections };
  const right: Record<string, Readonly<Record<string, string>>> = { ...second.sections };
  for (const title of steps) {
    const [a, b] = [left[title]?.exit, right[title]?.exit];
    if (a === b) continue;
    const step = title.slice(0, -": answer".length);
    lines.push(`${title}: exit: ${a} beside ${b} (${[first.words[step], second.words[step]].join("").trim()})`);
    // Where one fails and the other does not, what they answered or left says nothing more.
    for (const side of [left, right]) {
      for (const section of Object.keys(side)) if (section.startsWith(`${step}: `)) delete side[section];
    }
  }
  const rest = difference(left, right);
  return [...lines, ...(rest === "" ? [] : rest.split("\n"))];
}

function members(result: ResultDocument | undefined, names: Names): Record<string, string> {
  const entries = Object.entries(sorted(result ?? {}) as Document);
  return Object.fromEntries(entries.map(([key, value]) => [key, names.replace(JSON.stringify(value))]));
}

function versions(result: ResultDocument | undefined): Record<string, string> {
  return { supported: JSON.stringify(result?.supportedVersions) };
}

/** Objects with their keys in order; an empty list or object reads as absent, as Go's omitempty has it. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(
    ([, v]) => !(typeof v === "object" && v !== null && Object.keys(v).length === 0),
  );
  return Object.fromEntries(entries.map(([k, v]) => [k, sorted(v)] as const).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Link-local and multicast entries follow the MAC and come seconds later; aliases and peer ids are nobody's contract. */
const passing = /\bfe80:|\bff00::|\bmulticast\b/;

function comparable(netns: TestNetns, names: Names): Record<string, Record<string, string>> {
  const result: Record<string, Record<string, string>> = {};
  // Each has its own nft rules; what they do is for looks to see.
  const taken = snapshot({ netns, forwarding: true, details: true, unasked: ["nft"] });
  for (const [section, rows] of Object.entries(taken)) {
    const kept: Record<string, string> = {};
    for (const [key, value] of Object.entries(rows)) {
      if (["routes", "addresses", "metrics"].includes(section) && passing.test(key)) continue;
      if (section !== "links") kept[names.replace(key)] = names.replace(value);
      else for (const [k, v] of linkRows(key, value)) kept[names.replace(k)] = names.replace(v);
    }
    result[section] = kept;
  }
  return result;
}

/** A row a member, so that an allowed difference of one does not hide another. */
function linkRows(name: string, json: string): (readonly [string, string])[] {
  const link: Record<string, unknown> = JSON.parse(json);
  const own = link.kind === "bridge" ? { ...link, address: "<mac of the node>" } : link;
  return Object.entries(own)
    .filter(([key]) => key !== "ifalias" && key !== "link_netnsid")
    .map(([key, value]) => [`${name} ${key}`, String(value)]);
}

/** What each run draws anew, and the word that stands for it. Names stay known after the link is gone. */
class Names {
  readonly #words = new Map<string, string>();
  readonly #asked: string;

  /** @param asked the input: a MAC that is in it was not drawn. */
  constructor(asked: string) {
    this.#asked = asked;
  }

  learn(world: World): void {
    this.#words.set(world.data, "<data>");
    for (const [where, netns] of world.namespaces) {
      this.#words.set(netns.path.replace("/run/", "/var/run/"), `<${where}>`).set(netns.path, `<${where}>`);
      if (!netns.exists) continue;
      for (const link of parseIpJson(netns.run("ip", "-j", "link", "show"))) {
        const name = String(link.ifname);
        const drawn = /^veth[0-9a-f]{8,}$/.test(name);
        if (/^(bwp|pbl)[0-9a-f]{12}$/.test(name)) this.#words.set(name, "<queue>");
        if (drawn) this.#words.set(name, `<veth of ${link.master ?? "nothing"}>`);
        const mac = String(link.address);
        // A bridge may have its own or that of a port.
        if (mac !== "00:00:00:00:00:00" && !this.#asked.includes(mac)) this.#words.set(mac, `<mac of the ${where}>`);
      }
    }
  }

  replace(text: string): string {
    let plain = text;
    for (const [drawn, word] of this.#words) plain = plain.replaceAll(drawn, word);
    return plain;
  }
}

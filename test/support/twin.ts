/**
 * The same input to two plugins of one name, each with a node and a pod of its own, and what differs afterwards: answers,
 * links, addresses, routes, rules, neighbours, VLANs, sysctls, nft. What each run draws anew (MACs, host end names,
 * paths) is replaced by what it stands for, so that equal work reads equal.
 */
import { type CniAnswer, type CniCommand, cni, type Document, findPlugin, type ResultDocument } from "./cni.ts";
import { nodeNetns, parseIpJson, TestNetns } from "./netns.ts";
import { difference, type Snapshot, snapshot } from "./snapshot.ts";

export interface Side {
  /** Directories of CNI_PATH; the plugin is looked up there. */
  readonly path: readonly string[];
}

export interface Case {
  /** `type` names the plugin. `cniVersion` is 1.0.0 and `name` is "twin" unless given. */
  readonly conf: Document & { readonly type: string };
  readonly ifname?: string;
  readonly args?: string;
  /** Before the first command, on both sides. */
  readonly prepare?: (node: TestNetns, pod: TestNetns) => void;
  /** Commands in order; after each one both namespaces are looked at. ADD, CHECK, DEL, DEL unless told. */
  readonly commands?: readonly CniCommand[];
  /** While the pod is attached, after ADD: its result is compared as the answers are. */
  readonly probe?: (node: TestNetns, pod: TestNetns) => string;
  /** Differences that are allowed: lines that match are dropped. Name the reason beside each. */
  readonly allow?: readonly RegExp[];
  /** Members of a link that are not compared. */
  readonly ignore?: readonly string[];
}

/** Whatever one side did, as a snapshot whose sections are "<command number> <command>: …". */
type Observation = Record<string, Record<string, string>>;

/** What differs between the two, a line each: `-` the first side, `+` the second; "" when nothing does. */
export function twin(first: Side, second: Side, given: Case): string {
  const [a, b] = [observe(first, given), observe(second, given)];
  // Where one fails and the other does not, what they left says nothing more.
  const answers = Object.keys(a).filter((title) => title.endsWith(": answer"));
  const apart = answers.find((title) => a[title]?.exit !== b[title]?.exit);
  if (apart !== undefined) return `${apart}: ${JSON.stringify(a[apart])} beside ${JSON.stringify(b[apart])}`;
  // What a failed ADD leaves is for the DEL that must follow it.
  const failed = answers.find((title) => a[title]?.exit !== "0");
  if (failed !== undefined && given.commands?.length === 1) return "";
  for (const title of answers) for (const side of [a, b]) delete side[title]?.[said];
  const lines = difference(a, b).split("\n");
  return lines.filter((line) => !given.allow?.some((pattern) => pattern.test(line))).join("\n");
}

function observe(side: Side, given: Case): Observation {
  using node = nodeNetns("twin-node");
  using pod = TestNetns.create("twin-pod");
  given.prepare?.(node, pod);
  const observation: Observation = {};
  const conf = { cniVersion: "1.0.0", name: "twin", ...given.conf };
  let prevResult: ResultDocument | undefined;
  const names = new Names(JSON.stringify([conf, given.args]));
  for (const [i, command] of (given.commands ?? (["ADD", "CHECK", "DEL", "DEL"] as const)).entries()) {
    const answer = cni({
      plugin: findPlugin(given.conf.type, side.path),
      command,
      path: side.path,
      node,
      netns: pod,
      containerId: "twin",
      ifname: given.ifname ?? "eth0",
      stdin: { ...conf, ...(prevResult !== undefined && { prevResult }) },
      ...(given.args !== undefined && { args: given.args }),
    });
    if (command === "ADD") prevResult = answer.result;
    if (command === "DEL") prevResult = undefined;
    names.learn(node, pod);
    const title = `${i + 1} ${command}`;
    observation[`${title}: answer`] = describeAnswer(answer, names);
    if (command === "ADD" && answer.exit === 0 && given.probe)
      observation[`${title}: probe`] = { probe: given.probe(node, pod) };
    for (const [where, netns] of [
      ["node", node],
      ["pod", pod],
    ] as const) {
      for (const [section, rows] of Object.entries(
        comparable(snapshot({ netns, forwarding: true }), names, given.ignore ?? []),
      )) {
        observation[`${title}: ${where} ${section}`] = rows;
      }
    }
  }
  return observation;
}

/** The words of a failure: shown when the other side did not fail, never compared. */
const said = "said";

function describeAnswer(answer: CniAnswer, names: Names): Record<string, string> {
  const exit = answer.signal ?? String(answer.exit);
  if (answer.exit !== 0) return { exit, [said]: `${answer.stdout}${answer.stderr}` };
  const members = Object.entries(sorted(answer.result ?? {}) as Document).map(([key, value]) => [
    key,
    names.replace(JSON.stringify(value)),
  ]);
  return { exit, ...Object.fromEntries(members) };
}

/** Objects with their keys in order; an empty list or object reads as absent, as Go's omitempty has it. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const members = Object.entries(value).filter(
    ([, v]) => !(typeof v === "object" && v !== null && Object.keys(v).length === 0),
  );
  return Object.fromEntries(members.map(([k, v]) => [k, sorted(v)] as const).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** Link-local and multicast entries follow the MAC and come seconds later; aliases and peer ids are nobody's contract. */
function comparable(taken: Snapshot, names: Names, ignore: readonly string[]): Record<string, Record<string, string>> {
  const passing = /\bfe80:|\bff00::|\bmulticast\b/;
  const result: Record<string, Record<string, string>> = {};
  for (const [section, rows] of Object.entries(taken)) {
    const kept: Record<string, string> = {};
    for (const [key, value] of Object.entries(rows)) {
      if ((section === "routes" || section === "addresses") && passing.test(key)) continue;
      const plain = section === "links" ? withoutMembers(value, ["ifalias", "link_netnsid", ...ignore]) : value;
      kept[names.replace(key)] = names.replace(plain);
    }
    result[section] = kept;
  }
  return result;
}

function withoutMembers(json: string, members: readonly string[]): string {
  const value: Record<string, unknown> = JSON.parse(json);
  for (const member of members) delete value[member];
  return JSON.stringify(value);
}

/** What each run draws anew, and the word that stands for it. Names stay known after the link is gone. */
class Names {
  readonly #words = new Map<string, string>();
  readonly #asked: string;

  /** @param asked the input: a MAC that is in it was not drawn. */
  constructor(asked: string) {
    this.#asked = asked;
  }

  learn(node: TestNetns, pod: TestNetns): void {
    this.#words.set(pod.path, "<pod>").set(node.path, "<node>");
    this.#words.set(pod.path.replace("/run/", "/var/run/"), "<pod>");
    for (const [where, netns] of [
      ["node", node],
      ["pod", pod],
    ] as const) {
      for (const link of parseIpJson(netns.run("ip", "-j", "link", "show"))) {
        const name = String(link.ifname);
        const drawn = /^veth[0-9a-f]{8,}$/.test(name);
        const word = drawn ? `<veth of ${link.master ?? "nothing"}>` : name;
        if (drawn) this.#words.set(name, word);
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

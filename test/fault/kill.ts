/** One kill and what must be true after it: one DEL takes everything back, a second one has nothing to do. */
import { join } from "node:path";
import { TestNetns } from "../support/netns.ts";
import { difference, type Snapshot } from "../support/snapshot.ts";
import { type FaultNode, gateways, podSnapshot, RUN } from "./pod.ts";
import { type Call, isWait, type Point, readTrace, straceArgv } from "./strace.ts";

export type Victim = "ADD" | "DEL";
/** What becomes of the pod's namespace between the kill and the DEL. */
export type Fate = "held" | "deleted";

export interface Shot {
  readonly victim: Victim;
  readonly point: Point;
  readonly fate: Fate;
  /** How long a program that we started runs on without us before the DEL comes. */
  readonly pauseMs?: number;
  /** The DEL is killed too, at this call if it comes by it; the one after that is the DEL that counts. */
  readonly again?: Call;
}

export function nameOf({ victim, point, fate, pauseMs, again }: Shot): string {
  const twice = again === undefined ? "" : `, DEL killed at ${again.kind} ${again.nth}`;
  const pause = pauseMs === undefined ? "" : ` and left for ${pauseMs} ms`;
  return `${victim} killed at ${point.kind} ${point.nth}${pause}, namespace ${fate}${twice}`;
}

const fates: readonly Fate[] = ["held", "deleted"];
const pausesMs: readonly number[] = [0, 4, 9, 15, 25, 60];

/** Every point of an undisturbed run, with both fates; where it waits for a program, with each pause too. */
export function shotsAt(calls: Record<Victim, readonly Call[]>): Shot[] {
  return (["ADD", "DEL"] as const).flatMap((victim) =>
    calls[victim].flatMap((point): Shot[] =>
      fates.flatMap((fate): Shot[] => {
        const shot = { victim, point: { kind: point.kind, nth: point.nth }, fate };
        if (!isWait(point.kind)) return [shot];
        // How often it wakes up while the program runs is chance; once it does surely.
        return point.nth === 1 ? pausesMs.map((pauseMs) => ({ ...shot, pauseMs })) : [];
      }),
    ),
  );
}

/** How often a point is tried for that a run did not come by: the runtime's own calls move the count. */
const TRIES = 12;
/** A namespace that nobody holds any more goes in the background, and its links with it. */
const BACKGROUND_MS = 5_000;

/** What is there before the ADD, and so after the DEL. */
export interface Expected {
  readonly node: Snapshot;
  readonly pod: Snapshot;
  /** Also allowed on the node: what the first attachment ever leaves there. `node` is then the state before it. */
  readonly warm?: Snapshot;
}

export interface Scene {
  readonly node: FaultNode;
  readonly expected: Expected;
}

export interface Outcome {
  readonly reached: boolean;
  /** What was wrong. Where `reached` is false the kill was elsewhere, and all the rest must be right all the same. */
  readonly faults: readonly string[];
}

/** The calls of an undisturbed ADD and DEL. @throws {Error} when one of them fails */
export function discover(node: FaultNode, directory: string): Record<Victim, readonly Call[]> {
  using pod = TestNetns.create("discover");
  const trace = (victim: Victim): readonly Call[] => {
    const file = join(directory, `${victim}.trace`);
    const under = straceArgv(file);
    const answer = victim === "ADD" ? node.add(pod, under) : node.del(pod, under);
    if (answer.exit !== 0) throw new Error(`${victim}: ${answer.stdout} ${answer.stderr}`);
    return readTrace(file, RUN).calls;
  };
  return { ADD: trace("ADD"), DEL: trace("DEL") };
}

/** An ADD and a DEL in peace, after which the node has what belongs to its networks. */
export function warmUp(node: FaultNode): void {
  using pod = TestNetns.create("warm");
  for (const answer of [node.add(pod), node.del(pod)]) {
    if (answer.exit !== 0) throw new Error(`${answer.stdout} ${answer.stderr}`);
  }
}

export function expectedOn(node: FaultNode): Expected {
  using pod = TestNetns.create("untouched");
  return { node: node.snapshot(), pod: podSnapshot(pod) };
}

/**
 * @param calls Of an undisturbed run of the victim.
 * @param setUp Makes, or gives again, the node of one try. One that missed leaves it clean as any other.
 */
export function shoot(shot: Shot, calls: readonly Call[], directory: string, setUp: () => Scene): Outcome {
  const { kind, nth } = shot.point;
  const file = join(directory, "kill.trace");
  const faults: string[] = [];
  let when = calls.find((call) => call.kind === kind && call.nth === nth)?.when ?? 1;
  for (let attempt = 0; attempt < TRIES; attempt++) {
    faults.push(...fire(shot, when, file, setUp()));
    const { calls: seen, killedAt } = readTrace(file, RUN);
    const last = seen.at(-1);
    const hit = killedAt !== undefined && last?.text === killedAt && last.kind === kind && last.nth === nth;
    if (hit) return { reached: true, faults };
    // Too late: it is in this trace, and counted. Too early: by as many calls as the runtime made this time only.
    when = seen.find((call) => call.kind === kind && call.nth === nth)?.when ?? when + 1;
  }
  return { reached: false, faults };
}

function fire(shot: Shot, when: number, file: string, { node, expected }: Scene): string[] {
  const faults: string[] = [];
  const { fate, point, again } = shot;
  using pod = TestNetns.create("pod");
  const kill = straceArgv(file, { kind: point.kind, when });
  if (shot.victim === "ADD") node.add(pod, kill);
  else {
    const added = node.add(pod);
    if (added.exit !== 0) faults.push(`ADD before it: ${added.stdout}`);
    node.del(pod, kill);
  }
  if (shot.pauseMs !== undefined) Bun.sleepSync(shot.pauseMs);
  if (fate === "deleted") pod[Symbol.dispose]();
  const left = fate === "held" ? pod : undefined;
  if (again !== undefined) node.del(left, straceArgv(`${file}.again`, again));
  const deleted = node.del(left);
  if (deleted.exit !== 0 || deleted.stdout !== "") faults.push(`DEL: exit ${deleted.exit}: ${deleted.stdout}`);
  const leftovers = settle(node, expected, fate === "held" ? 0 : BACKGROUND_MS);
  if (leftovers !== "") faults.push(leftovers);
  if (left !== undefined) {
    const inPod = difference(expected.pod, podSnapshot(left));
    if (inPod !== "") faults.push(`in the pod: ${inPod}`);
  }
  const second = node.del(left);
  const silent = second.exit === 0 && second.stdout === "" && second.stderr === "";
  if (!silent) faults.push(`second DEL: exit ${second.exit}: ${second.stdout} ${second.stderr}`);
  if (expected.warm !== undefined) faults.push(...nextPod(node, expected.warm));
  return faults;
}

/** Nothing half-made of the networks' own stops the next pod, and it completes what is missing. */
function nextPod(node: FaultNode, warm: Snapshot): string[] {
  using pod = TestNetns.create("next");
  const added = node.add(pod);
  if (added.exit !== 0) return [`the next ADD: ${added.stdout}`];
  const silent = gateways.filter((gateway) => !answers(pod, gateway)).map((gateway) => `no answer of ${gateway}`);
  const deleted = node.del(pod);
  const left = difference(warm, node.snapshot());
  return [
    ...silent,
    ...(deleted.exit === 0 ? [] : [`the next DEL: ${deleted.stdout}`]),
    ...(left === "" ? [] : [left]),
  ];
}

const answers = (pod: TestNetns, address: string): boolean =>
  Bun.spawnSync(pod.argv("ping", "-q", "-n", "-c", "1", "-W", "2", address)).exitCode === 0;

/** What differs on the node from what may be there, at the latest after `withinMs`. */
function settle(node: FaultNode, expected: Expected, withinMs: number): string {
  const until = performance.now() + withinMs;
  for (;;) {
    const left = leftOn(node.snapshot(), expected);
    if (left === "" || performance.now() >= until) return left;
    Bun.sleepSync(20);
  }
}

function leftOn(now: Snapshot, { node, warm }: Expected): string {
  const lines = difference(node, now);
  if (warm === undefined || lines === "") return lines;
  const allowed = new Set(difference(node, warm).split("\n"));
  return lines
    .split("\n")
    .filter((line) => !allowed.has(line))
    .join("\n");
}

/** What the files of kill tests share: which points a run takes, and the kills at them. */
import { afterAll, beforeAll, expect } from "bun:test";
import { copyFileSync, existsSync, mkdtempSync, rmSync } from "node:fs";
import type { Card } from "../support/card.ts";
import { distBinary, long } from "../support/requires.ts";
import { discover, expectedOn, nameOf, type Scene, type Shot, shoot, shotsAt, type Victim, warmUp } from "./kill.ts";
import { FaultNode, type Kind } from "./pod.ts";
import type { Call } from "./strace.ts";

export const TIMEOUT_MS = long ? 3_600_000 : 600_000;

/** Which share of the points a run takes: by the commit, or as told. */
export function shard(): number {
  const told = process.env.PATCHBAY_SHARD;
  if (told !== undefined) return Number(told);
  const head = Bun.spawnSync(["git", "-C", import.meta.dir, "rev-parse", "HEAD"], { stderr: "ignore" });
  return Number.parseInt(head.stdout.toString().slice(0, 8), 16) || 0;
}

export const directory = mkdtempSync("/tmp/pbt-fault-traces-");
/** A copy: a build in the middle of the suite would move the points. */
export const program = `${directory}/patchbay`;
beforeAll(() => {
  if (existsSync(distBinary)) copyFileSync(distBinary, program);
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** The same points each time, by place in their list: both fates of a point, and its pauses, are in one share. */
export function share(shots: readonly Shot[], shares: number, number: number): Shot[] {
  if (long) return [...shots];
  const points = pointsOf(shots);
  const mine = new Set(points.filter((_, i) => i % shares === number % shares));
  return shots.filter((shot) => mine.has(pointOf(shot)));
}

const pointOf = ({ victim, point }: Shot): string => `${victim} ${point.kind} ${point.nth}`;
export const pointsOf = (shots: readonly Shot[]): readonly string[] => [...new Set(shots.map(pointOf))];

export type Calls = Record<Victim, readonly Call[]>;

function warmScene(kind: Kind, card: Card | undefined): Scene {
  const node = new FaultNode(program, kind, card);
  warmUp(node);
  return { node, expected: expectedOn(node) };
}

/** @returns What was wrong, "" when nothing was. */
export function shootAll(shots: readonly Shot[], calls: Calls, setUp: () => Scene, afterFault: () => void): string {
  const lines: string[] = [];
  for (const shot of shots) {
    const { reached, faults } = shoot(shot, calls[shot.victim], directory, setUp);
    if (!reached) lines.push(`${nameOf(shot)}: never reached`);
    if (faults.length === 0) continue;
    const call = calls[shot.victim].find(({ kind, nth }) => kind === shot.point.kind && nth === shot.point.nth);
    lines.push(`${nameOf(shot)}: ${call?.text.slice(0, 160)}`, ...faults.map((fault) => `  ${fault}`));
    afterFault();
  }
  return lines.join("\n");
}

/** On one node where the networks are known. @param card For `cards`. */
export function shootWarm(
  kind: Kind,
  choose: (all: readonly Shot[], calls: Calls) => readonly Shot[],
  card?: Card,
): readonly Shot[] {
  let scene = warmScene(kind, card);
  try {
    const calls = discover(scene.node, directory);
    const shots = choose(shotsAt(calls), calls);
    const renew = (): void => {
      scene.node[Symbol.dispose]();
      scene = warmScene(kind, card);
    };
    expect(shootAll(shots, calls, () => scene, renew)).toBe("");
    return shots;
  } finally {
    scene.node[Symbol.dispose]();
  }
}

/** For people, what was tried. */
export const told = (shots: readonly Shot[], number: number): string =>
  `${shots.length} kills at ${pointsOf(shots).length} points, share ${number}`;

/**
 * Gates for suites that need more than a checkout. A suite whose need is not met is skipped, and `npm test` prints the
 * reason; as root such a skip fails the run unless `test/allowed-skips` names it.
 */
import { describe } from "bun:test";
import { existsSync } from "node:fs";

/** What is missing, as it reads after "needs", and whether it is here. */
export type Need = readonly [reason: string, ok: boolean];

type Suite = (name: string, body: () => void) => void;

/**
 * `describe` when all needs are met. Otherwise its tests are skipped, with the first missing thing in their name.
 * @example requires("nft", has("nft"))("masquerade", () => { ... })
 */
export function requires(reason: string, ok: boolean, ...more: readonly Need[]): Suite {
  const missing = ([[reason, ok], ...more] as const).find((need) => !need[1]);
  if (missing === undefined) return (name, body) => describe(name, body);
  return (name, body) => describe.skip(`${name} [needs ${missing[0]}]`, body);
}

/** Whether PATH has a command. */
export const has = (command: string): boolean => Bun.which(command) !== null;

export const root: Need = ["root", process.getuid?.() === 0];

/** The compiled program, `npm run build`. */
export const distBinary = new URL("../../dist/patchbay", import.meta.url).pathname;
export const built: Need = ["dist/patchbay (npm run build)", existsSync(distBinary)];

/** True in `npm run test:long`: suites then run whole, else the part of them that a commit can wait for. */
export const long = process.env.PATCHBAY_LONG === "1";
export const longRun: Need = ["a long run (npm run test:long)", long];

/** For files of `test/vm`, which run in a machine of their own: see "A machine of its own" in docs/testing.md. */
import { release } from "node:os";
import type { Need } from "./requires.ts";

export const guestMachine: Need = ["the guest of test/vm", process.env.PATCHBAY_GUEST === "1"];

/** Whether this is the oldest kernel tested, Debian 12's own; the other guest has the one of its backports. */
export const oldestKernel = release().startsWith("6.1.");

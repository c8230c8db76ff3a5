/** Built-ins whose links not every kernel has, each beside the reference plugin of its name: see test/peers. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allowed } from "../peers/differences.ts";
import { onALinkStories } from "../peers/stories/on-a-link.ts";
import { pluginDirectory } from "../runtime/containerd.ts";
import { guestMachine, oldestKernel } from "../support/guest-machine.ts";
import { hasPeer, peer } from "../support/peers.ts";
import { built, distBinary, requires } from "../support/requires.ts";
import { differences, tell } from "../support/twin.ts";

const names = ["vlan", "ipvlan", "dummy", "host-local", "static"];

// Slow, and nothing in it depends on the kernel's age.
if (!guestMachine[1] || !oldestKernel) {
  requires(
    ...guestMachine,
    built,
    hasPeer("reference"),
  )("built-ins beside the reference plugins", () => {
    let directory = "";
    const shown = new Set<number>();
    beforeAll(() => {
      directory = mkdtempSync(join(tmpdir(), "patchbay-twin-"));
      pluginDirectory(directory, Object.fromEntries(names.map((name) => [name, distBinary])));
    });
    afterAll(() => rmSync(directory, { recursive: true, force: true }));

    test.each(onALinkStories.map((named) => [named.what, named] as const))(
      "%s",
      (what, { story, refused }) => {
        const ours = tell(story, [directory], { left: true });
        const first = Object.entries(ours.sections).find(([title]) => / ADD: answer$/.test(title));
        expect(first?.[1].exit, JSON.stringify(ours.words)).toBe(refused ? "failed" : "0");
        expect(ours.wrong).toEqual([]);
        expect(ours.left).toBe("");
        const lines = differences(tell(story, [peer("reference") ?? ""]), ours);
        const unexpected = lines.filter((line) => {
          const found = allowed.flatMap((one, i) =>
            (one.stories?.test(what) ?? true) && one.line.test(line) ? [i] : [],
          );
          for (const i of found) shown.add(i);
          return found.length === 0;
        });
        expect(unexpected).toEqual([]);
      },
      180_000,
    );

    test("each allowed difference was seen", () => {
      const unseen = allowed.filter((one, i) => one.guest === true && !shown.has(i));
      expect(unseen.map(({ heading, line }) => `${heading}: ${line}`)).toEqual([]);
    });
  });
}

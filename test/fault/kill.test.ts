/**
 * `kill -9` at every call of ADD and of DEL that can change something outside the process. Each run takes a share of
 * the points, by the commit; PATCHBAY_SHARD=n chooses another, `npm run test:long` takes all.
 */
import { describe, expect, test } from "bun:test";
import { hasPeer } from "../support/peers.ts";
import { built, has, long, requires, root } from "../support/requires.ts";
import { difference } from "../support/snapshot.ts";
import { discover, expectedOn, type Scene, type Shot, shotsAt, warmUp } from "./kill.ts";
import { FaultNode } from "./pod.ts";
import { isWait } from "./strace.ts";
import { directory, pointsOf, program, shard, share, shootAll, shootWarm, TIMEOUT_MS, told } from "./suite.ts";

/** A commit's test takes one point of so many, over both kinds of pod; of the kills on a new node one of more. */
const SHARES = 5;
const NEW_NODE_SHARES = 40;
const TWICE = long ? 120 : 8;

/** A number below `below`, the same for the same commit. */
function chosen(seed: number, i: number, below: number): number {
  return Number(Bun.hash.crc32(`${seed} ${i}`)) % below;
}

requires(
  ...root,
  built,
  hasPeer("debian-cni"),
  ["strace", has("strace")],
  ["a node of its own (scripts/in-node.sh)", process.env.PATCHBAY_NODE === "1"],
)("killed at any call", () => {
  const number = shard();

  describe("one DEL leaves nothing", () => {
    test.each([
      ["reference", 0],
      ["ours", 1],
    ] as const)(
      "of a pod whose CNI binary leases from the %s host-local",
      (ipam, half) => {
        const shots = shootWarm(ipam, (all) => {
          expect(pointsOf(all).length, "points in all").toBeGreaterThanOrEqual(100);
          return share(all, 2 * SHARES, 2 * number + half);
        });
        console.log(told(shots, number));
      },
      TIMEOUT_MS,
    );

    test(
      "of a pod whose networks are chains of built-ins",
      () => {
        const shots = shootWarm("chains", (all) => {
          expect(pointsOf(all).length, "points in all").toBeGreaterThanOrEqual(100);
          return share(all, 3 * SHARES, number);
        });
        console.log(told(shots, number));
      },
      TIMEOUT_MS,
    );

    test(
      "when the DEL was killed too",
      () => {
        shootWarm("ours", (all, calls) =>
          Array.from({ length: TWICE }, (_, i): Shot => {
            const first = all[chosen(number, 2 * i, all.length)];
            const again = calls.DEL[chosen(number, 2 * i + 1, calls.DEL.length)];
            if (first === undefined || again === undefined) throw new Error("nothing to choose from");
            return { ...first, again };
          }),
        );
      },
      TIMEOUT_MS,
    );

    test(
      "when it ends a program that outlived its ADD, and is killed at that",
      () => {
        shootWarm("ours", (all) => {
          const waits = all
            .filter(({ victim, point }) => victim === "ADD" && isWait(point.kind))
            .filter(({ pauseMs }) => long || pauseMs === 0 || pauseMs === 9);
          expect(waits).not.toBeEmpty();
          // Not in the trace of an undisturbed DEL: is it still there, SIGTERM, is it still there.
          return waits.flatMap((shot) =>
            [1, 2, 3].map((when): Shot => ({ ...shot, again: { kind: "kill", nth: when, when, text: "" } })),
          );
        });
      },
      TIMEOUT_MS,
    );
  });

  describe("on a node where the networks are new", () => {
    test("an ADD and a DEL leave what belongs to the networks", () => {
      using node = new FaultNode(program, "ours");
      const before = node.snapshot();
      warmUp(node);
      const left = difference(before, node.snapshot()).split("\n");
      expect(left.map((line) => line.replace(/^(. \w+: .*?): .*/, "$1"))).toEqual([
        "+ nft: chain bridge patchbay prerouting",
        "+ nft: chain inet patchbay postrouting",
        "+ nft: map bridge patchbay macs",
        "+ nft: map inet patchbay masq4",
        "+ nft: map inet patchbay masq6",
        "+ nft: rule bridge patchbay prerouting 1",
        "+ nft: rule inet patchbay postrouting 1",
        "+ nft: rule inet patchbay postrouting 2",
        "+ nft: table bridge  patchbay",
        "+ nft: table inet  patchbay",
        "+ files: /run/patchbay",
        "+ files: /run/patchbay/containers",
        "+ files: /run/patchbay/leases",
        "+ files: /run/patchbay/networks",
        "+ files: /run/patchbay/networks/bridge@fault0",
        "+ files: /run/patchbay/networks/bridge@fault0/object",
        "+ files: /var/lib/cni/networks",
        "+ files: /var/lib/cni/networks/foreign",
        "+ files: /var/lib/patchbay/records",
      ]);
    });

    test(
      "and a killed one no more than that",
      () => {
        let node = new FaultNode(program, "ours");
        try {
          const calls = discover(node, directory);
          warmUp(node);
          const { node: warm, pod } = expectedOn(node);
          const setUp = (): Scene => {
            node[Symbol.dispose]();
            node = new FaultNode(program, "ours");
            return { node, expected: { node: node.snapshot(), pod, warm } };
          };
          const shots = share(shotsAt(calls), NEW_NODE_SHARES, number);
          expect(shootAll(shots, calls, setUp, () => {})).toBe("");
        } finally {
          node[Symbol.dispose]();
        }
      },
      TIMEOUT_MS,
    );
  });
});

/** As test/fault, for the plugins that need a kernel and a card which a developer's machine may not have. */
import { expect, test } from "bun:test";
import { pointsOf, shard, share, shootWarm, TIMEOUT_MS, told } from "../fault/suite.ts";
import { Card } from "../support/card.ts";
import { guestMachine } from "../support/guest-machine.ts";
import { sh } from "../support/netns.ts";
import { built, has, requires } from "../support/requires.ts";

/** A machine without KVM is slow: a commit's test takes one point of so many. */
const SHARES = 40;

requires(...guestMachine, built, ["strace", has("strace")])("killed at any call, one DEL leaves nothing", () => {
  const number = shard();

  test(
    "of a pod with vlan, vrf, ipvlan and dummy",
    () => {
      for (const module of ["8021q", "vrf", "ipvlan", "dummy"]) sh(["modprobe", module]);
      const shots = shootWarm("links", (all) => {
        expect(pointsOf(all).length, "points in all").toBeGreaterThanOrEqual(100);
        return share(all, SHARES, number);
      });
      console.log(told(shots, number));
    },
    TIMEOUT_MS,
  );

  test(
    "of a pod with functions of a card, which are as before",
    async () => {
      const card = await Card.create(2);
      const shots = shootWarm(
        "cards",
        (all) => {
          expect(pointsOf(all).length, "points in all").toBeGreaterThanOrEqual(100);
          return share(all, SHARES, number);
        },
        card,
      );
      console.log(told(shots, number));
    },
    TIMEOUT_MS,
  );
});

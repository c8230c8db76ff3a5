/** The kernel's contract where the machine that tests may be unlike a node: on the oldest kernel, and with every option. */
import { expect, test } from "bun:test";
import { guestMachine, oldestKernel } from "../support/guest-machine.ts";
import { TestNetns } from "../support/netns.ts";
import { requires } from "../support/requires.ts";

requires(...guestMachine)("Guest", () => {
  test.each([
    ["dummy", ["type", "dummy"]],
    ["bridge with VLAN filtering", ["type", "bridge", "vlan_filtering", "1"]],
    ["vrf", ["type", "vrf", "table", "7"]],
    ["vlan", ["link", "u", "type", "vlan", "id", "5"]],
    ["ipvlan", ["link", "u", "type", "ipvlan"]],
  ] as const)("the kernel has %s", (_, type) => {
    using ns = TestNetns.create();
    ns.ip("link", "add", "u", "type", "veth", "peer", "name", "w");
    ns.ip("link", "add", "x", ...type);
    expect(ns.ip("link", "show", "x")).toContain("x");
  });
});

if (guestMachine[1] && oldestKernel) await import("../netns/kernel.test.ts");

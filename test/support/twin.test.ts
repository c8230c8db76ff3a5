import { expect, test } from "bun:test";
import { hasPeer, peer } from "./peers.ts";
import { requires, root } from "./requires.ts";
import { type Case, type Side, twin } from "./twin.ts";

requires(
  ...root,
  hasPeer("debian-cni"),
  hasPeer("reference"),
)("twin()", () => {
  const side = (part: "debian-cni" | "reference"): Side => ({ path: [peer(part) ?? ""] });
  const addresses = [{ address: "10.9.0.2/24", gateway: "10.9.0.1" }];
  const bridge: Case = {
    conf: { type: "bridge", bridge: "br0", isGateway: true, ipam: { type: "static", addresses } },
  };

  test("finds nothing between two runs of one plugin", () => {
    expect(twin(side("reference"), side("reference"), bridge)).toBe("");
  });

  test("drops what is allowed and keeps the rest", () => {
    const changed = { ...bridge, probe: (): string => String(Math.random()) };
    const lines = twin(side("reference"), side("reference"), changed).split("\n");
    expect(lines.map((line) => line.slice(0, 16))).toEqual(["- 1 ADD: probe: ", "+ 1 ADD: probe: "]);
    expect(twin(side("reference"), side("reference"), { ...changed, allow: [/: probe: /] })).toBe("");
  });

  test("finds what releases changed: Debian's older ptp makes a link without a transmit queue", () => {
    const ptp: Case = { conf: { type: "ptp", ipam: { type: "static", addresses } }, commands: ["ADD"] };
    const lines = twin(side("debian-cni"), side("reference"), ptp).split("\n");
    expect(lines.map((line) => line.slice(0, 25))).toEqual(["- 1 ADD: pod links: eth0:", "+ 1 ADD: pod links: eth0:"]);
    expect(lines.map((line) => line.includes('"txqlen":1000'))).toEqual([false, true]);
  });

  test("an error on both sides is no difference, whatever its words", () => {
    expect(
      twin(side("debian-cni"), side("reference"), { conf: { type: "macvlan", master: "absent" }, commands: ["ADD"] }),
    ).toBe("");
  });
});

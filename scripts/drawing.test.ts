import { expect, test } from "bun:test";
import { drawPods, type PodNetworks, table } from "./drawing.ts";

const pod = (name: string, last: number): PodNetworks => ({
  name,
  ports: [
    { ifname: "eth0", kind: "veth", address: `10.1.0.${last}/24`, mac: `02:00:00:00:00:0${last}` },
    { ifname: "net1", kind: "macvlan", address: `10.2.0.${last}/24`, mac: `02:00:00:00:01:0${last}` },
  ],
});
const between = { eth0: ["bridge b", "built in"], net1: ["other", "CNI binary"] } as const;

test("drawPods() joins the interfaces that both pods have", () => {
  expect(drawPods(pod("a", 1), pod("b", 2), between, true).split("\n")).toEqual([
    '┌ pod "a" ────────────────┐              ┌ pod "b" ────────────────┐',
    "│ eth0  10.1.0.1/24       ├── bridge b ──┤ eth0  10.1.0.2/24       │",
    "│       02:00:00:00:00:01 │   built in   │       02:00:00:00:00:02 │",
    "│ net1  10.2.0.1/24       ├─── other ────┤ net1  10.2.0.2/24       │",
    "│       02:00:00:00:01:01 │  CNI binary  │       02:00:00:00:01:02 │",
    "└─────────────────────────┘              └─────────────────────────┘",
    "",
  ]);
});

test("drawPods() keeps to ASCII where the terminal has no more", () => {
  const drawing = drawPods(pod("a", 1), pod("b", 2), between, false);
  expect(drawing).toMatch(/^[\n\x20-\x7e]+$/);
  expect(
    new Set(
      drawing
        .trimEnd()
        .split("\n")
        .map((line) => line.length),
    ).size,
  ).toBe(1);
});

test("table() aligns columns and leaves no blank at a line's end", () => {
  expect(table(["A", "LONG"], [["value", "x"]], (line) => `<${line}>`)).toBe("<A      LONG>\nvalue  x\n");
});

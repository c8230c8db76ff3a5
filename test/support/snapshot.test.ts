import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { nodeNetns } from "./netns.ts";
import { requires, root } from "./requires.ts";
import { difference, snapshot } from "./snapshot.ts";

describe("difference()", () => {
  test.each([
    ["equal", { a: { x: "1" } }, { a: { x: "1" } }, ""],
    ["new", { a: {} }, { a: { x: "1" } }, "+ a: x: 1"],
    ["gone with its section", { a: { x: "1" } }, {}, "- a: x: 1"],
    ["changed", { a: { x: "1" } }, { a: { x: "2" } }, "- a: x: 1\n+ a: x: 2"],
  ])("%s", (_, before, after, want) => {
    expect(difference(before, after)).toBe(want);
  });
});

requires(...root)("snapshot()", () => {
  const changes: readonly (readonly [what: string, make: string, line: RegExp])[] = [
    ["a link", "ip link add d1 type bridge", /^\+ links: d1: /m],
    ["a link's MTU", "ip link set uplink mtu 1400", /^\+ links: uplink: .*"mtu":1400/m],
    ["a link that was up", "ip link set lo down", /^\+ links: lo: /m],
    ["an address", "ip address add 192.0.2.11/24 dev uplink", /^\+ addresses: uplink 192\.0\.2\.11\/24/m],
    [
      "a route in another table",
      "ip route add 198.51.100.0/24 dev uplink table 77",
      /^\+ routes: table 77: unicast 198\.51\.100\.0\/24 dev uplink/m,
    ],
    [
      "a second route alike",
      "ip route append default via 192.0.2.2 metric 0",
      /^\+ routes: table main: unicast default dev uplink #2/m,
    ],
    ["a rule", "ip rule add from 192.0.2.11 table 77 priority 900", /^\+ rules: 4 900/m],
    [
      "a permanent neighbour",
      "ip neighbour add 192.0.2.3 lladdr 02:00:00:00:00:03 dev uplink nud permanent",
      /^\+ neighbours: uplink 192\.0\.2\.3/m,
    ],
    [
      "a sysctl",
      "echo 1 > /proc/sys/net/ipv4/conf/uplink/arp_notify",
      /^\+ sysctls: net\/ipv4\/conf\/uplink\/arp_notify: 1/m,
    ],
    ["an nft table", "nft add table inet t", /^\+ nft: table inet {2}t/m],
    [
      "an nft rule",
      "nft 'add table ip t; add chain ip t c; add rule ip t c counter accept'",
      /^\+ nft: rule ip t c 1/m,
    ],
  ];
  test.each(changes)("sees %s, and nothing else changes by itself", (_, make, line) => {
    using node = nodeNetns("snap");
    const before = snapshot({ netns: node });
    expect(difference(before, snapshot({ netns: node }))).toBe("");
    node.run("sh", "-c", make);
    expect(difference(before, snapshot({ netns: node }))).toMatch(line);
  });

  test("leaves out a network's bridge, what is on it, and forwarding", () => {
    using node = nodeNetns("snap");
    const options = { netns: node, leaveOut: ["br0"] };
    const before = snapshot(options);
    node.run(
      "sh",
      "-c",
      "ip link add br0 type bridge; ip addr add 10.9.0.1/24 dev br0; ip link set br0 up; echo 1 > /proc/sys/net/ipv4/ip_forward",
    );
    expect(difference(before, snapshot(options))).toBe("");
    expect(difference(before, snapshot({ netns: node }))).toContain("+ links: br0");
  });

  test("sees files by content and mode, and leaves out the operations log", () => {
    using node = nodeNetns("snap");
    const top = mkdtempSync(join(tmpdir(), "patchbay-snapshot-"));
    try {
      writeFileSync(join(top, "kept"), "1");
      const options = { netns: node, files: [top], leaveOutFiles: [/ops\.jsonl/] };
      const before = snapshot(options);
      writeFileSync(join(top, "ops.jsonl"), "{}");
      expect(difference(before, snapshot(options))).toBe("");
      writeFileSync(join(top, "kept"), "2");
      mkdirSync(join(top, "leases"));
      const lines = difference(before, snapshot(options)).split("\n");
      expect(lines.map((line) => line.slice(0, 1)).join("")).toBe("-++");
      expect(lines[2]).toContain("leases: directory");
    } finally {
      rmSync(top, { recursive: true });
    }
  });
});

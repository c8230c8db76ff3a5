import { describe, expect, test } from "bun:test";
import { decode, encode } from "../wire/codec.ts";
import { type LinkRequest, link } from "./link.ts";
import { hex, type WireRow, wireTable } from "./wire-table.ts";

const header = "00000000 00000000 00000000 00000000";
const header2 = "00000000 02000000";

// Bytes are what iproute2 6.1 sends for the command in the comment, unless it says otherwise.
const rows: WireRow<LinkRequest>[] = [
  ["empty", {}, header],
  ["a name is padded to 4", { name: "lo" }, `${header} 0700 0300 6c6f00 00`],
  ["mtu 0 is sent, not dropped", { mtu: 0 }, `${header} 0800 0400 00000000`],
  ["an unknown attribute survives", { other: [[99, hex("aabb")]] }, `${header} 0600 6300 aabb 0000`],
  [
    // ip link add vethb mtu 1400 address 02:00:00:00:00:02 type veth
    //   peer name eth0 address 02:00:00:00:00:01 mtu 1400 netns pod
    "a veth whose peer is born in another namespace",
    {
      mtu: 1400,
      address: hex("020000000002"),
      name: "vethb",
      info: { kind: "veth", veth: { peer: { address: hex("020000000001"), mtu: 1400, netnsFd: 4, name: "eth0" } } },
    },
    `${header} 08000400 78050000 0a000100 02000000 00020000 0a000300 76657468 62000000 4c001200 08000100 76657468
     40000200 3c000100 ${header} 0a000100 02000000 00010000 08000400 78050000 08001c00 04000000 09000300 65746830 00000000`,
  ],
  [
    // ip link add br9 type bridge vlan_filtering 1 vlan_default_pvid 0
    "a bridge that filters VLANs and gives its ports none",
    { name: "br9", info: { kind: "bridge", bridge: { vlanFiltering: 1, vlanDefaultPvid: 0 } } },
    `${header} 08000300 62723900 24001200 0a000100 62726964 67650000 14000200 05000700 01000000 06002700 00000000`,
  ],
  [
    // ip link add br0 type bridge vlan_filtering 0 mcast_snooping 0
    "a bridge without multicast snooping",
    { name: "br0", info: { kind: "bridge", bridge: { vlanFiltering: 0, multicastSnooping: 0 } } },
    `${header} 08000300 62723000 24001200 0a000100 62726964 67650000 14000200 05000700 00000000 05001700 00000000`,
  ],
  [
    // ip link add link vethb name mac0 netns pod type macvlan mode bridge bcqueuelen 2000
    "a macvlan that is born in another namespace",
    {
      netnsFd: 4,
      parent: 2,
      name: "mac0",
      info: { kind: "macvlan", macvlan: { broadcastQueueLength: 2000, mode: 4 } },
    },
    `${header} 08001c00 04000000 08000500 02000000 09000300 6d616330 00000000
     24001200 0b000100 6d616376 6c616e00 14000200 08000700 d0070000 08000100 04000000`,
  ],
  [
    // ip link add link vethb name v5 netns pod type vlan id 5
    "a VLAN that is born in another namespace",
    { netnsFd: 4, parent: 3, name: "v5", info: { kind: "vlan", vlan: { id: 5 } } },
    `${header} 08001c00 04000000 08000500 03000000 07000300 76350000
     18001200 08000100 766c616e 0c000200 06000100 05000000`,
  ],
  [
    // ip link add link vethb name ipv0 netns pod type ipvlan mode l3s
    "an ipvlan that is born in another namespace",
    { netnsFd: 4, parent: 3, name: "ipv0", info: { kind: "ipvlan", ipvlan: { mode: 2, flags: 0 } } },
    `${header} 08001c00 04000000 08000500 03000000 09000300 69707630 00000000
     24001200 0a000100 6970766c 616e0000 14000200 06000100 02000000 06000200 00000000`,
  ],
  [
    // ip link add name blue type vrf table 1001
    "a VRF",
    { name: "blue", info: { kind: "vrf", vrf: { table: 1001 } } },
    `${header} 09000300 626c7565 00000000 18001200 07000100 76726600 0c000200 08000100 e9030000`,
  ],
  [
    // ip link add dum0 type dummy
    "a dummy",
    { name: "dum0", info: { kind: "dummy" } },
    `${header} 09000300 64756d30 00000000 10001200 09000100 64756d6d 79000000`,
  ],
  [
    // ip link set vethb master br0
    "joining a bridge",
    { index: 4, master: 2 },
    "00000000 04000000 00000000 00000000 08000a00 02000000",
  ],
  [
    // ip link set vethb promisc on allmulticast on
    "flags, with the mask of those that change",
    { index: 2, flags: 0x300, change: 0x300 },
    `${header2} 00030000 00030000`,
  ],
  [
    // ip link set vethb up alias pod group 70000 txqlen 500
    "alias, group and queue length",
    { index: 2, flags: 1, change: 1, alias: "pod", group: 70_000, txQueueLength: 500 },
    `${header2} 01000000 01000000 07001400 706f6400 08001b00 70110100 08000d00 f4010000`,
  ],
  [
    // ip link set vethb type bridge_slave hairpin on isolated on, but for the name, which iproute2 puts where the
    // link's own kind belongs
    "a bridge port's options",
    { index: 2, info: { portKind: "bridge", bridgePort: { hairpin: 1, isolated: 1 } } },
    `${header2} 00000000 00000000 24001200 0a000400 62726964 67650000 14000500 05000400 01000000 05002100 01000000`,
  ],
  [
    // ip link show dev vethb: the question
    "a get by name",
    { extMask: 9, name: "vethb" },
    `${header} 08001d00 09000000 0a000300 76657468 62000000`,
  ],
];

wireTable("link", link, rows);

describe("link", () => {
  test("decode() reads text with a NUL, as the kernel sends it, and without, as iproute2 does", () => {
    expect(decode(link, hex(`${header} 08001400 706f6400`)).alias).toBe("pod");
    expect(decode(link, hex(`${header} 07001400 706f6400`)).alias).toBe("pod");
  });
  test("decode() keeps the data of a kind that it does not know", () => {
    const bytes = hex(`${header} 18001200 09000100 69707467 72000000 08000200 aabbccdd`);
    expect(decode(link, bytes).info).toEqual({ kind: "iptgr", other: [[2, hex("aabbccdd")]] });
  });
  test.each([
    ["short header", "0000", "Cannot read 16-byte struct: 2 left (at byte 0)"],
    ["length past the end", `${header} ff00 0300`, "Cannot read attribute 3: length 255, 4 left (at byte 16)"],
    ["length below its header", `${header} 0200 0300`, "Cannot read attribute 3: length 2, 4 left (at byte 16)"],
    ["number cut short", `${header} 0600 0400 7805 0000`, "Cannot read 4-byte number: 2 left (at byte 20)"],
    [
      "inner attribute past its container",
      `${header} 0c00 1200 ff00 0100 76657468`,
      "Cannot read attribute 1: length 255, 8 left (at byte 20)",
    ],
  ])("decode() refuses: %s", (_, bytes, message) => {
    expect(() => decode(link, hex(bytes))).toThrow(message);
  });
  test("encode() refuses a name with a NUL, which would be cut short in silence", () => {
    expect(() => encode(link, { name: "a\0b" })).toThrow("it has a NUL");
  });
});

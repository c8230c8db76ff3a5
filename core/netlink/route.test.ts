import { type RouteRequest, route } from "./route.ts";
import { hex, wireTable } from "./wire-table.ts";

wireTable<unknown, RouteRequest>("route", route, [
  [
    // ip route add 10.2.0.0/16 via 10.1.0.254 dev br0 src 10.1.0.1 metric 100 mtu 1400 advmss 1360 proto static table 100
    "everything at once",
    {
      family: 2,
      dstLength: 16,
      table8: 100,
      protocol: 4,
      scope: 0,
      type: 1,
      dst: hex("0a020000"),
      gateway: hex("0a0100fe"),
      source: hex("0a010001"),
      priority: 100,
      index: 2,
      metrics: { mtu: 1400, advmss: 1360 },
    },
    `02100000 64040001 00000000 08000100 0a020000 08000500 0a0100fe 08000700 0a010001 08000600 64000000 08000400 02000000
     14000800 08000200 78050000 08000800 50050000`,
  ],
  [
    // ip route add default via 10.9.0.1 dev br0 onlink
    "a default route whose gateway is on the link",
    { family: 2, table8: 254, protocol: 3, type: 1, flags: 4, gateway: hex("0a090001"), index: 2 },
    "02000000 fe030001 04000000 08000500 0a090001 08000400 02000000",
  ],
  [
    // ip route append 10.3.0.0/16 nexthop via 10.1.0.2 dev br0 weight 1 nexthop via 10.1.0.3 dev br0 weight 2
    "several next hops",
    {
      family: 2,
      dstLength: 16,
      table8: 254,
      protocol: 3,
      type: 1,
      dst: hex("0a030000"),
      nexthops: [
        { length: 16, index: 2, gateway: hex("0a010002") },
        { length: 16, hops: 1, index: 2, gateway: hex("0a010003") },
      ],
    },
    `02100000 fe030001 00000000 08000100 0a030000
     24000900 10000000 02000000 08000500 0a010002 10000001 02000000 08000500 0a010003`,
  ],
  [
    // ip -6 route add fd01::/64 dev br0 table 1000
    "a table that has no room in the header",
    {
      family: 10,
      dstLength: 64,
      protocol: 3,
      type: 1,
      dst: hex("fd010000000000000000000000000000"),
      table: 1000,
      index: 2,
    },
    "0a400000 00030001 00000000 14000100 fd010000 00000000 00000000 00000000 08000f00 e8030000 08000400 02000000",
  ],
  [
    // ip route del 10.4.0.0/16 dev br0
    "a delete in any scope",
    { family: 2, dstLength: 16, table8: 254, scope: 255, dst: hex("0a040000"), index: 2 },
    "02100000 fe00ff00 00000000 08000100 0a040000 08000400 02000000",
  ],
]);

import { netnsId } from "./netns-id.ts";
import {
  EGRESS_REDIRECT,
  everyPacket,
  FIRST_FOR_ALL,
  type FilterRequest,
  filter,
  type QdiscRequest,
  qdisc,
  STOLEN,
  TrafficHandle,
} from "./traffic.ts";
import { hex, wireTable } from "./wire-table.ts";

wireTable<unknown, QdiscRequest>("qdisc", qdisc, [
  [
    // tc qdisc add dev v0 ingress
    "ingress",
    {
      index: 2,
      handle: TrafficHandle.INGRESS_ITSELF,
      parent: TrafficHandle.INGRESS,
      kind: "ingress",
    },
    "00000000 02000000 0000ffff f1ffffff 00000000 0c00 0100 696e6772657373 00",
  ],
  [
    // tc qdisc add dev v0 root handle 1: tbf rate 8mbit burst 100000 limit 125000, without its table of rates
    "token bucket",
    {
      index: 2,
      handle: TrafficHandle.FIRST,
      parent: TrafficHandle.ROOT,
      kind: "tbf",
      tbf: {
        parameters: { cellLog: 3, linkLayer: 1, cellAlign: 0xffff, rate: 1_000_000, limit: 125_000, buffer: 1_562_500 },
      },
    },
    `00000000 02000000 00000100 ffffffff 00000000 0800 0100 74626600
     2c00 0200 2800 0100 03 01 0000 ffff 0000 40420f00 00 00 0000 0000 0000 00000000 48e80100 84d71700 00000000`,
  ],
  [
    "a rate above 32 bits",
    { kind: "tbf", tbf: { parameters: {}, rate64: 0x1_0000_0000n } },
    `${"00".repeat(20)} 0800 0100 74626600 3800 0200 2800 0100 ${"00".repeat(36)} 0c00 0400 0000000001000000`,
  ],
  [
    "one that is not ours",
    { index: 7, kind: "fq", other: [[2, hex("08000100 10270000")]] },
    "00000000 07000000 00000000 00000000 00000000 0700 0100 667100 00 0c00 0200 0800 0100 10270000",
  ],
]);

wireTable<unknown, FilterRequest>("filter", filter, [
  [
    // tc filter add dev v0 parent ffff: protocol all prio 1 u32 match u32 0 0 flowid 1:1 \
    //   action mirred egress redirect dev ifbx
    "redirection of all packets",
    {
      index: 2,
      parent: TrafficHandle.INGRESS_ITSELF,
      info: FIRST_FOR_ALL,
      kind: "u32",
      u32: {
        classId: 0x10001,
        actions: {
          first: { kind: "mirred", mirred: { parameters: { action: STOLEN, direction: EGRESS_REDIRECT, target: 4 } } },
        },
        selector: everyPacket,
      },
    },
    `00000000 02000000 00000000 0000ffff 00030100 0800 0100 75333200
     6800 0200 0800 0100 01000100
     3800 0700 3400 0100 0b00 0100 6d697272656400 00 2400 0200 2000 0200
     00000000 00000000 04000000 00000000 00000000 01000000 04000000
     2400 0500 01000100 00000000 00000000 00000000 00000000 00000000 00000000 00000000`,
  ],
]);

wireTable("netnsId", netnsId, [
  ["asked for by descriptor", { fd: 5 }, "00000000 0800 0300 05000000"],
  ["none", { id: -1 }, "00000000 0800 0100 ffffffff"],
]);

import { type RuleRequest, rule } from "./rule.ts";
import { hex, wireTable } from "./wire-table.ts";

wireTable<unknown, RuleRequest>("rule", rule, [
  [
    // ip rule add from 10.1.2.3/32 lookup 100 priority 1000
    "by source",
    { family: 2, srcLength: 32, table8: 100, action: 1, src: hex("0a010203"), priority: 1000 },
    "02002000 64000001 00000000 08000200 0a010203 08000600 e8030000",
  ],
  [
    // ip -6 rule add iif vethb to fd02::/64 lookup 1000
    "by interface and destination",
    {
      family: 10,
      dstLength: 64,
      action: 1,
      inputInterface: "vethb",
      dst: hex("fd020000000000000000000000000000"),
      table: 1000,
    },
    `0a400000 00000001 00000000 0a000300 76657468 62000000 14000100 fd020000 00000000 00000000 00000000 08000f00 e8030000`,
  ],
]);

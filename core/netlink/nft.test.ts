import { chain, elements, type RuleRequest, rule, set, table } from "./nft.ts";
import { Verdict } from "./nft-data.ts";
import type { NftExpression } from "./nft-expression.ts";
import { hex, wireTable } from "./wire-table.ts";

// Bytes are what nft 1.0.6 sends for the command in the comment.
const inet = { family: 1, table: "patchbay" } as const;
const bridge = { family: 7, table: "patchbay" } as const;
const patchbay = "0d000100 70617463 68626179 00000000";

const load = (base: number, offset: number, length: number): NftExpression => ({
  name: "payload",
  payload: { to: 1, base, offset, length },
});
const compare = (op: number, value: string): NftExpression => ({
  name: "cmp",
  cmp: { from: 1, op, data: { value: hex(value) } },
});

wireTable("nft table", table, [
  // nft add table inet patchbay
  ["add", { family: 1, name: "patchbay", flags: 0 }, `01000000 ${patchbay} 08000200 00000000`],
]);

wireTable("nft chain", chain, [
  [
    // nft add chain inet patchbay postrouting { type nat hook postrouting priority srcnat ; }
    "a base chain",
    { ...inet, name: "postrouting", type: "nat", hook: { number: 4, priority: 100 } },
    `01000000 ${patchbay} 10000300 706f7374 726f7574 696e6700 08000700 6e617400
     14000480 08000100 00000004 08000200 00000064`,
  ],
  [
    // nft add chain bridge patchbay prerouting { type filter hook prerouting priority -300 ; }
    "a priority below zero",
    { ...bridge, name: "prerouting", type: "filter", hook: { number: 0, priority: -300 } },
    `07000000 ${patchbay} 0f000300 70726572 6f757469 6e670000 0b000700 66696c74 65720000
     14000480 08000100 00000000 08000200 fffffed4`,
  ],
  [
    // nft delete chain inet patchbay masq-1
    "one by name",
    { ...inet, name: "masq-1" },
    `01000000 ${patchbay} 0b000300 6d617371 2d310000`,
  ],
]);

wireTable("nft map", set, [
  [
    // nft add map bridge patchbay macs { type ifname : verdict ; }
    "interface name to verdict",
    {
      ...bridge,
      name: "macs",
      flags: 8,
      keyType: 41,
      keyLength: 16,
      dataType: 0xffffff00,
      dataLength: 0,
      id: 1,
      userData: hex("0004 01000000 0104 00000000 0604 00000000"),
    },
    `07000000 ${patchbay} 09000200 6d616373 00000000 08000300 00000008 08000400 00000029 08000500 00000010
     08000600 ffffff00 08000700 00000000 08000a00 00000001 16000d00 00040100 00000104 00000000 06040000 00000000`,
  ],
]);

wireTable("nft elements", elements, [
  [
    // nft add element inet patchbay masq4 { 10.1.0.5 : jump masq-1 }
    "an address that leads to a chain",
    {
      ...inet,
      set: "masq4",
      setId: 1,
      elements: [{ key: { value: hex("0a010005") }, data: { verdict: { code: Verdict.JUMP, chain: "masq-1" } } }],
    },
    `01000000 ${patchbay} 0a000200 6d617371 34000000 08000400 00000001 30000380 2c000180 0c000180 08000100 0a010005
     1c000280 18000280 08000100 fffffffd 0b000200 6d617371 2d310000`,
  ],
  [
    // nft delete element inet patchbay masq4 { 10.1.0.5 }
    "one by key",
    { ...inet, set: "masq4", elements: [{ key: { value: hex("0a010005") } }] },
    `01000000 ${patchbay} 0a000200 6d617371 34000000 14000380 10000180 0c000180 08000100 0a010005`,
  ],
]);

const padded = (text: string, bytes: number): Uint8Array => {
  const out = new Uint8Array(bytes);
  out.set(hex(text));
  return out;
};
const conntrack = padded("", 168);
conntrack[146] = 1;
conntrack[150] = 6;
const counts = { name: "counter", counter: { bytes: 0n, packets: 0n } } as const;

wireTable<unknown, RuleRequest>("nft rule of iptables", rule, [
  [
    // iptables-nft -I FORWARD 1 -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
    "a comment and a jump",
    {
      family: 2,
      table: "filter",
      chain: "FORWARD",
      expressions: [
        {
          name: "match",
          match: {
            name: "comment",
            revision: 0,
            info: padded("434e49206669726577616c6c20706c7567696e2072756c6573", 256),
          },
        },
        counts,
        {
          name: "immediate",
          immediate: { to: 0, data: { verdict: { code: Verdict.JUMP, chain: "CNI-FORWARD" } } },
        },
      ],
      compat: { protocol: 0, flags: 0 },
    },
    `02000000 0b000100 66696c74 65720000 0c000200 464f5257 41524400 9c010480
     2c010180 0a000100 6d617463 68000000 1c010280 0c000100 636f6d6d 656e7400 08000200 00000000 04010300
     434e4920 66697265 77616c6c 20706c75 67696e20 72756c65 73000000 ${"00".repeat(228)}
     2c000180 0c000100 636f756e 74657200 1c000280 0c000100 00000000 00000000 0c000200 00000000 00000000
     40000180 0e000100 696d6d65 64696174 65000000 2c000280 08000100 00000000 20000280 1c000280 08000100 fffffffd
     10000200 434e492d 464f5257 41524400 14000580 08000100 00000000 08000200 00000000`,
  ],
  [
    // ip6tables-nft -A CNI-FORWARD -d fd00:9::5/128 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    "a state",
    {
      family: 10,
      table: "filter",
      chain: "CNI-FORWARD",
      expressions: [
        load(1, 24, 16),
        compare(0, "fd000009000000000000000000000005"),
        { name: "match", match: { name: "conntrack", revision: 3, info: conntrack } },
        counts,
        { name: "immediate", immediate: { to: 0, data: { verdict: { code: Verdict.ACCEPT } } } },
      ],
      compat: { protocol: 0, flags: 0 },
    },
    `0a000000 0b000100 66696c74 65720000 10000200 434e492d 464f5257 41524400 a4010480
     34000180 0c000100 7061796c 6f616400 24000280 08000100 00000001 08000200 00000001 08000300 00000018 08000400 00000010
     38000180 08000100 636d7000 2c000280 08000100 00000001 08000200 00000000 18000380 14000100
     fd000009 00000000 00000000 00000005
     d8000180 0a000100 6d617463 68000000 c8000280 0e000100 636f6e6e 74726163 6b000000 08000200 00000003 ac000300
     ${"00".repeat(146)} 01000000 06000000 ${"00".repeat(14)}
     2c000180 0c000100 636f756e 74657200 1c000280 0c000100 00000000 00000000 0c000200 00000000 00000000
     30000180 0e000100 696d6d65 64696174 65000000 1c000280 08000100 00000000 10000280 0c000280 08000100 00000001
     14000580 08000100 00000000 08000200 00000000`,
  ],
]);

wireTable<unknown, RuleRequest>("nft rule", rule, [
  [
    // nft add rule bridge patchbay prerouting iifname vmap @macs
    "a verdict map",
    {
      ...bridge,
      chain: "prerouting",
      expressions: [
        { name: "meta", meta: { key: 6, to: 1 } },
        { name: "lookup", lookup: { from: 1, to: 0, set: "macs", setId: 3 } },
      ],
    },
    `07000000 ${patchbay} 0f000200 70726572 6f757469 6e670000 60000480
     24000180 09000100 6d657461 00000000 14000280 08000200 00000006 08000100 00000001
     38000180 0b000100 6c6f6f6b 75700000 28000280 08000200 00000001 08000300 00000000 09000100 6d616373 00000000
     08000400 00000003`,
  ],
  [
    // nft add rule bridge patchbay mac-1 ether saddr != 02:00:00:00:00:07 drop
    "a comparison and a verdict",
    {
      ...bridge,
      chain: "mac-1",
      expressions: [
        load(0, 6, 6),
        compare(1, "020000000007"),
        { name: "immediate", immediate: { to: 0, data: { verdict: { code: Verdict.DROP } } } },
      ],
    },
    `07000000 ${patchbay} 0a000200 6d61632d 31000000 98000480
     34000180 0c000100 7061796c 6f616400 24000280 08000100 00000001 08000200 00000000 08000300 00000006 08000400 00000006
     30000180 08000100 636d7000 24000280 08000100 00000001 08000200 00000001 10000380 0a000100 02000000 00070000
     30000180 0e000100 696d6d65 64696174 65000000 1c000280 08000100 00000000 10000280 0c000280 08000100 00000000`,
  ],
  [
    // nft add rule inet patchbay masq-1 ip saddr 10.1.0.5 ip daddr != 10.1.0.0/20 ip daddr != 224.0.0.0/4
    //   masquerade comment hello
    "masquerading, with prefixes that end within a byte",
    {
      ...inet,
      chain: "masq-1",
      expressions: [
        { name: "meta", meta: { key: 15, to: 1 } },
        compare(0, "02"),
        load(1, 12, 4),
        compare(0, "0a010005"),
        load(1, 16, 4),
        {
          name: "bitwise",
          bitwise: { from: 1, to: 1, length: 4, mask: { value: hex("fffff000") }, xor: { value: hex("00000000") } },
        },
        compare(1, "0a010000"),
        load(1, 16, 4),
        {
          name: "bitwise",
          bitwise: { from: 1, to: 1, length: 4, mask: { value: hex("f0000000") }, xor: { value: hex("00000000") } },
        },
        compare(1, "e0000000"),
        { name: "masq", masq: {} },
      ],
      userData: hex("0006 68656c6c6f00"),
    },
    `01000000 ${patchbay} 0b000200 6d617371 2d310000 10020480
     24000180 09000100 6d657461 00000000 14000280 08000200 0000000f 08000100 00000001
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 05000100 02000000
     34000180 0c000100 7061796c 6f616400 24000280 08000100 00000001 08000200 00000001 08000300 0000000c 08000400 00000004
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 08000100 0a010005
     34000180 0c000100 7061796c 6f616400 24000280 08000100 00000001 08000200 00000001 08000300 00000010 08000400 00000004
     44000180 0c000100 62697477 69736500 34000280 08000100 00000001 08000200 00000001 08000300 00000004
     0c000480 08000100 fffff000 0c000580 08000100 00000000
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000001 0c000380 08000100 0a010000
     34000180 0c000100 7061796c 6f616400 24000280 08000100 00000001 08000200 00000001 08000300 00000010 08000400 00000004
     44000180 0c000100 62697477 69736500 34000280 08000100 00000001 08000200 00000001 08000300 00000004
     0c000480 08000100 f0000000 0c000580 08000100 00000000
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000001 0c000380 08000100 e0000000
     14000180 09000100 6d617371 00000000 04000280 0c000700 00066865 6c6c6f00`,
  ],
]);

wireTable("nft map of ports", set, [
  [
    // nft add map inet patchbay ports4 { type inet_proto . inet_service : verdict ; }
    "protocol and port to verdict",
    { ...inet, name: "ports4", flags: 8, keyType: 0x30d, keyLength: 8, dataType: 0xffffff00, dataLength: 0, id: 1 },
    `01000000 ${patchbay} 0b000200 706f7274 73340000 08000300 00000008 08000400 0000030d 08000500 00000008
     08000600 ffffff00 08000700 00000000 08000a00 00000001`,
  ],
]);

wireTable("nft elements of ports", elements, [
  [
    // nft add element inet patchbay off { 8000 : 9000 }
    "a port that becomes another",
    { ...inet, set: "off", setId: 3, elements: [{ key: { value: hex("1f40") }, data: { value: hex("2328") } }] },
    `01000000 ${patchbay} 08000200 6f666600 08000400 00000003 20000380 1c000180 0c000180 06000100 1f400000
     0c000280 06000100 23280000`,
  ],
  [
    // nft add element inet patchbay ports4 { tcp . 80 : jump c }
    "protocol and port",
    {
      ...inet,
      set: "ports4",
      setId: 1,
      elements: [{ key: { value: hex("0600000000500000") }, data: { verdict: { code: Verdict.JUMP, chain: "c" } } }],
    },
    `01000000 ${patchbay} 0b000200 706f7274 73340000 08000400 00000001 30000380 2c000180 10000180 0c000100 06000000 00500000
     18000280 14000280 08000100 fffffffd 06000200 63000000`,
  ],
]);

wireTable<unknown, RuleRequest>("nft rules of ports", rule, [
  [
    // nft add rule inet patchbay c fib daddr type local jump c
    "what goes to the node itself",
    {
      ...inet,
      chain: "c",
      expressions: [
        { name: "fib", fib: { flags: 2, result: 3, to: 1 } },
        compare(0, "02000000"),
        { name: "immediate", immediate: { to: 0, data: { verdict: { code: Verdict.JUMP, chain: "c" } } } },
      ],
    },
    `01000000 ${patchbay} 06000200 63000000 90000480
     28000180 08000100 66696200 1c000280 08000300 00000002 08000200 00000003 08000100 00000001
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 08000100 02000000
     38000180 0e000100 696d6d65 64696174 65000000 24000280 08000100 00000000 18000280 14000280
     08000100 fffffffd 06000200 63000000`,
  ],
  [
    // nft add rule inet patchbay c tcp dport 8080 dnat ip to 10.5.0.5:80
    "another address and port",
    {
      ...inet,
      chain: "c",
      expressions: [
        { name: "meta", meta: { key: 16, to: 1 } },
        compare(0, "06"),
        load(2, 2, 2),
        compare(0, "1f90"),
        { name: "immediate", immediate: { to: 1, data: { value: hex("0a050005") } } },
        { name: "immediate", immediate: { to: 2, data: { value: hex("0050") } } },
        { name: "nat", nat: { type: 1, family: 2, fromAddress: 1, fromPort: 2, flags: 2 } },
      ],
    },
    `01000000 ${patchbay} 06000200 63000000 44010480
     24000180 09000100 6d657461 00000000 14000280 08000200 00000010 08000100 00000001
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 05000100 06000000
     34000180 0c000100 7061796c 6f616400 24000280 08000100 00000001 08000200 00000002 08000300 00000002 08000400 00000002
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 06000100 1f900000
     2c000180 0e000100 696d6d65 64696174 65000000 18000280 08000100 00000001 0c000280 08000100 0a050005
     2c000180 0e000100 696d6d65 64696174 65000000 18000280 08000100 00000002 0c000280 06000100 00500000
     38000180 08000100 6e617400 2c000280 08000100 00000001 08000200 00000002 08000300 00000001 08000500 00000002
     08000700 00000002`,
  ],
  [
    // nft add rule inet patchbay c ct status dnat masquerade
    "what was translated",
    {
      ...inet,
      chain: "c",
      expressions: [
        { name: "ct", ct: { key: 2, to: 1 } },
        {
          name: "bitwise",
          bitwise: { from: 1, to: 1, length: 4, mask: { value: hex("20000000") }, xor: { value: hex("00000000") } },
        },
        compare(1, "00000000"),
        { name: "masq", masq: {} },
      ],
    },
    `01000000 ${patchbay} 06000200 63000000 a8000480
     20000180 07000100 63740000 14000280 08000200 00000002 08000100 00000001
     44000180 0c000100 62697477 69736500 34000280 08000100 00000001 08000200 00000001 08000300 00000004
     0c000480 08000100 20000000 0c000580 08000100 00000000
     2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000001 0c000380 08000100 00000000
     14000180 09000100 6d617371 00000000 04000280`,
  ],
]);

import { type AddressRequest, address } from "./address.ts";
import { hex, wireTable } from "./wire-table.ts";

const v4 = hex("0a010203");
const v6 = hex("fd000000000000000000000000000005");

wireTable<unknown, AddressRequest>("address", address, [
  [
    // ip addr add 10.1.2.3/24 brd 10.1.2.255 dev vethb noprefixroute
    "IPv4 without a route to its network",
    { family: 2, prefix: 24, index: 2, local: v4, broadcast: hex("0a0102ff"), flags: 0x200, address: v4 },
    "02180000 02000000 08000200 0a010203 08000400 0a0102ff 08000800 00020000 08000100 0a010203",
  ],
  [
    // ip addr add fd00::5/64 dev vethb nodad
    "IPv6 without duplicate address detection",
    { family: 10, prefix: 64, flags8: 2, index: 2, local: v6, address: v6 },
    `0a400200 02000000 14000200 fd000000 00000000 00000000 00000005 14000100 fd000000 00000000 00000000 00000005`,
  ],
  [
    // ip addr del 10.1.2.3/24 dev vethb
    "a delete",
    { family: 2, prefix: 24, index: 2, local: v4, address: v4 },
    "02180000 02000000 08000200 0a010203 08000100 0a010203",
  ],
]);

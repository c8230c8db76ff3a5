import { type NeighbourRequest, neighbour } from "./neighbour.ts";
import { hex, wireTable } from "./wire-table.ts";

wireTable<unknown, NeighbourRequest>("neighbour", neighbour, [
  [
    // ip neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev br0 nud permanent
    "a permanent one",
    { family: 2, index: 2, state: 0x80, dst: hex("0a010007"), mac: hex("020000000007") },
    "02000000 02000000 80000000 08000100 0a010007 0a000200 02000000 00070000",
  ],
]);

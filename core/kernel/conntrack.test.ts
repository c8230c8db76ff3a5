import { describe, expect, test } from "bun:test";
import { type Ip, parseCidr, parseIp } from "../base/ip.ts";
import { type ConnectionMessage, connection } from "../netlink/conntrack.ts";
import { hex, wireTable } from "../netlink/wire-table.ts";
import { isOf, listRequests } from "./conntrack.ts";
import type { LinkAddress, UdpFlows } from "./kernel.ts";

const ip = (text: string): Ip => parseIp(text) ?? { family: 4, bytes: new Uint8Array(4) };

wireTable("connection", connection, [
  [
    // a dump of UDP flows to port 53, filtered by the kernel
    "a filter",
    {
      family: 2,
      original: { protocol: { number: 17, targetPort: 53 } },
      filter: { original: 0x28, reply: 0 },
    },
    `02000000 18000180 14000280 05000100 11000000 06000300 00350000
     14001980 08000100 28000000 08000200 00000000`,
  ],
  [
    // conntrack -D of one entry, by its tuple and its number
    "one entry",
    {
      family: 2,
      original: {
        addresses: { source4: hex("c6336402"), target4: hex("c6336401") },
        protocol: { number: 17, sourcePort: 5000, targetPort: 53 },
      },
      id: 7,
    },
    `02000000 34000180 14000180 08000100 c6336402 08000200 c6336401
     1c000280 05000100 11000000 06000200 13880000 06000300 00350000 08000c00 00000007`,
  ],
]);

/** A flow from 198.51.100.2 to an address and port, answered by somebody. */
function flow(target: string, port: number, by: string, number = 17): ConnectionMessage {
  const side = (source: string, to: string, targetPort: number): ConnectionMessage["original"] => ({
    addresses:
      ip(source).family === 4
        ? { source4: ip(source).bytes, target4: ip(to).bytes }
        : { source6: ip(source).bytes, target6: ip(to).bytes },
    protocol: { number, sourcePort: 5000, targetPort },
  });
  const client = ip(target).family === 4 ? "198.51.100.2" : "fd09::2";
  return {
    family: 2,
    version: 0,
    resource: 0,
    original: side(client, target, port),
    reply: side(by, client, 5000),
  } as ConnectionMessage;
}

describe("isOf()", () => {
  const own = ["198.51.100.1/24", "fd09::1/64"].flatMap((text) => parseCidr(text) ?? []);
  const local = (): LinkAddress[] => own.map((address) => ({ address }));
  const stale: UdpFlows = { family: 4, ports: [{ first: 53, count: 2 }], exceptBy: ip("10.5.0.5") };
  const gone: UdpFlows = { family: 4, ports: [{ first: 53, count: 2 }], answeredBy: ip("10.5.0.5") };
  const one: UdpFlows = {
    family: 4,
    ports: [{ first: 53, count: 1, address: ip("198.51.100.1") }],
    exceptBy: ip("10.5.0.5"),
  };

  test.each<[string, UdpFlows, ConnectionMessage, boolean]>([
    ["to the node itself", stale, flow("198.51.100.1", 53, "198.51.100.1"), true],
    ["to another pod", stale, flow("198.51.100.1", 54, "10.5.0.6"), true],
    ["to loopback", stale, flow("127.0.0.1", 53, "127.0.0.1"), true],
    ["to the pod already", stale, flow("198.51.100.1", 53, "10.5.0.5"), false],
    ["to somebody else's port 53", stale, flow("192.0.2.53", 53, "192.0.2.53"), false],
    ["to another port", stale, flow("198.51.100.1", 55, "198.51.100.1"), false],
    ["of TCP", stale, flow("198.51.100.1", 53, "198.51.100.1", 6), false],
    ["of the other family", stale, flow("fd09::1", 53, "fd09::1"), false],
    ["to the pod that goes", gone, flow("198.51.100.1", 53, "10.5.0.5"), true],
    ["to the pod that goes, by an address that went", gone, flow("203.0.113.9", 53, "10.5.0.5"), true],
    ["to another pod than the one that goes", gone, flow("198.51.100.1", 53, "10.5.0.6"), false],
    ["to the pod that goes, by a port of another mapping", gone, flow("198.51.100.1", 55, "10.5.0.5"), false],
    ["to the one address", one, flow("198.51.100.1", 53, "198.51.100.1"), true],
    ["to another address", one, flow("127.0.0.1", 53, "127.0.0.1"), false],
  ])("%s", (_, flows, entry, expected) => {
    expect(isOf(flows, entry, local)).toBe(expected);
  });
});

test("listRequests() asks for few ports singly, for many at once, and for a pod by its address", () => {
  const filters = (flows: UdpFlows): unknown[] =>
    listRequests(flows).map(({ value }) => (value as { filter: unknown }).filter);
  expect(
    filters({
      family: 4,
      ports: [
        { first: 1, count: 2 },
        { first: 2, count: 1 },
      ],
    }),
  ).toEqual([
    { original: 0x28, reply: 0 },
    { original: 0x28, reply: 0 },
  ]);
  expect(filters({ family: 4, ports: [{ first: 1, count: 900 }] })).toEqual([{ original: 8, reply: 0 }]);
  const answeredBy = ip("fd00::5");
  expect(filters({ family: 6, ports: [{ first: 1, count: 900 }], answeredBy })).toEqual([{ original: 0, reply: 9 }]);
});

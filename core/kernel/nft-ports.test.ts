import { describe, expect, test } from "bun:test";
import { type Cidr, type Ip, parseCidr } from "../base/ip.ts";
import type { NftExpression } from "../netlink/nft-expression.ts";
import {
  claimOf,
  MAX_MAPPINGS,
  mapPorts,
  type PortMapping,
  type PortPlan,
  portHolders,
  portsAmiss,
  salvagePorts,
  unmapPorts,
} from "./nft-ports.ts";
import type { NftChange } from "./nftables.ts";
import { SimulatedNode } from "./simulated.ts";

const cidr = (text: string): Cidr => parseCidr(text) ?? { ip: { family: 4, bytes: new Uint8Array(4) }, prefix: 0 };
const ip = (text: string): Ip => cidr(`${text}/${text.includes(":") ? 128 : 32}`).ip;
const tcp = (hostPort: number, containerPort: number, more: Partial<PortMapping> = {}): PortMapping => ({
  protocol: "tcp",
  hostPort,
  containerPort,
  length: 1,
  ...more,
});
const plan = (mappings: readonly PortMapping[], more: Partial<PortPlan> = {}): PortPlan => ({
  key: "k",
  addresses: [cidr("10.1.0.5/24")],
  mappings,
  snat: "none",
  markBit: 13,
  conditions: [],
  loopback: false,
  ...more,
});

/** Changes as a person would tell them. */
function tell(changes: readonly NftChange[]): string[] {
  return changes.map((c) => {
    if (c.op === "flush" || c.what === "rule" || c.what === "chain") return `${c.op} ${c.what} ${c.chain}`;
    if (c.what === "table") return `${c.op} table ${c.table}`;
    if (c.what === "map") return `${c.op} map ${c.map}`;
    const unless = c.op === "delete" && c.unlessIn !== undefined ? ` unless in ${c.unlessIn}` : "";
    return `${c.op} ${c.map} ${c.key.toHex()} > ${c.value?.toHex() ?? c.chain}${unless}`;
  });
}

/** The rules of the attachment's own chain, as loads and comparisons. */
function rulesOf(of: PortPlan): string[] {
  const word = (e: NftExpression): string => {
    if (e.payload !== undefined) return `${["ether", "ip", "th"][e.payload.base ?? 0]}+${e.payload.offset}`;
    if (e.meta !== undefined) return e.meta.from === undefined ? `meta ${e.meta.key}` : `set meta ${e.meta.key}`;
    if (e.cmp !== undefined)
      return `${["==", "!=", "<", "<=", ">", ">="][e.cmp.op ?? 0]} ${e.cmp.data?.value?.toHex()}`;
    if (e.bitwise !== undefined) return `& ${e.bitwise.mask?.value?.toHex()} ^ ${e.bitwise.xor?.value?.toHex()}`;
    if (e.immediate?.data?.verdict !== undefined) return `verdict ${e.immediate.data.verdict.code}`;
    if (e.immediate !== undefined) return `${e.immediate.to} = ${e.immediate.data?.value?.toHex()}`;
    if (e.lookup !== undefined) return `@${e.lookup.set}`;
    if (e.nat !== undefined)
      return `dnat ${e.nat.family} ${e.nat.fromPort === undefined ? "address" : "address and port"}`;
    return e.name ?? "";
  };
  const chain = mapPorts(of).chains.find(({ name }) => name === `hostport-${of.key}`);
  return (chain?.rules ?? []).map((rule) => rule.map(word).join(", "));
}

describe("mapPorts()", () => {
  test("leads each port to the attachment's chain, after all that it jumps to is there", () => {
    const { add, elements } = mapPorts(
      plan([tcp(80, 8080), tcp(81, 81, { protocol: "udp", hostIP: ip("192.0.2.1") })]),
    );
    expect(tell(elements)).toEqual([
      "add hostips4 1100000000510000c0000201 > hostport-k",
      "add ports4 0600000000500000 > hostport-k",
      "add ports4 1100000000510000 > hostips",
    ]);
    const told = tell(add);
    expect(told[0]).toBe("add table patchbay_ports");
    expect(told.indexOf("add chain hostport-k")).toBeLessThan(told.indexOf("flush chain hostport-k"));
    expect(told.slice(-3)).toEqual(tell(elements));
    for (const later of ["masquerade-13", "loopback-guard"]) expect(told).not.toContain(`add chain ${later}`);
  });

  test("translates to the address of each family, and only connections to the mapping's address", () => {
    const two = plan([tcp(80, 8080, { hostIP: ip("192.0.2.1") }), tcp(81, 81, { family: 6 })], {
      addresses: [cidr("10.1.0.5/24"), cidr("fd00::5/64")],
    });
    expect(rulesOf({ ...two, loopback: true })).toEqual([
      "meta 15, == 02, ip+16, == c0000201, meta 16, == 06, th+2, == 0050, 1 = 0a010005, 2 = 1f90, dnat 2 address and port",
      "meta 15, == 0a, meta 16, == 06, th+2, == 0051, 1 = fd000000000000000000000000000005, 2 = 0051, dnat 10 address and port",
    ]);
  });

  test("a range keeps its ports, or looks them up in a map of its own", () => {
    const ranges = plan([tcp(80, 80, { length: 3 }), tcp(90, 190, { length: 2 })], { loopback: true });
    expect(rulesOf(ranges)).toEqual([
      "meta 15, == 02, meta 16, == 06, th+2, >= 0050, <= 0052, 1 = 0a010005, dnat 2 address",
      "meta 15, == 02, meta 16, == 06, th+2, >= 005a, <= 005b, 1 = 0a010005, th+2, @shift-k-1, dnat 2 address and port",
    ]);
    const told = tell(mapPorts(ranges).add);
    expect(told).toContain("add map shift-k-1");
    expect(told).toContain("add shift-k-1 005b > 00bf");
    expect(tell(unmapPorts(claimOf(ranges)))).toEqual(
      [
        ...["50", "51", "52", "5a", "5b"].map((port) => `delete ports4 0600000000${port}0000 > hostport-k`),
        "delete chain hostport-k",
        "delete map shift-k-1",
      ].map((line) => line.replace(/(06000000)00(..)0000/, "$100$20000")),
    );
  });

  test("marks what needs the node's address: its own network and loopback, everybody, or nobody", () => {
    const marked = "meta 3, & ffdfffff ^ 00200000, set meta 3";
    const of = (snat: PortPlan["snat"]): string[] =>
      rulesOf(plan([tcp(80, 80)], { snat, loopback: true })).slice(0, -1);
    expect(of("none")).toEqual([]);
    expect(of("local")).toEqual([
      `meta 15, == 02, ip+12, == 0a0100, ${marked}`,
      `meta 15, == 02, ip+12, == 7f, ${marked}`,
    ]);
    expect(of("all")).toEqual([`meta 15, == 02, ${marked}`]);
    const high = rulesOf(plan([tcp(80, 80)], { snat: "all", loopback: true, markBit: 31 }));
    expect(high[0]).toContain("& ffffff7f ^ 00000080");
  });

  test("returns what does not fulfil a condition, and what it cannot send from 127.0.0.1", () => {
    const conditions = [
      { side: "destination", not: true, network: cidr("192.0.2.0/24") },
      { side: "source", not: false, network: cidr("fd09::/16") },
    ] as const;
    expect(rulesOf(plan([tcp(80, 80)], { conditions })).slice(0, -1)).toEqual([
      "meta 15, == 02, ip+16, == c00002, verdict -5",
      "meta 15, == 0a, ip+8, != fd09, verdict -5",
      "meta 15, == 02, ip+16, == 7f, verdict -5",
    ]);
  });

  test("a port on one address gives up its place among all ports when no other address has it", () => {
    const claim = claimOf(plan([tcp(80, 80, { hostIP: ip("192.0.2.1") })]));
    expect(tell(unmapPorts(claim))).toEqual([
      "delete hostips4 0600000000500000c0000201 > hostport-k",
      "delete ports4 0600000000500000 > hostips unless in hostips4",
      "delete chain hostport-k",
    ]);
  });
});

describe("on a node", () => {
  test("says what is amiss, and who has a port", () => {
    const node = new SimulatedNode();
    const kernel = node.netns("host", { host: true });
    const first = mapPorts(plan([tcp(80, 80), tcp(81, 81, { hostIP: ip("192.0.2.1") })]));
    expect(portsAmiss(kernel, first)).toContain("rules of nft chain");
    kernel.nft.change(first.add);
    expect(portsAmiss(kernel, first)).toBeUndefined();
    const second = mapPorts(plan([tcp(80, 1, { hostIP: ip("192.0.2.2") }), tcp(81, 1)], { key: "l" }));
    expect(() => kernel.nft.change(second.add)).toThrow("EEXIST");
    const holders = portHolders(kernel, second);
    expect(holders.map(({ port, chain }) => [port, chain])).toEqual([
      ["port 81/tcp of 192.0.2.1", "hostport-k"],
      ["port 80/tcp", "hostport-k"],
    ]);
    kernel.nft.change([...holders.flatMap(({ release }) => release), ...second.add]);
    expect(portsAmiss(kernel, second)).toBeUndefined();
    expect(portsAmiss(kernel, first)).toBe("port 80/tcp does not lead to the pod");
    kernel.nft.change(unmapPorts(claimOf(plan([tcp(80, 80), tcp(81, 81, { hostIP: ip("192.0.2.1") })]))));
    expect(portsAmiss(kernel, second)).toBeUndefined();
  });

  test("salvagePorts() finds what leads to an attachment, and leaves the others", () => {
    const kernel = new SimulatedNode().netns("host", { host: true });
    const other = mapPorts(plan([tcp(81, 1, { hostIP: ip("192.0.2.2") })], { key: "l" }));
    kernel.nft.change(other.add);
    kernel.nft.change(mapPorts(plan([tcp(70, 90, { length: 2 }), tcp(82, 1, { hostIP: ip("192.0.2.1") })])).add);
    const last = MAX_MAPPINGS - 1;
    const many = Array.from({ length: last }, (_, i) => tcp(1000 + i, 1));
    kernel.nft.change(mapPorts(plan([...many, tcp(90, 95, { length: 2 })], { key: "m" })).add);
    const shift = (key: string, index: number) =>
      kernel.nft.elements("inet", "patchbay_ports", `shift-${key}-${index}`);
    expect([shift("k", 0), shift("m", last)]).toEqual([expect.anything(), expect.anything()]);
    for (const key of ["k", "k", "m"]) salvagePorts(kernel, key);
    expect(portsAmiss(kernel, other)).toBeUndefined();
    expect(kernel.nft.elements("inet", "patchbay_ports", "ports4")).toHaveLength(1);
    expect([shift("k", 0), shift("m", last)]).toEqual([undefined, undefined]);
    expect(kernel.nft.chains("inet", "patchbay_ports")).not.toContain("hostport-k");
  });
});

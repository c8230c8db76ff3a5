/** port_map, port_check and conntrack_flush on a simulated kernel: what they refuse, and what the journal brings back. */
import { describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions, wideManifest } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import { parseCidr } from "../base/ip.ts";
import type { JsonObject } from "../base/json.ts";
import { type Kernel, KernelError } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { parsePolicy } from "../policy/policy.ts";
import { nftKey } from "./context.ts";

const LOCALNET = "net/ipv4/conf/br0/route_localnet";
const manifest = wideManifest({ sysctls: ["host:net/ipv4/conf/<link>/route_localnet"] });
const prevResult = { ips: [{ address: "10.9.0.5/24" }, { address: "fd00:9::5/64" }] };
const addresses = ["10.9.0.5/24"];
const tcp = (hostPort: number, more: JsonObject = {}): JsonObject => ({
  protocol: "tcp",
  hostPort,
  containerPort: 80,
  ...more,
});

class Sim {
  readonly node = new SimulatedNode();
  readonly host: Kernel = this.node.netns("host", { host: true });

  constructor() {
    const bridge = this.node.plug("host", { name: "br0", mac: "00:16:3e:00:00:01" });
    this.host.setLink(bridge.index, { up: true });
    const address = parseCidr("10.9.0.1/24");
    if (address !== undefined) this.host.addAddress(bridge.index, { address });
  }

  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ host: this.host, manifest, conf: { prevResult }, ...o });
  }

  elements(map: string): string[] {
    return (this.host.nft.elements("inet", "patchbay_ports", map) ?? []).map(
      ({ key, chain }) => `${key.toHex()} ${chain}`,
    );
  }

  undo(guest: TestGuest): unknown[] {
    return undoKernelSteps([{ entries: guest.journal.entries }], { pod: undefined, host: this.host });
  }
}

describe("port_map", () => {
  test("maps after the journal says so, opens 127.0.0.1 last, and all goes by the journal", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const append = guest.journal.append.bind(guest.journal);
    guest.journal.append = (entry) => {
      expect(sim.elements("ports4")).toEqual([]);
      append(entry);
    };
    expect(guest.must("port_map", { mappings: [tcp(8080)], addresses })).toEqual({ loopback: true });
    const chain = `hostport-${guest.context.nftKey()}`;
    expect(sim.elements("ports4")).toEqual([`060000001f900000 ${chain}`]);
    expect(sim.host.sysctl(LOCALNET)).toBe("1");
    expect(guest.must("port_check")).toEqual({});
    sim.host.setSysctl(LOCALNET, "0");
    expect(guest.must("port_check")).toEqual({ amiss: `sysctl "${LOCALNET}" is not 1` });
    expect(JSON.parse(JSON.stringify(guest.journal.entries))).toEqual(guest.journal.entries as never);
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.elements("ports4")).toEqual([]);
    expect(sim.host.nft.chains("inet", "patchbay_ports")).not.toContain(chain);
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.guest().must("port_check")).toEqual({ amiss: "no ports were mapped" });
  });

  test.each<[string, JsonObject, boolean]>([
    ["snat is off", { snat: "none" }, false],
    ["the port is of another address", { mappings: [tcp(80, { hostIP: "192.0.2.1" })] }, false],
    [
      "the port is of IPv6",
      { mappings: [tcp(80, { hostIP: "::" })], addresses: ["10.9.0.5/24", "fd00:9::5/64"] },
      false,
    ],
    ["the pod has IPv6 alone", { addresses: ["fd00:9::5/64"] }, false],
    ["the port is of all addresses of IPv4", { mappings: [tcp(80, { hostIP: "0.0.0.0" })] }, true],
    ["the port is of 127.0.0.1", { mappings: [tcp(80, { hostIP: "127.0.0.1" })] }, true],
  ])("127.0.0.1 when %s", (_, more, loopback) => {
    const sim = new Sim();
    expect(sim.guest().must("port_map", { mappings: [tcp(80)], addresses, ...more })).toEqual({ loopback });
    expect(sim.host.sysctl(LOCALNET) === "1").toBe(loopback);
    expect(sim.host.nft.chains("inet", "patchbay_ports").includes("loopback-guard")).toBe(loopback);
  });

  test("does without 127.0.0.1 when the policy keeps the sysctl", () => {
    const sim = new Sim();
    const policy = parsePolicy({ plugins: { wide: { sysctls: [] } } });
    expect(sim.guest({ policy }).must("port_map", { mappings: [tcp(80)], addresses })).toEqual({ loopback: false });
    expect(sim.host.sysctl(LOCALNET)).not.toBe("1");
  });

  test.each<[string, JsonObject, number, string]>([
    ["no mapping", { mappings: [], addresses }, 120, '"mappings": expected at least one'],
    ["no address", { mappings: [tcp(80)], addresses: [] }, 120, '"addresses": expected one of a family'],
    ["two of a family", { mappings: [tcp(80)], addresses: ["10.9.0.5/24", "10.9.0.6/24"] }, 120, "one of a family"],
    [
      "another pod's address",
      { mappings: [tcp(80)], addresses: ["10.9.0.6/24"] },
      121,
      "not this attachment's address",
    ],
    ["port 0", { mappings: [tcp(0)], addresses }, 120, '"mappings[0].hostPort"'],
    ["port 65536", { mappings: [tcp(65_536)], addresses }, 120, '"mappings[0].hostPort"'],
    ["another protocol", { mappings: [tcp(1, { protocol: "icmp" })], addresses }, 120, '"mappings[0].protocol"'],
    ["a range behind the end", { mappings: [tcp(65_535, { length: 2 })], addresses }, 120, "ends behind port 65535"],
    ["too many", { mappings: [tcp(1, { length: 1024 }), tcp(2000)], addresses }, 120, "expected at most 1024 ports"],
    ["a bit that no mark has", { mappings: [tcp(80)], addresses, markBit: 32 }, 120, '"markBit"'],
  ])("refuses %s", (_, request, code, words) => {
    const sim = new Sim();
    const guest = sim.guest();
    const answer = guest.call("port_map", request);
    expect([answer.code, answer.msg]).toEqual([code, expect.stringContaining(words)]);
    expect(guest.journal.entries).toEqual([]);
    expect(sim.host.nft.chains("inet", "patchbay_ports")).toEqual([]);
  });

  test("a port of a living pod is refused, one of a dead or unknown pod taken over", () => {
    const sim = new Sim();
    const other = { container: "c2", network: "net1", ifname: "eth0" };
    sim
      .guest({ attachment: other })
      .must("port_map", { mappings: [tcp(80), tcp(81, { hostIP: "192.0.2.1" })], addresses });
    const wanted = { mappings: [tcp(81)], addresses };
    let alive = true;
    const asked: string[] = [];
    const guest = sim.guest({
      ownerOf(key) {
        asked.push(key);
        return { label: 'pod "a/b"', alive };
      },
    });
    const refused = guest.call("port_map", wanted);
    expect(refused).toMatchObject({
      code: 102,
      msg: 'Cannot map port 81/tcp of 192.0.2.1 of the node: pod "a/b" has it',
    });
    expect(asked).toEqual([nftKey(other)]);
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.elements("hostips4")).toHaveLength(1);
    alive = false;
    guest.must("port_map", wanted);
    expect(sim.elements("hostips4")).toEqual([]);
    expect(sim.elements("ports4").toSorted()).toEqual([
      `0600000000500000 hostport-${nftKey(other)}`,
      `0600000000510000 hostport-${guest.context.nftKey()}`,
    ]);
    sim.guest({ attachment: { container: "c3" } }).must("port_map", wanted); // with nobody to ask
    expect(sim.undo(guest)).toEqual([]);
    expect(sim.elements("ports4")).toHaveLength(2);
  });
});

describe("conntrack_flush", () => {
  test("is about the attachment's own UDP ports, and nothing else", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const asked = (): unknown[] => sim.node.calls.filter(({ call }) => call === "forgetUdp").map((c) => c.argument);
    guest.must("conntrack_flush");
    guest.must("port_map", { mappings: [tcp(80)], addresses });
    guest.must("conntrack_flush");
    expect(asked()).toEqual([]);
    const mappings = [tcp(80), { protocol: "udp", hostPort: 5000, containerPort: 53, length: 3, hostIP: "192.0.2.1" }];
    guest.must("port_map", { mappings, addresses: prevResult.ips.map((ip) => ip.address) });
    expect(guest.must("conntrack_flush")).toEqual({ forgotten: 0, all: true });
    expect(asked()).toMatchObject([{ flows: [{ family: 4, ports: [{ first: 5000, count: 3 }] }], timeoutMs: 200 }]);
    expect(JSON.stringify(asked()[0])).toContain("exceptBy");
    sim.undo(guest);
    expect(JSON.stringify(asked().at(-1))).toContain("answeredBy");
  });
});

describe("nft_ready", () => {
  test("tells whether the kernel has nftables, and makes nothing", () => {
    const sim = new Sim();
    expect(sim.guest({ operation: "STATUS" }).must("nft_ready")).toEqual({ ready: true });
    expect(sim.host.nft.chains("inet", "patchbay")).toEqual([]);
    const chains = (): never => {
      throw new KernelError("list nft chains", 95);
    };
    const without: Kernel = Object.create(sim.host, { nft: { value: { chains } } });
    expect(sim.guest({ operation: "STATUS", host: without }).must("nft_ready")).toEqual({ ready: false });
  });
});

/** filter_add and its kin, isolation_apply and the calls about firewalld, on a simulated node. */
import { beforeEach, describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import type { Entry } from "../state/entries.ts";

const conf: JsonObject = {
  prevResult: {
    interfaces: [{ name: "br9" }, { name: "eth0", sandbox: "/run/netns/pod" }],
    ips: [{ address: "10.9.0.5/24" }, { address: "fd00:9::5/64" }],
  },
};
const addresses = ["10.9.0.5", "fd00:9::5"];

let node: SimulatedNode;
let host: Kernel;
beforeEach(() => {
  node = new SimulatedNode();
  host = node.netns("host", { host: true });
});
const guestOf = (o: Partial<TestGuestOptions> = {}): TestGuest =>
  new TestGuest({ host, pod: node.netns("pod"), conf, ...o });
const undo = (guest: TestGuest, entries: readonly Entry[] = guest.journal.entries): unknown[] =>
  undoKernelSteps([{ entries }], { pod: undefined, host });

describe("filter_add", () => {
  test("accepts, says so, and is undone by the journal alone", () => {
    const guest = guestOf();
    expect(guest.must("filter_check", { addresses })).toEqual({ present: false });
    guest.must("filter_add", { addresses });
    guest.must("filter_add", { addresses });
    expect(guest.must("filter_check", { addresses })).toEqual({ present: true });
    expect(guest.must("filter_check", { addresses, adminChain: "OTHER" })).toEqual({ present: false });
    expect(undo(guest)).toEqual([]);
    expect(host.nft.table("ip", "filter")).toBeUndefined();
    expect(undo(guest)).toEqual([]);
  });
  test("the journal comes first: killed in between, nothing is left after the undo", () => {
    const guest = guestOf();
    node.fault = ({ call }) => {
      if (call === "nft") expect(guest.journal.entries.at(-1)).toMatchObject({ is: "undo", step: { do: "filter" } });
      return undefined;
    };
    guest.must("filter_add", { addresses });
    for (let n = 0; n <= guest.journal.entries.length; n++) expect(undo(guest, guest.journal.upTo(n))).toEqual([]);
    expect(host.nft.table("ip6", "filter")).toBeUndefined();
  });
  test.each([
    ["another's address", { addresses: ["10.9.0.6"] }, 121, "not this attachment's"],
    ["a chain that is a verdict", { addresses, adminChain: "ACCEPT" }, 120, "has a meaning already"],
    ["the chain that leads there", { addresses, adminChain: "CNI-FORWARD" }, 120, "has a meaning already"],
    ["a chain that reads as an option", { addresses, adminChain: "-j" }, 120, '"-j"'],
    ["a name too long for iptables", { addresses, adminChain: "x".repeat(29) }, 120, "28 characters"],
  ])("refuses %s", (_, request, code, words) => {
    const guest = guestOf();
    expect(guest.call("filter_add", request)).toMatchObject({ code, msg: expect.stringContaining(words) });
    expect(guest.journal.entries).toEqual([]);
    expect(host.nft.table("ip", "filter")).toBeUndefined();
  });
  test("two attachments with one address are told apart", () => {
    const [one, two] = [guestOf(), guestOf({ attachment: { container: "c2" } })];
    one.must("filter_add", { addresses });
    two.must("filter_add", { addresses });
    undo(one);
    expect(one.must("filter_check", { addresses })).toEqual({ present: false });
    expect(two.must("filter_check", { addresses })).toEqual({ present: true });
  });
});

test("filter_drops lists who drops, in STATUS too", () => {
  const at = { family: "inet", table: "mine" } as const;
  const base = { type: "filter", hook: "forward", priority: 0, drops: true } as const;
  host.nft.change([
    { op: "add", ...at, what: "table" },
    { op: "add", ...at, what: "chain", chain: "x", base },
  ]);
  node.legacyTables.push({ family: 4, table: "filter", forward: "drop" });
  const chains = [
    { name: "nft chain inet mine x", table: "mine", ipv4: true, ipv6: true, by: "policy", writable: false },
    {
      name: "iptables-legacy chain filter FORWARD",
      table: "filter",
      ipv4: true,
      ipv6: false,
      by: "policy",
      writable: false,
    },
  ];
  for (const operation of ["ADD", "CHECK", "STATUS"] as const) {
    expect(guestOf({ operation }).must("filter_drops")).toEqual({ chains });
  }
});

describe("isolation_apply", () => {
  test("isolates what the previous result names on the node, as the network's", () => {
    const guest = guestOf();
    guest.must("isolation_apply", { name: "br9", policy: "same-bridge" });
    expect(guest.shared).toEqual(["isolation br9"]);
    expect(guest.must("isolation_check", { name: "br9", policy: "same-bridge" })).toEqual({ present: true });
    expect(guest.must("isolation_check", { name: "br9", policy: "isolated" })).toEqual({ present: false });
    guest.must("isolation_apply", { name: "br9", policy: "isolated" });
    expect(guest.must("isolation_check", { name: "br9", policy: "same-bridge" })).toEqual({ present: true });
  });
  test.each(["eth0", "uplink"])("refuses %s, which is not the attachment's on the node", (name) => {
    const guest = guestOf();
    expect(guest.code("isolation_apply", { name, policy: "isolated" })).toBe(121);
    expect(guest.shared).toEqual([]);
    expect(host.nft.chains("inet", "patchbay")).toEqual([]);
  });
});

describe("firewalld", () => {
  test("where it does not run", () => {
    const guest = guestOf();
    expect(guest.must("firewalld_find")).toEqual({ running: false });
    expect(guest.must("firewalld_check", { zone: "trusted", addresses })).toEqual({ present: false });
    expect(guest.call("firewalld_add", { zone: "trusted", addresses })).toMatchObject({
      code: 11,
      msg: "Cannot ask firewalld: it does not run",
    });
    expect(guest.shared).toEqual([]);
  });
});

describe("link_set on the node's end of a veth that another plugin made", () => {
  test("changes how it is a port of its bridge, and nothing else", () => {
    const bridge = host.createLink({ kind: "bridge", name: "br9" });
    const peer = { name: "eth0", in: node.netns("pod") };
    const port = host.createLink({ kind: "veth", name: "cali0", master: bridge.index, peer });
    const guest = guestOf();
    const { link: pod } = guest.must("link_open", { in: "pod", name: "eth0" });
    const { link } = guest.must("link_open", { in: "host", peerOf: pod });
    guest.must("link_set", { link, isolated: true });
    expect(host.linkByIndex(port.index)?.port?.isolated).toBe(true);
    expect(guest.must("link_open", { in: "host", peerOf: pod }).isolated).toBe(true);
    expect(undo(guest)).toEqual([]);
    expect(host.linkByIndex(port.index)?.port?.isolated).toBe(false);
    for (const change of [{ up: false }, { mtu: 1300 }, { master: 0 }, { mac: "02:00:00:00:00:09" }]) {
      expect(guest.code("link_set", { link, ...change })).toBe(121);
    }
  });
});

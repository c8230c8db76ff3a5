/** Borrowing devices, on a simulated node: whose a device is, what is kept of it, and how it comes home. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { deviceNode, SimulatedBuses } from "../../test/support/devices.ts";
import { MemoryJournal, TestGuest, wideManifest } from "../../test/support/guest.ts";
import type { JsonObject } from "../base/json.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { parsePolicy } from "../policy/policy.ts";
import { Scratch } from "../state/support.ts";
import { returnDevice, returnUnknown } from "./device.ts";
import { deviceQuery } from "./device-find.ts";
import { vfDifference } from "./device-home.ts";
import { checkHonest } from "./result.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:10.0";
const PROGRAM = "0000:01:10.2";
const selectors = { ids: ["runtimeConfig.deviceID", "deviceID"], name: "device", mac: "hwaddr", path: "kernelpath" };
const manifest = wideManifest({ device: selectors });

let scratch: Scratch;
let sim: SimulatedNode;
let buses: SimulatedBuses;
let host: Kernel;
const pods = new Map<string, Kernel>();
/** What the reference SR-IOV plugin has given away: the namespace of a pod that lives. */
const given = new Map<string, string>();

beforeEach(() => {
  scratch = new Scratch();
  sim = new SimulatedNode();
  host = sim.netns("host", { host: true });
  buses = new SimulatedBuses(sim);
  buses.plug(PF, { driver: "ixgbe", link: "ens1", mac: "02:00:00:00:00:01", vfs: 2 });
  buses.plug(VF, { driver: "ixgbevf", of: PF, number: 0, link: "ens1v0", mac: "02:00:00:00:00:10" });
  buses.plug(PROGRAM, { driver: "vfio-pci", of: PF, number: 1 });
  pods.clear();
  given.clear();
});
afterEach(() => scratch[Symbol.dispose]());

const node = (bootId?: string) => ({
  ...deviceNode(`${scratch.path}/lib`, host, buses, pods, bootId),
  referenceUser: (pci: string) => given.get(pci),
});

interface Pod {
  readonly guest: TestGuest;
  readonly kernel: Kernel;
  readonly journal: MemoryJournal;
  /** What DEL does. */
  del(reach?: boolean): void;
}

function pod(container: string, conf: JsonObject, more: { policy?: JsonObject; bootId?: string } = {}): Pod {
  const kernel = sim.netns(container);
  pods.set(container, kernel);
  const journal = new MemoryJournal();
  const guest = new TestGuest({
    manifest,
    host,
    pod: kernel,
    journal,
    conf,
    attachment: { container, network: "n", ifname: "net1" },
    devices: node(more.bootId),
    ...(more.policy && { policy: parsePolicy(more.policy), author: { namespace: "tenant" } as const }),
  });
  const del = (reach = true): void => {
    for (const e of journal.entries) {
      if (e.is !== "undo" || e.step.do !== "device") continue;
      const made = journal.entries.findLast((m) => m.is === "made" && m.id === e.id);
      const index = made?.is === "made" && typeof made.facts.index === "number" ? made.facts.index : undefined;
      returnDevice(
        e.step.device,
        { container, key: `key-${container}` },
        { pod: reach ? kernel : undefined, index },
        node(),
      );
    }
  };
  return { guest, kernel, journal, del };
}

const links = (): string[] =>
  host
    .links()
    .map((l) => `${l.name} ${l.mac} ${l.mtu} ${l.up}`)
    .sort();
const vf = (number: number) => host.virtualFunctions(host.linkByName("ens1")?.index ?? 0)[number];

describe("device_take", () => {
  test.each([
    ["the runtime's choice", { runtimeConfig: { deviceID: VF }, device: "ens1" }],
    ["its address", { deviceID: VF }],
    ["its address in capitals", { deviceID: VF.toUpperCase() }],
    ["its name", { device: "ens1v0" }],
    ["its MAC address", { hwaddr: "02:00:00:00:00:10" }],
    ["its path", { kernelpath: `/sys/devices/pci0000:00/${VF}` }],
  ])("finds it by %s", (_, conf) => {
    const { guest } = pod("a", conf);
    expect(guest.must("device_take")).toMatchObject({
      id: VF,
      driver: "ixgbevf",
      program: false,
      link: { name: "ens1v0", role: "device", in: "host" },
      function: { number: 0, physical: "ens1" },
    });
  });

  test("writes the journal, then the record, and changes nothing", () => {
    const before = links();
    const { guest, journal } = pod("a", { deviceID: VF });
    guest.must("device_take");
    expect(journal.entries.map((e) => e.is)).toEqual(["undo"]);
    expect(links()).toEqual(before);
    expect(node().records.list()).toMatchObject([
      { key: `pci-${VF}`, owner: { container: "a" }, link: { name: "ens1v0" }, vf: { of: PF, number: 0 } },
    ]);
  });

  test("refuses one that somebody has, with the name of who that is, before and after it has moved", () => {
    const first = pod("a", { deviceID: VF }).guest;
    const taken = first.must("device_take");
    const says = (conf: JsonObject): unknown => pod("b", conf).guest.call("device_take");
    const refusal = {
      code: 102,
      msg: `Cannot use the device that "deviceID" names, "${VF}": container "a" (interface "net1" of network "n") has it`,
    };
    expect(says({ deviceID: VF })).toMatchObject(refusal);
    first.must("link_move", { link: (taken.link as JsonObject).link as number, to: "pod", name: "net1" });
    expect(says({ deviceID: VF })).toMatchObject(refusal);
    expect(says({ device: "ens1v0" })).toMatchObject({ code: 102 });
  });

  test("takes it for the next when the namespace of the former has gone, as it was; the late DEL finds nothing", () => {
    const first = pod("a", { deviceID: VF });
    first.guest.must("device_take");
    first.guest.must("vf_set", { vlan: 100, qos: 2, protocol: "802.1q" });
    pods.clear();
    const second = pod("b", { deviceID: VF });
    second.guest.must("device_take");
    expect(vf(0)).toMatchObject({ vlan: 0, qos: 0 });
    second.guest.must("vf_set", { vlan: 7 });
    first.del(false);
    expect(vf(0)).toMatchObject({ vlan: 7 });
    expect(node().records.list()).toMatchObject([{ owner: { container: "b" } }]);
    second.del();
    expect([vf(0)?.vlan, node().records.list()]).toEqual([0, []]);
  });

  test("passes over a record of an earlier boot", () => {
    pod("a", { deviceID: VF }, { bootId: "boot-0" }).guest.must("device_take");
    expect(pod("b", { deviceID: VF }).guest.must("device_take")).toMatchObject({ id: VF });
  });

  test.each([
    ["nothing that names one", {}, 7, "has none of"],
    ["an address of no device", { deviceID: "0000:09:00.0" }, 7, "this node has no such device"],
    ["an address that is none", { deviceID: "../x" }, 7, "expected a PCI address"],
    ["a name of no link", { device: "ens9" }, 7, "has no such interface"],
    ["the loopback interface", { device: "lo" }, 7, "loopback"],
    ["a path elsewhere", { kernelpath: "/etc/passwd" }, 7, "/sys/devices/"],
  ])("refuses %s, and keeps no record", (_, conf, code, words) => {
    const { guest, del } = pod("a", conf);
    expect(guest.call("device_take")).toMatchObject({ code, msg: expect.stringContaining(words) });
    del();
    expect(node().records.list()).toEqual([]);
  });

  test("refuses a device whose interface is in nobody's namespace that we know", () => {
    host.moveLink(host.linkByName("ens1v0")?.index ?? 0, sim.netns("elsewhere"));
    expect(pod("a", { deviceID: VF }).guest.call("device_take")).toMatchObject({ code: 102 });
  });

  test.each([
    ["a program's", PROGRAM],
    ["one whose interface is on the node", VF],
  ])("refuses what the reference plugin gave a pod that lives: %s", (_, device) => {
    given.set(device, "/run/netns/theirs");
    const { guest, del } = pod("a", { deviceID: device });
    const msg = expect.stringContaining('the network namespace "/run/netns/theirs" has it');
    expect(guest.call("device_take")).toMatchObject({ code: 102, msg });
    del();
    expect(node().records.list()).toEqual([]);
    given.clear();
    expect(pod("b", { deviceID: device }).guest.must("device_take")).toMatchObject({ id: device });
  });

  test("asks the policy by the name of the physical function", () => {
    const lines = (name: string): JsonObject => ({ strict: true, hostLinks: [{ links: [name] }] });
    expect(pod("a", { deviceID: VF }, { policy: lines("ens1v0") }).guest.code("device_take")).toBe(101);
    expect(pod("a", { deviceID: VF }, { policy: lines("ens1") }).guest.code("device_take")).toBe(0);
  });
});

describe("link_move of a device", () => {
  test("gives it its name in the pod; it is configured like a link of the pod's own, and never deleted", () => {
    const { guest, kernel } = pod("a", { deviceID: VF });
    const taken = guest.must("device_take").link as JsonObject;
    const moved = guest.must("link_move", { link: taken.link as number, to: "pod", name: "net1" });
    expect(moved).toMatchObject({ name: "net1", in: "pod", role: "pod-link" });
    guest.must("link_set", { link: moved.link as number, mtu: 1300 });
    guest.must("link_configure", { link: moved.link as number, addresses: [{ address: "10.9.0.5/24" }] });
    expect(guest.call("link_delete", { link: moved.link as number })).toMatchObject({ code: 120 });
    expect(guest.call("link_move", { link: moved.link as number, to: "host" })).toMatchObject({ code: 120 });
    expect(kernel.linkByName("net1")).toMatchObject({ mtu: 1300, up: true });
  });

  test("is refused where the pod has the name", () => {
    const { guest, kernel } = pod("a", { deviceID: VF });
    kernel.createLink({ kind: "dummy", name: "net1" });
    const taken = guest.must("device_take").link as JsonObject;
    expect(guest.call("link_move", { link: taken.link as number, to: "pod", name: "net1" })).toMatchObject({
      code: 102,
    });
  });
});

describe("coming home", () => {
  function moved(conf: JsonObject = { deviceID: VF }): Pod {
    const one = pod("a", conf);
    const taken = one.guest.must("device_take").link as JsonObject;
    const link = one.guest.must("link_move", { link: taken.link as number, to: "pod", name: "net1" }).link as number;
    one.guest.must("link_set", { link, mtu: 1300, mac: "02:00:00:00:00:77", promisc: true, up: true });
    return one;
  }

  test("from the pod: name, MAC address, MTU, promiscuity and whether it was up", () => {
    host.setLink(host.linkByName("ens1v0")?.index ?? 0, { up: true, alias: "to the lab" });
    const before = links();
    const one = moved();
    one.del();
    expect(links()).toEqual(before);
    expect(host.linkByName("ens1v0")).toMatchObject({ promisc: false, alias: "to the lab" });
    one.del();
  });

  test("from where the kernel put it, under another name", () => {
    const before = links();
    const one = moved();
    host.createLink({ kind: "dummy", name: "net1" });
    sim.removeNetns("a");
    expect(host.linkByName("ens1v0")).toBeUndefined();
    one.del(false);
    host.deleteLink(host.linkByName("net1")?.index ?? 0);
    expect(links()).toEqual(before);
  });

  test("out of a namespace that nobody can reach, by its driver", () => {
    const before = links();
    const one = moved();
    one.del(false);
    expect(links()).toEqual(before);
  }, 10_000);

  test("under another name, when its own is taken", () => {
    const one = moved();
    host.createLink({ kind: "dummy", name: "ens1v0" });
    one.del();
    expect(host.linkByName("ens1v0-0")).toMatchObject({ mac: "02:00:00:00:00:10" });
  });

  test("not at all, when it was pulled out", () => {
    const one = moved();
    sim.unplug(VF);
    buses.devices.splice(1, 1);
    one.del();
    expect(node().records.list()).toEqual([]);
  });

  test("a link that is no device's: from the pod, and with its namespace gone", () => {
    host.createLink({ kind: "dummy", name: "dum0", mac: "02:00:00:00:00:50" });
    const before = links();
    const one = moved({ device: "dum0" });
    expect(node().records.list()).toMatchObject([{ key: "link-dum0" }]);
    one.del();
    expect(links()).toEqual(before);
    const two = moved({ device: "dum0" });
    sim.removeNetns("a");
    two.del(false);
    expect([host.linkByName("dum0"), node().records.list()]).toEqual([undefined, []]);
  });

  test("without a journal, by the record alone", () => {
    const before = links();
    moved();
    expect(returnUnknown("a", new Set(["key-a"]), node())).toEqual([]);
    expect(host.linkByName("ens1v0")).toBeUndefined();
    expect(returnUnknown("a", new Set(), node())).toEqual([]);
    expect(links()).toEqual(before);
  });

  test("what the kernel refuses keeps the record for the retry", () => {
    const before = links();
    const one = moved();
    sim.fault = ({ call }) => (call === "moveLink" ? 12 : undefined);
    expect(() => one.del()).toThrow('Cannot give device "ens1v0" back to the node');
    sim.fault = undefined;
    expect(node().records.list()).toHaveLength(1);
    one.del();
    expect(links()).toEqual(before);
  });
});

describe("vf_set", () => {
  test("sets what differs, and nothing else", () => {
    const { guest, del } = pod("a", { deviceID: VF });
    const before = vf(0);
    guest.must("device_take");
    sim.calls.length = 0;
    guest.must("vf_set", { linkState: "auto", spoofCheck: true, vlan: 0 });
    expect(sim.calls.filter((c) => c.call === "setVirtualFunction").map((c) => c.argument)).toEqual([
      { index: expect.any(Number), number: 0 },
    ]);
    guest.must("vf_set", {
      mac: "02:11:22:33:44:00",
      vlan: 5,
      qos: 1,
      protocol: "802.1ad",
      trust: true,
      spoofCheck: false,
    });
    guest.must("vf_set", { minTxRate: 5, maxTxRate: 10, linkState: "enable" });
    expect(vf(0)).toEqual({
      number: 0,
      mac: "02:11:22:33:44:00",
      vlan: 5,
      qos: 1,
      protocol: "802.1ad",
      trust: true,
      spoofCheck: false,
      minTxRate: 5,
      maxTxRate: 10,
      linkState: "enable",
    });
    expect(host.linkByName("ens1v0")?.mac).toBe("02:11:22:33:44:00");
    expect(vf(1)?.vlan).toBe(0);
    del();
    expect(vf(0)).toEqual(before as never);
    expect(host.linkByName("ens1v0")?.mac).toBe("02:00:00:00:00:10");
  });

  test("starts the driver anew where the function must not take its address itself", () => {
    const { guest } = pod("a", { deviceID: VF });
    guest.must("device_take");
    sim.fault = ({ call, argument }) => {
      const change = argument as { mac?: string };
      return call === "setLink" && change.mac === "02:11:22:33:44:00" && host.linkByName("new0") === undefined
        ? 99
        : undefined;
    };
    guest.must("vf_set", { mac: "02:11:22:33:44:00" });
    expect(host.linkByName("new0")?.mac).toBe("02:11:22:33:44:00");
  });

  test("needs a device that was taken, and a virtual function", () => {
    expect(pod("a", { deviceID: VF }).guest.call("vf_set", { vlan: 5 })).toMatchObject({ code: 7 });
    const { guest } = pod("b", { deviceID: PF });
    guest.must("device_take");
    expect(guest.call("vf_set", { vlan: 5 })).toMatchObject({
      code: 7,
      msg: expect.stringContaining("no virtual function"),
    });
  });

  test.each([
    ["nothing", {}, {}],
    ["what is so already", { vlan: 0, trust: false, mac: "00:00:00:00:00:00" }, {}],
    ["the priority alone, with its VLAN", { qos: 3 }, { vlan: { vlan: 0, qos: 3, protocol: "802.1q" } }],
    ["one rate, with the other", { maxTxRate: 9 }, { rate: { min: 0, max: 9 } }],
  ] as const)("vfDifference() of %s", (_, wanted, change) => {
    const now = {
      number: 0,
      mac: "00:00:00:00:00:00",
      vlan: 0,
      qos: 0,
      protocol: "802.1q",
      minTxRate: 0,
      maxTxRate: 0,
      trust: false,
    } as const;
    expect(vfDifference(now, wanted)).toEqual(change as never);
  });
});

describe("a device for a program", () => {
  test("has no interface, and the result may claim what its function has", () => {
    const { guest, del } = pod("a", { deviceID: PROGRAM });
    expect(guest.must("device_take")).toMatchObject({ program: true, function: { number: 1 } });
    guest.must("vf_set", { mac: "02:11:22:33:44:09" });
    const claim = (mac: string, pciID = PROGRAM): JsonObject => {
      return { interfaces: [{ name: "net1", mac, sandbox: "/run/netns/pod", pciID }] };
    };
    checkHonest(guest.context, claim("02:11:22:33:44:09"));
    expect(() => checkHonest(guest.context, claim("02:11:22:33:44:0a"))).toThrow("whose device has another");
    expect(() => checkHonest(guest.context, claim("02:11:22:33:44:09", VF))).toThrow("the device");
    del();
    expect(vf(1)?.mac).toBe("00:00:00:00:00:00");
  });
});

describe("device_get", () => {
  test("shows the device in the pod, and whether it is still the attachment's", () => {
    const one = pod("a", { deviceID: VF });
    const taken = one.guest.must("device_take").link as JsonObject;
    one.guest.must("link_move", { link: taken.link as number, to: "pod", name: "net1" });
    const look = (): JsonObject => {
      const attachment = { container: "a", network: "n", ifname: "net1" };
      const devices = node();
      const check = { operation: "CHECK", manifest, host, pod: one.kernel, conf: { deviceID: VF } } as const;
      return new TestGuest({ ...check, journal: one.journal, attachment, devices }).must("device_get");
    };
    expect(look()).toMatchObject({ taken: true, id: VF, link: { name: "net1", in: "pod" } });
    one.del();
    expect(look()).toMatchObject({ taken: false });
  });
});

test("deviceQuery(): the runtime's choice first, then as the reference looks", () => {
  const all = { runtimeConfig: { deviceID: "r" }, deviceID: "i", device: "d", hwaddr: "h", kernelpath: "k" };
  const order: string[] = [];
  const conf: Record<string, unknown> = { ...all };
  for (;;) {
    let found: string;
    try {
      found = deviceQuery(selectors, conf as JsonObject).key;
    } catch {
      break;
    }
    order.push(found);
    delete conf[found.split(".")[0] ?? ""];
  }
  expect(order).toEqual(["runtimeConfig.deviceID", "device", "hwaddr", "kernelpath", "deviceID"]);
});

/** The kernel of this machine passes the suite that the simulated one passes. */
import { describe, expect, spyOn, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import { type Cidr, parseCidr } from "../../core/base/ip.ts";
import { type Abilities, kernelContract, type Pair } from "../../core/kernel/contract.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import { sh, TestNetns } from "../support/netns.ts";
import { requires, root } from "../support/requires.ts";

const isRoot = root[1];

export interface RealPair extends Pair {
  readonly hostNs: TestNetns;
  readonly podNs: TestNetns;
}

function open(): RealPair {
  const stack = new DisposableStack();
  const make = (hint: string, host: boolean): [TestNetns, Kernel] => {
    const ns = stack.use(TestNetns.create(hint));
    return [ns, stack.use(openKernel(stack.use(Netns.open(parseNetnsPath(ns.path))), { host }))];
  };
  const [hostNs, host] = make("host", true);
  const [podNs, pod] = make("pod", false);
  return { host, pod, hostNs, podNs, [Symbol.dispose]: () => stack.dispose() };
}

/** What this kernel has, as ip(8) finds it. */
function abilities(): Abilities {
  using scratch = TestNetns.create("able");
  scratch.ip("link", "add", "u0", "type", "veth", "peer", "name", "u1");
  const can = (...args: string[]): boolean => {
    try {
      scratch.ip("link", "add", "x0", ...args);
      scratch.ip("link", "delete", "x0");
      return true;
    } catch {
      return false;
    }
  };
  return {
    dummy: can("type", "dummy"),
    vlan: can("link", "u0", "type", "vlan", "id", "5"),
    ipvlan: can("link", "u0", "type", "ipvlan"),
    vrf: can("type", "vrf", "table", "7"),
    vlanFiltering: can("type", "bridge", "vlan_filtering", "1"),
  };
}

if (isRoot) kernelContract("real", open, abilities());
else requires(...root)("Kernel contract, real", () => test("needs root", () => {}));

const cidr = (text: string): Cidr => parseCidr(text) ?? { ip: { family: 4, bytes: new Uint8Array(4) }, prefix: 0 };

requires(...root)("Kernel, real", () => {
  test("on the node links are deleted by a group that nobody else uses", () => {
    using pair = open();
    const { host } = pair;
    const links = ["va", "vb", "vc"].map((name) => host.createLink({ kind: "veth", name, peer: { name: `${name}p` } }));
    for (const { index } of links) host.setLink(index, { group: 70_000 });
    using monitor = watch(pair.hostNs, "link");
    host.deleteLinks(links.slice(0, 2));
    expect(host.linkByName("vc")?.group).toBe(70_000);
    const drawn = new Set([...monitor.text().matchAll(/group (\d+)/g)].map((found) => Number(found[1])));
    drawn.delete(70_000);
    expect(drawn.size).toBe(1);
  });

  test("on the node links are deleted singly when somebody else's link has the group that was drawn", () => {
    using pair = open();
    const { host } = pair;
    const links = ["va", "vb", "vc"].map((name) => host.createLink({ kind: "veth", name, peer: { name: `${name}p` } }));
    const random = spyOn(Math, "random").mockReturnValue(0);
    try {
      host.setLink(links[2]?.index ?? 0, { group: 0x10000 });
      host.deleteLinks(links.slice(0, 2));
    } finally {
      random.mockRestore();
    }
    expect(["va", "vb", "vc"].map((name) => host.linkByName(name)?.group)).toEqual([undefined, undefined, 0x10000]);
  });

  test("in a pod's namespace links are deleted by a group that nobody else uses", () => {
    using pair = open();
    const { pod } = pair;
    const links = ["va", "vb"].map((name) => pod.createLink({ kind: "veth", name, peer: { name: `${name}p` } }));
    using monitor = watch(pair.podNs, "link");
    pod.deleteLinks(links);
    const groups = [...monitor.text().matchAll(/group (\d+)/g)].map((found) => Number(found[1]));
    expect(groups.length).toBeGreaterThan(0);
    for (const group of groups) expect(group).toBeGreaterThanOrEqual(0x10000);
    expect(new Set(groups).size).toBe(1);
  });

  test("waitAddresses() fails for an address that is in use on the link", () => {
    using pair = open();
    const { host, pod } = pair;
    const near = host.createLink({ kind: "veth", name: "va", up: true, peer: { name: "eth0", in: pod } });
    const far = pod.linkByName("eth0");
    if (far === undefined) throw new TypeError("no peer");
    pod.setLink(far.index, { up: true });
    host.waitRunning(near.index, 1000);
    host.addAddress(near.index, { address: cidr("fd00::5/64"), noDad: true });
    pod.addAddress(far.index, { address: cidr("fd00::5/64") });
    const wait = (): void => pod.waitAddresses(far.index, 5000);
    expect(wait).toThrow(/Cannot use address "fd00::5\/64" on link \d+: EADDRINUSE/);
  });

  test("waitAddresses() gives up at its time", () => {
    using pair = open();
    const { pod } = pair;
    const { index } = pod.createLink({ kind: "veth", name: "va", peer: { name: "vb" } });
    pod.addAddress(index, { address: cidr("fd00::5/64") }); // down: detection does not even start
    const before = performance.now();
    expect(() => pod.waitAddresses(index, 30)).toThrow("ETIMEDOUT");
    expect(performance.now() - before).toBeLessThan(500);
  });

  test("announce() reaches the neighbours, ARP and NDP", () => {
    using pair = open();
    const { host, pod } = pair;
    const near = host.createLink({
      kind: "veth",
      name: "va",
      up: true,
      peer: { name: "eth0", mac: "02:00:00:00:00:07", in: pod },
    });
    const far = pod.linkByName("eth0");
    if (far === undefined) throw new TypeError("no peer");
    pod.setLink(far.index, { up: true });
    host.waitRunning(near.index, 1000);
    host.addAddress(near.index, { address: cidr("10.1.0.1/24") });
    host.addAddress(near.index, { address: cidr("fd00::1/64"), noDad: true });
    const addresses = ["10.1.0.5/24", "fd00::5/64"].map((text) => cidr(text).ip);
    // What they knew before was another's.
    for (const text of ["10.1.0.5", "fd00::5"]) {
      pair.hostNs.ip("neigh", "add", text, "lladdr", "02:00:00:00:00:99", "dev", "va", "nud", "stale");
    }
    pair.hostNs.run("sysctl", "-qw", "net.ipv4.conf.va.arp_accept=1");
    // Within this time after the last change the kernel does not believe a gratuitous ARP.
    pair.hostNs.run("sysctl", "-qw", "net.ipv4.neigh.va.locktime=0");
    pod.announce(far.index, addresses);
    const known = host
      .neighbours(near.index)
      .filter((n) => addresses.some((a) => Buffer.compare(a.bytes, n.address.bytes) === 0));
    expect(known.map((n) => n.mac)).toEqual(["02:00:00:00:00:07", "02:00:00:00:00:07"]);
  });

  test("a macvlan's broadcast queue and a port's options are what ip(8) shows", () => {
    using pair = open();
    const { host, pod, hostNs, podNs } = pair;
    const bridge = host.createLink({ kind: "bridge", name: "br0", multicastSnooping: false });
    const near = host.createLink({
      kind: "veth",
      name: "va",
      master: bridge.index,
      alias: "pod x",
      peer: { name: "vb" },
    });
    host.setLink(near.index, { hairpin: true, isolated: true, promisc: true, txQueueLength: 77 });
    const parent = host.linkByName("vb");
    const macvlan = { kind: "macvlan", name: "mac0", mode: "vepa", bcQueueLength: 1234, in: pod } as const;
    host.createLink({ ...macvlan, parent: parent?.index ?? 0 });
    const shown = hostNs.ip("-d", "link", "show", "va");
    for (const words of ["hairpin on", "isolated on", "alias pod x", "qlen 77", "PROMISC"])
      expect(shown).toContain(words);
    expect(hostNs.ip("-d", "link", "show", "br0")).toContain("mcast_snooping 0");
    expect(podNs.ip("-d", "link", "show", "mac0")).toContain("mode vepa bcqueuelen 1234");
  });
});

/** `ip monitor` in a namespace. */
function watch(ns: TestNetns, what: string): Disposable & { text(): string } {
  const file = `/tmp/${ns.name}-monitor`;
  const child = Bun.spawn(ns.argv("ip", "-d", "monitor", what), { stdout: Bun.file(file), stderr: "ignore" });
  sh(["sleep", "0.2"]); // it has no way to tell that it listens
  return {
    text() {
      sh(["sleep", "0.1"]);
      return sh(["cat", file]);
    },
    [Symbol.dispose]() {
      child.kill();
      sh(["rm", "-f", file]);
    },
  };
}

describe("openKernel()", () => {
  test("opens nothing before it is needed", () => {
    using ns = Netns.current();
    using kernel = openKernel(ns);
    expect(kernel.cookie).toBe(ns.cookie);
    expect(kernel.isHost).toBe(false);
  });
});

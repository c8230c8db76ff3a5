/**
 * What every implementation of `Kernel` does. Unit tests run it on the simulated node, `test/netns` on Linux: what the
 * rest of the project is tested with is held to what the real one does.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type Cidr, formatCidr, formatIp, type Ip, parseCidr, parseIp } from "../base/ip.ts";
import { type Kernel, KernelError, type Link } from "./kernel.ts";
import { isPresent, macCheck, masquerade, removal, sparing } from "./nft.ts";
import type { NftChange } from "./nftables.ts";

/** Two fresh namespaces, each with its loopback only. `host` plays the node, `pod` a pod. */
export interface Pair extends Disposable {
  readonly host: Kernel;
  readonly pod: Kernel;
}

/** What the kernel at hand can do; what it cannot must fail with EOPNOTSUPP. */
export interface Abilities {
  readonly dummy: boolean;
  readonly vlan: boolean;
  readonly ipvlan: boolean;
  readonly vrf: boolean;
  readonly vlanFiltering: boolean;
}

const cidr = (text: string): Cidr => parseCidr(text) ?? fail(text);
const ip = (text: string): Ip => parseIp(text) ?? fail(text);
function fail(text: string): never {
  throw new TypeError(`"${text}" is no address`);
}

/** The errno's name that `work` fails with, and "" when it does not. */
function errnoOf(work: () => unknown): string {
  try {
    work();
    return "";
  } catch (thrown) {
    if (thrown instanceof KernelError) return thrown.errnoName;
    throw thrown;
  }
}

const macs = {
  bridge: "02:00:00:00:01:01",
  host: "02:00:00:00:02:01",
  pod: "02:00:00:00:03:01",
  other: "02:00:00:00:04:01",
};

export function kernelContract(name: string, open: () => Pair, can: Abilities): void {
  describe(`Kernel contract, ${name}`, () => {
    let pair: Pair;
    let host: Kernel;
    let pod: Kernel;
    beforeEach(() => {
      pair = open();
      ({ host, pod } = pair);
    });
    afterEach(() => pair[Symbol.dispose]());

    const bridge = (): Link => host.createLink({ kind: "bridge", name: "br0", mac: macs.bridge, up: true });
    /** A veth from the host's `veth0` to the pod's `eth0`, both up. */
    const veth = (master?: number): { near: Link; far: Link } => {
      const peer = { name: "eth0", mac: macs.pod, mtu: 1400, in: pod };
      const near = host.createLink({ kind: "veth", name: "veth0", mac: macs.host, mtu: 1400, up: true, master, peer });
      const far = pod.linkByName("eth0");
      if (far === undefined) throw new TypeError("the peer is missing");
      pod.setLink(far.index, { up: true });
      return { near, far };
    };
    const has = (kernel: Kernel, index: number): boolean => kernel.linkByIndex(index) !== undefined;
    const names = (kernel: Kernel): string[] =>
      kernel
        .links()
        .map((link) => link.name)
        .sort();

    describe("links", () => {
      test("createLink() makes a veth whose ends are born in their namespaces with name, MAC and MTU", () => {
        const { near, far } = veth();
        expect(near).toMatchObject({ name: "veth0", kind: "veth", mac: macs.host, mtu: 1400, up: true });
        expect(far).toMatchObject({ name: "eth0", kind: "veth", mac: macs.pod, mtu: 1400, up: false });
        expect(near.parent).toBe(far.index);
        expect(far.parent).toBe(near.index);
        expect(near.parentNetnsId).toBeDefined();
      });
      test("createLink() makes a veth with both ends here", () => {
        const near = host.createLink({ kind: "veth", name: "va", peer: { name: "vb" } });
        const far = host.linkByName("vb");
        expect(near.parent).toBe(far?.index ?? -1);
        expect(near.parentNetnsId).toBeUndefined();
      });
      test("createLink() makes a port of a bridge in one step", () => {
        const master = bridge();
        const { near } = veth(master.index);
        expect(near.master).toBe(master.index);
        expect(near.port).toEqual({ hairpin: false, isolated: false });
      });
      test("createLink() makes a bridge", () => {
        expect(bridge()).toMatchObject({ kind: "bridge", mac: macs.bridge, data: { vlanFiltering: false } });
      });
      test("createLink() makes a bridge with VLAN filtering, or says that it cannot", () => {
        const make = (): Link =>
          host.createLink({ kind: "bridge", name: "br0", vlanFiltering: true, vlanDefaultPvid: 0 });
        if (can.vlanFiltering) expect(make().data?.vlanFiltering).toBe(true);
        else expect(errnoOf(make)).toBe("EOPNOTSUPP");
      });
      test("createLink() makes a macvlan that is born in the pod, and no name of it stays on the node", () => {
        const { near } = veth();
        const made = host.createLink({
          kind: "macvlan",
          name: "mac0",
          mac: macs.other,
          parent: near.index,
          mode: "private",
          bcQueueLength: 2000,
          in: pod,
        });
        expect(made).toMatchObject({ name: "mac0", kind: "macvlan", mac: macs.other, mtu: 1400, parent: near.index });
        expect(made.data).toMatchObject({ mode: "private", bcQueueLength: 2000 });
        expect(pod.linkByName("mac0")?.index).toBe(made.index);
        expect(host.linkByName("mac0")).toBeUndefined();
      });
      test.each(["bridge", "private", "vepa", "passthru"] as const)(
        "createLink() makes a macvlan in mode %s",
        (mode) => {
          const { near } = veth();
          const made = host.createLink({ kind: "macvlan", name: "mac0", parent: near.index, mode, in: pod });
          expect(made.data?.mode).toBe(mode);
        },
      );
      test("createLink() makes a dummy, or says that it cannot", () => {
        const make = (): Link => pod.createLink({ kind: "dummy", name: "dum0", mac: macs.other, mtu: 1300 });
        if (can.dummy) expect(make()).toMatchObject({ kind: "dummy", mac: macs.other, mtu: 1300 });
        else expect(errnoOf(make)).toBe("EOPNOTSUPP");
      });
      test("createLink() makes a VLAN in the pod, with its parent's address or its own, or says that it cannot", () => {
        const { near } = veth();
        const vlan = { kind: "vlan", parent: near.index, in: pod } as const;
        const make = (): Link => host.createLink({ ...vlan, name: "v5", id: 5, mtu: 1300, group: 70_000 });
        if (!can.vlan) {
          expect(errnoOf(make)).toBe("EOPNOTSUPP");
          return;
        }
        const made = make();
        const want = {
          kind: "vlan",
          parent: near.index,
          mac: macs.host,
          mtu: 1300,
          group: 70_000,
          data: { vlanId: 5 },
        };
        expect(made).toMatchObject(want);
        expect(pod.linkByName("v5")?.index).toBe(made.index);
        expect(host.linkByName("v5")).toBeUndefined();
        expect(host.createLink({ ...vlan, name: "v6", id: 6, mac: macs.other }).mac).toBe(macs.other);
        expect(errnoOf(() => host.createLink({ ...vlan, name: "again", id: 5 }))).toBe("EEXIST");
        expect(errnoOf(() => host.createLink({ ...vlan, name: "v7", id: 7, mtu: 1401 }))).toBe("EINVAL");
        host.deleteLink(near.index);
        expect(names(pod)).toEqual(["lo"]);
      });
      test("createLink() makes an ipvlan in the pod, or says that it cannot", () => {
        const { near } = veth();
        const ipvlan = { kind: "ipvlan", parent: near.index, in: pod } as const;
        const make = (): Link => host.createLink({ ...ipvlan, name: "ip0", mode: "l3s", mtu: 1300, group: 70_000 });
        if (!can.ipvlan) {
          expect(errnoOf(make)).toBe("EOPNOTSUPP");
          return;
        }
        const made = make();
        const want = {
          kind: "ipvlan",
          parent: near.index,
          mac: macs.host,
          mtu: 1300,
          group: 70_000,
          data: { mode: "l3s" },
        };
        expect(made).toMatchObject(want);
        // The mode is the parent's.
        host.createLink({ ...ipvlan, name: "ip1", mode: "l2" });
        expect(pod.linkByIndex(made.index)?.data?.mode).toBe("l2");
        const macvlan = { kind: "macvlan", name: "mac0", parent: near.index, mode: "bridge" } as const;
        expect(errnoOf(() => host.createLink(macvlan))).toBe("EBUSY");
        expect(names(pod)).toEqual(["eth0", "ip0", "ip1", "lo"]);
      });
      test("createLink() makes a VRF, and links join it, or says that it cannot", () => {
        const make = (): Link => pod.createLink({ kind: "vrf", name: "blue", table: 1001, mac: macs.other, up: true });
        if (!can.vrf) {
          expect(errnoOf(make)).toBe("EOPNOTSUPP");
          return;
        }
        const made = make();
        expect(made).toMatchObject({ kind: "vrf", mac: macs.other, data: { table: 1001 } });
        const { far } = veth();
        pod.setLink(far.index, { master: made.index });
        expect(pod.linkByIndex(far.index)?.master).toBe(made.index);
        pod.setLink(far.index, { master: 0 });
        expect(pod.linkByIndex(far.index)?.master).toBeUndefined();
      });
      test("createLink() sets an alias", () => {
        const made = host.createLink({ kind: "bridge", name: "br0", alias: "network pods" });
        expect(made.alias).toBe("network pods");
        expect(host.linkByIndex(made.index)?.alias).toBe("network pods");
      });
      test("createLink() never takes a link that is there", () => {
        const first = bridge();
        expect(errnoOf(bridge)).toBe("EEXIST");
        expect(errnoOf(() => host.createLink({ kind: "veth", name: "br0", peer: { name: "eth0", in: pod } }))).toBe(
          "EEXIST",
        );
        expect(host.linkByIndex(first.index)).toMatchObject({ name: "br0", kind: "bridge" });
        expect(names(pod)).toEqual(["lo"]);
      });
      test("createLink() makes neither end when the peer's name is taken", () => {
        veth();
        const again = { kind: "veth", name: "veth1", peer: { name: "eth0", in: pod } } as const;
        expect(errnoOf(() => host.createLink(again))).toBe("EEXIST");
        expect(host.linkByName("veth1")).toBeUndefined();
      });
      test("createLink() refuses what cannot be", () => {
        const { near } = veth();
        const macvlan = { kind: "macvlan", name: "mac0", mode: "bridge" } as const;
        expect(errnoOf(() => host.createLink({ ...macvlan, parent: 9999 }))).toBe("ENODEV");
        expect(errnoOf(() => host.createLink({ ...macvlan, parent: near.index, mtu: 1401 }))).toBe("EINVAL");
        expect(errnoOf(() => host.createLink({ kind: "bridge", name: "sixteen-bytes-xx" }))).toBe("ERANGE");
        expect(errnoOf(() => host.createLink({ kind: "bridge", name: "br0", mac: "nonsense" }))).toBe("EINVAL");
        expect(errnoOf(() => host.createLink({ kind: "bridge", name: "br0", mac: "01:00:00:00:00:01" }))).toBe(
          "EADDRNOTAVAIL",
        );
        expect(names(host)).toEqual(["lo", "veth0"]);
      });
      test("an error names the thing, the errno and what the kernel says", () => {
        bridge();
        expect(bridge).toThrow('Cannot create bridge "br0": EEXIST (File exists)');
      });
      test("linkByName() and linkByIndex() answer undefined for what is not there", () => {
        expect(host.linkByName("nothing")).toBeUndefined();
        expect(host.linkByIndex(9999)).toBeUndefined();
        expect(host.linkByName("lo")).toMatchObject({ loopback: true, kind: "", index: 1 });
      });
      test("links() lists this namespace only", () => {
        bridge();
        veth();
        expect(names(host)).toEqual(["br0", "lo", "veth0"]);
        expect(names(pod)).toEqual(["eth0", "lo"]);
      });
      test("setLink() changes many things at once and leaves the rest", () => {
        const { index } = veth().near;
        host.setLink(index, {
          mtu: 1300,
          mac: macs.other,
          alias: "x",
          promisc: true,
          allmulti: true,
          txQueueLength: 7,
        });
        const want = {
          mtu: 1300,
          mac: macs.other,
          alias: "x",
          promisc: true,
          allmulti: true,
          txQueueLength: 7,
          up: true,
        };
        expect(host.linkByIndex(index)).toMatchObject(want);
        host.setLink(index, { promisc: false, allmulti: false, up: false });
        host.setLink(index, { name: "veth9" });
        const after = { name: "veth9", promisc: false, allmulti: false, up: false, mtu: 1300 };
        expect(host.linkByIndex(index)).toMatchObject(after);
      });
      test("setLink() joins a bridge with port options in one call, and leaves it", () => {
        const master = bridge();
        const { index } = veth().near;
        host.setLink(index, { master: master.index, hairpin: true, isolated: true });
        expect(host.linkByIndex(index)).toMatchObject({
          master: master.index,
          port: { hairpin: true, isolated: true },
        });
        host.setLink(index, { hairpin: false });
        expect(host.linkByIndex(index)?.port).toEqual({ hairpin: false, isolated: true });
        host.setLink(index, { master: 0 });
        expect(host.linkByIndex(index)?.master).toBeUndefined();
        expect(errnoOf(() => host.setLink(index, { hairpin: true }))).toBe("EOPNOTSUPP");
      });
      test("setLink() refuses what cannot be", () => {
        const { near } = veth();
        expect(errnoOf(() => host.setLink(9999, { mtu: 1400 }))).toBe("ENODEV");
        expect(errnoOf(() => host.setLink(near.index, { mtu: 10 }))).toBe("EINVAL");
        bridge();
        host.setLink(near.index, { up: false });
        expect(errnoOf(() => host.setLink(near.index, { name: "br0" }))).toBe("EEXIST");
      });
      test("moveLink() takes a link to another namespace, under another name", () => {
        const near = host.createLink({ kind: "veth", name: "va", peer: { name: "vb" } });
        const moved = host.moveLink(near.index, pod, "net1");
        expect(moved).toMatchObject({ name: "net1", kind: "veth", up: false });
        expect(host.linkByName("va")).toBeUndefined();
        expect(pod.linkByIndex(moved.index)?.name).toBe("net1");
        expect(host.linkByName("vb")?.parent).toBe(moved.index);
      });
      test("moveLink() fails where the name is taken, and the link stays", () => {
        veth();
        const near = host.createLink({ kind: "veth", name: "va", peer: { name: "vb" } });
        expect(errnoOf(() => host.moveLink(near.index, pod, "eth0"))).toBe("EEXIST");
        expect(has(host, near.index)).toBe(true);
      });
      test("deleteLink() takes both ends of a veth and answers whether it was there", () => {
        const { near, far } = veth();
        expect(host.deleteLink(near.index)).toBe(true);
        expect(has(pod, far.index)).toBe(false);
        expect(host.deleteLink(near.index)).toBe(false);
        expect(errnoOf(() => host.deleteLink(1))).toBe("EOPNOTSUPP");
      });
      test("deleteLink() of a parent takes its macvlans, wherever they are", () => {
        const { near } = veth();
        host.createLink({ kind: "macvlan", name: "mac0", parent: near.index, mode: "bridge", in: pod });
        host.deleteLink(near.index);
        expect(names(pod)).toEqual(["lo"]);
      });
      test("deleteLinks() deletes the named ones, gone ones or not, and no other", () => {
        const { far } = veth();
        const parent = host.createLink({ kind: "veth", name: "va", peer: { name: "vb" } });
        const make = (name: string): Link =>
          host.createLink({ kind: "macvlan", name, parent: parent.index, mode: "bridge", in: pod });
        const [a, b, kept] = [make("mac0"), make("mac1"), make("mac2")];
        pod.deleteLinks([far, a, b, { index: 9999 }]);
        expect(names(pod)).toEqual(["lo", "mac2"]);
        pod.deleteLinks([kept]);
        pod.deleteLinks([]);
        expect(names(pod)).toEqual(["lo"]);
        expect(names(host)).toEqual(["lo", "va", "vb"]);
      });
      test("deleteLinks() on the node takes ends in a pod with them, and nobody else's", () => {
        const { near } = veth();
        const ifb = host.createLink({ kind: "ifb", name: "ifb9" });
        host.createLink({ kind: "bridge", name: "br0" });
        host.deleteLinks([near, ifb, { index: 9999 }]);
        expect(names(host)).toEqual(["br0", "lo"]);
        expect(names(pod)).toEqual(["lo"]);
      });
      test("deleteLinks() deletes the others when one cannot be deleted, and tells", () => {
        const { far } = veth();
        expect(errnoOf(() => pod.deleteLinks([{ index: 1 }, far]))).toBe("EOPNOTSUPP");
        expect(names(pod)).toEqual(["lo"]);
        expect(names(host)).toEqual(["lo"]);
      });
      test("waitRunning() waits for the other end", () => {
        const { near } = veth();
        expect(host.waitRunning(near.index, 1000)).toBe(true);
        expect(host.linkByIndex(near.index)?.running).toBe(true);
        pod.setLink(pod.linkByName("eth0")?.index ?? 0, { up: false });
        // Linux before 6.8 may tell it up to a second late.
        const deadline = Date.now() + 3000;
        while (host.waitRunning(near.index, 5) && Date.now() < deadline) Bun.sleepSync(50);
        expect(host.waitRunning(near.index, 5)).toBe(false);
        expect(errnoOf(() => host.waitRunning(9999, 5))).toBe("ENODEV");
      });
    });

    describe("addresses", () => {
      /** Without link-local ones, which the kernel makes by itself. */
      const list = (index: number): string[] =>
        pod
          .addresses(index)
          .map((a) => formatCidr(a.address))
          .filter((text) => !text.startsWith("fe80"))
          .sort();

      test("addAddress() and deleteAddress(), both families", () => {
        const { index } = veth().far;
        pod.addAddress(index, { address: cidr("10.1.0.5/24") });
        pod.addAddress(index, { address: cidr("fd00::5/64"), noDad: true });
        pod.addAddress(index, { address: cidr("10.1.0.6/32"), scope: 253 });
        expect(list(index)).toEqual(["10.1.0.5/24", "10.1.0.6/32", "fd00::5/64"]);
        expect(list(1)).not.toContain("10.1.0.5/24");
        const link = pod.addresses(index).find((a) => formatIp(a.address.ip) === "10.1.0.6");
        expect(link).toMatchObject({ index, scope: 253 });
        expect(pod.deleteAddress(index, { address: cidr("10.1.0.5/24") })).toBe(true);
        expect(pod.deleteAddress(index, { address: cidr("10.1.0.5/24") })).toBe(false);
        expect(pod.deleteAddress(index, { address: cidr("fd00::5/64") })).toBe(true);
        expect(pod.deleteAddress(9999, { address: cidr("10.1.0.5/24") })).toBe(false);
        expect(list(index)).toEqual(["10.1.0.6/32"]);
      });
      test("addAddress() refuses one that is there, and a link that is not", () => {
        const { index } = veth().far;
        pod.addAddress(index, { address: cidr("10.1.0.5/24") });
        expect(errnoOf(() => pod.addAddress(index, { address: cidr("10.1.0.5/24") }))).toBe("EEXIST");
        expect(errnoOf(() => pod.addAddress(9999, { address: cidr("10.1.0.5/24") }))).toBe("ENODEV");
      });
      test("addAddress() makes the route to its network unless told not to", () => {
        const { index } = veth().far;
        pod.addAddress(index, { address: cidr("10.1.0.5/24") });
        pod.addAddress(index, { address: cidr("10.2.0.5/24"), noPrefixRoute: true });
        const main = pod.routes({ family: 4, table: 254 });
        expect(main.map((r) => r.dst && formatCidr(r.dst))).toEqual(["10.1.0.0/24"]);
        expect(main[0]).toMatchObject({ index, protocol: 2, scope: 253 });
        expect(
          pod
            .addresses(index)
            .filter((a) => a.noPrefixRoute)
            .map((a) => formatCidr(a.address)),
        ).toEqual(["10.2.0.5/24"]);
      });
      test("addAddress() says why a link has no IPv6", () => {
        const { index } = veth().far;
        pod.setSysctl("net/ipv6/conf/eth0/disable_ipv6", "1");
        expect(errnoOf(() => pod.addAddress(index, { address: cidr("fd00::5/64") }))).toBe("EACCES");
      });
      test("waitAddresses() returns when none is tentative", () => {
        const { near, far } = veth();
        host.waitRunning(near.index, 1000);
        pod.addAddress(far.index, { address: cidr("fd00::5/64") });
        pod.waitAddresses(far.index, 5000);
        const mine = pod.addresses(far.index).find((a) => formatIp(a.address.ip) === "fd00::5");
        expect(mine).toMatchObject({ tentative: false, dadFailed: false });
      });
    });

    describe("routes and rules", () => {
      let index: number;
      beforeEach(() => {
        index = veth().far.index;
        pod.addAddress(index, { address: cidr("10.1.0.5/24") });
        pod.addAddress(index, { address: cidr("fd00::5/64"), noDad: true });
      });
      const find = (text: string, table = 254): ReturnType<Kernel["routes"]> =>
        pod.routes({ table }).filter((r) => (r.dst === undefined ? "default" : formatCidr(r.dst)) === text);

      test("addRoute() keeps gateway, source, metrics, priority, protocol and table", () => {
        pod.addRoute({
          family: 4,
          dst: cidr("10.7.0.0/16"),
          gateway: ip("10.1.0.1"),
          index,
          source: ip("10.1.0.5"),
          table: 1000,
          priority: 50,
          mtu: 1300,
          advmss: 1200,
          protocol: 4,
        });
        const found = find("10.7.0.0/16", 1000);
        expect(found).toHaveLength(1);
        const [r] = found;
        expect(r).toMatchObject({ family: 4, index, table: 1000, priority: 50, mtu: 1300, advmss: 1200, protocol: 4 });
        expect(r?.gateway && formatIp(r.gateway)).toBe("10.1.0.1");
        expect(r?.source && formatIp(r.source)).toBe("10.1.0.5");
        expect(find("10.7.0.0/16")).toEqual([]);
      });
      test("addRoute() makes default routes of both families and finds the link by the gateway", () => {
        pod.addRoute({ family: 4, gateway: ip("10.1.0.1") });
        pod.addRoute({ family: 6, gateway: ip("fd00::1") });
        expect(find("default").map((r) => [r.family, r.index])).toEqual([
          [4, index],
          [6, index],
        ]);
      });
      test("addRoute() chooses the scope as people expect it", () => {
        pod.addRoute({ family: 4, dst: cidr("10.8.0.0/16"), index });
        pod.addRoute({ family: 4, dst: cidr("10.9.0.0/16"), gateway: ip("10.1.0.1") });
        expect(find("10.8.0.0/16")[0]?.scope).toBe(253);
        expect(find("10.9.0.0/16")[0]?.scope).toBe(0);
      });
      test("addRoute() takes a gateway off the link only when told that it is on it", () => {
        const route = { family: 4, gateway: ip("192.0.2.1"), index } as const;
        expect(errnoOf(() => pod.addRoute(route))).toBe("ENETUNREACH");
        pod.addRoute({ ...route, onlink: true });
        expect(find("default")[0]?.onlink).toBe(true);
      });
      test("addRoute() exclusive, append and replace", () => {
        const via = (gateway: string) => ({ family: 4, dst: cidr("10.7.0.0/16"), gateway: ip(gateway) }) as const;
        const gateways = (): string[] => find("10.7.0.0/16").map((r) => (r.gateway ? formatIp(r.gateway) : ""));
        pod.addRoute(via("10.1.0.1"));
        expect(errnoOf(() => pod.addRoute(via("10.1.0.2")))).toBe("EEXIST");
        pod.addRoute(via("10.1.0.2"), "append");
        expect(gateways()).toEqual(["10.1.0.1", "10.1.0.2"]);
        pod.addRoute(via("10.1.0.3"), "replace");
        expect(gateways()).toEqual(["10.1.0.3", "10.1.0.2"]);
      });
      test("addRoute() refuses what cannot be", () => {
        expect(errnoOf(() => pod.addRoute({ family: 4, dst: cidr("10.7.0.0/16"), index: 9999 }))).toBe("ENODEV");
        expect(errnoOf(() => pod.addRoute({ family: 4, dst: cidr("10.7.1.0/16"), index }))).toBe("EINVAL");
        const stranger = { family: 4, dst: cidr("10.7.0.0/16"), index, source: ip("192.0.2.9") } as const;
        expect(errnoOf(() => pod.addRoute(stranger))).toBe("EINVAL");
      });
      test("routes() of a table that was never used is empty", () => {
        expect(pod.routes({ table: 4242 })).toEqual([]);
        expect(pod.routes({ index: 9999 })).toEqual([]);
      });
      test("deleteRoute() takes the one that is meant", () => {
        const via = (gateway: string) => ({ family: 4, dst: cidr("10.7.0.0/16"), gateway: ip(gateway) }) as const;
        pod.addRoute(via("10.1.0.1"));
        pod.addRoute(via("10.1.0.2"), "append");
        expect(pod.deleteRoute(via("10.1.0.2"))).toBe(true);
        expect(pod.deleteRoute(via("10.1.0.2"))).toBe(false);
        expect(find("10.7.0.0/16").map((r) => r.gateway && formatIp(r.gateway))).toEqual(["10.1.0.1"]);
        expect(pod.deleteRoute({ family: 4, dst: cidr("10.99.0.0/16"), table: 4242 })).toBe(false);
      });
      test("setLink() down takes the routes along", () => {
        pod.addRoute({ family: 4, gateway: ip("10.1.0.1") });
        pod.setLink(index, { up: false });
        expect(pod.routes({ family: 4, table: 254 })).toEqual([]);
      });
      test("addRule(), rules() and deleteRule()", () => {
        const before = pod.rules(4);
        expect(before.map((r) => r.priority)).toEqual([0, 32_766, 32_767]);
        const one = { family: 4, from: cidr("10.1.0.5/32"), table: 100, priority: 1000 } as const;
        const six = { family: 6, to: cidr("fd07::/64"), iif: "eth0", table: 1000 } as const;
        pod.addRule(one);
        pod.addRule(six);
        expect(errnoOf(() => pod.addRule(one))).toBe("EEXIST");
        expect(pod.rules(4)).toContainEqual(one);
        expect(pod.rules(6).find((r) => r.table === 1000)).toEqual({ ...six, priority: 32_765 });
        expect(pod.deleteRule(one)).toBe(true);
        expect(pod.deleteRule(one)).toBe(false);
        expect(pod.deleteRule(six)).toBe(true);
        expect(pod.rules(4)).toEqual(before);
      });
    });

    test("addNeighbour(), neighbours() and deleteNeighbour()", () => {
      const { index } = veth().far;
      const one = { index, address: ip("10.1.0.7"), mac: macs.other };
      pod.addNeighbour(one);
      pod.addNeighbour({ ...one, mac: macs.bridge }); // in place of the first
      const found = pod.neighbours(index).filter((n) => formatIp(n.address) === "10.1.0.7");
      expect(found.map((n) => [n.mac, n.permanent])).toEqual([[macs.bridge, true]]);
      expect(pod.deleteNeighbour(one)).toBe(true);
      expect(pod.deleteNeighbour(one)).toBe(false);
    });

    test("setBridgeVlans() sets ranges and one untagged VLAN, or says that it cannot", () => {
      const master = host.createLink({ kind: "bridge", name: "br0", up: true, vlanFiltering: can.vlanFiltering });
      const { near } = veth(master.index);
      const set = (): void => {
        host.setBridgeVlans(near.index, [{ first: 1 }], "delete");
        host.setBridgeVlans(
          near.index,
          [
            { first: 10, last: 12 },
            { first: 5, pvid: true, untagged: true },
          ],
          "add",
        );
        host.setBridgeVlans(master.index, [{ first: 5 }], "add", true);
      };
      if (!can.vlanFiltering) {
        expect(errnoOf(set)).toBe("EOPNOTSUPP");
        return;
      }
      set();
      expect(host.bridgeVlans(near.index)).toEqual([
        { first: 5, pvid: true, untagged: true },
        { first: 10, last: 12, pvid: false, untagged: false },
      ]);
    });

    describe("several at once", () => {
      test("joinBridge() makes a port with its settings, and tells the bridge's address", () => {
        const master = bridge();
        const { near } = veth();
        const change = { master: master.index, alias: "of a pod", up: true, hairpin: true, isolated: true };
        expect(host.joinBridge(near.index, change)).toBe(macs.bridge);
        expect(host.linkByIndex(near.index)).toMatchObject({
          master: master.index,
          alias: "of a pod",
          port: { hairpin: true, isolated: true },
        });
        expect(errnoOf(() => host.joinBridge(near.index, { master: 999_999 }))).not.toBe("");
      });
      test("configureLink() adds addresses, brings the link up and adds routes over it", () => {
        const { far } = veth();
        pod.setLink(far.index, { up: false });
        const gateway = ip("10.7.0.1");
        const configuration = {
          addresses: [{ address: cidr("10.7.0.5/24") }, { address: cidr("10.8.0.5/24") }],
          routes: [{ family: 4, gateway, index: far.index } as const],
        };
        pod.configureLink(far.index, configuration);
        expect(pod.linkByIndex(far.index)?.up).toBe(true);
        const addresses = pod.addresses(far.index).map((a) => formatCidr(a.address));
        expect(addresses).toContain("10.7.0.5/24");
        expect(addresses).toContain("10.8.0.5/24");
        const found = pod.routes({ family: 4, index: far.index }).filter((r) => r.dst === undefined);
        expect(found.map((r) => r.gateway && formatIp(r.gateway))).toEqual(["10.7.0.1"]);
        expect(errnoOf(() => pod.configureLink(far.index, configuration))).toBe("EEXIST");
      });
      test("configureLink() says what was refused", () => {
        const { far } = veth();
        const routes = [{ family: 4, gateway: ip("10.99.9.1"), index: far.index } as const];
        expect(() => pod.configureLink(far.index, { addresses: [], routes })).toThrow(/add route "default"/);
        expect(errnoOf(() => pod.configureLink(999_999, { addresses: [], routes: [] }))).toBe("ENODEV");
      });
      test("setSysctls() writes in order, and goes on after what is optional", () => {
        veth();
        pod.setSysctls([
          { key: "net/ipv4/conf/eth0/nothing", value: "1", optional: true },
          { key: "net/ipv4/conf/eth0/arp_notify", value: "1" },
        ]);
        expect(pod.sysctl("net/ipv4/conf/eth0/arp_notify")).toBe("1");
        const missing = { key: "net/ipv4/conf/eth0/nothing", value: "1" };
        const after = { key: "net/ipv4/conf/eth0/arp_notify", value: "0" };
        expect(() => pod.setSysctls([missing, after])).toThrow(/ENOENT/);
        expect(pod.sysctl("net/ipv4/conf/eth0/arp_notify")).toBe("1");
      });
    });

    describe("taps", () => {
      const tap = { kind: "tap", name: "tap0", mac: macs.other, mtu: 1400, multiQueue: false } as const;
      test("createLink() makes a tap that stays, with MAC, MTU and owners", () => {
        const made = pod.createLink({ ...tap, multiQueue: true, owner: 1000, ownerGroup: 1001, up: true });
        expect(made).toMatchObject({ kind: "tun", name: "tap0", mac: macs.other, mtu: 1400, up: true });
        expect(made.data).toEqual({ tap: { multiQueue: true, owner: 1000, group: 1001 } });
        expect(pod.linkByName("tap0")?.index).toBe(made.index);
        expect(host.linkByName("tap0")).toBeUndefined();
        expect(pod.deleteLink(made.index)).toBe(true);
      });
      test("createLink() makes a tap of nobody's", () => {
        expect(pod.createLink(tap).data).toEqual({ tap: { multiQueue: false } });
      });
      test("createLink() takes no tap, and no other link, that is there", () => {
        pod.createLink(tap);
        expect(errnoOf(() => pod.createLink(tap))).toBe("EEXIST");
        veth();
        expect(errnoOf(() => pod.createLink({ ...tap, name: "eth0" }))).toBe("EEXIST");
      });
      test("createLink() leaves nothing of a tap that it cannot finish", () => {
        expect(errnoOf(() => pod.createLink({ ...tap, mac: "01:00:00:00:00:01" }))).toBe("EADDRNOTAVAIL");
        expect(pod.linkByName("tap0")).toBeUndefined();
      });
    });

    describe("traffic", () => {
      const bucket = { rate: 1_000_000, buffer: 1_562_500, limit: 125_000 };
      const ifb = (): Link => host.createLink({ kind: "ifb", name: "ifb7", mac: macs.other, mtu: 1400, up: true });

      test("createLink() makes an ifb", () => {
        expect(ifb()).toMatchObject({ kind: "ifb", name: "ifb7", mac: macs.other, mtu: 1400, up: true });
      });
      test("limitRate() limits a link once, and clearTraffic() takes that away", () => {
        const { near } = veth();
        expect(host.rateLimit(near.index)).toBeUndefined();
        host.limitRate(near.index, bucket);
        expect(host.rateLimit(near.index)).toEqual(bucket);
        expect(errnoOf(() => host.limitRate(near.index, bucket))).toBe("EEXIST");
        expect(host.clearTraffic(near.index, "redirect")).toBe(false);
        expect(host.clearTraffic(near.index, "limit")).toBe(true);
        expect(host.clearTraffic(near.index, "limit")).toBe(false);
        expect(host.rateLimit(near.index)).toBeUndefined();
      });
      test("limitRate() takes rates above 32 bits", () => {
        const { near } = veth();
        const fast = { ...bucket, rate: 12_500_000_000 };
        host.limitRate(near.index, fast);
        expect(host.rateLimit(near.index)).toMatchObject({ rate: fast.rate, limit: fast.limit });
      });
      test("redirectIngress() sends what comes in elsewhere, once", () => {
        const { near } = veth();
        const to = ifb();
        expect(host.ingressRedirect(near.index)).toBeUndefined();
        host.redirectIngress(near.index, to.index);
        expect(host.ingressRedirect(near.index)).toBe(to.index);
        expect(errnoOf(() => host.redirectIngress(near.index, to.index))).toBe("EEXIST");
        expect(host.clearTraffic(near.index, "limit")).toBe(false);
        expect(host.clearTraffic(near.index, "redirect")).toBe(true);
        expect(host.clearTraffic(near.index, "redirect")).toBe(false);
        expect(host.ingressRedirect(near.index)).toBeUndefined();
      });
      test("they say ENODEV of a link that is not there, and clearTraffic() says that there was nothing", () => {
        expect(errnoOf(() => host.limitRate(9999, bucket))).toBe("ENODEV");
        expect(errnoOf(() => host.redirectIngress(9999, 1))).toBe("ENODEV");
        expect(host.clearTraffic(9999, "limit")).toBe(false);
        expect(host.rateLimit(9999)).toBeUndefined();
        expect(host.ingressRedirect(9999)).toBeUndefined();
      });
      test("netnsIdOf() is what a veth says of its other end's namespace", () => {
        expect(pod.netnsIdOf(host)).toBeUndefined();
        const { near, far } = veth();
        expect(near.parentNetnsId).toBe(host.netnsIdOf(pod) ?? -1);
        expect(pod.linkByIndex(far.index)?.parentNetnsId).toBe(pod.netnsIdOf(host) ?? -1);
      });
    });

    describe("sysctls", () => {
      test("sysctl() reads, answers undefined for what is not there, and setSysctl() writes here only", () => {
        veth();
        expect(host.sysctl("net/ipv4/ip_forward")).toBeDefined();
        expect(host.sysctl("net/ipv4/nothing")).toBeUndefined();
        expect(host.sysctl("net/ipv4/conf/nothing/arp_notify")).toBeUndefined();
        const before = host.sysctl("net/ipv4/ip_forward");
        pod.setSysctl("net/ipv4/ip_forward", "1");
        pod.setSysctl("net/ipv4/conf/eth0/arp_notify", "1");
        expect(pod.sysctl("net/ipv4/ip_forward")).toBe("1");
        expect(pod.sysctl("net/ipv4/conf/eth0/arp_notify")).toBe("1");
        expect(host.sysctl("net/ipv4/ip_forward")).toBe(before ?? "");
        expect(() => pod.setSysctl("net/ipv4/conf/nothing/arp_notify", "1")).toThrow("ENOENT");
      });
    });

    describe("nf_tables", () => {
      const masq = masquerade("a1", [cidr("10.1.0.5/20"), cidr("fd00::5/64")]);
      const check = macCheck("a1", "veth0", macs.pod);

      test("masquerade and MAC check: absent, present, absent again, each as often as wanted", () => {
        for (const feature of [masq, check]) {
          expect(isPresent(host, feature)).toBe(false);
          host.nft.change(feature.add);
          host.nft.change(feature.add);
          expect(isPresent(host, feature)).toBe(true);
          host.nft.change(removal(feature.undo));
          host.nft.change(removal(feature.undo));
          expect(isPresent(host, feature)).toBe(false);
        }
        expect(host.nft.chains("inet", "patchbay")).toEqual(["postrouting"]);
      });
      test("attachments do not disturb each other", () => {
        const other = masquerade("b2", [cidr("10.1.0.6/20")]);
        host.nft.change(masq.add);
        host.nft.change(other.add);
        host.nft.change(removal(masq.undo));
        expect(isPresent(host, other)).toBe(true);
        expect(isPresent(host, masq)).toBe(false);
        expect(host.nft.rules("inet", "patchbay", "postrouting")).toHaveLength(2);
      });
      test("an address that another attachment has is refused, and nothing of the transaction stays", () => {
        host.nft.change(masq.add);
        const late = masquerade("b2", [cidr("10.1.0.9/20"), cidr("10.1.0.5/20")]);
        expect(errnoOf(() => host.nft.change(late.add))).toBe("EEXIST");
        expect(host.nft.chains("inet", "patchbay").sort()).toEqual(["masq-a1", "postrouting"]);
        expect(isPresent(host, masq)).toBe(true);
      });
      test("removing an old attachment leaves alone what leads to a new one by now", () => {
        host.nft.change(masq.add);
        host.nft.change(removal(masq.undo));
        const next = masquerade("b2", [cidr("10.1.0.5/20")]);
        host.nft.change(next.add);
        host.nft.change(removal(masq.undo));
        expect(isPresent(host, next)).toBe(true);
      });
      test("isPresent() sees that a rule was changed, added or flushed", () => {
        host.nft.change(masq.add);
        const at = { family: "inet", table: "patchbay" } as const;
        host.nft.change([{ op: "add", ...at, what: "rule", chain: "masq-a1", expressions: [] }]);
        expect(isPresent(host, masq)).toBe(false);
        host.nft.change(masq.add);
        expect(isPresent(host, masq)).toBe(true);
        host.nft.change([{ op: "flush", ...at, what: "chain", chain: "postrouting" }]);
        expect(isPresent(host, masq)).toBe(false);
        expect(isPresent(host, masquerade("a1", [cidr("10.1.0.5/24"), cidr("fd00::5/64")]))).toBe(false);
      });
      test("sparing() leaves chains alone that are as they would be made, and writes the others anew", () => {
        const handles = (): bigint[] | undefined =>
          host.nft.rules("inet", "patchbay", "postrouting")?.map(({ handle }) => handle);
        host.nft.change(sparing(host, masq.add, masq.undo.chain));
        const first = handles();
        const other = masquerade("b2", [cidr("10.1.0.6/20")]);
        host.nft.change(sparing(host, other.add, other.undo.chain));
        host.nft.change(sparing(host, masq.add, masq.undo.chain));
        expect([handles(), isPresent(host, masq), isPresent(host, other)]).toEqual([first, true, true]);
        const left = sparing(host, masq.add, "").filter((c) => c.what === "chain" || c.what === "rule");
        expect(left).toEqual([]);
        for (const chain of ["postrouting", "masq-a1"]) {
          host.nft.change([{ op: "add", family: "inet", table: "patchbay", what: "rule", chain, expressions: [] }]);
          expect(isPresent(host, masq)).toBe(false);
          host.nft.change(sparing(host, masq.add, masq.undo.chain));
          expect(isPresent(host, masq)).toBe(true);
        }
      });
      test("rules go before or after the others, have handles and notes, and go by their handle", () => {
        const at = { family: "inet", table: "mine" } as const;
        const rule = { op: "add", ...at, what: "rule", chain: "c", expressions: [{ name: "counter" }] } as const;
        const note = Uint8Array.of(0x50, 1, 7);
        expect(host.nft.table("inet", "mine")).toBeUndefined();
        host.nft.change([{ op: "add", ...at, what: "table" }, { op: "add", ...at, what: "chain", chain: "c" }, rule]);
        host.nft.change([{ ...rule, first: true, userData: note }]);
        const { chains, rules: [first, second] = [] } = host.nft.table("inet", "mine") ?? {};
        expect(chains).toEqual(["c"]);
        expect([first?.chain, first?.userData, second?.userData]).toEqual(["c", note, undefined]);
        host.nft.revise(() => [{ op: "delete", ...at, what: "rule", chain: "c", handle: first?.handle ?? 0n }]);
        expect(host.nft.table("inet", "mine")?.rules.map(({ handle }) => handle)).toEqual([second?.handle ?? 0n]);
        const gone = { op: "delete", ...at, what: "rule", chain: "c", handle: first?.handle ?? 0n } as const;
        expect(errnoOf(() => host.nft.revise(() => [gone]))).toBe("ENOENT");
        host.nft.revise(() => []);
      });
      test("nftForwardChains() tells who hooks in there, and who drops", () => {
        const chain = (family: "inet" | "ip6", table: string, drops: boolean): void => {
          const base = { type: "filter", hook: "forward", priority: 5, drops } as const;
          host.nft.change([
            { op: "add", family, table, what: "table" },
            { op: "add", family, table, what: "chain", chain: "f", base },
            { op: "add", family, table, what: "chain", chain: "other" },
          ]);
        };
        expect(host.nft.forwardChains()).toEqual([]);
        chain("inet", "mine", true);
        chain("ip6", "yours", false);
        expect(host.nft.forwardChains()).toEqual([
          { family: "inet", table: "mine", chain: "f", priority: 5, drops: true },
          { family: "ip6", table: "yours", chain: "f", priority: 5, drops: false },
        ]);
      });
      test("nft() does all or nothing, and an error names the object", () => {
        const at = { family: "inet", table: "mine" } as const;
        const changes: NftChange[] = [
          { op: "add", ...at, what: "table" },
          { op: "add", ...at, what: "rule", chain: "nowhere", expressions: [] },
        ];
        expect(() => host.nft.change(changes)).toThrow('Cannot add nft rule "inet mine nowhere": ENOENT');
        expect(host.nft.elements("inet", "mine", "nothing")).toBeUndefined();
        expect(errnoOf(() => host.nft.change([{ op: "add", ...at, what: "chain", chain: "c" }]))).toBe("ENOENT");
      });
      test("nft() deletes a table with all in it", () => {
        host.nft.change(masq.add);
        const table: NftChange[] = [{ op: "delete", family: "inet", table: "patchbay", what: "table" }];
        host.nft.change(table);
        host.nft.change(table);
        expect(host.nft.chains("inet", "patchbay")).toEqual([]);
        expect(host.nft.rules("inet", "patchbay", "postrouting")).toBeUndefined();
      });
      test("a chain that an element leads to cannot be deleted", () => {
        host.nft.change(masq.add);
        const chain: NftChange = { op: "delete", family: "inet", table: "patchbay", what: "chain", chain: "masq-a1" };
        expect(errnoOf(() => host.nft.change([chain]))).toBe("EBUSY");
      });
      test("namespaces have rules of their own", () => {
        host.nft.change(masq.add);
        expect(isPresent(pod, masq)).toBe(false);
      });
    });
  });
}

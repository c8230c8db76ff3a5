/** Masquerading and the MAC check by what happens to packets, and many processes that change the rules at once. */
import { expect, test } from "bun:test";
import { parseNetnsPath } from "../../core/base/brand.ts";
import { type Cidr, parseCidr } from "../../core/base/ip.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { isPresent, macCheck, masquerade, removal } from "../../core/kernel/nft.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import { TestNetns, veth } from "../support/netns.ts";
import { has, requires, root } from "../support/requires.ts";

const cidr = (text: string): Cidr => parseCidr(text) ?? { ip: { family: 4, bytes: new Uint8Array(4) }, prefix: 0 };

/** A node with a kernel on it, and namespaces beside it. */
class Site implements Disposable {
  readonly #stack = new DisposableStack();
  readonly node = this.#stack.use(TestNetns.create("node"));
  readonly kernel: Kernel;

  constructor() {
    const ns = this.#stack.use(Netns.open(parseNetnsPath(this.node.path)));
    this.kernel = this.#stack.use(openKernel(ns, { host: true }));
  }

  beside(hint: string): TestNetns {
    return this.#stack.use(TestNetns.create(hint));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Counts what comes in from an address; answers the number of packets so far. */
function counter(ns: TestNetns, family: "ip" | "ip6", address: string): () => number {
  ns.run("nft", `add table ${family} seen; add chain ${family} seen in { type filter hook input priority 0; }`);
  ns.run("nft", `add rule ${family} seen in ${family} saddr ${address} counter`);
  return () => Number(/counter packets (\d+)/.exec(ns.run("nft", "list", "ruleset"))?.[1] ?? -1);
}

requires(
  "nft",
  has("nft"),
  root,
)("nf_tables, packets", () => {
  // The pod and its neighbour are in one network but on two links, so what they send each other is routed.
  const families = [
    {
      family: "ip",
      pod: "10.1.0.5",
      neighbour: "10.1.0.6",
      length: 24,
      node: "198.51.100.1",
      outside: "198.51.100.2",
      host: 32,
    },
    { family: "ip6", pod: "fd00::5", neighbour: "fd00::6", length: 64, node: "fd09::1", outside: "fd09::2", host: 128 },
  ] as const;

  test.each(families)("masquerade() of $family hides the pod from the outside and not from its own network", (f) => {
    using site = new Site();
    const [pod, neighbour, outside] = ["pod", "peer", "out"].map((hint) => site.beside(hint)) as [
      TestNetns,
      TestNetns,
      TestNetns,
    ];
    const six = f.family === "ip6" ? ["-6"] : [];
    site.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1");
    const gateway = f.family === "ip" ? "169.254.1.1" : "fe80::1";
    for (const [ns, name, address] of [
      [pod, "v1", f.pod],
      [neighbour, "v2", f.neighbour],
    ] as const) {
      veth({ in: site.node, name }, { in: ns, name: "eth0", address: `${address}/${f.host}` });
      site.node.ip("address", "add", `${gateway}/${f.host === 32 ? 32 : 64}`, "dev", name, "nodad");
      site.node.ip(...six, "route", "add", `${address}/${f.host}`, "dev", name);
      ns.ip(...six, "route", "add", "default", "via", gateway, "dev", "eth0", "onlink");
    }
    veth(
      { in: site.node, name: "uplink", address: `${f.node}/${f.length}` },
      { in: outside, name: "eth0", address: `${f.outside}/${f.length}` },
    );

    const feature = masquerade("a1", [cidr(`${f.pod}/${f.length}`)]);
    expect(pod.ping(f.outside, { seconds: 1 })).toBe(false); // the outside has no way back

    site.kernel.nft.change(feature.add);
    const fromNode = counter(outside, f.family, f.node);
    const fromPod = counter(neighbour, f.family, f.pod);
    expect(pod.ping(f.outside)).toBe(true);
    expect(fromNode()).toBeGreaterThan(0);
    expect(pod.ping(f.neighbour)).toBe(true);
    expect(fromPod()).toBeGreaterThan(0);
    expect(neighbour.ping(f.outside, { seconds: 1 })).toBe(false); // another pod is not masqueraded

    site.kernel.nft.change(removal(feature.undo));
    expect(pod.ping(f.outside, { seconds: 1 })).toBe(false);

    // Of two attachments with one address each goes without the other.
    const same = [cidr(`${f.pod}/${f.length}`)];
    const above = masquerade("b1", same);
    const below = masquerade("a1", same, 2);
    site.kernel.nft.change(above.add);
    expect(() => site.kernel.nft.change(feature.add)).toThrow("EEXIST");
    site.kernel.nft.change(below.add);
    site.kernel.nft.change(removal(above.undo));
    expect(isPresent(site.kernel, below)).toBe(true);
    expect(pod.ping(f.outside)).toBe(true);
    site.kernel.nft.change(removal(below.undo));
    expect(pod.ping(f.outside, { seconds: 1 })).toBe(false);
  });

  test("macCheck() drops what has another source than the pod's address", () => {
    using site = new Site();
    const [a, b] = ["a", "b"].map((hint) => site.beside(hint)) as [TestNetns, TestNetns];
    site.node.ip("link", "add", "br0", "type", "bridge");
    site.node.ip("link", "set", "br0", "up");
    veth({ in: site.node, name: "va" }, { in: a, name: "eth0", address: "10.1.0.5/24" });
    veth({ in: site.node, name: "vb" }, { in: b, name: "eth0", address: "10.1.0.6/24" });
    for (const port of ["va", "vb"]) site.node.ip("link", "set", port, "master", "br0");
    const honest = "02:00:00:00:00:05";
    const setMac = (mac: string): void => {
      a.ip("link", "set", "eth0", "address", mac);
      b.ip("neigh", "flush", "dev", "eth0");
    };
    setMac(honest);
    const feature = macCheck("a1", "va", honest);
    site.kernel.nft.change(feature.add);
    expect(a.ping("10.1.0.6")).toBe(true);
    setMac("02:00:00:00:00:66");
    expect(a.ping("10.1.0.6", { seconds: 1 })).toBe(false);
    expect(isPresent(site.kernel, feature)).toBe(true);
    site.kernel.nft.change(removal(feature.undo));
    expect(a.ping("10.1.0.6")).toBe(true);
  });

  test("nft(8) can read our tables", () => {
    using site = new Site();
    site.kernel.nft.change(masquerade("a1", [cidr("10.1.0.5/20"), cidr("fd00::5/64")]).add);
    site.kernel.nft.change(macCheck("a1", "veth1234567", "02:00:00:00:00:07").add);
    const text = site.node.run("nft", "list", "ruleset");
    for (const line of [
      "elements = { 10.1.0.5 : jump masq-a1 }",
      "elements = { fd00::5 : jump masq-a1 }",
      "type nat hook postrouting priority srcnat; policy accept;",
      "ip saddr vmap @masq4",
      "ip6 saddr vmap @masq6",
      "ip saddr 10.1.0.5 ip daddr != 10.1.0.0/20 ip daddr != 224.0.0.0/4 masquerade",
      "ip6 saddr fd00::5 ip6 daddr != fd00::/64 ip6 daddr != ff00::/8 masquerade",
      'elements = { "veth1234567" : jump mac-a1 }',
      "iifname vmap @macs",
      "ether saddr != 02:00:00:00:00:07 drop",
    ]) {
      expect(text).toContain(line);
    }
    // And what it reads it can load again.
    site.node.run("nft", "flush", "ruleset");
    Bun.spawnSync(site.node.argv("nft", "-f", "-"), { stdin: Buffer.from(text) });
    expect(site.node.run("nft", "list", "ruleset")).toBe(text);
  });

  test("isPresent() after nft(8) flushed everything is false, and adding mends it", () => {
    using site = new Site();
    const feature = masquerade("a1", [cidr("10.1.0.5/24")]);
    site.kernel.nft.change(feature.add);
    site.node.run("nft", "flush", "ruleset");
    expect(isPresent(site.kernel, feature)).toBe(false);
    site.kernel.nft.change(removal(feature.undo));
    site.kernel.nft.change(feature.add);
    expect(isPresent(site.kernel, feature)).toBe(true);
  });

  test("processes that add and remove at once do not disturb each other", async () => {
    using site = new Site();
    const script = new URL("./kernel-adder.ts", import.meta.url).pathname;
    const keys = Array.from({ length: 6 }, (_, i) => `k${i}`);
    const children = keys.map((key, i) => {
      const address = `10.1.0.${10 + i}/24`;
      const command = [process.execPath, script, site.node.path, key, address, "20"];
      return Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
    });
    const ends = await Promise.all(children.map(async (c) => [await c.exited, await new Response(c.stderr).text()]));
    expect(ends).toEqual(keys.map(() => [0, ""]));
    for (const [i, key] of keys.entries()) {
      expect(isPresent(site.kernel, masquerade(key, [cidr(`10.1.0.${10 + i}/24`)]))).toBe(true);
    }
    expect(site.kernel.nft.rules("inet", "patchbay", "postrouting")).toHaveLength(2);
  });
});

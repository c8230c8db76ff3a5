/** The plugin firewall by the packets that it lets through, with FORWARD made to drop in every way that nodes know. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import type { TestNetns } from "../support/netns.ts";
import type { Call } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, requires, root } from "../support/requires.ts";
import { address, OUTSIDE, Site } from "../support/site.ts";
import { answers } from "../support/twin.ts";

setDefaultTimeout(60_000);

requires(...root, built)("firewall", () => {
  let site: Site;
  let netns: TestNetns;
  beforeEach(async () => {
    site = await Site.create();
    netns = site.node.netns;
  });
  afterEach(() => site?.[Symbol.dispose]());

  /** Tables of ours, which stay when they are empty. */
  const ours = /table \w+ patchbay \{[\s\S]*?\n\}\n/g;

  const dropByNft = (): void => {
    for (const program of ["iptables-nft", "ip6tables-nft"]) netns.run(program, "-P", "FORWARD", "DROP");
  };
  const ok = (command: "ADD" | "DEL" | "CHECK", o: Call): void => void site.node.ok(command, o);

  test("FORWARD policy DROP of iptables-nft: pods get out, answers come in, and nothing else", () => {
    dropByNft();
    const before = site.rules();
    const [pod, plain] = [site.pod(), site.pod("plain")];
    const conf = site.conf();
    ok("ADD", { pod, conf });
    ok("ADD", { pod: plain, container: "c2", conf: site.node.conf({ name: "net7", plugins: [bridgeOf(conf)] }) });
    expect(site.reaches(pod, true)).toEqual([true, true]);
    expect(site.reaches(plain, false)).toEqual([false, false]);
    for (const family of ["inet", "inet6"] as const) {
      expect(answers(site.outside, address(pod, family), false)).toBe(false);
    }
    ok("CHECK", { pod, conf });
    ok("DEL", { pod, conf });
    ok("DEL", { pod, conf });
    ok("DEL", { pod: plain, container: "c2", conf });
    expect(site.rules()).toBe(before);
  });

  const bridgeOf = (conf: Document): Document => {
    const { plugins } = conf.defaultNetwork as { plugins: Document[] };
    return plugins[0] as Document;
  };

  test("rules are as iptables writes them, and outlive its restore", () => {
    dropByNft();
    const pod = site.pod();
    const conf = site.conf({ iptablesAdminChainName: "MY-ADMIN" });
    ok("ADD", { pod, conf });
    const saved = site.saved();
    const comment = /--comment "(patchbay [0-9a-z]+)"/.exec(saved.join())?.[1];
    const lines = (address: string): string[] => [
      '-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
      '-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j MY-ADMIN',
      `-A CNI-FORWARD -d ${address} -m conntrack --ctstate RELATED,ESTABLISHED,DNAT -m comment --comment "${comment}" -j ACCEPT`,
      `-A CNI-FORWARD -s ${address} -m comment --comment "${comment}" -j ACCEPT`,
    ];
    expect(saved).toEqual([...lines("10.7.0.2/32"), ...lines("fd00:7::2/128")]);
    netns.run("sh", "-c", "iptables-save > /tmp/saved.$$ && iptables-restore < /tmp/saved.$$ && rm /tmp/saved.$$");
    expect(site.saved()).toEqual(saved);
    ok("CHECK", { pod, conf });
    netns.run("iptables-nft", "-D", "CNI-FORWARD", "3");
    expect(site.node.answer("CHECK", { pod, conf }).stdout).toContain("rules that let its packets through are gone");
    ok("DEL", { pod, conf });
    expect(site.saved().filter((line) => line.includes("patchbay"))).toEqual([]);
  });

  test("the administrator's chain comes first, and stays while it has a rule", () => {
    dropByNft();
    const pod = site.pod();
    const conf = site.conf();
    ok("ADD", { pod, conf });
    netns.run("iptables-nft", "-A", "CNI-ADMIN", "-d", "198.51.100.1", "-j", "DROP");
    expect([answers(pod, OUTSIDE[0], false), answers(pod, OUTSIDE[1], true)]).toEqual([false, true]);
    ok("DEL", { pod, conf });
    expect(site.saved()).toEqual([
      '-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
      "-A CNI-ADMIN -d 198.51.100.1/32 -j DROP",
      '-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN',
    ]);
  });

  test("an address that is used again: each pod removes its own rules", () => {
    dropByNft();
    const [old, young] = [site.pod("old"), site.pod("young")];
    const conf = site.conf({}, 7, 9);
    ok("ADD", { pod: old, conf });
    // The old pod's network is gone, and its address with it, before its DEL came.
    site.node.run("sh", "-c", "rm -rf /run/patchbay/*/leases/*");
    ok("ADD", { pod: young, container: "c2", conf });
    ok("DEL", { conf });
    expect(site.saved().filter((line) => line.includes("10.7.0.9/32"))).toHaveLength(2);
    expect(answers(young, OUTSIDE[0], true)).toBe(true);
    ok("CHECK", { pod: young, container: "c2", conf });
    ok("DEL", { pod: young, container: "c2", conf });
    expect(site.saved()).toEqual([]);
  });

  test("many pods at once, in and out", async () => {
    dropByNft();
    const before = site.rules().replace(ours, "");
    const conf = site.conf({ ingressPolicy: "same-bridge" });
    const pods = Array.from({ length: 12 }, (_, i) => ({ pod: site.pod(), container: `c${i}`, conf }));
    const all = async (command: "ADD" | "DEL"): Promise<void> => {
      const answers = await Promise.all(pods.map((o) => site.node.start(command, o).answer));
      expect(answers.filter(({ exit }) => exit !== 0).map(({ stdout }) => stdout)).toEqual([]);
    };
    await all("ADD");
    expect(site.saved().filter((line) => line.includes("patchbay"))).toHaveLength(12 * 4);
    for (const { pod } of pods.slice(0, 3)) expect(site.reaches(pod, true)).toEqual([true, true]);
    await all("DEL");
    expect(site.rules().replace(ours, "")).toBe(before);
    expect(site.rules()).not.toContain("iso-br");
  });

  test("DEL with the pod, its rules or their table gone", () => {
    const pod = site.pod();
    const conf = site.conf();
    for (const lose of [
      () => pod[Symbol.dispose](),
      () => netns.run("nft", "flush", "chain", "ip", "filter", "CNI-FORWARD"),
      () => netns.run("nft", "delete", "table", "ip6", "filter"),
      () => netns.run("nft", "flush", "ruleset"),
    ]) {
      const fresh = pod.exists ? pod : site.pod("fresh");
      ok("ADD", { pod: fresh, conf });
      lose();
      ok("DEL", { pod: fresh, conf });
      ok("DEL", { pod: fresh, conf });
      expect(site.saved().filter((line) => line.includes("patchbay"))).toEqual([]);
      netns.run("nft", "flush", "ruleset");
    }
  });

  test.each([
    ["iptables-legacy", 4, "iptables-legacy chain filter FORWARD"],
    ["ip6tables-legacy", 6, "ip6tables-legacy chain filter FORWARD"],
  ] as const)("FORWARD policy DROP of %s: ADD fails and names it", (program, _, name) => {
    const pod = site.pod();
    const conf = site.conf();
    netns.run(program, "-P", "FORWARD", "DROP");
    expectRefused(pod, conf, name);
    netns.run(program, "-P", "FORWARD", "ACCEPT");
    netns.run(program, "-A", "FORWARD", "-j", "REJECT");
    expectRefused(pod, conf, name);
    netns.run(program, "-I", "FORWARD", "-j", "ACCEPT");
    netns.run(program, "-D", "FORWARD", "-j", "REJECT");
    ok("ADD", { pod, conf });
    expect(site.reaches(pod, true)).toEqual([true, true]);
    ok("CHECK", { pod, conf });
    netns.run(program, "-P", "FORWARD", "DROP");
    expect(site.node.answer("CHECK", { pod, conf }).stdout).toContain(name);
    expect(site.node.answer("STATUS", { conf }).exit).toBe(program === "iptables-legacy" ? 1 : 0);
    ok("DEL", { pod, conf });
  });

  function expectRefused(pod: TestNetns, conf: Document, name: string): void {
    const before = site.rules();
    const answer = site.node.answer("ADD", { pod, conf });
    expect(answer.exit).toBe(1);
    const error = JSON.parse(answer.stdout);
    expect([error.code, error.msg]).toEqual([200, expect.stringContaining(`"${name}" drops forwarded packets`)]);
    expect(site.rules()).toBe(before);
    ok("DEL", { pod, conf });
    expect(site.rules()).toBe(before);
  }

  test("a chain of a table that is somebody else's drops: ADD fails and names it", () => {
    const pod = site.pod();
    const conf = site.conf();
    netns.run(
      "nft",
      "add table inet mine; add chain inet mine drops { type filter hook forward priority 5; policy drop; }",
    );
    expectRefused(pod, conf, "nft chain inet mine drops");
    netns.run("nft", "delete table inet mine");
    netns.run("nft", "add table ip6 mine; add chain ip6 mine drops { type filter hook forward priority 5; }");
    netns.run("nft", "add rule ip6 mine drops counter log reject with icmpv6 type admin-prohibited");
    expectRefused(pod, conf, "nft chain ip6 mine drops");
    netns.run("nft", "insert rule ip6 mine drops ip6 saddr 2001:db8:7::/64 drop");
    netns.run("nft", "flush chain ip6 mine drops");
    netns.run("nft", "add rule ip6 mine drops ip6 saddr 2001:db8:7::/64 drop");
    ok("ADD", { pod, conf });
    expect(site.reaches(pod, true)).toEqual([true, true]);
    ok("DEL", { pod, conf });
  });

  /** What drops all that is forwarded, written as nodes have it. */
  const written = [
    ["a comment before REJECT", ["-A FORWARD -m comment --comment last -j REJECT"]],
    ["a comment before DROP", ["-A FORWARD -m comment --comment last -j DROP"]],
    ["a chain that logs and drops", [...logDrop("LOGDROP"), "-A FORWARD -j LOGDROP"]],
    ["a goto to such a chain", [...logDrop("LOGDROP"), "-A FORWARD -m comment --comment last -g LOGDROP"]],
  ] as const;
  function logDrop(chain: string): string[] {
    return [`-N ${chain}`, `-A ${chain} -p icmp -m mark --mark 0x7 -j RETURN`, `-A ${chain} -j DROP`];
  }

  test("it drops, however that is written: ADD fails and names the chain", () => {
    const [pod, plain] = [site.pod(), site.pod("plain")];
    const conf = site.conf();
    const alone = site.node.conf({ name: "net7", plugins: [bridgeOf(conf)] });
    ok("ADD", { pod: plain, container: "c2", conf: alone });
    expect(answers(plain, OUTSIDE[0], true)).toBe(true);
    const ways = [
      ["iptables-legacy", "filter", "iptables-legacy chain filter FORWARD"],
      ["iptables-nft", "security", "nft chain ip security FORWARD"],
    ] as const;
    for (const [program, table, name] of ways) {
      for (const [how, rules] of written) {
        // REJECT is of the table "filter" alone.
        if (table !== "filter" && how.endsWith("REJECT")) continue;
        for (const rule of rules) netns.run(program, "-t", table, ...rule.split(" "));
        expect([program, how, answers(plain, OUTSIDE[0], false)]).toEqual([program, how, false]);
        expectRefused(pod, conf, name);
        netns.run(program, "-t", table, "-F");
        netns.run(program, "-t", table, "-X");
      }
    }
    netns.run("nft", "flush ruleset");
    for (const verb of ["jump", "goto"]) {
      netns.run("nft", "add table inet mine; add chain inet mine drops { type filter hook forward priority 5; }");
      netns.run("nft", "add chain inet mine last; add rule inet mine last counter log; add rule inet mine last drop");
      netns.run("nft", `add rule inet mine drops counter ${verb} last`);
      expect([verb, answers(plain, OUTSIDE[0], false)]).toEqual([verb, false]);
      expectRefused(pod, conf, "nft chain inet mine drops");
      netns.run("nft", "delete table inet mine");
    }
    ok("ADD", { pod, conf });
    expect(site.reaches(pod, true)).toEqual([true, true]);
    ok("DEL", { pod, conf });
    ok("DEL", { pod: plain, container: "c2", conf: alone });
  });

  test("a chain without an end that drops is none, and rules behind an accept say nothing", () => {
    const pod = site.pod();
    const conf = site.conf();
    const program = "iptables-legacy";
    for (const rule of [
      ...["-N MAYBE", "-A MAYBE -s 203.0.113.0/24 -j DROP", "-A FORWARD -m comment --comment first -j MAYBE"],
      ...["-N ALL", "-A ALL -j ACCEPT", "-A FORWARD -g ALL", "-A FORWARD -j DROP"],
    ]) {
      netns.run(program, ...rule.split(" "));
    }
    ok("ADD", { pod, conf });
    expect(answers(pod, OUTSIDE[0], true)).toBe(true);
    ok("CHECK", { pod, conf });
    ok("DEL", { pod, conf });
  });

  test("bad configurations: what is wrong, by name, and nothing left", () => {
    const pod = site.pod();
    const before = site.rules();
    for (const [firewall, code, words] of [
      [{ backend: "ebtables" }, 7, "backend"],
      [{ ingressPolicy: "closed" }, 7, "ingressPolicy"],
      [{ iptablesAdminChainName: "FORWARD" }, 7, '"FORWARD" as "iptablesAdminChainName"'],
      [{ iptablesAdminChainName: "CNI-FORWARD" }, 7, '"CNI-FORWARD" as "iptablesAdminChainName"'],
      [{ iptablesAdminChainName: "with space" }, 7, "iptablesAdminChainName"],
      [{ iptablesAdminChainName: "-j" }, 7, "iptablesAdminChainName"],
      [{ iptablesAdminChainName: "x".repeat(29) }, 7, "iptablesAdminChainName"],
      [{ backend: "firewalld" }, 11, "it does not run"],
    ] as const) {
      const answer = site.node.answer("ADD", { pod, conf: site.conf(firewall) });
      const error = JSON.parse(answer.stdout);
      expect([error.code, error.msg]).toEqual([code, expect.stringContaining(words)]);
      expect(error.msg).toStartWith("Cannot");
      expect(site.rules()).toBe(before);
    }
    const alone = { cniVersion: "1.0.0", name: "n", type: "firewall" };
    const answer = site.node.answer("ADD", { pod, conf: alone, as: "firewall" });
    expect(JSON.parse(answer.stdout)).toMatchObject({ code: 7, msg: expect.stringContaining("prevResult") });
  });

  // --- Isolation ---

  test.each(["same-bridge", "isolated"])("ingressPolicy %s: whom pods reach", (ingressPolicy) => {
    dropByNft();
    const before = site.rules().replace(ours, "");
    const pods = ["a", "b", "c", "d"].map((name) => site.pod(name));
    const [a, b, c, d] = pods as [TestNetns, TestNetns, TestNetns, TestNetns];
    const confs = [site.conf({ ingressPolicy }), site.conf({ ingressPolicy }), site.conf({ ingressPolicy }, 8)];
    const open = { ...site.conf({}, 9) };
    for (const [i, conf] of [...confs, open].entries())
      ok("ADD", { pod: pods[i] as TestNetns, container: `c${i}`, conf });
    const sees = (from: TestNetns, to: TestNetns, is: boolean): boolean[] =>
      (["inet", "inet6"] as const).map((family) => answers(from, address(to, family), is));
    const same = ingressPolicy === "same-bridge";
    // What a bridge hands from port to port is not iptables' business on every node.
    const bridged = ["iptables", "ip6tables"].map((name) => `/proc/sys/net/bridge/bridge-nf-call-${name}`);
    netns.run("sh", "-c", bridged.map((path) => `[ ! -e ${path} ] || echo 0 > ${path}`).join("; "));
    expect(["a>b", ...sees(a, b, same)]).toEqual(["a>b", same, same]);
    expect(["a>c", ...sees(a, c, false)]).toEqual(["a>c", false, false]);
    expect(["c>a", ...sees(c, a, false)]).toEqual(["c>a", false, false]);
    expect(["a>d", ...sees(a, d, true)]).toEqual(["a>d", true, true]);
    expect(["out", ...site.reaches(a, true)]).toEqual(["out", true, true]);
    expect(["gateway", answers(a, "10.7.0.1", true), answers(a, "fd00:7::1", true)]).toEqual(["gateway", true, true]);
    ok("CHECK", { pod: a, container: "c0", conf: confs[0] as Document });
    ok("DEL", { pod: a, container: "c0", conf: confs[0] as Document });
    expect(["b>c", ...sees(b, c, false)]).toEqual(["b>c", false, false]);
    ok("CHECK", { pod: b, container: "c1", conf: confs[1] as Document });
    netns.run("nft", "flush", "chain", "inet", "patchbay", "iso-br7");
    expect(site.node.answer("CHECK", { pod: b, container: "c1", conf: confs[1] as Document }).stdout).toContain(
      'br7\\" is not isolated',
    );
    for (const [i, conf] of [...confs, open].entries())
      ok("DEL", { pod: pods[i] as TestNetns, container: `c${i}`, conf });
    expect(site.rules()).not.toContain("iso-br");
    expect(site.rules().replace(ours, "")).toBe(before);
  });

  test("a policy needs a link of the node", () => {
    const pod = site.pod();
    const prevResult = { interfaces: [{ name: "eth0", sandbox: pod.path }], ips: [] };
    const conf = { cniVersion: "1.0.0", name: "n", type: "firewall", ingressPolicy: "isolated", prevResult };
    const answer = site.node.answer("ADD", { pod, conf, as: "firewall" });
    expect(JSON.parse(answer.stdout)).toMatchObject({ code: 7, msg: expect.stringContaining("no link of the node") });
  });
});

requires(
  ...root,
  built,
  hasPeer("reference"),
)("firewall and the reference's", () => {
  let site: Site;
  let netns: TestNetns;
  beforeEach(async () => {
    site = await Site.create();
    netns = site.node.netns;
    const path = join(site.node.bin, "ref-firewall");
    copyFileSync(peerFile("reference", "firewall"), path);
    chmodSync(path, 0o755);
    for (const program of ["iptables-nft", "ip6tables-nft"]) netns.run(program, "-P", "FORWARD", "DROP");
  });
  afterEach(() => site?.[Symbol.dispose]());

  /** The same chain, with the reference's plugin in it. */
  const reference = (conf: Document): Document =>
    JSON.parse(JSON.stringify(conf).replace('"type":"firewall"', '"type":"ref-firewall","backend":"iptables"'));

  test("both write the same rules, but for the key of ours, and both stand beside each other", () => {
    const [ours, theirs] = [site.pod("ours"), site.pod("theirs")];
    const conf = site.conf();
    site.node.ok("ADD", { pod: theirs, container: "c1", conf: reference(conf) });
    const saved = site.saved();
    site.node.ok("ADD", { pod: ours, container: "c2", conf });
    const added = site.saved().filter((line) => !saved.includes(line));
    const plain = (line: string): string =>
      line.replace(/ -m comment --comment "patchbay [0-9a-z]+"/, "").replace(",DNAT", "");
    expect(added.map(plain)).toEqual(
      saved.filter((line) => / -[sd] /.test(line)).map((line) => line.replace(/([.:])2\//, "$13/")),
    );
    for (const pod of [ours, theirs]) expect(site.reaches(pod, true)).toEqual([true, true]);
    site.node.ok("DEL", { pod: ours, container: "c2", conf });
    expect(site.saved()).toEqual(saved);
    site.node.ok("DEL", { pod: theirs, container: "c1", conf: reference(conf) });
  });

  test("rules that it made for a pod go with the DEL that we get", () => {
    const [pod, other] = [site.pod(), site.pod("other")];
    const conf = site.conf();
    const before = site.saved();
    const result = { cniVersion: "1.0.0", ips: [{ address: "10.7.0.40/24" }, { address: "fd00:7::40/64" }] };
    const single = { cniVersion: "1.0.0", name: "net7", type: "firewall", prevResult: result };
    site.node.ok("ADD", { pod, conf: { ...single, backend: "iptables" }, as: "ref-firewall", container: "old" });
    site.node.ok("ADD", { pod: other, container: "c2", conf });
    expect(site.saved().filter((line) => /[.:]40\//.test(line))).toHaveLength(4);
    site.node.ok("DEL", { pod, conf: single, as: "firewall", container: "old" });
    expect(site.saved().filter((line) => /[.:]40\//.test(line))).toEqual([]);
    expect(site.reaches(other, true)).toEqual([true, true]);
    site.node.ok("DEL", { pod: other, container: "c2", conf });
    expect(before).toEqual([]);
  });

  test.each(["open", "same-bridge", "isolated"])("policy %s: packets go the same ways", (ingressPolicy) => {
    const seen = ["firewall", "ref-firewall"].map((type) => {
      const pods = ["a", "b", "c"].map((name) => site.pod(name));
      const [a, b, c] = pods as [TestNetns, TestNetns, TestNetns];
      const confs = [site.conf({ ingressPolicy }), site.conf({ ingressPolicy }), site.conf({ ingressPolicy }, 8)];
      const told = type === "firewall" ? confs : confs.map(reference);
      for (const [i, conf] of told.entries()) {
        site.node.ok("ADD", { pod: pods[i] as TestNetns, container: `${type}${i}`, conf });
      }
      const open = ingressPolicy === "open";
      const ways = {
        "pod to pod of another bridge": answers(a, address(c, "inet"), open),
        "and back": answers(c, address(a, "inet"), open),
        "pod to outside": answers(a, OUTSIDE[0], true),
        "outside to pod": answers(site.outside, address(a, "inet"), false),
        "pod to pod of another bridge, IPv6": answers(a, address(c, "inet6"), open),
        "pod to outside, IPv6": answers(b, OUTSIDE[1], true),
        "outside to pod, IPv6": answers(site.outside, address(b, "inet6"), false),
      };
      for (const [i, conf] of told.entries()) {
        site.node.ok("DEL", { pod: pods[i] as TestNetns, container: `${type}${i}`, conf });
      }
      return ways;
    });
    expect(seen[0]).toEqual(seen[1] as never);
  });
});

/** The plugin firewall beside Debian's firewalld: zones, by what packets do and by what firewalld itself says. */
import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, copyFileSync } from "node:fs";
import { join } from "node:path";
import type { Document } from "../support/cni.ts";
import { TestFirewalld } from "../support/firewalld.ts";
import type { TestNetns } from "../support/netns.ts";
import { until } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, requires, root } from "../support/requires.ts";
import { address, Site } from "../support/site.ts";

setDefaultTimeout(60_000);

requires(
  ...root,
  built,
  hasPeer("firewalld"),
  hasPeer("reference"),
)("firewall beside firewalld", () => {
  let site: Site;
  let firewalld: TestFirewalld;
  let env: Record<string, string>;
  let before: string;

  beforeAll(async () => {
    site = await Site.create();
    const path = join(site.node.bin, "ref-firewall");
    copyFileSync(peerFile("reference", "firewall"), path);
    chmodSync(path, 0o755);
    firewalld = await TestFirewalld.start(site.node.netns);
    env = { DBUS_SYSTEM_BUS_ADDRESS: firewalld.address };
    fillZones();
    before = site.rules();
  });
  afterAll(() => {
    firewalld?.[Symbol.dispose]();
    site?.[Symbol.dispose]();
  });
  afterEach(() => expect(site.rules()).toBe(before));

  /** firewalld makes a zone's chains with its first source, and keeps them. */
  function fillZones(): void {
    for (const zone of ["trusted", "drop", "block"]) {
      for (const method of ["addSource", "removeSource"]) firewalld.zone(method, zone, "192.0.2.99/32");
    }
  }

  const ok = (command: "ADD" | "CHECK" | "DEL", pod: TestNetns, conf: Document, container = "c1"): void =>
    void site.node.ok(command, { pod, conf, container, env });
  const error = (command: "ADD" | "CHECK" | "STATUS", pod: TestNetns, conf: Document): { code: number; msg: string } =>
    JSON.parse(site.node.answer(command, { pod, conf, env }).stdout);

  test("it is found, and the pod's addresses are in the trusted zone until DEL", () => {
    const [pod, plain] = [site.pod(), site.pod("plain")];
    const conf = site.conf();
    const bare = site.node.conf({
      name: "net7",
      plugins: [(conf.defaultNetwork as { plugins: Document[] }).plugins[0] as Document],
    });
    ok("ADD", pod, conf);
    ok("ADD", plain, bare, "c2");
    expect(firewalld.sources()).toEqual(["10.7.0.2/32", "fd00:7::2/128"]);
    expect(site.saved()).toEqual([]);
    expect(site.reaches(pod, true)).toEqual([true, true]);
    expect(site.reaches(plain, false)).toEqual([false, false]);
    ok("CHECK", pod, conf);
    firewalld.zone("removeSource", "trusted", "10.7.0.2/32");
    expect(error("CHECK", pod, conf).msg).toContain('not in zone "trusted" of firewalld');
    ok("DEL", pod, conf);
    ok("DEL", pod, conf);
    ok("DEL", plain, bare, "c2");
    expect(firewalld.sources()).toEqual([]);
  });

  test("an ADD is killed behind it: DEL takes the sources back", async () => {
    const pod = site.pod();
    const conf = site.conf();
    const { plugins, ...list } = conf.defaultNetwork as Document & { plugins: Document[] };
    const slow = { ...conf, defaultNetwork: { ...list, plugins: [...plugins, site.node.spy({ sleepMs: 20_000 })] } };
    const add = site.node.start("ADD", { pod, conf: slow, container: "c1", env });
    await until(() => site.node.calls().length > 0);
    expect(firewalld.sources()).toHaveLength(2);
    add.kill("SIGKILL");
    await add.answer;
    ok("DEL", pod, slow);
    expect(firewalld.sources()).toEqual([]);
  });

  test("another zone, which decides", () => {
    const pod = site.pod();
    const conf = site.conf({ firewalldZone: "drop" });
    ok("ADD", pod, conf);
    expect(firewalld.sources("drop")).toEqual(
      ["10.7.0.2/32", "fd00:7::2/128"].map((s) => s.replace(/2\//, `${last(pod)}/`)),
    );
    expect(site.reaches(pod, false)).toEqual([false, false]);
    ok("DEL", pod, conf);
    expect(firewalld.sources("drop")).toEqual([]);
  });

  const last = (pod: TestNetns): string => address(pod, "inet").split(".").at(-1) ?? "";

  test("FORWARD policy DROP of iptables-nft as well: accepted in both", () => {
    const { netns } = site.node;
    const pod = site.pod();
    const conf = site.conf();
    netns.run("iptables-nft", "-P", "FORWARD", "DROP");
    ok("ADD", pod, conf);
    expect(site.reaches(pod, true)).toEqual([true, true]);
    expect(site.saved().filter((line) => line.includes("patchbay"))).toHaveLength(4);
    ok("CHECK", pod, conf);
    ok("DEL", pod, conf);
    expect(firewalld.sources()).toEqual([]);
    netns.run("nft", "delete", "table", "ip", "filter");
  });

  test("the backend iptables helps nobody here, and ADD says so", () => {
    const pod = site.pod();
    const conf = site.conf({ backend: "iptables" });
    expect(error("ADD", pod, conf)).toMatchObject({
      code: 200,
      msg: expect.stringContaining('"nft chain inet firewalld filter_FORWARD" drops forwarded packets'),
    });
    ok("DEL", pod, conf);
  });

  test("zones that are not there, and addresses that are in another", () => {
    const pod = site.pod();
    expect(error("ADD", pod, site.conf({ firewalldZone: "nowhere" }))).toMatchObject({
      code: 7,
      msg: expect.stringMatching(
        /^Cannot put "10\.7\.0\.\d+\/32" into zone "nowhere" of firewalld: there is no such zone/,
      ),
    });
    const conf = site.conf({}, 7, 77);
    firewalld.zone("addSource", "block", "10.7.0.77/32");
    expect(error("ADD", pod, conf)).toMatchObject({
      code: 102,
      msg: expect.stringContaining("already bound to"),
    });
    ok("DEL", pod, conf);
    expect(firewalld.sources("block")).toEqual(["10.7.0.77/32"]);
    firewalld.zone("removeSource", "block", "10.7.0.77/32");
    expect(firewalld.sources()).toEqual([]);
  });

  test("a source that was there before stays", () => {
    const pod = site.pod();
    const conf = site.conf({}, 7, 78);
    firewalld.zone("addSource", "trusted", "10.7.0.78/32");
    ok("ADD", pod, conf);
    expect(site.reaches(pod, true)).toEqual([true, true]);
    ok("DEL", pod, conf);
    expect(firewalld.sources()).toEqual(["10.7.0.78/32"]);
    firewalld.zone("removeSource", "trusted", "10.7.0.78/32");
    ok("ADD", pod, conf);
    ok("DEL", pod, conf);
    expect(firewalld.sources()).toEqual([]);
  });

  test("an address that is used again stays in the zone until the last has gone", () => {
    const [old, young] = [site.pod("old"), site.pod("young")];
    const conf = site.conf({}, 7, 79);
    ok("ADD", old, conf);
    site.node.run("sh", "-c", "rm -rf /run/patchbay/*/leases/*");
    ok("ADD", young, conf, "c2");
    ok("DEL", old, conf);
    expect(firewalld.sources()).toContain("10.7.0.79/32");
    ok("CHECK", young, conf, "c2");
    ok("DEL", young, conf, "c2");
    expect(firewalld.sources()).toEqual([]);
  });

  test("sources that the reference added go with the DEL that we get", () => {
    const pod = site.pod();
    const result = { cniVersion: "1.0.0", ips: [{ address: "10.7.0.90/24" }, { address: "fd00:7::90/64" }] };
    const single = { cniVersion: "1.0.0", name: "net7", type: "firewall", prevResult: result };
    site.node.ok("ADD", { pod, conf: single, as: "ref-firewall", container: "old", env });
    expect(firewalld.sources()).toEqual(["10.7.0.90/32", "fd00:7::90/128"]);
    site.node.ok("DEL", { pod, conf: single, as: "firewall", container: "old", env });
    expect(firewalld.sources()).toEqual([]);
  });

  test("it goes away: CHECK and STATUS tell, DEL does not mind", async () => {
    const pod = site.pod();
    const conf = site.conf({ backend: "firewalld" });
    ok("ADD", pod, conf);
    await firewalld.stop();
    expect(error("CHECK", pod, conf).msg).toContain("not in zone");
    expect(error("STATUS", pod, conf)).toMatchObject({ code: 50, msg: expect.stringContaining("does not run") });
    ok("DEL", pod, conf);
    ok("DEL", pod, conf);
    expect(error("ADD", pod, conf)).toMatchObject({ code: 11 });
    ok("DEL", pod, conf);
    await firewalld.run();
    expect(firewalld.sources()).toEqual([]);
    fillZones();
  });
});

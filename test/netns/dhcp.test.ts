/** dhcp as IPAM: ADD, CHECK, DEL, with Debian's dnsmasq and a scripted server behind macvlan and bridge. */
import { expect, test } from "bun:test";
import { cpSync, readdirSync, readlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DhcpLeases, type DhcpRecord } from "../../core/state/dhcp.ts";
import { readTrace, straceArgv } from "../fault/strace.ts";
import { cni } from "../support/cni.ts";
import { call, DhcpSite, macvlan, SERVER } from "../support/dhcp-site.ts";
import { TestNetns } from "../support/netns.ts";
import { podArgs, until } from "../support/node.ts";
import { hasPeer, peerFile } from "../support/peers.ts";
import { built, has, requires, root } from "../support/requires.ts";

/** Nothing of an attachment is left on the node or in the pod. */
function expectNothing(site: DhcpSite, pod?: TestNetns): void {
  expect(site.records()).toEqual([]);
  expect(site.node.status()).toEqual([]);
  if (pod !== undefined) expect(pod.ipJson("link").map(({ ifname }) => ifname)).toEqual(["lo"]);
}

requires(
  ...root,
  built,
  ["dnsmasq", has("dnsmasq")],
  ["strace", has("strace")],
)("dhcp", () => {
  test("macvlan: a lease with all that the server says; CHECK; RELEASE on DEL", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq(
      "--dhcp-option=option:dns-server,192.168.50.2,192.168.50.3",
      "--domain=example.test",
      "--dhcp-option=option:ntp-server,192.168.50.4",
      "--dhcp-option=option:classless-static-route,10.9.0.0/16,192.168.50.5,0.0.0.0/0,192.168.50.1",
    );
    using pod = TestNetns.create("pod");
    const conf = macvlan({}, { priority: 50 });
    const { result, ms } = site.node.ok("ADD", call(pod, { conf }));
    const address = result?.ips?.[0]?.address ?? "";
    expect(address).toMatch(/^192\.168\.50\.1\d\/24$|^192\.168\.50\.20\/24$/);
    expect(result?.ips).toEqual([{ address, gateway: SERVER, interface: 0 }]);
    expect(result?.routes).toEqual([
      { dst: "10.9.0.0/16", gw: "192.168.50.5", priority: 50 },
      { dst: "0.0.0.0/0", gw: SERVER, priority: 50 },
    ]);
    expect(ms).toBeLessThan(3000);
    expect(server.leases).toEqual([address.replace("/24", "")]);
    const id = Buffer.from("\0c1/lan/net1")
      .toString("hex")
      .replaceAll(/(..)(?!$)/g, "$1:");
    expect(server.clientId(address.replace("/24", ""))).toBe(id);
    expect(pod.run("ping", "-c1", "-W2", SERVER)).toContain("1 received");
    expect(site.record()).toMatchObject({ state: "bound", address, server: SERVER, timeServers: ["192.168.50.4"] });
    expect(pod.ip("route", "show", "10.9.0.0/16")).toContain("metric 50");
    site.node.ok("CHECK", call(pod, { conf: { ...conf, prevResult: result } }));
    site.node.ok("DEL", call(pod, { conf }));
    await until(() => server.count("DHCPRELEASE") === 1);
    expect(server.leases).toEqual([]);
    expect(site.records()).toEqual([]);
    expect(site.node.status()).toEqual([]);
  });

  test("bridge: two pods, two leases, traffic between them", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq();
    site.node.netns.ip("link", "add", "br1", "type", "bridge");
    site.node.netns.ip("link", "set", "br1", "up");
    site.node.netns.ip("link", "set", "up0", "master", "br1");
    using one = TestNetns.create("one");
    using two = TestNetns.create("two");
    const conf = macvlan({ type: "bridge", bridge: "br1" });
    const [first, second] = [
      site.node.ok("ADD", call(one, { container: "one", conf })),
      site.node.ok("ADD", call(two, { container: "two", conf })),
    ].map(({ result }) => result?.ips?.[0]?.address?.replace("/24", "") ?? "");
    expect(server.leases).toEqual([first ?? "", second ?? ""].sort());
    expect(first).not.toBe(second ?? "");
    expect(one.run("ping", "-c1", "-W2", second ?? "")).toContain("1 received");
    site.node.ok("DEL", call(one, { container: "one", conf }));
    await until(() => server.leases.length === 1);
    expect(server.leases).toEqual([second ?? ""]);
    site.node.ok("DEL", call(two, { container: "two", conf }));
    await until(() => server.leases.length === 0);
    expectNothing(site, one);
  });

  test("what is provided reaches the server, and what is requested is all that it is asked for", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq();
    using pod = TestNetns.create("pod");
    const ipam = {
      request: [{ skipDefault: true }, { option: "subnet-mask" }, { option: "42" }],
      provide: [
        { option: "host-name", value: "ignored", fromArg: "K8S_POD_NAME" },
        { option: "vendor-class-identifier", value: "pb-test" },
        { option: "dhcp-client-identifier", value: "by-name" },
      ],
    };
    const { result } = site.node.ok("ADD", call(pod, { conf: macvlan({}, ipam) }));
    expect(server.log).toContain("vendor class: pb-test");
    expect(server.log).toContain("client provides name: web-0");
    expect(server.log).toMatch(/requested options: 1:netmask, 42:ntp-server/);
    const address = result?.ips?.[0]?.address?.replace("/24", "") ?? "";
    expect(server.clientId(address)).toBe(
      Buffer.from("by-name")
        .toString("hex")
        .replaceAll(/(..)(?!$)/g, "$1:"),
    );
    site.node.ok("DEL", call(pod, { conf: macvlan({}, ipam) }));
    await until(() => server.leases.length === 0);
  });

  test.each([
    [{ request: [{ option: "hostname" }] }, "request[0].option: expected an option's number from 0 to 255"],
    [{ provide: [{ option: "53", value: "x" }] }, "option 53 is the client's own"],
    [{ provide: [{ option: "12", value: "x".repeat(256) }] }, "at most 255 bytes"],
    [{ priority: -1 }, "priority: expected an integer"],
    [{ request: {} }, "request: expected a list"],
  ])("a configuration that cannot be used: %j", async (ipam, words) => {
    using site = await DhcpSite.create();
    using pod = TestNetns.create("pod");
    const { error } = site.node.answer("ADD", call(pod, { conf: macvlan({}, ipam) }));
    expect(error).toMatchObject({ code: 7, msg: expect.stringContaining(words) });
    expectNothing(site, pod);
  });

  test("nothing renews: ADD fails at once and says what to start, a dead one's traces do not deceive it", async () => {
    using site = await DhcpSite.create();
    await site.dnsmasq();
    using pod = TestNetns.create("pod");
    const conf = macvlan();
    site.node.ok("STATUS", call(undefined, { conf }));
    await site.stopKeeper("SIGKILL");
    const { error, ms } = site.node.answer("ADD", call(pod, { conf }));
    expect(error).toMatchObject({ code: 11, msg: expect.stringContaining("nothing on this node would renew it") });
    expect(error?.details).toContain('Start "patchbay dhcp"');
    expect(ms).toBeLessThan(2000);
    expect(site.node.answer("STATUS", call(undefined, { conf })).error?.code).toBe(50);
    expectNothing(site, pod);
    await site.startKeeper();
    site.node.ok("ADD", call(pod, { conf }));
    site.node.ok("DEL", call(pod, { conf }));
    expectNothing(site, pod);
  });

  test("one process renews; a second one says so and ends", async () => {
    using site = await DhcpSite.create();
    const argv = site.node.netns.argv(...site.node.inside(), join(site.node.bin, "patchbay"), "dhcp");
    const { exitCode, stderr } = Bun.spawnSync(argv);
    expect(exitCode).toBe(1);
    expect(stderr.toString()).toContain("another process on this node does");
  });

  test("a server that is of no use: each ADD ends in time, says why, and leaves nothing", async () => {
    using stack = new DisposableStack();
    const cases = [
      [{ discover: "silent" }, /no DHCP server answered \d requests/],
      [{ discover: "garbage" }, /no answer to \d requests could be used, because Cannot read/],
      [{ request: "nak" }, /takes back what it offers, and says "not yours"/],
      [{ request: "silent" }, /no DHCP server answered \d+ requests/],
      [{ address: "127.0.0.1" }, /because a server gave 127.0.0.1, which no host/],
      [{ raw: "3501023604c0a83201330400000e10ff" }, /gave no subnet mask/],
    ] as const;
    const running = [];
    for (const [script, words] of cases) {
      const site = stack.use(await DhcpSite.create());
      const server = await site.scripted(script);
      const pod = stack.use(TestNetns.create("pod"));
      const { answer } = site.node.start("ADD", call(pod, { conf: macvlan() }));
      running.push({ site, server, pod, answer, words });
    }
    for (const { site, server, pod, answer, words } of running) {
      const { error, ms } = await answer;
      expect(error).toMatchObject({ code: 11, msg: expect.stringMatching(words) });
      expect(ms).toBeLessThan(14_000);
      expectNothing(site, pod);
      if (server.heard.includes("REQUEST")) expect(server.heard.at(-1)).toBe("RELEASE");
    }
  });

  test("ADD again gives the same lease; an interface that is not there yet is named", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted();
    using pod = TestNetns.create("pod");
    const { error } = site.node.answer("ADD", call(pod, { conf: macvlan({ type: "ptp" }) }));
    expect(error).toMatchObject({ code: 7, msg: expect.stringContaining("the interface is not there") });
    expectNothing(site, pod);
    expect(server.heard).toEqual(["ready"]);
  });

  test.each([
    ["while it searches", { discover: "silent" }, (heard: readonly string[]) => heard.includes("DISCOVER"), false],
    [
      "while it waits for what was offered",
      { request: "silent" },
      (heard: readonly string[]) => heard.includes("REQUEST"),
      true,
    ],
  ] as const)("ADD is killed %s: DEL leaves nothing", async (_, script, reached, leased) => {
    using site = await DhcpSite.create();
    const server = await site.scripted(script);
    using pod = TestNetns.create("pod");
    const conf = macvlan();
    const add = site.node.start("ADD", call(pod, { conf }));
    await until(() => reached(server.heard));
    add.kill("SIGKILL");
    await add.answer;
    expect(site.records().length).toBe(leased ? 1 : 0);
    site.node.ok("DEL", call(pod, { conf }));
    expectNothing(site, pod);
    if (leased) await until(() => server.heard.includes("RELEASE"));
    site.node.ok("DEL", call(pod, { conf }));
  });

  test("ADD, or DEL, is killed at each call about the lease: DEL leaves nothing here, and nothing at the server", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq();
    using pod = TestNetns.create("pod");
    const conf = macvlan();
    const trace = join(site.node.directory, "trace");
    const traced = (command: "ADD" | "DEL", at?: Parameters<typeof straceArgv>[1]) => {
      const { node } = site;
      const under = [...node.inside(), ...straceArgv(trace, at)];
      const env = { containerId: "c1", ifname: "net1", netns: pod, args: podArgs };
      cni({ plugin: join(node.bin, "patchbay"), command, node: node.netns, stdin: conf, under, ...env });
    };
    const pointsOf = (command: "ADD" | "DEL") => {
      traced(command);
      const { calls } = readTrace(trace, command === "ADD" ? "/run/patchbay" : "");
      return calls.filter(({ text }) => /patchbay\/dhcp|AF_PACKET|\.journal/.test(text));
    };
    const clean = async (text: string) => {
      site.node.ok("DEL", call(pod, { conf }));
      await until(() => server.leases.length === 0);
      expect([text, site.records(), pod.ipJson("link").length]).toEqual([text, [], 1]);
      site.node.ok("DEL", call(pod, { conf }));
    };
    const [ofAdd, ofDel] = [pointsOf("ADD"), pointsOf("DEL")];
    expect(ofAdd.length).toBeGreaterThan(20);
    expect(ofDel.length).toBeGreaterThan(3);
    let leased = 0;
    for (const { kind, when, text } of ofAdd) {
      traced("ADD", { kind, when });
      leased += server.leases.length;
      await clean(text);
    }
    expect(leased).toBeGreaterThan(0);
    for (const { kind, when, text } of ofDel) {
      site.node.ok("ADD", call(pod, { conf }));
      traced("DEL", { kind, when });
      await clean(text);
    }
    expectNothing(site, pod);
  }, 120_000);

  test("ADD that is asked to stop undoes itself", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ request: "silent" });
    using pod = TestNetns.create("pod");
    const add = site.node.start("ADD", call(pod, { conf: macvlan() }));
    await until(() => server.heard.includes("REQUEST"));
    add.kill("SIGTERM");
    expect((await add.answer).error?.code).toBe(11);
    expectNothing(site, pod);
    expect(server.heard.at(-1)).toBe("RELEASE");
  });

  test("a later plugin fails: the lease is given back", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted();
    using pod = TestNetns.create("pod");
    const { cniVersion: _, name: __, ...plugin } = macvlan();
    const conf = site.node.conf({ plugins: [plugin, site.node.spy({ fail: ["ADD"] })] });
    expect(site.node.answer("ADD", { pod, conf }).exit).toBe(1);
    expect(server.heard).toEqual(["ready", "DISCOVER", "REQUEST", "RELEASE"]);
    expectNothing(site, pod);
  });

  test("a pod that dies without DEL: its namespace is not held, and reconcile drops the lease", async () => {
    using site = await DhcpSite.create();
    await site.dnsmasq("--dhcp-option=option:T1,3");
    const conf = macvlan();
    {
      using pod = TestNetns.create("pod");
      const before = site.keeperHolds();
      site.node.ok("ADD", call(pod, { conf, args: "" }));
      await until(() => site.log.includes("prolonged"));
      expect(site.keeperHolds()).toEqual(before);
    }
    // Links on up0 go with the namespace that they were in.
    await until(() => !site.node.netns.ip("-d", "link", "show", "up0").includes("promiscuity 1"));
    expect(site.records().length).toBe(1);
    const patchbay = join(site.node.bin, "patchbay");
    expect(site.node.run(patchbay, "gc")).toContain("removed");
    expectNothing(site);
    site.node.ok("DEL", call(undefined, { conf }));
  });

  test("a worker does it too, holds nothing of the pod afterwards, and stops when it is asked to", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted();
    site.node.link("dhcp");
    using worker = await site.node.worker();
    using pod = TestNetns.create("pod");
    const conf = macvlan();
    site.node.ok("ADD", call(pod, { conf }));
    site.node.ok("DEL", call(pod, { conf }));
    for (let i = 0; i < 3; i++) {
      site.node.ok("ADD", call(pod, { conf }));
      // By its own name, as a CNI binary would call it, on the interface that is there.
      site.node.ok("ADD", call(pod, { conf: { ...conf, name: "other" }, as: "dhcp" }));
      site.node.ok("DEL", call(pod, { conf: { ...conf, name: "other" }, as: "dhcp" }));
      site.node.ok("DEL", call(pod, { conf }));
    }
    const links = readdirSync(`/proc/${worker.pid}/fd`).map((fd) => readlinkSync(`/proc/${worker.pid}/fd/${fd}`));
    const own = readlinkSync(`/proc/${worker.pid}/ns/net`);
    expect(links.filter((target) => target.startsWith("net:") && target !== own)).toEqual([]);
    expect(links.length).toBeLessThan(20);
    expectNothing(site, pod);
    server.script({ address: "192.168.50.30", server: SERVER, request: "silent" });
    const before = server.heard.length;
    const add = site.node.start("ADD", call(pod, { conf }));
    await until(() => server.heard.slice(before).includes("REQUEST"));
    add.kill("SIGTERM");
    await add.answer;
    await until(() => server.heard.at(-1) === "RELEASE");
    site.node.ok("DEL", call(pod, { conf }));
    expectNothing(site, pod);
  });

  test("DEL with the namespace gone drops the lease", async () => {
    using site = await DhcpSite.create();
    await site.dnsmasq();
    const conf = macvlan();
    {
      using pod = TestNetns.create("pod");
      site.node.ok("ADD", call(pod, { conf }));
    }
    site.node.ok("DEL", call(undefined, { conf }));
    expectNothing(site);
  });

  test("a lease of an earlier boot goes with DEL, or by reconcile", async () => {
    using site = await DhcpSite.create();
    await site.dnsmasq();
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    const { format: _, bootId: __, ...record } = site.record() as unknown as DhcpRecord;
    site.node.ok("DEL", call(pod, { conf: macvlan() }));
    const putEarlier = (): void => {
      new DhcpLeases(site.node.directory, "/nowhere", "an-earlier-boot").put(record);
      cpSync(join(site.node.directory, "dhcp"), site.node.at("/var/lib/patchbay/dhcp"), { recursive: true });
      expect(site.records().length).toBe(1);
    };
    putEarlier();
    site.node.ok("DEL", call(undefined, { conf: macvlan() }));
    expectNothing(site);
    putEarlier();
    expect(site.node.run(join(site.node.bin, "patchbay"), "gc")).toContain("a DHCP lease that was left behind");
    expectNothing(site);
  });

  test("a damaged journal: DEL finds the lease all the same", async () => {
    using site = await DhcpSite.create();
    await site.dnsmasq();
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    const directory = `${site.node.generation}/containers/c1`;
    for (const name of readdirSync(directory).filter((n) => n.endsWith(".journal"))) {
      writeFileSync(join(directory, name), "nothing that we wrote\n");
    }
    site.node.answer("DEL", call(pod, { conf: macvlan() }));
    expect(site.records()).toEqual([]);
  });

  requires(...hasPeer("reference"))("by the name of its link", () => {
    test("a CNI binary gets its address by it, and gives it back", async () => {
      using site = await DhcpSite.create();
      const server = await site.dnsmasq("--dhcp-option=option:T1,3");
      site.node.link("dhcp");
      using pod = TestNetns.create("pod");
      const conf = macvlan();
      const path = { env: { CNI_PATH: site.node.bin } };
      site.node.link("theirs", peerFile("reference", "macvlan"));
      const { result } = site.node.ok("ADD", call(pod, { conf, as: "theirs", ...path }));
      const address = result?.ips?.[0]?.address ?? "";
      expect(pod.run("ping", "-c1", "-W2", SERVER)).toContain("1 received");
      expect(site.record()).toMatchObject({ state: "bound", address, journal: false });
      await until(() => site.log.includes("prolonged"));
      site.node.ok("CHECK", call(pod, { conf: { ...conf, prevResult: result }, as: "theirs", ...path }));
      site.node.ok("DEL", call(pod, { conf, as: "theirs", ...path }));
      await until(() => server.count("DHCPRELEASE") === 1);
      expectNothing(site, pod);
    });

    test("the daemon of the reference's units is ours", async () => {
      using site = await DhcpSite.create({ keeper: false });
      site.node.link("dhcp");
      await site.startKeeper(["dhcp", "daemon", "-socketpath", "/run/cni/dhcp.sock", "-broadcast", "-timeout", "3s"]);
      site.node.ok("STATUS", call(undefined, { conf: macvlan() }));
    });

    test("what it never gave back goes by reconcile", async () => {
      using site = await DhcpSite.create();
      await site.dnsmasq();
      site.node.link("dhcp");
      {
        using pod = TestNetns.create("pod");
        site.node.link("theirs", peerFile("reference", "macvlan"));
        const env = { CNI_PATH: site.node.bin };
        site.node.ok("ADD", call(pod, { conf: macvlan(), as: "theirs", env }));
        expect(site.node.run(join(site.node.bin, "patchbay"), "gc")).toContain("Nothing");
      }
      expect(site.node.run(join(site.node.bin, "patchbay"), "gc")).toContain("a DHCP lease");
      expectNothing(site);
    });
  });
});

/** `patchbay dhcp` keeps leases: T1, T2, the end, what a server forgets, its own restart. */
import { expect, test } from "bun:test";
import { call, DhcpSite, macvlan, SERVER } from "../support/dhcp-site.ts";
import { TestNetns } from "../support/netns.ts";
import { until } from "../support/node.ts";
import { built, has, requires, root } from "../support/requires.ts";

const isUp = (pod: TestNetns): boolean => pod.ip("link", "show", "net1").includes("LOWER_UP");
const address = (pod: TestNetns): string => pod.ip("-4", "addr", "show", "net1");

requires(...root, built, ["dnsmasq", has("dnsmasq")])("patchbay dhcp", () => {
  test("asks the server at T1, over and over, and after it was started anew or killed", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq("--dhcp-option=option:T1,3");
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    const asked = () => server.count("DHCPREQUEST");
    await until(() => asked() === 2);
    await site.stopKeeper();
    expect(site.log).toContain("stopped");
    await site.startKeeper();
    await until(() => asked() === 3);
    await site.stopKeeper("SIGKILL");
    await site.startKeeper();
    await until(() => asked() === 4);
    expect(server.count("DHCPDISCOVER")).toBe(1);
    expect(server.leases.length).toBe(1);
    site.node.ok("DEL", call(pod, { conf: macvlan() }));
    await until(() => server.leases.length === 0);
    await Bun.sleep(3500);
    expect(asked()).toBe(4);
  }, 90_000);

  test("asks the one server by unicast until T2, and all by broadcast from then on", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 60, renewSeconds: 1, rebindSeconds: 4 });
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    server.script({ address: "192.168.50.30", server: SERVER, request: "silent" });
    const counting = "add table ip t; add chain ip t in { type filter hook prerouting priority 0; }; ".concat(
      "add rule ip t in udp dport 67 ip saddr 192.168.50.30 ip daddr 192.168.50.1 counter comment unicast; ",
      "add rule ip t in udp dport 67 ip saddr 192.168.50.30 ip daddr 255.255.255.255 counter comment broadcast",
    );
    site.lan.run("nft", counting);
    const counted = (word: string): number =>
      Number(new RegExp(`packets (\\d+).*${word}`).exec(site.lan.run("nft", "list", "table", "ip", "t"))?.[1]);
    await until(() => counted("unicast") > 0);
    expect(counted("broadcast")).toBe(0);
    await until(() => counted("broadcast") > 0);
    expect(isUp(pod)).toBe(true);
  });

  test("asks any server at T2, and goes on with the one that answers", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 60, renewSeconds: 1, rebindSeconds: 3, request: "ack" });
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    const script = { address: "192.168.50.30", leaseSeconds: 3600 };
    server.script({ ...script, server: SERVER, request: "silent" });
    await until(() => server.heard.includes("REQUEST again"));
    server.script({ ...script, server: "192.168.50.7" });
    await until(() => site.record().server === "192.168.50.7");
    expect(site.record()).toMatchObject({ state: "bound", times: { lease: 3600, renew: 1800, rebind: 3150 } });
    expect(address(pod)).toContain("192.168.50.30/24");
    expect(isUp(pod)).toBe(true);
  });

  test("sets the interface down when the lease is over, and DEL has nothing to give back", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 5, renewSeconds: 1, rebindSeconds: 3 });
    using pod = TestNetns.create("pod");
    const conf = macvlan();
    const { result } = site.node.ok("ADD", call(pod, { conf }));
    server.script({ address: "192.168.50.30", server: SERVER, request: "silent" });
    await until(() => site.record().state === "expired");
    await until(() => !isUp(pod));
    await until(() => site.log.includes('it ran out, so \\"net1\\" is set down'));
    const check = site.node.answer("CHECK", call(pod, { conf: { ...conf, prevResult: result } }));
    expect(check.error).toMatchObject({ code: 210, msg: expect.stringContaining("is over") });
    expect(site.node.run(`${site.node.bin}/patchbay`, "dhcp", "--list")).toContain("expired");
    // Whoever was killed between the two is finished for.
    await site.stopKeeper("SIGKILL");
    pod.ip("link", "set", "net1", "up");
    await site.startKeeper();
    await until(() => !isUp(pod));
    site.node.ok("DEL", call(pod, { conf }));
    expect(server.heard).not.toContain("RELEASE");
    expect(site.records()).toEqual([]);
  });

  test("a server that has forgotten the lease and gives it anew: nothing changes for the pod", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 60, renewSeconds: 1, rebindSeconds: 50, request: "forgetful" });
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    await until(() => site.log.includes("prolonged"));
    expect(site.log).toContain('refused to prolong it, \\"not yours\\"; asking anew');
    expect(server.heard.slice(0, 6)).toEqual(["ready", "DISCOVER", "REQUEST", "REQUEST again", "DISCOVER", "REQUEST"]);
    expect(isUp(pod)).toBe(true);
  });

  test("a server that refuses, and gives no address or another one: the interface is set down", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 60, renewSeconds: 1, rebindSeconds: 50 });
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    server.script({ address: "192.168.50.31", server: SERVER, request: "forgetful" });
    await until(() => site.record().state === "expired");
    await until(() => !isUp(pod));
    await until(() => site.log.includes("the server refused it"));
    expect(server.heard.filter((words) => words === "REQUEST").length).toBe(1); // the other address was not asked for
    site.node.ok("DEL", call(pod, { conf: macvlan() }));
  }, 30_000);

  test("an interface that was renamed and has another hardware address keeps its lease", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq("--dhcp-option=option:T1,3");
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    for (const change of [["down"], ["address", "02:50:00:00:00:77"], ["name", "other"]]) {
      pod.ip("link", "set", "net1", ...change);
    }
    pod.ip("link", "set", "other", "up");
    await until(() => site.log.includes("prolonged"));
    expect(server.log).toContain("02:50:00:00:00:77");
    site.node.ok("DEL", call(pod, { conf: macvlan() }));
    await until(() => server.leases.length === 0);
    expect(site.records()).toEqual([]);
  });

  test("an answer with another address does not prolong the lease", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 60, renewSeconds: 1, rebindSeconds: 50 });
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    const { askedMs } = site.record();
    server.script({ address: "192.168.50.30", server: SERVER, request: "other-address" });
    await until(() => server.heard.includes("REQUEST again"));
    await Bun.sleep(3000);
    expect(site.record().askedMs).toBe(askedMs);
    expect(isUp(pod)).toBe(true);
  });

  test("several leases at once, and one whose server is silent does not keep the others", async () => {
    using site = await DhcpSite.create();
    const server = await site.dnsmasq("--dhcp-option=option:T1,3");
    using stack = new DisposableStack();
    const pods = ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map((container) => ({
      container,
      pod: stack.use(TestNetns.create(container)),
    }));
    for (const { container, pod } of pods) site.node.ok("ADD", call(pod, { container, conf: macvlan() }));
    const deaf = pods[4]?.pod;
    deaf?.run(
      "nft",
      "add table netdev t; add chain netdev t in { type filter hook ingress device net1 priority 0; policy drop; }",
    );
    deaf?.ip("link", "set", "net1", "arp", "off");
    const before = server.count("DHCPACK");
    await until(() => server.count("DHCPACK") >= before + pods.length - 1);
    expect(site.records().length).toBe(pods.length);
    for (const { container, pod } of pods) site.node.ok("DEL", call(pod, { container, conf: macvlan() }));
    await until(() => server.leases.length === 0);
    expect(site.records()).toEqual([]);
  }, 90_000);

  test("DEL while a renewal waits for its answer: the lease stays given back", async () => {
    using site = await DhcpSite.create();
    const server = await site.scripted({ leaseSeconds: 60, renewSeconds: 1, rebindSeconds: 50 });
    using pod = TestNetns.create("pod");
    site.node.ok("ADD", call(pod, { conf: macvlan() }));
    server.script({ address: "192.168.50.30", server: SERVER, request: "silent" });
    await until(() => server.heard.includes("REQUEST again"));
    site.node.ok("DEL", call(pod, { conf: macvlan() }));
    await Bun.sleep(3000);
    expect(server.heard.at(-1)).toBe("RELEASE");
    expect(site.records()).toEqual([]);
  });
});

/** The main job: containerd starts and removes pods with three networks through Patchbay, and nothing is left. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { netnsOf } from "../../core/cri/client.ts";
import { parseIpJson, sh, TestNetns } from "../support/netns.ts";
import { hasPeer } from "../support/peers.ts";
import { built, distBinary, requires } from "../support/requires.ts";
import { difference, type Snapshot, snapshot } from "../support/snapshot.ts";
import { Containerd, containerdNeeds, type Pod } from "./containerd.ts";
import { addressOf, Holder, inParallel, macOf, PatchbayNode, subnets } from "./patchbay-node.ts";

const [first = ["", true] as const, ...more] = [...containerdNeeds, hasPeer("debian-cni"), built];
const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

requires(...first, ...more)("pods on three networks", () => {
  let node: PatchbayNode;
  let containerd: Containerd;
  let before: Snapshot;
  let untouched: Snapshot;

  beforeAll(async () => {
    node = new PatchbayNode();
    containerd = await Containerd.start(node);
    // portmap makes its base chains with the first port and keeps them; they are not what a pod leaves.
    const portMappings = [{ containerPort: 8080, hostPort: 18080, hostIp: "" }];
    // So does each network with its directories and its bridge.
    await containerd.remove((await containerd.run(node.pod(0, { portMappings }))).id);
    using fresh = TestNetns.create("fresh");
    // containerd's loopback plugin takes it down again; the kernel leaves it its address.
    for (const state of ["up", "down"]) fresh.ip("link", "set", "lo", state);
    untouched = snapshot({ netns: fresh });
  }, 60_000);
  afterAll(async () => {
    await containerd?.[Symbol.asyncDispose]();
    node?.[Symbol.dispose]();
  }, 60_000);
  beforeEach(() => {
    before = node.snapshot();
  });
  afterEach(async () => {
    await containerd.removeAll();
    expect(difference(before, node.snapshot()), containerd.log.split("\n").slice(-5).join("\n")).toBe("");
  }, 120_000);

  /** The addresses of a pod by interface, as the kernel has them, looked at from inside. */
  const addresses = (pod: Pod): Map<string, { address: string; mac: string }> => {
    const links = parseIpJson(sh(["nsenter", `--net=${pod.netns}`, "ip", "-j", "address", "show"]));
    return new Map(
      links.map((link) => {
        const all = link.addr_info as { family: string; local: string; prefixlen: number }[];
        const info = all.find((one) => one.family === "inet");
        return [String(link.ifname), { address: `${info?.local}/${info?.prefixlen}`, mac: String(link.address) }];
      }),
    );
  };
  const addressOn = (pod: Pod, ifname: string): string => addresses(pod).get(ifname)?.address.replace(/\/.*/, "") ?? "";

  /** Each network carries traffic from the pod to its neighbour. */
  async function reaches(pod: Pod, neighbour: Pod): Promise<void> {
    for (const ifname of ["eth0", "net1", "net2"]) {
      expect(await containerd.pings(pod, addressOn(neighbour, ifname)), `${pod.name} ${ifname}`).toBe(true);
    }
  }

  test("two pods have what they asked for and reach each other on each network", async () => {
    const [a, b] = await Promise.all([containerd.run(node.pod(1)), containerd.run(node.pod(2))]);
    for (const [pod, n] of [
      [a, 1],
      [b, 2],
    ] as const) {
      const found = addresses(pod);
      expect([...found.keys()].sort()).toEqual(["eth0", "lo", "net1", "net2"]);
      expect(found.get("eth0")?.address).toStartWith(`${subnets.eth0}.`);
      expect(found.get("net1")).toEqual({ address: `${addressOf(n)}/24`, mac: macOf(n) });
      expect(found.get("net2")?.address).toStartWith(`${subnets.net2}.`);
      const status = await containerd.cri.podSandboxStatus(pod.id);
      expect(status?.status?.network?.ip).toBe(addressOn(pod, "eth0"));
    }
    await reaches(a, b);
    await reaches(b, a);
  }, 60_000);

  test("status names the pod, its networks and its addresses", async () => {
    const pod = await containerd.run(node.pod(3));
    const text = sh([distBinary, "status", "--json"]);
    for (const part of [
      "pod-3",
      "default/addressed",
      "default/foreign",
      addressOf(3),
      macOf(3),
      addressOn(pod, "eth0"),
    ]) {
      expect(text).toContain(part);
    }
  }, 60_000);

  test("a port of the node leads to the pod: the plugin behind us gets our result", async () => {
    const pod = await containerd.run(
      node.pod(4, { portMappings: [{ containerPort: 8080, hostPort: 18081, hostIp: "" }] }),
    );
    await containerd.exec(
      pod,
      "sh",
      "-c",
      "mkdir -p /tmp/www; echo from-pod-4 > /tmp/www/index.html; httpd -p 8080 -h /tmp/www",
    );
    expect(await (await fetch(`http://${subnets.eth0}.1:18081/`)).text()).toBe("from-pod-4\n");
  }, 60_000);

  test("stop and remove, each twice", async () => {
    const pod = await containerd.run(node.pod(5));
    for (const _ of numbers(2)) await containerd.cri.stopPodSandbox(pod.id);
    for (const _ of numbers(2)) await containerd.cri.removePodSandbox(pod.id);
  }, 60_000);

  test("a pod whose network namespace was taken away", async () => {
    const pod = await containerd.run(node.pod(6));
    sh(["umount", "-l", pod.netns]);
    sh(["rm", pod.netns]);
    await containerd.remove(pod.id);
  }, 60_000);

  test("a restart of containerd between ADD and DEL", async () => {
    const pods = await Promise.all([7, 8].map((n) => containerd.run(node.pod(n))));
    await containerd.down("SIGTERM");
    await containerd.up();
    const [a, b] = pods as [Pod, Pod];
    await reaches(a, b);
    await Promise.all(pods.map((pod) => containerd.remove(pod.id)));
  }, 60_000);

  test("a pod that asks for a network that is not there is refused, and nothing is left", async () => {
    const annotations = { "k8s.v1.cni.cncf.io/networks": "addressed,no-such-network" };
    await expect(containerd.run({ name: "refused", annotations })).rejects.toThrow(/no-such-network/);
  }, 60_000);

  test("50 pods, eight at a time; ten namespaces outlive their pods and are empty then", async () => {
    const pods = await inParallel(numbers(50), 8, (n) => containerd.run(node.pod(n)));
    await inParallel(numbers(50), 8, (n) => reaches(pods[n] as Pod, pods[(n + 1) % 50] as Pod));
    const holders = pods.slice(0, 10).map((pod) => new Holder(pod));
    try {
      await inParallel(pods, 8, (pod) => containerd.remove(pod.id));
      for (const holder of holders) expect(difference(untouched, snapshot({ netns: holder.path }))).toBe("");
    } finally {
      for (const holder of holders) holder[Symbol.dispose]();
    }
  }, 300_000);

  test("containerd is killed in the middle of 50 pods: gc removes what nobody will delete", async () => {
    const pods: Pod[] = await inParallel(numbers(8), 8, (n) => containerd.run(node.pod(n)));
    const cutOff = inParallel(numbers(42), 8, (n) =>
      containerd.run(node.pod(8 + n)).then(
        (pod) => pod,
        () => undefined,
      ),
    );
    const removed = inParallel(pods, 4, (pod) => containerd.remove(pod.id).catch(() => undefined));
    await Bun.sleep(1_500);
    await containerd.down("SIGKILL");
    await Promise.all([cutOff, removed]);
    await containerd.up();
    const [some] = await containerd.cri.listPodSandbox();
    if (some) await containerd.forget(some.id);

    // A sandbox that was being made is unknown now, and so is its namespace: a reboot would end it, here the test does.
    const known = await containerd.cri.listPodSandbox();
    const again = numbers(50).filter((n) => !known.some((one) => one.metadata?.name === `pod-${n}`));
    expect(again.length).toBeGreaterThan(0);
    await endForgottenNamespaces(known.map((one) => one.id));
    sh([distBinary, "gc", "--runtime-endpoint", `unix://${containerd.socket}`, "--interval", "1"]);

    // What was cut off is asked for again, with the same addresses.
    await inParallel(again, 8, (n) => containerd.run(node.pod(n)));
    expect((await containerd.cri.listPodSandbox()).length).toBe(50);
  }, 300_000);

  async function endForgottenNamespaces(sandboxes: readonly string[]): Promise<void> {
    const statuses = await inParallel(sandboxes, 8, (id) => containerd.cri.podSandboxStatus(id, true));
    const known = new Set(statuses.map((status) => status && netnsOf(status)));
    for (const name of readdirSync("/run/netns")) {
      const path = `/run/netns/${name}`;
      if (!name.startsWith("cni-") || known.has(path)) continue;
      sh(["umount", "-l", path]);
      sh(["rm", path]);
    }
  }
});

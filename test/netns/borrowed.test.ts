/** A device of the node that a pod borrows: an end of a veth, which every kernel has. Cards are in test/vm. */
import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { type Call, podArgs, TestNode } from "../support/node.ts";
import { built, has, requires, root } from "../support/requires.ts";

setDefaultTimeout(120_000);

const mac = "02:11:22:33:44:55";
const devinfo = "/run/k8s.cni.cncf.io/devinfo";

requires(...root, built, ["strace", has("strace")])("host-device on a kernel", () => {
  let node: TestNode;
  let far: TestNetns;
  let pod: TestNetns;
  let before: unknown;

  /** All that ADD could leave changed on the node. */
  const look = (): unknown => ({
    links: node.netns.ipJson("-d", "link").map((l) => ({
      name: l.ifname,
      mac: l.address,
      mtu: l.mtu,
      flags: (l.flags as string[]).filter((f) => ["UP", "PROMISC", "ALLMULTI"].includes(f)),
      alias: l.ifalias,
      queue: l.txqlen,
      master: l.master,
      alt: l.altnames,
    })),
    records: list("/var/lib/patchbay/devices"),
    leases: node.leases("n"),
  });
  const list = (path: string): string[] => (existsSync(node.at(path)) ? readdirSync(node.at(path)) : []);

  beforeEach(async () => {
    node = await TestNode.create();
    node.link("host-device");
    far = TestNetns.create("far");
    pod = TestNetns.create("pod");
    const { netns } = node;
    netns.ip(
      "link",
      "add",
      "dev0",
      "address",
      mac,
      "mtu",
      "1400",
      "type",
      "veth",
      "peer",
      "name",
      "far0",
      "netns",
      far.name,
    );
    far.ip("address", "add", "10.9.0.9/24", "dev", "far0");
    far.ip("link", "set", "far0", "up");
    netns.ip("link", "add", "br7", "address", "02:11:22:33:44:07", "type", "bridge");
    netns.ip("link", "set", "br7", "mtu", "1400"); // or it follows its ports
    netns.ip("link", "set", "dev0", "alias", "to the lab", "promisc", "on", "txqueuelen", "321", "master", "br7", "up");
    netns.ip("link", "property", "add", "dev", "dev0", "altname", "lab0");
    before = look();
  });
  afterEach(() => {
    using _node = node;
    using _far = far;
    using _pod = pod;
    expect(look()).toEqual(before);
    expect(pod.exists ? pod.ipJson("link").map((l) => l.ifname) : ["lo"]).toEqual(["lo"]);
  });

  const conf = (more: Document = {}): Document => ({
    cniVersion: "1.1.0",
    name: "n",
    type: "host-device",
    device: "dev0",
    ipam: { type: "host-local", subnet: "10.9.0.0/24" },
    ...more,
  });
  const life = (more: Document = {}, call: Call = {}): Call => ({ as: "host-device", pod, conf: conf(more), ...call });

  test("comes into the pod, carries traffic, is checked, and goes home as it was, its bridge included", () => {
    const { result } = node.ok("ADD", life());
    expect(result?.interfaces).toEqual([{ name: "eth0", mac, sandbox: pod.path }]);
    expect(node.netns.ipJson("link").map((l) => l.ifname)).not.toContain("dev0");
    expect(pod.ping("10.9.0.9")).toBe(true);
    const checked = life({ prevResult: result });
    node.ok("CHECK", checked);
    pod.ip("address", "flush", "dev", "eth0");
    expect(node.answer("CHECK", checked).error?.code).toBe(210);
    pod.ip("link", "set", "eth0", "name", "mine");
    expect(node.answer("CHECK", checked).error?.msg).toContain('the device is called "mine", expected "eth0"');
    pod.ip("link", "set", "mine", "mtu", "1300", "address", "02:00:00:00:00:99", "promisc", "off");
    node.ok("DEL", life());
    node.ok("DEL", life());
  });

  test.each([
    ["by its MAC address", { device: undefined, hwaddr: mac }, "eth0"],
    ["by its second name", { device: "lab0" }, "eth0"],
    ["in the name that it has as a second one", { device: "dev0" }, "lab0"],
    ["without addresses", { ipam: undefined }, "eth0"],
  ] as const)("%s", (_, more, ifname) => {
    const own = life(more, { ifname });
    const { result } = node.ok("ADD", own);
    expect(pod.ip("-br", "link", "show", ifname)).toContain("UP");
    node.ok("CHECK", { ...own, conf: { ...conf(more), prevResult: result } });
    node.ok("DEL", own);
  });

  test("one that a pod has is refused with the pod's name", () => {
    using other = TestNetns.create("other");
    node.ok("ADD", life());
    for (const more of [{}, { device: undefined, hwaddr: mac }]) {
      const { error } = node.answer("ADD", life(more, { pod: other, container: "c2" }));
      expect(error).toMatchObject({ code: 102 });
      expect(error?.msg).toContain('pod "default/web-0" (interface "eth0" of network "n") has it');
      node.ok("DEL", life(more, { pod: other, container: "c2" }));
    }
    node.ok("DEL", life());
  });

  test.each([
    ["no such name", { device: "nothing" }, 7, '"nothing"'],
    ["the loopback interface", { device: "lo" }, 7, "loopback"],
    ["no device at all", { device: undefined }, 7, '"device"'],
    ["a PCI address that is none", { device: undefined, pciBusID: "../../x" }, 7, '"pciBusID"'],
    ["a PCI address of no device", { device: undefined, pciBusID: "0000:7f:1f.7" }, 7, "no such device"],
    ["a path that is none", { device: undefined, kernelpath: "/sys/devices/../../etc" }, 7, '"kernelpath"'],
    ["a MAC address that is none", { device: undefined, hwaddr: "zz" }, 7, '"hwaddr"'],
    ["no addresses left", { ipam: { type: "static", addresses: [] } }, 0, ""],
  ] as const)("refused, and home at once: %s", (_, more, code, words) => {
    const { error } = node.answer("ADD", life(more as Document));
    if (code !== 0) expect(error?.code).toBe(code);
    expect(error?.msg).toContain(words);
    expect(look()).toEqual(before);
    node.ok("DEL", life(more as Document));
  });

  test("a name that is taken in the pod", () => {
    pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "x");
    expect(node.answer("ADD", life()).error).toMatchObject({ code: 102 });
    node.ok("DEL", life());
    pod.ip("link", "delete", "eth0");
  });

  test("its own name taken in the pod, and then on the node", () => {
    pod.ip("link", "add", "dev0", "type", "veth", "peer", "name", "x");
    node.ok("ADD", life());
    node.netns.ip("link", "add", "dev0", "type", "bridge");
    node.ok("DEL", life());
    pod.ip("link", "delete", "dev0");
    node.netns.ip("link", "delete", "dev0");
    const [home] = node.netns.ipJson("link").filter((l) => l.address === mac && l.ifalias === "to the lab");
    expect(home?.ifname).toBe("dev0-0");
    node.netns.ip("link", "set", "dev0-0", "down");
    node.netns.ip("link", "set", "dev0-0", "name", "dev0");
    node.netns.ip("link", "set", "dev0", "up");
  });

  test("the pod's namespace goes: what was no device's goes with it, and DEL frees the rest", () => {
    node.ok("ADD", life());
    pod[Symbol.dispose]();
    node.ok("DEL", life({}, { pod: pod.path }));
    const links = (before as { links: { name: string }[] }).links;
    before = { ...(before as object), links: links.filter((l) => l.name !== "dev0") };
  });

  test("the pod's namespace goes while a process holds it", () => {
    const held = Bun.spawn(pod.argv("sleep", "100"));
    try {
      node.ok("ADD", life());
      pod[Symbol.dispose]();
      node.ok("DEL", life({}, { pod: pod.path }));
    } finally {
      held.kill("SIGKILL");
    }
  });

  test("without a journal the record brings it home", () => {
    node.ok("ADD", life());
    rmSync(`${node.generation}/containers`, { recursive: true });
    node.ok("DEL", life());
    for (const lease of node.leases("n")) rmSync(`${node.generation}/leases/n/${lease}`);
  });

  test("a killed ADD leaves nothing after one DEL, wherever it was killed", () => {
    const trace = `${node.directory}/trace`;
    const strace = (...more: string[]): string[] => [
      "strace",
      "-f",
      "-qq",
      "-o",
      trace,
      "-e",
      "trace=sendto,write",
      ...more,
    ];
    const run = (command: "ADD" | "DEL", under: readonly string[]): number => {
      const argv = node.netns.argv(...node.inside(), ...under, `${node.bin}/host-device`);
      const env = { PATH: process.env.PATH ?? "", CNI_COMMAND: command, CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0" };
      const ended = Bun.spawnSync(argv, {
        env: { ...env, CNI_NETNS: pod.path, CNI_PATH: node.bin, CNI_ARGS: podArgs },
        stdin: Buffer.from(JSON.stringify(conf())),
        stdout: "pipe",
        stderr: "pipe",
      });
      return ended.exitCode ?? -1;
    };
    expect(run("ADD", strace())).toBe(0);
    const counts = ["sendto(", "write("].map((c) => readFileSync(trace, "utf8").split(c).length - 1);
    expect(run("DEL", [])).toBe(0);
    for (const [i, name] of ["sendto", "write"].entries()) {
      const points = counts[i] ?? 0;
      expect(points).toBeGreaterThan(3);
      for (let when = 1; when <= points; when += Math.max(1, Math.floor(points / 12))) {
        run("ADD", strace("-e", `inject=${name}:signal=SIGKILL:when=${when}`));
        expect([name, when, run("DEL", [])]).toEqual([name, when, 0]);
        expect(look()).toEqual(before);
      }
    }
  });

  test("a plugin that asks for the file of its device gets it, and the status has what is in it", () => {
    mkdirSync(`${devinfo}/dp`, { recursive: true });
    const info = { type: "pci", version: "1.1.0", pci: { "pci-address": "0000:01:10.0" } };
    writeFileSync(`${devinfo}/dp/vendor.example-nic-0000:01:10.0-device.json`, JSON.stringify(info));
    const spy = node.spy({}, { capabilities: { CNIDeviceInfoFile: true, deviceID: true } });
    const nad = {
      apiVersion: "k8s.cni.cncf.io/v1",
      kind: "NetworkAttachmentDefinition",
      metadata: {
        name: "fast",
        namespace: "default",
        annotations: { "k8s.v1.cni.cncf.io/resourceName": "vendor.example/nic" },
      },
      spec: { config: JSON.stringify({ cniVersion: "1.1.0", name: "fast", plugins: [spy] }) },
    };
    writeFileSync(`${node.networks}/fast.json`, JSON.stringify(nad), { mode: 0o644 });
    const whole = node.conf({ plugins: [node.spy()] }, [{ name: "fast", deviceID: "0000:01:10.0" }]);
    node.ok("ADD", { pod, conf: whole });
    const file = "/var/run/k8s.cni.cncf.io/devinfo/cni/fast-c1_net1";
    const [, config] = node.calls().map((call) => (call as unknown as { conf: Document }).conf);
    expect(config).toMatchObject({
      deviceID: "0000:01:10.0",
      pciBusID: "0000:01:10.0",
      runtimeConfig: { deviceID: "0000:01:10.0", CNIDeviceInfoFile: file },
    });
    expect(JSON.parse(readFileSync(file, "utf8"))).toEqual(info);
    const [status] = node.status();
    expect(status?.status[1]).toMatchObject({ "device-info": info });
    node.ok("DEL", { pod, conf: whole });
    expect(existsSync(file)).toBe(false);
    rmSync(devinfo, { recursive: true });
  });
});

/** A chain of five built-in plugins as the default network, through containerd, with real traffic. */
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseIpJson, sh, TestNetns } from "../support/netns.ts";
import { peerFile } from "../support/peers.ts";
import { built, distBinary, has, requires } from "../support/requires.ts";
import { difference, logAndCache, type Snapshot, snapshot } from "../support/snapshot.ts";
import { Containerd, containerdNeeds, type Pod, pluginDirectory } from "./containerd.ts";

const [first = ["", true] as const, ...more] = [...containerdNeeds, built];
const gateway = "10.89.0.1";
/** The node's address on the wire, and that of a host which reaches the node over it. */
const nodeAddress = "192.0.2.1";
const outsideAddress = "192.0.2.2";
const hostPort = 18080;
/** Bytes a second out of the pod: 16 Mbit/s. */
const egress = 2_000_000;
const sent = 4_000_000;
/** A page by netcat: the static busybox of Debian has no resolver, which its wget needs. */
const get = (nc: string, address: string, port: number, page: string): string =>
  `printf 'GET /${page} HTTP/1.0\\r\\n\\r\\n' | ${nc} -w 5 ${address} ${port}`;
const body = (answer: string): string => answer.slice(answer.indexOf("\r\n\r\n") + 4);

requires(...first, ...more, ["iptables-nft", has("iptables-nft")])(
  "a chain of bridge, portmap, firewall, bandwidth and tuning",
  () => {
    const directory = mkdtempSync("/tmp/pbt-chain-");
    let containerd: Containerd;
    let outside: TestNetns;
    let before: Snapshot;

    const bridge = (name: string, subnet: string, more: object = {}): object => ({
      type: "bridge",
      bridge: name,
      isGateway: true,
      hairpinMode: true, // where bridged frames pass by iptables, the way from a pod to its own port is a bridge's
      ipam: { type: "host-local", ranges: [[{ subnet }]], ...more },
    });

    beforeAll(async () => {
      outside = TestNetns.create("chain-outside");
      sh(["ip", "link", "add", "chain-wire", "type", "veth", "peer", "name", "wire", "netns", outside.name]);
      sh(["ip", "link", "set", "chain-wire", "addrgenmode", "none"]);
      sh(["ip", "address", "add", `${nodeAddress}/24`, "dev", "chain-wire"]);
      sh(["ip", "link", "set", "chain-wire", "up"]);
      outside.ip("address", "add", `${outsideAddress}/24`, "dev", "wire");
      outside.ip("link", "set", "wire", "up");
      // What no rule accepts does not pass: as on a node with a firewall of its own.
      sh(["iptables-nft", "-P", "FORWARD", "DROP"]);
      const cniBinDir = pluginDirectory(join(directory, "bin"), { patchbay: distBinary, loopback: distBinary });
      const cniConfDir = join(directory, "net.d");
      const networksDir = join(directory, "networks.d");
      for (const path of [cniConfDir, networksDir]) mkdirSync(path);
      const network = (name: string, firewall: object, ...plugins: object[]): void => {
        const config = { cniVersion: "1.0.0", name, plugins: [...plugins, { type: "firewall", ...firewall }] };
        const spec = { config: JSON.stringify(config) };
        const metadata = { name, namespace: "default" };
        const nad = { apiVersion: "k8s.cni.cncf.io/v1", kind: "NetworkAttachmentDefinition", metadata, spec };
        writeFileSync(join(networksDir, `${name}.json`), JSON.stringify(nad));
      };
      network("closed", { ingressPolicy: "same-bridge" }, bridge("ch1", "10.89.1.0/24"));
      network("open", {}, bridge("ch2", "10.89.2.0/24"));
      const plugin = {
        type: "patchbay",
        capabilities: { "io.kubernetes.cri.pod-annotations": true, portMappings: true },
        networksDir,
        defaultNetwork: {
          cniVersion: "1.0.0",
          name: "chain",
          plugins: [
            bridge("ch0", "10.89.0.0/24", { routes: [{ dst: "0.0.0.0/0" }] }),
            { type: "portmap", capabilities: { portMappings: true }, snat: true },
            { type: "firewall", ingressPolicy: "same-bridge" },
            { type: "bandwidth", egressRate: egress * 8, egressBurst: 800_000 },
            { type: "tuning", sysctl: { "net.core.somaxconn": "512" } },
          ],
        },
      };
      const list = { cniVersion: "1.0.0", name: "node", plugins: [plugin] };
      writeFileSync(join(cniConfDir, ".new"), JSON.stringify(list)); // a runtime reads files that are half written
      renameSync(join(cniConfDir, ".new"), join(cniConfDir, "10-patchbay.conflist"));
      containerd = await Containerd.start({ cniBinDir, cniConfDir });
      await containerd.remove((await run("warm", { hostPort: true, networks: "closed,open" })).id);
    }, 60_000);
    afterAll(async () => {
      await containerd?.[Symbol.asyncDispose]();
      outside?.[Symbol.dispose]();
      for (const name of ["ch0", "ch1", "ch2"]) Bun.spawnSync(["ip", "link", "delete", name]);
      Bun.spawnSync(["iptables-nft", "-P", "FORWARD", "ACCEPT"]);
      rmSync(directory, { recursive: true, force: true });
    }, 60_000);
    beforeEach(() => {
      before = look();
    });
    afterEach(async () => {
      await containerd.removeAll();
      expect(difference(before, look())).toBe("");
    }, 60_000);

    const look = (): Snapshot => ({
      ...snapshot({
        leaveOut: ["ch0", "ch1", "ch2"],
        files: ["/run/patchbay", "/var/lib/patchbay", "/var/lib/cni", "/run/netns"],
        leaveOutFiles: logAndCache,
      }),
      iptables: Object.fromEntries(
        sh(["iptables-nft-save"])
          .split("\n")
          .filter((line) => !/^#|^:/.test(line))
          .map((line) => [line, ""]),
      ),
    });

    /** A pod that answers on port 80 with its name, and has a large file. */
    async function run(name: string, o: { hostPort?: boolean; networks?: string } = {}): Promise<Pod> {
      const pod = await containerd.run({
        name,
        ...(o.networks && { annotations: { "k8s.v1.cni.cncf.io/networks": o.networks } }),
        ...(o.hostPort && { portMappings: [{ hostPort, containerPort: 80, hostIp: "" }] }),
      });
      const www = `mkdir -p /tmp/www && echo ${name} > /tmp/www/name && head -c ${sent} /dev/zero > /tmp/www/large`;
      const { exit, stderr } = await containerd.exec(pod, "sh", "-c", `${www} && httpd -p 80 -h /tmp/www`);
      expect([exit, stderr]).toEqual([0, ""]);
      return pod;
    }

    const addressOn = (pod: Pod, ifname: string): string => {
      const argv = ["nsenter", `--net=${pod.netns}`, "ip", "-j", "-4", "address", "show", "dev", ifname];
      const [link] = parseIpJson(sh(argv)) as { addr_info: { local: string }[] }[];
      return link?.addr_info[0]?.local ?? "";
    };
    const ask = (from: readonly string[], address: string, port: number, page: string): string => {
      const argv = [...from, "sh", "-c", get(`${peerFile("busybox", "busybox")} nc`, address, port, page)];
      return body(Bun.spawnSync(argv, { stdout: "pipe" }).stdout.toString());
    };

    test("a port of the node leads to the pod from another host, from the node and from the pod itself", async () => {
      const pod = await run("published", { hostPort: true });
      for (const address of [nodeAddress, gateway]) {
        expect([address, ask([], address, hostPort, "name")]).toEqual([address, "published\n"]);
        const hairpin = await containerd.exec(pod, "sh", "-c", get("nc", address, hostPort, "name"));
        expect([address, body(hairpin.stdout)]).toEqual([address, "published\n"]);
      }
      expect(ask(outside.argv(), nodeAddress, hostPort, "name")).toBe("published\n");
      await containerd.remove(pod.id);
      expect(ask(outside.argv(), nodeAddress, hostPort, "name")).toBe("");
    }, 60_000);

    test("a second pod with the same port is refused by the name of the first", async () => {
      await run("one", { hostPort: true });
      const refused = await run("two", { hostPort: true }).then(() => "it runs", String);
      expect(refused).toContain('pod "default/one"');
      expect(ask(outside.argv(), nodeAddress, hostPort, "name")).toBe("one\n");
    }, 60_000);

    test("the firewall lets the pod out although the node forwards nothing", async () => {
      const pod = await run("out");
      outside.ip("route", "add", "10.89.0.0/16", "via", nodeAddress);
      expect(await containerd.pings(pod, outsideAddress)).toBe(true);
    }, 60_000);

    test("a bridge that is isolated is out of reach from another one, and one that is not is within it", async () => {
      const pod = await run("asks");
      const other = await run("asked", { networks: "closed,open" });
      expect(await containerd.pings(pod, addressOn(other, "net2"))).toBe(true);
      expect(await containerd.pings(pod, addressOn(other, "net1"))).toBe(false);
      const neighbour = await run("neighbour", { networks: "closed" });
      expect(await containerd.pings(neighbour, addressOn(other, "net1"))).toBe(true);
    }, 60_000);

    test("what leaves the pod has the rate that was asked for", async () => {
      const pod = await run("slow");
      const begun = performance.now();
      expect(ask([], addressOn(pod, "eth0"), 80, "large").length).toBe(sent);
      const rate = sent / ((performance.now() - begun) / 1000);
      expect(rate).toBeGreaterThan(egress / 3);
      expect(rate).toBeLessThan(egress * 1.3);
    }, 60_000);

    test("the pod has the sysctl", async () => {
      const pod = await run("tuned");
      const { stdout } = await containerd.exec(pod, "cat", "/proc/sys/net/core/somaxconn");
      expect(stdout).toBe("512\n");
    }, 60_000);
  },
);

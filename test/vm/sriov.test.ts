/** Virtual functions of a real card, as far as QEMU has one: pods, programs, and everything that can come in between. */
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Card, pluginDirectory, until } from "../support/card.ts";
import { type CniAnswer, type CniCommand, cni, type Document } from "../support/cni.ts";
import { guestMachine } from "../support/guest-machine.ts";
import { sh, TestNetns } from "../support/netns.ts";
import { built, distBinary, requires } from "../support/requires.ts";

setDefaultTimeout(180_000);

let card: Card;
let plugins: string;

interface Life {
  readonly pod: TestNetns | string;
  readonly container: string;
  readonly conf: Document;
  readonly as?: string;
  readonly under?: readonly string[];
  readonly args?: string;
}

function call(command: CniCommand, { pod, container, conf, as = "sriov", under, args }: Life): CniAnswer {
  return cni({
    plugin: join(plugins, as),
    command,
    containerId: container,
    netns: pod,
    ifname: "net1",
    stdin: { cniVersion: "1.1.0", name: "n", type: as, ...conf },
    ...(under && { under }),
    ...(args && { args }),
  });
}

function ok(command: CniCommand, life: Life): CniAnswer {
  const answer = call(command, life);
  expect(answer.exit, `${command}: ${answer.stdout}${answer.stderr}`).toBe(0);
  return answer;
}

const static4 = (last: number): Document => ({ type: "static", addresses: [{ address: `10.9.0.${last}/24` }] });
const vf = (number: number, last: number, more: Document = {}): Document => ({
  deviceID: card.address(number),
  ipam: static4(last),
  ...more,
});

/** What a test leaves is what it found. */
async function unchanged(work: () => void | Promise<void>): Promise<void> {
  const before = card.snapshot();
  await work();
  expect(card.snapshot()).toEqual(before);
}

requires(...guestMachine, built)("SR-IOV", () => {
  beforeAll(async () => {
    plugins = pluginDirectory(distBinary, ["sriov", "host-device"]);
    card = await Card.create(4);
  });

  test("two pods: every setting that this card takes, their own VLAN, CHECK, and home as it was", async () => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      using b = TestNetns.create("b");
      using c = TestNetns.create("c");
      const more = { vlan: 100, vlanQoS: 3, mac: "02:11:22:33:44:00", spoofchk: "off", max_tx_rate: 100 };
      const first = { pod: a, container: "a", conf: vf(0, 1, more) };
      const second = { pod: b, container: "b", conf: vf(1, 2, { vlan: 100, trust: "on" }) };
      const third = { pod: c, container: "c", conf: vf(2, 3, { vlan: 200 }) };
      const { result } = ok("ADD", first);
      expect(result?.interfaces).toEqual([
        { name: "net1", mac: "02:11:22:33:44:00", mtu: 1500, sandbox: a.path, pciID: card.address(0) } as never,
      ]);
      ok("ADD", second);
      ok("ADD", third);
      expect(card.state()).toMatchObject([
        { vlan: 100, qos: 3, mac: "02:11:22:33:44:00", spoofchk: false, trust: false, maxRate: 100 },
        { vlan: 100, qos: 0, spoofchk: true, trust: true, maxRate: 0 },
        { vlan: 200 },
        { vlan: 0 },
      ]);
      expect(a.ping("10.9.0.2", { seconds: 10 })).toBe(true);
      expect(a.ping("10.9.0.3", { seconds: 2 })).toBe(false);
      for (const name of ["ipv4/conf/net1/arp_notify", "ipv6/conf/net1/ndisc_notify"]) {
        expect(a.run("cat", `/proc/sys/net/${name}`).trim()).toBe("1");
      }

      const checked = { ...first, conf: { ...first.conf, prevResult: result } };
      ok("CHECK", checked);
      sh(["ip", "link", "set", card.name, "vf", "0", "vlan", "7"]);
      expect(call("CHECK", checked).error).toMatchObject({
        code: 210,
        msg: 'Cannot confirm the attachment: the virtual function has "vlan" 7, expected 100',
      });
      sh(["ip", "link", "set", card.name, "vf", "0", "vlan", "100", "qos", "3"]);
      a.ip("link", "set", "net1", "down");
      expect(call("CHECK", checked).error).toMatchObject({ code: 210 });

      for (const life of [first, second, third]) ok("DEL", life);
      for (const life of [first, second, third]) ok("DEL", life);
    });
  });

  test("a function in use is refused with the name of its user, however it is named", async () => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      using b = TestNetns.create("b");
      const name = card.interfaceOf(0) ?? "";
      const args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";
      const first = { pod: a, container: "a", conf: vf(0, 1), args };
      ok("ADD", first);
      const who = 'pod "shop/web-0" (interface "net1" of network "n") has it';
      const refused = (as: string, conf: Document): void => {
        const answer = call("ADD", { pod: b, container: "b", conf, as });
        expect(answer.error).toMatchObject({ code: 102 });
        expect(answer.error?.msg).toContain(who);
      };
      refused("sriov", vf(0, 2));
      refused("host-device", { pciBusID: card.address(0) });
      refused("host-device", { device: name });
      ok("DEL", first);
    });
  });

  test("a function that the reference plugin gave away is refused", async () => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      using b = TestNetns.create("b");
      const name = card.interfaceOf(0) ?? "";
      sh(["ip", "link", "set", name, "netns", a.name]);
      mkdirSync("/var/lib/cni/sriov/pci", { recursive: true });
      writeFileSync(`/var/lib/cni/sriov/pci/${card.address(0)}`, a.path);
      const { error } = call("ADD", { pod: b, container: "b", conf: vf(0, 1) });
      expect(error?.code).toBe(102);
      expect(error?.msg).toContain(a.path);
      rmSync("/var/lib/cni/sriov", { recursive: true });
      a.ip("link", "set", name, "netns", "1");
    });
  });

  test("a program's function that the reference plugin gave away is refused while that pod lives", async () => {
    card.bind(3, "vfio-pci");
    try {
      await unchanged(() => {
        const a = TestNetns.create("a");
        using b = TestNetns.create("b");
        mkdirSync("/var/lib/cni/sriov/pci", { recursive: true });
        writeFileSync(`/var/lib/cni/sriov/pci/${card.address(3)}`, a.path);
        const second = { pod: b, container: "b", conf: vf(3, 1, { vlan: 9 }) };
        for (const as of ["sriov", "host-device"]) {
          const conf = as === "sriov" ? second.conf : { pciBusID: card.address(3) };
          const { error } = call("ADD", { ...second, as, conf });
          expect(error?.code).toBe(102);
          expect(error?.msg).toContain(a.path);
        }
        expect(card.state()[3]).toMatchObject({ vlan: 0 });
        a[Symbol.dispose]();
        ok("ADD", second);
        ok("DEL", second);
        rmSync("/var/lib/cni/sriov", { recursive: true });
      });
    } finally {
      card.bind(3, "igbvf");
      await until("its interface", () => card.interfaceOf(3));
    }
  });

  test("names that are taken on the node and in the pod", async () => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      const name = card.interfaceOf(0) ?? "";
      // Its own name is taken in the pod, and the one that it is to have is its second one.
      a.ip("link", "add", name, "type", "dummy");
      sh(["ip", "link", "property", "add", "dev", name, "altname", "net1"]);
      const life = { pod: a, container: "a", conf: vf(0, 1) };
      ok("ADD", life);
      ok("DEL", life);
      expect(card.interfaceOf(0)).toBe(name);
      sh(["ip", "link", "property", "del", "dev", name, "altname", "net1"]);
      a.ip("link", "delete", name);

      // The node has the pod's name for it, and somebody takes its own while it is away.
      sh(["ip", "link", "add", "net1", "type", "dummy"]);
      ok("ADD", life);
      sh(["ip", "link", "add", name, "type", "dummy"]);
      ok("DEL", life);
      expect(card.interfaceOf(0)).toBe(`${name}-0`);
      for (const other of [name, "net1"]) sh(["ip", "link", "delete", other]);
      sh(["ip", "link", "set", `${name}-0`, "name", name]);
    });
  });

  test("the pod's namespace goes: DEL finds the function where the kernel put it", async () => {
    await unchanged(async () => {
      const name = card.interfaceOf(0);
      const a = TestNetns.create("a");
      const life = { pod: a.path, container: "a", conf: vf(0, 1, { vlan: 100, mac: "02:11:22:33:44:00" }) };
      ok("ADD", life);
      sh(["ip", "link", "add", "net1", "type", "dummy"]);
      a[Symbol.dispose]();
      expect(await until("the fall", () => card.interfaceOf(0))).toStartWith("dev");
      ok("DEL", life);
      expect(card.interfaceOf(0)).toBe(name);
      ok("DEL", life);
      sh(["ip", "link", "delete", "net1"]);
    });
  });

  test("two pods in turn, the first DEL late: it takes nothing from the second", async () => {
    await unchanged(() => {
      const a = TestNetns.create("a");
      using b = TestNetns.create("b");
      const first = { pod: a.path, container: "a", conf: vf(0, 1, { vlan: 100, trust: "on" }) };
      const second = { pod: b, container: "b", conf: vf(0, 2, { vlan: 7 }) };
      ok("ADD", first);
      a[Symbol.dispose]();
      ok("ADD", second);
      expect(card.state()[0]).toMatchObject({ vlan: 7, trust: false });
      ok("DEL", first);
      expect(card.state()[0]).toMatchObject({ vlan: 7 });
      expect(b.ip("-br", "address", "show", "net1")).toContain("10.9.0.2/24");
      ok("DEL", second);
    });
  });

  test("the namespace is gone for everybody but one who holds it open: the driver is started anew", async () => {
    await unchanged(() => {
      const a = TestNetns.create("a");
      const name = card.interfaceOf(0);
      const life = { pod: a.path, container: "a", conf: vf(0, 1, { vlan: 100 }) };
      ok("ADD", life);
      const held = openSync(a.path, "r");
      try {
        a[Symbol.dispose]();
        ok("DEL", life);
        expect(card.interfaceOf(0)).toBe(name);
        expect(card.state()[0]).toMatchObject({ vlan: 0 });
      } finally {
        closeSync(held);
      }
    });
  });

  const trace = "/tmp/pbt-trace";
  const traced = ["strace", "-f", "-qq", "-e", "trace=sendto", "-o", trace];

  /** Evenly spread over the messages to the kernel that an ADD sends: after which of them to kill it. */
  function killPoints(life: Omit<Life, "pod">, points: number): number[] {
    using pod = TestNetns.create("pod");
    ok("ADD", { ...life, pod, under: traced });
    ok("DEL", { ...life, pod });
    const messages = readFileSync(trace, "utf8")
      .split("\n")
      .filter((line) => line.includes("sendto(")).length;
    expect(messages).toBeGreaterThan(points);
    return Array.from({ length: points }, (_, i) => Math.ceil((messages * (i + 1)) / points));
  }

  const killed = (life: Omit<Life, "pod">, when: number): Promise<void> =>
    unchanged(() => {
      using pod = TestNetns.create("pod");
      const under = [...traced, "-e", `inject=sendto:signal=SIGKILL:when=${when}`];
      expect(call("ADD", { ...life, pod, under }).exit).not.toBe(0);
      ok("DEL", { ...life, pod });
      expect(pod.ipJson("link").map((l) => l.ifname)).toEqual(["lo"]);
    });

  test("a killed ADD leaves nothing after one DEL, wherever it was killed", async () => {
    const life = { container: "a", conf: vf(0, 1, { vlan: 100, mac: "02:11:22:33:44:00", max_tx_rate: 50 }) };
    for (const when of killPoints(life, 8)) await killed(life, when);
  });

  test("a program's function: set by the card, no interface, what it is in its file", async () => {
    card.bind(3, "vfio-pci");
    try {
      await unchanged(() => {
        using a = TestNetns.create("a");
        using b = TestNetns.create("b");
        const file = "/var/run/k8s.cni.cncf.io/devinfo/cni/n-a_net1";
        const more = { vlan: 9, mac: "02:11:22:33:44:09", runtimeConfig: { CNIDeviceInfoFile: file } };
        const life = { pod: a, container: "a", conf: vf(3, 5, more) };
        const { result } = ok("ADD", life);
        expect(result?.interfaces).toMatchObject([{ name: "net1", mac: "02:11:22:33:44:09" }]);
        expect(result?.ips).toMatchObject([{ address: "10.9.0.5/24" }]);
        expect(card.state()[3]).toMatchObject({ vlan: 9, mac: "02:11:22:33:44:09" });
        expect(a.ipJson("link").map((l) => l.ifname)).toEqual(["lo"]);
        expect(JSON.parse(readFileSync(file, "utf8"))).toEqual({
          type: "pci",
          version: "1.1.0",
          pci: { "pci-address": card.address(3), "pf-pci-address": card.physical },
        });
        ok("CHECK", { ...life, conf: { ...life.conf, prevResult: result } });
        expect(call("ADD", { pod: b, container: "b", conf: vf(3, 6) }).error?.code).toBe(102);
        ok("DEL", life);
        expect(existsSync(file)).toBe(false);
      });
      await unchanged(() => {
        using a = TestNetns.create("a");
        const life = { pod: a, container: "a", as: "host-device", conf: { pciBusID: card.address(3) } };
        expect(ok("ADD", life).result?.interfaces).toMatchObject([{ name: "net1", sandbox: a.path }]);
        ok("DEL", life);
      });
    } finally {
      card.bind(3, "igbvf");
      await until("its interface", () => card.interfaceOf(3));
    }
  });

  test("a program's function: refused in use, free when its pod has gone, and a late DEL takes nothing", async () => {
    card.bind(3, "vfio-pci");
    try {
      await unchanged(() => {
        const a = TestNetns.create("a");
        using b = TestNetns.create("b");
        const first = {
          pod: a.path,
          container: "a",
          conf: vf(3, 5, { vlan: 9, mac: "02:11:22:33:44:09", trust: "on" }),
        };
        const second = { pod: b, container: "b", conf: vf(3, 6, { vlan: 7 }) };
        ok("ADD", first);
        for (const [as, conf] of [
          ["sriov", second.conf],
          ["host-device", { pciBusID: card.address(3) }],
        ] as const) {
          const { error } = call("ADD", { ...second, as, conf });
          expect(error?.code).toBe(102);
          expect(error?.msg).toContain('container "a" (interface "net1" of network "n") has it');
        }
        expect(card.state()[3]).toMatchObject({ vlan: 9, trust: true });
        a[Symbol.dispose]();
        ok("ADD", second);
        expect(card.state()[3]).toMatchObject({ vlan: 7, trust: false });
        ok("DEL", first);
        expect(card.state()[3]).toMatchObject({ vlan: 7 });
        ok("DEL", second);
      });
    } finally {
      card.bind(3, "igbvf");
      await until("its interface", () => card.interfaceOf(3));
    }
  });

  test("a program's function: a killed ADD leaves nothing after one DEL", async () => {
    card.bind(3, "vfio-pci");
    try {
      const life = { container: "a", conf: vf(3, 1, { vlan: 100, mac: "02:11:22:33:44:00", max_tx_rate: 50 }) };
      for (const when of killPoints(life, 4)) await killed(life, when);
    } finally {
      card.bind(3, "igbvf");
      await until("its interface", () => card.interfaceOf(3));
    }
  });

  test.each([
    ["min_tx_rate", { min_tx_rate: 5 }, 123],
    ["link_state", { link_state: "enable" }, 123],
    ["vlan", { vlan: 5, vlanProto: "802.1ad" }, 123],
    ["vlanQoS", { vlanQoS: 3 }, 7],
    ["spoofchk", { spoofchk: "maybe" }, 7],
    ["deviceID", { deviceID: "0000:77:00.0" }, 7],
    ["deviceID", { deviceID: "../0000:01:10.0" }, 7],
  ] as const)("what the card or the plugin cannot do is an error that names %s", async (key, conf, code) => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      const life = { pod: a, container: "a", conf: vf(1, 1, conf) };
      const { error } = call("ADD", life);
      expect(error?.code).toBe(code);
      expect(error?.msg).toContain(`"${key}"`);
      ok("DEL", life);
      expect(a.ipJson("link").map((l) => l.ifname)).toEqual(["lo"]);
    });
  });

  test("host-device: by PCI address, path, MAC address, name and the runtime's choice", async () => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      const name = card.interfaceOf(1) ?? "";
      const mac = card.state()[1]?.mac;
      for (const conf of [
        { pciBusID: card.address(1) },
        { kernelpath: card.pathOf(1) },
        { hwaddr: mac },
        { device: name },
        { device: card.name, runtimeConfig: { deviceID: card.address(1) } },
      ]) {
        const life = { pod: a, container: "a", as: "host-device", conf: { ...conf, ipam: static4(1) } };
        const { result } = ok("ADD", life);
        expect(result?.interfaces).toEqual([{ name: "net1", mac, sandbox: a.path, pciID: card.address(1) } as never]);
        expect(card.interfaceOf(1)).toBeUndefined();
        ok("CHECK", { ...life, conf: { ...life.conf, prevResult: result } });
        ok("DEL", life);
        expect(card.interfaceOf(1)).toBe(name);
      }
    });
  });

  test("records of an earlier boot say nothing", async () => {
    await unchanged(() => {
      using a = TestNetns.create("a");
      using b = TestNetns.create("b");
      const life = { pod: a, container: "a", conf: vf(0, 1) };
      ok("ADD", life);
      const [name = ""] = readdirSync("/var/lib/patchbay/devices");
      const record = `/var/lib/patchbay/devices/${name}/record`;
      const text = readFileSync(record, "utf8");
      ok("DEL", life);
      mkdirSync(`/var/lib/patchbay/devices/${name}`, { mode: 0o700 });
      const json = text.slice(0, text.lastIndexOf(" ")).replace(/"bootId":"[^"]*"/, '"bootId":"of-another-boot"');
      const sum = Bun.hash.crc32(json).toString(16).padStart(8, "0");
      writeFileSync(record, `${json} ${sum}\n`);
      const next = { pod: b, container: "b", conf: vf(0, 2) };
      ok("ADD", next);
      ok("DEL", next);
    });
  });
});

/** What `core/sys` does that needs root: other network namespaces, their sysctls and links, mounts. */
import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { type NetnsPath, parseNetnsPath } from "../../core/base/brand.ts";
import { CniError } from "../../core/base/error.ts";
import { deadlineIn } from "../../core/sys/clock.ts";
import { Fd } from "../../core/sys/fd.ts";
import { libc, Open } from "../../core/sys/libc.ts";
import { NetlinkSocket } from "../../core/sys/netlink-socket.ts";
import { inNetns, Netns } from "../../core/sys/netns.ts";
import { PacketSocket, sendRaw } from "../../core/sys/packet.ts";
import { readProcSys, writeProcSys } from "../../core/sys/proc.ts";
import { sh, TestNetns, veth } from "../support/netns.ts";
import { requires, root } from "../support/requires.ts";

const SYS = new URL("../../core/sys", import.meta.url).pathname;
const at = (ns: TestNetns): NetnsPath => parseNetnsPath(ns.path);
const here = (): string => readlinkSync("/proc/thread-self/ns/net");
const dir = mkdtempSync("/tmp/patchbay-sys-");
afterAll(() => rmSync(dir, { recursive: true }));

/** Runs `script` in a process and mount namespace of its own, `mounts` first. */
function inMounts(mounts: string, script: string): { exit: number | null; out: string; err: string } {
  const bun = `exec "${process.execPath}" -e "$0"`;
  const ended = Bun.spawnSync(["unshare", "-m", "sh", "-ec", `${mounts}\n${bun}`, script], { cwd: dir });
  return { exit: ended.exitCode, out: ended.stdout.toString(), err: ended.stderr.toString() };
}

/** A request that dumps links. */
function dumpLinks(): Uint8Array {
  const message = new Uint8Array(32); // nlmsghdr, ifinfomsg
  const view = new DataView(message.buffer);
  view.setUint32(0, 32, true);
  view.setUint16(4, 18, true); // RTM_GETLINK
  view.setUint16(6, 0x301, true); // NLM_F_REQUEST | NLM_F_DUMP
  return message;
}

requires(...root)("Netns", () => {
  test("a cookie names a namespace, by whatever path it was opened", () => {
    using one = TestNetns.create("one");
    using two = TestNetns.create("two");
    using a = Netns.open(at(one));
    using again = Netns.open(at(one));
    using b = Netns.open(at(two));
    using home = Netns.current();
    using homeByPid = Netns.open(parseNetnsPath(`/proc/${process.pid}/ns/net`));
    expect(typeof a.cookie).toBe("bigint");
    expect(a.cookie).toBe(again.cookie);
    expect(home.cookie).toBe(homeByPid.cookie);
    expect(new Set([a.cookie, b.cookie, home.cookie]).size).toBe(3);
  });

  test("a cookie is not used again, as inodes are", () => {
    const seen = new Set<bigint>();
    for (let i = 0; i < 5; i++) {
      using made = TestNetns.create("again");
      using ns = Netns.open(at(made));
      expect(seen.has(ns.cookie)).toBe(false);
      seen.add(ns.cookie);
    }
  });

  test("what is open outlives its name", () => {
    const made = TestNetns.create("gone");
    using ns = Netns.open(at(made));
    made[Symbol.dispose]();
    expect(() => Netns.open(at(made))).toThrow("ENOENT");
    expect(inNetns(ns, here)).not.toBe(here());
  });

  test.each([
    ["/dev/null"],
    ["/tmp"],
    ["/proc/self/ns/mnt"],
    ["/proc/self/ns/pid"],
    ["/proc/version"],
    [`${dir}/fifo`],
    [`${dir}/empty`],
  ])("open() refuses %s", (path) => {
    if (path.endsWith("fifo")) sh(["mkfifo", path]);
    if (path.endsWith("empty")) writeFileSync(path, ""); // what `ip netns` leaves when its mount is gone
    let thrown: unknown;
    try {
      Netns.open(parseNetnsPath(path));
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(CniError);
    expect(thrown).toMatchObject({ code: 8, message: expect.stringContaining(`Cannot use "${path}"`) });
  });
});

requires(...root)("inNetns()", () => {
  test("returns with the result, on an exception, and from within another", () => {
    using one = TestNetns.create("one");
    using two = TestNetns.create("two");
    using a = Netns.open(at(one));
    using b = Netns.open(at(two));
    const home = here();
    const [outer, inner, outerAgain] = inNetns(a, () => [here(), inNetns(b, here), here()]);
    expect(outer).toBe(outerAgain);
    expect(new Set([home, outer, inner]).size).toBe(3);
    expect(() =>
      inNetns(a, () => {
        throw new Error("work failed");
      }),
    ).toThrow("work failed");
    expect(here()).toBe(home);
  });

  test("does not enter what is no network namespace any more", () => {
    using made = TestNetns.create("one");
    const ns = Netns.open(at(made));
    ns[Symbol.dispose]();
    expect(() => inNetns(ns, () => 1)).toThrow("it was released");
  });

  test("ends the process when it cannot return", () => {
    using made = TestNetns.create("lost");
    const script = `
      const { inNetns, Netns } = await import("${SYS}/netns.ts");
      const { libc } = await import("${SYS}/libc.ts");
      const { readdirSync, readlinkSync, writeSync } = await import("node:fs");
      const home = readlinkSync("/proc/thread-self/ns/net");
      process.on("exit", () => writeSync(1, "an exit handler ran\\n"));
      try {
        inNetns(Netns.open("${made.path}"), () => {
          for (const fd of readdirSync("/proc/self/fd")) {
            let to = "";
            try { to = readlinkSync("/proc/self/fd/" + fd); } catch {}
            if (to === home) libc().close(Number(fd));
          }
        });
      } finally {
        writeSync(1, "went on\\n");
      }`;
    const ended = Bun.spawnSync([process.execPath, "-e", script]);
    expect([ended.exitCode, ended.stdout.toString()]).toEqual([70, ""]);
    expect(ended.stderr.toString()).toBe("patchbay: cannot return to its own network namespace, so it ends here\n");
  });
});

requires(...root)("NetlinkSocket", () => {
  test("speaks to the namespace it was opened in, and times out", () => {
    using made = TestNetns.create("nl");
    using ns = Netns.open(at(made));
    using socket = NetlinkSocket.open(0, ns);
    made.ip("link", "add", "only-here", "type", "veth", "peer", "name", "other-end");
    socket.send(dumpLinks());
    let text = "";
    for (let type = 0; type !== 3; ) {
      const part = socket.receive(deadlineIn(1000));
      type = new DataView(part.buffer, part.byteOffset).getUint16(4, true); // NLMSG_DONE is 3
      text += new TextDecoder("latin1").decode(part);
    }
    expect(text).toContain("only-here");
    expect(text).not.toContain("uplink");
    const began = performance.now();
    expect(() => socket.receive(deadlineIn(40))).toThrow('recv "netlink": ETIMEDOUT');
    expect(performance.now() - began).toBeGreaterThanOrEqual(39);
  });

  test("gets short acknowledgements: the request is not sent back", () => {
    using socket = NetlinkSocket.open(0);
    const message = new Uint8Array(16 + 16 + 1024);
    const view = new DataView(message.buffer);
    view.setUint32(0, message.length, true);
    view.setUint16(4, 17, true); // RTM_DELLINK of nothing
    view.setUint16(6, 5, true); // NLM_F_REQUEST | NLM_F_ACK
    view.setUint32(32, 1024, true);
    socket.send(message);
    const answer = socket.receive(deadlineIn(1000));
    expect(answer.length).toBeLessThan(300);
    expect(new DataView(answer.buffer).getUint16(4, true)).toBe(2); // NLMSG_ERROR
    expect(new DataView(answer.buffer).getUint16(6, true) & 0x100).toBe(0x100); // NLM_F_CAPPED
  });

  test("drops what another process sends to it", () => {
    using made = TestNetns.create("spoof");
    using ns = Netns.open(at(made));
    using victim = NetlinkSocket.open(0, ns);
    using attacker = NetlinkSocket.open(0, ns);
    const inode = /\d+/.exec(readlinkSync(`/proc/self/fd/${victim.fd}`))?.[0];
    const row = inNetns(ns, () => readFileSync("/proc/thread-self/net/netlink", "utf8"))
      .split("\n")
      .map((line) => line.trim().split(/\s+/))
      .find((fields) => fields.at(-1) === inode);
    const port = Number(row?.[2]);
    expect(port).toBeGreaterThan(0);
    const to = Uint32Array.of(16, port, 0);
    const forged = dumpLinks();
    expect(Number(libc().sendto(attacker.fd, forged, forged, 0, to, to))).toBe(32);
    expect(() => victim.receive(deadlineIn(20))).toThrow("ETIMEDOUT");
    libc().sendto(attacker.fd, forged, forged, 0, to, to);
    victim.send(dumpLinks());
    expect(victim.receive(deadlineIn(1000)).length).toBeGreaterThan(100);
  });

  test("hears of a group that it joined, and of messages lost", () => {
    using made = TestNetns.create("group");
    using ns = Netns.open(at(made));
    using socket = NetlinkSocket.open(0, ns);
    socket.join(1); // RTNLGRP_LINK
    made.ip("link", "set", "lo", "up");
    expect(socket.receive(deadlineIn(1000)).length).toBeGreaterThan(100);
    const SOL_SOCKET = 1;
    const SO_RCVBUF = 8;
    libc().setsockopt(socket.fd, SOL_SOCKET, SO_RCVBUF, Uint32Array.of(1), Uint32Array.of(1));
    for (let i = 0; i < 40; i++) made.ip("link", "set", "lo", i % 2 === 0 ? "down" : "up");
    expect(() => {
      for (;;) socket.receive(deadlineIn(100));
    }).toThrow('recv "netlink": ENOBUFS');
  });

  test("opens for netfilter too", () => {
    using socket = NetlinkSocket.open(12);
    expect(socket.fd).toBeGreaterThan(2);
  });
});

requires(...root)("sysctls", () => {
  test("are those of the namespace", () => {
    using made = TestNetns.create("sysctl");
    using ns = Netns.open(at(made));
    const key = "net/ipv4/ip_forward";
    const before = readProcSys(undefined, key);
    writeProcSys(ns, key, "1");
    expect(readProcSys(ns, key)).toBe("1");
    writeProcSys(ns, key, "0");
    expect(readProcSys(ns, key)).toBe("0");
    expect(readProcSys(undefined, key)).toBe(before);
  });

  test("of a link with a dot in its name are reached", () => {
    using made = TestNetns.create("dot");
    using ns = Netns.open(at(made));
    made.ip("link", "add", "eth0.100", "type", "veth", "peer", "name", "other");
    writeProcSys(ns, "net/ipv6/conf/eth0.100/accept_ra", "0");
    expect(readProcSys(ns, "net/ipv6/conf/eth0.100/accept_ra")).toBe("0");
    expect(readProcSys(undefined, "net/ipv6/conf/eth0.100/accept_ra")).toBeUndefined();
  });

  test("that are absent, or refused by the kernel, say so", () => {
    expect(readProcSys(undefined, "net/ipv4/no_such")).toBeUndefined();
    expect(() => writeProcSys(undefined, "net/ipv4/no_such", "1")).toThrow("ENOENT");
    using made = TestNetns.create("bad");
    using ns = Netns.open(at(made));
    expect(() => writeProcSys(ns, "net/ipv4/ip_forward", "many")).toThrow(/write .*EINVAL/);
  });

  test.each([["../version"], ["net/../../version"], ["/etc/passwd"], [""], ["net//ipv4"], ["net/."], ["net\0"]])(
    "refuse the key %p",
    (key) => {
      expect(() => readProcSys(undefined, key)).toThrow("EINVAL");
      expect(() => writeProcSys(undefined, key, "1")).toThrow("EINVAL");
    },
  );

  test("refuse a file mounted in their place", () => {
    writeFileSync(`${dir}/mounted`, "untouched");
    const script = `
      const { writeProcSys } = await import("${SYS}/proc.ts");
      try { writeProcSys(undefined, "net/ipv4/ip_forward", "1"); } catch (error) { console.log(error.message); }`;
    const mounted = inMounts(`mount --bind "${dir}/mounted" /proc/sys/net/ipv4/ip_forward`, script);
    expect(mounted.out).toContain("EXDEV");
    // Bun itself needs a /proc to start.
    const hide = `Bun.spawnSync(["mount", "--bind", "${dir}/proc", "/proc"]);`;
    const whole = inMounts(`mkdir -p proc/sys/net/ipv4; echo 0 >proc/sys/net/ipv4/ip_forward`, hide + script);
    expect(whole.out).toContain('fstatfs "/proc": EXDEV');
    expect(readFileSync(`${dir}/mounted`, "utf8")).toBe("untouched");
  });
});

requires(...root)("sendRaw()", () => {
  test("sends frames that the other end understands", () => {
    using left = TestNetns.create("left");
    using right = TestNetns.create("right");
    veth({ in: left, name: "end0", address: "10.77.0.1/24" }, { in: right, name: "end1", address: "10.77.0.2/24" });
    using ns = Netns.open(at(left));
    using other = Netns.open(at(right));
    writeProcSys(other, "net/ipv4/conf/end1/arp_accept", "1");
    const [link] = left.ipJson("link", "show", "end0");
    // A gratuitous ARP request for 10.77.0.9 from a made-up address.
    const frame = Uint8Array.fromHex(
      [
        "ffffffffffff",
        "02aabbccdd09",
        "0806",
        "0001080006040001",
        "02aabbccdd09",
        "0a4d0009",
        "000000000000",
        "0a4d0009",
      ].join(""),
    );
    sendRaw(ns, Number(link?.ifindex), 0x0806, frame, frame);
    const neighbours = (): string => right.ip("neigh", "show", "dev", "end1");
    for (let i = 0; i < 100 && !neighbours().includes("10.77.0.9"); i++) Bun.sleepSync(10);
    expect(neighbours()).toContain("10.77.0.9 lladdr 02:aa:bb:cc:dd:09");
  });

  test.each([
    [0x7ffffff0, "ENXIO"],
    [1, "ENETDOWN"],
  ])("says that link %d cannot", (index, message) => {
    using made = TestNetns.create("down");
    using ns = Netns.open(at(made));
    expect(() => sendRaw(ns, index, 0x0806, new Uint8Array(42))).toThrow(`send "link ${index}": ${message}`);
  });
});

requires(...root)("PacketSocket", () => {
  test("hears the UDP datagrams to one port of one link, and nothing else", () => {
    using left = TestNetns.create("left");
    using right = TestNetns.create("right");
    veth({ in: left, name: "end0", address: "10.77.0.1/24" }, { in: right, name: "end1", address: "10.77.0.2/24" });
    veth({ in: left, name: "end2", address: "10.78.0.1/24" }, { in: right, name: "end3", address: "10.78.0.2/24" });
    using ns = Netns.open(at(right));
    using socket = PacketSocket.open(ns, Number(right.ipJson("link", "show", "end1")[0]?.ifindex), 68);
    const send = (address: string, port: number, text: string): void => {
      const script = `
        const socket = require("node:dgram").createSocket("udp4");
        socket.send(${JSON.stringify(text)}, ${port}, "${address}", () => socket.close());`;
      left.run(process.execPath, "-e", script);
    };
    send("10.77.0.2", 67, "another port");
    send("10.78.0.2", 68, "another link");
    left.run("ping", "-c1", "-W1", "10.77.0.2");
    expect(socket.receive(0)).toBeUndefined();
    send("10.77.0.2", 68, "this one");
    expect(new TextDecoder().decode(socket.receive(2000)?.subarray(42))).toBe("this one");
    const begun = performance.now();
    expect(socket.receive(30)).toBeUndefined();
    expect(performance.now() - begun).toBeGreaterThan(25);
    expect(() => PacketSocket.open(ns, 0x7ffffff0, 68)).toThrow("ENODEV");
    right.ip("link", "set", "end1", "down");
    expect(() => socket.send(new Uint8Array(60))).toThrow("ENETDOWN");
  });
});

describe("descriptors", () => {
  test("none is left open by a failed open()", () => {
    const count = (): number => readdirSync("/proc/self/fd").length;
    const before = count();
    for (let i = 0; i < 50; i++) {
      expect(() => Netns.open(parseNetnsPath("/proc/version"))).toThrow();
      expect(() => readProcSys(undefined, "net/no/such")).not.toThrow();
      expect(() => Fd.open("/nonexistent", Open.READ)).toThrow();
    }
    // Pipes to programs of earlier tests may be closed meanwhile.
    expect(count()).toBeLessThanOrEqual(before);
  });
});

requires(...root)("Dir", () => {
  const script = (body: string): string => `
    const { Dir } = await import("${SYS}/dir.ts");
    const dir = Dir.open("${dir}/mount/state", { create: true });
    const bytes = (text) => new TextEncoder().encode(text);
    ${body}`;
  const whole = script(`
    console.log(dir.createWhole("a", bytes("one")), dir.createWhole("a", bytes("two")));
    dir.replace("b", bytes("b"), { durable: true });
    const held = dir.lock({ deadlineMs: 0 });
    console.log(dir.list().join(), held !== undefined, dir.lock({ deadlineMs: 0 }) === undefined);
    console.log(dir.lockHolders().map(({ pid }) => pid === process.pid).join());`);

  test.each([
    ["a tmpfs", "mount -t tmpfs none mount"],
    [
      "an overlay",
      "mount -t tmpfs none up; mkdir up/u up/w; mount -t overlay none -o lowerdir=low,upperdir=up/u,workdir=up/w mount",
    ],
  ])("works on %s", (_, mounts) => {
    const ended = inMounts(`mkdir -p mount low up; ${mounts}`, whole);
    expect(ended).toEqual({ exit: 0, out: "true false\na,b true true\ntrue\n", err: "" });
  });

  test("adds a line whole or not at all when the disk is full", () => {
    const ended = inMounts(
      "mkdir -p mount; mount -t tmpfs -o size=64k none mount",
      script(`
        const log = dir.openAppend("log");
        const line = bytes("x".repeat(999) + "\\n");
        let lines = 0;
        try { for (;;) { log.write(line); lines++; } } catch (error) { console.log(error.errnoName); }
        console.log(lines > 10, log.size === lines * 1000);
        try { dir.createWhole("a", bytes("x".repeat(9000))); } catch (error) { console.log(error.errnoName); }
        try { dir.replace("b", bytes("x".repeat(9000))); } catch (error) { console.log(error.errnoName); }
        console.log(dir.list().join());`),
    );
    expect(ended).toEqual({ exit: 0, out: "ENOSPC\ntrue true\nENOSPC\nENOSPC\nlog\n", err: "" });
  });

  test("says that a disk is read-only", () => {
    const ended = inMounts(
      "mkdir -p mount; mount -t tmpfs none mount; mkdir -m 700 mount/state; mount -o remount,ro mount",
      script(`
        for (const run of [() => dir.createWhole("a", bytes("")), () => dir.replace("a", bytes("")), () => dir.remove("a")]) {
          try { console.log(run()); } catch (error) { console.log(error.errnoName); }
        }`),
    );
    expect(ended.out).toMatch(/^EROFS\nEROFS\n(EROFS|false)\n$/);
  });
});

import { describe, expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { formatLease, type LeaseOwner, type LeasePool, parseLease, parseReferenceLease } from "./leases.ts";
import { Scratch } from "./support.ts";

const a: LeaseOwner = { container: "c1", ifname: "eth0", cookie: "77" };
const b: LeaseOwner = { container: "c2", ifname: "eth0", cookie: "78" };
const LEASES = "run/0123abcd-4/leases";
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function pool(scratch: Scratch, name = "net"): LeasePool {
  const opened = scratch.store().leases.open(name, { create: true });
  if (opened === undefined) throw new Error("no pool");
  return opened;
}

describe("parseLease()", () => {
  const good = formatLease(a);
  test("reads back what was written", () => {
    expect(new TextDecoder().decode(good)).toMatch(/^v1 c1 eth0 77 [0-9a-f]{8}\n$/);
    expect(parseLease(good)).toEqual(a);
    expect(parseLease(formatLease({ ...a, cookie: "" }))).toEqual({ ...a, cookie: "" });
  });

  test("cut at any byte or with any byte changed it is nobody's", () => {
    for (let at = 0; at < good.length; at++) {
      expect(parseLease(good.subarray(0, at))).toBeUndefined();
      const changed = good.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      expect(parseLease(changed)).toBeUndefined();
    }
  });

  test.each([
    ["c1\r\neth0", { container: "c1", ifname: "eth0", cookie: "" }],
    ["c1\neth0\n", { container: "c1", ifname: "eth0", cookie: "" }],
    ["c1", { container: "c1", ifname: "", cookie: "" }],
    ["", undefined],
    ["a\nb\nc", undefined],
  ])("parseReferenceLease() reads %j", (text, owner) => {
    expect(parseReferenceLease(bytes(text))).toEqual(owner as LeaseOwner);
  });
});

describe("LeasePool", () => {
  test("gives an address once, frees it for its owner alone, and leaves nothing", () => {
    using scratch = new Scratch();
    {
      using p = pool(scratch);
      expect(p.acquire("10.1.0.2", a)).toBe(true);
      expect(p.acquire("10.1.0.2", a)).toBe(false);
      expect(p.acquire("10.1.0.2", b)).toBe(false);
      expect(p.acquire("fd00::2", b)).toBe(true);
      p.setLast(1, "fd00::2");
      expect(p.taken("10.1.0.2")).toBe(true);
      expect(p.owner("10.1.0.2")).toEqual({ address: "10.1.0.2", owner: a });
      expect(p.list()).toEqual([
        { address: "10.1.0.2", owner: a },
        { address: "fd00::2", owner: b },
      ]);
      expect(p.release("10.1.0.2", b)).toBe("other");
      expect(p.release("10.1.0.2", { ...a, ifname: "net1" })).toBe("other");
      expect(p.release("10.1.0.2", a)).toBe("released");
      expect(p.release("10.1.0.2", a)).toBe("absent");
    }
    {
      using p = pool(scratch);
      expect([p.last(0), p.last(1), p.last(2)]).toEqual([undefined, "fd00::2", undefined]);
    }
    const { leases } = scratch.store();
    expect(leases.ofContainer("c2")).toEqual([{ pool: "net", address: "fd00::2", owner: b }]);
    expect(leases.release("net", "fd00::2", b)).toBe("released");
    expect(leases.release("net", "fd00::2", b)).toBe("absent");
    expect(leases.pools()).toEqual([]);
    expect(scratch.files()).toEqual([]);
  });

  test("a pool that nothing was taken from leaves nothing", () => {
    using scratch = new Scratch();
    pool(scratch)[Symbol.dispose]();
    expect(scratch.exists(`${LEASES}/net`)).toBe(false);
  });

  test.each([
    ["an empty file", "", "unreadable"],
    ["a torn file of ours", "v1 c1 eth0 7", "released"],
    ["a torn file of another's", "v1 c2 eth0 7", "unreadable"],
    ["noise", "\0\0\0\0", "unreadable"],
  ])("%s is a taken address; its owner's DEL: %s", (_, content, outcome) => {
    using scratch = new Scratch();
    using p = pool(scratch);
    p.acquire("10.1.0.2", a);
    writeFileSync(`${scratch.path}/${LEASES}/net/10.1.0.2`, content);
    expect(p.taken("10.1.0.2")).toBe(true);
    expect(p.acquire("10.1.0.2", b)).toBe(false);
    expect(p.owner("10.1.0.2")).toEqual({ address: "10.1.0.2", owner: undefined });
    expect(p.release("10.1.0.2", a)).toBe(outcome as "released");
    p.reclaim("10.1.0.2");
    expect(p.taken("10.1.0.2")).toBe(false);
    expect(scratch.files("run/0123abcd-4/quarantine")).toEqual(outcome === "released" ? [] : ["net@10.1.0.2"]);
  });

  test("files of the reference host-local count as taken", () => {
    using scratch = new Scratch();
    mkdirSync(`${scratch.path}/reference/net`, { recursive: true, mode: 0o755 });
    writeFileSync(`${scratch.path}/reference/net/10.1.0.2`, "old\r\neth0");
    using p = pool(scratch);
    expect(p.taken("10.1.0.2")).toBe(true);
    expect(p.acquire("10.1.0.2", a)).toBe(false);
    expect(p.owner("10.1.0.2")?.owner).toEqual({ container: "old", ifname: "eth0", cookie: "" });
    expect(p.release("10.1.0.2", { container: "old", ifname: "eth0" })).toBe("absent");
    expect(p.addresses().has("10.1.0.2")).toBe(true);
    expect(p.list()).toEqual([]);
  });

  test("a hint outlives its pool: an address that was just freed is not the next to be given", () => {
    using scratch = new Scratch();
    {
      using p = pool(scratch);
      p.acquire("10.1.0.2", a);
      p.setLast(0, "10.1.0.2");
    }
    using store = scratch.store();
    store.leases.release("net", "10.1.0.2", a);
    expect(scratch.files()).toEqual([]);
    expect(scratch.exists("run/0123abcd-4/cache/hints/net")).toBe(true);
    using again = pool(scratch);
    expect(again.last(0)).toBe("10.1.0.2");
  });

  test("names with a path in them are refused", () => {
    using scratch = new Scratch();
    using p = pool(scratch);
    expect(() => p.acquire("../x", a)).toThrow(/^Cannot lease "..\/x"/);
    expect(() => pool(scratch, "../x")).toThrow(/^Cannot open the leases of "..\/x"/);
  });

  test("processes at once get each address once", async () => {
    using scratch = new Scratch();
    const script = `
      const { Store } = await import(${JSON.stringify(`${import.meta.dir}/store.ts`)});
      const [, path, name] = process.argv;
      using store = Store.open({ runDir: path + "/run", netnsCookie: 4n, bootId: "0123abcd", referenceDir: path });
      const got = [];
      for (let n = 0; n < 60; n++) {
        const owner = { container: name + n, ifname: "eth0", cookie: "1" };
        using pool = store.leases.open("net", { create: true });
        let i = Number((pool.last(0) ?? "a0").slice(1));
        while (!pool.acquire("a" + i, owner)) i++;
        pool.setLast(0, "a" + i);
        got.push("a" + i);
        if (n % 3 === 0) pool.release("a" + i, owner);
      }
      for (const [n, address] of got.entries()) {
        const freed = store.leases.release("net", address, { container: name + n, ifname: "eth0" });
        if ((n % 3 === 0) === (freed === "released")) throw new Error(name + n + " " + address + " " + freed);
      }`;
    const children = ["p", "q", "r", "s"].map((name) => {
      return Bun.spawn([process.execPath, "-e", script, scratch.path, name], { stderr: "pipe", stdout: "ignore" });
    });
    for (const child of children) {
      expect(await new Response(child.stderr).text()).toBe("");
      expect(await child.exited).toBe(0);
    }
    expect(scratch.files()).toEqual([]);
  });
});

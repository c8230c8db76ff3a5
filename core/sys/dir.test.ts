import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { deadlineIn, monotonicMs } from "./clock.ts";
import { Dir } from "./dir.ts";
import { ownProcessId } from "./process-id.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (found: Uint8Array | undefined): string | undefined => found && new TextDecoder().decode(found);

let root: string;
let umask: number;
beforeEach(() => {
  root = mkdtempSync("/tmp/patchbay-dir-");
  umask = process.umask();
});
afterEach(() => {
  process.umask(umask);
  rmSync(root, { recursive: true, force: true });
});

const mode = (path: string): number => statSync(`${root}/${path}`).mode & 0o7777;

describe("Dir.open()", () => {
  test.each([0o000, 0o022, 0o077, 0o277])("makes parents 0700 under umask %o", (mask) => {
    process.umask(mask);
    using dir = Dir.open(`${root}/a/b/c`, { create: true });
    expect(dir.path).toBe(`${root}/a/b/c`);
    expect(["a", "a/b", "a/b/c"].map(mode)).toEqual([0o700, 0o700, 0o700]);
  });

  test("follows a link among the parents and refuses one at the end", () => {
    mkdirSync(`${root}/real/sub`, { recursive: true });
    symlinkSync(`${root}/real`, `${root}/link`);
    using dir = Dir.open(`${root}/link/sub`);
    expect(dir.list()).toEqual([]);
    expect(() => Dir.open(`${root}/link`)).toThrow("ELOOP");
  });

  test.each([
    ["absent", "ENOENT"],
    ["file", "ENOTDIR"],
  ])("refuses %s", (name, message) => {
    writeFileSync(`${root}/file`, "");
    expect(() => Dir.open(`${root}/${name}`)).toThrow(message);
  });

  test("refuses a relative path, and a directory that others can write to", () => {
    expect(() => Dir.open("relative")).toThrow("EINVAL");
    mkdirSync(`${root}/open`);
    chmodSync(`${root}/open`, 0o777);
    expect(() => Dir.open(`${root}/open`)).toThrow(`Cannot keep state in "${root}/open": others than root can write`);
  });
});

describe("Dir", () => {
  const names = ["", ".", "..", "a/b", "/etc", ".hidden", "a\0", "x".repeat(241)];
  test.each(names.map((name) => [name]))("refuses the name %p everywhere", (name) => {
    using dir = Dir.open(root);
    for (const run of [
      () => dir.read(name, 1),
      () => dir.sub(name, { create: true }),
      () => dir.createWhole(name, bytes("")),
      () => dir.replace(name, bytes("")),
      () => dir.openAppend(name),
      () => dir.remove(name),
      () => dir.removeDir(name),
      () => dir.mtimeMs(name),
      () => dir.rename(name, "b"),
      () => dir.rename("b", name),
    ]) {
      expect(run).toThrow("EINVAL");
    }
    expect(readdirSync(root)).toEqual([]);
  });

  test.each([
    [true, "none"],
    [false, "none"],
    [false, "a file of an earlier process with our pid"],
  ])("createWhole() creates once, 0600, and leaves nothing beside; unnamed %p, in the way %s", (unnamed, inTheWay) => {
    process.umask(0);
    if (inTheWay !== "none") writeFileSync(`${root}/.10.0.0.5.${process.pid}`, "left behind");
    using dir = Dir.open(root);
    expect(dir.createWhole("10.0.0.5", bytes("one"), { durable: true, unnamed })).toBe(true);
    expect(dir.createWhole("10.0.0.5", bytes("two"), { unnamed })).toBe(false);
    expect(text(dir.read("10.0.0.5", 100))).toBe("one");
    expect(mode("10.0.0.5")).toBe(0o600);
    expect(readdirSync(root)).toEqual(["10.0.0.5"]);
  });

  test("replace() makes and replaces, 0600, over what a killed writer left", () => {
    process.umask(0);
    writeFileSync(`${root}/.x.new`, "left behind, and longer than the new content");
    using dir = Dir.open(root);
    dir.replace("x", bytes("one"));
    dir.replace("x", bytes("two"), { durable: true });
    expect(text(dir.read("x", 100))).toBe("two");
    expect(mode("x")).toBe(0o600);
    expect(readdirSync(root)).toEqual(["x"]);
  });

  test("removeReplaced() removes what replace() wrote, and what a killed writer left", () => {
    using dir = Dir.open(root);
    expect(dir.removeReplaced("x")).toBe(false);
    dir.replace("x", bytes("one"));
    writeFileSync(`${root}/.x.new`, "");
    expect(dir.removeReplaced("x")).toBe(true);
    expect(readdirSync(root)).toEqual([]);
    writeFileSync(`${root}/.x.new`, "");
    expect(dir.removeReplaced("x")).toBe(false);
    expect(readdirSync(root)).toEqual([]);
  });

  test("read() answers undefined for nothing, and refuses links, directories, fifos and too much", () => {
    using dir = Dir.open(root);
    symlinkSync("/etc/passwd", `${root}/link`);
    mkdirSync(`${root}/dir`);
    Bun.spawnSync(["mkfifo", `${root}/fifo`]);
    dir.createWhole("file", bytes("12345"));
    expect(dir.read("absent", 1)).toBeUndefined();
    expect(text(dir.read("file", 5))).toBe("12345");
    expect(() => dir.read("file", 4)).toThrow(`read "${root}/file": EFBIG`);
    expect(() => dir.read("link", 10_000)).toThrow("ELOOP");
    expect(() => dir.read("dir", 10_000)).toThrow("EINVAL");
    expect(() => dir.read("fifo", 10_000)).toThrow("EINVAL");
    expect(() => dir.openAppend("link")).toThrow("ELOOP");
  });

  test("replace() takes the place of a link and does not follow it", () => {
    writeFileSync(`${root}/victim`, "keep");
    symlinkSync(`${root}/victim`, `${root}/x`);
    symlinkSync(`${root}/victim`, `${root}/.y.new`);
    using dir = Dir.open(root);
    dir.replace("x", bytes("new"));
    expect(() => dir.replace("y", bytes("new"))).toThrow("ELOOP");
    expect([text(dir.read("x", 10)), text(dir.read("victim", 10))]).toEqual(["new", "keep"]);
  });

  test("openAppend() adds, 0600", () => {
    using dir = Dir.open(root);
    for (const line of ["one\n", "two\n"]) {
      using log = dir.openAppend("log");
      log.write(bytes(line));
      log.write(bytes(line));
      expect(log.size).toBe(line === "one\n" ? 8 : 16);
    }
    expect(text(dir.read("log", 100))).toBe("one\none\ntwo\ntwo\n");
    expect(mode("log")).toBe(0o600);
  });

  test("list() is sorted, whole for many, and leaves incomplete files out", () => {
    using dir = Dir.open(root);
    const many = Array.from({ length: 2500 }, (_, i) => `${i}`.padStart(5, "0"));
    for (const name of many.toReversed()) dir.createWhole(name, bytes(""));
    writeFileSync(`${root}/.00000.new`, "");
    expect(dir.list()).toEqual(many);
    expect(dir.list()).toEqual(many);
  });

  test("sub(), removeDir(), remove() tell absent from present", () => {
    using dir = Dir.open(root);
    expect(dir.sub("a")).toBeUndefined();
    using sub = dir.sub("a", { create: true });
    using again = dir.sub("a", { create: true });
    expect(again?.path).toBe(`${root}/a`);
    sub?.createWhole("file", bytes(""));
    expect(dir.removeDir("a")).toBe(false);
    expect(sub?.remove("file", { durable: true })).toBe(true);
    expect(sub?.remove("file")).toBe(false);
    expect(dir.removeDir("a")).toBe(true);
    expect(dir.removeDir("a")).toBe(false);
    symlinkSync("/tmp", `${root}/link`);
    expect(() => dir.sub("link")).toThrow(/ELOOP|ENOTDIR/);
  });

  test("rename() moves within and to another", () => {
    using dir = Dir.open(root);
    using other = Dir.open(`${root}/other`, { create: true });
    dir.createWhole("a", bytes("x"));
    dir.rename("a", "b");
    dir.rename("b", "c", other);
    expect([dir.list(), other.list()]).toEqual([["other"], ["c"]]);
    expect(() => dir.rename("absent", "b")).toThrow("ENOENT");
  });

  test("mtimeMs() is the wall clock", () => {
    using dir = Dir.open(root);
    expect(dir.mtimeMs("absent")).toBeUndefined();
    dir.createWhole("a", bytes("x"));
    expect(Math.abs((dir.mtimeMs("a") ?? 0) - Date.now())).toBeLessThan(5000);
  });

  test("stillNamed() sees a directory removed, and made again", () => {
    using dir = Dir.open(root);
    using sub = Dir.open(`${root}/a`, { create: true });
    expect(sub.stillNamed(dir, "a")).toBe(true);
    dir.removeDir("a");
    expect(sub.stillNamed(dir, "a")).toBe(false);
    using again = Dir.open(`${root}/a`, { create: true });
    expect(sub.stillNamed(dir, "a")).toBe(false);
    expect(again.stillNamed(dir, "a")).toBe(true);
  });
});

describe("Dir.lock()", () => {
  test("excludes until it is released, and names its holder", () => {
    using dir = Dir.open(root);
    expect(dir.lockHolders()).toEqual([]);
    {
      using held = dir.lock({ deadlineMs: 0 });
      expect(held).toBeDefined();
      const began = monotonicMs();
      expect(dir.lock({ deadlineMs: deadlineIn(60) })).toBeUndefined();
      expect(monotonicMs() - began).toBeGreaterThanOrEqual(59);
      expect(dir.lock({ deadlineMs: 0, shared: true })).toBeUndefined();
      expect(dir.lock({ deadlineMs: deadlineIn(10_000), stop: { requested: true } })).toBeUndefined();
      expect(dir.lockHolders()).toEqual([ownProcessId()]);
    }
    using again = dir.lock({ deadlineMs: 0 });
    expect(again).toBeDefined();
  });

  test("is shared by those who ask so", () => {
    using dir = Dir.open(root);
    using one = dir.lock({ deadlineMs: 0, shared: true });
    using two = dir.lock({ deadlineMs: 0, shared: true });
    expect([one, two].every(Boolean)).toBe(true);
    expect(dir.lock({ deadlineMs: 0 })).toBeUndefined();
  });

  test("ends with the process that held it", async () => {
    using dir = Dir.open(root);
    const script = `
      const { Dir } = await import("${import.meta.dir}/dir.ts");
      const dir = Dir.open("${root}");
      const held = dir.lock({ deadlineMs: 0 });
      console.log(held !== undefined);
      await Bun.sleep(60_000);`;
    const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
    try {
      const { value } = await child.stdout.getReader().read();
      expect(new TextDecoder().decode(value)).toBe("true\n");
      expect(dir.lock({ deadlineMs: 0 })).toBeUndefined();
      expect(dir.lockHolders().map((holder) => holder.pid)).toEqual([child.pid]);
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
    using free = dir.lock({ deadlineMs: deadlineIn(1000) });
    expect(free).toBeDefined();
  });
});

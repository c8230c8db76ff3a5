import { describe, expect, test } from "bun:test";
import { SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { At, check, cstring, errno, fileSystemOf, libc, Open, openat2, Resolve, readAll, stat } from "./libc.ts";

const encoder = new TextEncoder();

describe("libc", () => {
  test("a call holds its buffer: 200,000 calls, each with a fresh one, under forced collections", () => {
    using zero = Fd.open("/dev/zero", Open.READ);
    using none = Fd.open("/dev/null", Open.WRITE);
    const began = performance.now();
    let wrong = 0;
    for (let i = 0; i < 100_000; i++) {
      const bytes = new Uint8Array(1 + (i % 64)).fill(7);
      if (Number(libc().read(zero.raw, bytes, bytes)) !== bytes.length || bytes.some((byte) => byte !== 0)) wrong++;
      if (Number(libc().write(none.raw, new Uint8Array(i % 64), bytes)) !== bytes.length) wrong++;
      if (i % 2000 === 0) Bun.gc(true);
    }
    expect(wrong).toBe(0);
    expect(performance.now() - began).toBeLessThan(5000);
  });

  test("errno() is that of the call just made", () => {
    expect(libc().openat(At.CWD, cstring("/nonexistent"), 0, 0)).toBe(-1);
    expect(errno()).toBe(2);
    expect(libc().close(-1)).toBe(-1);
    expect(errno()).toBe(9);
  });

  test("a result of 64 bits is read whole, and -1 is recognised", () => {
    using file = Fd.open("/dev/zero", Open.READ);
    expect(check(libc().lseek(file.raw, 0, 0), "lseek")).toBe(0);
    expect(() => check(libc().lseek(-1, 0, 0), "lseek", "x")).toThrow('lseek "x": EBADF');
  });

  test.each([[null], [5], ["text"], [undefined]])("a buffer argument refuses %p", (value) => {
    const write = libc().write as (fd: number, bytes: unknown, length: unknown) => unknown;
    expect(() => write(-1, value, value)).toThrow();
  });

  test("cstring() ends with NUL and refuses one within", () => {
    expect(cstring("é")).toEqual(Uint8Array.of(0xc3, 0xa9, 0));
    expect(() => cstring("a\0b")).toThrow(SysError);
  });

  test("readAll() reads what grows beyond its first buffer, and no more than it may", () => {
    const read = (max: number): Uint8Array => {
      using file = Fd.open("/proc/self/environ", Open.READ);
      return readAll(file.raw, max, "environ");
    };
    const path = `/dev/shm/patchbay-sys-${process.pid}`;
    using file = Fd.open(path, Open.READ_WRITE | Open.CREATE | Open.EXCLUSIVE, 0o600);
    try {
      const bytes = encoder.encode("0123456789".repeat(2000));
      libc().write(file.raw, bytes, bytes);
      const all = (max: number): Uint8Array => {
        libc().lseek(file.raw, 0, 0);
        return readAll(file.raw, max);
      };
      expect(all(bytes.length)).toEqual(bytes);
      expect(() => all(bytes.length - 1)).toThrow("EFBIG");
    } finally {
      libc().unlinkat(At.CWD, cstring(path), 0);
    }
    expect(() => read(0)).toThrow("EFBIG");
  });

  test("openat2() refuses what leaves the directory", () => {
    using proc = Fd.open("/proc/self", Open.PATH | Open.DIRECTORY);
    const open = (path: string, resolve: number) => () => openat2(proc.raw, path, Open.READ, resolve);
    expect(open("../version", Resolve.BENEATH)).toThrow("EXDEV");
    expect(open("exe", Resolve.NO_SYMLINKS)).toThrow("ELOOP");
    expect(open("fd/0", Resolve.NO_MAGICLINKS)).toThrow("ELOOP");
    expect(open("absent", Resolve.BENEATH)).toThrow('openat2 "absent": ENOENT');
  });

  test("stat() and fileSystemOf() agree with what is known of /proc", () => {
    using proc = Fd.open("/proc", Open.READ | Open.DIRECTORY);
    expect(fileSystemOf(proc.raw)).toBe(0x9fa0);
    expect(stat(proc.raw, "")).toMatchObject({ uid: 0, inode: 1n, mode: 0o40555 });
  });

  test("every descriptor is closed on exec", () => {
    using file = Fd.open("/dev/null", Open.READ);
    using beneath = Fd.adopt(openat2(At.CWD, "/dev/null", Open.READ, 0), "null");
    const F_GETFD = 1;
    expect([file, beneath].map((fd) => libc().fcntl(fd.raw, F_GETFD, 0))).toEqual([1, 1]);
  });
});

/** Tap devices: links whose other end is a file, for virtual machines. */
import { ptr } from "bun:ffi";
import { deadlineIn } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { statOf } from "./files.ts";
import { check, libc, Open, writeAll } from "./libc.ts";
import { inNetns, type Netns } from "./netns.ts";

const DEVICE = "/dev/net/tun";

// Source: linux/if_tun.h
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNSETGROUP = 0x400454ce;
const IFF_TAP = 0x0002;
const IFF_MULTI_QUEUE = 0x0100;
const IFF_NO_PI = 0x1000;
const IFF_TUN_EXCL = 0x8000;
/** `struct ifreq`: the name, then a union of which flags are the first two bytes. */
const IFREQ_BYTES = 40;
const IFNAMSIZ = 16;

export interface TapOptions {
  readonly name: string;
  readonly multiQueue: boolean;
  /** User and group that may open it, beside those with CAP_NET_ADMIN. Anybody's without both. */
  readonly owner?: number | undefined;
  readonly group?: number | undefined;
}

/**
 * Makes a tap that stays when its file is closed, and never takes one that is there.
 *
 * @param beforeItStays Gives the device the rest of what it needs. Until that has returned the device is gone with this
 * process, however that ends.
 * @throws {SysError} EBUSY when the namespace has a link of that name, ENOENT or ENODEV without the driver
 */
export function makeTap(ns: Netns, o: TapOptions, beforeItStays: () => void): void {
  // The device belongs to the namespace in which the file was opened.
  using file = inNetns(ns, () => Fd.open(DEVICE, Open.READ_WRITE));
  const request = new DataView(new ArrayBuffer(IFREQ_BYTES));
  const name = new TextEncoder().encode(o.name);
  if (name.length >= IFNAMSIZ) throw new SysError("ioctl", Errno.ERANGE, o.name);
  new Uint8Array(request.buffer).set(name);
  const queues = o.multiQueue ? IFF_MULTI_QUEUE : 0;
  request.setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL | queues, true);
  check(libc().ioctl(file.raw, TUNSETIFF, ptr(request)), "ioctl", `${DEVICE} TUNSETIFF`);
  const set = (what: number, value: number, call: string): void =>
    void check(libc().ioctl(file.raw, what, value), "ioctl", `${DEVICE} ${call}`);
  if (o.owner !== undefined) set(TUNSETOWNER, o.owner, "TUNSETOWNER");
  if (o.group !== undefined) set(TUNSETGROUP, o.group, "TUNSETGROUP");
  beforeItStays();
  set(TUNSETPERSIST, 1, "TUNSETPERSIST");
}

const PROGRAM_MS = 5000;
const programs = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"];

/**
 * As `makeTap()`, with an SELinux label. A tap has the label of the program that makes it, and a program gets another
 * label only when it is started; `ip` is the one that policies for taps speak of.
 *
 * @throws {SysError} EOPNOTSUPP where SELinux is off, EINVAL for no label of the policy's, ENOENT without `ip`
 */
export function makeLabelledTap(ns: Netns, o: TapOptions, label: string): void {
  if (statOf("/sys/fs/selinux/enforce") === undefined) throw new SysError("SELinux", Errno.EOPNOTSUPP, label);
  const path = programs.find((candidate) => statOf(candidate) !== undefined);
  if (path === undefined) throw new SysError("execve", Errno.ENOENT, "ip");
  const argv = ["ip", "tuntap", "add", "mode", "tap", "name", o.name];
  if (o.multiQueue) argv.push("multi_queue");
  if (o.owner !== undefined) argv.push("user", String(o.owner));
  if (o.group !== undefined) argv.push("group", String(o.group));
  const { runChild }: typeof import("./child.ts") = require("./child.ts");
  const run = { path, argv, env: {}, stdin: new Uint8Array(0), maxStdoutBytes: 4096, maxStderrBytes: 4096 };
  const outcome = inNetns(ns, () => {
    labelNextProgram(label);
    try {
      return runChild({ ...run, deadlineMs: deadlineIn(PROGRAM_MS) });
    } finally {
      labelNextProgram("");
    }
  });
  if ("exit" in outcome.end && outcome.end.exit === 0) return;
  throw new SysError("ip tuntap add", Errno.EINVAL, new TextDecoder().decode(outcome.stderr).trim());
}

/** Of the program that this thread starts next; "" for the policy's own choice. */
function labelNextProgram(label: string): void {
  using file = Fd.open("/proc/thread-self/attr/exec", Open.WRITE);
  writeAll(file.raw, new TextEncoder().encode(label), "attr/exec");
}

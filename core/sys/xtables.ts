/** The tables of iptables-legacy, which are read by socket options. Source: linux/netfilter_ipv4/ip_tables.h, ip6_tables.h */
import { Errno, isErrno } from "./error.ts";
import { Fd } from "./fd.ts";
import { readText } from "./files.ts";
import { check, libc, Open } from "./libc.ts";
import { inNetns, type Netns } from "./netns.ts";

const SOCK_RAW = 3;
const IPPROTO_RAW = 255;
const GET_INFO = 64;
const GET_ENTRIES = 65;
const NAME_BYTES = 32;
const INFO_BYTES = 84;
const ENTRIES_HEADER_BYTES = 40;
const MAX_NAMES_BYTES = 4096;

const families = {
  4: { domain: 2, level: 0, names: "/proc/thread-self/net/ip_tables_names" },
  6: { domain: 10, level: 41, names: "/proc/thread-self/net/ip6_tables_names" },
} as const;

/** A table as the kernel keeps it: `struct ipt_getinfo`, and the entries of all its chains one after another. */
export interface XtTable {
  readonly name: string;
  /** Offsets into `entries` of a hook's first entry and of the one that is its policy; undefined without that hook. */
  readonly forward: { readonly first: number; readonly policy: number } | undefined;
  readonly entries: Uint8Array;
}

/**
 * The tables that there are in a namespace. Nothing is made: a table is asked for only when it is listed.
 *
 * @throws {SysError}
 */
export function readXtTables(ns: Netns, family: 4 | 6): XtTable[] {
  const { domain, names } = families[family];
  return inNetns<XtTable[]>(ns, () => {
    const listed = namesIn(names);
    if (listed.length === 0) return [];
    const raw = check(libc().socket(domain, SOCK_RAW | Open.CLOEXEC, IPPROTO_RAW), "socket", "raw");
    using socket = Fd.adopt(raw, "xtables socket");
    return listed.map((name) => readTable(socket.raw, family, name));
  });
}

function namesIn(path: string): string[] {
  try {
    return readText(path, MAX_NAMES_BYTES)
      .split("\n")
      .filter((name) => name !== "");
  } catch (thrown) {
    if (isErrno(thrown, Errno.ENOENT)) return [];
    throw thrown;
  }
}

/** How often a table is read that changes meanwhile. */
const TRIES = 10;

function readTable(socket: number, family: 4 | 6, name: string): XtTable {
  for (let attempt = 1; ; attempt++) {
    try {
      return readTableOnce(socket, family, name);
    } catch (thrown) {
      if (attempt === TRIES || !isErrno(thrown, Errno.EAGAIN)) throw thrown;
    }
  }
}

function readTableOnce(socket: number, family: 4 | 6, name: string): XtTable {
  const { level } = families[family];
  const get = (option: number, value: Uint8Array): void => {
    value.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES - 1));
    const length = Uint32Array.of(value.length);
    check(libc().getsockopt(socket, level, option, value, length), "getsockopt", `table ${name}`);
  };
  const info = new Uint8Array(INFO_BYTES);
  get(GET_INFO, info);
  // u32 valid_hooks, hook_entry[5], underflow[5], num_entries, size; hook 2 is FORWARD
  const word = (at: number): number => new DataView(info.buffer).getUint32(NAME_BYTES + at, true);
  const size = word(48);
  const entries = new Uint8Array(ENTRIES_HEADER_BYTES + size);
  new DataView(entries.buffer).setUint32(NAME_BYTES, size, true);
  get(GET_ENTRIES, entries);
  const forward = (word(0) & 4) === 0 ? undefined : { first: word(4 + 8), policy: word(24 + 8) };
  return { name, forward, entries: entries.subarray(ENTRIES_HEADER_BYTES) };
}

// The guest as a process: WASI preview 1, and nothing of it but what a CNI plugin needs.
import { Writer } from "./writer";

@external("wasi_snapshot_preview1", "fd_read")
declare function fd_read(fd: i32, vectors: usize, count: i32, got: usize): i32;
@external("wasi_snapshot_preview1", "fd_write")
declare function fd_write(fd: i32, vectors: usize, count: i32, put: usize): i32;
@external("wasi_snapshot_preview1", "environ_sizes_get")
declare function environ_sizes_get(count: usize, bytes: usize): i32;
@external("wasi_snapshot_preview1", "environ_get")
declare function environ_get(pointers: usize, block: usize): i32;
@external("wasi_snapshot_preview1", "proc_exit")
declare function proc_exit(code: i32): void;

/** The version in which this SDK writes results and errors; the host converts for older configurations. */
export const CNI_VERSION = "1.1.0";

// One `iovec` (address, length) and the count that fd_read and fd_write hand back.
const vector = memory.data(12, 4);

function write(fd: i32, at: usize, length: i32): void {
  while (length > 0) {
    store<u32>(vector, <u32>at);
    store<u32>(vector, length, 4);
    if (fd_write(fd, vector, 1, vector + 8) != 0) return;
    const put = load<i32>(vector, 8);
    if (put <= 0) return;
    at += put;
    length -= put;
  }
}

/** Writes to stdout, which is to carry exactly one JSON document. */
export function stdout(document: Writer): void {
  write(1, document.start, document.length);
}

/** A line for the host's log; needs no grant. */
export function stderr(line: string): void {
  const out = new Writer();
  out.plain(line);
  out.byte(10);
  write(2, out.start, out.length);
}

/** Where stdin was read to, and how many bytes it had. */
export let stdinStart: usize = 0;
export let stdinLength: i32 = 0;

/** Reads stdin to its end; the host bounds it at 256 KiB. */
export function readStdin(): void {
  let room = 16384;
  let block = heap.alloc(room);
  let length = 0;
  while (true) {
    if (length == room) {
      room <<= 1;
      block = heap.realloc(block, room);
    }
    store<u32>(vector, <u32>(block + length));
    store<u32>(vector, room - length, 4);
    if (fd_read(0, vector, 1, vector + 8) != 0) break;
    const got = load<i32>(vector, 8);
    if (got <= 0) break;
    length += got;
  }
  stdinStart = block;
  stdinLength = length;
}

let environment: usize = 0;
let environmentEnd: usize = 0;

function readEnvironment(): void {
  if (environ_sizes_get(vector, vector + 4) != 0) return;
  const count = load<i32>(vector);
  const bytes = load<i32>(vector, 4);
  const pointers = heap.alloc(count * 4 + bytes + 1);
  environment = pointers + count * 4;
  environmentEnd = environment + bytes;
  if (environ_get(pointers, environment) != 0) environmentEnd = environment;
}

/** The value of an environment variable such as `CNI_IFNAME`; "" when there is none. */
export function env(name: string): string {
  if (environment == 0) readEnvironment();
  let at = environment;
  while (at < environmentEnd) {
    let end = at;
    while (end < environmentEnd && load<u8>(end) != 0) end++;
    let i = 0;
    while (i < name.length && at + i < end && load<u8>(at + i) == <u8>name.charCodeAt(i)) i++;
    if (i == name.length && at + i < end && load<u8>(at + i) == 0x3d) {
      return String.UTF8.decodeUnsafe(at + i + 1, end - at - i - 1);
    }
    at = end + 1;
  }
  return "";
}

/** The interface that this run is about: `CNI_IFNAME`. */
export function ifname(): string {
  return env("CNI_IFNAME");
}

/** One value of `CNI_ARGS` (`KEY=value;KEY=value`); "" when there is none. */
export function cniArg(key: string): string {
  const all = env("CNI_ARGS");
  let at = 0;
  while (at < all.length) {
    let end = all.indexOf(";", at);
    if (end < 0) end = all.length;
    if (end - at > key.length && all.charCodeAt(at + key.length) == 0x3d && all.substr(at, key.length) == key) {
      return all.substring(at + key.length + 1, end);
    }
    at = end + 1;
  }
  return "";
}

/** Ends the run. */
export function exit(code: i32): void {
  proc_exit(code);
  unreachable(); // a host that lets proc_exit return must not let the plugin go on
}

/**
 * Ends the run with a CNI error.
 *
 * @param code 7 for a fault of the configuration, 200 and up for the plugin's own.
 * @param message Starts with "Cannot", names the thing in quotes, without a full stop.
 * @param remedy What to do next: one sentence in the imperative.
 */
export function fail(code: i32, message: string, remedy: string): void {
  const out = new Writer();
  out.beginObject();
  out.text("cniVersion", CNI_VERSION);
  out.integer("code", code);
  out.text("msg", message);
  out.text("details", remedy);
  out.endObject();
  stdout(out);
  exit(1);
}

/** What the compiler calls instead of `abort`: a guest never dies without a document. */
export function aborted(message: string | null, file: string | null, line: u32, column: u32): void {
  const out = new Writer();
  out.plain("Cannot go on: ");
  out.plain(message === null ? "the plugin gave up" : message);
  out.plain(" at ");
  out.plain(file === null ? "(unknown file)" : file);
  out.byte(58);
  out.decimal(line);
  out.byte(58);
  out.decimal(column);
  fail(999, out.toString(), "Report this to the plugin's author");
}

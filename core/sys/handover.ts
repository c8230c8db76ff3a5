/**
 * The near end of the worker's socket: how a process that the runtime started asks the node's worker to do its
 * operation. It is all that such a process loads when there is a worker, so it has a table of functions of its own.
 *
 * On the stream: a request (length of the call, length of the input, both 32 bits; the call as JSON; the input as it
 * came); one byte from the worker, which takes it; one byte to the worker, from which on the operation is its own; the
 * answer (exit code, length of the output, length of the log, 32 bits each; output; log). Whoever closes before its
 * byte has no part in it, so an operation is done by one of the two and never by both.
 */
import { dlopen, FFIType, read } from "bun:ffi";

export const workerSocket = "/run/patchbay/worker.sock";
/** What a worker reads of one request. A larger one, which nobody sends, is for the process itself. */
export const maxRequestBytes = 128 << 10;
export const requestHeaderBytes = 8;
export const answerHeaderBytes = 12;
/** The byte of either side. */
export const agreed = 0x21;

/** What the worker is told of the process; its environment, and the name and directory it was started by and in. */
export interface HandedCall {
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly startedAs: string;
  readonly directory: string;
}

export type Handed =
  /** Nothing was begun. What was read of stdin is in `input`; there may be more. */
  | { readonly is: "declined"; readonly input: Uint8Array }
  /** The worker had begun, and is gone. */
  | { readonly is: "lost"; readonly input: Uint8Array }
  | { readonly is: "done"; readonly exit: number; readonly output: Uint8Array; readonly log: Uint8Array };

/**
 * A worker that is free answers within a twentieth of that. One that is at work lets one request wait, and what it is
 * at takes less than that; after it, doing the work oneself is sooner.
 */
const PATIENCE_MS = 20;

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const MSG_NOSIGNAL = 0x4000;
const POLLIN = 1;
const EINTR = 4;
const EAGAIN = 11;

const open = () =>
  dlopen("libc.so.6", {
    socket: { args: ["i32", "i32", "i32"], returns: "i32" },
    connect: { args: ["i32", "buffer", "buffer_length"], returns: "i32" },
    send: { args: ["i32", "buffer", "buffer_length", "i32"], returns: FFIType.i64_fast },
    read: { args: ["i32", "buffer", "buffer_length"], returns: FFIType.i64_fast },
    write: { args: ["i32", "buffer", "buffer_length"], returns: FFIType.i64_fast },
    poll: { args: ["buffer", "u64", "i32"], returns: "i32" },
    close: { args: ["i32"], returns: "i32" },
    __errno_location: { args: [], returns: "ptr" },
  }).symbols;
type Functions = ReturnType<typeof open>;

/** `struct sockaddr_un` */
export function socketAddress(path: string): Uint8Array {
  const bytes = new Uint8Array(2 + path.length + 1);
  bytes[0] = AF_UNIX;
  new TextEncoder().encodeInto(path, bytes.subarray(2));
  return bytes;
}

const nothing = new Uint8Array(0);

/** Hands the operation over, if the node has a worker that takes it. Reads stdin when there is one to ask. */
export function handOver(call: HandedCall, path = workerSocket): Handed {
  const libc = open();
  const fd = libc.socket(AF_UNIX, SOCK_STREAM_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return { is: "declined", input: nothing };
  const address = socketAddress(path);
  if (libc.connect(fd, address, address) !== 0) {
    libc.close(fd);
    return { is: "declined", input: nothing };
  }
  const input = readInput(libc);
  const begun = input.length < maxRequestBytes && begin(libc, fd, request(call, input));
  const answer = begun ? readAnswer(libc, fd) : undefined;
  libc.close(fd);
  return answer ?? { is: begun ? "lost" : "declined", input };
}

/** Writes what the worker said to our own stdout or stderr. */
export function pass(fd: 1 | 2, bytes: Uint8Array): void {
  const libc = open();
  for (let done = 0; done < bytes.length; ) {
    const rest = bytes.subarray(done);
    const wrote = Number(libc.write(fd, rest, rest));
    if (wrote > 0) done += wrote;
    else if (wait(libc, fd, 4, -1) === 0) return;
  }
}

const errno = (libc: Functions): number => {
  const at = libc.__errno_location();
  return at === null ? 0 : read.i32(at);
};

/** @returns the events of one descriptor; 0 when the time is over */
function wait(libc: Functions, fd: number, events: number, timeoutMs: number): number {
  const set = new Int16Array(4);
  new Int32Array(set.buffer)[0] = fd;
  set[2] = events;
  for (;;) {
    const ready = libc.poll(set, 1, timeoutMs);
    if (ready >= 0) return ready === 0 ? 0 : (set[3] ?? 0);
    if (errno(libc) !== EINTR) return 0;
  }
}

/** @returns how many bytes there were, 0 at the end or after a failure */
function readSome(libc: Functions, fd: number, into: Uint8Array): number {
  for (;;) {
    const got = Number(libc.read(fd, into, into));
    if (got >= 0) return got;
    const code = errno(libc);
    if (code === EAGAIN) {
      if (wait(libc, fd, POLLIN, -1) === 0) return 0;
    } else if (code !== EINTR) return 0;
  }
}

/** stdin to its end, or as much of it as a request can hold. */
function readInput(libc: Functions): Uint8Array {
  const buffer = new Uint8Array(maxRequestBytes);
  let length = 0;
  while (length < buffer.length) {
    const got = readSome(libc, 0, buffer.subarray(length));
    if (got === 0) break;
    length += got;
  }
  return buffer.subarray(0, length);
}

function request(call: HandedCall, input: Uint8Array): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(call));
  const bytes = new Uint8Array(requestHeaderBytes + text.length + input.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, text.length, true);
  view.setUint32(4, input.length, true);
  bytes.set(text, requestHeaderBytes);
  bytes.set(input, requestHeaderBytes + text.length);
  return bytes;
}

/** @returns whether the operation is the worker's now */
function begin(libc: Functions, fd: number, bytes: Uint8Array): boolean {
  if (Number(libc.send(fd, bytes, bytes, MSG_NOSIGNAL)) !== bytes.length) return false;
  if (wait(libc, fd, POLLIN, PATIENCE_MS) === 0) return false;
  const byte = new Uint8Array(1);
  if (readSome(libc, fd, byte) !== 1 || byte[0] !== agreed) return false;
  return Number(libc.send(fd, byte, byte, MSG_NOSIGNAL)) === 1;
}

/** @returns undefined when it ends before it is whole */
function readAnswer(libc: Functions, fd: number): Handed | undefined {
  let buffer = new Uint8Array(16 << 10);
  let length = 0;
  for (;;) {
    const got = readSome(libc, fd, buffer.subarray(length));
    if (got === 0) return undefined;
    length += got;
    if (length >= answerHeaderBytes) {
      const view = new DataView(buffer.buffer);
      const outputEnd = answerHeaderBytes + view.getUint32(4, true);
      const end = outputEnd + view.getUint32(8, true);
      if (length >= end) {
        const output = buffer.subarray(answerHeaderBytes, outputEnd);
        return { is: "done", exit: view.getUint32(0, true), output, log: buffer.subarray(outputEnd, end) };
      }
    }
    if (length === buffer.length) {
      const larger = new Uint8Array(length * 4);
      larger.set(buffer);
      buffer = larger;
    }
  }
}

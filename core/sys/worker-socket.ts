/** The far end of the worker's socket: takes operations over from processes that are what we are, where we are. */
import { dlopen, FFIType } from "bun:ffi";
import { deadlineIn, leftMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import {
  agreed,
  answerHeaderBytes,
  type HandedCall,
  maxRequestBytes,
  requestHeaderBytes,
  socketAddress,
  workerSocket,
} from "./handover.ts";
import { At, check, cstring, errno, libc, Open, type Stat, statTarget, statTargetIfThere } from "./libc.ts";
import { POLLIN, POLLOUT, pollOne } from "./poll.ts";
import type { Stop } from "./stop.ts";

const open = () =>
  dlopen("libc.so.6", {
    // int listen(int fd, int backlog)
    listen: { args: ["i32", "i32"], returns: "i32" },
    // int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
    accept4: { args: ["i32", "u64", "u64", "i32"], returns: "i32" },
    // int connect(int fd, const struct sockaddr *address, socklen_t length)
    connect: { args: ["i32", "buffer", "buffer_length"], returns: "i32" },
    // ssize_t send(int fd, const void *buf, size_t n, int flags)
    send: { args: ["i32", "buffer", "buffer_length", "i32"], returns: FFIType.i64_fast },
    // int epoll_create1(int flags)
    epoll_create1: { args: ["i32"], returns: "i32" },
    // int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
    epoll_ctl: { args: ["i32", "i32", "i32", "buffer"], returns: "i32" },
  }).symbols;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const MSG_NOSIGNAL = 0x4000;
const CLOEXEC_NONBLOCK = Open.CLOEXEC | Open.NONBLOCK;
const EPOLL_CTL_ADD = 1;
/** How long a process that has asked may take to send the rest, or to agree. It gives us up much sooner. */
const PEER_MS = 1000;

const IDLE_MS = 1000;

/** By what a process is told to be where we are: namespaces, root directory, and the program itself. */
const sameness = ["exe", "root", "ns/mnt", "ns/net", "ns/pid", "ns/user"] as const;

export interface WorkerSocket extends Disposable {
  /**
   * Waits for the next process that asks.
   *
   * @param rest Called once when nobody asks for a second.
   * @returns undefined when `stop` came first, or that process is no concern of ours
   */
  next(stop: Stop, rest: () => void): HandedOver | undefined;
  /** The program was replaced since we were started: those who ask now are another version. */
  readonly outdated: boolean;
}

/** One operation, agreed upon: it is ours now, to its end. */
export interface HandedOver extends Disposable {
  readonly call: HandedCall;
  readonly input: Uint8Array;
  /** A signal to us, or the end of the process that handed it over. */
  readonly stop: Stop;
  answer(exit: number, output: Uint8Array, log: Uint8Array): void;
}

/**
 * @param path Its directory exists.
 * @throws {SysError} EADDRINUSE when another worker listens there.
 */
export function listenForWork(path = workerSocket): WorkerSocket {
  const functions = open();
  const address = socketAddress(path);
  const socket = (): Fd =>
    Fd.adopt(check(libc().socket(AF_UNIX, SOCK_STREAM | CLOEXEC_NONBLOCK, 0), "socket", path), "worker socket");
  {
    using probe = socket();
    const answered = functions.connect(probe.raw, address, address) === 0 || errno() === Errno.EAGAIN;
    if (answered) throw new SysError("bind", Errno.EADDRINUSE, path);
  }
  libc().unlinkat(At.CWD, cstring(path), 0); // of a worker that is gone; where there is none that is no matter
  const listener = socket();
  try {
    check(libc().bind(listener.raw, address, address), "bind", path);
    // One may wait. The next ones are told at once, and do their work themselves.
    check(functions.listen(listener.raw, 0), "listen", path);
  } catch (thrown) {
    listener[Symbol.dispose]();
    throw thrown;
  }
  const inode = statTarget(path).inode;
  const own = new Map(sameness.map((what) => [what, statTarget(`/proc/self/${what}`)]));
  return {
    next: (stop, rest) => {
      wait(functions, listener, stop, rest);
      return stop.requested ? undefined : accept(functions, listener, own, stop);
    },
    get outdated() {
      const now = statTargetIfThere(programPath);
      return now === undefined || !isSameFile(now, own.get("exe"));
    },
    [Symbol.dispose]() {
      if (statTargetIfThere(path)?.inode === inode) libc().unlinkat(At.CWD, cstring(path), 0);
      listener[Symbol.dispose]();
    },
  };
}

/** Where we were started from; what is there now may be another file. */
const programPath = process.execPath;

const isSameFile = (a: Stat, b: Stat | undefined): boolean => a.inode === b?.inode && a.device === b.device;

type Functions = ReturnType<typeof open>;

function wait(functions: Functions, listener: Fd, stop: Stop, rest: () => void): void {
  using either = whicheverComes(functions, stop.fd, listener.raw);
  if (pollOne(either.fd, POLLIN, IDLE_MS) !== 0) return;
  rest();
  while (pollOne(either.fd, POLLIN, -1) === 0); // interrupted
}

function accept(
  functions: Functions,
  listener: Fd,
  own: ReadonlyMap<string, Stat>,
  stop: Stop,
): HandedOver | undefined {
  const raw = functions.accept4(listener.raw, 0, 0, CLOEXEC_NONBLOCK);
  if (raw < 0) return undefined; // it has given up already
  const peer = Fd.adopt(raw, "handed over");
  try {
    const asked = isOurKind(peer, own) ? readRequest(peer) : undefined;
    if (asked !== undefined && agree(functions, peer)) return handedOver(functions, peer, asked, stop);
  } catch (thrown) {
    if (!(thrown instanceof SysError) && !(thrown instanceof SyntaxError)) throw thrown; // it is gone, or not one of us
  }
  peer[Symbol.dispose]();
  return undefined;
}

function handedOver(functions: Functions, peer: Fd, asked: Pick<HandedOver, "call" | "input">, stop: Stop): HandedOver {
  const either = whicheverComes(functions, stop.fd, peer.raw);
  return {
    ...asked,
    stop: either,
    answer(exit, output, log) {
      const bytes = new Uint8Array(answerHeaderBytes + output.length + log.length);
      const view = new DataView(bytes.buffer);
      [exit, output.length, log.length].forEach((number, i) => {
        view.setUint32(i * 4, number, true);
      });
      bytes.set(output, answerHeaderBytes);
      bytes.set(log, answerHeaderBytes + output.length);
      sendAll(functions, peer, bytes);
    },
    [Symbol.dispose]() {
      either[Symbol.dispose]();
      peer[Symbol.dispose]();
    },
  };
}

/** Both as one descriptor for poll(2). After an operation is agreed upon its process sends nothing: readable is gone. */
function whicheverComes(functions: Functions, ...fds: readonly number[]): Stop & Disposable {
  const set = Fd.adopt(check(functions.epoll_create1(Open.CLOEXEC), "epoll_create1"), "epoll");
  const event = new Uint32Array(4); // packed on x86_64; what is asked for is in its first word on either
  event[0] = POLLIN;
  for (const fd of fds) check(functions.epoll_ctl(set.raw, EPOLL_CTL_ADD, fd, event), "epoll_ctl");
  return {
    get requested() {
      return pollOne(set.raw, POLLIN, 0) !== 0;
    },
    fd: set.raw,
    [Symbol.dispose]: () => set[Symbol.dispose](),
  };
}

/** Whether the process at the other end is our user's, runs our very program, and sees what we see. */
function isOurKind(peer: Fd, own: ReadonlyMap<string, Stat>): boolean {
  /** `struct ucred { pid, uid, gid }` */
  const credentials = new Uint32Array(3);
  check(libc().getsockopt(peer.raw, SOL_SOCKET, SO_PEERCRED, credentials, Uint32Array.of(12)), "getsockopt");
  const [pid = 0, uid] = credentials;
  if (pid === 0 || uid !== process.geteuid?.()) return false;
  for (const [what, stat] of own) {
    const theirs = statTargetIfThere(`/proc/${pid}/${what}`);
    if (theirs === undefined || !isSameFile(theirs, stat)) return false;
  }
  return true;
}

function readRequest(peer: Fd): Pick<HandedOver, "call" | "input"> | undefined {
  const deadlineMs = deadlineIn(PEER_MS);
  const header = readExactly(peer, requestHeaderBytes, deadlineMs);
  if (header === undefined) return undefined;
  const view = new DataView(header.buffer);
  const callBytes = view.getUint32(0, true);
  const inputBytes = view.getUint32(4, true);
  // The environment comes on top of the input, and no environment is larger than that.
  if (callBytes > maxRequestBytes * 2 || inputBytes > maxRequestBytes) return undefined;
  const body = readExactly(peer, callBytes + inputBytes, deadlineMs);
  if (body === undefined) return undefined;
  const call = JSON.parse(new TextDecoder().decode(body.subarray(0, callBytes))) as HandedCall;
  return { call, input: body.subarray(callBytes) };
}

function agree(functions: Functions, peer: Fd): boolean {
  const byte = Uint8Array.of(agreed);
  sendAll(functions, peer, byte);
  return readExactly(peer, 1, deadlineIn(PEER_MS))?.[0] === agreed;
}

/** @returns undefined when it ends before, or takes too long */
function readExactly(peer: Fd, length: number, deadlineMs: number): Uint8Array | undefined {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const rest = bytes.subarray(done);
    const got = Number(libc().read(peer.raw, rest, rest));
    if (got === 0) return undefined;
    if (got > 0) {
      done += got;
      continue;
    }
    const code = errno();
    if (code !== Errno.EAGAIN && code !== Errno.EINTR) throw new SysError("read", code, peer.what);
    if (pollOne(peer.raw, POLLIN, leftMs(deadlineMs)) === 0 && leftMs(deadlineMs) === 0) return undefined;
  }
  return bytes;
}

/** @throws {SysError} EPIPE when nobody is there any more */
function sendAll(functions: Functions, peer: Fd, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length; ) {
    const rest = bytes.subarray(done);
    const sent = Number(functions.send(peer.raw, rest, rest, MSG_NOSIGNAL));
    if (sent >= 0) {
      done += sent;
      continue;
    }
    const code = errno();
    if (code === Errno.EAGAIN) {
      if (pollOne(peer.raw, POLLOUT, PEER_MS) === 0) throw new SysError("send", Errno.ETIMEDOUT, peer.what);
    } else if (code !== Errno.EINTR) throw new SysError("send", code, peer.what);
  }
}

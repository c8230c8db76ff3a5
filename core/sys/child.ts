import { ptr } from "bun:ffi";
import { leftMs, monotonicMs, sleepMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { check, cstring, errno, libc, libcProcesses, Open, syscall } from "./libc.ts";
import { POLLIN, POLLOUT, Poll } from "./poll.ts";
import { type ProcessId, processStat } from "./process-id.ts";
import type { Stop } from "./stop.ts";

export { endGroup } from "./group.ts";
export { isAlive, ownProcessId, type ProcessId } from "./process-id.ts";

export interface ChildSpec {
  /** Of the program; it is not looked for anywhere. */
  readonly path: string;
  /** With the name it is called by first. */
  readonly argv: readonly string[];
  /** The whole environment, nothing is added. */
  readonly env: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly stdin: Uint8Array;
  /** On the clock of `monotonicMs()`. */
  readonly deadlineMs: number;
  readonly maxStdoutBytes: number;
  readonly maxStderrBytes: number;
  /** Hears of the process before anything is written to its stdin. If it throws, the process is ended. */
  onStart?(id: ProcessId): void;
  /** Ends the process when it is requested. */
  readonly stop?: Stop;
}

export interface ChildOutcome {
  readonly end:
    | { readonly exit: number }
    | { readonly signal: number }
    | { readonly timedOut: true }
    | { readonly stopped: true }
    | { readonly overflow: "stdout" | "stderr" };
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
}

type Cut = Exclude<ChildOutcome["end"], { exit: number } | { signal: number }>;

/** How long output is awaited after the process itself has ended, when one that it started still holds a pipe. */
const DRAIN_MS = 100;
/** How long a killed process may take to be gone: it may be in an uninterruptible call. */
const KILLED_MS = 2000;
const BUSY_TRIES = 5;
const BUSY_PAUSE_MS = 1000;

const SIGKILL = 9;
const SIGCHLD = 17;
const SETPGROUP = 2;
const SETSIGDEF = 4;
const SETSIGMASK = 8;
const F_SETFL = 4;
const P_PID = 1;
const WNOHANG = 1;
const WEXITED = 4;
const CLD_EXITED = 1;
const SYS_pidfd_open = 434; // the same on every architecture, as all since 424
const SYS_close_range = 436;
const CLOSE_RANGE_CLOEXEC = 4;
const SIGACTION_BYTES = 152;

/**
 * Runs a program to its end, and blocks until then. It gets a process group of its own, default signals, no
 * descriptor but the three, and exactly the environment given. On a timeout, a stop or too much output the whole group
 * is killed.
 *
 * What a program starts and leaves behind when it ends by itself is left alone, and does not keep us waiting either
 * (for more than 0.1 s).
 *
 * @throws {SysError} if it cannot be started; whatever `onStart` throws
 */
export function runChild(spec: ChildSpec): ChildOutcome {
  const none = new Uint8Array(0);
  if (spec.stop?.requested) return { end: { stopped: true }, stdout: none, stderr: none };
  using pipes = new DisposableStack();
  const [stdinRead, stdinWrite] = pipe(pipes);
  const [stdoutRead, stdoutWrite] = pipe(pipes);
  const [stderrRead, stderrWrite] = pipe(pipes);
  for (const ours of [stdinWrite, stdoutRead, stderrRead]) {
    check(libc().fcntl(ours.raw, F_SETFL, Open.NONBLOCK), "fcntl", "pipe");
  }
  const started = start(spec, [stdinRead.raw, stdoutWrite.raw, stderrWrite.raw]);
  if (typeof started !== "number") return { end: started, stdout: none, stderr: none };
  const child = new Child(started);
  let ended = false;
  try {
    for (const theirs of [stdinRead, stdoutWrite, stderrWrite]) theirs[Symbol.dispose]();
    using pidfd = Fd.adopt(check(syscall(SYS_pidfd_open, child.pid, 0, 0), "pidfd_open"), "pidfd");
    spec.onStart?.(child.id());
    const stdin = new Input(stdinWrite, spec.stdin);
    const stdout = new Output(stdoutRead, spec.maxStdoutBytes);
    const stderr = new Output(stderrRead, spec.maxStderrBytes);
    const cut = converse(spec, pidfd, stdin, stdout, stderr);
    const end = cut === undefined ? child.reap() : child.kill(cut, pidfd);
    ended = true;
    return { end, stdout: stdout.bytes(), stderr: stderr.bytes() };
  } finally {
    if (!ended) child.kill({ stopped: true }); // an exception is on its way: leave nothing running
  }
}

/** Moves bytes until the process has ended. @returns why it has to be cut short, undefined when it ended by itself */
function converse(spec: ChildSpec, pidfd: Fd, stdin: Input, stdout: Output, stderr: Output): Cut | undefined {
  const poll = new Poll();
  let deadlineMs = spec.deadlineMs;
  let ended = false;
  for (;;) {
    poll.clear();
    const atEnd = ended ? -1 : poll.add(pidfd.raw, POLLIN);
    const atStop = ended || spec.stop === undefined ? -1 : poll.add(spec.stop.fd, POLLIN);
    const atStdin = ended || stdin.done ? -1 : poll.add(stdin.fd, POLLOUT);
    const atStdout = stdout.done ? -1 : poll.add(stdout.fd, POLLIN);
    const atStderr = stderr.done ? -1 : poll.add(stderr.fd, POLLIN);
    const left = leftMs(deadlineMs);
    const ready = poll.wait(left);
    if (poll.events(atStdin)) stdin.write();
    // The end is looked at before the output is read: what the process wrote before it is then surely in the pipe.
    const endedNow = poll.events(atEnd) !== 0;
    if (poll.events(atStdout) || endedNow) stdout.read();
    if (poll.events(atStderr) || endedNow) stderr.read();
    if (stdout.overflow) return { overflow: "stdout" };
    if (stderr.overflow) return { overflow: "stderr" };
    if (endedNow) {
      ended = true;
      deadlineMs = Math.min(deadlineMs, monotonicMs() + DRAIN_MS);
    }
    if (ended && ((stdout.done && stderr.done) || leftMs(deadlineMs) === 0)) return undefined;
    if (poll.events(atStop)) return { stopped: true };
    if (ready === 0 && leftMs(deadlineMs) === 0 && !ended) return { timedOut: true };
  }
}

class Child {
  readonly pid: number;

  constructor(pid: number) {
    this.pid = pid;
  }

  /** Not reaped yet, so the process and its start time are there even if it has ended. */
  id(): ProcessId {
    return { pid: this.pid, startTime: processStat(this.pid)?.startTime ?? "0" };
  }

  /** Asks how it ended, which removes it from the process table. */
  reap(): { exit: number } | { signal: number } {
    const info = new DataView(new ArrayBuffer(128)); // siginfo_t: code at 8, pid at 16, status at 24
    check(libcProcesses().waitid(P_PID, this.pid, info, WEXITED), "waitid", `pid ${this.pid}`);
    const status = info.getInt32(24, true);
    return info.getInt32(8, true) === CLD_EXITED ? { exit: status } : { signal: status };
  }

  /** Kills the group. The number cannot be another's: the process is not reaped yet. */
  kill(cut: Cut, pidfd?: Fd): Cut {
    libcProcesses().kill(-this.pid, SIGKILL);
    const info = new DataView(new ArrayBuffer(128));
    if (pidfd !== undefined) {
      const poll = new Poll();
      poll.add(pidfd.raw, POLLIN);
      for (const deadline = monotonicMs() + KILLED_MS; poll.wait(leftMs(deadline)) === 0 && leftMs(deadline) > 0; );
      libcProcesses().waitid(P_PID, this.pid, info, WEXITED | WNOHANG);
      return cut;
    }
    for (const deadline = monotonicMs() + KILLED_MS; leftMs(deadline) > 0; sleepMs(1)) {
      const failed = libcProcesses().waitid(P_PID, this.pid, info, WEXITED | WNOHANG) !== 0;
      if (failed || info.getInt32(16, true) !== 0) break;
    }
    return cut;
  }
}

/** What is written to the process. One that does not read it all is no failure of ours. */
class Input {
  readonly #pipe: Fd;
  #rest: Uint8Array;

  constructor(pipe: Fd, bytes: Uint8Array) {
    this.#pipe = pipe;
    this.#rest = bytes;
    if (bytes.length === 0) pipe[Symbol.dispose]();
  }

  get done(): boolean {
    return this.#pipe.released;
  }

  get fd(): number {
    return this.#pipe.raw;
  }

  write(): void {
    const wrote = Number(libc().write(this.#pipe.raw, this.#rest, this.#rest));
    if (wrote < 0) {
      const code = errno();
      if (code === Errno.EAGAIN || code === Errno.EINTR) return;
      if (code !== Errno.EPIPE) throw new SysError("write", code, "stdin of a child");
      this.#rest = new Uint8Array(0);
    } else {
      this.#rest = this.#rest.subarray(wrote);
    }
    if (this.#rest.length === 0) this.#pipe[Symbol.dispose]();
  }
}

/** What the process writes, up to a bound. */
class Output {
  readonly #pipe: Fd;
  readonly #max: number;
  #buffer = new Uint8Array(4096);
  #length = 0;

  constructor(pipe: Fd, max: number) {
    this.#pipe = pipe;
    this.#max = max;
  }

  /** Every writer has closed it. */
  get done(): boolean {
    return this.#pipe.released;
  }

  get fd(): number {
    return this.#pipe.raw;
  }

  get overflow(): boolean {
    return this.#length > this.#max;
  }

  bytes(): Uint8Array {
    return this.#buffer.slice(0, Math.min(this.#length, this.#max));
  }

  /** Reads all that is there now. */
  read(): void {
    while (!this.done && !this.overflow) {
      if (this.#length === this.#buffer.length) {
        const larger = new Uint8Array(this.#length * 4);
        larger.set(this.#buffer);
        this.#buffer = larger;
      }
      const room = this.#buffer.subarray(this.#length);
      const got = Number(libc().read(this.#pipe.raw, room, room));
      if (got > 0) {
        this.#length += got;
      } else if (got === 0) {
        this.#pipe[Symbol.dispose]();
      } else {
        const code = errno();
        if (code === Errno.EAGAIN) return;
        if (code !== Errno.EINTR) throw new SysError("read", code, "output of a child");
      }
    }
  }
}

function pipe(owner: DisposableStack): [Fd, Fd] {
  const ends = new Int32Array(2);
  check(libcProcesses().pipe2(ends, Open.CLOEXEC), "pipe2");
  const [read = -1, write = -1] = ends;
  return [owner.use(Fd.adopt(read, "pipe")), owner.use(Fd.adopt(write, "pipe"))];
}

/** Strings as C wants an `argv` or `environ`: a table of addresses that ends with 0, and the strings it points to. */
function stringTable(strings: readonly string[]): Uint8Array {
  const encoded = strings.map(cstring);
  const tableBytes = (strings.length + 1) * 8;
  // On an ArrayBuffer of its own, which never moves; small arrays without one may.
  const block = new Uint8Array(new ArrayBuffer(encoded.reduce((sum, bytes) => sum + bytes.length, tableBytes)));
  const view = new DataView(block.buffer);
  const address = BigInt(ptr(block));
  let at = tableBytes;
  encoded.forEach((bytes, i) => {
    view.setBigUint64(i * 8, address + BigInt(at), true);
    block.set(bytes, at);
    at += bytes.length;
  });
  return block;
}

/** @returns the pid, or why it was given up while the program's file was open for writing */
function start(spec: ChildSpec, stdio: readonly [number, number, number]): number | Cut {
  keepChildren();
  // Whatever the runtime left open in us does not concern a plugin. Linux 5.11; before that it stays open.
  syscall(SYS_close_range, 3, 0xffffffff, CLOSE_RANGE_CLOEXEC);
  for (let tries = 1; ; tries++) {
    const { code, pid } = spawn(spec, stdio);
    if (code === 0) return pid;
    if (code !== Errno.ETXTBSY || tries > BUSY_TRIES) throw new SysError("posix_spawn", code, spec.path);
    // Somebody is just installing the program, or a fork of theirs still has it open.
    const poll = new Poll();
    if (spec.stop !== undefined) poll.add(spec.stop.fd, POLLIN);
    poll.wait(leftMs(spec.deadlineMs, BUSY_PAUSE_MS));
    if (spec.stop?.requested) return { stopped: true };
    if (leftMs(spec.deadlineMs) === 0) return { timedOut: true };
  }
}

function spawn(spec: ChildSpec, stdio: readonly [number, number, number]): { code: number; pid: number } {
  const c = libcProcesses();
  const answered = (code: number, call: string): void => {
    if (code !== 0) throw new SysError(call, code, spec.path);
  };
  // glibc's types have 80 and 336 bytes.
  const actions = new Uint8Array(128);
  const attributes = new Uint8Array(512);
  using memory = new DisposableStack();
  answered(c.posix_spawn_file_actions_init(actions), "posix_spawn_file_actions_init");
  memory.defer(() => void c.posix_spawn_file_actions_destroy(actions));
  answered(c.posix_spawnattr_init(attributes), "posix_spawnattr_init");
  memory.defer(() => void c.posix_spawnattr_destroy(attributes));

  stdio.forEach((fd, target) => {
    answered(c.posix_spawn_file_actions_adddup2(actions, fd, target), "posix_spawn_file_actions_adddup2");
  });
  if (spec.cwd !== undefined) {
    const cwd = cstring(spec.cwd);
    answered(c.posix_spawn_file_actions_addchdir_np(actions, cwd), "posix_spawn_file_actions_addchdir_np");
  }
  answered(c.posix_spawnattr_setflags(attributes, SETPGROUP | SETSIGDEF | SETSIGMASK), "posix_spawnattr_setflags");
  answered(c.posix_spawnattr_setpgroup(attributes, 0), "posix_spawnattr_setpgroup");
  answered(c.posix_spawnattr_setsigmask(attributes, new Uint8Array(128)), "posix_spawnattr_setsigmask");
  // Bun ignores SIGPIPE, and what is ignored stays so across exec.
  answered(c.posix_spawnattr_setsigdefault(attributes, new Uint8Array(128).fill(255)), "posix_spawnattr_setsigdefault");

  const pid = new Int32Array(1);
  const argv = stringTable(spec.argv);
  const env = stringTable(Object.entries(spec.env).map(([key, value]) => `${key}=${value}`));
  const code = c.posix_spawn(pid, cstring(spec.path), actions, attributes, argv, env);
  return { code, pid: pid[0] ?? 0 };
}

let kept = false;

/** Where SIGCHLD is ignored, as it may be inherited, the kernel forgets how a child ended. */
function keepChildren(): void {
  if (kept) return;
  kept = true;
  const former = new Uint8Array(SIGACTION_BYTES);
  check(libc().sigaction(SIGCHLD, new Uint8Array(SIGACTION_BYTES), former), "sigaction");
  const handler = new DataView(former.buffer).getBigUint64(0, true);
  if (handler > 1n) check(libc().sigaction(SIGCHLD, former, new Uint8Array(SIGACTION_BYTES)), "sigaction");
}

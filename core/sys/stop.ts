import { type Pointer, toArrayBuffer } from "bun:ffi";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import { check, errno, libc } from "./libc.ts";
import { POLLIN, pollOne } from "./poll.ts";

const SIGINT = 2;
const SIGTERM = 15;
const SA_RESTART = 0x10000000;
const SA_ONSTACK = 0x08000000;
const EFD_FLAGS = 0o2004000; // EFD_CLOEXEC | EFD_NONBLOCK
const PAGE = 4096;
const PROT_READ_WRITE = 3;
const PROT_READ_EXEC = 5;
const MAP_PRIVATE_ANONYMOUS = 0x22;

/** glibc's `struct sigaction`: handler, 128 bytes of mask, flags at 136, restorer. */
const SIGACTION_BYTES = 152;

/** Where the code below finds the eight bytes that it writes. */
const DATA_AT = 32;

/**
 * `write(fd, &one, 8)` as machine code: the whole signal handler. JavaScript cannot run in a handler, and libc has no
 * function that does something useful when called with a signal's number alone. It makes the system call itself, so
 * not even the interrupted code's errno changes.
 */
function handlerCode(fd: number): Uint8Array {
  const code = new Uint8Array(DATA_AT + 8);
  const view = new DataView(code.buffer);
  if (process.arch === "arm64") {
    const words = [
      0xd2800808, //               mov  x8, #64         SYS_write
      0x52800000 | (fd << 5), //   mov  w0, #fd
      0x100000c1, //               adr  x1, . + 24      DATA_AT
      0xd2800102, //               mov  x2, #8
      0xd4000001, //               svc  #0
      0xd65f03c0, //               ret
    ];
    words.forEach((word, i) => {
      view.setUint32(i * 4, word, true);
    });
  } else {
    code.set([0xb8, 1, 0, 0, 0]); //                        mov  eax, 1     SYS_write
    code.set([0xbf, fd & 255, fd >> 8, 0, 0], 5); //        mov  edi, fd
    code.set([0x48, 0x8d, 0x35, DATA_AT - 17, 0, 0, 0], 10); // lea  rsi, [rip + 15]
    code.set([0xba, 8, 0, 0, 0], 17); //                    mov  edx, 8
    code.set([0x0f, 0x05, 0xc3], 22); //                    syscall; ret
  }
  code[DATA_AT] = 1;
  return code;
}

/** Puts code into a page of its own, which is never writable and executable at once. @returns its address */
function mapCode(code: Uint8Array): number {
  const at = check(libc().mmap(0, PAGE, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS, -1, 0), "mmap");
  new Uint8Array(toArrayBuffer(at as Pointer, 0, PAGE)).set(code);
  check(libc().mprotect(at, PAGE, PROT_READ_EXEC), "mprotect");
  return at;
}

/** Says that somebody wants an operation to end. */
export interface Stop {
  /** True once it is wanted; it stays so. */
  readonly requested: boolean;
  /** For poll(2): readable once it is wanted. */
  readonly fd: number;
}

/**
 * SIGTERM and SIGINT, noticed while the process is blocked in poll(2) or runs a guest and no JavaScript can run: the
 * handler adds to an eventfd, which poll(2) then reports.
 */
export class StopSignal implements Stop, Disposable {
  readonly #event: Fd;
  readonly #former: ReadonlyArray<readonly [number, Uint8Array]>;

  private constructor(event: Fd, former: ReadonlyArray<readonly [number, Uint8Array]>) {
    this.#event = event;
    this.#former = former;
  }

  /** From here on the two signals no longer end the process. @throws {SysError} */
  static install(): StopSignal {
    const event = Fd.adopt(check(libc().eventfd(0, EFD_FLAGS), "eventfd"), "stop signal");
    try {
      if (event.raw > 0xffff) throw new SysError("eventfd", Errno.ERANGE);
      const action = new Uint8Array(SIGACTION_BYTES);
      const view = new DataView(action.buffer);
      view.setBigUint64(0, BigInt(mapCode(handlerCode(event.raw))), true);
      view.setInt32(136, SA_RESTART | SA_ONSTACK, true);
      const former = [SIGTERM, SIGINT].map((signal) => {
        const old = new Uint8Array(SIGACTION_BYTES);
        check(libc().sigaction(signal, action, old), "sigaction");
        return [signal, old] as const;
      });
      return new StopSignal(event, former);
    } catch (thrown) {
      event[Symbol.dispose]();
      throw thrown;
    }
  }

  get requested(): boolean {
    return pollOne(this.#event.raw, POLLIN, 0) !== 0;
  }

  get fd(): number {
    return this.#event.raw;
  }

  /** Puts the former actions back. The code stays mapped: another thread may be in it at this moment. */
  [Symbol.dispose](): void {
    if (this.#event.released) return;
    const unused = new Uint8Array(SIGACTION_BYTES);
    for (const [signal, old] of this.#former) {
      if (libc().sigaction(signal, old, unused) !== 0) throw new SysError("sigaction", errno());
    }
    this.#event[Symbol.dispose]();
  }
}

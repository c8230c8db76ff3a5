/**
 * Requests and answers over any datagram socket: sequence numbers, acknowledgements, dumps. It reports what the kernel
 * said and leaves it to the caller to make an error of it.
 */
import { Source, WireError, Writer } from "../wire/buffer.ts";
import type { Codec } from "../wire/codec.ts";
import { Control, eachMessage, Flag, type MessageHeader, readVerdict, type Verdict, writeMessage } from "./message.ts";

/** A socket to the kernel. Both calls throw on failure, with an `errno` on the error. */
export interface Datagrams {
  /** Sends one datagram, which may hold several messages. */
  send(bytes: Uint8Array): void;
  /** The next datagram, a view that is good until the next call; throws when `deadlineMs` on the clock has passed. */
  receive(deadlineMs: number): Uint8Array;
  /** Hears that many answers are to come before any of them is received. */
  expectMany?(): void;
}

/** Time, as an argument: this folder reaches no system call. */
export interface Clock {
  nowMs(): number;
  sleepMs(ms: number): void;
}

/** One message to send. `reply` decodes what comes back before or instead of the acknowledgement. */
export interface Request<Reply = unknown> {
  readonly type: number;
  /** `NLM_F_*` beside REQUEST and ACK, which are added: ACK where no reply is wanted. */
  readonly flags?: number;
  readonly codec: Codec<unknown, never>;
  readonly value: unknown;
  readonly reply?: Codec<Reply, never>;
}

/** What the kernel answered to one request. */
export interface Answer<Reply = unknown> extends Verdict {
  readonly reply?: Reply;
}

/** What the kernel answered to a dump: all of it, or an errno. */
export interface DumpAnswer<Reply> extends Verdict {
  readonly replies: readonly Reply[];
}

const EAGAIN = 11;
const EBUSY = 16;
const ENOBUFS = 105;
const EINTR = 4;
const ETIMEDOUT = 110;

/** Answers that any socket has room for. */
const FEW = 16;
/** How often a request that the kernel could not take just now is sent in all. */
const TRIES = 5;
/** How often a dump is begun before an inconsistent one is an error. */
const DUMPS = 10;
/** Linux cuts a message into parts, but a dump has no length in advance: more objects than this are not believed. */
const MAX_REPLIES = 1_000_000;
/** Longest pause between two tries; the n-th lies between half of it and it, times 2^n / 2^TRIES. */
const LONGEST_PAUSE_MS = 64;

/** Whether the kernel may take the same request a moment later. */
export const isTransient = (errno: number): boolean => errno === EBUSY || errno === EAGAIN || errno === ENOBUFS;

const errnoOf = (thrown: unknown): number =>
  typeof thrown === "object" && thrown !== null && "errno" in thrown && typeof thrown.errno === "number"
    ? thrown.errno
    : 0;

export class Conversation {
  readonly #socket: Datagrams;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  readonly #out = new Writer(2048);
  #seq: number;

  /**
   * @param timeoutMs How long one request, with its retries, may take. A kernel answers within the call that sends;
   * what takes long is a lock that somebody else holds.
   */
  constructor(socket: Datagrams, clock: Clock, options: { timeoutMs?: number; firstSeq?: number } = {}) {
    this.#socket = socket;
    this.#clock = clock;
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#seq = options.firstSeq ?? 1;
  }

  /** Sends one request, again after a pause when the kernel says EBUSY, EAGAIN or ENOBUFS. */
  ask<Reply>(request: Request<Reply>): Answer<Reply> {
    const deadline = this.#clock.nowMs() + this.#timeoutMs;
    for (let attempt = 1; ; attempt++) {
      const answer = this.#exchange([request], deadline)[0] as Answer<Reply>;
      const { errno } = answer;
      if (!isTransient(errno)) return answer;
      if (attempt === TRIES || !this.pause(attempt, deadline)) return answer;
    }
  }

  /**
   * Sends several requests in one datagram and collects their answers in order. The kernel takes them one after the
   * other and goes on after an error, so a later one must be harmless when an earlier one was refused.
   */
  askAll(requests: readonly Request[]): Answer[] {
    return this.#exchange(requests, this.#clock.nowMs() + this.#timeoutMs);
  }

  /**
   * Collects a dump. One that the kernel marks as inconsistent, or whose messages it had to drop, is begun again, ten
   * times in all; then the answer is EINTR, for half a list must decide nothing.
   */
  dump<Reply>(request: Request<Reply>): DumpAnswer<Reply> {
    this.#socket.expectMany?.();
    const deadline = this.#clock.nowMs() + this.#timeoutMs;
    for (let attempt = 1; ; attempt++) {
      const answer = this.#dumpOnce(request, deadline);
      if (answer !== undefined) return answer;
      if (attempt === DUMPS || this.#clock.nowMs() >= deadline) {
        return { errno: EINTR, text: `the list changed while it was read, ${attempt} times`, replies: [] };
      }
    }
  }

  /**
   * Sends an nfnetlink batch: `requests` between `begin` and `end`, all or nothing. The first verdict that is not 0,
   * or 0; `index` tells whose it was, -1 for the batch as a whole.
   */
  batch(begin: Request, requests: readonly Request[], end: Request): Verdict & { readonly index: number } {
    const deadline = this.#clock.nowMs() + this.#timeoutMs;
    const last = requests.length - 1;
    if (last < 0) return { errno: 0, index: -1 };
    if (last > FEW) this.#socket.expectMany?.();
    const first = this.#seq;
    this.#seq += requests.length + 2;
    this.#out.reset();
    this.#write(begin, Flag.REQUEST, first);
    for (const [i, request] of requests.entries()) {
      // One acknowledgement tells that the transaction is over; errors come unasked.
      this.#write(request, Flag.REQUEST | (request.flags ?? 0) | (i === last ? Flag.ACK : 0), first + 1 + i);
    }
    this.#write(end, Flag.REQUEST, first + 1 + requests.length);
    this.#socket.send(this.#out.written());

    let worst: (Verdict & { index: number }) | undefined;
    let over = false;
    while (!over) {
      this.#receive(deadline, (header, from, start, end) => {
        const index = header.seq - first - 1;
        if (header.type !== Control.ERROR || index < -1 || index > last) return;
        const verdict = readVerdict(header, from, start, end);
        if (verdict.errno !== 0 && (worst === undefined || index === -1)) worst = { ...verdict, index };
        // The commit's own failure is told under the number of `begin`; nothing that follows can change it.
        if (index === last || (index === -1 && verdict.errno !== 0)) over = true;
      });
    }
    return worst ?? { errno: 0, index: last };
  }

  /** Sleeps before the next try. @returns false when the deadline does not leave room for it */
  pause(attempt: number, deadlineMs: number): boolean {
    const longest = LONGEST_PAUSE_MS * 2 ** (attempt - TRIES);
    const ms = longest * (0.5 + Math.random() / 2);
    if (this.#clock.nowMs() + ms >= deadlineMs) return false;
    this.#clock.sleepMs(ms);
    return true;
  }

  #write(request: Request, flags: number, seq: number): void {
    writeMessage(this.#out, { type: request.type, flags, seq }, request.codec as Codec<unknown>, request.value);
  }

  #exchange(requests: readonly Request[], deadlineMs: number): Answer[] {
    if (requests.length === 0) return [];
    if (requests.length > FEW) this.#socket.expectMany?.();
    const first = this.#seq;
    this.#seq += requests.length;
    this.#out.reset();
    for (const [i, request] of requests.entries()) {
      const ack = request.reply === undefined ? Flag.ACK : 0;
      this.#write(request, Flag.REQUEST | ack | (request.flags ?? 0), first + i);
    }
    this.#socket.send(this.#out.written());

    const answers: (Answer | undefined)[] = new Array(requests.length).fill(undefined);
    let missing = requests.length;
    while (missing > 0) {
      this.#receive(deadlineMs, (header, from, start, end) => {
        const index = header.seq - first;
        const request = requests[index]; // anything else is an answer to a request that was given up
        if (request === undefined || answers[index] !== undefined) return;
        if (header.type === Control.ERROR) answers[index] = readVerdict(header, from, start, end);
        else if (header.type < 16 || request.reply === undefined) return;
        else answers[index] = { errno: 0, reply: request.reply.read(from, start, end) };
        missing--;
      });
    }
    return answers as Answer[];
  }

  /** One dump; `undefined` when it has to be begun again. */
  #dumpOnce<Reply>(request: Request<Reply>, deadlineMs: number): DumpAnswer<Reply> | undefined {
    const { reply } = request;
    if (reply === undefined) throw new TypeError("Cannot dump without a layout for the replies");
    const seq = this.#seq++;
    this.#out.reset();
    this.#write(request, Flag.REQUEST | Flag.DUMP | (request.flags ?? 0), seq);
    this.#socket.send(this.#out.written());

    const replies: Reply[] = [];
    let interrupted = false;
    let verdict: Verdict | undefined;
    while (verdict === undefined) {
      try {
        this.#receive(deadlineMs, (header, from, start, end) => {
          if (header.seq !== seq || verdict !== undefined) return;
          if ((header.flags & Flag.DUMP_INTERRUPTED) !== 0) interrupted = true;
          if (header.type === Control.ERROR || header.type === Control.DONE) {
            verdict = readVerdict(header, from, start, end);
          } else if (header.type >= 16) {
            if (replies.length === MAX_REPLIES) throw new WireError(`Cannot read dump: more than ${MAX_REPLIES} parts`);
            replies.push(reply.read(from, start, end));
          }
        });
      } catch (thrown) {
        if (errnoOf(thrown) !== ENOBUFS) throw thrown;
        return undefined;
      }
    }
    if (verdict.errno !== 0) {
      const again = verdict.errno === EINTR || verdict.errno === EAGAIN || verdict.errno === EBUSY;
      return again ? undefined : { ...verdict, replies: [] };
    }
    return interrupted ? undefined : { errno: 0, replies };
  }

  #receive(deadlineMs: number, visit: (header: MessageHeader, from: Source, start: number, end: number) => void): void {
    // A peer that sends without end what is not for us must not hold us beyond the deadline.
    if (this.#clock.nowMs() > deadlineMs) throw new TimedOut();
    const from = new Source(this.#socket.receive(deadlineMs), false);
    eachMessage(from, (header, start, end) => visit(header, from, start, end));
  }
}

/** The kernel did not answer in time. */
export class TimedOut extends Error {
  override readonly name = "TimedOut";
  readonly errno = ETIMEDOUT;
  constructor() {
    super("The kernel did not answer in time");
  }
}

import { describe, expect, test } from "bun:test";
import { Source, Writer } from "../wire/buffer.ts";
import { attrs, body, type Codec, cstr, i32, struct, u32 } from "../wire/codec.ts";
import { type Clock, Conversation, type Datagrams, type Request } from "./conversation.ts";
import { Control, eachMessage, Flag, type MessageHeader, writeMessage } from "./message.ts";

const thing = body(struct({ id: u32 }), attrs({ name: [1, cstr] }));
const ask = (id: number, extra: Partial<Request> = {}): Request => ({
  type: 20,
  codec: thing,
  value: { id },
  ...extra,
});
const get: Request<{ id: number }> = { type: 22, codec: thing, value: {}, reply: thing };

interface Sent {
  readonly header: MessageHeader;
  readonly id: number;
}
type Reply = { type: number; flags?: number; seq: number; body: (to: Writer) => void };

class Clockwork implements Clock {
  now = 0;
  readonly pauses: number[] = [];
  nowMs(): number {
    return this.now;
  }
  sleepMs(ms: number): void {
    this.pauses.push(ms);
    this.now += ms;
  }
}

const failure = (errno: number): Error => Object.assign(new Error("recv"), { errno });

/** A kernel by script: hears each datagram's messages, answers with datagrams, a throw, or nothing. */
class Script implements Datagrams {
  readonly clock = new Clockwork();
  readonly sent: Sent[] = [];
  readonly #answer: (messages: Sent[], count: number) => (Reply[] | Error)[];
  #queue: (Uint8Array | Error)[] = [];
  #count = 0;

  constructor(answer: (messages: Sent[], count: number) => (Reply[] | Error)[]) {
    this.#answer = answer;
  }

  send(bytes: Uint8Array): void {
    const from = new Source(bytes);
    const messages: Sent[] = [];
    eachMessage(from, (header, start, end) => {
      messages.push({ header, id: end - start >= 4 ? from.view.getUint32(start, true) : 0 });
    });
    this.sent.push(...messages);
    for (const datagram of this.#answer(messages, ++this.#count)) {
      this.#queue.push(datagram instanceof Error ? datagram : write(datagram));
    }
  }

  receive(deadlineMs: number): Uint8Array {
    const next = this.#queue.shift();
    if (next instanceof Error) throw next;
    if (next !== undefined) return next;
    this.clock.now = deadlineMs;
    throw failure(110);
  }

  conversation(timeoutMs = 1000): Conversation {
    return new Conversation(this, this.clock, { timeoutMs });
  }
}

function write(replies: Reply[]): Uint8Array {
  const to = new Writer(64);
  for (const { body, flags = 0, type, seq } of replies) {
    const codec: Codec<unknown> = { write: (w) => body(w), read: () => undefined };
    writeMessage(to, { type, flags, seq }, codec, undefined);
  }
  return to.written().slice();
}

const number = (to: Writer, value: number): void => i32.write(to, value);
const requestHeader = (to: Writer, length = 16): void => {
  number(to, length);
  for (let i = 0; i < 3; i++) number(to, 0);
};
const ack = (seq: number, errno = 0): Reply => ({
  type: Control.ERROR,
  flags: Flag.CAPPED,
  seq,
  body(to) {
    number(to, -errno);
    requestHeader(to);
  },
});
const item = (seq: number, id: number, flags: number = Flag.MULTI): Reply => ({
  type: 20,
  flags,
  seq,
  body: (to) => number(to, id),
});
const done = (seq: number, errno = 0): Reply => ({
  type: Control.DONE,
  flags: Flag.MULTI,
  seq,
  body: (to) => number(to, -errno),
});
const seqOf = (messages: Sent[], at = 0): number => messages[at]?.header.seq ?? -1;

describe("ask()", () => {
  test("asks for an acknowledgement, or for a reply, with rising numbers", () => {
    const kernel = new Script((m) => [[m[0]?.header.type === 22 ? item(seqOf(m), 7, 0) : ack(seqOf(m))]]);
    const talk = kernel.conversation();
    expect(talk.ask(ask(1, { flags: Flag.CREATE | Flag.EXCL }))).toEqual({ errno: 0 });
    expect(talk.ask(get)).toEqual({ errno: 0, reply: { id: 7 } });
    expect(kernel.sent.map((m) => [m.header.flags, m.header.seq])).toEqual([
      [Flag.REQUEST | Flag.ACK | Flag.CREATE | Flag.EXCL, 1],
      [Flag.REQUEST, 2],
    ]);
  });
  test("gives the kernel's words, whether or not it sends the request back whole", () => {
    for (const capped of [true, false]) {
      const words: Reply["body"] = (to) => {
        number(to, -17);
        requestHeader(to, 20);
        if (!capped) number(to, 0xffff);
        attrs({ message: [1, cstr], offset: [2, u32] }).write(to, { message: "is there", offset: 24 });
      };
      const flags = Flag.ACK_TLVS | (capped ? Flag.CAPPED : 0);
      const kernel = new Script((m) => [[{ type: Control.ERROR, flags, seq: seqOf(m), body: words }]]);
      expect(kernel.conversation().ask(ask(1))).toEqual({ errno: 17, text: "is there", offset: 24 });
    }
  });
  test("ignores answers to what was given up before", () => {
    const kernel = new Script((m) => [[ack(seqOf(m) + 5, 1), ack(0, 1)], [item(seqOf(m) - 1, 3)], [ack(seqOf(m))]]);
    expect(kernel.conversation().ask(ask(1)).errno).toBe(0);
  });
  test.each([11, 16, 105])("sends again after errno %d, five times in all, with growing pauses", (errno) => {
    const kernel = new Script((m) => [[ack(seqOf(m), errno)]]);
    expect(kernel.conversation().ask(ask(1)).errno).toBe(errno);
    expect(kernel.sent).toHaveLength(5);
    const { pauses } = kernel.clock;
    expect(pauses).toHaveLength(4);
    for (const [i, ms] of pauses.entries()) {
      expect(ms).toBeGreaterThanOrEqual(2 * 2 ** i);
      expect(ms).toBeLessThanOrEqual(4 * 2 ** i);
    }
  });
  test("sends again until it is taken", () => {
    const kernel = new Script((m, count) => [[ack(seqOf(m), count < 3 ? 16 : 0)]]);
    expect(kernel.conversation().ask(ask(1)).errno).toBe(0);
    expect(kernel.sent).toHaveLength(3);
  });
  test("does not pause beyond its time", () => {
    const kernel = new Script((m) => [[ack(seqOf(m), 16)]]);
    expect(kernel.conversation(1).ask(ask(1)).errno).toBe(16);
    expect(kernel.sent).toHaveLength(1);
  });
  test("throws when no answer comes, and when the kernel had to drop it", () => {
    expect(() => new Script(() => []).conversation().ask(ask(1))).toThrow("recv");
    expect(() => new Script(() => [failure(105)]).conversation().ask(ask(1))).toThrow("recv");
  });
});

describe("askAll()", () => {
  test("sends one datagram and sorts the answers", () => {
    const kernel = new Script((m) => [[ack(seqOf(m, 0))], [item(seqOf(m, 2), 9, 0), ack(seqOf(m, 1), 19)]]);
    expect(kernel.conversation().askAll([ask(1), ask(2), get])).toEqual([
      { errno: 0 },
      { errno: 19 },
      { errno: 0, reply: { id: 9 } },
    ]);
  });
  test("with nothing to ask sends nothing", () => {
    const kernel = new Script(() => []);
    expect(kernel.conversation().askAll([])).toEqual([]);
    expect(kernel.sent).toEqual([]);
  });
});

describe("dump()", () => {
  test("collects all parts", () => {
    const kernel = new Script((m) => [[item(seqOf(m), 1), item(seqOf(m), 2)], [item(seqOf(m), 3)], [done(seqOf(m))]]);
    expect(kernel.conversation().dump(get)).toEqual({ errno: 0, replies: [{ id: 1 }, { id: 2 }, { id: 3 }] });
    expect(kernel.sent[0]?.header.flags).toBe(Flag.REQUEST | Flag.DUMP);
  });
  test.each([
    [
      "marks it as interrupted",
      (m: Sent[]) => [[item(seqOf(m), 1, Flag.MULTI | Flag.DUMP_INTERRUPTED), done(seqOf(m))]],
    ],
    ["drops messages", () => [failure(105)]],
    ["ends it with EINTR", (m: Sent[]) => [[item(seqOf(m), 1), done(seqOf(m), 4)]]],
  ] as [string, (m: Sent[]) => (Reply[] | Error)[]][])("begins again when the kernel %s", (_, broken) => {
    const kernel = new Script((m, count) => (count < 10 ? broken(m) : [[item(seqOf(m), 5), done(seqOf(m))]]));
    expect(kernel.conversation().dump(get)).toEqual({ errno: 0, replies: [{ id: 5 }] });
    expect(kernel.sent).toHaveLength(10);
    const never = new Script(broken);
    expect(never.conversation().dump(get)).toMatchObject({ errno: 4, replies: [] });
    expect(never.sent).toHaveLength(10);
  });
  test("answers the kernel's errno and no part of a list", () => {
    const kernel = new Script((m) => [[item(seqOf(m), 1), done(seqOf(m), 95)]]);
    expect(kernel.conversation().dump(get)).toEqual({ errno: 95, replies: [] });
    const refused = new Script((m) => [[ack(seqOf(m), 22)]]);
    expect(refused.conversation().dump(get)).toEqual({ errno: 22, replies: [] });
  });
});

describe("batch()", () => {
  const ends = { begin: ask(0), end: ask(0) };
  const run = (kernel: Script, count = 3) =>
    kernel.conversation().batch(
      ends.begin,
      Array.from({ length: count }, (_, i) => ask(i + 1)),
      ends.end,
    );

  test("is one datagram with one acknowledgement, of its last message", () => {
    const kernel = new Script((m) => [[ack(seqOf(m, 3))]]);
    expect(run(kernel)).toEqual({ errno: 0, index: 2 });
    expect(kernel.sent.map((m) => m.header.flags & Flag.ACK)).toEqual([0, 0, 0, Flag.ACK, 0]);
  });
  test("tells which message was refused first", () => {
    const kernel = new Script((m) => [[ack(seqOf(m, 2), 2)], [ack(seqOf(m, 3), 17)]]);
    expect(run(kernel)).toEqual({ errno: 2, index: 1 });
  });
  test("tells when the transaction as a whole was", () => {
    const kernel = new Script((m) => [[ack(seqOf(m, 0), 85)]]);
    expect(run(kernel)).toEqual({ errno: 85, index: -1 });
  });
  test("with nothing in it sends nothing", () => {
    const kernel = new Script(() => []);
    expect(run(kernel, 0).errno).toBe(0);
    expect(kernel.sent).toEqual([]);
  });
});

test("a peer that sends other things without end does not hold us", () => {
  const clock = new Clockwork();
  const noise: Datagrams = {
    send() {},
    receive() {
      clock.now += 10;
      return write([ack(999_999)]);
    },
  };
  expect(() => new Conversation(noise, clock, { timeoutMs: 1000 }).ask(ask(1))).toThrow("did not answer in time");
});

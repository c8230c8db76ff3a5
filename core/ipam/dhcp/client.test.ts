import { describe, expect, test } from "bun:test";
import type { Packets } from "../../sys/packet.ts";
import { type Client, Exchange, type Lease, type Surroundings } from "./client.ts";
import { decodeFrame, encodeFrame, type Frame } from "./frame.ts";
import { BOOTREPLY, type Message, MessageType, OptionCode } from "./message.ts";
import { formatAddress, fromNumber, messageType, number32, parseAddress4 } from "./options.ts";

const mac = Uint8Array.of(2, 0, 0, 0, 0, 1);
const client: Client = {
  mac,
  id: Uint8Array.of(0, 99),
  requested: [1, 3],
  provided: [],
  broadcast: false,
  mtu: 1500,
};
const number = (text: string): number => parseAddress4(text) ?? 0;

type Answer = Partial<Omit<Frame, "message">> & { readonly message: Partial<Message>; readonly afterMs?: number };

/** Time that passes only while somebody waits, and servers that are functions. */
class Network implements Packets, Surroundings {
  readonly fd = -1;
  readonly sent: Frame[] = [];
  readonly sentMs: number[] = [];
  stopped = false;
  #now = 1000;
  #queue: { readonly atMs: number; readonly bytes: Uint8Array }[] = [];
  readonly #server: (asked: Frame, nth: number) => readonly (Answer | Uint8Array)[];

  constructor(server: (asked: Frame, nth: number) => readonly (Answer | Uint8Array)[]) {
    this.#server = server;
  }

  nowMs(): number {
    return this.#now;
  }

  random(): number {
    return 0.5;
  }

  send(bytes: Uint8Array): void {
    const asked = decodeFrame(bytes);
    this.sent.push(asked);
    this.sentMs.push(this.#now);
    for (const answer of this.#server(asked, this.sent.length)) {
      const atMs = this.#now + (answer instanceof Uint8Array ? 1 : (answer.afterMs ?? 1));
      this.#queue.push({ atMs, bytes: answer instanceof Uint8Array ? answer : encoded(asked, answer) });
    }
    this.#queue.sort((a, b) => a.atMs - b.atMs);
  }

  receive(timeoutMs: number): Uint8Array | undefined {
    const next = this.#queue[0];
    if (next === undefined || next.atMs > this.#now + timeoutMs) {
      this.#now += timeoutMs;
      return undefined;
    }
    this.#queue.shift();
    this.#now = Math.max(this.#now, next.atMs);
    return next.bytes;
  }

  pass(ms: number): void {
    this.#now += ms;
  }

  get types(): string {
    const names = Object.keys(MessageType);
    return this.sent.map((frame) => names[messageType(frame.message.options) - 1]).join(" ");
  }

  [Symbol.dispose](): void {}
}

function encoded(asked: Frame, { message, ...frame }: Answer): Uint8Array {
  return encodeFrame({
    from: Uint8Array.of(2, 0, 0, 0, 0, 9),
    to: mac,
    source: number("10.0.0.1"),
    destination: 0xffffffff,
    sourcePort: 67,
    destinationPort: 68,
    ...frame,
    message: { ...asked.message, op: BOOTREPLY, ...message },
  });
}

interface Said {
  readonly address?: string;
  readonly server?: string;
  readonly mask?: number;
  readonly afterMs?: number;
  readonly more?: readonly (readonly [number, Uint8Array])[];
  readonly without?: number;
}

function says(type: number, o: Said = {}): Answer {
  const options = new Map<number, Uint8Array>([
    [OptionCode.MESSAGE_TYPE, Uint8Array.of(type)],
    [OptionCode.SERVER, fromNumber(number(o.server ?? "10.0.0.1"))],
    [OptionCode.SUBNET_MASK, fromNumber(o.mask ?? 0xffffff00)],
    [OptionCode.LEASE_TIME, fromNumber(600)],
    ...(o.more ?? []),
  ]);
  if (o.without !== undefined) options.delete(o.without);
  return {
    message: { yourAddress: number(o.address ?? "10.0.0.5"), options },
    ...(o.afterMs && { afterMs: o.afterMs }),
  };
}

/** A server as it should be. */
const good = (asked: Frame): Answer[] => {
  const type = messageType(asked.message.options);
  if (type === MessageType.DISCOVER) return [says(MessageType.OFFER)];
  return type === MessageType.REQUEST ? [says(MessageType.ACK)] : [];
};

function acquire(network: Network, o: Partial<Client> = {}, wanted?: number) {
  const offers: string[] = [];
  const exchange = new Exchange({ ...client, ...o }, network, network);
  const onOffer = (lease: Lease): void => void offers.push(formatAddress(lease.address));
  return { outcome: exchange.acquire(network.nowMs() + 10_000, onOffer, wanted), offers };
}

describe("acquire()", () => {
  test("four messages make a lease", () => {
    const network = new Network(good);
    const { outcome, offers } = acquire(network);
    expect(outcome).toMatchObject({
      is: "bound",
      lease: { address: number("10.0.0.5"), prefix: 24, server: number("10.0.0.1"), times: { lease: 600, renew: 300 } },
    });
    expect(offers).toEqual(["10.0.0.5"]);
    expect(network.types).toBe("DISCOVER REQUEST");
    const [discover, request] = network.sent;
    expect(discover).toMatchObject({ source: 0, destination: 0xffffffff, sourcePort: 68, destinationPort: 67 });
    expect(discover?.message.options.get(OptionCode.CLIENT_ID)).toEqual(Uint8Array.of(0, 99));
    expect(number32(request?.message.options ?? new Map(), OptionCode.REQUESTED_ADDRESS)).toBe(number("10.0.0.5"));
    expect(number32(request?.message.options ?? new Map(), OptionCode.SERVER)).toBe(number("10.0.0.1"));
    expect(request?.message.xid).toBe(discover?.message.xid ?? 0);
    expect(request?.message.clientAddress).toBe(0);
  });

  test("of several offers the first counts, and only its server's answer", () => {
    const network = new Network((asked) =>
      messageType(asked.message.options) === MessageType.DISCOVER
        ? [says(MessageType.OFFER), says(MessageType.OFFER, { address: "10.0.0.9", server: "10.0.0.2" })]
        : [
            says(MessageType.NAK, { server: "10.0.0.2" }),
            says(MessageType.ACK, { address: "10.0.0.9", server: "10.0.0.2" }),
            says(MessageType.ACK, { afterMs: 5 }),
          ],
    );
    const { outcome } = acquire(network);
    expect(outcome).toMatchObject({ is: "bound", lease: { address: number("10.0.0.5") } });
  });

  test("an offer that comes late, after the next request was sent, counts too", () => {
    const network = new Network((asked, nth) =>
      messageType(asked.message.options) === MessageType.DISCOVER && nth > 1
        ? []
        : good(asked).map((a) => ({ ...a, afterMs: 700 })),
    );
    expect(acquire(network).outcome.is).toBe("bound");
    expect(network.types.startsWith("DISCOVER DISCOVER REQUEST")).toBe(true);
  });

  test("silence ends in time, with fewer and fewer requests", () => {
    const network = new Network(() => []);
    const { outcome, offers } = acquire(network);
    expect(outcome).toEqual({ is: "silent", sent: 6, unusable: undefined });
    expect(offers).toEqual([]);
    expect(network.nowMs()).toBe(11_000);
    expect(network.sentMs.map((ms) => ms - 1000)).toEqual([0, 400, 1200, 2800, 5800, 9800]);
    expect(network.sent.map(({ message }) => message.seconds)).toEqual([0, 0, 1, 2, 5, 9]);
  });

  test("a server that offers and says no more is asked three times, then any again", () => {
    const network = new Network((asked) =>
      good(asked).filter(() => messageType(asked.message.options) === MessageType.DISCOVER),
    );
    const { outcome } = acquire(network);
    expect(outcome.is).toBe("silent");
    expect(network.types).toStartWith("DISCOVER REQUEST REQUEST REQUEST DISCOVER");
    expect(network.nowMs()).toBeLessThanOrEqual(11_010);
  });

  test("a NAK begins anew; three of them are enough", () => {
    const twice = new Network((asked, nth) => (nth === 2 ? [says(MessageType.NAK)] : good(asked)));
    expect(acquire(twice).outcome.is).toBe("bound");
    expect(twice.types).toBe("DISCOVER REQUEST DISCOVER REQUEST");
    expect(new Set(twice.sent.map(({ message }) => message.hops)).size).toBe(1);
    const words = new TextEncoder().encode("no\u0007");
    const always = new Network((asked) =>
      messageType(asked.message.options) === MessageType.DISCOVER
        ? good(asked)
        : [says(MessageType.NAK, { more: [[OptionCode.MESSAGE, words]] })],
    );
    expect(acquire(always).outcome).toEqual({ is: "refused", words: "no?" });
    expect(always.sent.length).toBe(6);
  });

  const foreign: readonly (readonly [string, Partial<Message> | Partial<Frame>])[] = [
    ["another transaction", { xid: 7 }],
    ["another client", { hardware: new Uint8Array(16) }],
    ["a request", { op: 1 }],
    ["from another port", { sourcePort: 68 }],
    ["to another port", { destinationPort: 67 }],
  ];
  test.each(foreign)("%s is no answer", (_, change) => {
    const network = new Network(
      (asked) =>
        good(asked).map((answer) =>
          "xid" in change || "hardware" in change || "op" in change
            ? { ...answer, message: { ...answer.message, ...change } }
            : { ...answer, ...(change as Partial<Frame>) },
        ) as Answer[],
    );
    expect(acquire(network).outcome).toMatchObject({ is: "silent" });
  });

  test.each([
    [{ address: "127.0.0.1" }, "127.0.0.1, which no host can have"],
    [{ address: "0.0.0.0" }, "0.0.0.0, which no host can have"],
    [{ mask: 0xff00ff00 }, "no subnet mask, or none that is one"],
    [{ without: OptionCode.SUBNET_MASK }, "no subnet mask"],
    [{ without: OptionCode.SERVER }, "who it is"],
    [{ more: [[OptionCode.LEASE_TIME, fromNumber(0)]] }, "of no time"],
  ] as const)("an offer that cannot be used: %j", (said, words) => {
    const network = new Network((asked) => good(asked).map(() => says(MessageType.OFFER, said as Said)));
    const { outcome, offers } = acquire(network);
    expect(outcome).toMatchObject({ is: "silent", unusable: expect.stringContaining(words) });
    expect(offers).toEqual([]);
  });

  test("only the wanted address is taken", () => {
    const network = new Network((asked, nth) =>
      nth < 3 ? good(asked) : good(asked).map(() => says(MessageType.OFFER)),
    );
    const { outcome } = acquire(network, {}, number("10.0.0.6"));
    expect(outcome).toMatchObject({ is: "silent", unusable: "a server offered 10.0.0.5" });
    expect(network.types).not.toContain("REQUEST");
    const options = network.sent[0]?.message.options ?? new Map();
    expect(number32(options, OptionCode.REQUESTED_ADDRESS)).toBe(number("10.0.0.6"));
  });

  test("a stop ends it", () => {
    const network = new Network(() => []);
    network.stopped = true;
    expect(acquire(network).outcome).toEqual({ is: "stopped" });
  });

  test("a flood of what is no answer does not keep it", () => {
    const noise = encodeFrame({
      from: mac,
      to: mac,
      source: 1,
      destination: 2,
      sourcePort: 67,
      destinationPort: 68,
      message: { op: 2, options: new Map() },
    });
    let frames = 0;
    const receive = (): Uint8Array => {
      frames++;
      return noise;
    };
    const endless: Packets = { fd: -1, send() {}, receive, [Symbol.dispose]() {} };
    let now = 0;
    const world: Surroundings = { nowMs: () => (now += 1), random: Math.random, stopped: false };
    const outcome = new Exchange(client, endless, world).acquire(10_000, () => {});
    expect(outcome.is).toBe("silent");
    expect(frames).toBeLessThan(20_000);
  });

  test("links that share an address have their answers broadcast", () => {
    const network = new Network(good);
    acquire(network, { broadcast: true });
    expect(network.sent[0]?.message.flags).toBe(0x8000);
  });

  test("what is provided goes with each request; the size is that of the link", () => {
    const network = new Network(good);
    acquire(network, { provided: [[12, Uint8Array.of(65)]], mtu: 1000 });
    for (const { message } of network.sent) {
      expect(message.options.get(12)).toEqual(Uint8Array.of(65));
      expect(message.options.get(OptionCode.MAX_SIZE)).toEqual(Uint8Array.of(972 >> 8, 972 & 255));
    }
  });
});

describe("a held lease", () => {
  const held = { address: number("10.0.0.5"), server: number("10.0.0.1"), serverMac: Uint8Array.of(2, 0, 0, 0, 0, 9) };

  test("is prolonged by its server at first, by any later, and given back to its server", () => {
    const network = new Network((asked) =>
      messageType(asked.message.options) === MessageType.REQUEST ? [says(MessageType.ACK)] : [],
    );
    const exchange = new Exchange(client, network, network);
    for (const how of ["renew", "rebind"] as const) {
      exchange.askAgain(held, how);
      expect(exchange.answered(held, network.nowMs())).toBeUndefined(); // nothing yet
    }
    exchange.release(held);
    const [renew, rebind, release] = network.sent;
    expect(renew).toMatchObject({ to: held.serverMac, source: held.address, destination: held.server });
    expect(rebind).toMatchObject({ source: held.address, destination: 0xffffffff });
    expect(rebind?.to).toEqual(new Uint8Array(6).fill(255));
    for (const { message } of [renew, rebind].flatMap((frame) => frame ?? [])) {
      expect(message.clientAddress).toBe(held.address);
      expect(message.options.has(OptionCode.REQUESTED_ADDRESS)).toBe(false);
      expect(message.options.has(OptionCode.SERVER)).toBe(false);
    }
    expect(release).toMatchObject({ to: held.serverMac, destination: held.server, source: held.address });
    expect(number32(release?.message.options ?? new Map(), OptionCode.SERVER)).toBe(held.server);
    expect(release?.message.options.has(OptionCode.REQUEST_LIST)).toBe(false);
  });

  test.each([
    [says(MessageType.ACK), "bound"],
    [says(MessageType.NAK), "refused"],
    [says(MessageType.ACK, { address: "10.0.0.6" }), undefined],
    [says(MessageType.OFFER), undefined],
  ])("an answer: %#", (answer, is) => {
    const network = new Network(() => [answer]);
    const exchange = new Exchange(client, network, network);
    exchange.askAgain(held, "renew");
    expect(exchange.answered(held, 1000)).toBeUndefined();
    network.pass(10);
    expect(exchange.answered(held, 1000)?.is).toBe(is as "bound");
  });
});

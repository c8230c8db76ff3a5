/** Bytes that no kernel sends: a layout either refuses them with its own error or reads them to something it can write. */
import { expect, test } from "bun:test";
import { Source, WireError } from "../wire/buffer.ts";
import { type Codec, decode, encode } from "../wire/codec.ts";
import { address } from "./address.ts";
import { bridgeLink } from "./bridge-vlan.ts";
import { connection } from "./conntrack.ts";
import { Conversation } from "./conversation.ts";
import { link } from "./link.ts";
import { eachMessage } from "./message.ts";
import { neighbour } from "./neighbour.ts";
import { netnsId } from "./netns-id.ts";
import { chain, elements, rule as nftRule, set, table } from "./nft.ts";
import { route } from "./route.ts";
import { rule } from "./rule.ts";
import { filter, qdisc } from "./traffic.ts";

const layouts: Record<string, Codec<unknown, never>> = {
  address,
  bridgeLink,
  chain,
  connection,
  elements,
  filter,
  link,
  neighbour,
  netnsId,
  nftRule,
  qdisc,
  route,
  rule,
  set,
  table,
};

/** A generator with a seed, so that a failure can be met again. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** Attributes with plausible types and mostly plausible lengths, three levels deep, then a few bytes changed. */
function plausible(next: (below: number) => number): Uint8Array {
  const attributes = (depth: number): number[] => {
    const out: number[] = [];
    for (let i = next(5); i >= 0; i--) {
      const content =
        depth > 0 && next(2) === 0
          ? attributes(depth - 1)
          : Array.from({ length: next(20) }, () => next(3) * next(128));
      const length = content.length + 4 + (next(20) === 0 ? next(40) - 20 : 0);
      out.push(length & 255, (length >> 8) & 255, next(next(4) === 0 ? 256 : 30), next(3) === 0 ? 0x80 : 0, ...content);
      while (out.length % 4 !== 0) out.push(0);
    }
    return out;
  };
  const bytes = Uint8Array.from([...Array.from({ length: 4 * (1 + next(4)) }, () => next(256)), ...attributes(3)]);
  for (let i = next(4); i > 0; i--) bytes[next(bytes.length)] = next(256);
  return bytes.subarray(0, bytes.length - (next(8) === 0 ? next(4) : 0));
}

test.each(Object.keys(layouts))("%s survives random bytes", (name) => {
  const layout = layouts[name] as Codec<unknown>;
  const next = random(name.length * 7919 + name.charCodeAt(0));
  let read = 0;
  for (let i = 0; i < 4000; i++) {
    const bytes = i % 4 === 0 ? Uint8Array.from({ length: next(64) }, () => next(256)) : plausible(next);
    try {
      const value = decode(layout, bytes);
      const written = encode(layout, value);
      expect(encode(layout, decode(layout, written)).toHex()).toBe(written.toHex());
      read++;
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw new Error(`${bytes.toHex()}: ${thrown}`);
    }
  }
  expect(read).toBeGreaterThan(400); // else the bytes were too wild to reach anything
});

test("a datagram of random bytes is refused or read, and the conversation ends", () => {
  const next = random(42);
  for (let i = 0; i < 3000; i++) {
    const bytes = Uint8Array.from({ length: next(120) }, () => (next(3) === 0 ? next(256) : next(20)));
    try {
      eachMessage(new Source(bytes), () => {});
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(WireError);
    }
    let now = 0;
    const clock = { nowMs: () => now, sleepMs: () => {} };
    const noise = {
      send() {},
      receive() {
        now += 50;
        return bytes;
      },
    };
    const talk = new Conversation(noise, clock, { timeoutMs: 1000, firstSeq: next(20) });
    const request = { type: 18, codec: link, value: {}, reply: link };
    for (const work of [() => talk.ask(request), () => talk.dump(request)]) {
      try {
        work();
      } catch (thrown) {
        expect(["WireError", "TimedOut"]).toContain((thrown as Error).name);
      }
    }
  }
});

/** For tests: one table of values and bytes, checked in both directions. */
import { describe, expect, test } from "bun:test";
import { type Codec, decode, encode } from "../wire/codec.ts";

/** Hex with spaces, as `strace -e write` and Wireshark print it. */
export const hex = (text: string): Uint8Array => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

/** What it is, the value, the bytes on the wire. */
export type WireRow<Value> = readonly [name: string, value: Value, bytes: string];

/** Each row encodes to its bytes, its bytes decode to the row, and what was decoded encodes to the bytes again. */
export function wireTable<Out, Value>(name: string, codec: Codec<Out, Value>, rows: readonly WireRow<Value>[]): void {
  describe(name, () => {
    test.each(rows)("encode(): %s", (_, value, bytes) => {
      expect(encode(codec, value).toHex()).toBe(hex(bytes).toHex());
    });
    test.each(rows)("decode(): %s", (_, value, bytes) => {
      const decoded = decode(codec, hex(bytes));
      expect(decoded).toMatchObject(value as object);
      expect(encode(codec, decoded as unknown as Value).toHex()).toBe(hex(bytes).toHex());
    });
  });
}

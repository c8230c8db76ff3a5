import { describe, expect, test } from "bun:test";
import { Source, WireError, Writer } from "./buffer.ts";
import {
  attrs,
  body,
  bytes,
  cstr,
  decode,
  encode,
  i32,
  list,
  NESTED,
  records,
  struct,
  text,
  u8,
  u16,
  u32,
  u64be,
} from "./codec.ts";

const hex = (source: string): Uint8Array => Uint8Array.fromHex(source.replaceAll(/\s/g, ""));

describe("Writer", () => {
  test("grows, and keeps what was written", () => {
    const to = new Writer(4);
    for (let i = 0; i < 1000; i++) u32.write(to, i);
    expect(to.length).toBe(4000);
    expect(new DataView(to.written().buffer).getUint32(3996, true)).toBe(999);
  });
  test("grows at any byte of a message", () => {
    for (let room = 1; room < 80; room++) {
      const to = new Writer(room);
      message.write(to, { name: "abcdef", raw: new Uint8Array([1, 2, 3]), inner: { name: "é" }, sort: "xy" });
      expect(to.written().toHex()).toBe(
        hex(
          `${zeros} 0b00 0200 61626364656600 00 0700 0600 010203 00 0c00 0300 0700 0200 c3a900 00 0600 0900 7879 0000`,
        ).toHex(),
      );
    }
  });
  test("writes zeros as padding into a used buffer", () => {
    const to = new Writer(8);
    to.append(new Uint8Array(8).fill(0xff));
    to.reset();
    to.appendText("a");
    to.align();
    expect(to.written().toHex()).toBe("61000000");
  });
  test("appendText() writes UTF-8", () => {
    const to = new Writer(1);
    to.appendText("aé€");
    expect(to.written().toHex()).toBe("61c3a9e282ac");
  });
});

describe("Source", () => {
  test.each([
    ["up to the NUL", "616200 63", "ab"],
    ["up to the end", "6162", "ab"],
    ["UTF-8", "61c3a900ff", "aé"],
    ["no UTF-8", "61ff00", "a\ufffd"],
    ["nothing", "", ""],
  ])("text(): %s", (_, input, want) => {
    const from = new Source(hex(input));
    expect(from.text(0, from.bytes.length)).toBe(want);
  });
});

const header = struct({ kind: u8, pad: u8, count: u16, index: i32 });
const inner = attrs({ a: [1, u8], name: [2, cstr] });
const message = body(
  header,
  attrs({
    size: [1, u32],
    name: [2, cstr],
    inner: [3, inner],
    tags: [4, u16, { many: true }],
    big: [5, u64be],
    raw: [6, bytes],
    list: [7 | NESTED, list(1 | NESTED, inner)],
    hops: [8, records(struct({ length: u16, weight: u16 }), attrs({ via: [1, u32] }))],
    sort: [9, text],
    red: [10, u8, { when: ["sort", "red"] }],
    blue: [10, cstr, { when: ["sort", "blue"] }],
  }),
);

const zeros = "00000000 00000000";
type Given = Parameters<typeof message.write>[1];
const rows: [string, Given, string][] = [
  ["struct fields default to 0", {}, zeros],
  ["struct fields in order", { index: -2, kind: 1, count: 0x0203 }, "01000302 feffffff"],
  ["a present zero is sent", { size: 0 }, `${zeros} 0800 0100 00000000`],
  ["attributes in the value's order", { name: "a", size: 1 }, `${zeros} 0600 0200 6100 0000 0800 0100 01000000`],
  ["nesting", { inner: { a: 7, name: "b" } }, `${zeros} 1400 0300 0500 0100 07 000000 0600 0200 6200 0000`],
  ["an empty nest", { inner: {} }, `${zeros} 0400 0300`],
  ["a repeated attribute is a list", { tags: [1, 2] }, `${zeros} 0600 0400 0100 0000 0600 0400 0200 0000`],
  ["64 bits, big-endian", { big: 0x0102030405060708n }, `${zeros} 0c00 0500 0102030405060708`],
  ["a list with flag bits", { list: [{ a: 1 }, {}] }, `${zeros} 1400 0780 0c00 0180 0500 0100 01 000000 0400 0180`],
  [
    "records count themselves",
    {
      hops: [
        { length: 12, weight: 5, via: 1 },
        { length: 4, weight: 6 },
      ],
    },
    `${zeros} 1400 0800 0c00 0500 0800 0100 01000000 0400 0600`,
  ],
  ["content by a sibling, one way", { sort: "red", red: 9 }, `${zeros} 0700 0900 726564 00 0500 0a00 09 000000`],
  ["content by a sibling, another", { sort: "blue", blue: "x" }, `${zeros} 0800 0900 626c7565 0600 0a00 7800 0000`],
  [
    "content by a sibling, unknown",
    { sort: "x", other: [[10, hex("01")]] },
    `${zeros} 0500 0900 78 000000 0500 0a00 01 000000`,
  ],
  ["unknown attributes keep type and flag bits", { other: [[0x8063, hex("aa")]] }, `${zeros} 0500 6380 aa 000000`],
];

describe("body()", () => {
  test.each(rows)("encode(): %s", (_, value, want) => {
    expect(encode(message, value).toHex()).toBe(hex(want).toHex());
  });
  test.each(rows)("decode(): %s", (_, value, input) => {
    const decoded = decode(message, hex(input));
    expect(decoded).toMatchObject(value);
    expect(encode(message, decoded).toHex()).toBe(hex(input).toHex());
  });
  test("an absent field and an undefined one are not sent", () => {
    expect(encode(message, { size: undefined, name: undefined }).toHex()).toBe(hex(zeros).toHex());
  });
  test("decode() copies: the receive buffer is used again", () => {
    const input = hex(`${zeros} 0600 0600 0102 0000`);
    const decoded = decode(message, input);
    input.fill(0xff);
    expect(decoded.raw?.toHex()).toBe("0102");
  });
  test("of two attributes of one type the last counts, as for the kernel", () => {
    expect(decode(message, hex(`${zeros} 0800 0100 01000000 0800 0100 02000000`)).size).toBe(2);
  });
  test("what is less than an attribute's header at the end is padding", () => {
    expect(decode(message, hex(`${zeros} 000000`))).toEqual({ kind: 0, pad: 0, count: 0, index: 0 });
  });
  test("a reader that does not want unknown attributes gets none", () => {
    const input = hex(`${zeros} 0500 6300 aa 000000 0800 0100 01000000`);
    expect(message.read(new Source(input, false), 0, input.length)).toEqual({
      kind: 0,
      pad: 0,
      count: 0,
      index: 0,
      size: 1,
    });
  });
  test.each([
    ["short header", "0000", "Cannot read 8-byte struct: 2 left (at byte 0)"],
    ["length past the end", `${zeros} ff00 0200`, "Cannot read attribute 2: length 255, 4 left (at byte 8)"],
    ["length below its header", `${zeros} 0300 0200`, "Cannot read attribute 2: length 3, 4 left (at byte 8)"],
    ["length 0, which would never end", `${zeros} 0000 0200`, "Cannot read attribute 2: length 0, 4 left (at byte 8)"],
    ["number cut short", `${zeros} 0600 0100 0000 0000`, "Cannot read 4-byte number: 2 left (at byte 12)"],
    ["record below its header", `${zeros} 0800 0800 0000 0000`, "Cannot read record: length 0, 4 left (at byte 12)"],
  ])("decode() refuses: %s", (_, input, why) => {
    expect(() => decode(message, hex(input))).toThrow(new WireError(why));
  });
  test("encode() refuses what has no room, and a NUL in a name", () => {
    expect(() => encode(message, { raw: new Uint8Array(65_532) })).toThrow("65536 bytes, 65535 fit");
    expect(() => encode(message, { name: "a\0b" })).toThrow("it has a NUL");
    expect(() => encode(message, { sort: "\0" })).toThrow("it has a NUL");
  });
});

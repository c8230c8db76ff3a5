import { describe, expect, test } from "bun:test";
import { DbusProtocolError, decodeMessage, encodeCall, MessageType, messageLength } from "./message.ts";

const hex = (text: string): Uint8Array => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

// What dbus-send 1.14 and dbus-daemon 1.14 say to each other, by strace:
// dbus-send --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner string:x
const call = `6c010001 06000000 02000000 6f000000 01016f00 01000000 2f000000 00000000
  02017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000
  03017300 0c000000 4e616d65 4861734f 776e6572 00000000
  06017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000
  08016700 01730000 01000000 7800`;
const answer = `6c020101 04000000 03000000 3d000000 06017300 04000000 3a312e30 00000000
  05017500 02000000 08016700 01620000
  07017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000 00000000`;
// … --dest=a.b / a.b.c string:x
const refusal = `6c030101 38000000 03000000 75000000 06017300 04000000 3a312e31 00000000
  04017300 29000000 6f72672e 66726565 6465736b 746f702e 44427573 2e457272 6f722e53 65727669 6365556e 6b6e6f77 6e000000
  00000000 05017500 02000000 08016700 01730000
  07017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000
  33000000 54686520 6e616d65 20612e62 20776173 206e6f74 2070726f 76696465 64206279 20616e79 202e7365 72766963 65206669
  6c657300`;
const signal = `6c040101 09000000 02000000 8d000000 01016f00 15000000 2f6f7267 2f667265 65646573 6b746f70 2f444275 73000000
  02017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000
  03017300 0c000000 4e616d65 41637175 69726564 00000000 06017300 04000000 3a312e30 00000000 08016700 01730000
  07017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000 04000000 3a312e30 00`;

describe("encodeCall()", () => {
  test("is what dbus-send writes, but that it starts no service", () => {
    const name = "org.freedesktop.DBus";
    const bytes = encodeCall({ destination: name, path: "/", interface: name, member: "NameHasOwner", args: ["x"] }, 2);
    const want = hex(call);
    want[2] = 2;
    expect(messageLength(bytes)).toBe(bytes.length);
    expect(bytes.toHex()).toBe(want.toHex());
  });
  test("refuses text that C would cut short", () => {
    const call = { destination: "d", path: "/", interface: "i", member: "m", args: ["a\0b"] };
    expect(() => encodeCall(call, 1)).toThrow(DbusProtocolError);
  });
});

describe("decodeMessage()", () => {
  test.each([
    ["a boolean", answer, { type: MessageType.RETURN, replySerial: 2, errorName: undefined, value: false }],
    [
      "an error",
      refusal,
      {
        type: MessageType.ERROR,
        replySerial: 2,
        errorName: "org.freedesktop.DBus.Error.ServiceUnknown",
        value: "The name a.b was not provided by any .service files",
      },
    ],
    ["a signal", signal, { type: MessageType.SIGNAL, replySerial: undefined, errorName: undefined, value: ":1.0" }],
  ])("%s", (_, text, want) => {
    const bytes = hex(text);
    expect(messageLength(bytes)).toBe(bytes.length);
    expect(decodeMessage(bytes)).toEqual(want);
  });
  test("the other byte order", () => {
    const big = hex("42020101 00000000 00000003 00000008 05017500 00000007");
    expect(messageLength(big)).toBe(24);
    expect(decodeMessage(big)).toMatchObject({ type: MessageType.RETURN, replySerial: 7 });
  });
  test("too little to tell", () => {
    expect(messageLength(hex(answer).subarray(0, 15))).toBeUndefined();
  });
  test("what is no message, or a very long one, is refused", () => {
    expect(() => messageLength(new Uint8Array(16).fill(0x41))).toThrow(DbusProtocolError);
    expect(() => messageLength(hex("6c020101 ffffff7f 03000000 00000000"))).toThrow(DbusProtocolError);
  });
  test("mutated answers throw nothing else, and come to an end", () => {
    const good = hex(answer);
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state % below;
    };
    for (let i = 0; i < 20_000; i++) {
      const bytes = good.slice(0, 1 + random(good.length));
      for (let n = random(4); n >= 0; n--) bytes[random(bytes.length)] = random(256);
      try {
        const length = messageLength(bytes);
        if (length !== undefined && length <= bytes.length) decodeMessage(bytes.subarray(0, length));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(DbusProtocolError);
      }
    }
  });
});

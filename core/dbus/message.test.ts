import { describe, expect, test } from "bun:test";
import { DbusProtocolError, decodeMessage, encodeCall, MessageType, messageLength } from "./message.ts";

const hex = (text: string): Uint8Array => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));

// What dbus-send 1.14 sends, but for the flag of a call that starts no service:
// dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner string:x
const call = `6c010201 06000000 02000000 79000000
  01016f00 01000000 2f000000 00000000
  02017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000
  03017300 0c000000 4e616d65 4861734f 776e6572 00000000
  06017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00000000
  08016700 01730000 00000000 00000000
  01000000 7800`;

// What dbus-daemon 1.14 answers, of both byte orders.
const yes = `6c020101 04000000 03000000 3d000000
  06017300 04000000 3a312e32 00000000
  05017500 02000000
  08016700 01620000
  07017300 14000000 6f72672e 66726565 6465736b 746f702e 44427573 00 000000
  01000000`;
const refusal = `42030101 0000000a 00000003 0000001d
  04017300 00000006 612e6245 72720000
  05017500 00000007
  08016700 01730000 00000005 524f5700 0000`;

describe("encodeCall()", () => {
  test("is what dbus-send writes", () => {
    const bytes = encodeCall(
      {
        destination: "org.freedesktop.DBus",
        path: "/",
        interface: "org.freedesktop.DBus",
        member: "NameHasOwner",
        args: ["x"],
      },
      2,
    );
    const want = hex(call);
    expect(messageLength(bytes)).toBe(bytes.length);
    expect(bytes.subarray(0, 12).toHex()).toBe(want.subarray(0, 12).toHex());
    expect(bytes.subarray(16, 128).toHex()).toBe(want.subarray(16, 128).toHex());
  });
  test("refuses text that C would cut short", () => {
    const call = { destination: "d", path: "/", interface: "i", member: "m", args: ["a\0b"] };
    expect(() => encodeCall(call, 1)).toThrow(DbusProtocolError);
  });
});

describe("decodeMessage()", () => {
  test("a boolean", () => {
    const bytes = hex(yes);
    expect(messageLength(bytes)).toBe(bytes.length);
    expect(decodeMessage(bytes)).toEqual({
      type: MessageType.RETURN,
      replySerial: 2,
      errorName: undefined,
      value: true,
    });
  });
  test("an error in the other byte order", () => {
    expect(decodeMessage(hex(refusal))).toMatchObject({ type: MessageType.ERROR, replySerial: 7, errorName: "a.bErr" });
  });
  test("too little to tell", () => {
    expect(messageLength(hex(yes).subarray(0, 15))).toBeUndefined();
  });
  test("what is no message, or a very long one, is refused", () => {
    expect(() => messageLength(new Uint8Array(16).fill(0x41))).toThrow(DbusProtocolError);
    expect(() => messageLength(hex("6c020101 ffffff7f 03000000 00000000"))).toThrow(DbusProtocolError);
  });
  test("mutated answers throw nothing else, and come to an end", () => {
    const good = hex(yes);
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

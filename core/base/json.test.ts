import { describe, expect, test } from "bun:test";
import { JsonError, member, parseJson, withoutNulls } from "./json.ts";

/** Makes a text too long for the short way: both have to say the same. */
const scanned = " ".repeat(20_001);

describe("parseJson()", () => {
  test.each([
    ["object", '{"a":[1,2.5,"x",null,true],"b":{"a":1}}'],
    ["same key in two objects", '[{"a":1},{"a":2}]'],
    ["a string value equal to a key", '{"a":"a"}'],
    ["escapes", '{"\\u0061b":"\\ud83d\\ude00\\n"}'],
    ["big but safe", "9007199254740991"],
    ["fraction and exponent", "[1e3,1500.0,-0.5]"],
    ["blanks, in strings too", '{ "a b":\t"c  d",\r\n "ab" : [ 1 , 2 ] }'],
    ["letters of both cases", '{"cniVersion":"1.0.0","MTU":1500}'],
    ["keys that are numbers", '{"b":1,"1":2}'],
  ])("takes: %s", (_, text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text));
    expect(parseJson(text + scanned)).toEqual(JSON.parse(text));
  });

  test.each([
    ["duplicate key", '{"a":1,"a":2}', 'the key "a" twice (at 7)'],
    ["keys equal but for case", '{"type":"x","Type":"y"}', 'the key "Type" twice (at 12)'],
    ["duplicate by escape", '{"a":1,"\\u0061":2}', 'the key "a" twice (at 7)'],
    ["__proto__", '{"__proto__":1}', 'the key "__proto__" at 1'],
    ["escaped __proto__", '{"\\u005f_proto__":1}', 'the key "__proto__" at 1'],
    ["NUL", '{"a":"\\u0000"}', "a NUL character at 5"],
    ["lone surrogate", '["\\ud800"]', "a lone surrogate at 1"],
    ["integer over 2^53", "[9007199254740993]", "the number 9007199254740993 that cannot be kept exactly (at 1)"],
    ["integer of 2^53", "[9007199254740992]", "the number 9007199254740992 that cannot be kept exactly (at 1)"],
    ["duplicate key among blanks", '{ "a" : 1, "a": 1 }', 'the key "a" twice (at 11)'],
    ["keys equal but for case, deep down", '[{"x":{"MTU":1,"mtu":1}}]', 'the key "mtu" twice (at 15)'],
    ["a blank's difference", '{"a":" ","a ":1,"a":""}', 'the key "a" twice (at 16)'],
    ["overflowing float", "[1e999]", "the number 1e999 that cannot be kept exactly (at 1)"],
    ["depth", "[".repeat(40), "nested deeper than 32"],
    ["tokens", `[${"1,".repeat(20_001)}1]`, "more than 20000 tokens"],
    ["trailing text", '{"a":1} x', ""],
    ["empty", "", ""],
    ["unterminated string", '{"a', ""],
  ])("refuses: %s", (_, text, message) => {
    expect(() => parseJson(text)).toThrow(JsonError);
    expect(() => parseJson(text)).toThrow(message);
    expect(() => parseJson(text + scanned)).toThrow(message);
  });

  test("refuses bytes that are not UTF-8 and documents over the limit", () => {
    expect(() => parseJson(Uint8Array.of(0x22, 0xff, 0x22))).toThrow("not UTF-8");
    expect(() => parseJson("[1,2,3]", { maxBytes: 4 })).toThrow("more than 4 bytes");
  });

  test("never accepts what JSON.parse refuses, nor throws anything else", () => {
    const seed = '{"a":[1,-2.5e3,"x\\u00e9",null,true,{"b":{}}],"c":"\\"\\\\"}';
    const alphabet = '{}[]",:\\0aeE.-+ tn\u0000';
    let state = 7;
    const random = (n: number): number => {
      state = (state * 1103515245 + 12345) & 0x7fffffff;
      return state % n;
    };
    for (let round = 0; round < 20_000; round++) {
      const at = random(seed.length);
      const text = seed.slice(0, at) + alphabet.charAt(random(alphabet.length)) + seed.slice(at + random(3));
      let strict: unknown;
      try {
        strict = parseJson(text);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(JsonError);
        expect(() => parseJson(text + scanned)).toThrow(JsonError);
        continue;
      }
      expect(parseJson(text + scanned)).toEqual(JSON.parse(text));
      expect(strict).toEqual(JSON.parse(text));
    }
  });
});

test("withoutNulls() drops null members at any depth and keeps array items", () => {
  expect(withoutNulls({ a: null, b: { c: null, d: [null, { e: null }] } })).toEqual({ b: { d: [null, {}] } });
});

test("member() takes PascalCase and counts null as absent", () => {
  expect(member({ HostPort: 80 }, "hostPort")).toBe(80);
  expect(member({ hostPort: null }, "hostPort")).toBeUndefined();
  expect(member({ other: 1 }, "hostPort")).toBeUndefined();
});

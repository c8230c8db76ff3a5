import { describe, expect, test } from "bun:test";
import { JsonError, member, parseJson, withoutNulls } from "./json.ts";

describe("parseJson()", () => {
  test.each([
    ["object", '{"a":[1,2.5,"x",null,true],"b":{"a":1}}'],
    ["same key in two objects", '[{"a":1},{"a":2}]'],
    ["a string value equal to a key", '{"a":"a"}'],
    ["escapes", '{"\\u0061b":"\\ud83d\\ude00\\n"}'],
    ["big but safe", "9007199254740991"],
    ["fraction and exponent", "[1e3,1500.0,-0.5]"],
  ])("takes: %s", (_, text) => {
    expect(parseJson(text)).toEqual(JSON.parse(text));
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
    ["overflowing float", "[1e999]", "the number 1e999 that cannot be kept exactly (at 1)"],
    ["depth", "[".repeat(40), "nested deeper than 32"],
    ["tokens", `[${"1,".repeat(20_001)}1]`, "more than 20000 tokens"],
    ["trailing text", '{"a":1} x', ""],
    ["empty", "", ""],
    ["unterminated string", '{"a', ""],
  ])("refuses: %s", (_, text, message) => {
    expect(() => parseJson(text)).toThrow(JsonError);
    expect(() => parseJson(text)).toThrow(message);
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
        continue;
      }
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

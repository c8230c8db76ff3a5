/** The AssemblyScript SDK, run as guests see it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import type { JsonObject } from "../core/base/json.ts";
import { compileGuest, type GuestEnd, runGuest } from "./testing.ts";

setDefaultTimeout(60_000); // a guest may have to be compiled first

const echo = compileGuest("plugins-wasm/sdk/assemblyscript/test/echo/assembly/index.ts");
const values = compileGuest("plugins-wasm/sdk/assemblyscript/test/values/assembly/index.ts");

const read = (document: string | Uint8Array): GuestEnd =>
  runGuest(echo, { env: { CNI_COMMAND: "ADD" }, stdin: document });

/** Runs one action of the guest "values". */
function act(conf: JsonObject | string, env: Record<string, string> = {}, answer?: (call: string) => JsonObject) {
  const stdin = typeof conf === "string" ? conf : JSON.stringify(conf);
  return runGuest(values, { env: { CNI_COMMAND: "ADD", ...env }, stdin, ...(answer ? { answer } : {}) });
}
const value = (conf: JsonObject | string, env: Record<string, string> = {}): unknown => {
  const end = act(conf, env);
  expect(end).toMatchObject({ exit: 0 });
  return (JSON.parse(end.stdout) as { value?: unknown }).value;
};
const error = (end: GuestEnd): { code: number; msg: string; details: string } => {
  expect(end.exit).toBe(1);
  return JSON.parse(end.stdout);
};

describe("the JSON reader", () => {
  test.each([
    "{}",
    "[]",
    ' \t\r\n{ "a" : [ 1 , 2 ] , "b" : { } } ',
    '"text"',
    "0",
    "-0",
    "-1.5e+10",
    "1E-7",
    "[true,false,null]",
    '{"":1,"a":{"a":{"a":[[[]]]}}}',
    '"\\u0041\\n\\t\\r\\b\\f\\/\\\\\\""',
    '"\\ud83d\\ude00 \\u00e9 \\u20ac"',
    '"é € 😀 \u007f"',
    '"\\u0000"',
    `[${"1,".repeat(5000)}1]`,
    `{"long":"${"x".repeat(40_000)}"}`,
    `${"[".repeat(64)}${"]".repeat(64)}`,
  ])("reads and writes %p", (document) => {
    const end = read(document);
    expect(end.exit).toBe(0);
    expect(JSON.parse(end.stdout)).toEqual(JSON.parse(document));
  });

  test.each([
    ["", "a value at byte 0"],
    ["{", "a key at byte 1"],
    ["[1,]", "a value at byte 3"],
    ['{"a":1,}', "a key at byte 7"],
    ['{"a" 1}', '":" at byte 5'],
    ['{"a":1 "b":2}', '"," or "}" at byte 7'],
    ["[1 2]", '"," or "]" at byte 3'],
    ["{}x", "the end at byte 2"],
    ["01", "the end at byte 1"],
    ["1.", "a digit at byte 2"],
    [".5", "a value at byte 0"],
    ["+1", "a value at byte 0"],
    ["1e", "a digit at byte 2"],
    ["-", "a value at byte 1"],
    ["tru", '"true" at byte 3'],
    ["nul", '"null" at byte 3'],
    ["NaN", "a value at byte 0"],
    ['"a', "a closing quote at byte 2"],
    ['"\n"', "no control character at byte 1"],
    ['"\\x"', "an escape sequence at byte 3"],
    ['"\\u12g4"', "an escape sequence at byte 3"],
    ['"\\ud800"', "a whole surrogate pair at byte 7"],
    ['"\\ud800\\u0041"', "a whole surrogate pair at byte 7"],
    ['"\\udc00"', "a whole surrogate pair at byte 7"],
    ['{"a":1,"a":2}', "each key once at byte 10"],
    ['{"a":1,"\\u0061":2}', "each key once at byte 15"],
    [`${"[".repeat(65)}${"]".repeat(65)}`, "at most 64 levels at byte 64"],
  ])("refuses %p", (document, expected) => {
    expect(error(read(document))).toMatchObject({
      code: 6,
      msg: `Cannot read the network configuration: expected ${expected}`,
    });
  });

  test.each([
    ["a lone continuation byte", [0x80]],
    ["an overlong form", [0xc0, 0xaf]],
    ["an overlong form of three bytes", [0xe0, 0x80, 0xaf]],
    ["a surrogate", [0xed, 0xa0, 0x80]],
    ["more than U+10FFFF", [0xf4, 0x90, 0x80, 0x80]],
    ["a sequence cut short", [0xe2, 0x82]],
    ["a byte that UTF-8 never has", [0xff]],
  ])("refuses %s", (_, bytes) => {
    expect(error(read(Uint8Array.of(0x22, ...bytes, 0x22))).msg).toContain("expected UTF-8");
  });

  test("agrees with JSON.parse on 1500 documents, good and spoiled", () => {
    const random = randomSource(7);
    let accepted = 0;
    for (let i = 0; i < 1500; i++) {
      let document = JSON.stringify(randomJson(random, 0), null, random(4) === 0 ? 1 : undefined);
      if (i % 3 === 0) document = spoil(document, random).toWellFormed();
      const expected = tryParse(document);
      const end = read(document);
      if (end.exit === 0) {
        expect(tryParse(end.stdout), document).toEqual(expected);
        expect(expected, document).toBeDefined();
        accepted++;
      } else if (expected !== undefined && !isOurRefusal(error(end).msg)) {
        throw new Error(`refused ${document}: ${end.stdout}`);
      }
    }
    expect(accepted).toBeGreaterThan(1000);
  });
});

/** What this reader refuses and JSON.parse does not. */
const isOurRefusal = (msg: string): boolean => msg.includes("each key once") || msg.includes("surrogate");

function tryParse(document: string): { readonly is: unknown } | undefined {
  try {
    return { is: JSON.parse(document) };
  } catch {
    return undefined;
  }
}

/** Numbers below a bound, the same in every run. */
function randomSource(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomText(random: (below: number) => number): string {
  const letters = ["a", "k", "é", "€", "😀", '"', "\\", "\n", "\u0001", "/", " ", "mtu"];
  return Array.from({ length: random(6) }, () => letters[random(letters.length)]).join("");
}

function randomJson(random: (below: number) => number, depth: number): unknown {
  const kind = random(depth > 5 ? 5 : 7);
  if (kind === 0) return null;
  if (kind === 1) return random(2) === 0;
  if (kind === 2) return random(1_000_000) - 500_000;
  if (kind === 3) return (random(1_000_000) - 500_000) * 10 ** (random(40) - 20);
  if (kind === 4) return randomText(random);
  if (kind === 5) return Array.from({ length: random(5) }, () => randomJson(random, depth + 1));
  return Object.fromEntries(
    Array.from({ length: random(5) }, () => [randomText(random), randomJson(random, depth + 1)]),
  );
}

function spoil(document: string, random: (below: number) => number): string {
  const at = random(document.length + 1);
  const bits = ["{", "}", "[", "]", ",", ":", '"', "\\", "1", "e", ".", "-", "\\u0041", " ", "t", "null"];
  if (random(2) === 0) return document.slice(0, at) + document.slice(at + 1);
  return document.slice(0, at) + bits[random(bits.length)] + document.slice(at);
}

describe("accessors", () => {
  test.each([
    ["1500", 1500],
    ["1500.0", 1500],
    ["1.5e3", 1500],
    ["15e2", 1500],
    ["1e3", 1000],
    ["150000e-2", 1500],
    ["0.0015E+6", 1500],
    ["-0", 0],
    ["0e999999", 0],
    ["-42", -42],
    ["9007199254740991", 9007199254740991],
    ["-9007199254740991", -9007199254740991],
    ["9.007199254740991e15", 9007199254740991],
    ["100000000000000000000e-20", 1],
  ])("int() reads %s", (text, expected) => {
    expect(value(`{"do":"int","value":${text}}`)).toBe(expected);
  });

  test.each([
    "1.5",
    "1e-1",
    "9007199254740992",
    "1e16",
    "123456789012345678901",
    "1e999999999",
    '"1500"',
    "true",
    "[]",
  ])("int() refuses %s", (text) => {
    expect(error(act(`{"do":"int","value":${text}}`))).toMatchObject({
      code: 7,
      msg: `Cannot use "value": expected an integer, got ${text}`,
    });
  });

  test("an absent member and null give the fallback", () => {
    expect(value({ do: "int" })).toBe(-7);
    expect(value({ do: "int", value: null })).toBe(-7);
    expect(value({ do: "bool" })).toBe("yes");
    expect(value({ do: "str" })).toBe("none");
    expect(value({ do: "deep" })).toBe("");
    expect(value({ do: "deep", a: { b: { c: [{ d: "found" }] } } })).toBe("found");
  });

  test("a member of another type is an error that names it", () => {
    expect(error(act({ do: "bool", value: 1 })).msg).toBe('Cannot use "value": expected true or false, got 1');
    expect(error(act({ do: "str", value: [1] })).msg).toBe('Cannot use "value": expected a string, got [1]');
    expect(error(act({ do: "deep", a: "x" })).msg).toBe('Cannot use "a": expected an object, got "x"');
  });

  test("text keeps what was escaped", () => {
    expect(value(String.raw`{"do":"str","value":"a\u00e9\ud83d\ude00\n"}`)).toBe("aé😀\n");
    expect(value(String.raw`{"\u0064o":"str","value":"x"}`)).toBe("x");
  });
});

describe("addresses", () => {
  test.each([
    ["10.1.2.3", "10.1.2.3"],
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["::", "::"],
    ["::1", "::1"],
    ["fd00::", "fd00::"],
    ["FD00:0:0:1::A", "fd00:0:0:1::a"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
  ])("parseIp() reads %s as %s", (text, expected) => {
    expect(value({ do: "ip", value: text })).toBe(expected);
  });

  test.each([
    "",
    "10.1.2",
    "10.1.2.3.4",
    "10.1.2.256",
    "10.01.2.3",
    "10.1.2.3 ",
    ":",
    ":::",
    "1::2::3",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "12345::",
    "g::",
    "1:",
    "::1%eth0",
    "1:2:3:4:5:6:7::8",
  ])("parseIp() refuses %p", (text) => {
    expect(value({ do: "ip", value: text })).toBe("none");
  });

  test.each([
    ["10.1.2.3/24", "10.1.2.3/24 10.1.2.0 10.1.2.1"],
    ["10.1.255.255/12", "10.1.255.255/12 10.0.0.0 10.0.0.1"],
    ["10.0.0.5/32", "10.0.0.5/32 10.0.0.5 10.0.0.6"],
    ["192.0.2.1/0", "192.0.2.1/0 0.0.0.0 0.0.0.1"],
    ["fd00::1234/64", "fd00::1234/64 fd00:: fd00::1"],
    ["fd00:0:0:1:8000::/65", "fd00:0:0:1:8000::/65 fd00:0:0:1:8000:: fd00::1:8000:0:0:1"],
    ["fd00::ffff:ffff:ffff:ffff/128", "fd00::ffff:ffff:ffff:ffff/128 fd00::ffff:ffff:ffff:ffff fd00:0:0:1::"],
    ["fd12:3456::1/20", "fd12:3456::1/20 fd12:3000:: fd12:3000::1"],
    ["10.0.0.1", "none"],
    ["10.0.0.1/", "none"],
    ["10.0.0.1/33", "none"],
    ["10.0.0.1/024", "none"],
    ["fd00::/129", "none"],
    ["10.0.0.1/1x", "none"],
  ])("parseCidr() reads %s", (text, expected) => {
    expect(value({ do: "cidr", value: text })).toBe(expected);
  });

  test("contains() compares networks", () => {
    expect(value({ do: "contains", value: "10.1.0.0/16", ip: "10.1.255.1" })).toBe("yes");
    expect(value({ do: "contains", value: "10.1.0.0/16", ip: "10.2.0.1" })).toBe("no");
    expect(value({ do: "contains", value: "fd00::/8", ip: "10.2.0.1" })).toBe("no");
  });
});

describe("the process", () => {
  test("env() and cniArg() find whole names", () => {
    const env = { CNI_IFNAMES: "wrong", CNI_IFNAME: "net1", CNI_ARGS: "XMAC=1;IgnoreUnknown=1;MAC=a=b;K8S=é" };
    expect(value({ do: "env", value: "CNI_IFNAME" }, env)).toBe("net1");
    expect(value({ do: "env", value: "CNI_IF" }, env)).toBe("");
    expect(value({ do: "arg", value: "MAC" }, env)).toBe("a=b");
    expect(value({ do: "arg", value: "K8S" }, env)).toBe("é");
    expect(value({ do: "arg", value: "Unknown" }, env)).toBe("");
  });

  test.each([
    ["0A:58:0A:01:02:03", "0a:58:0a:01:02:03"],
    ["0a-58-0a-01-02-03", "0a:58:0a:01:02:03"],
    ["0a58.0a01.0203", "0a:58:0a:01:02:03"],
  ])("requestedMac() reads %s", (mac, expected) => {
    expect(value({ do: "mac", mac })).toBe(expected);
  });

  test.each([
    ["f1:00:00:00:00:00", "multicast"],
    ["00:00:00:00:00:00", "zeros"],
    ["0a:58:0a:01:02", "expected six bytes"],
    ["0a:58:0a:01:02:0g", "expected six bytes"],
    ["0a:58-0a:01:02:03", "expected six bytes"],
    ["0a580a010203", "expected six bytes"],
  ])("requestedMac() refuses %s", (mac, why) => {
    expect(error(act({ do: "mac", mac })).msg).toContain(why);
  });

  test("requestedMac() takes the nearest wish", () => {
    const conf = { do: "mac", mac: "02:00:00:00:00:01", args: { cni: { mac: "02:00:00:00:00:03" } } };
    const env = { CNI_ARGS: "MAC=02:00:00:00:00:02" };
    const own: JsonObject = { do: "mac", mac: "02:00:00:00:00:01" };
    expect(value(own, env)).toBe("02:00:00:00:00:02");
    expect(value({ ...own, runtimeConfig: { mac: "02:00:00:00:00:04" } }, env)).toBe("02:00:00:00:00:04");
    expect(error(act(conf)).msg).toContain('"args"'); // this guest reads "args" as a boolean
  });

  test("fail() writes one CNI error and ends the run", () => {
    expect(error(act({ do: "fail" }))).toEqual({
      cniVersion: "1.1.0",
      code: 203,
      msg: 'Cannot do "it"\n',
      details: "Do\tsomething else",
    } as never);
  });

  test("an abort is a CNI error that names file and line", () => {
    const { code, msg } = error(act({ do: "throw" }));
    expect(code).toBe(999);
    expect(msg).toMatch(/^Cannot go on: on purpose at plugins-wasm\/.*index\.ts:\d+:\d+$/);
    expect(error(act({ do: "abort" })).code).toBe(999);
  });

  test("a failed answer goes out as it came", () => {
    const refusal = { code: 123, msg: "Cannot: é", details: "EBUSY (16)", extra: [1] };
    const end = act({ do: "call" }, {}, () => ({ error: refusal }));
    expect(end.calls).toEqual([["link_create", { kind: "dummy", in: "pod", mtu: 1500 }]]);
    expect(error(end)).toEqual(refusal);
    expect(act({ do: "code" }, {}, () => ({ error: refusal })).stdout).toBe('{"value":"Cannot: é"}');
  });

  test("stderr() writes a line, and an operation without a function succeeds in silence", () => {
    expect(act({ do: "log" })).toMatchObject({ exit: 0, stdout: "", stderr: "one line\n" });
    expect(act({}, { CNI_COMMAND: "DEL" })).toEqual({ exit: 0, stdout: "", stderr: "", calls: [] });
    expect(error(act({}, { CNI_COMMAND: "VERSION" })).code).toBe(4);
  });
});

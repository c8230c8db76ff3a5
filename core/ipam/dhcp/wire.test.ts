import { describe, expect, test } from "bun:test";
import { WireError } from "../../wire/buffer.ts";
import { decode, encode } from "../../wire/codec.ts";
import { decodeFrame, encodeFrame } from "./frame.ts";
import { BOOTREPLY, BOOTREQUEST, type Message, MessageType, message, OptionCode } from "./message.ts";
import { dnsOf, gatewayOf, isUsable, prefixOf, routesOf, timeServersOf, timesOf } from "./options.ts";

const hex = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));
const mac = hex("02 42 ac 11 00 02");

const discover: Partial<Message> = {
  op: BOOTREQUEST,
  hardwareType: 1,
  hardwareLength: 6,
  xid: 0x01020304,
  hardware: mac,
  options: new Map([[OptionCode.MESSAGE_TYPE, Uint8Array.of(MessageType.DISCOVER)]]),
};

/** A whole OFFER or ACK around options and the two fields that may hold some. */
function reply(parts: { options: string; file?: string; serverName?: string }): Uint8Array {
  const bytes = new Uint8Array(240 + hex(parts.options).length);
  bytes.set(hex("02 01 06 00 01020304 0000 0000 00000000 c0a80105 00000000 00000000"));
  bytes.set(mac, 28);
  bytes.set(hex(parts.serverName ?? ""), 44);
  bytes.set(hex(parts.file ?? ""), 108);
  bytes.set(hex("63825363"), 236);
  bytes.set(hex(parts.options), 240);
  return bytes;
}
const optionsOf = (text: string): ReadonlyMap<number, Uint8Array> => decode(message, reply({ options: text })).options;

describe("message", () => {
  test("is written as RFC 2131 draws it, and read back", () => {
    const bytes = encode(message, discover);
    expect(bytes.length).toBe(300);
    expect(bytes.slice(0, 44).toHex()).toBe(
      hex(
        "01 01 06 00 01020304 0000 0000 00000000 00000000 00000000 00000000 0242ac110002 00000000000000000000",
      ).toHex(),
    );
    expect(bytes.slice(236, 244).toHex()).toBe(hex("63825363 35 01 01 ff").toHex());
    const read = decode(message, bytes);
    expect(read).toMatchObject({ op: BOOTREQUEST, xid: 0x01020304, hardwareLength: 6 });
    expect(read.hardware.slice(0, 6)).toEqual(mac);
    expect(read.options).toEqual(new Map([[53, Uint8Array.of(1)]]));
  });

  test("options in parts are one, and long ones are sent in parts", () => {
    expect(optionsOf("35 01 05 79 02 0a0b 00 79 01 0c ff").get(121)).toEqual(hex("0a0b0c"));
    const long = new Uint8Array(600).fill(7);
    const bytes = encode(message, { ...discover, options: new Map([[121, long]]) });
    expect(decode(message, bytes).options.get(121)).toEqual(long);
  });

  test.each([
    ["file", "34 01 01 ff", ["06 04 01010101 ff", ""], "01010101"],
    ["server name", "34 01 02 ff", ["", "06 04 02020202 ff"], "02020202"],
    ["both, file first", "34 01 03 06 01 09 ff", ["06 01 0a ff", "06 02 0b0c ff"], "090a0b0c"],
    ["neither", "06 04 03030303 ff", ["06 04 01010101 ff", "06 04 02020202 ff"], "03030303"],
  ] as const)("options may lie over %s", (_, options, [file, serverName], want) => {
    expect(decode(message, reply({ options, file, serverName })).options.get(OptionCode.DNS)).toEqual(hex(want));
  });

  test.each([
    ["short", reply({ options: "" }).slice(0, 239), "240"],
    ["no cookie", reply({ options: "" }).fill(0, 236), "BOOTP"],
    ["an option past the end", reply({ options: "35 05 05" }), "option 53"],
    ["an option without a length", reply({ options: "35" }), "option 53"],
    ["one past the end of the file's name", reply({ options: "34 01 01 ff", file: `06 7f` }), "option 6"],
  ] as const)("is refused: %s", (_, bytes, words) => {
    expect(() => decode(message, bytes)).toThrow(words);
  });

  test("nothing after the end mark is read", () => {
    expect([...optionsOf("35 01 05 ff 06 04 01010101").keys()]).toEqual([53]);
  });
});

describe("frame", () => {
  const frame = {
    from: mac,
    to: new Uint8Array(6).fill(255),
    source: 0,
    destination: 0xffffffff,
    sourcePort: 68,
    destinationPort: 67,
    message: discover,
  };

  test("has the checksums that tcpdump calls ok, and is read back", () => {
    const bytes = encodeFrame(frame);
    expect(bytes.length).toBe(14 + 20 + 8 + 300);
    expect(bytes.slice(0, 34).toHex()).toBe(
      hex("ffffffffffff 0242ac110002 0800 4500 0148 0000 4000 4011 39a6 00000000 ffffffff").toHex(),
    );
    expect(decodeFrame(bytes)).toMatchObject({
      source: 0,
      destination: 0xffffffff,
      sourcePort: 68,
      destinationPort: 67,
    });
  });

  test("is read with a checksum that was left to the network card, and with none", () => {
    for (const checksum of [0, 17 + 308]) {
      const bytes = encodeFrame(frame);
      new DataView(bytes.buffer).setUint16(40, checksum);
      expect(decodeFrame(bytes).message.xid).toBe(0x01020304);
    }
  });

  const changed = (at: number, value: number): Uint8Array => {
    const bytes = encodeFrame(frame);
    bytes[at] = value;
    return bytes;
  };
  test.each([
    ["another ethertype", changed(13, 6)],
    ["a header of 16 bytes", changed(14, 0x44)],
    ["a version of 6", changed(14, 0x65)],
    ["a length past the end", changed(16, 9)],
    ["a part of a packet", changed(20, 0x20)],
    ["TCP", changed(23, 6)],
    ["another source with the old checksum", changed(26, 1)],
    ["a datagram longer than its packet", changed(38, 9)],
    ["a datagram of three bytes", changed(39, 3)],
    ["a changed byte", changed(60, 1)],
    ["nothing", new Uint8Array(0)],
  ])("is refused: %s", (_, bytes) => {
    expect(() => decodeFrame(bytes)).toThrow(WireError);
  });
});

describe("options", () => {
  test.each([
    ["ff000000", 8],
    ["ffffff00", 24],
    ["ffffffff", 32],
    ["fffffffe", 31],
    ["80000000", 1],
    ["ff00ff00", undefined],
    ["00000000", undefined],
  ])("mask %s is prefix %p", (mask, prefix) => {
    expect(prefixOf(Number.parseInt(mask, 16))).toBe(prefix);
  });

  test.each([
    [
      "classless routes win over all others",
      "79 08 18 c0a802 c0a80101 03 04 c0a80101 21 08 0a000000 c0a80102 ff",
      [{ dst: "192.168.2.0/24", gw: "192.168.1.1" }],
    ],
    [
      "a default route and one on the link",
      "79 12 00 c0a80101 20 a9fea9fe 00000000 08 0a c0a80102 ff".replace("12", "14"),
      [
        { dst: "0.0.0.0/0", gw: "192.168.1.1" },
        { dst: "169.254.169.254/32", gw: "0.0.0.0", scope: 253 },
        { dst: "10.0.0.0/8", gw: "192.168.1.2" },
      ],
    ],
    ["Microsoft's number, where the other is not", "f9 05 00 c0a80101 ff", [{ dst: "0.0.0.0/0", gw: "192.168.1.1" }]],
    [
      "a prefix of 33 ends them, and the router counts again",
      "79 0a 21 c0a8020101 c0a80101 03 04 c0a80101 ff",
      [{ dst: "0.0.0.0/0", gw: "192.168.1.1" }],
    ],
    ["host bits are cleared", "79 08 14 c0a8ff c0a80101 ff", [{ dst: "192.168.240.0/20", gw: "192.168.1.1" }]],
    [
      "routes by class, then the router",
      "21 10 0a000000 c0a80102 c0a80200 c0a80103 03 08 c0a80101 c0a80109 ff",
      [
        { dst: "10.0.0.0/8", gw: "192.168.1.2" },
        { dst: "192.168.2.0/24", gw: "192.168.1.3" },
        { dst: "0.0.0.0/0", gw: "192.168.1.1" },
      ],
    ],
    ["nothing", "ff", []],
  ])("routes: %s", (_, text, want) => {
    expect(routesOf(optionsOf(text))).toEqual(want);
  });

  test("names of servers", () => {
    const options = optionsOf(
      "06 08 01010101 00000000 0f 0c 6578616d706c652e636f6d00 2a 04 c0a80101 03 04 7f000001 ff",
    );
    expect(dnsOf(options)).toEqual({ nameservers: ["1.1.1.1"], domain: "example.com" });
    expect(timeServersOf(options)).toEqual(["192.168.1.1"]);
    expect(gatewayOf(options)).toBeUndefined();
    expect(dnsOf(optionsOf("0f 03 610a62 ff"))).toEqual({});
  });

  test.each([
    ["33 04 00000078 ff", { lease: 120, renew: 60, rebind: 105 }],
    ["33 04 00000078 3a 04 0000000a 3b 04 00000014 ff", { lease: 120, renew: 10, rebind: 20 }],
    ["33 04 00000078 3a 04 00000020 3b 04 00000010 ff", { lease: 120, renew: 60, rebind: 105 }],
    ["33 04 ffffffff ff", { lease: 0xffffffff, renew: 0xffffffff, rebind: 0xffffffff }],
    ["33 02 0001 ff", { lease: 3600, renew: 1800, rebind: 3150 }],
  ])("times: %s", (text, want) => {
    expect(timesOf(optionsOf(text))).toEqual(want);
  });

  test("addresses that no host can have", () => {
    expect([0, 0x7f000001, 0xe0000001, 0xffffffff, 0x0a000001].map(isUsable)).toEqual([
      false,
      false,
      false,
      false,
      true,
    ]);
  });
});

/** A generator with a seed, so that a failure can be met again. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test("answers of random bytes are refused or read to an end", () => {
  const next = random(4711);
  let read = 0;
  for (let i = 0; i < 20_000; i++) {
    const options: number[] = [];
    for (let n = next(8); n > 0; n--) {
      const length = next(6) === 0 ? next(256) : next(14);
      const code = [1, 3, 6, 15, 33, 42, 51, 52, 53, 54, 56, 58, 59, 121, 249, next(256)][next(16)] ?? 0;
      options.push(code, length, ...Array.from({ length: next(12) === 0 ? next(20) : length }, () => next(256)));
    }
    if (next(4) > 0) options.push(255);
    const whole = reply({ options: Uint8Array.from(options).toHex() });
    for (let n = next(3); n > 0; n--) whole[next(whole.length)] = next(256);
    for (let n = 0; next(2) === 0 && n < 64; n++) whole[44 + next(192)] = next(256);
    try {
      const found = decode(message, whole.subarray(0, whole.length - (next(4) === 0 ? next(40) : 0)));
      read++;
      const { lease, renew, rebind } = timesOf(found.options);
      expect(renew <= rebind && rebind <= lease).toBe(true);
      for (const { dst } of routesOf(found.options)) expect(dst).toMatch(/^[\d.]+\/\d+$/);
      dnsOf(found.options);
      timeServersOf(found.options);
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw new Error(`${whole.toHex()}: ${thrown}`);
    }
  }
  expect(read).toBeGreaterThan(3000);
});

test("frames of random bytes are refused or read to an end", () => {
  const next = random(99);
  const good = encodeFrame({
    from: mac,
    to: mac,
    source: 0xc0a80101,
    destination: 0xc0a80105,
    sourcePort: 67,
    destinationPort: 68,
    message: { ...discover, op: BOOTREPLY },
  });
  for (let i = 0; i < 20_000; i++) {
    const bytes = next(3) === 0 ? Uint8Array.from({ length: next(400) }, () => next(256)) : good.slice();
    for (let n = next(4); n > 0; n--) bytes[next(bytes.length || 1)] = next(256);
    try {
      decodeFrame(bytes.subarray(0, next(3) === 0 ? next(bytes.length + 1) : bytes.length));
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw new Error(`${bytes.toHex()}: ${thrown}`);
    }
  }
});

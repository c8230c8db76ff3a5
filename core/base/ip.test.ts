import { describe, expect, test } from "bun:test";
import {
  addIp,
  type Cidr,
  contains,
  formatCidr,
  formatIp,
  formatMac,
  type Ip,
  lastIp,
  networkOf,
  parseCidr,
  parseIp,
  parseMac,
} from "./ip.ts";

const ip = (text: string): Ip => parseIp(text) ?? expect.unreachable(`no address: ${text}`);
const cidr = (text: string): Cidr => parseCidr(text) ?? expect.unreachable(`no prefix: ${text}`);

describe("parseIp() and formatIp()", () => {
  test.each([
    ["10.0.0.1", "10.0.0.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["::", "::"],
    ["::1", "::1"],
    ["fd00:0:0:1::", "fd00:0:0:1::"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:DB8::0001", "2001:db8::1"],
    ["1:0:2:0:3:0:4:0", "1:0:2:0:3:0:4:0"],
    ["::ffff:10.1.2.3", "10.1.2.3"],
    ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
  ])("%s is %s", (text, want) => {
    expect(formatIp(ip(text))).toBe(want);
  });

  test.each([
    "",
    "1.2.3",
    "1.2.3.4.5",
    "256.1.1.1",
    "01.2.3.4",
    "1.2.3.4 ",
    ":::",
    "1::2::3",
    "12345::",
    "g::",
    "::1%eth0",
  ])("%p is no address", (text) => {
    expect(parseIp(text)).toBeUndefined();
  });
});

test.each(["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/a", "::/129", "10.0.0.0/024"])(
  "%p is no prefix",
  (text) => {
    expect(parseCidr(text)).toBeUndefined();
  },
);

test("networkOf(), lastIp(), contains(), addIp()", () => {
  expect(formatCidr(networkOf(cidr("10.1.2.3/20")))).toBe("10.1.0.0/20");
  expect(formatIp(lastIp(cidr("10.1.2.3/20")))).toBe("10.1.15.255");
  expect(formatCidr(networkOf(cidr("fd00::1234/64")))).toBe("fd00::/64");
  expect(contains(cidr("10.1.2.0/24"), ip("10.1.2.255"))).toBe(true);
  expect(contains(cidr("10.1.2.0/24"), ip("10.1.3.0"))).toBe(false);
  expect(contains(cidr("0.0.0.0/0"), ip("::1"))).toBe(false);
  expect(formatIp(addIp(ip("10.0.0.255"), 1))).toBe("10.0.1.0");
  expect(formatIp(addIp(ip("10.0.1.0"), -1))).toBe("10.0.0.255");
  expect(formatIp(addIp(ip("fd00::"), 1n << 64n))).toBe("fd00:0:0:1::");
});

test("parseMac() and formatMac()", () => {
  expect(formatMac(parseMac("0A:58:0a:01:02:03") ?? new Uint8Array())).toBe("0a:58:0a:01:02:03");
  for (const bad of [
    "",
    "0a:58:0a:01:02",
    "0a:58:0a:01:02:0g",
    "0a58.0a01.0203",
    "0a:58:0a-01:02:03",
    "a:58:0a:01:02:03",
  ]) {
    expect(parseMac(bad)).toBeUndefined();
  }
});

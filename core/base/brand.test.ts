import { describe, expect, test } from "bun:test";
import { isDnsName, isIfName, parseContainerId, parseIfName, parseNetnsPath, parsePluginType } from "./brand.ts";
import { CniError } from "./error.ts";

describe("names from outside", () => {
  test.each(["a", "A1_.-", "0".repeat(128)])("parseContainerId() takes %p", (text) => {
    expect(String(parseContainerId(text))).toBe(text);
  });
  test.each(["", "-a", ".a", "a/b", "a b", "a\0", "../x", "0".repeat(129), "é"])(
    "parseContainerId() refuses %p",
    (text) => {
      expect(() => parseContainerId(text)).toThrow(CniError);
    },
  );
  test.each(["eth0", "net1", "a".repeat(15), "v.100"])("isIfName() takes %p", (text) => {
    expect(isIfName(text)).toBe(true);
  });
  test.each(["", ".", "..", "a/b", "a:b", "a b", "a\tb", "a".repeat(16), "eth0\0x", "é", "br%d"])(
    "isIfName() refuses %p",
    (text) => {
      expect(isIfName(text)).toBe(false);
    },
  );
  test.each(["../../x", "a/b", "", "/bin/sh"])("parsePluginType() refuses %p", (text) => {
    expect(() => parsePluginType(text)).toThrow("plugin type");
  });
  test.each(["a", "a-b", "0a", "a.b-c.d"])("isDnsName() takes the subdomain %p", (text) => {
    expect(isDnsName(text, "subdomain")).toBe(true);
  });
  test.each(["", "-a", "a-", "a.", ".a", "a..b", "a.-b", "a-.b", "A", "a_b"])("isDnsName() refuses %p", (text) => {
    expect(isDnsName(text, "subdomain")).toBe(false);
  });
  test("a label has no dots and at most 63 characters", () => {
    expect(isDnsName("a.b", "label")).toBe(false);
    expect(isDnsName("a".repeat(63), "label")).toBe(true);
    expect(isDnsName("a".repeat(64), "label")).toBe(false);
  });
  test("messages name what was found, shortened, and what was expected", () => {
    expect(() => parseIfName("x".repeat(400))).toThrow(
      /^Cannot use "x{116}\.\.\. as an interface name: expected 1 to 15/,
    );
    expect(() => parseNetnsPath("proc/1/ns/net")).toThrow("expected an absolute path");
  });
});

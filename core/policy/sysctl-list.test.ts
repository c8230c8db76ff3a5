import { describe, expect, test } from "bun:test";
import { isListed, parseSysctlList } from "./sysctl-list.ts";

const listed = (line: string, key: string, link?: string): boolean => isListed(parseSysctlList(line, "f"), key, link);

describe("isListed()", () => {
  test.each([
    ["^net.ipv4.conf.IFNAME.rp_filter$", "net/ipv4/conf/<link>/rp_filter", "eth0", true],
    ["^net.ipv4.conf.IFNAME.rp_filter$", "net/ipv4/conf/all/rp_filter", undefined, false],
    ["^net/ipv4/conf/eth0/rp_filter$", "net/ipv4/conf/<link>/rp_filter", "eth0", true],
    ["^net\\.core\\.somaxconn$", "net/core/somaxconn", undefined, true],
    ["^net\\.core\\.somaxconn$", "net/core/somaxconnection", undefined, false],
    ["somaxconn", "net/core/somaxconn", undefined, true],
    ["^net\\.ipv4\\.[[:alpha:]]+\\_[a-z]*$", "net/ipv4/tcp_rmem", undefined, true],
    ["^net\\.ipv4\\.[[:digit:]]+$", "net/ipv4/tcp_rmem", undefined, false],
    ["\n  ^a$  \n\n^net.core.optmem_max$\n", "net/core/optmem_max", undefined, true],
    ["", "net/core/somaxconn", undefined, false],
  ] as const)("%s and %s of %s: %p", (line, key, link, is) => {
    expect(listed(line, key, link)).toBe(is);
  });
});

describe("parseSysctlList()", () => {
  test.each(["(", "[a", "\\Qnet.core\\E", "\\z", "a{2,1}", "[[:graph:]]", "(?P<x>a)"])("refuses %s", (line) => {
    expect(() => parseSysctlList(`ok\n${line}`, "/etc/list")).toThrow(
      `Cannot use the list of sysctls "/etc/list": line 2: "${line.replaceAll("\\", "\\\\")}" is no regular expression`,
    );
  });
});

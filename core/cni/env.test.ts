import { describe, expect, test } from "bun:test";
import type { CniError } from "../base/error.ts";
import { delegateArgs, delegateEnvironment, formatCniArgs, parseCniArgs, parseEnvironment } from "./env.ts";

const add = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "c1",
  CNI_NETNS: "/run/netns/a",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/opt/cni/bin::/usr/lib/cni",
};

describe("parseEnvironment()", () => {
  test("reads ADD", () => {
    expect(parseEnvironment({ ...add, CNI_ARGS: "IgnoreUnknown=1;A=b", CNI_NETNS_OVERRIDE: "TRUE" })).toEqual({
      command: "ADD",
      containerId: "c1",
      netns: "/run/netns/a",
      ifname: "eth0",
      args: new Map([
        ["IgnoreUnknown", "1"],
        ["A", "b"],
      ]),
      path: ["/opt/cni/bin", "/usr/lib/cni"],
      overrideNetnsCheck: true,
    } as never);
  });
  test("DEL needs no namespace, and takes an empty one for none", () => {
    const got = parseEnvironment({ ...add, CNI_COMMAND: "DEL", CNI_NETNS: "" });
    expect(got).not.toHaveProperty("netns");
  });
  test.each(["GC", "STATUS"])("%s takes empty variables of an attachment", (command) => {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: "",
      CNI_NETNS: "",
      CNI_IFNAME: "",
      CNI_ARGS: "",
      CNI_PATH: "/b",
    };
    expect(parseEnvironment(env)).toEqual({
      command,
      args: new Map(),
      path: ["/b"],
      overrideNetnsCheck: false,
    } as never);
  });
  test("VERSION needs nothing", () => expect(parseEnvironment({ CNI_COMMAND: "VERSION" }).command).toBe("VERSION"));
  test.each<[string, Record<string, string>, string]>([
    ["no command", {}, "CNI_COMMAND is missing"],
    ["an unknown command", { CNI_COMMAND: "add" }, 'unknown CNI_COMMAND: "add"'],
    ["a name of every object", { CNI_COMMAND: "toString" }, 'unknown CNI_COMMAND: "toString"'],
    [
      "ADD without all",
      { CNI_COMMAND: "ADD" },
      "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
    ],
    [
      "CHECK without two",
      { ...add, CNI_COMMAND: "CHECK", CNI_NETNS: "", CNI_PATH: "" },
      "required env variables [CNI_NETNS,CNI_PATH] missing",
    ],
    ["DEL without all", { CNI_COMMAND: "DEL" }, "required env variables [CNI_CONTAINERID,CNI_IFNAME,CNI_PATH] missing"],
    ["GC without a path", { CNI_COMMAND: "GC" }, "required env variables [CNI_PATH] missing"],
    ["a bad container id", { ...add, CNI_CONTAINERID: "../x" }, 'Cannot use "../x" as the container id'],
    ["a bad interface", { ...add, CNI_IFNAME: "a/b" }, 'Cannot use "a/b" as an interface name'],
    ["a relative namespace", { ...add, CNI_NETNS: "ns" }, 'Cannot use "ns" as a network namespace'],
    [
      "a relative path",
      { ...add, CNI_PATH: "bin" },
      "CNI_PATH: expected absolute directories joined by ':', found \"bin\"",
    ],
    ["bad arguments", { ...add, CNI_ARGS: "A" }, 'CNI_ARGS: expected KEY=VALUE, found "A"'],
  ])("refuses %s", (_, env, message) => {
    let thrown: unknown;
    try {
      parseEnvironment(env);
    } catch (caught) {
      thrown = caught;
    }
    expect((thrown as CniError).message).toContain(message);
    expect((thrown as CniError).code).toBe(4);
  });
  test("DEL passes over bad arguments and paths: what ADD was refused for must still go", () => {
    const got = parseEnvironment({ ...add, CNI_COMMAND: "DEL", CNI_ARGS: "A;B=c;D=e=f", CNI_PATH: "bin:/b" });
    expect([[...got.args], got.path]).toEqual([[["B", "c"]], ["/b"]]);
  });
});

describe("parseCniArgs()", () => {
  test.each([
    ["an empty entry", "A=b;", '""'],
    ["no value", "A", '"A"'],
    ["no key", "=b", '"=b"'],
    ["two '='", "A=b=c", '"A=b=c"'],
    ["a key twice", "A=b;A=c", '"A=c"'],
    ["a control character", "A=b\n", '"A=b\\n"'],
  ])("refuses %s", (_, text, found) => expect(() => parseCniArgs(text)).toThrow(found));
  test("takes an empty value and the same entry twice", () => {
    expect([...parseCniArgs("A=;A=;B=c")]).toEqual([
      ["A", ""],
      ["B", "c"],
    ]);
  });
  test("formatCniArgs() writes what can be read back, and nothing else", () => {
    expect(formatCniArgs(parseCniArgs("A=b;C=d"))).toBe("A=b;C=d");
    expect(() => formatCniArgs(new Map([["A", "b;C=d"]]))).toThrow("CNI_ARGS cannot carry");
  });
});

test("delegateArgs() orders the pod's first and keeps the rest", () => {
  const runtime = parseCniArgs("Z=1;K8S_POD_UID=u;K8S_POD_NAME=p;IgnoreUnknown=1;K8S_POD_NAMESPACE=n");
  expect(formatCniArgs(delegateArgs(runtime, { mac: "02:00:00:00:00:01", ips: ["10.0.0.1/8", "fd00::1"] }))).toBe(
    "IgnoreUnknown=true;K8S_POD_NAMESPACE=n;K8S_POD_NAME=p;K8S_POD_UID=u;Z=1;MAC=02:00:00:00:00:01;IP=10.0.0.1/8,fd00::1",
  );
});

describe("delegateEnvironment()", () => {
  const call = { command: "ADD", containerId: "c", netns: "/n", ifname: "net1", path: ["/a", "/b"] } as const;
  test("passes the runtime's environment, less what changes how programs run", () => {
    const env = {
      PATH: "/bin",
      HTTP_PROXY: "x",
      TRACEPARENT: "00-1",
      LD_PRELOAD: "/evil.so",
      LD_LIBRARY_PATH: "/x",
      GLIBC_TUNABLES: "x",
      GCONV_PATH: "/x",
      NODE_OPTIONS: "x",
      BUN_OPTIONS: "x",
      BAD: "a\u0007b",
      UNSET: undefined,
      CNI_COMMAND: "DEL",
      CNI_NETNS_OVERRIDE: "1",
    };
    expect(delegateEnvironment(env, { ...call, args: new Map([["A", "b"]]) })).toEqual({
      PATH: "/bin",
      HTTP_PROXY: "x",
      TRACEPARENT: "00-1",
      CNI_NETNS_OVERRIDE: "1",
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: "c",
      CNI_NETNS: "/n",
      CNI_IFNAME: "net1",
      CNI_ARGS: "A=b",
      CNI_PATH: "/a:/b",
    });
  });
  test("variables of an attachment are present and empty where there is none", () => {
    expect(delegateEnvironment({}, { command: "STATUS", path: ["/a"] })).toMatchObject({
      CNI_CONTAINERID: "",
      CNI_IFNAME: "",
    });
  });
});

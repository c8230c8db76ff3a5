import { afterAll, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseNetworkName, parsePluginType } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import { openPolicy } from "../policy/policy.ts";
import { deadlineIn } from "../sys/clock.ts";
import { binaryDelegate, findBinary } from "./binary.ts";
import type { Command } from "./delegate.ts";
import { HELD, heldBy } from "./held.ts";
import type { DelegateNode } from "./node.ts";

const top = mkdtempSync(join(tmpdir(), "patchbay-binary-"));
afterAll(() => rmSync(top, { recursive: true }));
let count = 0;
let bin: string;
beforeEach(() => {
  bin = join(top, String(count++));
  mkdirSync(bin, { mode: 0o755 });
});

/** Puts a shell script into the directory of plugins. */
function script(name: string, ...lines: readonly string[]): string {
  const file = join(bin, name);
  writeFileSync(file, ["#!/bin/sh", ...lines, ""].join("\n"));
  chmodSync(file, 0o755);
  return file;
}

const unused = (): never => {
  throw new Error("a binary does not need this");
};

/** As much of a node as a binary needs. */
function nodeWith(o: Partial<DelegateNode> = {}): DelegateNode {
  const known = new Map<string, readonly string[]>();
  return {
    get store() {
      return unused();
    },
    host: unused,
    devices: unused,
    builtIn: unused,
    engine: unused,
    module: unused,
    policy: openPolicy,
    environment: { PATH: process.env.PATH },
    delegateTimeoutMs: 5000,
    deadlineMs: deadlineIn(10_000),
    stop: undefined,
    versions: {
      get: (identity) => known.get(identity),
      put: (identity, versions) => void known.set(identity, versions),
    },
    log: () => {},
    ...o,
  };
}

const context = (node: DelegateNode) => ({ node, network: parseNetworkName("n"), author: { node: true } as const });

function run(command: Command, conf: JsonObject = {}, o: Partial<DelegateNode> = {}) {
  const node = nodeWith(o);
  const call = {
    command,
    target: { containerId: "c1", ifname: "eth0", netns: "/run/netns/x", args: new Map([["K", "v"]]), path: [bin] },
    plugin: 0,
    conf: { cniVersion: "1.0.0", name: "n", type: "p", ...conf },
  };
  return binaryDelegate("p", [bin], node).run(call, context(node));
}

function errorOf(work: () => unknown): CniError {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof CniError) return thrown;
    throw thrown;
  }
  throw new Error("it did not fail");
}

const type = parsePluginType("p");

describe("findBinary()", () => {
  test("takes the first directory that has it, and passes over relative ones and what is no file", () => {
    const file = script("p");
    const empty = mkdtempSync(join(top, "empty-"));
    const asDirectory = mkdtempSync(join(top, "directory-"));
    mkdirSync(join(asDirectory, "p"));
    expect(findBinary(type, ["bin", "", empty, asDirectory, `${bin}//`, "/nowhere"])).toBe(file);
  });

  test.each([
    ["that is not there", () => {}, /Cannot find plugin "p" in/],
    ["that is not executable", () => chmodSync(script("p"), 0o644), /is not executable/],
    [
      "that others can write to",
      () => chmodSync(script("p"), 0o777),
      /Cannot trust the plugin .*others than its owner/,
    ],
    [
      "in a directory that others can write to",
      () => {
        script("p");
        chmodSync(bin, 0o777);
      },
      /Cannot trust the plugin directory/,
    ],
  ])("refuses one %s: 7", (_, prepare, message) => {
    prepare();
    expect(errorOf(() => findBinary(type, [bin]))).toMatchObject({ code: 7, message: expect.stringMatching(message) });
  });

  test("says so when CNI_PATH is empty", () => {
    expect(errorOf(() => findBinary(type, [])).message).toContain("CNI_PATH, which is empty");
  });

  test("no type becomes a path", () => {
    for (const bad of ["../p", "a/b", ".", "..", "", "p\0", "p\n"])
      expect(() => parsePluginType(bad)).toThrow(CniError);
  });
});

describe("what a binary gets", () => {
  test("the runtime's environment, less what changes how programs load and run, plus the call", () => {
    script("p", `env | sort > ${bin}/env`, "echo '{}'");
    const environment = {
      PATH: "/usr/bin:/bin",
      HOME: "/root",
      HTTP_PROXY: "http://proxy",
      LD_PRELOAD: "/tmp/evil.so",
      LD_LIBRARY_PATH: "/tmp",
      GLIBC_TUNABLES: "x",
      GCONV_PATH: "/tmp",
      NODE_OPTIONS: "--require=/tmp/evil.js",
      BUN_OPTIONS: "--preload=/tmp/evil.js",
      BUN_BE_BUN: "1",
      UNPRINTABLE: "a\u0007b",
      CNI_COMMAND: "DEL",
      CNI_NETNS: "/another",
    };
    run("ADD", {}, { environment: { ...environment, [HELD]: "c9 1 1" } });
    const seen = readFileSync(join(bin, "env"), "utf8")
      .split("\n")
      .filter((line) => !/^(PWD|_|SHLVL|OLDPWD)=/.test(line));
    expect(seen.filter((line) => line !== "")).toEqual([
      "CNI_ARGS=K=v",
      "CNI_COMMAND=ADD",
      "CNI_CONTAINERID=c1",
      "CNI_IFNAME=eth0",
      "CNI_NETNS=/run/netns/x",
      `CNI_PATH=${bin}`,
      "HOME=/root",
      "HTTP_PROXY=http://proxy",
      `${HELD}=${heldBy("c1")}`, // also without a journal: DEL of what only a record knows holds the lock too
      "PATH=/usr/bin:/bin",
    ]);
  });

  test("its configuration as it is, whatever is in it", () => {
    script("p", `cat > ${bin}/stdin`, "echo '{}'");
    const conf = { unknown: [null, { a: 1.5 }], text: 'ü\u2028"\\', capabilities: { x: true }, big: 2 ** 52 };
    run("ADD", conf);
    expect(JSON.parse(readFileSync(join(bin, "stdin"), "utf8"))).toEqual({
      cniVersion: "1.0.0",
      name: "n",
      type: "p",
      ...conf,
    });
  });

  test("nothing but the three descriptors, and a process group of its own", () => {
    script("p", `ls /proc/self/fd | wc -l > ${bin}/fds`, `cut -d' ' -f1,5 /proc/$$/stat > ${bin}/group`, "echo '{}'");
    run("ADD");
    expect(readFileSync(join(bin, "fds"), "utf8").trim()).toBe("4"); // and the directory that ls reads
    const [pid, group] = readFileSync(join(bin, "group"), "utf8").trim().split(" ");
    expect(group).toBe(pid ?? "");
  });
});

describe("what a binary answers", () => {
  test("its result, read in the version of its configuration", () => {
    script("p", `echo '{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.2/24","gateway":"10.0.0.1"},"dns":{}}'`);
    expect(run("ADD", { cniVersion: "0.2.0" })?.ips).toEqual([{ address: "10.0.0.2/24", gateway: "10.0.0.1" }]);
  });

  test("null is an empty result; DEL and CHECK may print what they like", () => {
    script("p", "echo null");
    expect(run("ADD")?.interfaces).toEqual([]);
    script("p", "echo deleted");
    expect(run("DEL")).toBeUndefined();
    expect(run("CHECK")).toBeUndefined();
  });

  test("an error document: its code and words, its details as the remedy", () => {
    script("p", `echo '{"cniVersion":"1.0.0","code":142,"msg":"no room","details":"make room"}'; exit 1`);
    expect(errorOf(() => run("ADD"))).toMatchObject({
      code: 142,
      message: 'Cannot ADD with plugin "p": no room',
      remedy: "make room",
    });
  });

  test.each([
    ["no document", "echo oops >&2; exit 3", 999, /exit code 3 and no error document; it wrote "oops"/],
    ["a document without a code", `echo '{"msg":"hm"}'; exit 1`, 999, /hm/],
    ["a document that is none", "echo '[1'; exit 1", 999, /exit code 1 and no error document/],
    ["an answer that is no JSON", "echo '{'", 6, /Cannot read the answer of plugin "p"/],
    ["an answer with a key twice", `echo '{"dns":{},"dns":{}}'`, 6, /Cannot read the answer of plugin "p"/],
    ["nothing", "true", 6, /Cannot read the answer of plugin "p"/],
    ["a result that is none", `echo '{"ips":[{"address":"x"}]}'`, 6, /address/],
    ["a signal", "kill -SEGV $$", 999, /signal 11 ended it/],
    ["more than a MiB", "exec head -c 1048577 /dev/zero", 125, /more than 1048576 bytes on stdout/],
    ["more than a MiB of log", "exec head -c 1048577 /dev/zero >&2", 125, /more than 1048576 bytes on stderr/],
  ])("%s is an error that names it", (_, line, code, message) => {
    script("p", line);
    expect(errorOf(() => run("ADD"))).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test("a file that the kernel cannot run", () => {
    const file = script("p");
    writeFileSync(file, "\u007fELF nothing");
    expect(errorOf(() => run("ADD"))).toMatchObject({
      code: 5,
      message: expect.stringMatching(/Cannot start plugin "p".*ENOEXEC/),
    });
  });

  test("one that is being written is waited for", async () => {
    const file = script("p");
    writeFileSync(file, readFileSync("/bin/true"));
    const writing = openSync(file, "r+");
    // Held open from another process too: what is spawned below would otherwise only see our own.
    const done = Bun.spawn(["sleep", "0.5"], { stdio: ["ignore", "ignore", writing] });
    closeSync(writing);
    const begun = performance.now();
    expect(run("DEL")).toBeUndefined();
    expect(performance.now() - begun).toBeGreaterThan(400);
    await done.exited;
  });
});

describe("time", () => {
  test("one that does not end is killed with all that it started", async () => {
    script("p", `(sleep 1; touch ${bin}/late) &`, "exec sleep 60");
    const begun = performance.now();
    const error = errorOf(() => run("ADD", {}, { delegateTimeoutMs: 300 }));
    expect(error).toMatchObject({ code: 126, message: expect.stringContaining('ADD of plugin "p"') });
    expect(performance.now() - begun).toBeLessThan(900);
    await Bun.sleep(1200);
    expect(existsSync(join(bin, "late"))).toBe(false);
  });

  test("the operation's deadline comes first where it is nearer", () => {
    script("p", "exec sleep 60");
    const begun = performance.now();
    expect(errorOf(() => run("ADD", {}, { deadlineMs: deadlineIn(200) })).code).toBe(126);
    expect(performance.now() - begun).toBeLessThan(900);
  });
});

describe("versions()", () => {
  const versions = (node = nodeWith()) => binaryDelegate("p", [bin], node).versions();

  test.each([
    ["of today", `echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0"]}'`, ["0.4.0", "1.0.0"]],
    ["that has no list", `echo '{"cniVersion":"0.2.0"}'`, ["0.1.0", "0.2.0"]],
    ["from before the command", `echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1`, ["0.1.0"]],
  ])("of a plugin %s", (_, line, expected) => {
    script("p", line);
    expect(versions()).toEqual(expected);
  });

  test("fails for one that says neither", () => {
    script("p", "echo no >&2; exit 1");
    expect(errorOf(versions).message).toContain('plugin "p"');
  });

  test("asks with every variable set, for plugins that look at them first", () => {
    script(
      "p",
      '[ -n "$CNI_CONTAINERID$CNI_NETNS" ] && [ -n "$CNI_IFNAME" ] && [ -n "$CNI_PATH" ] || exit 1',
      `echo '{"cniVersion":"1.0.0","supportedVersions":["1.0.0"]}'`,
    );
    expect(versions()).toEqual(["1.0.0"]);
  });

  test("asks a file once, and again when it is another", () => {
    const answer = (version: string) => `echo '{"cniVersion":"1.0.0","supportedVersions":["${version}"]}'`;
    const asked = join(bin, "asked");
    script("p", `echo x >> ${asked}`, answer("0.4.0"));
    const node = nodeWith();
    expect([versions(node), versions(node)]).toEqual([["0.4.0"], ["0.4.0"]]);
    expect(readFileSync(asked, "utf8")).toBe("x\n");
    script("p", `echo x >> ${asked}`, answer("1.0.0"), "# longer");
    expect(versions(node)).toEqual(["1.0.0"]);
  });
});

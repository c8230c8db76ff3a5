/** Sysctls: which a plugin may set, and how they come back. */
import { describe, expect, test } from "bun:test";
import { TestGuest, type TestGuestOptions, wideManifest } from "../../test/support/guest.ts";
import { undoKernelSteps } from "../../test/support/undo.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { decide, effectiveGrants } from "../policy/decide.ts";
import { coversSysctl, isSysctlPattern } from "../policy/manifest.ts";
import { parsePolicy } from "../policy/policy.ts";
import type { SysctlWord } from "../policy/sysctl-list.ts";
import { SysError } from "../sys/error.ts";
import { hostCalls } from "./calls.ts";

const call = hostCalls.find((c) => c.name === "sysctl_set");
if (call === undefined) throw new Error("no sysctl_set");
const named = "pod:net/ipv4/tcp_syncookies";
const other = "pod:net/core/somaxconn";
const words = [undefined, "named", "omitted", "free", "unlisted"] as const;

describe("decide() about sysctls", () => {
  // The manifest's list, the sysctl, and the words with which it may be set.
  test.each([
    [[named], named, [undefined, "named", "free", "unlisted"]],
    [[named], other, []],
    [[named, "pod:net/*"], named, [undefined, "named", "free", "unlisted"]],
    [[named, "pod:net/*"], other, ["named", "free"]],
    [[named, "pod:net/*"], "host:net/core/somaxconn", []],
    [["pod:net/ipv4/*"], other, []],
    [[], named, []],
  ] as [string[], string, (SysctlWord | undefined)[]][])("%p and %s", (sysctls, pattern, may) => {
    const grants = effectiveGrants(wideManifest({ sysctls }), undefined);
    const allowed = words.filter(
      (word) => decide({ operation: "ADD", grants }, call, { whose: "sysctl", pattern, ...(word && { word }) }).allow,
    );
    expect(allowed).toEqual(may);
  });

  test.each([
    [["pod:net/*", named], ["pod:net/core/somaxconn"], ["pod:net/core/somaxconn"]],
    [["pod:net/*", named], ["pod:net/ipv4/*"], [named, "pod:net/ipv4/*"]],
    [["pod:net/*"], ["pod:net/*"], ["pod:net/*"]],
    [["pod:net/*"], ["host:net/core/somaxconn"], []],
    [[named], ["pod:net/*"], [named]],
    [[named], [other], []],
    [[named], [], []],
  ])("a manifest with %p under a policy with %p", (sysctls, given, left) => {
    const policy = parsePolicy({ plugins: { wide: { sysctls: given } } });
    const grants = effectiveGrants(wideManifest({ sysctls }), policy.plugins.wide);
    expect([...grants.sysctls].toSorted()).toEqual(left.toSorted());
  });

  test.each([
    ["pod:net/*", true],
    ["pod:net/ipv4/*", true],
    ["pod:net/ipv4/conf/<link>/*", true],
    ["host:net/*", false],
    ["pod:*", false],
    ["pod:net*", false],
    ["pod:net/*/x", false],
    ["pod:kernel/*", false],
    ["pod:net/../*", false],
  ])("isSysctlPattern(%s) is %p", (text, is) => {
    expect(isSysctlPattern(text)).toBe(is);
  });

  test("coversSysctl() keeps to whole names", () => {
    expect(coversSysctl("pod:net/ipv4/*", "pod:net/ipv4/x")).toBe(true);
    expect(coversSysctl("pod:net/ipv4/*", "pod:net/ipv4x")).toBe(false);
    expect(coversSysctl("pod:net/ipv4", "pod:net/ipv4/x")).toBe(false);
  });
});

class Sim {
  readonly node = new SimulatedNode();
  readonly host = this.node.netns("host", { host: true });
  readonly pod = this.node.netns("pod");
  readonly eth0 = this.node.plug("pod", { name: "eth0", mac: "00:16:3e:00:00:01" });

  guest(o: Partial<TestGuestOptions> = {}): TestGuest {
    return new TestGuest({ pod: this.pod, host: this.host, manifest: wideManifest({ sysctls: ["pod:net/*"] }), ...o });
  }
  undo(guest: TestGuest): unknown[] {
    return undoKernelSteps([{ entries: guest.journal.entries }], { pod: this.pod, host: this.host });
  }
}

describe("sysctl_set", () => {
  test("sets any of the pod's that the administrator allows, and undo puts it back", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const { link } = guest.must("link_open");
    guest.must("sysctl_set", { key: "net/core/somaxconn", value: "77" });
    guest.must("sysctl_set", { key: "net/ipv4/conf/<link>/rp_filter", link, value: "1" });
    guest.must("sysctl_set", { key: "net/ipv4/conf/all/rp_filter", value: "1" });
    expect(sim.pod.sysctl("net/core/somaxconn")).toBe("77");
    expect(sim.undo(guest)).toEqual([]);
    for (const key of ["net/ipv4/conf/eth0/rp_filter", "net/ipv4/conf/all/rp_filter"]) {
      expect(sim.pod.sysctl(key)).toBe("0");
    }
    expect(sim.pod.sysctl("net/core/somaxconn")).toBe("4096");
  });

  test.each([
    ["omitted", 121, "the administrator's list of sysctls does not name"],
    ["unlisted", 121, 'no grant for the sysctl "pod:net/core/somaxconn"'],
    ["named", 0, ""],
  ] as const)("asks the administrator: %s", (sysctls, code, words) => {
    const sim = new Sim();
    const answer = sim.guest({ sysctls }).call("sysctl_set", { key: "net/core/somaxconn", value: "77" });
    expect(answer.code ?? 0).toBe(code);
    expect(answer.msg ?? "").toContain(words);
    expect(sim.pod.sysctl("net/core/somaxconn")).toBe(code === 0 ? "77" : "4096");
  });

  test.each([
    ["one of the node's", { in: "host", key: "net/core/somaxconn" }, 121],
    ["one beside net/", { key: "kernel/hostname" }, 121],
    ["a way out", { key: "net/../kernel/hostname" }, 120],
    ["an empty part", { key: "net//core" }, 120],
    ["one that the kernel lacks", { key: "net/core/absent" }, 123],
    ["one of a link without the link", { key: "net/ipv4/conf/<link>/rp_filter" }, 120],
  ] as const)("refuses %s", (_, request, code) => {
    const sim = new Sim();
    const guest = sim.guest();
    expect(guest.code("sysctl_set", { ...request, value: "1" })).toBe(code);
    expect(guest.journal.entries).toEqual([]);
  });

  test("a value that differs in its blanks alone is no change", () => {
    const sim = new Sim();
    sim.pod.setSysctl("net/core/somaxconn", "1\t2\t3");
    const guest = sim.guest();
    expect(guest.must("sysctl_set", { key: "net/core/somaxconn", value: " 1 2  3" })).toEqual({ changed: false });
    expect(guest.journal.entries).toEqual([]);
  });

  test("one that cannot be read is written, and not put back", () => {
    const sim = new Sim();
    const guest = sim.guest();
    const pod = Object.create(sim.pod, {
      sysctl: {
        value: () => {
          throw new SysError("openat2", 13, "sys/net/ipv4/route/flush");
        },
      },
      setSysctl: { value: () => {} },
    }) as typeof sim.pod;
    const other = sim.guest({ pod });
    expect(other.must("sysctl_set", { key: "net/ipv4/route/flush", value: "1" })).toEqual({ changed: true });
    expect([guest, other].flatMap((g) => g.journal.entries)).toEqual([]);
  });

  test("a former value that the kernel does not take keeps nothing from going", () => {
    const sim = new Sim();
    const guest = sim.guest();
    guest.must("sysctl_set", { key: "net/core/somaxconn", value: "77" });
    const pod = Object.create(sim.pod, {
      setSysctl: {
        value: () => {
          throw new SysError("write", 22, "sys/net/core/somaxconn");
        },
      },
    }) as typeof sim.pod;
    expect(undoKernelSteps([{ entries: guest.journal.entries }], { pod, host: sim.host })).toEqual([]);
  });
});

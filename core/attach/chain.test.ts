import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "../base/json.ts";
import { parseNetworkList } from "../cni/list.ts";
import type { DelegateNode } from "../delegate/node.ts";
import { type Author, openPolicy, parsePolicy } from "../policy/policy.ts";
import { deadlineIn } from "../sys/clock.ts";
import { type Chain, openChain } from "./chain.ts";

let bin: string;
beforeEach(() => {
  bin = mkdtempSync(join(tmpdir(), "patchbay-chain-"));
  chmodSync(bin, 0o755);
  writeFileSync(join(bin, "p"), "#!/bin/sh\n", { mode: 0o755 });
});
afterEach(() => rmSync(bin, { recursive: true }));

const unused = (): never => {
  throw new Error("finding plugins does not need this");
};

function open(plugin: JsonObject, policy = openPolicy, author: Author = { namespace: "tenant" }): Chain {
  const node: DelegateNode = {
    get store() {
      return unused();
    },
    host: unused,
    devices: unused,
    builtIn: () => undefined,
    engine: unused,
    module: unused,
    policy,
    environment: {},
    delegateTimeoutMs: 1000,
    deadlineMs: deadlineIn(1000),
    stop: undefined,
    versions: { get: () => ["1.0.0"], put: unused },
    log: () => {},
  };
  const list = parseNetworkList({ cniVersion: "1.0.0", name: "n", ...plugin });
  const target = { containerId: "c1", ifname: "net1", netns: "", args: new Map(), path: [bin] };
  return openChain({ list, target, capabilityValues: {} }, { node, network: list.name, author });
}

describe("openChain()", () => {
  test("does not run us for a network, whatever the link is called", () => {
    symlinkSync(process.execPath, join(bin, "multus"));
    expect(() => open({ type: "multus", networksDir: "/tmp" })).toThrow("its file is Patchbay itself");
  });

  test("asks the policy about the IPAM that a binary will run, too", () => {
    const strict = parsePolicy({ strict: true, binaries: [{ types: ["p"] }] });
    const conf = { type: "p", ipam: { type: "whereabouts" } };
    expect(() => open(conf, strict)).toThrow('run the CNI binary "whereabouts"');
    expect(open(conf, strict, { node: true }).delegates).toHaveLength(1);
    expect(open(conf).delegates).toHaveLength(1);
    expect(open({ type: "p", ipam: { type: "static" } }, strict).delegates).toHaveLength(1);
  });
});

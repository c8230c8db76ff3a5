import { describe, expect, test } from "bun:test";
import { CniError } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import {
  type Author,
  hasLeasesApart,
  isOfNode,
  openPolicy,
  type Policy,
  parsePolicy,
  refuseBinary,
  refuseChosenAddress,
  refuseHostLink,
  refuseNodeFile,
} from "./policy.ts";

const node: Author = { node: true };
const tenant: Author = { namespace: "tenant" };
const strict = parsePolicy({ strict: true });
const given = parsePolicy({
  strict: true,
  trustedNamespaces: ["infra"],
  hostLinks: [{ links: ["eth1", "br-*"], namespaces: ["tenant"] }, { links: ["shared0"] }],
  binaries: [{ types: ["sriov"], namespaces: ["tenant"] }],
  chosenAddresses: ["tenant"],
});

describe("refuseHostLink()", () => {
  test.each([
    [openPolicy, tenant, "eth0", true],
    [strict, node, "eth0", true],
    [strict, tenant, "eth0", false],
    [given, tenant, "eth0", false],
    [given, tenant, "eth1", true],
    [given, tenant, "br-blue", true],
    [given, { namespace: "other" }, "eth1", false],
    [given, { namespace: "other" }, "shared0", true],
    [given, { namespace: "infra" }, "eth0", true],
    [parsePolicy({ hostLinks: [{ links: ["eth1"] }] }), tenant, "eth0", false],
    [parsePolicy({ hostLinks: [{ links: ["eth1"] }] }), tenant, "eth1", true],
    [parsePolicy({ hostLinks: [{ links: ["eth1"] }] }), node, "eth0", true],
  ] as [Policy, Author, string, boolean][])("%#", (policy, author, link, allowed) => {
    const refusal = refuseHostLink(policy, author, link);
    expect(refusal === undefined).toBe(allowed);
    if (refusal !== undefined) expect(refusal.code).toBe(101);
  });
});

test.each([
  [openPolicy, tenant, "whereabouts", true],
  [strict, tenant, "whereabouts", false],
  [strict, node, "whereabouts", true],
  [given, tenant, "sriov", true],
  [given, { namespace: "other" }, "sriov", false],
] as [Policy, Author, string, boolean][])("refuseBinary() %#", (policy, author, type, allowed) => {
  expect(refuseBinary(policy, author, type) === undefined).toBe(allowed);
});

test.each([
  [openPolicy, "tenant", true],
  [strict, "tenant", false],
  [given, "tenant", true],
  [given, "infra", true],
  [given, "other", false],
] as [Policy, string, boolean][])("refuseChosenAddress() %#", (policy, namespace, allowed) => {
  expect(refuseChosenAddress(policy, namespace) === undefined).toBe(allowed);
});

test.each([
  [openPolicy, tenant, false],
  [strict, tenant, true],
  [strict, { node: true }, false],
  [given, { namespace: "infra" }, false],
] as [Policy, Author, boolean][])("hasLeasesApart() %#", (policy, author, apart) => {
  expect(hasLeasesApart(policy, author)).toBe(apart);
});

test("isOfNode() tells whose text a configuration is, not who uses it", () => {
  expect([{ node: true } as const, tenant, { ...tenant, nodeFile: true } as const].map(isOfNode)).toEqual([
    true,
    false,
    true,
  ]);
});

test("refuseNodeFile() keeps tenants from the node's files in strict", () => {
  expect(refuseNodeFile(openPolicy, tenant, "x")).toBeUndefined();
  expect(refuseNodeFile(strict, tenant, "x")?.code).toBe(101);
  expect(refuseNodeFile(given, { namespace: "infra" }, "x")).toBeUndefined();
});

test.each([
  [[], "(top level)"],
  [{ strikt: true }, "strikt"],
  [{ hostLinks: [{}] }, "hostLinks[0].links"],
  [{ plugins: { bridge: { calls: { link_set: ["all"] } } } }, "plugins.bridge.calls.link_set[0]"],
] as [Json, string][])("parsePolicy() refuses %j", (doc, member) => {
  expect(() => parsePolicy(doc)).toThrow(CniError);
  expect(() => parsePolicy(doc)).toThrow(`Cannot use the policy file: ${member}: `);
});

import { describe, expect, test } from "bun:test";
import { CniError } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import { nameOfConf, parseMetaConf, podAnnotations } from "./conf.ts";

const base = { cniVersion: "1.0.0", name: "pods", type: "patchbay" };

describe("parseMetaConf()", () => {
  test("has defaults for every key", () => {
    expect(parseMetaConf(base)).toEqual({
      cniVersion: "1.0.0",
      name: "pods",
      type: "patchbay",
      networksDir: "/etc/patchbay/networks.d",
      namespaceIsolation: false,
      globalNamespaces: ["default"],
      systemNamespaces: ["kube-system"],
      capabilities: {},
      delegateTimeoutMs: 30_000,
      timeoutMs: 100_000,
      policyFile: "/etc/patchbay/policy.json",
      runtimeConfig: {},
    } as never);
  });
  test("reads every key", () => {
    const conf = parseMetaConf({
      ...base,
      defaultNetwork: "calico",
      networksDir: "/n",
      namespaceIsolation: true,
      globalNamespaces: "default, infra",
      systemNamespaces: ["kube-system", "cni"],
      capabilities: { "io.kubernetes.cri.pod-annotations": true, portMappings: null },
      delegateTimeout: "500ms",
      timeout: "2m",
      policyFile: "/p.json",
      runtimeConfig: { portMappings: null, mac: "x" },
      prevResult: { cniVersion: "1.0.0", ips: [{ address: "10.0.0.1/8" }] },
      "cni.dev/valid-attachments": [{ containerID: "c", ifname: "eth0" }],
      args: {},
      dns: {},
      "example.org/extension": 1,
    });
    expect(conf).toMatchObject({
      defaultNetwork: { is: "name", name: "calico" },
      networksDir: "/n",
      namespaceIsolation: true,
      globalNamespaces: ["default", "infra"],
      systemNamespaces: ["kube-system", "cni"],
      capabilities: { "io.kubernetes.cri.pod-annotations": true },
      delegateTimeoutMs: 500,
      timeoutMs: 120_000,
      policyFile: "/p.json",
      runtimeConfig: { mac: "x" },
      prevResult: { ips: [{ address: "10.0.0.1/8" }] },
      validAttachments: [{ containerID: "c", ifname: "eth0" }],
    } as never);
  });
  test.each<[Json, object]>([
    ["calico", { is: "name", name: "calico" }],
    ["infra/calico", { is: "name", name: "calico", namespace: "infra" }],
    ["/etc/cni/x.conflist", { is: "path", path: "/etc/cni/x.conflist" }],
    [{ type: "bridge" }, { is: "inline", document: { type: "bridge" } }],
  ])("defaultNetwork %j", (defaultNetwork, want) => {
    expect(parseMetaConf({ ...base, defaultNetwork }).defaultNetwork).toEqual(want as never);
  });
  test("null GC lists are no lists", () => {
    expect(parseMetaConf({ ...base, "cni.dev/valid-attachments": null })).not.toHaveProperty("validAttachments");
    expect(parseMetaConf({ ...base, "cni.dev/valid-attachments": [] }).validAttachments).toEqual([]);
  });
  test("the early key of GC counts where the right one is absent", () => {
    const early = [{ containerID: "c", ifname: "eth0" }];
    expect(parseMetaConf({ ...base, "cni.dev/attachments": early }).validAttachments).toEqual(early);
  });
  test("two faults are in one error", () => {
    expect(() => parseMetaConf({ ...base, delegateTimeout: "2", delegateTimout: "2s" })).toThrow(
      'Cannot use network configuration: "delegateTimout" is not a key; the nearest is "delegateTimeout"; delegateTimeout: expected a duration such as "500ms" or "2s", found "2"',
    );
  });
  test.each<[string, Json, number, string]>([
    ["no object", [], 7, "expected an object"],
    ["no name", { cniVersion: "1.0.0", type: "patchbay" }, 7, "name: expected the network's name, found nothing"],
    ["a bad name", { ...base, name: "../x" }, 7, "name: expected letters"],
    ["a version of the future", { ...base, cniVersion: "9.0.0" }, 1, 'CNI version "9.0.0" is not known'],
    [
      "a far key",
      { ...base, somethingElseAltogether: 1 },
      7,
      '"somethingElseAltogether" is not a key; the keys are "defaultNetwork"',
    ],
    [
      "Multus's clusterNetwork",
      { ...base, clusterNetwork: "a" },
      7,
      '"clusterNetwork" is not a key: it is "defaultNetwork" here',
    ],
    ["Multus's delegates", { ...base, delegates: [] }, 7, 'write the first of them inline as "defaultNetwork"'],
    ["a relative directory", { ...base, networksDir: "n" }, 7, 'networksDir: expected an absolute path, found "n"'],
    [
      "a relative default network",
      { ...base, defaultNetwork: "a/b/c" },
      7,
      "defaultNetwork: expected a name, namespace/name, or an absolute path",
    ],
    [
      "a bad namespace",
      { ...base, globalNamespaces: "a,B" },
      7,
      'globalNamespaces: expected names of namespaces, found "B"',
    ],
    ["a text for a boolean", { ...base, namespaceIsolation: "true" }, 7, "namespaceIsolation: expected true or false"],
    ["no time", { ...base, timeout: "0s" }, 7, 'timeout: expected a duration from "1ms" to "10m", found "0s"'],
    ["too long", { ...base, timeout: "11m" }, 7, "timeout: expected a duration from"],
    ["a bad previous result", { ...base, prevResult: { ips: [{}] } }, 6, "Cannot use prevResult: ips[0].address"],
  ])("refuses %s", (_, doc, code, message) => {
    let thrown: unknown;
    try {
      parseMetaConf(doc);
    } catch (caught) {
      thrown = caught;
    }
    expect((thrown as CniError).message).toContain(message);
    expect((thrown as CniError).code).toBe(code);
    expect(thrown).toBeInstanceOf(CniError);
  });
});

test("nameOfConf() reads the name of a configuration that is otherwise wrong", () => {
  expect(nameOfConf({ name: "pods", unknwn: 1 }) as string).toBe("pods");
  expect(() => nameOfConf({})).toThrow("name: expected a string");
});

describe("podAnnotations()", () => {
  const capabilities = { "io.kubernetes.cri.pod-annotations": true };
  test("declared and nothing sent: none", () => {
    expect(podAnnotations(parseMetaConf({ ...base, capabilities }))).toEqual({});
  });
  test("not declared: unknown", () => expect(podAnnotations(parseMetaConf(base))).toBeUndefined());
  test("sent", () => {
    const runtimeConfig = { "io.kubernetes.cri.pod-annotations": { a: "b", "c/d": "", gone: null } };
    expect(podAnnotations(parseMetaConf({ ...base, capabilities, runtimeConfig }))).toEqual({ a: "b", "c/d": "" });
  });
  test("refuses what is no text", () => {
    const runtimeConfig = { "io.kubernetes.cri.pod-annotations": { a: 1 } };
    expect(() => podAnnotations(parseMetaConf({ ...base, runtimeConfig }))).toThrow('"a": expected a string, found 1');
  });
});

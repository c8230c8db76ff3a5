import { describe, expect, test } from "bun:test";
import type { Json } from "../base/json.ts";
import { networkOf, parseNad } from "./nad.ts";

const nad = (rest: object = {}): Json =>
  ({
    apiVersion: "k8s.cni.cncf.io/v1",
    kind: "NetworkAttachmentDefinition",
    metadata: { name: "storage" },
    ...rest,
  }) as Json;

describe("parseNad()", () => {
  test("without a namespace it is in default", () => {
    expect(parseNad(nad(), "a.yaml")).toEqual({ namespace: "default", name: "storage", annotations: {} });
  });
  test("reads namespace, annotations and configuration", () => {
    const annotations = { "k8s.v1.cni.cncf.io/resourceName": "intel.com/sriov", number: 1 };
    const doc = nad({ metadata: { name: "a.b", namespace: "n", annotations }, spec: { config: "{}" } });
    expect(parseNad(doc, "a.yaml")).toEqual({
      namespace: "n",
      name: "a.b",
      annotations: { "k8s.v1.cni.cncf.io/resourceName": "intel.com/sriov" },
      config: "{}",
    });
  });
  test.each<[string, Json]>([
    ["no spec", nad()],
    ["a null spec", nad({ spec: null })],
    ["an empty spec", nad({ spec: {} })],
    ["an empty string", nad({ spec: { config: "" } })],
    ["a blank string", nad({ spec: { config: " \n" } })],
  ])("%s stands for a file of the node", (_, doc) => expect(parseNad(doc, "a")).not.toHaveProperty("config"));
  test.each<[string, Json, string]>([
    [
      "another group",
      nad({ apiVersion: "k8s.cni.cncf.io/v2" }),
      'apiVersion: expected "k8s.cni.cncf.io/v1", found "k8s.cni.cncf.io/v2"',
    ],
    ["no name", nad({ metadata: {} }), "metadata.name: expected a string, found nothing"],
    ["a bad name", nad({ metadata: { name: "A/b" } }), "metadata.name: expected a DNS-1123 name"],
    [
      "a bad namespace",
      nad({ metadata: { name: "a", namespace: "b.c" } }),
      "metadata.namespace: expected a DNS-1123 label",
    ],
    [
      "an object in place of its text",
      nad({ spec: { config: { type: "bridge" } } }),
      "spec.config: expected a string that holds the configuration as JSON",
    ],
  ])("refuses %s", (_, doc, message) => expect(() => parseNad(doc, "a.yaml")).toThrow(message));
});

describe("networkOf()", () => {
  const of = (config: string) => networkOf({ namespace: "n", name: "storage", annotations: {}, config });
  test("gives its name to a configuration without one", () => {
    expect(of('{"cniVersion":"1.0.0","type":"macvlan"}').name as string).toBe("storage");
    expect(of('{"name":"","type":"macvlan"}').name as string).toBe("storage");
    expect(of('{"name":"other","type":"macvlan"}').name as string).toBe("other");
  });
  test("tells a single configuration from a list", () => {
    expect(of('{"type":"macvlan"}').plugins).toHaveLength(1);
    expect(of('{"plugins":[{"type":"a"},{"type":"b"}]}').plugins).toHaveLength(2);
  });
  test.each([
    ["no JSON", "x", 'Cannot use network "n/storage": spec.config is not JSON'],
    ["neither type nor plugins", "{}", 'Cannot use network "n/storage": it has neither'],
    ["a key twice", '{"type":"a","type":"b"}', 'spec.config is not JSON: the key "type" twice'],
  ])("refuses %s", (_, config, message) => expect(() => of(config)).toThrow(message));
});

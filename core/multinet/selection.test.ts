import { describe, expect, test } from "bun:test";
import { CniError, Code } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import { choosesAddress, parseDefaultSelection, parseSelections, type Selection } from "./selection.ts";

const one = (element: Json): Selection | undefined => parseSelections(JSON.stringify([element]), "pod-ns")[0];
const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(CniError);
    expect((thrown as CniError).code).toBe(Code.InvalidConfig);
    return (thrown as CniError).message;
  }
  throw new Error("nothing was thrown");
};

describe("the short form", () => {
  test.each<[string, string[]]>([
    ["a", ["pod-ns/a"]],
    ["ns/a", ["ns/a"]],
    ["a@net5", ["pod-ns/a@net5"]],
    [" ns / a @ net5 , b ", ["ns/a@net5", "pod-ns/b"]],
    ["a,a,a", ["pod-ns/a", "pod-ns/a", "pod-ns/a"]],
    ["/a", ["pod-ns/a"]],
    ["a@", ["pod-ns/a"]],
    ["a@Net_1", ["pod-ns/a@Net_1"]],
    ["", []],
    ["  \n", []],
  ])("%p", (annotation, want) => {
    const got = parseSelections(annotation, "pod-ns");
    expect(got.map((s) => `${s.namespace}/${s.name}${s.interface === undefined ? "" : `@${s.interface}`}`)).toEqual(
      want,
    );
  });
  test.each([
    ["a/b/c", "element 1 (\"a/b/c\"): expected [namespace/]name[@interface] with at most one '/'"],
    ["a@b@c", "element 1 (\"a@b@c\"): expected [namespace/]name[@interface] with at most one '@'"],
    ["a,,b", "element 2: expected a network between the commas"],
    ["a,", "element 2: expected a network between the commas"],
    ["a, @x", 'element 2 ("@x"): name: expected the name of a network'],
    ["A", 'element 1 ("A"): name: expected lower-case letters'],
    ["-a", "name: expected lower-case letters"],
    ["a.b", "name: expected lower-case letters"],
    ["Ns/a", "namespace: expected lower-case letters, digits and '-', a letter or digit at both ends, found \"Ns\""],
    [
      "a@0123456789abcdef",
      "interface: expected an interface name of 1 to 15 characters without '/', ':', '%' or white space, found \"0123456789abcdef\"",
    ],
    ["a@b c", "interface: expected an interface name"],
    ["a@b:c", "interface: expected an interface name"],
    ["a@..", "interface: expected an interface name"],
    [Array.from({ length: 33 }, () => "a").join(","), "expected at most 32 networks"],
    [",".repeat(100_000), "element 1: expected a network"],
    ["a".repeat(300_000), "expected at most 262144 characters"],
  ])("refuses %.40s", (annotation, message) => {
    expect(refusal(() => parseSelections(annotation, "pod-ns"))).toContain(message);
  });
});

describe("the JSON form", () => {
  test("reads every key", () => {
    const element = {
      name: "storage",
      namespace: "infra",
      interface: "stor0",
      ips: ["10.1.2.3/24", "FD00::3"],
      mac: "02-00-00-00-00-0A",
      "infiniband-guid": "02:00:00:00:00:00:00:0F",
      portMappings: [
        { hostPort: 8080, containerPort: 80, length: 10 },
        { hostPort: 53, containerPort: 53, protocol: "Udp", hostIP: "192.0.2.1" },
      ],
      bandwidth: { ingressRate: 1000, egressRate: 2000, egressBurst: 3000 },
      "cni-args": { a: { b: 1 } },
      "default-route": ["10.1.2.1", "fd00::1"],
      deviceID: "0000:00:02.0",
      "example.org/x": 1,
      default_route: [],
    };
    expect(one(element)).toEqual({
      name: "storage",
      namespace: "infra",
      interface: "stor0",
      ips: ["10.1.2.3/24", "fd00::3"],
      mac: "02:00:00:00:00:0a",
      infinibandGuid: "02:00:00:00:00:00:00:0f",
      portMappings: [
        { hostPort: 8080, containerPort: 80, protocol: "tcp", length: 10 },
        { hostPort: 53, containerPort: 53, protocol: "udp", hostIP: "192.0.2.1" },
      ],
      bandwidth: { ingressRate: 1000, egressRate: 2000, egressBurst: 3000 },
      cniArgs: { a: { b: 1 } },
      defaultRoute: ["10.1.2.1", "fd00::1"],
      deviceID: "0000:00:02.0",
      unknownKeys: ["example.org/x", "default_route"],
    } as never);
  });
  test("null and empty texts ask for nothing", () => {
    expect(one({ name: "a", namespace: "", interface: "", ips: null, mac: null, "cni-args": null })).toEqual({
      name: "a",
      namespace: "pod-ns",
    });
  });
  test("interfaceRequest of old manifests counts, interface before it", () => {
    expect(one({ name: "a", interfaceRequest: "old0" })?.interface as string).toBe("old0");
    expect(one({ name: "a", interface: "new0", interfaceRequest: "old0" })?.interface as string).toBe("new0");
  });
  test("an empty list selects nothing, an empty default-route is kept", () => {
    expect(parseSelections("[]", "n")).toEqual([]);
    expect(one({ name: "a", "default-route": [] })?.defaultRoute).toEqual([]);
  });
  test.each<[string, Json, string]>([
    ["no name", {}, "element 1: name: expected the name of a network"],
    ["a name that is a path", { name: "../../a" }, 'element 1 ("../../a"): name: expected lower-case letters'],
    ["an escaped path", { name: "..%2fa" }, "name: expected lower-case letters"],
    ["a namespace that is a path", { name: "a", namespace: "../b" }, "namespace: expected lower-case letters"],
    ["an interface with a slash", { name: "a", interface: "../x" }, "interface: expected an interface name"],
    [
      "ips as a string",
      { name: "a", ips: "10.0.0.1" },
      'element 1 ("a"): ips: expected a list of addresses, found "10.0.0.1"',
    ],
    ["no ips", { name: "a", ips: [] }, "ips: expected at least one entry, found an empty list"],
    [
      "a bad address",
      { name: "a", ips: ["10.0.0.1", "10.0.0.256"] },
      'ips[1]: expected an address such as "10.1.2.3/24" or "fd00::3", found "10.0.0.256"',
    ],
    ["a bad prefix", { name: "a", ips: ["10.0.0.1/33"] }, "ips[0]: expected an address"],
    [
      "a multicast mac",
      { name: "a", mac: "f1:00:00:00:00:01" },
      'mac: expected a unicast address: an even first byte, such as 02, found "f1:00:00:00:00:01"',
    ],
    ["a zero mac", { name: "a", mac: "00:00:00:00:00:00" }, "mac: expected an address other than zero"],
    ["an eight-byte mac", { name: "a", mac: "02:00:00:00:00:00:00:01" }, "mac: expected six bytes"],
    ["a six-byte guid", { name: "a", "infiniband-guid": "02:00:00:00:00:01" }, "infiniband-guid: expected eight bytes"],
    ["no port mappings", { name: "a", portMappings: [] }, "portMappings: expected at least one entry"],
    [
      "port 0",
      { name: "a", portMappings: [{ hostPort: 0, containerPort: 1 }] },
      "portMappings[0].hostPort: expected an integer from 1 to 65535, found 0",
    ],
    [
      "a missing port",
      { name: "a", portMappings: [{ hostPort: 1 }] },
      "portMappings[0].containerPort: expected an integer from 1 to 65535, found nothing",
    ],
    ["a port as text", { name: "a", portMappings: [{ hostPort: "1", containerPort: 1 }] }, "portMappings[0].hostPort"],
    [
      "another protocol",
      { name: "a", portMappings: [{ hostPort: 1, containerPort: 1, protocol: "icmp" }] },
      "portMappings[0].protocol: expected TCP, UDP or SCTP",
    ],
    [
      "a bad host address",
      { name: "a", portMappings: [{ hostPort: 1, containerPort: 1, hostIP: "x" }] },
      "portMappings[0].hostIP: expected an IP address",
    ],
    ["an empty bandwidth", { name: "a", bandwidth: {} }, 'bandwidth: expected "ingressRate" or "egressRate", found {}'],
    ["a rate of 0", { name: "a", bandwidth: { ingressRate: 0 } }, "bandwidth.ingressRate: expected an integer from 1"],
    [
      "a burst alone",
      { name: "a", bandwidth: { ingressBurst: 5 } },
      'bandwidth.ingressBurst: expected "ingressRate" beside it',
    ],
    ["cni-args as a list", { name: "a", "cni-args": [] }, "cni-args: expected an object, found []"],
    [
      "a gateway with prefix",
      { name: "a", "default-route": ["10.0.0.1/8"] },
      "default-route[0]: expected the IP address of a gateway",
    ],
    [
      "two gateways of a family",
      { name: "a", "default-route": ["10.0.0.1", "10.0.0.2"] },
      "default-route: expected one IPv4 gateway",
    ],
    [
      "ips and a claim",
      { name: "a", ips: ["10.0.0.1"], "ipam-claim-reference": "c" },
      '"ips" and "ipam-claim-reference" exclude each other',
    ],
    [
      "a bad claim",
      { name: "a", "ipam-claim-reference": "../c" },
      "ipam-claim-reference: expected the name of an IPAMClaim",
    ],
    ["an element that is no object", "a", "element 1: expected an object"],
  ])("refuses %s", (_, element, message) => {
    expect(refusal(() => one(element))).toContain(message);
  });
  test.each([
    ["a map", '{"name":"a"}', "expected a list of networks"],
    ["bad JSON", '[{"name":"a"', "expected a JSON list of networks, found"],
    ["a key twice", '[{"name":"a","name":"b"}]', 'the key "name" twice'],
    ["a key twice but for case", '[{"name":"a","Name":"b"}]', 'the key "Name" twice'],
    ["__proto__", '[{"name":"a","cni-args":{"__proto__":{}}}]', "__proto__"],
    ["deep nesting", `[${"[".repeat(40)}${"]".repeat(40)}]`, "nested deeper than 32"],
    ["33 elements", JSON.stringify(Array.from({ length: 33 }, () => ({ name: "a" }))), "at most 32 networks"],
  ])("refuses %s", (_, annotation, message) => {
    expect(refusal(() => parseSelections(annotation, "n"))).toContain(message);
  });
  test("bounds addresses and ports of the whole pod", () => {
    const ips = Array.from({ length: 33 }, (_, i) => `10.0.0.${i + 1}`);
    const ports = Array.from({ length: 65 }, (_, i) => ({ hostPort: i + 1, containerPort: 1 }));
    const twice = (element: Json): string => JSON.stringify([element, element]);
    expect(refusal(() => parseSelections(twice({ name: "a", ips }), "n"))).toContain(
      "at most 64 addresses in all, found 66",
    );
    expect(refusal(() => parseSelections(twice({ name: "a", portMappings: ports }), "n"))).toContain(
      "at most 128 port mappings in all",
    );
  });
  test("the error names the annotation, and the remedy the way out", () => {
    try {
      one({ name: "a", mac: "x" });
    } catch (thrown) {
      expect((thrown as CniError).message).toBe(
        'Cannot use annotation "k8s.v1.cni.cncf.io/networks": element 1 ("a"): mac: expected six bytes such as "02:00:00:00:00:01", found "x"',
      );
      expect((thrown as CniError).remedy).toBe('Correct the annotation "k8s.v1.cni.cncf.io/networks" of the pod');
    }
  });
});

describe("parseDefaultSelection()", () => {
  test("takes one network, in the namespace given", () => {
    expect(parseDefaultSelection("calico", "kube-system")).toEqual({ name: "calico", namespace: "kube-system" });
    expect(parseDefaultSelection('[{"name":"a","namespace":"b"}]', "kube-system")).toEqual({
      name: "a",
      namespace: "b",
    });
    expect(parseDefaultSelection(undefined, "kube-system")).toBeUndefined();
    expect(parseDefaultSelection("", "kube-system")).toBeUndefined();
  });
  test("refuses two", () => {
    expect(refusal(() => parseDefaultSelection("a,b", "n"))).toContain(
      '"v1.multus-cni.io/default-network": expected one network',
    );
  });
});

test("parseSelections() throws nothing but CniError on mutated annotations, and is quick", () => {
  const seeds = [
    "ns/a@net1,b , c@x",
    JSON.stringify([
      { name: "a", ips: ["10.0.0.1/24"], mac: "02:00:00:00:00:01", "default-route": ["10.0.0.254"] },
      { name: "b", portMappings: [{ hostPort: 1, containerPort: 2, protocol: "TCP" }], bandwidth: { ingressRate: 5 } },
      { name: "c", "cni-args": { a: 1 }, "infiniband-guid": "02:00:00:00:00:00:00:01", interface: "x0" },
    ]),
  ];
  const pieces = [
    '"',
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "@",
    "/",
    "null",
    "-1",
    "1e999",
    "\\u0000",
    "\ud800",
    "é",
    "[[[[",
    "",
    " ",
  ];
  let state = 99;
  const random = (n: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (state >> 8) % n;
  };
  const until = Date.now() + 2000;
  for (let runs = 0; runs < 30_000 && Date.now() < until; runs++) {
    let text = seeds[random(2)] ?? "";
    for (let i = random(6); i >= 0; i--) {
      const at = random(text.length + 1);
      text = text.slice(0, at) + (pieces[random(pieces.length)] ?? "") + text.slice(at + random(8));
    }
    try {
      parseSelections(text, "pod-ns");
    } catch (thrown) {
      if (!(thrown instanceof CniError)) throw new Error(`${JSON.stringify(text)}: ${thrown}`);
    }
  }
});

test.each([
  [{}, false],
  [{ ips: ["10.0.0.1/24"] }, true],
  [{ mac: "02:00:00:00:00:01" }, true],
  [{ "infiniband-guid": "02:00:00:00:00:00:00:01" }, true],
  [{ "cni-args": { ips: ["10.0.0.1/24"] } }, true],
  [{ "cni-args": { MAC: "02:00:00:00:00:01" } }, true],
  [{ "cni-args": { vlan: 4 }, interface: "x0" }, false],
] as [Json, boolean][])("choosesAddress() %j", (more, chooses) => {
  const selection = one({ name: "a", ...(more as object) });
  expect(selection && choosesAddress(selection)).toBe(chooses);
});

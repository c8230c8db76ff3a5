/**
 * The multi-network rules, one named case a rule, as far as no kernel is needed. `attach-cases.ts` has those that need a
 * whole ADD or DEL.
 */
import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import type { IfName } from "../../core/base/brand.ts";
import { CniError } from "../../core/base/error.ts";
import type { Json, JsonObject } from "../../core/base/json.ts";
import { delegateEnvironment, formatCniArgs, parseCniArgs } from "../../core/cni/env.ts";
import { parseNetworkList, typeOf } from "../../core/cni/list.ts";
import { deriveRequest } from "../../core/cni/request.ts";
import { emptyResult, type NetworkList, type Result } from "../../core/cni/types.ts";
import { networkOf, parseNad } from "../../core/multinet/nad.ts";
import { parseSelections, type Selection } from "../../core/multinet/selection.ts";
import { formatStatus, statusOf } from "../../core/multinet/status.ts";
import { DEFAULTS } from "../../core/plan/conf.ts";
import { editDefaultRoutes, makePlan, type Plan } from "../../core/plan/plan.ts";
import { podOf } from "../../core/plan/pod.ts";
import { type Networks, openNetworks } from "../../core/source/networks.ts";

const nad = (name: string, config?: Json, more: JsonObject = {}): JsonObject => ({
  apiVersion: "k8s.cni.cncf.io/v1",
  kind: "NetworkAttachmentDefinition",
  metadata: { name, ...more },
  ...(config === undefined ? {} : { spec: { config: typeof config === "string" ? config : JSON.stringify(config) } }),
});
const one = (element: JsonObject): Selection | undefined =>
  parseSelections(JSON.stringify([{ name: "a", ...element }]), "pod-ns")[0];
const capable = {
  type: "macvlan",
  capabilities: { ips: true, mac: true, infinibandGUID: true, portMappings: true, bandwidth: true },
};
const listOf = (name: string, ...plugins: JsonObject[]): NetworkList =>
  parseNetworkList({ cniVersion: "1.0.0", name, plugins });
const runtimeArgs = parseCniArgs(
  "IgnoreUnknown=1;K8S_POD_NAMESPACE=pod-ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u",
);

function plan(annotation: Json[] | string, plugins: JsonObject[] = [capable], conf: object = {}): Plan {
  const text = typeof annotation === "string" ? annotation : JSON.stringify(annotation);
  const pod = podOf(runtimeArgs);
  return makePlan({
    invocation: { ifname: "eth0" as IfName, args: runtimeArgs },
    conf: { namespaceIsolation: false, ...DEFAULTS, runtimeConfig: {}, ...conf },
    ...(pod === undefined ? {} : { pod }),
    defaultNetwork: { list: listOf("cbr0", { type: "bridge" }), label: "cbr0" },
    selections: parseSelections(text, "pod-ns").map((selection) => ({ selection, list: listOf("conf", ...plugins) })),
  });
}

function withFiles<T>(files: Record<string, JsonObject | string>, work: (networks: Networks) => T): T {
  const dir = mkdtempSync(`${tmpdir()}/patchbay-rules-`);
  try {
    for (const [name, content] of Object.entries(files)) {
      mkdirSync(dir, { recursive: true });
      writeFileSync(`${dir}/${name}`, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o644 });
    }
    return work(openNetworks({ networksDir: dir, confDir: `${dir}/none` }));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

function refused(code: number, message: string, work: () => unknown): void {
  try {
    work();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(CniError);
    expect((thrown as CniError).message).toContain(message);
    expect((thrown as CniError).code).toBe(code);
    return;
  }
  throw new Error(`nothing was thrown, expected: ${message}`);
}

describe("NetworkAttachmentDefinition", () => {
  test("rule 1: group, version and kind are the object's, and it lives in a namespace", () => {
    expect(parseNad(nad("a"), "f").namespace).toBe("default");
    refused(7, "apiVersion", () => parseNad({ ...nad("a"), apiVersion: "k8s.cni.cncf.io/v1beta1" }, "f"));
  });
  test("rule 2: spec.config is an optional string, metadata.name is mandatory", () => {
    expect(parseNad(nad("a"), "f").config).toBeUndefined();
    refused(7, "spec.config: expected a string", () => parseNad({ ...nad("a"), spec: { config: {} } }, "f"));
    refused(7, "metadata.name", () => parseNad({ ...nad("a"), metadata: {} }, "f"));
  });
  test("rule 3: a reference is name or namespace/name", () => {
    expect(parseSelections("a,b/a", "pod-ns").map((s) => `${s.namespace}/${s.name}`)).toEqual(["pod-ns/a", "b/a"]);
    refused(7, "name", () => parseSelections("A_b", "pod-ns"));
  });
  test("rule 4: spec.config, then a list by name, then a single configuration by name, else failure", () => {
    const files = {
      "z.configlist": { name: "a", plugins: [{ type: "list" }] },
      "a.config": { name: "a", type: "single" },
    };
    const of = (more: Record<string, JsonObject | string>) =>
      withFiles(more, (networks) => networks.nad("default", "a").list.plugins.map(typeOf));
    expect(of({ "n.json": nad("a", { type: "spec" }), ...files })).toEqual(["spec"]);
    expect(of({ "n.json": nad("a"), ...files })).toEqual(["list"]);
    expect(of({ "n.json": nad("a"), "a.config": files["a.config"] })).toEqual(["single"]);
    refused(100, "no spec.config", () => of({ "n.json": nad("a") }));
  });
  test("rule 4: one file that cannot be read does not end the search, and is named when nothing is found", () => {
    withFiles(
      { "0.conf": "{", "1.conf": { name: "x", plugins: [] }, "n.json": nad("a"), "z.json": { name: "a", type: "t" } },
      (networks) => {
        expect(networks.nad("default", "a").list.plugins.map(typeOf)).toEqual(["t"]);
        refused(100, "1.conf: no 'type'; perhaps this is a .conflist?", () => networks.nad("default", "b"));
      },
    );
  });
  test("rule 5: a configuration without a name gets the object's", () => {
    for (const config of [{ type: "x" }, { name: "", type: "x" }, { plugins: [{ type: "x" }] }]) {
      expect(networkOf(parseNad(nad("storage", config), "f")).name as string).toBe("storage");
    }
    expect(networkOf(parseNad(nad("storage", { name: "own", type: "x" }), "f")).name as string).toBe("own");
  });
  test.each<[string, string, string]>([
    ["no JSON", "x", "not JSON"],
    ["neither type nor plugins", "{}", "neither"],
    ["no plugins", '{"plugins":[]}', "at least one plugin"],
    ["plugins that are no list", '{"plugins":1}', "a list of plugins"],
    ["an entry without type", '{"plugins":[{}]}', "plugins[0].type"],
    ["a cniVersion that is no text", '{"type":"x","cniVersion":1}', "cniVersion"],
    ["cniVersions that are no list", '{"type":"x","cniVersions":"1.0.0"}', "cniVersions"],
    ["a bad name", '{"type":"x","name":"a b"}', "name"],
  ])("rule 6: refuses %s", (_, config, message) => {
    refused(7, message, () => networkOf(parseNad(nad("a", config), "f")));
  });
  test("rule 8: the object's annotations are kept", () => {
    const annotations = { "k8s.v1.cni.cncf.io/resourceName": "example.com/nic" };
    expect(parseNad(nad("a", undefined, { annotations }), "f").annotations).toEqual(annotations);
  });
});

describe("the annotation", () => {
  test("rule 9: both forms are read; missing or empty selects nothing", () => {
    expect(parseSelections("b/a@x0", "n")).toEqual(
      parseSelections('[{"name":"a","namespace":"b","interface":"x0"}]', "n"),
    );
    for (const empty of [undefined, "", " "]) expect(parseSelections(empty, "n")).toEqual([]);
    expect(plan("").attachments.map((a) => a.label)).toEqual(["cbr0"]);
  });
  test("rule 10: [ns/]name[@ifname], blanks around each part", () => {
    expect(parseSelections(" b / a @ Net_1 ", "n")).toEqual([
      { name: "a", namespace: "b", interface: "Net_1" as IfName },
    ]);
    for (const bad of ["a/b/c", "a@b@c", "-a", "a-", "A", "a@0123456789abcdef", "a@x y", "a@x/y", "a,,b"]) {
      refused(7, "Cannot use annotation", () => parseSelections(bad, "n"));
    }
  });
  test('rule 11: any of [ { " makes it JSON, which is a list of maps', () => {
    for (const bad of ['"a"', '{"name":"a"}', "[1]", "a[b"])
      refused(7, "Cannot use annotation", () => parseSelections(bad, "n"));
  });
  test("rule 12: unknown keys are passed over", () => {
    expect(one({ "org.foo.bar.key": 1, other: 2 })).toMatchObject({
      name: "a",
      unknownKeys: ["org.foo.bar.key", "other"],
    });
  });
  test("rule 13: name is required", () => refused(7, "name", () => parseSelections('[{"namespace":"b"}]', "n")));
  test("rule 14: no namespace, or an empty one, is the pod's", () => {
    expect([one({})?.namespace, one({ namespace: "" })?.namespace, one({ namespace: "b" })?.namespace]).toEqual([
      "pod-ns",
      "pod-ns",
      "b",
    ]);
  });
  const requests: ReadonlyArray<readonly [number, string, Json, string, Json]> = [
    [15, "ips", ["10.0.0.1/24", "fd00::1"], "ips", ["10.0.0.1/24", "fd00::1"]],
    [16, "mac", "02:00:00:00:00:01", "mac", "02:00:00:00:00:01"],
    [17, "infiniband-guid", "02:00:00:00:00:00:00:01", "infinibandGUID", "02:00:00:00:00:00:00:01"],
    [
      18,
      "portMappings",
      [
        { hostPort: 80, containerPort: 8080, protocol: "UDP" },
        { hostPort: 1, containerPort: 1 },
      ],
      "portMappings",
      [
        { hostPort: 80, containerPort: 8080, protocol: "udp" },
        { hostPort: 1, containerPort: 1, protocol: "tcp" },
      ],
    ],
    [19, "bandwidth", { egressRate: 1, egressBurst: 2 }, "bandwidth", { egressRate: 1, egressBurst: 2 }],
  ];
  test.each(requests)(
    "rule %d: %s reaches runtimeConfig of the plugins that declare it",
    (_, key, value, capability, want) => {
      const attachment = plan([{ name: "a", [key]: value }], [capable, { type: "tuning" }]).attachments[1];
      if (attachment === undefined) throw new Error("no attachment");
      const request = (i: number) =>
        deriveRequest(attachment.list, i, "1.0.0", { runtimeConfig: attachment.capabilityValues });
      expect(request(0).runtimeConfig).toEqual({ [capability]: want });
      expect(request(1).runtimeConfig).toBeUndefined();
    },
  );
  test.each(requests)("rule %d: %s fails the attachment when no plugin declares it", (_, key, value) => {
    refused(103, `the requested "${key}"`, () => plan([{ name: "a", [key]: value }], [{ type: "macvlan" }]));
  });
  test.each<[number, JsonObject]>([
    [15, { ips: [] }],
    [15, { ips: "10.0.0.1" }],
    [16, { mac: "02:00" }],
    [16, { mac: "01:00:00:00:00:01" }],
    [17, { "infiniband-guid": "02:00:00:00:00:01" }],
    [18, { portMappings: [] }],
    [18, { portMappings: [{ hostPort: 65_536, containerPort: 1 }] }],
    [18, { portMappings: [{ hostPort: 1, containerPort: 1, protocol: "icmp" }] }],
    [19, { bandwidth: {} }],
    [19, { bandwidth: { ingressRate: 0 } }],
    [19, { bandwidth: { ingressBurst: 1 } }],
  ])("rule %d: refuses %j", (_, element) => refused(7, "Cannot use annotation", () => one(element)));
  test("rule 19: a rate without a burst gets one", () => {
    const values = plan([{ name: "a", bandwidth: { ingressRate: 80_000_000 } }]).attachments[1]?.capabilityValues;
    expect(values?.bandwidth).toEqual({ ingressRate: 80_000_000, ingressBurst: 8_000_000 });
  });
  test("rule 20: interface names the attachment's interface", () => {
    expect(plan([{ name: "a", interface: "data0" }]).attachments[1]?.ifname as string).toBe("data0");
  });
  test("rule 20: interface already used fails the attachment", () => {
    for (const annotation of ["a@eth0", "a@x0,b@x0", "a,b@net1", "a@net2,b"])
      refused(102, "is already used by", () => plan(annotation));
  });
  test("rule 21: cni-args are merged into args.cni of every plugin, the pod's value first", () => {
    const plugins = [{ type: "a", args: { cni: { x: 1, y: 1 } } }, { type: "b" }];
    const got = plan([{ name: "a", "cni-args": { x: 2 } }], plugins).attachments[1];
    expect(got?.list.plugins.map((p) => p.args)).toEqual([{ cni: { x: 2, y: 1 } }, { cni: { x: 2 } }]);
  });
  const defaults: Result = {
    ...emptyResult,
    routes: [
      { dst: "0.0.0.0/0", gw: "10.0.0.1" },
      { dst: "::/0", gw: "fd00::1" },
    ],
  };
  test("rule 22: a gateway takes its family's default route from every other network", () => {
    const { defaultRoutes } = plan([{ name: "a", "default-route": ["192.0.2.1"] }, { name: "b" }]);
    expect(editDefaultRoutes(defaultRoutes, 0, defaults).result.routes).toEqual([{ dst: "::/0", gw: "fd00::1" }]);
    expect(editDefaultRoutes(defaultRoutes, 1, emptyResult).add).toEqual([{ dst: "0.0.0.0/0", gw: "192.0.2.1" }]);
    expect(editDefaultRoutes(defaultRoutes, 2, defaults).remove).toEqual([{ dst: "0.0.0.0/0", gw: "10.0.0.1" }]);
  });
  test("rule 22: an empty list keeps the network's own and takes everyone else's", () => {
    const { defaultRoutes } = plan([{ name: "a", "default-route": [] }]);
    expect(editDefaultRoutes(defaultRoutes, 0, defaults).result.routes).toEqual([]);
    expect(editDefaultRoutes(defaultRoutes, 1, defaults).result).toEqual(defaults);
  });
  test("rule 22: several elements may carry it with one gateway a family in all", () => {
    const routes = (a: string, b: string) =>
      plan([
        { name: "a", "default-route": [a] },
        { name: "b", "default-route": [b] },
      ]).defaultRoutes;
    expect(routes("192.0.2.1", "fd00::9")).toEqual({
      4: { owner: 1, gateway: "192.0.2.1" },
      6: { owner: 2, gateway: "fd00::9" },
    });
    refused(7, "expected one network with the IPv4 default route", () => routes("192.0.2.1", "192.0.2.2"));
  });
  test("rule 23: an IPAM claim is handed on, and excludes ips", () => {
    const got = plan([{ name: "a", "ipam-claim-reference": "claim-1" }]).attachments[1];
    expect(got?.list.plugins[0]?.args).toEqual({ cni: { "ipam-claim-reference": "claim-1" } });
    refused(7, "exclude each other", () => one({ ips: ["10.0.0.1"], "ipam-claim-reference": "c" }));
  });
  test("rule 24: deviceID and the older interfaceRequest are read", () => {
    expect(one({ deviceID: "0000:00:02.0", interfaceRequest: "x0" })).toMatchObject({
      deviceID: "0000:00:02.0",
      interface: "x0" as IfName,
    });
    expect(plan([{ name: "a", deviceID: "d" }], [{ type: "sriov" }]).attachments[1]?.capabilityValues).toEqual({
      deviceID: "d",
    });
  });
  test("rule 25: an invalid value fails the pod, with element and key named", () => {
    refused(7, 'element 2 ("b"): ips[0]: expected an address', () =>
      parseSelections('[{"name":"a"},{"name":"b","ips":["x"]}]', "n"),
    );
  });
  test("rule 26: the same network several times is several attachments", () => {
    expect(plan("a,a,a").attachments.map((a) => a.ifname as string)).toEqual(["eth0", "net1", "net2", "net3"]);
  });
  test("rule 27: network name of the configuration and interface name identify, names are generated by place", () => {
    expect(plan("a,b@x0,c").attachments.map((a) => `${a.network} ${a.ifname}`)).toEqual([
      "cbr0 eth0",
      "conf net1",
      "conf x0",
      "conf net3",
    ]);
  });
});

describe("the default network", () => {
  test("rule 28: it comes first", () =>
    expect(plan("a,b").attachments.map((a) => a.isDefault)).toEqual([true, false, false]));
  test("rule 31: the runtime's values reach it alone", () => {
    const got = plan("a", [capable], { runtimeConfig: { portMappings: [{ hostPort: 1 }] } });
    expect(got.attachments.map((a) => a.capabilityValues)).toEqual([{ portMappings: [{ hostPort: 1 }] }, {}]);
  });
  test("rule 32: it is found as a NAD of the system namespace, then as a file by name", () => {
    const base = { cniVersion: "1.0.0", name: "pods", systemNamespaces: DEFAULTS.systemNamespaces };
    const files = { "f.conf": { name: "calico", type: "file" } };
    const find = (networks: Networks) =>
      networks.defaultNetwork({ is: "name", name: "calico" }, base).list.plugins.map(typeOf);
    expect(withFiles(files, find)).toEqual(["file"]);
    expect(
      withFiles({ ...files, "n.json": nad("calico", { type: "nad" }, { namespace: "kube-system" }) }, find),
    ).toEqual(["nad"]);
  });
});

describe("execution", () => {
  test("rule 33: each plugin of a chain gets the list's name and version", () => {
    const list = listOf("blue", { type: "a" }, { type: "b", name: "other" });
    expect([0, 1].map((i) => deriveRequest(list, i, "0.4.0"))).toEqual([
      { cniVersion: "0.4.0", name: "blue", type: "a" },
      { cniVersion: "0.4.0", name: "blue", type: "b" },
    ]);
  });
  test("rule 37: namespace isolation allows the pod's namespace and the shared ones", () => {
    const isolated = { namespaceIsolation: true, globalNamespaces: ["shared"] };
    expect(plan("a,pod-ns/a,shared/a", [capable], isolated).attachments).toHaveLength(4);
    refused(101, "namespace isolation is on", () => plan("default/a", [capable], isolated));
    expect(DEFAULTS.globalNamespaces).toEqual(["default"]);
  });
});

describe("the status", () => {
  const eth0 = { name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/n" };
  test("rule 39: a list of maps, one an attachment", () => {
    const text = formatStatus([...statusOf("cbr0", true, emptyResult), ...statusOf("n/a", false, emptyResult)]);
    expect(JSON.parse(text).map((s: { name: string }) => s.name)).toEqual(["cbr0", "n/a"]);
  });
  test("rule 40: the interface with a sandbox; without a result the name alone", () => {
    const interfaces = [{ name: "br0", mac: "02:00:00:00:00:09" }, eth0];
    expect(statusOf("a", false, { ...emptyResult, interfaces })).toEqual([
      { name: "a", interface: "eth0", mac: eth0.mac, dns: {} },
    ]);
    expect(statusOf("a", false, undefined)).toEqual([{ name: "a", dns: {} }]);
  });
  test("rule 41: the default network's entry alone has default: true", () => {
    expect(statusOf("a", true, { ...emptyResult, interfaces: [eth0] })[0]?.default).toBe(true);
    expect(statusOf("a", false, { ...emptyResult, interfaces: [eth0] })[0]).not.toHaveProperty("default");
  });
  test("rule 42: the keys, dns always", () => {
    const result: Result = {
      interfaces: [{ ...eth0, mtu: 1500 }],
      ips: [{ address: "10.0.0.2/24", interface: 0 }],
      routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1" }],
      dns: {},
    };
    expect(Object.keys(JSON.parse(formatStatus(statusOf("a", true, result)))[0])).toEqual([
      "name",
      "interface",
      "ips",
      "mac",
      "mtu",
      "default",
      "dns",
      "gateway",
    ]);
  });
  test("rule 43: addresses of the interface, without prefix", () => {
    const ips = [
      { address: "10.0.0.2/24", interface: 1 },
      { address: "10.9.0.1/24", interface: 0 },
    ];
    expect(statusOf("a", false, { ...emptyResult, interfaces: [{ name: "br0" }, eth0], ips })[0]?.ips).toEqual([
      "10.0.0.2",
    ]);
    expect(statusOf("a", false, { ...emptyResult, ips: [{ address: "10.0.0.2/24" }] })[0]?.ips).toEqual(["10.0.0.2"]);
  });
  test("rule 44: one entry an interface in the pod; an address without index is the last's", () => {
    const interfaces = [eth0, { ...eth0, name: "eth1" }];
    const ips = [{ address: "10.0.0.2/24", interface: 1, gateway: "10.0.0.1" }, { address: "10.0.0.3/24" }];
    expect(
      statusOf("a", true, { ...emptyResult, interfaces, ips }).map((s) => [s.interface, s.default, s.ips]),
    ).toEqual([
      ["eth0", undefined, undefined],
      ["eth1", true, ["10.0.0.2", "10.0.0.3"]],
    ]);
  });
  test("rule 45: objects indented by four, joined by a comma, in brackets", () => {
    expect(formatStatus([...statusOf("a", true, undefined), ...statusOf("b", false, undefined)])).toBe(
      '[{\n    "name": "a",\n    "default": true,\n    "dns": {}\n},{\n    "name": "b",\n    "dns": {}\n}]',
    );
  });
});

describe("what delegates get", () => {
  test("rule 53: the pod's arguments, then the runtime's others, then MAC and IP", () => {
    const attachment = plan([{ name: "a", mac: "02:00:00:00:00:01", ips: ["10.0.0.1", "fd00::1"] }]).attachments[1];
    expect(formatCniArgs(attachment?.cniArgs ?? new Map())).toBe(
      "IgnoreUnknown=true;K8S_POD_NAMESPACE=pod-ns;K8S_POD_NAME=p;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u;MAC=02:00:00:00:00:01;IP=10.0.0.1,fd00::1",
    );
  });
  test("rule 54: the runtime's directories of binaries, in their order", () => {
    const path = ["/opt/patchbay/bin", "/opt/cni/bin"];
    expect(delegateEnvironment({}, { command: "ADD", path }).CNI_PATH).toBe("/opt/patchbay/bin:/opt/cni/bin");
  });
  test("rule 55: the pod's UID comes from the runtime", () => expect(podOf(runtimeArgs)?.uid as string).toBe("u"));
});

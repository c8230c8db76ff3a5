import { describe, expect, test } from "bun:test";
import type { IfName } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import type { Json, JsonObject } from "../base/json.ts";
import { formatCniArgs, parseCniArgs } from "../cni/env.ts";
import { parseNetworkList } from "../cni/list.ts";
import type { NetworkList, Result } from "../cni/types.ts";
import { parseSelections } from "../multinet/selection.ts";
import { editDefaultRoutes, explainPlan, makePlan, type Plan, type PlanInput, strippedFamilies } from "./plan.ts";
import { podOf } from "./pod.ts";

const list = (name: string, ...plugins: JsonObject[]): NetworkList =>
  parseNetworkList({ cniVersion: "1.0.0", name, plugins: plugins.length > 0 ? plugins : [{ type: "macvlan" }] });
const capable = { ips: true, mac: true, portMappings: true, bandwidth: true, infinibandGUID: true };
const args = parseCniArgs("IgnoreUnknown=1;K8S_POD_NAMESPACE=team;K8S_POD_NAME=web-0;K8S_POD_UID=u-1");
const pod = podOf(args);
const conf = {
  namespaceIsolation: false,
  globalNamespaces: ["default"],
  systemNamespaces: ["kube-system"],
  runtimeConfig: { portMappings: [{ HostPort: 80 }] },
};
const bridge = { list: list("cbr0", { type: "bridge", capabilities: { portMappings: true } }), label: "cbr0" };

function plan(
  annotation: string | Json[],
  rest: Partial<PlanInput> = {},
  network: NetworkList = list("conf", { type: "macvlan", capabilities: capable }),
): Plan {
  const text = typeof annotation === "string" ? annotation : JSON.stringify(annotation);
  return makePlan({
    invocation: { ifname: "eth0" as IfName, args },
    conf,
    ...(pod === undefined ? {} : { pod }),
    defaultNetwork: bridge,
    selections: parseSelections(text, "team").map((selection) => ({ selection, list: network })),
    ...rest,
  });
}
const refusal = (work: () => unknown): [number, string, string] => {
  try {
    work();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(CniError);
    return [(thrown as CniError).code, (thrown as CniError).message, (thrown as CniError).remedy];
  }
  throw new Error("nothing was thrown");
};

describe("order and names", () => {
  test("the default network first, as the runtime's interface, the others by place or as asked", () => {
    const got = plan("a,b@data0,infra/c");
    expect(got.attachments.map((a) => [a.label, a.ifname as string, a.isDefault, a.network as string])).toEqual([
      ["cbr0", "eth0", true, "cbr0"],
      ["team/a", "net1", false, "conf"],
      ["team/b", "data0", false, "conf"],
      ["infra/c", "net3", false, "conf"],
    ]);
  });
  test("behind another provider the first selected network is net1 too", () => {
    const got = makePlan({
      invocation: { ifname: "eth0" as IfName, args },
      conf,
      selections: parseSelections("a", "team").map((selection) => ({ selection, list: list("a") })),
      taken: new Map([["eth0", 'the network "cbr0"']]),
    });
    expect(got.attachments.map((a) => a.ifname as string)).toEqual(["net1"]);
  });
  test.each<[string, string, string]>([
    [
      "requested twice",
      "a@x0,b@x0",
      'Cannot attach network "team/b": its interface name "x0" (requested) is already used by network "team/a" (requested)',
    ],
    ["the default network's", "a@eth0", '"eth0" (requested) is already used by network "cbr0" (the runtime\'s)'],
    [
      "a generated one before",
      "a,b@net1",
      '"net1" (requested) is already used by network "team/a" (generated from its place)',
    ],
    [
      "a requested one before a generated",
      "a@net2,b",
      '"net2" (generated from its place) is already used by network "team/a" (requested)',
    ],
    ["loopback's", "a@lo", '"lo" (requested) is already used by the loopback interface'],
    ["one that the pod has already", "a@old0", '"old0" (requested) is already used by somebody'],
  ])("refuses a name %s", (_, annotation, message) => {
    const [code, got] = refusal(() => plan(annotation, { taken: new Map([["old0", "somebody"]]) }));
    expect(got).toContain(message);
    expect(code).toBe(102);
  });
  test("refuses more than 32 networks with the default", () => {
    expect(refusal(() => plan(Array.from({ length: 32 }, () => ({ name: "a" }))))[1]).toContain(
      "at most 32 networks, found 33",
    );
  });
});

describe("capability values", () => {
  test("the runtime's reach the default network alone, untouched", () => {
    const got = plan("a");
    expect(got.attachments[0]?.capabilityValues).toEqual({ portMappings: [{ HostPort: 80 }] });
    expect(got.attachments[1]?.capabilityValues).toEqual({});
  });
  test("requests by capability name", () => {
    const element = {
      name: "a",
      ips: ["10.0.0.1/24"],
      mac: "02:00:00:00:00:01",
      "infiniband-guid": "02:00:00:00:00:00:00:01",
      portMappings: [{ hostPort: 1, containerPort: 2, protocol: "UDP" }],
      bandwidth: { ingressRate: 100_000_000, egressRate: 8_000, egressBurst: 9_000 },
      deviceID: "0000:00:02.0",
    };
    expect(plan([element]).attachments[1]?.capabilityValues).toEqual({
      ips: ["10.0.0.1/24"],
      mac: "02:00:00:00:00:01",
      infinibandGUID: "02:00:00:00:00:00:00:01",
      portMappings: [{ hostPort: 1, containerPort: 2, protocol: "udp" }],
      bandwidth: { ingressRate: 100_000_000, ingressBurst: 10_000_000, egressRate: 8_000, egressBurst: 9_000 },
      deviceID: "0000:00:02.0",
    });
  });
  test.each([
    [1, 524_288],
    [10_000_000, 1_000_000],
    [1_000_000_000_000, 34_359_738_360],
  ])("a rate of %d bit/s gets a burst of %d bits", (ingressRate, ingressBurst) => {
    const got = plan([{ name: "a", bandwidth: { ingressRate } }]);
    expect(got.attachments[1]?.capabilityValues.bandwidth).toEqual({ ingressRate, ingressBurst });
  });
  test.each<[string, Json, string]>([
    ["ips", ["10.0.0.1"], "ips"],
    ["mac", "02:00:00:00:00:01", "mac"],
    ["infiniband-guid", "02:00:00:00:00:00:00:01", "infinibandGUID"],
    ["portMappings", [{ hostPort: 1, containerPort: 1 }], "portMappings"],
    ["bandwidth", { ingressRate: 1 }, "bandwidth"],
  ])("refuses %s that no plugin declares", (key, value, capability) => {
    const network = list("conf", { type: "macvlan", capabilities: { [capability]: false } }, { type: "tuning" });
    const [code, message, remedy] = refusal(() => plan([{ name: "a", [key]: value }], {}, network));
    expect(code).toBe(103);
    expect(message).toBe(
      `Cannot give network "team/a" the requested "${key}": none of its plugins ("macvlan", "tuning") declares the capability "${capability}"`,
    );
    expect(remedy).toContain(`Add "capabilities": {"${capability}": true} to the plugin of "team/a"`);
  });
  test("one plugin of the chain is enough", () => {
    const network = list("conf", { type: "macvlan" }, { type: "tuning", capabilities: { mac: true } });
    expect(plan([{ name: "a", mac: "02:00:00:00:00:01" }], {}, network).attachments[1]?.capabilityValues).toEqual({
      mac: "02:00:00:00:00:01",
    });
  });
});

describe("arguments", () => {
  test("delegates get the pod's, and MAC and IP as asked", () => {
    const got = plan([{ name: "a", mac: "02:00:00:00:00:01", ips: ["10.0.0.1/24", "10.0.0.2/24"] }]);
    const shared = "IgnoreUnknown=true;K8S_POD_NAMESPACE=team;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";
    expect(got.attachments.map((a) => formatCniArgs(a.cniArgs))).toEqual([
      shared,
      `${shared};MAC=02:00:00:00:00:01;IP=10.0.0.1/24,10.0.0.2/24`,
    ]);
  });
  test("cni-args go into every plugin, and win over the network's", () => {
    const network = list("conf", { type: "a" }, { type: "b", args: { cni: { x: 1, y: 1 }, other: 2 } });
    const got = plan([{ name: "n", "cni-args": { x: 5, z: { deep: true } } }], {}, network).attachments[1];
    expect(got?.list.plugins).toEqual([
      { type: "a", args: { cni: { x: 5, z: { deep: true } } } },
      { type: "b", args: { cni: { x: 5, y: 1, z: { deep: true } }, other: 2 } },
    ]);
    expect(network.plugins[1]).toEqual({ type: "b", args: { cni: { x: 1, y: 1 }, other: 2 } });
  });
  test("refuses cni-args where the network's args are no object", () => {
    const network = list("conf", { type: "a", args: "x" });
    expect(refusal(() => plan([{ name: "n", "cni-args": { x: 1 } }], {}, network))[1]).toContain('args of plugin "a"');
  });
});

describe("namespace isolation", () => {
  const isolated = { conf: { ...conf, namespaceIsolation: true } };
  test.each(["a", "team/a", "default/a"])("allows %s", (annotation) =>
    expect(() => plan(annotation, isolated)).not.toThrow(),
  );
  test("refuses another namespace", () => {
    const [code, message, remedy] = refusal(() => plan("infra/a", isolated));
    expect(code).toBe(101);
    expect(message).toBe(
      'Cannot attach network "infra/a" to a pod in namespace "team": namespace isolation is on and "infra" is not shared',
    );
    expect(remedy).toContain('add "infra" to globalNamespaces');
  });
  test("the list of shared namespaces replaces the default", () => {
    const shared = { conf: { ...isolated.conf, globalNamespaces: ["infra"] } };
    expect(() => plan("infra/a", shared)).not.toThrow();
    expect(refusal(() => plan("default/a", shared))[0]).toBe(101);
  });
  test("without a pod's name the call has the rights of the namespace default", () => {
    const { pod: _, ...nobody } = { ...isolated, defaultNetwork: bridge, pod: undefined };
    const invocation = { ifname: "eth0" as IfName, args: new Map<string, string>() };
    const select = (text: string) => () =>
      makePlan({
        invocation,
        ...nobody,
        selections: parseSelections(text, "default").map((selection) => ({ selection, list: bridge.list })),
      });
    expect(select("a")).not.toThrow();
    expect(refusal(select("infra/a"))[0]).toBe(101);
  });
  test("a default network may come from a system namespace, a selected one not", () => {
    const selection = { name: "calico", namespace: "kube-system" };
    expect(() => plan("", { ...isolated, defaultNetwork: { ...bridge, selection } })).not.toThrow();
    expect(refusal(() => plan("kube-system/calico", isolated))[0]).toBe(101);
  });
});

test("the annotation of the default network cannot rename the runtime's interface", () => {
  const selection = { name: "a", namespace: "kube-system", interface: "x0" as IfName };
  expect(refusal(() => plan("", { defaultNetwork: { ...bridge, selection } }))[1]).toContain(
    'expected "eth0", which the runtime asked for, found "x0"',
  );
});

describe("default routes", () => {
  const result = (...dst: string[]): Result => ({
    interfaces: [],
    ips: [],
    routes: [...dst.map((d) => ({ dst: d, gw: d.includes(":") ? "fd00::1" : "10.0.0.1" })), { dst: "10.9.0.0/16" }],
    dns: {},
  });
  const both = result("0.0.0.0/0", "::/0");
  test("nobody asks: nothing changes", () => {
    const got = plan("a");
    expect(got.defaultRoutes).toEqual({});
    expect(editDefaultRoutes(got.defaultRoutes, 0, both)).toEqual({ remove: [], add: [], result: both });
  });
  test("a gateway moves its family alone", () => {
    const { defaultRoutes } = plan([{ name: "a", "default-route": ["192.0.2.1"] }]);
    expect(defaultRoutes).toEqual({ 4: { owner: 1, gateway: "192.0.2.1" } });
    expect(editDefaultRoutes(defaultRoutes, 0, both)).toEqual({
      remove: [{ dst: "0.0.0.0/0", gw: "10.0.0.1" }],
      add: [],
      result: { ...both, routes: [{ dst: "::/0", gw: "fd00::1" }, { dst: "10.9.0.0/16" }] },
    });
    expect(editDefaultRoutes(defaultRoutes, 1, result("0.0.0.0/0")).result.routes).toEqual([
      { dst: "10.9.0.0/16" },
      { dst: "0.0.0.0/0", gw: "192.0.2.1" },
    ]);
    expect(strippedFamilies(defaultRoutes, 0)).toEqual([4]);
  });
  test("a default route for packets of one source is not the pod's", () => {
    const { defaultRoutes } = plan([{ name: "a", "default-route": ["192.0.2.1"] }]);
    const bySource = { ...both, routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1", table: 100 }] };
    expect(editDefaultRoutes(defaultRoutes, 0, bySource).result).toEqual(bySource);
    const inMain = { ...both, routes: [{ dst: "0.0.0.0/0", gw: "10.0.0.1", table: 254 }] };
    expect(editDefaultRoutes(defaultRoutes, 0, inMain).remove).toHaveLength(1);
  });
  test("the default network of another provider loses its own too", () => {
    const { defaultRoutes } = plan([{ name: "a", "default-route": ["192.0.2.1"] }]);
    expect(editDefaultRoutes(defaultRoutes, -1, both).remove).toHaveLength(1);
  });
  test("an empty list keeps the network's own and takes everybody else's", () => {
    const { defaultRoutes } = plan([{ name: "a", "default-route": [] }, { name: "b" }]);
    expect(defaultRoutes).toEqual({ 4: { owner: 1 }, 6: { owner: 1 } });
    expect(editDefaultRoutes(defaultRoutes, 0, both).remove).toHaveLength(2);
    expect(editDefaultRoutes(defaultRoutes, 2, both).remove).toHaveLength(2);
    expect(editDefaultRoutes(defaultRoutes, 1, both)).toEqual({ remove: [], add: [], result: both });
  });
  test("two networks may share it by family", () => {
    const got = plan([
      { name: "a", "default-route": ["192.0.2.1"] },
      { name: "b", "default-route": ["fd00::9"] },
    ]);
    expect(got.defaultRoutes).toEqual({ 4: { owner: 1, gateway: "192.0.2.1" }, 6: { owner: 2, gateway: "fd00::9" } });
  });
  test.each<[string, Json[]]>([
    [
      "the same family",
      [
        { name: "a", "default-route": ["192.0.2.1"] },
        { name: "b", "default-route": ["192.0.2.2"] },
      ],
    ],
    [
      "one with an empty list",
      [
        { name: "a", "default-route": [] },
        { name: "b", "default-route": ["192.0.2.2"] },
      ],
    ],
  ])("refuses two networks that ask for %s", (_, annotation) => {
    const [code, message] = refusal(() => plan(annotation));
    expect(code).toBe(7);
    expect(message).toContain('expected one network with the IPv4 default route, found "team/a" and "team/b"');
  });
});

test("explainPlan() is a document", () => {
  const text = JSON.stringify(explainPlan(plan([{ name: "a", "default-route": ["192.0.2.1"] }])));
  expect(JSON.parse(text)).toMatchObject({
    pod: { namespace: "team", name: "web-0", uid: "u-1" },
    attachments: [
      { network: "cbr0", interface: "eth0", default: true },
      { network: "team/a", interface: "net1" },
    ],
    defaultRoutes: { IPv4: { network: "team/a", gateway: "192.0.2.1" } },
  });
});

test("podOf() needs name and namespace", () => {
  expect(podOf(parseCniArgs("K8S_POD_NAME=a"))).toBeUndefined();
  expect(podOf(new Map())).toBeUndefined();
  expect(() => podOf(parseCniArgs("K8S_POD_NAME=../a;K8S_POD_NAMESPACE=b"))).toThrow("a pod name");
});

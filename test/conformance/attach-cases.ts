/**
 * The rules that only a whole ADD or DEL can show, as data. Whoever runs them provides a plugin that records its calls:
 * any `type` beginning with `rec`. It answers ADD with `result` of its configuration (else with one interface of the
 * call's name in the sandbox), and fails a command that its configuration names in `fail`, with code 200.
 *
 * A call is written `COMMAND network interface`, with the plugin's type behind it where a list has several.
 */
import type { JsonObject } from "../../core/base/json.ts";

export interface AttachCase {
  readonly rule: number;
  readonly title: string;
  /** NADs in namespace `default`, by name. */
  readonly networks?: Readonly<Record<string, JsonObject>>;
  /** The inline default network; `cbr0` of type `rec` unless told. */
  readonly defaultNetwork?: JsonObject;
  /** Further keys of the meta-plugin's configuration. */
  readonly conf?: JsonObject;
  /** The annotation; absent selects nothing. The pod is `default/web-0`, its interface `eth0`. */
  readonly annotation?: string;
  /** What the runtime does, in order; `["ADD"]` unless told. `remove-nads` empties the directory of networks. */
  readonly steps?: readonly ("ADD" | "DEL" | "CHECK" | "remove-nads")[];
  /** The calls that plugins saw, in order. */
  readonly calls?: readonly string[];
  /** How the last step ends; success unless told. */
  readonly fails?: { readonly code: number; readonly message: string };
  /** What the last ADD returned, as far as it is fixed by the rule. */
  readonly result?: JsonObject;
  /** Name, interface and default of each entry of the status, after the last step. */
  readonly status?: ReadonlyArray<readonly [name: string, ifname: string, isDefault: boolean]>;
  /** Members of the configuration or environment that a call must have had, by the call. */
  readonly seen?: Readonly<Record<string, JsonObject>>;
}

const rec = { cniVersion: "1.0.0", type: "rec" };

export const attachCases: readonly AttachCase[] = [
  {
    rule: 9,
    title: "without the annotation a pod gets the default network alone",
    calls: ["ADD cbr0 eth0"],
    status: [["cbr0", "eth0", true]],
  },
  {
    rule: 15,
    title: "a request that no plugin declares fails before anything is attached",
    networks: { a: rec },
    annotation: '[{"name":"a","ips":["10.0.0.1/24"]}]',
    calls: [],
    fails: { code: 103, message: 'the requested "ips"' },
  },
  {
    rule: 20,
    title: "interface already used fails the attachment, and the pod is as before",
    networks: { a: rec },
    annotation: "a@x0,a@x0",
    calls: [],
    fails: { code: 102, message: '"x0"' },
  },
  {
    rule: 26,
    title: "the same network twice is attached, and removed, twice",
    networks: { a: rec },
    annotation: "a,a",
    steps: ["ADD", "DEL"],
    calls: ["ADD cbr0 eth0", "ADD a net1", "ADD a net2", "DEL a net2", "DEL a net1", "DEL cbr0 eth0"],
  },
  {
    rule: 27,
    title: "CHECK has the arguments of ADD",
    networks: { a: { ...rec, capabilities: { ips: true } } },
    annotation: '[{"name":"a","ips":["10.0.0.9/24"]}]',
    steps: ["ADD", "CHECK"],
    calls: ["ADD cbr0 eth0", "ADD a net1", "CHECK cbr0 eth0", "CHECK a net1"],
    seen: { "CHECK a net1": { CNI_ARGS: { IgnoreUnknown: "true", IP: "10.0.0.9/24" } } },
  },
  {
    rule: 28,
    title: "the default network is attached first, and its result is returned alone",
    networks: { a: rec },
    annotation: "a",
    calls: ["ADD cbr0 eth0", "ADD a net1"],
    result: { interfaces: [{ name: "eth0" }] },
  },
  {
    rule: 31,
    title: "the runtime's values reach the default network alone",
    networks: { a: { ...rec, capabilities: { portMappings: true } } },
    defaultNetwork: { ...rec, name: "cbr0", capabilities: { portMappings: true } },
    conf: { runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] } },
    annotation: "a",
    seen: {
      "ADD cbr0 eth0": { runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] } },
      "ADD a net1": { runtimeConfig: null },
    },
  },
  {
    rule: 33,
    title: "a chain runs in order, each plugin with the list's name and version and the result so far",
    networks: { a: { cniVersion: "1.0.0", name: "chain", plugins: [{ type: "rec-1" }, { type: "rec-2" }] } },
    annotation: "a",
    steps: ["ADD", "DEL"],
    calls: [
      "ADD cbr0 eth0",
      "ADD chain net1 rec-1",
      "ADD chain net1 rec-2",
      "DEL chain net1 rec-2",
      "DEL chain net1 rec-1",
      "DEL cbr0 eth0",
    ],
    seen: {
      "ADD chain net1 rec-2": { cniVersion: "1.0.0", name: "chain", prevResult: { interfaces: [{ name: "net1" }] } },
    },
  },
  {
    rule: 34,
    title: "a failing network fails the pod: what was attached is undone, the rest not attempted",
    networks: { a: rec, b: { ...rec, fail: ["ADD"] }, c: rec },
    annotation: "a,b,c",
    calls: ["ADD cbr0 eth0", "ADD a net1", "ADD b net2", "DEL b net2", "DEL a net1", "DEL cbr0 eth0"],
    fails: { code: 200, message: "default/b" },
    status: [],
  },
  {
    rule: 34,
    title: "the first failure is the one that the runtime hears, even if the undo fails too",
    networks: { a: { ...rec, fail: ["DEL"] }, b: { ...rec, fail: ["ADD"] } },
    annotation: "a,b",
    calls: ["ADD cbr0 eth0", "ADD a net1", "ADD b net2", "DEL b net2", "DEL a net1", "DEL cbr0 eth0"],
    fails: { code: 200, message: "default/b" },
  },
  {
    rule: 35,
    title: "all attachments are torn down though one fails, and DEL fails at the end",
    networks: { a: rec, b: { ...rec, fail: ["DEL"] } },
    annotation: "a,b",
    steps: ["ADD", "DEL"],
    calls: ["ADD cbr0 eth0", "ADD a net1", "ADD b net2", "DEL b net2", "DEL a net1", "DEL cbr0 eth0"],
    fails: { code: 200, message: "default/b" },
  },
  {
    rule: 37,
    title: "a network of a namespace that is not shared fails the pod, and nothing is attached",
    conf: { namespaceIsolation: true },
    annotation: "infra/a",
    calls: [],
    fails: { code: 101, message: "namespace isolation is on" },
  },
  {
    rule: 38,
    title: "DEL needs no NAD",
    networks: { a: rec },
    annotation: "a",
    steps: ["ADD", "remove-nads", "DEL", "DEL"],
    calls: ["ADD cbr0 eth0", "ADD a net1", "DEL a net1", "DEL cbr0 eth0"],
    status: [],
  },
  {
    rule: 41,
    title: "each attachment has a status entry, the default network's alone is the default",
    networks: { a: rec, b: rec },
    annotation: "a,b@data0",
    status: [
      ["cbr0", "eth0", true],
      ["default/a", "net1", false],
      ["default/b", "data0", false],
    ],
  },
  {
    rule: 53,
    title: "delegates get the pod's arguments, and MAC and IP as asked",
    networks: { a: { ...rec, capabilities: { ips: true, mac: true } } },
    annotation: '[{"name":"a","ips":["10.0.0.1/24"],"mac":"02:00:00:00:00:01"}]',
    seen: {
      "ADD a net1": {
        CNI_ARGS: {
          IgnoreUnknown: "true",
          K8S_POD_NAMESPACE: "default",
          K8S_POD_NAME: "web-0",
          MAC: "02:00:00:00:00:01",
          IP: "10.0.0.1/24",
        },
      },
    },
  },
];

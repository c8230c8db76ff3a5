/** The rules that only a whole ADD or DEL can show, on the real kernel; `rules.test.ts` has the others. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { CniAnswer, Document } from "../support/cni.ts";
import { TestNetns } from "../support/netns.ts";
import { TestNode, until } from "../support/node.ts";
import { built, requires, root } from "../support/requires.ts";
import type { SpyCall } from "../support/spy-plugin.ts";
import { type AttachCase, attachCases } from "./attach-cases.ts";

const args = "IgnoreUnknown=true;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=u-1";

requires(...root, built)("multi-network rules, whole", () => {
  let node: TestNode;
  let pod: TestNetns;

  beforeEach(async () => {
    node = await TestNode.create();
    pod = TestNetns.create("pod");
  });
  afterEach(() => {
    pod[Symbol.dispose]();
    node[Symbol.dispose]();
  });

  /** A recording plugin: the spy, whose options are the configuration's own keys. */
  function recorder(type: string): void {
    const spy = join(import.meta.dir, "../support/spy-plugin.ts");
    node.script(type, `SPY_LOG=${node.log} exec ${process.execPath} ${spy}`);
  }

  const typesOf = (conf: Document): string[] =>
    Array.isArray(conf.plugins) ? conf.plugins.map((plugin) => String(plugin.type)) : [String(conf.type)];

  /** `COMMAND network interface`, with the type behind it where the network's list has several. */
  function nameOf(call: SpyCall, lists: ReadonlySet<string>): string {
    return `${call.command} ${call.network} ${call.ifname}${lists.has(call.network) ? ` ${call.type}` : ""}`;
  }

  function play(given: AttachCase): CniAnswer {
    const networks = given.networks ?? {};
    const fallback = given.defaultNetwork ?? { cniVersion: "1.0.0", name: "cbr0", type: "rec" };
    for (const type of new Set([fallback, ...Object.values(networks)].flatMap(typesOf))) recorder(type);
    for (const [name, config] of Object.entries(networks)) node.network(name, config);
    const { runtimeConfig, ...more } = given.conf ?? {};
    const base = node.conf(fallback, given.annotation);
    const conf: Document = {
      ...base,
      cniVersion: "1.0.0",
      ...more,
      runtimeConfig: { ...(base.runtimeConfig as Document), ...(runtimeConfig as Document | undefined) },
    };
    let last: CniAnswer | undefined;
    for (const step of given.steps ?? (["ADD"] as const)) {
      if (step === "remove-nads") for (const file of readdirSync(node.networks)) rmSync(join(node.networks, file));
      else last = node.answer(step, { pod, conf, args });
    }
    if (last === undefined) throw new Error("a case without a call");
    return last;
  }

  test.each(attachCases.map((given) => [given.rule, given.title, given] as const))("rule %d: %s", (_, __, given) => {
    const last = play(given);
    if (given.fails === undefined) expect(last.error?.msg ?? last.exit).toBe(0);
    else {
      const { code, message } = given.fails;
      expect(last.error).toMatchObject({ code, msg: expect.stringContaining(message) });
    }
    const lists = new Set(
      Object.entries(given.networks ?? {}).flatMap(([name, conf]) =>
        typesOf(conf).length > 1 ? [String(conf.name ?? name)] : [],
      ),
    );
    const calls = node.calls();
    if (given.calls !== undefined) expect(calls.map((call) => nameOf(call, lists))).toEqual([...given.calls]);
    for (const [name, members] of Object.entries(given.seen ?? {})) {
      const call = calls.find((c) => nameOf(c, lists) === name);
      const { CNI_ARGS, ...conf } = members;
      for (const [key, value] of Object.entries(conf)) {
        if (value === null) expect(call?.conf[key]).toBeUndefined();
        else expect(call?.conf).toMatchObject({ [key]: value });
      }
      if (CNI_ARGS === undefined) continue;
      const seen = Object.fromEntries((call?.args ?? "").split(";").map((pair) => pair.split("=")));
      expect(seen).toMatchObject(CNI_ARGS as object);
    }
    if (given.result !== undefined) expect(last.result).toMatchObject(given.result);
    if (given.status !== undefined) {
      const entries = node
        .status()
        .flatMap((p) => p.status.map((s) => [s.name, s.interface ?? "", s.default === true]));
      expect(entries).toEqual(given.status.map((entry) => [...entry]));
    }
  });

  describe("rule 22: the default route, in the pod", () => {
    const net = (n: number, more: Document = {}): Document => ({
      type: "bridge",
      bridge: `br${n}`,
      ipam: { type: "host-local", ranges: [[{ subnet: `10.7${n}.0.0/24` }], [{ subnet: `fd00:${n}::/64` }]] },
      ...more,
    });
    const withDefault = (n: number): Document => net(n, { isDefaultGateway: true });
    const routes = (family: "-4" | "-6"): string[] =>
      pod.ipJson(family, "route", "show", "default").map((route) => `${route.dev} ${route.gateway}`);

    test.each([
      ["without the key, the default network's", [{ name: "a" }], ["eth0 10.70.0.1"], ["eth0 fd00:0::1"]],
      [
        "a gateway moves its family",
        [{ name: "a", "default-route": ["10.71.0.1"] }],
        ["net1 10.71.0.1"],
        ["eth0 fd00::1"],
      ],
      [
        "a gateway of each family",
        [{ name: "a", "default-route": ["10.71.0.1", "fd00:1::1"] }],
        ["net1 10.71.0.1"],
        ["net1 fd00:1::1"],
      ],
      [
        "an empty list keeps the network's own",
        [{ name: "a" }, { name: "b", "default-route": [] }],
        ["net2 10.72.0.1"],
        ["net2 fd00:2::1"],
      ],
    ] as const)("%s", (_, annotation, v4, v6) => {
      node.network("a", { name: "a", plugins: [net(1)] });
      node.network("b", { name: "b", plugins: [withDefault(2)] });
      const conf = node.conf({ plugins: [withDefault(0)] }, annotation);
      const { result } = node.ok("ADD", { pod, conf });
      expect(routes("-4")).toEqual([...v4]);
      expect(routes("-6")).toEqual(v6.map((route) => route.replace("fd00:0::1", "fd00::1")));
      // What the runtime hears is what the pod has on its interface.
      const ours = [...v4, ...v6].filter((route) => route.startsWith("eth0")).length;
      expect(result?.routes?.filter((r) => /^(0\.0\.0\.0|::)\/0$/.test(r.dst ?? "")) ?? []).toHaveLength(ours);
      node.ok("CHECK", { pod, conf });
      node.ok("DEL", { pod, conf });
    });

    test("a gateway that the network cannot reach fails the pod, and all is undone", () => {
      node.network("a", { name: "a", plugins: [net(1)] });
      const conf = node.conf({ plugins: [withDefault(0)] }, [{ name: "a", "default-route": ["192.0.2.77"] }]);
      const { error } = node.answer("ADD", { pod, conf });
      expect(error?.msg).toContain('"192.0.2.77" on "net1"');
      expect(pod.ipJson("link", "show")).toHaveLength(1);
    });
  });

  test("rule 36: one attachment after the other", async () => {
    recorder("rec");
    node.network("a", { type: "rec", sleepMs: 400 });
    node.network("b", { type: "rec" });
    const conf = node.conf({ type: "rec" }, "a,b");
    const add = node.start("ADD", { pod, conf });
    await until(() => node.calls().length === 2);
    await Bun.sleep(200);
    expect(node.calls().map((call) => call.network)).toEqual(["default", "a"]); // b waits for a
    await add.answer;
    expect(node.calls()).toHaveLength(3);
  });

  test("rule 38: DEL asks nobody: no network, no pod, no namespace", () => {
    recorder("rec");
    node.network("a", { type: "rec" });
    node.ok("ADD", { pod, conf: node.conf({ type: "rec" }, "a") });
    for (const file of readdirSync(node.networks)) rmSync(join(node.networks, file));
    pod[Symbol.dispose]();
    node.ok("DEL", { pod: "", conf: { name: "node", type: "patchbay" } });
    expect(
      node
        .calls()
        .map((c) => `${c.command} ${c.network}`)
        .slice(2),
    ).toEqual(["DEL a", "DEL default"]);
  });

  test("rule 44: several interfaces in the pod: an entry each, the default's where the gateway is", () => {
    recorder("rec");
    const result = {
      interfaces: [
        { name: "eth0", sandbox: pod.path },
        { name: "eth0.1", sandbox: pod.path },
      ],
      ips: [
        { address: "10.9.0.2/24", interface: 0 },
        { address: "10.9.1.2/24", gateway: "10.9.1.1", interface: 1 },
        { address: "10.9.2.2/24" },
      ],
    };
    node.ok("ADD", { pod, conf: node.conf({ type: "rec", result }) });
    expect(node.status()[0]?.status).toMatchObject([
      { name: "default", interface: "eth0", ips: ["10.9.0.2"] },
      { name: "default", interface: "eth0.1", ips: ["10.9.1.2", "10.9.2.2"], default: true },
    ]);
  });

  test("rule 54: delegates are looked for in the runtime's directories, and hear of them", () => {
    recorder("rec");
    node.ok("ADD", { pod, conf: node.conf({ type: "rec" }), env: { CNI_PATH: `/nowhere:${node.bin}` } });
    expect(node.calls()).toHaveLength(1);
  });
});

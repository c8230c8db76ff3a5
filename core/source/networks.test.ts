import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { CniError } from "../base/error.ts";
import type { JsonObject } from "../base/json.ts";
import { typeOf } from "../cni/list.ts";
import { openNetworks } from "./networks.ts";

let root = "";
beforeEach(() => {
  root = mkdtempSync(`${tmpdir()}/patchbay-source-`);
  for (const dir of ["n", "c", "run"]) mkdirSync(`${root}/${dir}`, { mode: 0o755 });
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

/** Changed ten seconds ago, so that it counts as settled. */
function put(path: string, content: string | JsonObject, ageS = 10): void {
  const full = `${root}/${path}`;
  mkdirSync(full.slice(0, full.lastIndexOf("/")), { recursive: true, mode: 0o755 });
  writeFileSync(full, typeof content === "string" ? content : JSON.stringify(content), { mode: 0o644 });
  utimesSync(full, Date.now() / 1000 - ageS, Date.now() / 1000 - ageS);
}
const open = (runDir?: string) =>
  openNetworks({ networksDir: `${root}/n`, confDir: `${root}/c`, ...(runDir === undefined ? {} : { runDir }) });
const manifest = (name: string, config?: JsonObject, namespace?: string): JsonObject => ({
  apiVersion: "k8s.cni.cncf.io/v1",
  kind: "NetworkAttachmentDefinition",
  metadata: { name, ...(namespace === undefined ? {} : { namespace }) },
  ...(config === undefined ? {} : { spec: { config: JSON.stringify(config) } }),
});
const base = { cniVersion: "1.0.0", name: "pods", systemNamespaces: ["kube-system"] };
const failure = (work: () => unknown): CniError => {
  try {
    work();
  } catch (thrown) {
    if (thrown instanceof CniError) return thrown;
    throw thrown;
  }
  throw new Error("nothing was thrown");
};

describe("nad()", () => {
  test("finds a manifest in JSON, its namespace default where it names none", () => {
    put("n/a.json", manifest("a", { type: "macvlan" }));
    const got = open().nad("default", "a");
    expect([got.label, got.list.name as string, got.list.plugins.map(typeOf)]).toEqual(["default/a", "a", ["macvlan"]]);
  });
  test("finds manifests in YAML, several a file, beside objects of other kinds", () => {
    put(
      "n/all.yaml",
      `apiVersion: v1
kind: Namespace
metadata: {name: infra}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata:
  name: a
  namespace: infra
spec:
  config: |
    {"cniVersion": "0.3.1", "type": "ipvlan"}
---
# nothing
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: b}
spec: {config: '{"name":"bb","plugins":[{"type":"bridge"},{"type":"tuning"}]}'}
`,
    );
    expect(open().nad("infra", "a").list).toMatchObject({ cniVersion: "0.3.1", name: "a" });
    expect(open().nad("default", "b").list.plugins.map(typeOf)).toEqual(["bridge", "tuning"]);
  });
  test("finds manifests in a List, an array, and JSON documents in a row", () => {
    put("n/list.json", { kind: "List", apiVersion: "v1", items: [manifest("a", { type: "x" })] });
    put("n/array.json", JSON.stringify([manifest("b", { type: "x" })]));
    put(
      "n/row.json",
      `${JSON.stringify(manifest("c", { type: "x" }))}\n---\n${JSON.stringify(manifest("d", { type: "x" }))}\n`,
    );
    for (const name of ["a", "b", "c", "d"]) expect(open().nad("default", name).label).toBe(`default/${name}`);
  });
  test("one without a configuration stands for the file with its name: lists first, each sorted", () => {
    put("n/nad.json", manifest("blue"));
    put("n/10.conf", { name: "blue", type: "single" });
    put("n/30.conflist", { name: "blue", plugins: [{ type: "third" }] });
    put("n/20.configlist", { name: "blue", plugins: [{ type: "second" }] });
    expect(open().nad("default", "blue").list.plugins.map(typeOf)).toEqual(["second"]);
    rmSync(`${root}/n/20.configlist`);
    expect(open().nad("default", "blue").list.plugins.map(typeOf)).toEqual(["third"]);
    rmSync(`${root}/n/30.conflist`);
    expect(open().nad("default", "blue").list.plugins.map(typeOf)).toEqual(["single"]);
    rmSync(`${root}/n/10.conf`);
    const thrown = failure(() => open().nad("default", "blue"));
    expect([thrown.code, thrown.message]).toEqual([
      100,
      `Cannot find the configuration of network "default/blue": its NetworkAttachmentDefinition has no spec.config, and no file in "${root}/n" has the name "blue"`,
    ]);
  });
  test("a bad file is passed over and said where nothing is found", () => {
    put("n/a.conf", "{");
    put("n/b.conf", { name: "blue", plugins: [] });
    put("n/c.yaml", "a: [");
    put("n/d.conflist", { name: "blue", type: "x" });
    put("n/e.json", manifest("BAD", { type: "x" }));
    put("n/good.json", manifest("good", { type: "x" }));
    expect(open().nad("default", "good").label).toBe("default/good");
    const { message, code, remedy } = failure(() => open().nad("default", "blue"));
    expect(code).toBe(100);
    expect(message).toContain(
      `Cannot find network "default/blue": there is no NetworkAttachmentDefinition of that name and namespace in "${root}/n" (passed over: a.conf: `,
    );
    expect(message).toContain("b.conf: no 'type'; perhaps this is a .conflist?");
    expect(message).toContain("c.yaml: ");
    expect(message).toContain('d.conflist: it has "type" and no "plugins"; perhaps this is a .conf');
    expect(message).toContain("e.json: Cannot use NetworkAttachmentDefinition in e.json: metadata.name");
    expect(remedy).toContain(`Put its manifest into "${root}/n"`);
  });
  test("a file that others can write to is passed over, and the command that mends it is said", () => {
    put("n/a.json", manifest("a", { type: "x" }));
    chmodSync(`${root}/n/a.json`, 0o666);
    expect(failure(() => open().nad("default", "a")).message).toContain(`Run "chmod go-w ${root}/n/a.json"`);
  });
  test("a link is passed over", () => {
    put("elsewhere.json", manifest("a", { type: "x" }));
    symlinkSync(`${root}/elsewhere.json`, `${root}/n/a.json`);
    expect(failure(() => open().nad("default", "a")).message).toContain("a.json: Cannot use the file");
  });
  test("a directory that others can write to is refused", () => {
    chmodSync(`${root}/n`, 0o777);
    expect(failure(() => open().nad("default", "a")).message).toContain(
      `Cannot trust the directory of networks "${root}/n"`,
    );
  });
  test("an absent directory has no networks", () => {
    rmSync(`${root}/n`, { recursive: true });
    expect(failure(() => open().nad("default", "a")).code).toBe(100);
  });
  test("a network that is ourselves is refused", () => {
    put("n/a.json", manifest("a", { type: "patchbay" }));
    expect(failure(() => open().nad("default", "a")).message).toContain('its plugin "patchbay" is Patchbay itself');
  });
  test("plugin objects beside a file follow its own; those beside nothing never join a NAD", () => {
    put("n/a.conflist", { name: "blue", plugins: [{ type: "one" }] });
    put("n/blue/20.conf", { type: "three" });
    put("n/blue/10.conf", { type: "two" });
    put("n/blue/ignored.json", { type: "four" });
    put("n/nad.json", manifest("blue"));
    put("n/own.json", manifest("own", { name: "blue", plugins: [{ type: "alone" }] }));
    expect(open().nad("default", "blue").list.plugins.map(typeOf)).toEqual(["one", "two", "three"]);
    expect(open().nad("default", "own").list.plugins.map(typeOf)).toEqual(["alone"]);
  });
  test("the first file wins; survey() says so", () => {
    put("n/1.json", manifest("a", { type: "first" }));
    put("n/2.json", manifest("a", { type: "second" }));
    expect(open().nad("default", "a").list.plugins.map(typeOf)).toEqual(["first"]);
    expect(open().survey()).toEqual({
      nads: ["default/a"],
      files: [],
      faults: ['2.json: network "default/a" is in 1.json already, which is the one that counts'],
    });
  });
});

describe("defaultNetwork()", () => {
  const types = (ref: Parameters<ReturnType<typeof open>["defaultNetwork"]>[0]): string[] =>
    open().defaultNetwork(ref, base).list.plugins.map(typeOf);
  test("inline: its own name and version, else ours", () => {
    const got = open().defaultNetwork({ is: "inline", document: { type: "bridge" } }, base);
    expect([got.label, got.list.cniVersion]).toEqual(["pods", "1.0.0"]);
    const own = { cniVersion: "0.3.1", name: "own", plugins: [{ type: "bridge" }] };
    expect(open().defaultNetwork({ is: "inline", document: own }, base).list).toMatchObject({
      cniVersion: "0.3.1",
      name: "own",
    });
  });
  test("by path: a list, a single configuration, a directory", () => {
    put("p/b.conflist", { name: "b", plugins: [{ type: "list" }] });
    put("p/a.conf", { name: "a", type: "single" });
    expect(types({ is: "path", path: `${root}/p/b.conflist` })).toEqual(["list"]);
    expect(types({ is: "path", path: `${root}/p/a.conf` })).toEqual(["single"]);
    expect(types({ is: "path", path: `${root}/p` })).toEqual(["list"]);
    put("p/b.conflist", "{");
    expect(failure(() => types({ is: "path", path: `${root}/p/b.conflist` })).message).toContain("not JSON");
    expect(failure(() => types({ is: "path", path: `${root}/none` })).code).toBe(100);
  });
  test("by name: a NAD of the system, a file of the networks, the runtime's but ours, last a NAD of anybody's", () => {
    put("c/00-patchbay.conflist", { name: "cbr0", plugins: [{ type: "patchbay" }, { type: "portmap" }] });
    put("c/10-cbr0.conflist", { name: "cbr0", plugins: [{ type: "runtime" }] });
    const ref = { is: "name", name: "cbr0" } as const;
    expect(types(ref)).toEqual(["runtime"]);
    put("n/default.json", manifest("cbr0", { type: "nad-default" }));
    expect(types(ref)).toEqual(["runtime"]);
    put("n/cbr0.conf", { name: "cbr0", type: "file" });
    expect(types(ref)).toEqual(["file"]);
    put("n/system.json", manifest("cbr0", { type: "nad-system" }, "kube-system"));
    expect(types(ref)).toEqual(["nad-system"]);
    expect(types({ ...ref, namespace: "default" })).toEqual(["nad-default"]);
    put("n/alone.json", manifest("alone", { type: "nad-default" }));
    const alone = open().defaultNetwork({ is: "name", name: "alone" }, base);
    expect([alone.label, alone.nad?.namespace]).toEqual(["default/alone", "default"]);
    const { message, code } = failure(() => types({ is: "name", name: "none" }));
    expect([code, message]).toEqual([100, `Cannot find the default network "none" in "${root}/n" or "${root}/c"`]);
  });
});

describe("the cache", () => {
  const cacheFile = (): string => readFileSync(`${root}/run/cache/networks.json`, "utf8");
  test("is written once files have settled, and read back", () => {
    chmodSync(`${root}/run`, 0o700);
    put(
      "n/a.yaml",
      'kind: NetworkAttachmentDefinition\napiVersion: k8s.cni.cncf.io/v1\nmetadata: {name: a}\nspec: {config: \'{"type":"x"}\'}\n',
    );
    expect(open(`${root}/run`).nad("default", "a").label).toBe("default/a");
    // Its change time is now: only the clock can settle it, so nothing was kept.
    expect(() => cacheFile()).toThrow();
    Bun.sleepSync(2100);
    open(`${root}/run`).nad("default", "a");
    const cached = JSON.parse(cacheFile());
    expect(Object.keys(cached.files)).toEqual([`${root}/n/a.yaml`]);
    // What it says is believed while the file is the same…
    cached.files[`${root}/n/a.yaml`].content.nads[0].name = "b";
    writeFileSync(`${root}/run/cache/networks.json`, JSON.stringify(cached));
    expect(open(`${root}/run`).nad("default", "b").label).toBe("default/b");
    // …and not once it changed.
    put(
      "n/a.yaml",
      'kind: NetworkAttachmentDefinition\napiVersion: k8s.cni.cncf.io/v1\nmetadata: {name: c}\nspec: {config: \'{"type":"x"}\'}\n',
    );
    expect(open(`${root}/run`).nad("default", "c").label).toBe("default/c");
  });
  test.each(["", "{", "[]", '{"format":2,"files":{}}', '{"format":1,"files":{"x":1}}'])(
    "is passed over when it holds %p",
    (content) => {
      put("run/cache/networks.json", content);
      put("n/a.json", manifest("a", { type: "x" }));
      expect(open(`${root}/run`).nad("default", "a").label).toBe("default/a");
    },
  );
});

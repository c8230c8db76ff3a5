/**
 * guests.ts [DIRECTORY NAME...] — compiles the built-in plugins into build/guests: AssemblyScript to NAME.wasm, that to
 * native code for the oldest CPU in NAME.cwasm, and the manifest beside them. What has not changed is left alone. Beside
 * the directory, embedded.json tells the binary the length and hash of all it carries. Another directory, and only some
 * plugins, are for tests.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { sha256 } from "../core/base/hash.ts";
import { Engine } from "../core/engine/engine.ts";
import { checkModule, type HostNames } from "../core/engine/inspect.ts";
import { pluginNames, root } from "./plugins.ts";

const [directory = join(root, "build/guests"), ...only] = process.argv.slice(2);
const out = resolve(directory);
const native = {
  path: join(root, "build/native/libwasmtime.so"),
  libgccPath: join(root, "build/native/libgcc_s.so.1"),
};
const flags: readonly string[] = JSON.parse(readFileSync(join(root, "plugins-wasm/asc.flags.json"), "utf8"));
const asc = join(root, "node_modules/assemblyscript/bin/asc.js");
const hostModule = "patchbay_1";
const atOnce = 2;

/** Path and content of every file below a folder, in one fixed order. */
function contents(folder: string): string {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .sort()
    .map((name) => `${name}\0${sha256(readFileSync(join(folder, name)))}\n`)
    .join("");
}

/** Every plugin's code depends on the SDK, the flags and the compiler. */
const common = sha256(
  [
    contents(join(root, "plugins-wasm/sdk/assemblyscript/assembly")),
    ...flags,
    readFileSync(join(root, "node_modules/assemblyscript/package.json")),
  ].join("\0"),
);

/** Replaces a file at once, and not at all when it is the same already. */
function place(path: string, content: string | Uint8Array): void {
  if (existsSync(path) && sha256(readFileSync(path)) === sha256(content)) return;
  writeFileSync(`${path}.new`, content);
  renameSync(`${path}.new`, path);
}

async function compileWasm(name: string): Promise<boolean> {
  const source = join(root, "plugins-wasm", name, "assembly");
  const key = sha256(`${common}\0${contents(source)}`);
  const keyFile = join(out, `${name}.key`);
  const wasm = join(out, `${name}.wasm`);
  if (existsSync(wasm) && existsSync(keyFile) && readFileSync(keyFile, "utf8") === key) return false;
  const entry = `plugins-wasm/${name}/assembly/index.ts`;
  const child = Bun.spawn([process.execPath, asc, entry, ...flags, "--outFile", `${wasm}.new`], {
    cwd: root,
    stdout: "pipe",
    stderr: "pipe",
  });
  const [said, complained] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  if ((await child.exited) !== 0) throw new Error(`${entry} does not compile:\n${said}${complained}`);
  renameSync(`${wasm}.new`, wasm);
  writeFileSync(keyFile, key);
  return true;
}

/** Any import of ours has one shape; which names exist is the call table's to say. */
const anyCall: HostNames = new Proxy(new Map(), {
  get: (map, key) => (key === "get" ? () => ({ params: ["i32", "i32"], results: ["i32"] }) : Reflect.get(map, key)),
});

function compileNative(engine: () => Engine, name: string): void {
  const wasm = readFileSync(join(out, `${name}.wasm`));
  const path = join(out, `${name}.cwasm`);
  const keyFile = join(out, `${name}.cwasm.key`);
  const key = `${engine().fingerprint} ${sha256(wasm)} ${sha256(readFileSync(native.path))}`;
  if (existsSync(path) && existsSync(keyFile) && readFileSync(keyFile, "utf8") === key) return;
  checkModule(wasm, hostModule, anyCall);
  place(path, engine().compile(wasm));
  writeFileSync(keyFile, key);
}

async function main(): Promise<void> {
  mkdirSync(out, { recursive: true });
  const names = pluginNames().filter((name) => only.length === 0 || only.includes(name));
  const waiting = [...names];
  const made: string[] = [];
  const worker = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      if (await compileWasm(name)) made.push(name);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
  if (made.length > 0) console.error(`guests: ${made.sort().join(" ")}`);
  for (const file of readdirSync(out)) if (!names.includes(file.split(".")[0] ?? "")) rmSync(join(out, file));

  using engine = Engine.forCompiling(native);
  const plugins: Record<string, { sha256: string }> = {};
  for (const name of names) {
    compileNative(() => engine, name);
    const manifest = JSON.parse(readFileSync(join(root, "plugins-wasm", name, "plugin.json"), "utf8"));
    place(join(out, `${name}.manifest`), JSON.stringify(manifest));
    plugins[name] = { sha256: sha256(readFileSync(join(out, `${name}.wasm`))) };
  }
  const describe = (path: string) => {
    const bytes = readFileSync(path);
    return { sha256: sha256(bytes), bytes: bytes.length };
  };
  const embedded = { libwasmtime: describe(native.path), libgcc: describe(native.libgccPath), plugins };
  place(join(out, "../embedded.json"), `${JSON.stringify(embedded, null, 2)}\n`);
}

main().catch((thrown) => {
  console.error(thrown instanceof Error ? thrown.message : thrown);
  process.exit(1);
});

/** A root with the C library, /proc and our binary in it is enough: no libgcc_s, no shell, no /etc, no /tmp. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, readdirSync, statSync, symlinkSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { TestNetns } from "../support/netns.ts";
import { built, distBinary, root as isRoot, requires } from "../support/requires.ts";
import { root, run, Scratch } from "./program.ts";

const scratch = new Scratch();
afterAll(() => scratch[Symbol.dispose]());

/** Runs the built-in loopback guest in the engine, from the library that the program carries, and says what came of it. */
const guestProgram = `
  import { readFileSync, writeSync } from "node:fs";
  import libgcc from "${root}/build/native/libgcc_s.so.1" with { type: "file" };
  import libwasmtime from "${root}/build/native/libwasmtime.so" with { type: "file" };
  import loopback from "${root}/build/guests/loopback.cwasm" with { type: "file" };
  import built from "${root}/build/embedded.json" with { type: "json" };
  import { Engine } from "${root}/core/engine/engine.ts";
  import { findLibrary } from "${root}/core/engine/library.ts";
  const library = findLibrary({
    inBinary: true, libwasmtime: { path: libwasmtime, ...built.libwasmtime }, libgcc: { path: libgcc, ...built.libgcc } });
  const engine = Engine.open(library);
  library[Symbol.dispose]();
  const module = engine.load(readFileSync(loopback));
  const calls = module.imports.map((key) => key.split("\\0")).filter(([from]) => from === "patchbay_1");
  const refusal = new TextEncoder().encode('{"code":122,"msg":"Cannot do anything here"}');
  const outcome = engine.run({
    module, argv0: "loopback", env: { CNI_COMMAND: "ADD", CNI_IFNAME: "lo" },
    stdin: new TextEncoder().encode('{"cniVersion":"1.1.0","name":"lo","type":"loopback"}'),
    functions: calls.map(([from, name]) => ({ module: from, name, params: ["i32", "i32"], results: ["i32"],
      run: (memory, [at, length]) => {
        if (name !== "answer_read") return -refusal.length;
        memory.write(at, refusal.subarray(0, length));
        return Math.min(length, refusal.length);
      } })),
    limits: { memoryBytes: 16 << 20, cpuMs: 1000, wallMs: 10000, stdoutBytes: 65536, stderrBytes: 65536 } });
  writeSync(1, JSON.stringify({ source: library.source, exit: outcome.exit, fault: outcome.fault, said: new TextDecoder().decode(outcome.stdout) }));
  process.exit(0);
`;

let guestAt: string;
beforeAll(() => {
  scratch.write({ "guest.ts": guestProgram });
  guestAt = scratch.compile("guest.ts");
});

/** What the dynamic loader takes for a file, without libgcc_s, which we carry. */
function libraries(file: string): string[] {
  const { stdout } = run([Bun.which("ldd") ?? "ldd", file], { env: { PATH: process.env.PATH ?? "" } });
  return [...stdout.matchAll(/(\/\S+) \(0x/g)]
    .map(([, path]) => path ?? "")
    .filter((path) => !path.includes("libgcc_s"));
}

requires(...isRoot)("in a root with nothing but the C library", () => {
  let place: string;
  beforeAll(() => {
    place = join(scratch.path, "root");
    mkdirSync(join(place, "proc"), { recursive: true });
    mkdirSync(join(place, "opt"));
    copyFileSync(guestAt, join(place, "opt/guest"));
    if (existsSync(distBinary)) copyFileSync(distBinary, join(place, "opt/patchbay"));
    symlinkSync("patchbay", join(place, "opt/loopback"));
    for (const library of [
      ...libraries(join(place, "opt/guest")),
      ...libraries(join(root, "build/native/libwasmtime.so")),
    ]) {
      mkdirSync(join(place, dirname(library)), { recursive: true });
      copyFileSync(library, join(place, library));
      chmodSync(join(place, library), 0o755);
    }
  });

  /** Runs `program` in the place, in a mount namespace where `mounts` were made first; $1 is the place. */
  function inPlace(program: string, o: { mounts?: string; env?: Record<string, string>; stdin?: string } = {}) {
    const script = `set -e; mount -t proc proc "$1/proc"; ${o.mounts ?? ":"}; exec chroot "$1" "$2"`;
    const argv = ["unshare", "-m", "sh", "-c", script, "sh", place, program];
    const ended = Bun.spawnSync(argv, {
      env: { PATH: process.env.PATH ?? "", ...o.env },
      stdin: new TextEncoder().encode(o.stdin ?? ""),
    });
    return { exit: ended.exitCode, stdout: ended.stdout.toString(), stderr: ended.stderr.toString() };
  }
  const guest = (mounts?: string) => {
    const { stdout, stderr } = inPlace("/opt/guest", mounts === undefined ? {} : { mounts });
    expect(stderr).toBe("");
    return JSON.parse(stdout) as { source: string; exit: number; said: string };
  };
  const cache = (): string => join(place, "var/lib/patchbay/cache");

  test("a read-only root: the library is held in memory", () => {
    const readOnly = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; mount -t proc proc "$1/proc"';
    expect(guest(readOnly)).toMatchObject({
      source: "memory",
      exit: 1,
      said: expect.stringContaining("Cannot do anything here"),
    });
    expect(existsSync(cache())).toBe(false);
  });

  test("a cache that code cannot run from: the library is held in memory", () => {
    const noExec = 'mkdir -p "$1/var/lib/patchbay"; mount -t tmpfs -o noexec none "$1/var/lib/patchbay"';
    expect(guest(noExec).source).toBe("memory");
  });

  test("a writable root: the library is copied once and then used", () => {
    expect(guest()).toMatchObject({ source: "cache", exit: 1 });
    const made = readdirSync(cache());
    expect(made.map((name) => name.split("-")[0]).sort()).toEqual(["libgcc_s", "libwasmtime"]);
    const [inode] = made.map((name) => statSync(join(cache(), name)).ino);
    expect(guest().source).toBe("cache");
    expect(made.map((name) => statSync(join(cache(), name)).ino)[0]).toBe(inode ?? 0);
  });

  requires(...built)("dist/patchbay", () => {
    test("VERSION needs no library", () => {
      const { exit, stdout, stderr } = inPlace("/opt/patchbay", { env: { CNI_COMMAND: "VERSION" } });
      expect({ exit, stderr }).toEqual({ exit: 0, stderr: "" });
      expect(JSON.parse(stdout).supportedVersions).toContain("1.1.0");
    });

    test("ADD by a built-in guest", () => {
      using pod = TestNetns.create("chroot");
      const netns = join(place, "run/netns", basename(pod.path));
      const mounts = `mkdir -p "$1/run/netns"; touch "$1/run/netns/${basename(pod.path)}"; mount --bind ${pod.path} "${netns}"`;
      const env = {
        CNI_COMMAND: "ADD",
        CNI_CONTAINERID: "chroot",
        CNI_NETNS: `/run/netns/${basename(pod.path)}`,
        CNI_IFNAME: "lo",
        CNI_PATH: "/opt",
      };
      const stdin = '{"cniVersion":"1.0.0","name":"lo","type":"loopback"}';
      const { exit, stdout, stderr } = inPlace("/opt/loopback", { mounts, env, stdin });
      expect({ exit, stdout, stderr }).toMatchObject({ exit: 0, stdout: expect.stringContaining('"interfaces"') });
    });
  });

  test("there is no libgcc_s in it", () => {
    const names = readdirSync(place, { recursive: true, encoding: "utf8" }).filter((name) => /libgcc_s\.so/.test(name));
    expect(names).toEqual([]);
  });
});

requires(...isRoot)("as an ordinary user", () => {
  test.each([
    ["", []],
    [", root in a user namespace", ["unshare", "--user", "--map-root-user"]],
  ])("the library is kept below the user's own cache directory%s", (_, under) => {
    using home = new Scratch();
    chownSync(home.path, 65_534, 65_534);
    const program = join(home.path, "guest");
    copyFileSync(guestAt, program);
    const env = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", XDG_CACHE_HOME: join(home.path, "cache") };
    const argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ...under, program];
    const ended = run([Bun.which(argv[0] ?? "") ?? "", ...argv.slice(1)], { env });
    expect(ended.stderr).toBe("");
    expect(JSON.parse(ended.stdout)).toMatchObject({ source: "cache", exit: 1 });
    expect(readdirSync(join(home.path, "cache/patchbay/lib"))).toHaveLength(2);
  });
});

/** `npm run quickstart` works to its end, and says so in plain text where the terminal has no more. */
import { expect, test } from "bun:test";
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { hasPeer } from "../support/peers.ts";
import { has, requires, root } from "../support/requires.ts";

const asRoot = process.getuid?.() === 0;
const rights = asRoot ? ["--net", "--mount"] : ["--user", "--map-root-user", "--net", "--mount"];
const allowed = Bun.spawnSync(["unshare", ...rights, "sh", "-c", "mount -t tmpfs none /run"]).exitCode === 0;

requires(
  "namespaces of its own",
  allowed,
  hasPeer("debian-cni"),
)("scripts/quickstart.sh", () => {
  test("ends with nothing left", () => {
    const ended = Bun.spawnSync(["bash", new URL("../../scripts/quickstart.sh", import.meta.url).pathname], {
      env: { ...process.env, LANG: "C", LC_ALL: "C" },
      stdout: "pipe",
      stderr: "pipe",
    });
    expect([ended.exitCode, ended.stderr.toString()]).toEqual([0, ""]);
    const text = ended.stdout.toString();
    expect(text).toMatch(/^[\n\x20-\x7e]+$/);
    for (const ifname of ["eth0", "net1", "net2"]) expect(text).toMatch(new RegExp(`ok ping from web by ${ifname} `));
    expect(text).toMatch(/net1 +macvlan +10\.20\.0\.7\/24 +02:00:00:00:00:07 +default\/storage/);
    expect(text).toMatch(/ok links, addresses, routes, .*leases, files: as before/);
  }, 180_000);
});

requires(...root, ["setpriv", has("setpriv")])("scripts/quickstart.sh, for a user without rights", () => {
  test("says in one sentence what to do", () => {
    const place = mkdtempSync(join(tmpdir(), "patchbay-quickstart-"));
    using stack = new DisposableStack();
    stack.defer(() => rmSync(place, { recursive: true, force: true }));
    cpSync(join(import.meta.dir, "../../scripts"), join(place, "scripts"), { recursive: true });
    for (const directory of ["bin", "home"]) mkdirSync(join(place, directory));
    // What a system says that gives a user namespace no rights.
    writeFileSync(join(place, "bin/unshare"), "#!/bin/sh\necho 'write failed /proc/self/uid_map' >&2\nexit 1\n");
    for (const path of ["", "bin/unshare"]) chmodSync(join(place, path), 0o755);
    chmodSync(join(place, "home"), 0o777);
    const ended = Bun.spawnSync(
      ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "bash", join(place, "scripts/quickstart.sh")],
      { env: { PATH: `${place}/bin:${process.env.PATH}`, HOME: `${place}/home` }, stdout: "pipe", stderr: "pipe" },
    );
    expect(ended.exitCode).toBe(1);
    expect(ended.stderr.toString()).toMatch(/^ {2}!! [^\n]* run "sudo [^\n]*\.\n$/);
  });
});

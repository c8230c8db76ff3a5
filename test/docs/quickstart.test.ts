/** `npm run quickstart` works to its end, and says so in plain text where the terminal has no more. */
import { expect, test } from "bun:test";
import { hasPeer } from "../support/peers.ts";
import { requires } from "../support/requires.ts";

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

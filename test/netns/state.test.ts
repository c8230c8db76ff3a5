/** What `core/state` and `core/ipam` do on a full disk, with files that cannot be removed, and after SIGKILL. */
import { expect, test } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { CniError } from "../../core/base/error.ts";
import { hostLocal } from "../../core/ipam/host-local.ts";
import type { IpamRequest } from "../../core/ipam/ipam.ts";
import { container, header, options, Scratch } from "../../core/state/support.ts";
import { requires, root } from "../support/requires.ts";

const STATE = new URL("../../core/state", import.meta.url).pathname;
const GENERATION = "run/0123abcd-4";

function run(...argv: string[]): void {
  const ended = Bun.spawnSync(argv, { stderr: "pipe" });
  if (ended.exitCode !== 0) throw new Error(`${argv.join(" ")}: ${ended.stderr.toString()}`);
}

/** A small tmpfs at `path`, for as long as it is held. */
function tmpfs(path: string, size: string): Disposable & { fill(): void } {
  mkdirSync(path, { recursive: true, mode: 0o700 });
  run("mount", "-t", "tmpfs", "-o", `size=${size},mode=0700`, "patchbay-test", path);
  return {
    fill: () => void Bun.spawnSync(["dd", "if=/dev/zero", `of=${path}/filler`, "bs=4096"], { stderr: "ignore" }),
    [Symbol.dispose]: () => run("umount", "--lazy", path),
  };
}

function request(command: IpamRequest["command"], containerId = "c1"): IpamRequest {
  return {
    command,
    conf: { cniVersion: "1.1.0", name: "net", ipam: { type: "host-local", subnet: "10.1.0.0/24" } },
    network: "net",
    containerId,
    ifname: "eth0",
    cookie: "77",
    args: new Map(),
    runtimeConfig: {},
    nodeFiles: true,
  };
}

function thrown(work: () => unknown): CniError {
  try {
    work();
  } catch (error) {
    if (error instanceof CniError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

requires(...root)("state", () => {
  test("on a full disk ADD fails before its effect, and DEL of what is there leaves nothing", () => {
    using scratch = new Scratch();
    using disk = tmpfs(`${scratch.path}/run`, "64k");
    {
      using store = scratch.store();
      using state = store.container(container(), options());
      const journal = state?.begin(header());
      if (state === undefined || journal === undefined) throw new Error("no state");
      hostLocal.add(request("ADD"), journal, store.leases);
      disk.fill();
      const step = { do: "network-object", kind: "bridge", name: "x".repeat(4096) } as const;
      const before = journal.entries.length;
      let error: CniError | undefined;
      for (let i = 0; i < 4 && error === undefined; i++) {
        try {
          journal.intend(step);
        } catch (cause) {
          error = cause as CniError;
        }
      }
      expect(error?.code).toBe(5);
      expect(error?.message).toBe('Cannot record what is done for "eth0" in container "c1": no space left');
      expect(error?.remedy).toContain("Free space");
      expect(journal.entries.length).toBeLessThanOrEqual(before + 1);
      expect(thrown(() => hostLocal.add(request("ADD", "c2"), undefined, store.leases)).code).toBe(5);
      const third = (): void => {
        using other = store.container(container("c3"), options());
        other?.begin(header({ container: "c3" }));
      };
      expect(thrown(third).code).toBe(5);
    }
    {
      using store = scratch.store();
      using state = store.container(container(), options({ create: false }));
      const [journal] = state?.attachments() ?? [];
      const [lease] = journal?.pending().filter(({ step }) => step.do === "lease") ?? [];
      if (lease?.step.do !== "lease") throw new Error("no lease in the journal");
      expect(store.leases.release(lease.step.pool, lease.step.address, { container: "c1", ifname: "eth0" })).toBe(
        "released",
      );
      journal?.undone(lease.id);
      journal?.remove();
      store.log.append({ outcome: "done" });
    }
    expect(scratch.files(GENERATION)).toEqual([]);
    expect(scratch.store().containers()).toEqual([]);
  });

  test("a damaged journal on a full disk keeps nobody from DEL", () => {
    using scratch = new Scratch();
    using disk = tmpfs(`${scratch.path}/run`, "64k");
    using store = scratch.store();
    {
      using state = store.container(container(), options());
      state?.begin(header());
    }
    const [name = ""] = scratch.files(`${GENERATION}/containers/c1`);
    writeFileSync(`${scratch.path}/${GENERATION}/containers/c1/${name}`, "\0\0\0\n");
    disk.fill();
    {
      using state = store.container(container(), options({ create: false }));
      expect(state?.attachments()).toEqual([]);
      expect(state?.damaged.length).toBe(1);
      state?.quarantine();
    }
    expect(store.containers()).toEqual([]);
  });

  test("an immutable lease fails DEL, and the retry after the repair frees it", () => {
    using scratch = new Scratch();
    using _ = tmpfs(`${scratch.path}/run`, "1m");
    using store = scratch.store();
    hostLocal.add(request("ADD"), undefined, store.leases);
    const file = `${scratch.path}/${GENERATION}/leases/net/10.1.0.2`;
    run("chattr", "+i", file);
    try {
      const error = thrown(() => hostLocal.del(request("DEL"), store.leases));
      expect(error.code).toBe(5);
      expect(error.message).toMatch(/^Cannot release "10\.1\.0\.2" of "net": unlink .*EPERM/);
      expect(error.remedy).toContain("lsattr");
      expect(store.leases.ofContainer("c1").length).toBe(1);
    } finally {
      run("chattr", "-i", file);
    }
    hostLocal.del(request("DEL"), store.leases);
    expect(scratch.files()).toEqual([]);
  });

  test("a journal that cannot be removed fails, and the retry removes it", () => {
    using scratch = new Scratch();
    using _ = tmpfs(`${scratch.path}/run`, "1m");
    using store = scratch.store();
    {
      using state = store.container(container(), options());
      const journal = state?.begin(header());
      const file = `${scratch.path}/${GENERATION}/containers/c1/${journal?.fileName}`;
      run("chattr", "+i", file);
      expect(thrown(() => journal?.remove()).message).toMatch(/^Cannot remove the journal /);
      run("chattr", "-i", file);
    }
    {
      using state = store.container(container(), options({ create: false }));
      for (const journal of state?.attachments() ?? []) journal.remove();
    }
    expect(scratch.files()).toEqual([]);
  });

  test("killed at any moment, a process leaves what DEL undoes without a rest", async () => {
    using scratch = new Scratch();
    const script = `
      const { container, header, options, BOOT } = await import("${STATE}/support.ts");
      const { Store } = await import("${STATE}/store.ts");
      const { hostLocal } = await import("${STATE}/../ipam/host-local.ts");
      const base = process.argv[1];
      const store = Store.open({ runDir: base + "/run", libDir: base + "/lib", referenceDir: base, netnsCookie: 4n, bootId: BOOT });
      const request = ${JSON.stringify({ ...request("ADD"), args: undefined })};
      request.args = new Map();
      process.stdout.write("ready");
      for (;;) {
        using state = store.container(container(), options());
        const journal = state.begin(header());
        hostLocal.add(request, journal, store.leases);
        journal.commit({}, []);
        for (const { step } of journal.pending()) store.leases.release(step.pool, step.address, request && { container: "c1", ifname: "eth0" });
        journal.remove();
      }`;
    for (let round = 0; round < 25; round++) {
      const child = Bun.spawn([process.execPath, "-e", script, scratch.path], { stdout: "pipe", stderr: "inherit" });
      await child.stdout.getReader().read();
      await Bun.sleep(round % 7);
      child.kill("SIGKILL");
      await child.exited;
      {
        using store = scratch.store();
        using state = store.container(container(), options({ create: false }));
        expect(state?.damaged ?? []).toEqual([]);
        for (const journal of state?.attachments() ?? []) {
          for (const { step } of journal.pending()) {
            if (step.do === "pool") store.leases.open(step.pool, { create: false })?.[Symbol.dispose]();
            else if (step.do === "lease")
              store.leases.release(step.pool, step.address, { container: "c1", ifname: "eth0" });
            else throw new Error(`unexpected step ${step.do}`);
          }
          journal.remove();
        }
      }
      expect(scratch.files()).toEqual([]);
    }
  });
});

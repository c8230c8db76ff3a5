import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import type { CniError } from "../base/error.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Dir } from "../sys/dir.ts";
import type { Holder } from "./holder.ts";
import { OperationsLog } from "./oplog.ts";
import { MAX_QUARANTINED } from "./quarantine.ts";
import type { Store } from "./store.ts";
import { container, header, options, Scratch } from "./support.ts";

const CONTAINERS = "run/0123abcd-4/containers";

function begin(store: Store, more: Parameters<typeof header>[0] = {}): void {
  using state = store.container(container(more.container), options());
  state?.begin(header(more));
}

describe("Store.container()", () => {
  test("knows nothing and makes nothing for a container that was never added", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    expect(store.container(container(), options({ create: false }))).toBeUndefined();
    expect(store.containers()).toEqual([]);
    expect(readdirSync(scratch.path)).toEqual([]);
  });

  test("keeps journals in order, and nothing once they are removed", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store);
    begin(store, { ifname: "net1", network: "a" });
    expect(scratch.files(`${CONTAINERS}/c1`).map((name) => name.replace(/-.*/, ""))).toEqual(["1", "2"]);
    {
      using state = store.container(container(), options({ create: false }));
      expect(state?.attachments().map((j) => j.header.ifname)).toEqual(["eth0", "net1"]);
      expect(state?.attachments()[1]?.header.seq).toBe(2);
      state?.attachments()[0]?.remove();
      expect(state?.begin(header({ ifname: "net2" })).header.seq).toBe(3);
      for (const journal of state?.attachments() ?? []) journal.remove();
    }
    expect(scratch.files()).toEqual([]);
    expect(store.containers()).toEqual([]);
    expect(store.container(container(), options({ create: false }))).toBeUndefined();
  });

  test("leaves nothing when nothing was begun", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    store.container(container(), options())?.[Symbol.dispose]();
    expect(scratch.files()).toEqual([]);
    expect(store.containers()).toEqual([]);
  });

  test("refuses a second journal of one attachment", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store);
    expect(() => begin(store)).toThrow('Cannot add "eth0" of network "net" to container "c1": it is there already');
  });

  test("names the holder to a waiter, and fails with 104 at the deadline", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    using other = scratch.store();
    using _ = store.container(container(), options());
    const seen: [Holder, number][] = [];
    const wait = options({ deadlineMs: deadlineIn(250), onBusy: (holder, ms) => void seen.push([holder, ms]) });
    let error: CniError | undefined;
    try {
      other.container(container(), wait);
    } catch (thrown) {
      error = thrown as CniError;
    }
    expect(error?.code).toBe(104);
    expect(error?.message).toBe(`Cannot work on container "c1": process ${process.pid} (ADD op1) is at it`);
    expect(seen[0]?.[0]).toMatchObject({ pid: process.pid, command: "ADD", operation: "op1" });
    expect(seen.length).toBeGreaterThanOrEqual(2);
    expect(seen.every(([, ms], i) => i === 0 || ms > (seen[i - 1]?.[1] ?? 0))).toBe(true);
  });

  test("what onBusy throws ends the wait", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    using _ = store.container(container(), options());
    const stop = (): never => {
      throw new Error("stop");
    };
    expect(() => store.container(container(), options({ onBusy: stop }))).toThrow("stop");
  });

  test("a dead holder's name is no hindrance", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store);
    symlinkSync("4194303 1 ADD gone", `${scratch.path}/${CONTAINERS}/c1/holder`);
    using state = store.container(container(), options({ create: false }));
    expect(state?.attachments().length).toBe(1);
  });

  test("what a kill leaves (an empty directory, a holder, an unfinished replacement) goes with the next operation", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store, { container: "other" });
    const path = `${scratch.path}/${CONTAINERS}/c1`;
    mkdirSync(path, { mode: 0o700 });
    symlinkSync("4194303 1 ADD gone", `${path}/holder`);
    writeFileSync(`${path}/.1-0123456789abcdef.journal.new`, "x");
    store.container(container(), options({ create: false }))?.[Symbol.dispose]();
    expect(scratch.exists(`${CONTAINERS}/c1`)).toBe(false);
  });

  test("a damaged journal is named to everybody until it is put aside, the others stay", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store);
    begin(store, { ifname: "net1" });
    const [first = ""] = scratch.files(`${CONTAINERS}/c1`);
    writeFileSync(`${scratch.path}/${CONTAINERS}/c1/${first}`, "");
    writeFileSync(`${scratch.path}/${CONTAINERS}/c1/stray`, "x");
    {
      using state = store.container(container(), options({ create: false }));
      expect(state?.attachments().map((j) => j.header.ifname)).toEqual(["net1"]);
      expect(state?.damaged).toEqual([`${first}: it has no header`, "stray: it is none of our files"]);
      expect(state?.begin(header()).header.seq).toBe(3); // nothing takes its place meanwhile
      for (const journal of state?.attachments() ?? []) journal.remove();
    }
    expect(store.quarantined()).toEqual([]);
    {
      using state = store.container(container(), options({ create: false }));
      expect(state?.damaged).toHaveLength(2);
      state?.quarantine();
      expect(state?.damaged).toEqual([]);
    }
    expect(store.quarantined()).toEqual([`c1@${first}`, "c1@stray"]);
    expect(store.containers()).toEqual([]);
  });

  test("the quarantine keeps a bounded number of files", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    for (let i = 0; i < MAX_QUARANTINED + 5; i++) {
      mkdirSync(`${scratch.path}/${CONTAINERS}/c1`, { recursive: true, mode: 0o700 });
      writeFileSync(`${scratch.path}/${CONTAINERS}/c1/${i}-0123456789abcdef.journal`, "x\n");
      using state = store.container(container(), options({ create: false }));
      expect(state?.attachments()).toEqual([]);
      state?.quarantine();
    }
    expect(store.quarantined().length).toBe(MAX_QUARANTINED);
  });

  test("many processes at one container id: one at a time, and nothing is left", async () => {
    using scratch = new Scratch();
    const script = `
      const { container, header, options, Scratch } = await import(${JSON.stringify(`${import.meta.dir}/support.ts`)});
      const { Store } = await import(${JSON.stringify(`${import.meta.dir}/store.ts`)});
      const { deadlineIn } = await import(${JSON.stringify(`${import.meta.dir}/../sys/clock.ts`)});
      const path = process.argv[1];
      using store = Store.open({ runDir: path + "/run", libDir: path + "/lib", netnsCookie: 4n, bootId: "0123abcd" });
      for (let i = 0; i < 40; i++) {
        using state = store.container(container(), options({ deadlineMs: deadlineIn(20000) }));
        if (state.attachments().length !== 0) throw new Error("not alone");
        state.begin(header()).intend({ do: "lease", pool: "p", address: "a" });
        state.attachments()[0].remove();
      }`;
    const children = Array.from({ length: 4 }, () => {
      return Bun.spawn([process.execPath, "-e", script, scratch.path], { stderr: "pipe", stdout: "ignore" });
    });
    for (const child of children) {
      expect(await new Response(child.stderr).text()).toBe("");
      expect(await child.exited).toBe(0);
    }
    expect(scratch.files()).toEqual([]);
    expect(scratch.exists(`${CONTAINERS}/c1`)).toBe(false);
  });
});

describe("Store", () => {
  test("lists what other boots and namespaces left, and removes only an earlier boot's", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store);
    begin(scratch.store("ffffffff-0000"), { ifname: "old" });
    mkdirSync(`${scratch.path}/run/0123abcd-9`);
    mkdirSync(`${scratch.path}/run/mirror`);
    expect(store.foreign()).toEqual([
      { name: "0123abcd-9", boot: "0123abcd", netnsCookie: "9", earlierBoot: false },
      { name: "ffffffff-4", boot: "ffffffff", netnsCookie: "4", earlierBoot: true },
    ]);
    for (const generation of store.foreign().filter((g) => g.earlierBoot)) store.removeForeign(generation);
    const [left] = store.foreign();
    expect(left?.name).toBe("0123abcd-9");
    expect(() => store.removeForeign(left as never)).toThrow('Cannot remove "0123abcd-9": it is of this boot');
    expect(() =>
      store.removeForeign({ ...(left as never as object), name: "../x", earlierBoot: true } as never),
    ).toThrow();
    expect(store.containers()).toEqual([container()]);
  });

  test("refuses a state directory that others can write to", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    begin(store);
    const path = `${scratch.path}/${CONTAINERS}`;
    Bun.spawnSync(["chmod", "777", path]);
    using again = scratch.store();
    expect(() => again.container(container(), options())).toThrow(/others than root can write to it/);
  });

  test("directories are for root alone, whatever the umask", () => {
    using scratch = new Scratch();
    using store = scratch.store();
    const former = process.umask(0);
    try {
      begin(store);
      store.log.append({ a: 1 });
    } finally {
      process.umask(former);
    }
    const modes = Bun.spawnSync(["find", `${scratch.path}/run`, "-perm", "/077", "!", "-type", "l"]).stdout.toString();
    expect(modes).toBe("");
    using dir = Dir.open(scratch.path);
    expect(dir.list()).toEqual(["run"]);
  });
});

describe("OperationsLog", () => {
  test("appends lines, rotates once, and reads the last ones", () => {
    using scratch = new Scratch();
    const log = new OperationsLog(`${scratch.path}/run`, 100);
    for (let n = 0; n < 30; n++) log.append({ n });
    expect(scratch.files("run")).toEqual(["ops.1.jsonl", "ops.jsonl"]);
    expect(log.tail(3)).toEqual([{ n: 27 }, { n: 28 }, { n: 29 }]);
    expect(readFileSync(log.formerPath).length).toBeLessThan(120);
    expect(log.tail(1000).length).toBeLessThan(30);
  });

  test("never throws: no directory, a directory in its place, a line too long", () => {
    using scratch = new Scratch();
    new OperationsLog("/proc/nowhere").append({ a: 1 });
    mkdirSync(`${scratch.path}/ops.jsonl`);
    new OperationsLog(scratch.path).append({ a: 1 });
    new OperationsLog(`${scratch.path}/b`).append({ a: "x".repeat(20_000) });
    expect(new OperationsLog("/proc/nowhere").tail(3)).toEqual([]);
    expect(scratch.files()).toEqual([]);
  });

  test("a torn line is left out", () => {
    using scratch = new Scratch();
    const log = new OperationsLog(scratch.path);
    writeFileSync(log.path, '{"n":1}\n{"n"');
    expect(log.tail(9)).toEqual([{ n: 1 }]);
  });
});

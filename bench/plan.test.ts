/** That the subjects of the bench do the same work, before anybody compares how long it takes them. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseIpJson, sh } from "../test/support/netns.ts";
import { hasPeer, peerFile } from "../test/support/peers.ts";
import { distBinary, requires, root } from "../test/support/requires.ts";
import { type FakeApi, startApi } from "./api.ts";
import { apiNetworks, groups, makePlans, nodeCommands, type Step, type Subject, selection, subjects } from "./plan.ts";

const inNode = ["a node of its own (scripts/in-node.sh)", process.env.PATCHBAY_NODE === "1"] as const;

requires(
  ...root,
  inNode,
  hasPeer("reference"),
  hasPeer("multus"),
  hasPeer("floor"),
  hasPeer("runner"),
)("bench", () => {
  let scratch = "";
  let api: FakeApi;
  let number = 9000;

  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "patchbay-bench-test-"));
    api = startApi(selection, apiNetworks());
    for (const command of nodeCommands) sh(command.split(" "));
  });
  afterAll(() => {
    api[Symbol.dispose]();
    rmSync(scratch, { recursive: true });
    for (const { ifname } of parseIpJson(sh(["ip", "-j", "link", "show"]))) {
      if (ifname !== "lo" && ifname !== "wire") sh(["ip", "link", "delete", String(ifname)]);
    }
  });

  /** As the runner does it, but while the API server of this process answers. */
  async function run(step: Step, n: number): Promise<void> {
    const fill = (text: string): string => text.replaceAll("{n}", String(n));
    const child = Bun.spawn(step.argv.map(fill), {
      env: {
        PATH: process.env.PATH,
        ...Object.fromEntries(Object.entries(step.env ?? {}).map(([k, v]) => [k, fill(v)])),
      },
      stdin: Buffer.from(fill(step.stdin ?? "")),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    if ((await child.exited) !== 0) throw new Error(`${step.argv.join(" ")}: ${out} ${err}`);
  }

  const links = (n: number): string[] =>
    parseIpJson(sh(["ip", "-j", "-n", `bench${n}`, "address", "show"]))
      .map((link) => {
        const addresses = (link.addr_info as { family: string }[]).filter((one) => one.family === "inet");
        return `${link.ifname} ${addresses.length}`;
      })
      .sort();

  async function addAndDelete(subject: Subject, want: readonly string[]): Promise<void> {
    const n = number++;
    const [make, add, del, unmake] = subject.steps;
    if (!make || !add || !del || !unmake) throw new Error(`${subject.name}: not four steps`);
    await run(make, n);
    await run(add, n);
    expect(links(n), subject.name).toEqual([...want]);
    expect(sh(["ip", "-n", `bench${n}`, "route", "show", "default"])).toContain("dev eth0");
    await run(del, n);
    expect(links(n), subject.name).toEqual(["lo 0"]);
    await run(unmake, n);
  }

  const plans = (): ReturnType<typeof makePlans> =>
    makePlans({ rounds: 1, scratch, patchbay: existsSync(distBinary) ? distBinary : undefined, apiUrl: api.url });
  const members = (group: string): readonly Subject[] =>
    [...plans().alone, ...plans().worker].find((one) => one.name === group)?.subjects ?? [];

  test.each([
    [groups.bridge, ["eth0 1", "lo 0"]],
    [groups.pod, ["eth0 1", "lo 0", "net1 1", "net2 1"]],
    [groups.mixed, ["eth0 1", "lo 0", "net1 1", "net2 1"]],
  ])("%s: all make the same links and delete them", async (group, want) => {
    expect(members(group).length).toBeGreaterThan(0);
    for (const subject of members(group)) await addAndDelete(subject, want);
  });

  test("Multus asks the API server in its subject of that name", async () => {
    const before = api.requests;
    const subject = members(groups.pod).find((one) => one.name === subjects.multusApi);
    if (subject === undefined) throw new Error("no such subject");
    await addAndDelete(subject, ["eth0 1", "lo 0", "net1 1", "net2 1"]);
    expect(api.requests).toBeGreaterThan(before + 3);
  });

  test("the runner measures, counts failures and tells the first", () => {
    const steps = (argv: string[]): { name: string; argv: string[] }[] => [{ name: "run", argv }];
    const group = {
      name: "g",
      rounds: 4,
      warmup: 1,
      subjects: [
        { name: "good", steps: steps(["sh", "-c", "sleep 0.02; : {n}"]) },
        { name: "bad", atOnce: 2, steps: steps(["sh", "-c", "echo no >&2; exit 3"]) },
      ],
    };
    const [good, bad] = JSON.parse(sh([peerFile("runner", "runner")], { stdin: JSON.stringify({ groups: [group] }) }));
    expect(good).toMatchObject({ Group: "g", Subject: "good", Step: "run", Runs: 4, Failed: 0 });
    expect(good.WallMs).toBeGreaterThan(20);
    expect(good.PeakBytes).toBeGreaterThan(100_000);
    expect(bad).toMatchObject({ Runs: 8, Failed: 8 });
    expect(bad.FirstFailure).toContain("exit status 3: no");
  });
});

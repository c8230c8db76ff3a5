/** `npm run bench`, on a node of its own. See `scripts/bench.sh`. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { sh } from "../test/support/netns.ts";
import { peerFile } from "../test/support/peers.ts";
import { distBinary } from "../test/support/requires.ts";
import { startApi } from "./api.ts";
import { apiNetworks, type Group, makePlans, nodeCommands, selection } from "./plan.ts";
import {
  budgetTable,
  judge,
  type Measure,
  measureTable,
  page,
  readmeTable,
  type WorkerMeasure,
  withTable,
  workerLine,
} from "./report.ts";

const fullRounds = 50;

async function main(args: readonly string[]): Promise<number> {
  if (process.env.PATCHBAY_NODE !== "1") {
    console.error("bench/run.ts: changes the network of the node it runs on: start it by npm run bench");
    return 2;
  }
  const given = args.indexOf("--rounds");
  const rounds = given < 0 ? fullRounds : Number(args[given + 1]);
  if (!Number.isInteger(rounds) || rounds < 1) {
    console.error("bench/run.ts: --rounds takes a whole number of at least 1");
    return 2;
  }
  const patchbay = existsSync(distBinary) ? distBinary : undefined;
  if (patchbay === undefined) console.error(`${distBinary} is missing: measuring the peers only`);
  const scratch = mkdtempSync(join(tmpdir(), "patchbay-bench-"));
  try {
    for (const command of nodeCommands) sh(command.split(" "));
    using api = startApi(selection, apiNetworks());
    const plans = makePlans({ rounds, scratch, patchbay, apiUrl: api.url });
    const alone = await runPlan(plans.alone);
    const { measures: beside, worker } = await withWorker(patchbay, () => runPlan(plans.worker));
    const measures = [...alone, ...beside].filter((m) => m.Runs > 0);
    const verdicts = judge(measures);
    console.log(`${measureTable(measures)}\n\n${budgetTable(verdicts)}\n\n${workerLine(worker)}`);
    for (const m of measures)
      if (m.FirstFailure) console.log(`\n${m.Group}, ${m.Subject}, ${m.Step}: ${m.FirstFailure}`);
    if (rounds >= fullRounds && patchbay !== undefined && !args.includes("--no-write")) {
      const machine = {
        cpu: cpus()[0]?.model ?? "an unnamed processor",
        cores: cpus().length,
        kernel: release().replace(/-.*/, ""),
      };
      writeFileSync(new URL("../docs/performance.md", import.meta.url), page(measures, worker, machine, rounds));
      const readme = new URL("../README.md", import.meta.url);
      writeFileSync(readme, withTable(readFileSync(readme, "utf8"), readmeTable(measures)));
    }
    return verdicts.every((verdict) => verdict.met === true) ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The API server answers in this process meanwhile, so the runner is awaited, not waited for. */
async function runPlan(groups: readonly Group[]): Promise<Measure[]> {
  const runner = Bun.spawn([peerFile("runner", "runner")], {
    stdin: Buffer.from(JSON.stringify({ groups })),
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = await new Response(runner.stdout).text();
  if ((await runner.exited) !== 0) throw new Error("bench/runner failed");
  return JSON.parse(text);
}

/** Runs something beside `patchbay worker`. What the worker spends is in no other process's figures. */
async function withWorker(
  patchbay: string | undefined,
  run: () => Promise<Measure[]>,
): Promise<{ measures: Measure[]; worker: WorkerMeasure | undefined }> {
  if (patchbay === undefined) return { measures: await run(), worker: undefined };
  const worker = Bun.spawn([patchbay, "worker"], { stdout: "inherit", stderr: "pipe" });
  try {
    while (!existsSync("/run/patchbay/worker.sock")) await Bun.sleep(10);
    const measures = await run();
    await Bun.sleep(2000); // it tidies up after a second
    const status = readFileSync(`/proc/${worker.pid}/status`, "utf8");
    const kilobytes = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]);
    worker.kill("SIGTERM");
    const said = await new Response(worker.stderr).text();
    await worker.exited;
    const usage = worker.resourceUsage();
    return {
      measures,
      worker: {
        cpuMs: Number(usage?.cpuTime.total ?? 0) / 1000,
        peakBytes: kilobytes("VmHWM") * 1024,
        idleBytes: kilobytes("VmRSS") * 1024,
        idleOwnBytes: kilobytes("RssAnon") * 1024,
        operations: Number(/(\d+) operations/.exec(said)?.[1]),
      },
    };
  } finally {
    worker.kill("SIGKILL");
  }
}

process.exit(await main(process.argv.slice(2)));

/** `npm run bench`, on a node of its own. See `scripts/bench.sh`. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { sh } from "../test/support/netns.ts";
import { peerFile } from "../test/support/peers.ts";
import { distBinary } from "../test/support/requires.ts";
import { startApi } from "./api.ts";
import { apiNetworks, makePlan, nodeCommands, selection } from "./plan.ts";
import { budgetTable, judge, type Measure, measureTable, page, readmeTable, withTable } from "./report.ts";

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
    const plan = { groups: makePlan({ rounds, scratch, patchbay, apiUrl: api.url }) };
    const measures = await runPlan(plan);
    const verdicts = judge(measures);
    console.log(`${measureTable(measures)}\n\n${budgetTable(verdicts)}`);
    for (const m of measures)
      if (m.FirstFailure) console.log(`\n${m.Group}, ${m.Subject}, ${m.Step}: ${m.FirstFailure}`);
    if (rounds >= fullRounds && patchbay !== undefined && !args.includes("--no-write")) {
      const machine = {
        cpu: cpus()[0]?.model ?? "an unnamed processor",
        cores: cpus().length,
        kernel: release().replace(/-.*/, ""),
      };
      writeFileSync(new URL("../docs/performance.md", import.meta.url), page(measures, machine, rounds));
      const readme = new URL("../README.md", import.meta.url);
      writeFileSync(readme, withTable(readFileSync(readme, "utf8"), readmeTable(measures)));
    }
    return verdicts.every((verdict) => verdict.met === true) ? 0 : 1;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The API server answers in this process meanwhile, so the runner is awaited, not waited for. */
async function runPlan(plan: unknown): Promise<Measure[]> {
  const runner = Bun.spawn([peerFile("runner", "runner")], {
    stdin: Buffer.from(JSON.stringify(plan)),
    stdout: "pipe",
    stderr: "inherit",
  });
  const text = await new Response(runner.stdout).text();
  if ((await runner.exited) !== 0) throw new Error("bench/runner failed");
  return JSON.parse(text);
}

process.exit(await main(process.argv.slice(2)));

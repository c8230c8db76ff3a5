/**
 * Runs the suites in order, adds up what they report and prints the one closing line. Started by `scripts/test.sh`,
 * which has brought what is needed.
 */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const root = join(import.meta.dir, "..");
const asRoot = process.getuid?.() === 0;

interface Totals {
  passed: number;
  failed: number;
  /** One a skipped test: its file, and the reason that `requires()` put into its name. */
  skips: { file: string; reason: string }[];
}

interface Suite {
  readonly name: string;
  readonly folders: readonly string[];
  /** On a node of its own (`scripts/in-node.sh`), when root. */
  readonly node?: boolean;
  /** On machines of its own, all at once; each is booted once or several times, with one disk. */
  readonly guests?: readonly (readonly Boot[])[];
}

interface Boot {
  /** Of `test/vm/guest.sh`. */
  readonly options: readonly string[];
  readonly folders: readonly string[];
}

const cards = ["--cards", "2", "--iommu", "--seconds", "600"];
const long = process.argv.includes("--long");

/** In this order: what breaks most and costs least first. */
const suites: readonly Suite[] = [
  { name: "unit", folders: ["core", "cmd", "plugins-wasm", "scripts"] },
  { name: "support", folders: ["test/support"], node: true },
  { name: "docs", folders: ["test/docs"] },
  { name: "bun", folders: ["test/bun"], node: true },
  { name: "golden", folders: ["test/golden"] },
  { name: "conformance", folders: ["test/conformance"], node: true },
  { name: "netns", folders: ["test/netns"], node: true },
  { name: "peers", folders: ["test/peers"], node: true },
  {
    name: "vm",
    folders: ["test/vm", "test/vm-reboot", "test/vm-fault"],
    guests: [
      [{ options: ["--kernel", "6.12", ...cards], folders: ["test/vm"] }],
      [{ options: ["--kernel", "6.1", ...cards], folders: ["test/vm"] }],
      [
        { options: ["--kernel", "6.12", ...cards], folders: ["test/vm-reboot/before"] },
        { options: ["--kernel", "6.12", ...cards, "--append", "ipv6.disable=1"], folders: ["test/vm-reboot/after"] },
        { options: ["--kernel", "6.12", ...cards, "--seconds", long ? "10800" : "600"], folders: ["test/vm-fault"] },
      ],
    ],
  },
  { name: "fault", folders: ["test/fault"], node: true },
  { name: "runtime", folders: ["test/runtime"], node: true },
  { name: "bench", folders: ["bench"], node: true },
];

/** Checks that are one command each, run before the suites; each counts as one test. */
const checks: readonly (readonly [name: string, command: readonly string[]])[] = [
  ["build", ["bash", "scripts/build.sh"]],
  ["format and lint", ["node_modules/.bin/biome", "check", "--error-on-warnings"]],
  ["types", ["node_modules/.bin/tsc", "--noEmit"]],
  ["generated files", ["bash", "scripts/generated-fresh.sh"]],
];

const hasTests = (folder: string): boolean =>
  existsSync(join(root, folder)) &&
  readdirSync(join(root, folder), { recursive: true, encoding: "utf8" }).some((f) => f.endsWith(".test.ts"));

interface Ended {
  readonly status: number;
  readonly stderr: string;
}

/** Runs a command in the checkout, passing on what it prints as it comes, or with `after` all at its end. */
async function run(command: readonly string[], env: NodeJS.ProcessEnv, after = false): Promise<Ended> {
  const child = Bun.spawn([...command], {
    cwd: root,
    env,
    stdin: "ignore",
    stdout: after ? "pipe" : "inherit",
    stderr: "pipe",
  });
  const stdout = after ? new Response(child.stdout).text() : "";
  const chunks: Uint8Array[] = [];
  for await (const chunk of child.stderr) {
    if (!after) process.stderr.write(chunk);
    chunks.push(chunk);
  }
  const ended = { status: await child.exited, stderr: Buffer.concat(chunks).toString() };
  if (after) process.stdout.write(`\n-- ${command.join(" ")}\n${await stdout}${ended.stderr}`);
  return ended;
}

/** The skipped tests of a JUnit report as Bun writes it: `<testcase name classname …><skipped/>`. */
export function skipsOf(junit: string): Totals["skips"] {
  const skips: Totals["skips"] = [];
  for (const [, attributes = ""] of junit.matchAll(/<testcase ([^>]*[^/])>\s*<skipped/g)) {
    const of = (key: string): string => plainText(new RegExp(` ?\\b${key}="([^"]*)"`).exec(attributes)?.[1] ?? "");
    if (of("name") === "(unnamed)") continue; // a hook of a skipped suite
    const reason = /\[needs ([^\]]*)\]/.exec(`${of("classname")} ${of("name")}`)?.[1];
    skips.push({ file: of("file"), reason: reason ?? "no reason given" });
  }
  return skips;
}

function plainText(text: string): string {
  const named: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replaceAll(/&(lt|gt|quot|apos|amp);/g, (_, entity: string) => named[entity] ?? "");
}

/** Counts of the summary that Bun prints. A file that cannot be loaded is in `fail` here and nowhere in the report. */
export function countsOf(stderr: string): { passed: number; failed: number } {
  const last = (word: string): number =>
    Number([...stderr.matchAll(new RegExp(`^ (\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);
  return { passed: last("pass"), failed: last("fail") };
}

async function runSuite(suite: Suite, env: NodeJS.ProcessEnv, totals: Totals, scratch: string): Promise<void> {
  const folders = suite.folders.filter(hasTests);
  console.log(`\n== ${suite.name}${folders.length === 0 ? ": no test" : ""}`);
  if (folders.length === 0) return;
  const test = (report: string, from = folders): string[] => [
    "test",
    "--timeout=60000", // what the preload says of it holds for the first file alone
    "--only-failures",
    "--reporter=junit",
    `--reporter-outfile=${report}`,
    ...from.map((folder) => `./${folder}`),
  ];
  const count = (ended: Ended, report: string): void => {
    const counts = countsOf(ended.stderr);
    totals.passed += counts.passed;
    totals.failed += ended.status !== 0 ? Math.max(counts.failed, 1) : counts.failed;
    if (existsSync(report)) totals.skips.push(...skipsOf(readFileSync(report, "utf8")));
  };
  const report = (...numbers: number[]): string => join(scratch, `${[suite.name, ...numbers].join("-")}.xml`);
  if (suite.guests === undefined) {
    const node = suite.node === true && asRoot ? ["bash", "scripts/in-node.sh"] : [];
    count(await run([...node, process.execPath, ...test(report())], env), report());
    return;
  }
  const built = await run(["bash", "-c", "bash test/vm/build.sh > /dev/null"], env);
  if (built.status === cannotHere) {
    totals.skips.push({ file: "test/vm", reason: built.stderr.trim().split("\n").at(-1) ?? "" });
  } else if (built.status !== 0) {
    totals.failed++;
  } else {
    const guests = suite.guests.map(async (boots, i) => {
      for (const [b, { options, folders: from }] of boots.entries()) {
        const disk = boots.length > 1 ? ["--disk", join(scratch, `disk-${i}`)] : [];
        const guest = ["bash", "test/vm/guest.sh", ...options, ...disk, "--report", report(i, b)];
        const tests = ["bash", "scripts/bun.sh", ...test("/run/report", [...from])];
        count(await run([...guest, ...tests], env, true), report(i, b));
      }
    });
    await Promise.all(guests);
  }
}

/** Status of `test/vm/build.sh` when this machine cannot have a guest. */
const cannotHere = 3;

async function runCheck(
  name: string,
  command: readonly string[],
  env: NodeJS.ProcessEnv,
  totals: Totals,
): Promise<void> {
  const script = command[1] ?? "";
  if (script.startsWith("scripts/") && !existsSync(join(root, script))) return;
  console.log(`\n== ${name}`);
  if ((await run(command, env)).status === 0) totals.passed++;
  else {
    totals.failed++;
    console.log(`failed: ${command.join(" ")}`);
  }
}

/** Reasons that root may skip for, one a line; `#` begins a comment. */
function allowedSkips(): ReadonlySet<string> {
  const lines = readFileSync(join(root, "test/allowed-skips"), "utf8").split("\n");
  return new Set(lines.map((line) => line.trim()).filter((line) => line !== "" && !line.startsWith("#")));
}

async function main(args: readonly string[]): Promise<number> {
  const only = args.flatMap((arg, i) => (arg === "--only" ? [args[i + 1] ?? ""] : []));
  const unknown = only.filter((name) => name !== "checks" && !suites.some((suite) => suite.name === name));
  if (unknown.length > 0) {
    console.log(
      `test.sh: no suite "${unknown.join('", "')}": there are checks, ${suites.map((s) => s.name).join(", ")}`,
    );
    return 2;
  }
  const wanted = (name: string): boolean => only.length === 0 || only.includes(name);
  const env: NodeJS.ProcessEnv = { ...process.env, ...(args.includes("--long") && { PATCHBAY_LONG: "1" }) };
  const totals: Totals = { passed: 0, failed: 0, skips: [] };
  const scratch = mkdtempSync(join(tmpdir(), "patchbay-test-"));
  try {
    if (wanted("checks")) for (const [name, command] of checks) await runCheck(name, command, env, totals);
    for (const suite of suites) if (wanted(suite.name)) await runSuite(suite, env, totals, scratch);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  const allowed = allowedSkips();
  console.log("");
  const lines = new Map<string, number>();
  for (const { file, reason } of totals.skips) {
    const refused = asRoot && !allowed.has(reason);
    if (refused) totals.failed++;
    const line = `${file}: skipped, needs ${reason}${refused ? "; as root that is a failure" : ""}`;
    lines.set(line, (lines.get(line) ?? 0) + 1);
  }
  for (const [line, count] of lines) console.log(`${line} (${count})`);
  console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skips.length} skipped`);
  return totals.failed === 0 ? 0 : 1;
}

if (import.meta.main) process.exit(await main(process.argv.slice(2)));

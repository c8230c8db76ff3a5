/** The figures of a run against the budgets, as text. */
import { groups, subjects } from "./plan.ts";

/** One measured step of one subject, as `bench/runner` reports it. */
export interface Measure {
  readonly Group: string;
  readonly Subject: string;
  readonly Step: string;
  readonly Runs: number;
  readonly Failed: number;
  readonly FirstFailure?: string;
  /** Medians, milliseconds. */
  readonly WallMs: number;
  readonly WallMinMs: number;
  readonly WallP95Ms: number;
  readonly CPUMs: number;
  readonly PeakBytes: number;
  readonly ReadBytes: number;
  readonly AtOnce?: number;
  readonly PerSecond?: number;
}

/** What the worker spent that ran beside the groups that name no other. */
export interface WorkerMeasure {
  /** What it took over; the processes did the rest themselves. */
  readonly operations: number;
  readonly cpuMs: number;
  readonly peakBytes: number;
  /** A second after the last operation. */
  readonly idleBytes: number;
  /** Of those, what is no page of a file that every process of the program shares. */
  readonly idleOwnBytes: number;
}

/** Ours in `group` and `step` is at most `ratio` times `peer`'s median wall time. */
export interface Budget {
  readonly what: string;
  readonly group: string;
  readonly step: string;
  readonly peer: string;
  readonly ratio: number;
}

export const budgets: readonly Budget[] = [
  { what: "VERSION", group: groups.version, step: "version", peer: subjects.multus, ratio: 0.6 },
  { what: "VERSION", group: groups.version, step: "version", peer: subjects.reference, ratio: 4 },
  { what: "bridge + host-local, ADD", group: groups.bridge, step: "add", peer: subjects.reference, ratio: 1.2 },
  { what: "three networks, ADD", group: groups.pod, step: "add", peer: subjects.floor, ratio: 3 },
  { what: "three networks, ADD", group: groups.pod, step: "add", peer: subjects.multus, ratio: 0.25 },
  { what: "three networks, DEL", group: groups.pod, step: "del", peer: subjects.floor, ratio: 2 },
  { what: `${groups.chain}, ADD`, group: groups.chain, step: "add", peer: subjects.reference, ratio: 0.2 },
  { what: `${groups.chain}, DEL`, group: groups.chain, step: "del", peer: subjects.reference, ratio: 0.2 },
];
/** Of an ADD, bytes. */
export const peakBudget = 64 * 1024 * 1024;
/** Of 32 pods at once, none failing. */
export const rateBudget = 60;

export interface Verdict {
  readonly what: string;
  readonly ours: string;
  readonly peer: string;
  readonly found: string;
  readonly budget: string;
  /** undefined: not measured. */
  readonly met: boolean | undefined;
}

export function judge(measures: readonly Measure[]): Verdict[] {
  const of = (group: string, subject: string, step: string): Measure | undefined =>
    measures.find((m) => m.Group === group && m.Subject === subject && m.Step === step && m.Runs > m.Failed);
  const verdicts = budgets.map(({ what, group, step, peer, ratio }): Verdict => {
    const [own, other] = [of(group, subjects.ours, step), of(group, peer, step)];
    const found = own && other ? own.WallMs / other.WallMs : undefined;
    return {
      what,
      ours: own ? `${ms(own.WallMs)} ms` : "–",
      peer: other ? `${peer}: ${ms(other.WallMs)} ms` : `${peer}: –`,
      found: found === undefined ? "–" : `${found.toFixed(2)} ×`,
      budget: `≤ ${ratio} ×`,
      met: found === undefined ? undefined : found <= ratio && own?.Failed === 0,
    };
  });
  const add = of(groups.podAlone, subjects.ours, "add"); // the whole of it in one process
  verdicts.push({
    what: "three networks, peak memory of an ADD",
    ours: add ? megabytes(add.PeakBytes) : "–",
    peer: peakOf(of(groups.podAlone, subjects.multus, "add")),
    found: add ? megabytes(add.PeakBytes) : "–",
    budget: `≤ ${megabytes(peakBudget)}`,
    met: add && add.PeakBytes <= peakBudget,
  });
  const burst = of(groups.burst, subjects.ours, "add");
  const peerBurst = of(groups.burst, subjects.multus, "add");
  verdicts.push({
    what: "32 such pods at once",
    ours: burst ? rateOf(burst) : "–",
    peer: `${subjects.multus}: ${peerBurst ? rateOf(peerBurst) : "–"}`,
    found: burst ? rateOf(burst) : "–",
    budget: `≥ ${rateBudget} ADD/s, none failing`,
    met: burst && (burst.PerSecond ?? 0) >= rateBudget && burst.Failed === 0,
  });
  return verdicts;
}

const rateOf = (m: Measure): string => `${(m.PerSecond ?? 0).toFixed(0)} ADD/s, ${m.Failed} of ${m.Runs} failed`;
const ms = (value: number): string => value.toFixed(1);
const megabytes = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(0)} MB`;
const peakOf = (m: Measure | undefined): string => `${subjects.multus}: ${m ? megabytes(m.PeakBytes) : "–"}`;

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** The budgets as a table of Markdown. */
export function budgetTable(verdicts: readonly Verdict[]): string {
  const word = (met: boolean | undefined): string => (met === undefined ? "not measured" : met ? "met" : "**missed**");
  const rows = verdicts.map((v) => [v.what, v.ours, v.peer, v.found, v.budget, word(v.met)]);
  return table(["what", "Patchbay", "beside", "found", "budget", ""], rows);
}

export function workerLine(worker: WorkerMeasure | undefined): string {
  if (worker === undefined) return "No worker was measured.";
  const { operations, cpuMs, peakBytes, idleBytes, idleOwnBytes } = worker;
  return `The worker took ${operations} operations over and spent ${ms(cpuMs / operations)} ms of CPU on each. It had ${megabytes(peakBytes)} at its largest; idle ${megabytes(idleBytes)}, of which ${megabytes(idleBytes - idleOwnBytes)} are pages of the binary and the libraries.`;
}

function aloneLine(measures: readonly Measure[]): string {
  const alone = measures.find((m) => m.Group === groups.burstAlone && m.Subject === subjects.ours && m.Step === "add");
  return `Without a worker, 32 such pods at once: ${alone ? rateOf(alone) : "–"}.`;
}

/** Everything measured, a row a step. */
export function measureTable(measures: readonly Measure[]): string {
  const rows = measures.map((m) => [
    m.Group,
    m.Subject,
    m.Step,
    `${ms(m.WallMs)} (${ms(m.WallMinMs)} – ${ms(m.WallP95Ms)})`,
    ms(m.CPUMs),
    megabytes(m.PeakBytes),
    megabytes(m.ReadBytes),
    `${m.Failed} of ${m.Runs}`,
  ]);
  return table(["group", "who", "step", "wall ms (least – 95 %)", "CPU ms", "peak", "read", "failed"], rows);
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
}

/** For the README: Patchbay beside Multus with the reference plugins, out of the figures of docs/performance.md. */
export function readmeTable(measures: readonly Measure[]): string {
  const cell = (group: string, subject: string, step: string, text: (m: Measure) => string): string => {
    const found = measures.find((m) => m.Group === group && m.Subject === subject && m.Step === step);
    return found === undefined ? "–" : text(found);
  };
  const wall = (m: Measure): string => `${ms(m.WallMs)} ms`;
  const row = (what: string, group: string, alone: string, step: string, text: (m: Measure) => string): string[] => [
    what,
    cell(group, subjects.ours, step, text),
    cell(alone, subjects.ours, step, text),
    cell(group, subjects.multus, step, text),
  ];
  return `${table(
    ["", "Patchbay, a worker on the node", "no worker", "Multus thin v4.2.2, reference plugins v1.9.1"],
    [
      row("pod with three networks, ADD", groups.pod, groups.podAlone, "add", wall),
      row("the same, DEL", groups.pod, groups.podAlone, "del", wall),
      row("largest process of that ADD", groups.pod, groups.podAlone, "add", (m) => megabytes(m.PeakBytes)),
      row("32 such pods at once", groups.burst, groups.burstAlone, "add", rateOf),
      row("VERSION", groups.version, groups.version, "version", wall),
    ],
  )}

Medians of whole processes, by \`npm run bench\`; all of it, and the machine, in [docs/performance.md](docs/performance.md).`;
}

/** @param text The README. @returns It with the table between its marks, each on a line of its own. */
export function withTable(text: string, body: string): string {
  const marks = /(<!-- bench -->\n)[\s\S]*(\n<!-- \/bench -->)/;
  if (!marks.test(text)) throw new Error("README.md has lost its marks for the table of figures");
  return text.replace(marks, (_, before: string, after: string) => `${before}${body}${after}`);
}

/** docs/performance.md, whole. */
export function page(
  measures: readonly Measure[],
  worker: WorkerMeasure | undefined,
  machine: Machine,
  rounds: number,
): string {
  return `# Performance

Made by \`npm run bench\`: whole processes, from fork to exit, each in turn with the others, ${rounds} rounds; medians. Each turn
begins with one run that does not count, so that nobody pays for what the one before has left in caches and in the kernel.
The peers are built from their own sources in the same run. On ${machine.cores} cores of ${machine.cpu}, Linux ${machine.kernel}.

A pod with three networks is a bridge with gateway and default route, a macvlan and a second bridge, addresses from
host-local. The raw netlink floor (\`bench/floor\`) is one Go process that makes the same links, addresses and routes from
constants: no JSON, leases, journal or waits. It deletes its three links by one group delete.

Patchbay is measured twice: in the groups that end with "no worker" each process does its own work, and in the others
[a worker](worker.md) runs on the node, which is there for all processes of Patchbay. It has done ${14 * rounds} operations and
more before it counts, as a node's worker has: "worker just started" is the time before. What it spends itself is in no row:
${workerLine(worker)}

${budgetTable(judge(measures))}

${aloneLine(measures)}

## All figures

CPU counts a process and the children it waited for. Peak is the largest process of a step, over all rounds; read is from
storage.

${measureTable(measures)}
`;
}

/**
 * A CNI binary for tests. What it does stands under `spy` in its configuration, in that of its IPAM, or (then SPY_LOG
 * names the log) in the configuration itself. Every call is appended to the log as a line of JSON: what it got, and the
 * addresses that its interface has at that moment, read from the kernel.
 */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";

export interface SpyOptions {
  /** Of the log, one JSON object a line. */
  readonly log: string;
  /** Commands that fail with code 200, as long as the file `failWhile` exists, or always when there is none. */
  readonly fail?: readonly string[];
  readonly failWhile?: string;
  readonly failCode?: number;
  /** The answer of ADD; `prevResult`, else one interface, when absent. */
  readonly result?: unknown;
  /** What it runs first, with its own environment and the configuration given, as flannel runs bridge. */
  readonly runs?: Readonly<Record<string, unknown>> & { readonly type: string };
  /** Waits on ADD, and then makes what stands here. */
  readonly sleepMs?: number;
  readonly makesLink?: string;
  readonly makesFile?: string;
}

export interface SpyCall {
  readonly command: string;
  readonly type: string;
  readonly network: string;
  readonly ifname: string;
  readonly netns: string;
  readonly args: string;
  /** The process that ran it. */
  readonly parent: number;
  readonly conf: Readonly<Record<string, unknown>>;
  /** Of the interface in the pod now; `null` when it is not there. */
  readonly addresses: readonly string[] | null;
}

const supported = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

function answer(document: unknown, exit: number): never {
  if (document !== undefined) process.stdout.write(JSON.stringify(document));
  process.exit(exit);
}

function liveAddresses(netns: string, ifname: string): string[] | null {
  if (!existsSync(netns)) return null;
  const argv = ["nsenter", `--net=${netns}`, "--", "ip", "-j", "-4", "address", "show", "dev", ifname];
  const ended = Bun.spawnSync(argv, { stdout: "pipe", stderr: "ignore" });
  if (ended.exitCode !== 0) return null;
  const [link]: { addr_info?: { local: string; prefixlen: number }[] }[] = JSON.parse(ended.stdout.toString() || "[]");
  return (link?.addr_info ?? []).map((a) => `${a.local}/${a.prefixlen}`);
}

function runPlugin(conf: { readonly type: string }, name: unknown, cniVersion: unknown): unknown {
  const path = (process.env.CNI_PATH ?? "").split(":").map((d) => `${d}/${conf.type}`);
  const file = path.find((p) => existsSync(p));
  if (file === undefined) answer({ code: 7, msg: `no ${conf.type} in ${path}` }, 1);
  const stdin = Buffer.from(JSON.stringify({ cniVersion, name, ...conf }));
  const ended = Bun.spawnSync([file], { stdin, stdout: "pipe", stderr: "inherit" });
  const text = ended.stdout.toString();
  if (ended.exitCode !== 0) answer(JSON.parse(text || "{}"), 1);
  return text === "" ? undefined : JSON.parse(text);
}

function main(): void {
  const {
    CNI_COMMAND: command = "",
    CNI_IFNAME: ifname = "",
    CNI_NETNS: netns = "",
    CNI_ARGS: args = "",
  } = process.env;
  if (command === "VERSION") answer({ cniVersion: "1.1.0", supportedVersions: supported }, 0);
  const conf = JSON.parse(readFileSync(0, "utf8"));
  const spy: SpyOptions = conf.spy ?? conf.ipam?.spy ?? { ...conf, log: process.env.SPY_LOG };
  const type = String(conf.type);
  const call: SpyCall = {
    command,
    type,
    network: conf.name,
    ifname,
    netns,
    args,
    parent: process.ppid,
    conf,
    addresses: liveAddresses(netns, ifname),
  };
  appendFileSync(spy.log, `${JSON.stringify(call)}\n`);
  if (spy.fail?.includes(command) && (spy.failWhile === undefined || existsSync(spy.failWhile))) {
    answer({ code: spy.failCode ?? 200, msg: `told to fail ${command}`, details: "remove the reason" }, 1);
  }
  const inner = spy.runs && runPlugin(spy.runs, conf.name, conf.cniVersion);
  if (command !== "ADD") answer(undefined, 0);
  if (spy.sleepMs !== undefined) Bun.sleepSync(spy.sleepMs);
  if (spy.makesLink !== undefined) Bun.spawnSync(["ip", "link", "add", spy.makesLink, "type", "bridge"]);
  if (spy.makesFile !== undefined) writeFileSync(spy.makesFile, "made");
  const own = { interfaces: [{ name: ifname, sandbox: netns }] };
  answer({ cniVersion: conf.cniVersion, ...(spy.result ?? inner ?? conf.prevResult ?? own) }, 0);
}

if (import.meta.main) main();

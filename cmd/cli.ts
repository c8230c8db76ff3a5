/** The operator's command line: which command, with which options; each command is a file of its own, loaded when it is used. */
import { writeSync } from "node:fs";
import { type ParseArgsConfig, parseArgs } from "node:util";
import { show } from "../core/base/brand.ts";
import { CniError } from "../core/base/error.ts";
import { SUPPORTED } from "../core/cni/version.ts";
import manifest from "../package.json" with { type: "json" };
import type { Values } from "./options.ts";

type Options = NonNullable<ParseArgsConfig["options"]>;
/** One command of the command line. @returns The exit code. */
export interface Command {
  readonly summary: string;
  readonly usage: string;
  readonly options: Options;
  load(): Promise<(values: Values) => number | Promise<number>>;
}

const commands: ReadonlyMap<string, Command> = new Map([
  [
    "status",
    {
      summary: "what is attached on this node: pods, interfaces, addresses",
      usage: "patchbay status [--json] [--networks] [--container ID]",
      options: { json: { type: "boolean" }, networks: { type: "boolean" }, container: { type: "string" } },
      load: () => import("./status.ts").then((m) => m.status),
    },
  ],
  [
    "gc",
    {
      summary: "remove what belongs to no sandbox of the container runtime",
      usage:
        "patchbay gc [--runtime-endpoint unix:///run/containerd/containerd.sock] [--interval SECONDS] [--dry-run] [--json]",
      options: {
        "runtime-endpoint": { type: "string" },
        interval: { type: "string" },
        "dry-run": { type: "boolean" },
        json: { type: "boolean" },
      },
      load: () => import("./gc.ts").then((m) => m.gc),
    },
  ],
  [
    "worker",
    {
      summary: "stay, warm, and do operations for the processes that the runtime starts",
      usage: "patchbay worker",
      options: {},
      load: () => import("./worker.ts").then((m) => m.worker),
    },
  ],
  [
    "dhcp",
    {
      summary: "renew the DHCP leases of this node's pods, until stopped; or list them",
      usage: "patchbay dhcp [--list] [--json]",
      options: { list: { type: "boolean" }, json: { type: "boolean" } },
      load: () => import("./dhcp.ts").then((m) => m.dhcp),
    },
  ],
]);

function help(): string {
  const width = Math.max(...[...commands.keys()].map((name) => name.length));
  const rows = [...commands].map(
    ([name, c]) => `  ${name.padEnd(width)}  ${c.summary}\n  ${" ".repeat(width)}  ${c.usage}`,
  );
  return [
    `patchbay ${manifest.version}: any number of networks for a Kubernetes pod`,
    "",
    "As a CNI plugin it is started by the container runtime, with CNI_COMMAND in the environment.",
    `It speaks CNI ${SUPPORTED.join(", ")}.`,
    "",
    "Commands:",
    ...rows,
    "",
  ].join("\n");
}

/**
 * The reference's dhcp is started as `dhcp daemon`, with flags about its socket and its patience; units on nodes say so.
 *
 * @param startedAs The name of the link that we were started by.
 */
function translated(args: readonly string[], startedAs: string): readonly string[] {
  const isDaemon = startedAs.slice(startedAs.lastIndexOf("/") + 1) === "dhcp" && args[0] === "daemon";
  return isDaemon ? ["dhcp"] : args;
}

/** @returns The exit code: 0, or 1 after an error, or 2 for a command line that cannot be understood. */
export async function runCommand(given: readonly string[], startedAs: string): Promise<number> {
  const [name, ...rest] = translated(given, startedAs);
  if (name === undefined) {
    writeSync(2, `${help()}\n`); // a runtime or a person started the plugin without CNI_COMMAND: say what it is
    return 0;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    writeSync(1, help());
    return 0;
  }
  if (name === "--version" || name === "version") {
    writeSync(1, `patchbay ${manifest.version}, CNI ${SUPPORTED.join(", ")}\n`);
    return 0;
  }
  const command = commands.get(name);
  if (command === undefined) {
    writeSync(2, `Cannot run ${show(name)}: there is no such command\nRun "patchbay --help" for the list\n`);
    return 2;
  }
  let values: Values;
  try {
    values = parseArgs({
      args: rest,
      options: { ...command.options, help: { type: "boolean", short: "h" } },
      strict: true,
    }).values as Values;
  } catch (cause) {
    writeSync(
      2,
      `Cannot run "patchbay ${name}": ${cause instanceof Error ? cause.message : cause}\n${command.usage}\n`,
    );
    return 2;
  }
  if (values.help === true) {
    writeSync(1, `${command.usage}\n${command.summary}\n`);
    return 0;
  }
  try {
    const run = await command.load();
    return await run(values);
  } catch (thrown) {
    const error = CniError.from(thrown);
    writeSync(2, `${error.message}\n${error.remedy}\n`);
    return 1;
  }
}

/** Runs CNI plugins as a container runtime does: environment, configuration on standard input, one JSON answer. */
import type { TestNetns } from "./netns.ts";

export type CniCommand = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS" | "VERSION";
/** Any JSON object. */
export type Document = Readonly<Record<string, unknown>>;

/** An answer of a plugin, as far as tests look into it: nothing is promised to be there. */
export interface ResultDocument {
  readonly cniVersion?: string;
  readonly interfaces?: readonly { name?: string; mac?: string; mtu?: number; sandbox?: string }[];
  readonly ips?: readonly { version?: string; address?: string; gateway?: string; interface?: number }[];
  readonly routes?: readonly {
    dst?: string;
    gw?: string;
    mtu?: number;
    advmss?: number;
    priority?: number;
    table?: number;
    scope?: number;
  }[];
  readonly dns?: { nameservers?: string[]; domain?: string; search?: string[]; options?: string[] };
  readonly supportedVersions?: readonly string[];
}

/** One plugin of a list, as an administrator writes it. */
export interface PluginConf extends Document {
  readonly type: string;
  readonly capabilities?: Readonly<Record<string, boolean>>;
}

export interface ListConf extends Document {
  readonly name: string;
  readonly cniVersion: string;
  readonly plugins: readonly PluginConf[];
}

export interface CniCall {
  /** Path of the plugin's executable. */
  readonly plugin: string;
  readonly command: CniCommand;
  readonly containerId?: string;
  /** "" is what a runtime sends when the namespace is gone. */
  readonly netns?: string | TestNetns;
  readonly ifname?: string;
  /** `K=V;K=V` */
  readonly args?: string;
  /** Directories of CNI_PATH; that of the plugin unless told. */
  readonly path?: readonly string[];
  /** A document, or text as it is. */
  readonly stdin: Document | string;
  /** The namespace that the plugin takes for the node's. */
  readonly node?: TestNetns;
  /** Added to, or over, what the call needs. Nothing is inherited but PATH and HOME. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Runs the plugin under another program, such as strace with its arguments. */
  readonly under?: readonly string[];
  /** The plugin is killed after this, 60 s unless told. */
  readonly timeoutMs?: number;
}

export interface CniAnswer {
  /** undefined when a signal ended it. */
  readonly exit: number | undefined;
  readonly signal: string | undefined;
  readonly stdout: string;
  readonly stderr: string;
  /** What it printed, when that is one JSON document and the exit status is 0. */
  readonly result: ResultDocument | undefined;
  /** The error document, when the exit status is not 0. */
  readonly error: { code: number; msg: string; details?: string; cniVersion?: string } | undefined;
  readonly ms: number;
}

export function cniEnvironment(call: CniCall): Record<string, string> {
  const netns = typeof call.netns === "object" ? call.netns.path : call.netns;
  return {
    PATH: process.env.PATH ?? "/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: process.env.HOME ?? "/",
    CNI_COMMAND: call.command,
    CNI_PATH: (call.path ?? [call.plugin.slice(0, call.plugin.lastIndexOf("/"))]).join(":"),
    ...(call.containerId !== undefined && { CNI_CONTAINERID: call.containerId }),
    ...(netns !== undefined && { CNI_NETNS: netns }),
    ...(call.ifname !== undefined && { CNI_IFNAME: call.ifname }),
    ...(call.args !== undefined && { CNI_ARGS: call.args }),
    ...call.env,
  };
}

const argvOf = (call: CniCall): string[] => {
  const own = [...(call.under ?? []), call.plugin];
  return call.node === undefined ? own : call.node.argv(...own);
};
const stdinOf = (call: CniCall): string => (typeof call.stdin === "string" ? call.stdin : JSON.stringify(call.stdin));

const signalName = (signal: unknown): string | undefined => (typeof signal === "string" ? signal : undefined);

function answerOf(
  exit: number | null,
  signal: string | undefined,
  out: Uint8Array,
  err: Uint8Array,
  ms: number,
): CniAnswer {
  const stdout = Buffer.from(out).toString();
  let document: (ResultDocument & { code?: number }) | undefined;
  try {
    document = JSON.parse(stdout);
  } catch {
    document = undefined; // a test of a plugin that prints no document looks at stdout itself
  }
  return {
    exit: exit ?? undefined,
    signal,
    stdout,
    stderr: Buffer.from(err).toString(),
    result: exit === 0 ? document : undefined,
    error: exit !== 0 && typeof document?.code === "number" ? (document as CniAnswer["error"]) : undefined,
    ms,
  };
}

/** One call, start to end. A failure of the plugin is an answer, not a throw. */
export function cni(call: CniCall): CniAnswer {
  const begun = performance.now();
  const ended = Bun.spawnSync(argvOf(call), {
    env: cniEnvironment(call),
    stdin: Buffer.from(stdinOf(call)),
    stdout: "pipe",
    stderr: "pipe",
    timeout: call.timeoutMs ?? 60_000,
    killSignal: "SIGKILL",
    ...(call.cwd !== undefined && { cwd: call.cwd }),
  });
  return answerOf(ended.exitCode, signalName(ended.signalCode), ended.stdout, ended.stderr, performance.now() - begun);
}

/** The same call, to run beside others or to be killed on the way. */
export function startCni(call: CniCall): {
  pid: number;
  kill(signal: NodeJS.Signals): void;
  answer: Promise<CniAnswer>;
} {
  const begun = performance.now();
  const child = Bun.spawn(argvOf(call), {
    env: cniEnvironment(call),
    stdin: Buffer.from(stdinOf(call)),
    stdout: "pipe",
    stderr: "pipe",
    timeout: call.timeoutMs ?? 60_000,
    killSignal: "SIGKILL",
    ...(call.cwd !== undefined && { cwd: call.cwd }),
  });
  const whole = async (): Promise<CniAnswer> => {
    const [out, err] = await Promise.all([
      new Response(child.stdout).bytes(),
      new Response(child.stderr).bytes(),
      child.exited,
    ]);
    return answerOf(child.exitCode, signalName(child.signalCode), out, err, performance.now() - begun);
  };
  return { pid: child.pid, kill: (signal) => child.kill(signal), answer: whole() };
}

/** The answer of a call that must succeed. @throws {Error} with the plugin's own words when it did not. */
export function cniOk(call: CniCall): ResultDocument {
  const answer = cni(call);
  if (answer.exit === 0) return answer.result ?? {};
  const how = answer.signal ?? `exit ${answer.exit}`;
  throw new Error(`${call.command} of ${call.plugin}: ${how}: ${answer.stdout.trim()} ${answer.stderr.trim()}`);
}

/** What is one attachment for a runtime. */
export interface Attachment {
  readonly containerId: string;
  readonly netns: string | TestNetns;
  readonly ifname: string;
  readonly args?: string;
  readonly capabilities?: Document;
  readonly node?: TestNetns;
  readonly env?: Readonly<Record<string, string>>;
}

/** A network configuration list, run as libcni runs one: each plugin gets name, version, runtimeConfig and prevResult. */
export class CniList {
  readonly list: ListConf;
  readonly #path: readonly string[];
  #result: ResultDocument | undefined;

  /** @param path directories to look for the plugins in */
  constructor(list: ListConf, path: readonly string[]) {
    this.list = list;
    this.#path = path;
  }

  /** The result of the last plugin of the last ADD, which DEL and CHECK pass on. */
  get result(): ResultDocument | undefined {
    return this.#result;
  }

  #call(plugin: PluginConf, command: CniCommand, to: Attachment, prevResult: ResultDocument | undefined): CniAnswer {
    const runtimeConfig: Record<string, unknown> = {};
    for (const [capability, wanted] of Object.entries(plugin.capabilities ?? {})) {
      if (wanted === true && to.capabilities?.[capability] !== undefined)
        runtimeConfig[capability] = to.capabilities[capability];
    }
    const stdin = {
      ...plugin,
      name: this.list.name,
      cniVersion: this.list.cniVersion,
      ...(Object.keys(runtimeConfig).length > 0 && { runtimeConfig }),
      ...(prevResult !== undefined && { prevResult }),
    };
    const { capabilities: _, ...call } = to;
    return cni({ ...call, plugin: findPlugin(plugin.type, this.#path), command, path: this.#path, stdin });
  }

  /** ADD of each plugin in order. @throws {Error} at the first that fails. */
  add(to: Attachment): ResultDocument {
    let result: ResultDocument | undefined;
    for (const plugin of this.list.plugins) {
      const answer = this.#call(plugin, "ADD", to, result);
      if (answer.exit !== 0)
        throw new Error(`ADD of "${plugin.type}": ${answer.stdout.trim()} ${answer.stderr.trim()}`);
      result = answer.result;
    }
    this.#result = result;
    return result ?? {};
  }

  check(of: Attachment): CniAnswer[] {
    return this.list.plugins.map((plugin) => this.#call(plugin, "CHECK", of, this.#result));
  }

  /** DEL of each plugin, the last first; all of them, whatever the others answer. */
  del(of: Attachment): CniAnswer[] {
    return this.list.plugins.toReversed().map((plugin) => this.#call(plugin, "DEL", of, this.#result));
  }
}

/** @throws {Error} when no directory of `path` holds it. */
export function findPlugin(type: string, path: readonly string[]): string {
  const found = Bun.which(type, { PATH: path.join(":") });
  if (found === null) throw new Error(`no plugin "${type}" in ${path.join(":")}`);
  return found;
}

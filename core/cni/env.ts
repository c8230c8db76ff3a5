/** The environment of a CNI call, in and out. */
import {
  type ContainerId,
  type IfName,
  type NetnsPath,
  parseContainerId,
  parseIfName,
  parseNetnsPath,
  show,
} from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isPrintable } from "./document.ts";

/** `CNI_ARGS` by key, in the runtime's order; `IgnoreUnknown` is one of the keys. */
export type CniArgs = ReadonlyMap<string, string>;

interface Common {
  readonly args: CniArgs;
  /** The directories of `CNI_PATH`, absolute. */
  readonly path: readonly string[];
  /** `CNI_NETNS_OVERRIDE`: the pod's namespace may be our own. */
  readonly overrideNetnsCheck: boolean;
}

/** A call about one attachment. */
export type AttachmentInvocation = Common & {
  readonly containerId: ContainerId;
  readonly ifname: IfName;
} & (
    | { readonly command: "ADD" | "CHECK"; readonly netns: NetnsPath }
    | { readonly command: "DEL"; readonly netns?: NetnsPath }
  );
/** A call about the network as a whole. */
export type NetworkInvocation = Common & { readonly command: "GC" | "STATUS" | "VERSION" };
export type Invocation = AttachmentInvocation | NetworkInvocation;
export type Command = Invocation["command"];

type Environment = Readonly<Record<string, string | undefined>>;

const REQUIRED: Readonly<Record<Command, readonly string[]>> = {
  ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
  CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
  DEL: ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
  GC: ["CNI_PATH"],
  STATUS: ["CNI_PATH"],
  VERSION: [],
};

const isCommand = (text: string): text is Command => Object.hasOwn(REQUIRED, text);

function refuse(sentence: string, remedy: string): CniError {
  return new CniError(Code.InvalidEnvironment, `Cannot run: ${sentence}`, { remedy });
}

/**
 * Reads the environment of a CNI call. An empty variable counts as absent; on GC, STATUS and VERSION those of an
 * attachment are not looked at, since runtimes set them empty there.
 *
 * On DEL what is wrong with `CNI_ARGS` or `CNI_PATH` is passed over: a pod whose ADD was refused for it must still go.
 *
 * @throws {CniError} 4
 */
export function parseEnvironment(env: Environment): Invocation {
  const command = env.CNI_COMMAND ?? "";
  if (!isCommand(command)) {
    const found = command === "" ? "CNI_COMMAND is missing" : `unknown CNI_COMMAND: ${show(command)}`;
    throw refuse(found, `Set CNI_COMMAND to one of ${Object.keys(REQUIRED).join(", ")}`);
  }
  const missing = REQUIRED[command].filter((name) => (env[name] ?? "") === "");
  if (missing.length > 0) {
    throw refuse(
      `required env variables [${missing.join(",")}] missing`,
      `Set ${missing.join(", ")} as the CNI specification has it for ${command}`,
    );
  }
  const lenient = command === "DEL" || command === "VERSION";
  const common: Common = {
    args: parseCniArgs(env.CNI_ARGS ?? "", lenient),
    path: parsePath(env.CNI_PATH ?? "", lenient),
    overrideNetnsCheck: /^(1|true)$/i.test(env.CNI_NETNS_OVERRIDE ?? ""),
  };
  if (command === "GC" || command === "STATUS" || command === "VERSION") return { ...common, command };
  const containerId = parseContainerId(env.CNI_CONTAINERID ?? "");
  const ifname = parseIfName(env.CNI_IFNAME ?? "");
  const netns = env.CNI_NETNS ?? "";
  if (command === "DEL") {
    return { ...common, command, containerId, ifname, ...(netns === "" ? {} : { netns: parseNetnsPath(netns) }) };
  }
  return { ...common, command, containerId, ifname, netns: parseNetnsPath(netns) };
}

/**
 * Splits `K=V;K=V`. Strict, because tenants' names are joined into it: exactly one '=' an entry, no entry empty, no key
 * twice with two values, no control character.
 *
 * @param lenient Pass over entries that break a rule in place of failing.
 * @throws {CniError} 4
 */
export function parseCniArgs(text: string, lenient = false): CniArgs {
  const args = new Map<string, string>();
  if (text === "") return args;
  for (const entry of text.length > 65_536 ? ["(too long)"] : text.split(";")) {
    const [key = "", value, ...more] = entry.split("=");
    const fault =
      value === undefined || more.length > 0 || key === ""
        ? "expected KEY=VALUE"
        : !isPrintable(entry)
          ? "expected no control characters"
          : args.has(key) && args.get(key) !== value
            ? "expected each key once"
            : undefined;
    if (fault === undefined) args.set(key, value ?? "");
    else if (!lenient) {
      throw refuse(`CNI_ARGS: ${fault}, found ${show(entry)}`, "Correct what the runtime puts into CNI_ARGS");
    }
  }
  return args;
}

/** @throws {CniError} 4 for a key or value that could not be read back. */
export function formatCniArgs(args: CniArgs): string {
  const entries: string[] = [];
  for (const [key, value] of args) {
    if (key === "" || /[=;]/.test(key) || /[=;]/.test(value) || !isPrintable(key + value)) {
      throw refuse(`CNI_ARGS cannot carry ${show(`${key}=${value}`)}`, "Leave out ';', '=' and control characters");
    }
    entries.push(`${key}=${value}`);
  }
  return entries.join(";");
}

function parsePath(text: string, lenient: boolean): readonly string[] {
  const path: string[] = [];
  for (const entry of text.slice(0, 65_536).split(":")) {
    if (entry === "") continue;
    if (entry.startsWith("/") && isPrintable(entry)) path.push(entry);
    else if (!lenient) {
      throw refuse(
        `CNI_PATH: expected absolute directories joined by ':', found ${show(entry)}`,
        "Correct the runtime's directory of CNI plugins",
      );
    }
  }
  return path;
}

/**
 * The arguments that delegates get: the pod's, in the order that IPAM plugins in the field expect, then whatever else
 * the runtime gave, then the requests of this attachment.
 *
 * @param requests `MAC` and `IP` of the selection. Deprecated by CNI and still read by plugins.
 */
export function delegateArgs(runtime: CniArgs, requests: { mac?: string; ips?: readonly string[] } = {}): CniArgs {
  const args = new Map<string, string>([["IgnoreUnknown", "true"]]);
  for (const key of ["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"]) {
    const value = runtime.get(key);
    if (value !== undefined) args.set(key, value);
  }
  for (const [key, value] of runtime) if (!args.has(key)) args.set(key, value);
  if (requests.mac !== undefined) args.set("MAC", requests.mac);
  if (requests.ips !== undefined && requests.ips.length > 0) args.set("IP", requests.ips.join(","));
  return args;
}

export interface DelegateCall {
  readonly command: Command;
  readonly containerId?: string;
  readonly netns?: string;
  readonly ifname?: string;
  readonly args?: CniArgs;
  readonly path: readonly string[];
}

/**
 * The environment of a CNI binary: the runtime's, less what would change how a program is loaded or run and what is not
 * printable, plus the CNI variables. Variables of an attachment that the command does not have are present and empty,
 * as libcni leaves them.
 */
export function delegateEnvironment(env: Environment, call: DelegateCall): Record<string, string> {
  const out: Record<string, string> = {};
  for (const [name, value] of Object.entries(env)) {
    if (value !== undefined && mayPass(name) && isPrintable(name) && isPrintable(value)) out[name] = value;
  }
  out.CNI_COMMAND = call.command;
  out.CNI_CONTAINERID = call.containerId ?? "";
  out.CNI_NETNS = call.netns ?? "";
  out.CNI_IFNAME = call.ifname ?? "";
  out.CNI_ARGS = formatCniArgs(call.args ?? new Map());
  out.CNI_PATH = call.path.join(":");
  return out;
}

function mayPass(name: string): boolean {
  if (name === "GCONV_PATH") return false;
  for (const prefix of ["LD_", "GLIBC_", "NODE_", "BUN_"]) if (name.startsWith(prefix)) return false;
  return true;
}

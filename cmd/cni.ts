/** One CNI call: which plugin we are, which command, and what goes to stdout. */

import { addPod } from "../core/attach/add.ts";
import { BuiltIns } from "../core/attach/built-ins.ts";
import { checkCall } from "../core/attach/check.ts";
import { deleteCall } from "../core/attach/delete.ts";
import { collectGarbage } from "../core/attach/gc.ts";
import { Node } from "../core/attach/node.ts";
import { Operation, withId } from "../core/attach/operation.ts";
import { addSingle } from "../core/attach/single.ts";
import { statusOfNetwork, statusOfPods } from "../core/attach/status.ts";
import { CniError, Code } from "../core/base/error.ts";
import { isObject, type Json, type JsonObject, member } from "../core/base/json.ts";
import { type Invocation, parseEnvironment } from "../core/cni/env.ts";
import { parseNetworkList, typeOf } from "../core/cni/list.ts";
import { knownVersion, NEWEST } from "../core/cni/version.ts";
import { type AuthorAbove, authorAbove } from "../core/delegate/author.ts";
import { ipams } from "../core/ipam/ipams.ts";
import { nameOfConf, parseMetaConf } from "../core/plan/conf.ts";
import { deadlineIn } from "../core/sys/clock.ts";
import type { Stop } from "../core/sys/stop.ts";
import { embedded } from "./embedded.ts";
import { parseConf, validAttachments } from "./input.ts";
import { runIpamPlugin } from "./ipam.ts";
import { logTo } from "./log.ts";
import { readPolicy } from "./policy.ts";

/** The process reads and writes by these; they come with what needs them. */
export { readBounded, writeText } from "../core/sys/files.ts";
export { takeLog } from "./log.ts";

export interface Process {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** `argv[0]`: the name of the link that we were started by. */
  readonly startedAs: string;
  readInput(): Uint8Array;
  /** Of a process that stays when the operation is over. */
  readonly worker?: {
    /** Asks this operation to end. */
    readonly stop: Stop;
    /** Gets what the operation holds. */
    readonly resources: DisposableStack;
  };
}

const META = "patchbay";
/** For a whole operation of a built-in that is called by its own name, which has no key for it. */
const SINGLE_TIMEOUT_MS = 100_000;

/** What the process is to print and to end with. */
export interface Answer {
  readonly exit: 0 | 1;
  /** The one JSON document for stdout; absent for none. */
  readonly document?: JsonObject;
}

/**
 * Runs the call; whatever goes wrong is in the answer, in the version of the configuration.
 *
 * @param builtIns Of the process, which runs this call alone or, as a worker, many.
 */
export function runCni(process: Process, builtIns = carriedBuiltIns()): Answer {
  let version: string = NEWEST;
  try {
    const invocation = parseEnvironment(process.environment);
    const doc = parseConf(process.readInput(), invocation.command);
    version = versionOf(doc);
    const document = run(process, builtIns, invocation, doc);
    return { exit: 0, ...(document && { document }) };
  } catch (thrown) {
    return { exit: 1, document: { cniVersion: version, ...CniError.from(thrown).toJSON() } };
  }
}

/** The newest where the configuration's own cannot be told. */
function versionOf(doc: Json): string {
  const value = isObject(doc) ? member(doc, "cniVersion") : undefined;
  return (typeof value === "string" && knownVersion(value)) || NEWEST;
}

/** Those that the binary carries. */
export const carriedBuiltIns = (): BuiltIns => new BuiltIns(embedded, embedded.plugins);

function run(process: Process, builtIns: BuiltIns, invocation: Invocation, doc: Json): JsonObject | undefined {
  const type = whoAmI(process.startedAs, doc, builtIns);
  const above = authorAbove(process.environment);
  const node = new Node({ environment: process.environment, builtIns });
  if (ipams.has(type)) {
    process.worker?.resources.use(node);
    if (process.worker !== undefined) node.stop = process.worker.stop;
    return runIpamPlugin(type, invocation, doc, { above, node });
  }
  const operation = new Operation(invocation.command, node);
  node.log = logTo(process.environment, {
    operation: operation.id,
    ...("containerId" in invocation && { container: invocation.containerId }),
  });
  // A process that ends right after is rid of what it holds sooner than by our hands.
  process.worker?.resources.use(node);
  if (process.worker !== undefined) node.stop = process.worker.stop;
  else if (invocation.command === "ADD" || invocation.command === "DEL") node.installStop();
  let error: CniError | undefined;
  try {
    if (type !== META) return runSingle(invocation, type, doc, above, operation);
    if (above !== undefined) return refuseBelow(above, invocation);
    return runMeta(invocation, doc, operation);
  } catch (thrown) {
    error = CniError.from(thrown);
    node.log("error", error.message, error.cause);
    throw withId(error, operation.id);
  } finally {
    operation.finish({ ...subject(invocation, doc), error });
  }
}

/** The link's name where it is one of ours, else the configuration's `type`, else the meta-plugin. */
function whoAmI(startedAs: string, doc: Json, builtIns: BuiltIns): string {
  const isOurs = (name: string): boolean => builtIns.has(name) || ipams.has(name);
  const name = startedAs.slice(startedAs.lastIndexOf("/") + 1);
  if (isOurs(name)) return name;
  const type = isObject(doc) ? typeOf(doc) : "";
  return isOurs(type) ? type : META;
}

/** What the operations log says of the call. */
function subject(invocation: Invocation, doc: Json): { container?: string; pod?: string; network?: string } {
  const name = isObject(doc) ? member(doc, "name") : undefined;
  const pod = invocation.args.get("K8S_POD_NAME");
  return {
    ...("containerId" in invocation && { container: invocation.containerId }),
    ...(pod && { pod: `${invocation.args.get("K8S_POD_NAMESPACE")}/${pod}` }),
    ...(typeof name === "string" && { network: name }),
  };
}

/** As the meta-plugin we would take for the administrator's what a namespace wrote, the path of the policy too. */
function refuseBelow({ author }: AuthorAbove, { command }: Invocation): undefined {
  if (command === "DEL") return undefined; // nothing was made for it
  const who = "namespace" in author ? author.namespace : "";
  throw new CniError(Code.NotAllowed, `Cannot attach a pod for a plugin of a network of namespace "${who}"`, {
    remedy: "Let the plugin run the plugins that make interfaces, such as bridge or macvlan",
  });
}

function runMeta(invocation: Invocation, doc: Json, operation: Operation): JsonObject | undefined {
  const { node } = operation;
  if (invocation.command === "DEL") {
    configureLeniently(doc, node);
    deleteCall(invocation, { type: META, network: nameOfConf(doc) }, operation);
    return undefined;
  }
  const conf = parseMetaConf(doc);
  node.policy = readPolicy(conf.policyFile);
  node.policyFile = conf.policyFile;
  node.delegateTimeoutMs = conf.delegateTimeoutMs;
  node.deadlineMs = deadlineIn(conf.timeoutMs);
  operation.step("configuration");
  switch (invocation.command) {
    case "ADD":
      return addPod(invocation, conf, operation);
    case "CHECK":
      checkCall(invocation, { type: META, network: conf.name, version: conf.cniVersion }, operation);
      return undefined;
    case "STATUS":
      statusOfPods(invocation.path, conf, operation);
      return undefined;
    case "GC":
      collectGarbage(
        {
          network: conf.name,
          type: META,
          valid: conf.validAttachments,
          path: invocation.path,
          networks: [],
          author: { node: true },
        },
        operation,
      );
      return undefined;
    case "VERSION":
      return undefined; // answered before anything is loaded
  }
}

/** DEL works by the records: of the configuration it takes the times, and only when they can be read. */
function configureLeniently(doc: Json, node: Node): void {
  try {
    const conf = parseMetaConf(doc);
    node.delegateTimeoutMs = conf.delegateTimeoutMs;
    node.deadlineMs = deadlineIn(conf.timeoutMs);
    node.policyFile = conf.policyFile;
    node.policy = readPolicy(conf.policyFile);
  } catch (thrown) {
    node.log("warn", `the configuration cannot be used, DEL goes by the records: ${CniError.from(thrown).message}`);
  }
}

function runSingle(
  invocation: Invocation,
  type: string,
  doc: Json,
  above: AuthorAbove | undefined,
  operation: Operation,
): JsonObject | undefined {
  const { node } = operation;
  const author = above?.author ?? { node: true };
  node.deadlineMs = deadlineIn(SINGLE_TIMEOUT_MS);
  if (above?.policyFile !== undefined) {
    node.policyFile = above.policyFile;
    if (invocation.command !== "DEL") node.policy = readPolicy(above.policyFile);
  }
  switch (invocation.command) {
    case "ADD":
      return addSingle(invocation, type, doc, author, operation);
    case "DEL":
      deleteCall(invocation, { type, network: nameOfConf(doc), single: { doc, author } }, operation);
      return undefined;
    case "CHECK":
      checkCall(
        invocation,
        { type, network: nameOfConf(doc), version: parseNetworkList(doc).cniVersion, single: { doc, author } },
        operation,
      );
      return undefined;
    case "STATUS":
      statusOfNetwork(parseNetworkList(doc), invocation.path, author, operation);
      return undefined;
    case "GC": {
      const list = parseNetworkList(doc);
      const valid = validAttachments(doc);
      collectGarbage({ network: list.name, type, valid, path: invocation.path, networks: [list], author }, operation);
      return undefined;
    }
    case "VERSION":
      return undefined;
  }
}

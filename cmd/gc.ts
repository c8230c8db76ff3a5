/** `patchbay gc`: removes what belongs to no sandbox of the container runtime. */
import { existsSync, writeSync } from "node:fs";
import { BuiltIns } from "../core/attach/built-ins.ts";
import { Node } from "../core/attach/node.ts";
import { Operation } from "../core/attach/operation.ts";
import { findOrphans, type Orphan, removeOrphan } from "../core/attach/reconcile.ts";
import { CniError, Code } from "../core/base/error.ts";
import { embedded } from "./embedded.ts";
import { seconds, type Values } from "./options.ts";
import { table } from "./table.ts";

const SOCKETS = ["/run/containerd/containerd.sock", "/run/crio/crio.sock", "/run/k3s/containerd/containerd.sock"];
/** Two looks so far apart that a sandbox that is being made shows in the second. */
const INTERVAL_SECONDS = 60;

interface Outcome {
  readonly orphan: Orphan;
  readonly said: string;
  readonly failed: boolean;
}

export async function gc(values: Values): Promise<number> {
  const interval = seconds(values.interval, INTERVAL_SECONDS, "--interval");
  using builtIns = new BuiltIns(embedded, embedded.plugins);
  using node = new Node({ environment: process.env, builtIns });
  const operation = new Operation("gc", node);
  const outcomes = await collect(operation, values, interval);
  const earlier = node.store.foreign().filter((generation) => generation.earlierBoot);
  if (values["dry-run"] !== true) for (const generation of earlier) node.store.removeForeign(generation);
  operation.finish({ error: undefined });
  report(outcomes, values.json === true);
  return outcomes.some((outcome) => outcome.failed) ? 1 : 0;
}

async function collect(operation: Operation, values: Values, interval: number): Promise<Outcome[]> {
  const orphans = findOrphans(operation);
  const asks = orphans.some((orphan) => orphan.needsRuntime);
  const endpoint = asks ? endpointOf(values["runtime-endpoint"]) : undefined;
  const first = endpoint === undefined ? new Set<string>() : await sandboxes(endpoint);
  const suspects = orphans.filter((orphan) => !orphan.needsRuntime || !first.has(orphan.container));
  let second = first;
  if (endpoint !== undefined && suspects.some((orphan) => orphan.needsRuntime)) {
    await Bun.sleep(interval * 1000);
    second = await sandboxes(endpoint);
  }
  return orphans.map((orphan): Outcome => {
    const known = orphan.needsRuntime && (first.has(orphan.container) || second.has(orphan.container));
    if (known) return { orphan, said: "kept: the runtime knows the sandbox", failed: false };
    if (values["dry-run"] === true) return { orphan, said: "would be removed", failed: false };
    const failures = removeOrphan(orphan.container, operation);
    if (failures.length === 0) return { orphan, said: "removed", failed: false };
    return { orphan, said: `failed: ${failures.map((f) => `${f.message}; ${f.remedy}`).join("; ")}`, failed: true };
  });
}

/** @throws {CniError} 7 when no runtime can be asked: its silence is no evidence. */
function endpointOf(option: string | boolean | undefined): string {
  if (typeof option === "string") return option.replace(/^unix:\/\//, "");
  const found = SOCKETS.find((socket) => existsSync(socket));
  if (found !== undefined) return found;
  throw new CniError(Code.InvalidConfig, "Cannot ask the container runtime for its sandboxes: no socket was found", {
    remedy: "Name it with --runtime-endpoint unix:///path/to/the.sock",
  });
}

async function sandboxes(socket: string): Promise<Set<string>> {
  const { openCri } = await import("../core/cri/client.ts");
  using runtime = openCri(socket);
  const list = await runtime.listPodSandbox();
  return new Set(list.map((sandbox) => sandbox.id));
}

function report(outcomes: readonly Outcome[], json: boolean): void {
  if (json) {
    const list = outcomes.map(({ orphan, said, failed }) => ({ ...orphan, outcome: said, failed }));
    writeSync(1, `${JSON.stringify(list, null, 2)}\n`);
  } else if (outcomes.length === 0) writeSync(1, "Nothing to remove\n");
  else
    writeSync(
      1,
      table(
        ["CONTAINER", "WHAT", "OUTCOME"],
        outcomes.map((o) => [o.orphan.container.slice(0, 13), o.orphan.label, o.said]),
      ),
    );
}

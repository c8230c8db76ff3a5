/** One CNI call from its beginning to its end: its id, the container's lock, what is told of it afterwards. */
import type { ContainerId } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { isHeldAbove } from "../delegate/held.ts";
import type { ContainerState } from "../state/container.ts";
import type { Holder } from "../state/holder.ts";
import { isAlive, ownProcessId } from "../sys/child.ts";
import { deadlineIn, monotonicMs } from "../sys/clock.ts";
import type { Node } from "./node.ts";

/** How long a live ADD is given to undo itself when a DEL of the same container has come. */
const UNDO_GRACE_MS = 10_000;
/** A container whose lock is held for longer than this is at work. */
const FREE_MS = 50;
const SIGTERM = 15;
const SIGKILL = 9;

export class Operation {
  /** Eight hexadecimal digits, in each error that a pod's owner sees and in the operations log. */
  readonly id: string = [...crypto.getRandomValues(new Uint8Array(4))]
    .map((b) => b.toString(16).padStart(2, "0"))
    .join("");
  readonly command: string;
  readonly node: Node;
  readonly #startMs = monotonicMs();
  readonly #steps: Record<string, number> = {};
  #lastMs = this.#startMs;

  constructor(command: string, node: Node) {
    this.command = command;
    this.node = node;
  }

  /** Ends a step of the operation, for the log: the time since the last one. */
  step(name: string): void {
    const now = monotonicMs();
    this.#steps[name] = round((this.#steps[name] ?? 0) + now - this.#lastMs);
    this.#lastMs = now;
  }

  /** Appends the operation to the log. It never fails. */
  finish(outcome: { container?: string; pod?: string; network?: string; error?: CniError | undefined }): void {
    const { container, pod, network, error } = outcome;
    this.node.store.log.append({
      time: new Date().toISOString(),
      id: this.id,
      operation: this.command,
      ...(container && { container }),
      ...(pod && { pod }),
      ...(network && { network }),
      outcome: error === undefined ? "ok" : "error",
      ...(error && { code: error.code, error: error.message.slice(0, 1000) }),
      ms: round(monotonicMs() - this.#startMs),
      steps: this.#steps,
    });
  }

  /**
   * Takes the container's lock. A DEL asks a live ADD to undo itself, and ends it when it does not.
   *
   * @returns `undefined` when nothing is known of the container and `create` is false.
   * @throws {CniError} 104 when another operation is still at it at the deadline.
   */
  lock(id: ContainerId, create: boolean): ContainerState | undefined {
    const { node } = this;
    return node.store.container(id, {
      create,
      deadlineMs: node.deadlineMs,
      as: this.#holder(),
      held: isHeldAbove(node.environment, id),
      ...(this.command === "DEL" && { onBusy: yieldTo() }),
    });
  }

  /** The lock of a container that nobody is working on; `undefined` when somebody is, or nothing is known of it. */
  lockIfFree(id: ContainerId): ContainerState | undefined {
    try {
      return this.node.store.container(id, { create: false, deadlineMs: deadlineIn(FREE_MS), as: this.#holder() });
    } catch (thrown) {
      if (thrown instanceof CniError && thrown.code === Code.Busy) return undefined;
      throw thrown;
    }
  }

  #holder(): Holder {
    return { ...ownProcessId(), command: this.command, operation: this.id };
  }
}

const round = (ms: number): number => Math.round(ms * 100) / 100;

/**
 * What DEL does about the operation that holds its lock, asked about ten times a second. Its process alone is ended: the
 * group is the container runtime's, and delegates are in groups of their own, which the journal names.
 */
function yieldTo(): (holder: Holder) => void {
  let asked: { readonly pid: number; readonly untilMs: number } | undefined;
  return (holder) => {
    if (holder.command !== "ADD" || !isAlive(holder)) return;
    if (asked?.pid !== holder.pid) {
      signal(holder.pid, SIGTERM);
      asked = { pid: holder.pid, untilMs: deadlineIn(UNDO_GRACE_MS) };
    } else if (monotonicMs() > asked.untilMs) signal(holder.pid, SIGKILL);
  };
}

function signal(pid: number, number: number): void {
  try {
    process.kill(pid, number);
  } catch {
    // It has ended since we looked, and the lock with it.
  }
}

/** Puts the operation's id at the end of an error that a pod's owner sees. */
export function withId(error: CniError, id: string): CniError {
  return new CniError(error.code || Code.Internal, error.message, {
    remedy: `${error.remedy}${error.remedy === "" ? "" : " "}(operation ${id})`,
    cause: error.cause,
  });
}

/** One plugin invocation inside an attachment: a guest in the sandbox or a CNI binary. */
import type { CniArgs } from "../cni/env.ts";
import type { NetConf, Result } from "../cni/types.ts";
import type { AttachmentContext } from "./node.ts";

export type Command = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS";

/** Where and for whom a delegate runs; the same for all of an attachment's delegates. On GC and STATUS it is nobody. */
export interface Target {
  readonly containerId: string;
  readonly ifname: string;
  /** Path of the pod's network namespace, empty when it is gone or the command has none. */
  readonly netns: string;
  readonly args: CniArgs;
  /** The runtime's CNI_PATH. */
  readonly path: readonly string[];
}

export interface DelegateCall {
  readonly command: Command;
  readonly target: Target;
  /** Index in the network's plugins, by which the journal keeps what this delegate did. */
  readonly plugin: number;
  /** The complete plugin object, as `deriveRequest()` made it. */
  readonly conf: NetConf;
}

export interface Delegate {
  readonly type: string;
  /** A guest whose journal undoes it, a guest that asked to be run on DEL, or a CNI binary. */
  readonly how: "guest" | "guest-undo" | "binary";
  /** Of a guest's module, hexadecimal. */
  readonly sha256?: string;
  /** Every CNI version it takes. */
  versions(): readonly string[];
  /**
   * Runs one command to its end.
   *
   * @returns The result of an ADD, in the internal form; nothing for the other commands.
   * @throws {CniError} The delegate's own error with its code, or ours: not found, timed out, bad answer.
   */
  run(call: DelegateCall, context: AttachmentContext): Result | undefined;
}

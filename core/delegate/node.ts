/** What delegates work with: of the node, for a whole operation, and of one attachment. */
import type { ContainerId, IfName, NetworkName } from "../base/brand.ts";
import type { Engine, Module } from "../engine/engine.ts";
import type { JournalSink } from "../host/context.ts";
import type { DeviceNode } from "../host/device-find.ts";
import type { GarbageQuestion } from "../ipam/ipam.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { Manifest } from "../policy/manifest.ts";
import type { Author, Policy } from "../policy/policy.ts";
import type { Journal } from "../state/journal.ts";
import type { LeaseBackend } from "../state/leases.ts";
import type { Store } from "../state/store.ts";
import type { Stop } from "../sys/stop.ts";

/** A plugin that the binary carries. */
export interface BuiltIn {
  readonly manifest: Manifest;
  /** Of the module, hexadecimal. */
  readonly sha256: string;
  /** The compiled code; read when the plugin is first called. */
  artifact(): Uint8Array;
}

/** What CNI binaries answered to VERSION, by the identity of their files. */
export interface VersionCache {
  get(identity: string): readonly string[] | undefined;
  put(identity: string, versions: readonly string[]): void;
}

export interface DelegateNode {
  readonly store: Store;
  /** The kernel of our own network namespace. */
  host(): Kernel;
  /** For what borrows devices. */
  devices(): DeviceNode;
  builtIn(type: string): BuiltIn | undefined;
  /** Loads the library on first use: an operation without a guest never does. */
  engine(): Engine;
  module(plugin: BuiltIn): Module;
  readonly policy: Policy;
  /** Where the policy was read, for processes below this one. */
  readonly policyFile?: string | undefined;
  /** The environment we were started with. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly delegateTimeoutMs: number;
  /** A point on the monotonic clock at which the whole operation must have ended. */
  readonly deadlineMs: number;
  readonly stop: Stop | undefined;
  readonly versions: VersionCache;
  log(level: "debug" | "info" | "warn" | "error", message: string, cause?: unknown): void;
}

/** One attachment, or a network as a whole on GC and STATUS. */
export interface AttachmentContext {
  readonly node: DelegateNode;
  readonly network: NetworkName;
  /** Absent on GC and STATUS. */
  readonly identity?: { readonly container: ContainerId; readonly ifname: IfName };
  /** Who wrote the configuration; the policy trusts a file of the node more than a namespace. */
  readonly author: Author;
  /** What may run was decided on ADD: a policy that has become narrower since must not keep the rest from going. */
  readonly settled?: true;
  /** The pod's namespace by its kernel; absent when it is gone, or the command has none. */
  readonly pod?: Kernel;
  readonly journal?: Journal;
  /** On the DEL of an attachment that was made before a reboot: what is left of its journal. */
  readonly notes?: JournalSink;
  /** Where the addresses of an attachment are that another program made. */
  readonly leases?: LeaseBackend;
  /** On GC: what of this network stays. */
  readonly gc?: GarbageQuestion;
}

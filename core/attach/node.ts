/** The node that an operation works on: everything outside the process, opened when it is first needed. */
import type { NetnsPath } from "../base/brand.ts";
import type { BuiltIn, DelegateNode, VersionCache } from "../delegate/node.ts";
import type { Engine, Module } from "../engine/engine.ts";
import type { DeviceNode } from "../host/device-find.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { openKernel } from "../kernel/real.ts";
import { openPolicy, type Policy } from "../policy/policy.ts";
import { Store } from "../state/store.ts";
import { buses } from "../sys/buses.ts";
import { bootId, deadlineIn } from "../sys/clock.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { findNetns, openRecorded } from "../sys/find-netns.ts";
import { Netns } from "../sys/netns.ts";
import { type Stop, StopSignal } from "../sys/stop.ts";
import type { BuiltIns } from "./built-ins.ts";
import { referenceUser } from "./reference-devices.ts";
import { fileVersionCache } from "./version-cache.ts";

/** What an undo may take at the least, however little of the operation's time is left. */
const UNDO_MS = 30_000;

export interface NodeOptions {
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** Outlive the node: a worker has one for all its operations. */
  readonly builtIns: BuiltIns;
  /** `/run/patchbay` and `/var/lib/patchbay` unless told. */
  readonly runDir?: string | undefined;
  readonly libDir?: string | undefined;
}

/** The pod's network namespace, open and checked. */
export interface PodNetns extends Disposable {
  /** Empty when only processes lead to it. */
  readonly path: string;
  /** Decimal digits. */
  readonly cookie: string;
  readonly kernel: Kernel;
}

/** Levels as operators know them; where lines go is the process's to say. */
export type Log = DelegateNode["log"];

export class Node implements DelegateNode, Disposable {
  readonly environment: NodeOptions["environment"];
  readonly versions: VersionCache;
  policy: Policy = openPolicy;
  policyFile: string | undefined;
  delegateTimeoutMs = 30_000;
  deadlineMs = deadlineIn(100_000);
  stop: Stop | undefined;
  log: Log = () => {};
  readonly #options: NodeOptions;
  readonly #stack = new DisposableStack();
  #own: Netns | undefined;
  #host: Kernel | undefined;
  #store: Store | undefined;

  constructor(options: NodeOptions) {
    this.environment = options.environment;
    this.#options = options;
    this.versions = fileVersionCache(() => this.store.path);
  }

  /** Notices SIGTERM and SIGINT from here on in place of ending at once, so that an ADD can be undone. */
  installStop(): void {
    this.stop ??= StopSignal.install();
  }

  /** From here on the operation undoes what it did: the signal that led to it no longer counts, and it has time. */
  beginUndo(): void {
    this.stop = undefined;
    this.deadlineMs = Math.max(this.deadlineMs, deadlineIn(UNDO_MS));
  }

  get ownNetns(): Netns {
    this.#own ??= this.#stack.use(Netns.current());
    return this.#own;
  }

  get store(): Store {
    this.#store ??= this.#stack.use(
      Store.open({
        netnsCookie: this.ownNetns.cookie,
        bootId: bootId(),
        ...(this.#options.runDir && { runDir: this.#options.runDir }),
        ...(this.#options.libDir && { libDir: this.#options.libDir }),
      }),
    );
    return this.#store;
  }

  host(): Kernel {
    this.#host ??= this.#stack.use(openKernel(this.ownNetns, { host: true }));
    return this.#host;
  }

  /**
   * Opens a pod's network namespace.
   *
   * @returns `undefined` when there is none at the path any more.
   * @throws {CniError} 8 when the path is something else.
   */
  openPod(path: NetnsPath): PodNetns | undefined {
    let netns: Netns;
    try {
      netns = Netns.open(path);
    } catch (thrown) {
      if (isErrno(thrown, Errno.ENOENT, Errno.ENOTDIR, Errno.ESRCH)) return undefined;
      throw thrown;
    }
    return asPod(netns, path);
  }

  /** A pod's network namespace by the processes that are in it, when its path is gone; delegates get no path. */
  findPod(cookie: string): PodNetns | undefined {
    const netns = findNetns(cookie);
    return netns && asPod(netns, "");
  }

  devices(): DeviceNode {
    return {
      host: this.host(),
      records: this.store.devices,
      buses,
      openPod(netns) {
        const found = openRecorded(netns);
        return found && asPod(found, netns.path);
      },
      referenceUser,
      log: (level, message) => this.log(level, message),
    };
  }

  builtIn(type: string): BuiltIn | undefined {
    return this.#options.builtIns.get(type);
  }

  engine(): Engine {
    return this.#options.builtIns.engine();
  }

  module(plugin: BuiltIn): Module {
    return this.#options.builtIns.module(plugin);
  }

  [Symbol.dispose](): void {
    this.#stack[Symbol.dispose]();
  }
}

/** @param netns Becomes the answer's own. */
export function asPod(netns: Netns, path: string): PodNetns {
  const kernel = openKernel(netns);
  return {
    path,
    cookie: String(netns.cookie),
    kernel,
    [Symbol.dispose]() {
      kernel[Symbol.dispose]();
      netns[Symbol.dispose]();
    },
  };
}

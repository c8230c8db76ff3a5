/** A node of the test's own on the real kernel, with pods that the built-in plugins' modules attach. */
import { parseNetnsPath } from "../../core/base/brand.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";
import { nodeNetns, TestNetns } from "./netns.ts";
import { PluginPod } from "./plugin.ts";

/** A node with pods; each attachment has a journal of its own. */
export class PluginNode implements Disposable {
  readonly #stack = new DisposableStack();
  readonly ns = this.#stack.use(nodeNetns("node"));
  readonly kernel = this.#open(this.ns, true);

  #open(ns: TestNetns, host: boolean): Kernel {
    return this.#stack.use(openKernel(this.#stack.use(Netns.open(parseNetnsPath(ns.path))), { host }));
  }

  pod(): NetnsPod {
    const ns = this.#stack.use(TestNetns.create("pod"));
    return new NetnsPod(this, ns, this.#open(ns, false));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

export class NetnsPod extends PluginPod {
  readonly ns: TestNetns;

  constructor(node: PluginNode, ns: TestNetns, kernel: Kernel) {
    super(node.kernel, kernel);
    this.ns = ns;
  }
}

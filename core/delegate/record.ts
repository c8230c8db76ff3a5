/** What is written down of a delegate before it runs. */
import { formatCniArgs } from "../cni/env.ts";
import type { NetConf } from "../cni/types.ts";
import type { Author } from "../policy/policy.ts";
import type { Journal } from "../state/journal.ts";
import type { Delegate, Target } from "./delegate.ts";
import type { AttachmentContext } from "./node.ts";

export interface DelegateIntent {
  readonly plugin: number;
  readonly type: string;
  readonly how: Delegate["how"] | "ipam";
  readonly conf: NetConf;
  readonly sha256?: string | undefined;
}

/**
 * Writes down a delegate that is about to run; for one whose own DEL has to run, on the disk too, and as an undo step.
 *
 * @throws {CniError} 5
 */
export function intendDelegate(
  intent: DelegateIntent,
  target: Target,
  context: Pick<AttachmentContext, "node"> & { readonly journal: Journal },
): void {
  const { journal, node } = context;
  const { plugin, type, conf } = intent;
  const durable = intent.how !== "guest";
  // Of a module that the host undoes nobody asks again which one it was.
  const sha256 = durable ? intent.sha256 : undefined;
  const how = intent.how === "guest-undo" ? "guest" : intent.how;
  journal.append({ is: "delegate", plugin, type, how, ...(sha256 && { sha256 }), config: conf, durable });
  if (!durable) return;
  journal.intend({ do: "delegate", plugin });
  const { header } = journal;
  node.store.durable.put({
    ...recordId(journal, plugin),
    network: header.network,
    ifname: header.ifname,
    type,
    how,
    ...(sha256 && { sha256 }),
    netns: header.netns.path,
    config: conf,
    args: formatCniArgs(target.args),
    path: target.path.join(":"),
    ...(header.author && { author: header.author }),
    ...(header.pod && { pod: header.pod }),
  });
}

/** Who wrote what was recorded, and that what may run was decided when it was. */
export function settledAuthor(of: { readonly author?: Author }): Pick<AttachmentContext, "author" | "settled"> {
  return { author: of.author ?? { node: true }, settled: true };
}

export function recordId(journal: Journal, plugin: number): { container: string; key: string; plugin: number } {
  return { container: journal.header.container, key: journal.key, plugin };
}

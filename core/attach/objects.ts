/** What belongs to a network on this node, when an attachment has no more use for it. */
import { CniError, Code } from "../base/error.ts";
import { Firewalld } from "../dbus/firewalld.ts";
import type { DelegateNode } from "../delegate/node.ts";
import { unisolate } from "../kernel/isolation.ts";
import type { AttachmentRef } from "../state/networks.ts";

/** How what is of a kind is taken away; a kind that is not here is a link's. */
const removers: Readonly<Record<string, (name: string, node: DelegateNode) => void>> = {
  isolation: (name, node) => unisolate(node.host(), name),
  firewalld: (name, node) => {
    const [zone = "", source = ""] = name.split(" ");
    using firewalld = openFirewalld(node);
    firewalld?.removeSource(zone, source);
  },
};

/** @throws {CniError} 11 when it runs and does not answer. */
export function openFirewalld(node: DelegateNode): Firewalld | undefined {
  try {
    return Firewalld.open(node.environment.DBUS_SYSTEM_BUS_ADDRESS);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(Code.TryAgainLater, `Cannot ask firewalld: ${why}`, { remedy: "Look at its log", cause });
  }
}

function removeLink(kind: string, name: string, node: DelegateNode): void {
  const link = node.host().linkByName(name);
  if (link?.kind === kind) node.host().deleteLink(link.index);
}

/** Without its last attachment an object stays, unless the plugin that made it said otherwise. */
export function leaveObject(
  { kind, name }: { readonly kind: string; readonly name: string },
  ref: AttachmentRef,
  node: DelegateNode,
): void {
  const { networks } = node.store;
  networks.leave(kind, name, ref);
  const { facts } = networks.find(kind, name) ?? {};
  const remove = Object.hasOwn(removers, kind) ? removers[kind] : undefined;
  if (facts?.keep !== false) return;
  if (facts.made === true)
    networks.forget(kind, name, () => (remove ? remove(name, node) : removeLink(kind, name, node)));
  else if (remove !== undefined) networks.forget(kind, name, () => {}); // another's: what we know of it is of no use
}

/**
 * Removes what belongs to no sandbox: the namespace is gone, and the container runtime does not know the container,
 * asked twice. A live namespace is never touched.
 */
import type { ContainerId } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import type { Journal } from "../state/journal.ts";
import { deleteJournals, deleteOrphanRecords } from "./delete.ts";
import type { Operation } from "./operation.ts";
import { isAlive, openPodOf } from "./pod.ts";

/** A container with nothing left in the kernel that could use what it has. */
export interface Orphan {
  readonly container: ContainerId;
  /** Made for a pod of Kubernetes, so the runtime has to be asked; for others the namespace alone decides. */
  readonly needsRuntime: boolean;
  /** What people know it by: pod, networks. */
  readonly label: string;
}

/** Containers whose namespace has gone and at which nobody is working now. */
export function findOrphans(operation: Operation): readonly Orphan[] {
  const { node } = operation;
  const orphans: Orphan[] = [];
  node.store.durable.sweep();
  node.store.dhcp.sweep();
  for (const container of node.store.containers()) {
    using state = operation.lockIfFree(container);
    if (state === undefined) continue;
    const journals = state.attachments();
    if (journals.some((journal) => isAlive(journal, node))) continue;
    if (state.damaged.length > 0) continue; // nobody can tell whether its namespace lives: left for DEL
    orphans.push({
      container,
      needsRuntime: journals.some(({ header }) => header.pod?.uid !== undefined),
      label: describe(journals),
    });
  }
  const known = new Set(node.store.containers());
  for (const record of node.store.durable.list()) {
    const container = record.container as ContainerId;
    if (!record.earlierBoot || known.has(container)) continue;
    known.add(container);
    const { pod, network, ifname } = record;
    orphans.push({
      container,
      needsRuntime: pod?.uid !== undefined,
      label: `${pod === undefined ? "" : `${pod.namespace}/${pod.name} `}${ifname}=${network} (before the last reboot)`,
    });
  }
  for (const { container, network, ifname, journal, earlierBoot, netns } of node.store.dhcp.list()) {
    if (known.has(container as ContainerId)) continue;
    // Of a journal that is there, the journal decides; a CNI binary's lease has none.
    using pod = earlierBoot ? undefined : openPodOf(netns);
    if (pod !== undefined) continue;
    known.add(container as ContainerId);
    const label = `${ifname}=${network} (a DHCP lease${journal ? " that was left behind" : ""})`;
    orphans.push({ container: container as ContainerId, needsRuntime: false, label });
  }
  for (const { owner, key, earlierBoot } of node.store.devices.list()) {
    const container = owner.container as ContainerId;
    if (known.has(container)) continue;
    using pod = earlierBoot ? undefined : openPodOf(owner.netns);
    if (pod !== undefined) continue;
    known.add(container);
    const label = `${owner.ifname}=${owner.network} (the device "${key}" that was left behind)`;
    orphans.push({ container, needsRuntime: false, label });
  }
  return orphans;
}

function describe(journals: readonly Journal[]): string {
  const pod = journals[0]?.header.pod;
  const networks = journals.map(({ header }) => `${header.ifname}=${header.label}`).join(" ");
  return `${pod === undefined ? "" : `${pod.namespace}/${pod.name} `}${networks}`.trim() || "(nothing was made)";
}

/**
 * Removes one orphan, if it still is one.
 *
 * @returns What failed, or keeps it; its records stay for the next time.
 */
export function removeOrphan(container: ContainerId, operation: Operation): readonly CniError[] {
  const { node } = operation;
  using state = operation.lockIfFree(container);
  if (state === undefined && node.store.containers().includes(container))
    return [kept(container, "is being worked on")];
  const journals = state?.attachments() ?? [];
  if (journals.some((journal) => isAlive(journal, node))) return [kept(container, "lives again")];
  const path = (node.environment.CNI_PATH ?? "").split(":").filter((directory) => directory !== "");
  const failures = [...deleteJournals(journals, { path }, operation)];
  failures.push(
    ...deleteOrphanRecords(
      container,
      journals.filter((j) => !j.removed),
      node,
    ),
  );
  return failures;
}

function kept(container: ContainerId, why: string): CniError {
  return new CniError(Code.Busy, `Cannot remove what container "${container}" has: it ${why}`, {
    remedy: "Nothing has to be done, unless it stays so",
  });
}

/** The default route of the pod goes to the network that the annotation chose: done in the pod, then read back. */
import { CniError, Code } from "../base/error.ts";
import { contains, formatIp, type Ip, networkOf, parseIp } from "../base/ip.ts";
import type { Result } from "../cni/types.ts";
import type { Kernel, Route } from "../kernel/kernel.ts";
import { type DefaultRoutes, editDefaultRoutes, strippedFamilies } from "../plan/plan.ts";

/** An attachment whose default routes the plan may change; index -1 is that of a provider before us in the list. */
export interface Routed {
  readonly index: number;
  readonly label: string;
  readonly ifname: string;
  readonly result: Result;
}

const MAIN = 254;
const FAMILIES = [4, 6] as const;

/**
 * Takes the default routes from those who must not have them, then gives them to the one who must.
 *
 * @returns The results with the same edits, by index.
 * @throws {CniError} 123 when the pod's routes are not as planned afterwards.
 */
export function moveDefaultRoutes(
  routes: DefaultRoutes,
  attachments: readonly Routed[],
  pod: Kernel,
): Map<number, Result> {
  const results = new Map<number, Result>();
  const edits = attachments.map((a) => ({ attachment: a, edit: editDefaultRoutes(routes, a.index, a.result) }));
  for (const { attachment, edit } of edits) results.set(attachment.index, edit.result);
  if (routes[4] === undefined && routes[6] === undefined) return results;
  for (const { attachment } of edits) {
    for (const family of strippedFamilies(routes, attachment.index)) {
      for (const route of defaultRoutes(pod, attachment, family)) pod.deleteRoute(route);
    }
  }
  for (const { attachment, edit } of edits) {
    for (const { gw } of edit.add) {
      const gateway = gw === undefined ? undefined : parseIp(gw);
      if (gateway !== undefined) addDefault(pod, attachment, gateway);
    }
  }
  verify(routes, attachments, pod);
  return results;
}

function addDefault(pod: Kernel, attachment: Routed, gateway: Ip): void {
  const link = pod.linkByName(attachment.ifname);
  if (link === undefined) throw missing(attachment);
  const route: Route = { family: gateway.family, gateway, index: link.index };
  try {
    try {
      pod.addRoute(route);
    } catch (thrown) {
      // A plugin may have taken the route to the gateway's subnet out of the main table: the gateway is there still.
      const near = pod.addresses(link.index).some(({ address }) => contains(networkOf(address), gateway));
      if (!near) throw thrown;
      pod.addRoute({ ...route, onlink: true });
    }
  } catch (cause) {
    throw new CniError(
      Code.Kernel,
      `Cannot give the pod the default route by "${formatIp(gateway)}" on "${attachment.ifname}": ${cause instanceof Error ? cause.message : cause}`,
      { remedy: `Choose a gateway that network "${attachment.label}" reaches`, cause },
    );
  }
}

function defaultRoutes(pod: Kernel, attachment: Routed, family: 4 | 6): Route[] {
  const names = new Set([attachment.ifname]);
  for (const link of attachment.result.interfaces) if (link.sandbox !== undefined) names.add(link.name);
  return [...names].flatMap((name) => {
    const link = pod.linkByName(name);
    if (link === undefined) return [];
    const all = pod.routes({ index: link.index, family });
    return all.filter((r) => (r.dst === undefined || r.dst.prefix === 0) && (r.table ?? MAIN) === MAIN);
  });
}

function missing(attachment: Routed): CniError {
  return new CniError(
    Code.Kernel,
    `Cannot find interface "${attachment.ifname}" of network "${attachment.label}" in the pod`,
    { remedy: "Look at what the network's plugins made in the pod" },
  );
}

/** The widely used program in this place reported success while the pod kept its routes: so look. */
function verify(routes: DefaultRoutes, attachments: readonly Routed[], pod: Kernel): void {
  for (const attachment of attachments) {
    for (const family of FAMILIES) {
      const chosen = routes[family];
      if (chosen === undefined) continue;
      const left = defaultRoutes(pod, attachment, family);
      const wanted = chosen.owner === attachment.index;
      const good =
        !wanted || chosen.gateway === undefined
          ? wanted || left.length === 0
          : left.some((r) => r.gateway !== undefined && formatIp(r.gateway) === chosen.gateway);
      if (good) continue;
      throw new CniError(
        Code.Kernel,
        `Cannot move the pod's IPv${family} default route: "${attachment.ifname}" ${wanted ? "has not got it" : "still has one"}`,
        { remedy: "Report this with the output of ip route in the pod" },
      );
    }
  }
}

/** Pods that Multus attached before us: its own cache says which delegates they have, and their DEL is ours to run. */
import { show } from "../base/brand.ts";
import { CniError } from "../base/error.ts";
import { type AttachmentInvocation, delegateArgs } from "../cni/env.ts";
import { typeOf } from "../cni/list.ts";
import { deriveRequest } from "../cni/request.ts";
import { chooseVersion } from "../cni/version.ts";
import { binaryDelegate } from "../delegate/binary.ts";
import { type FormerDelegate, readMultusCache } from "../source/former.ts";
import { unlink } from "../sys/files.ts";
import type { Node } from "./node.ts";

type DeleteInvocation = Extract<AttachmentInvocation, { command: "DEL" }>;

/** @returns What failed; then Multus's record stays for the retry. Nothing when there is no such record. */
export function takeOver(invocation: DeleteInvocation, node: Node): readonly CniError[] {
  const pod = readMultusCache(invocation.containerId, invocation.ifname);
  if (pod === undefined) return [];
  const failures: CniError[] = [];
  for (const delegate of pod.delegates.toReversed()) {
    try {
      deleteFormer(delegate, invocation, node);
      if (delegate.cached !== undefined) unlink(delegate.cached.path);
    } catch (thrown) {
      const cause = CniError.from(thrown);
      failures.push(
        new CniError(cause.code, `Cannot detach ${show(delegate.label)}, which Multus attached: ${cause.message}`, {
          remedy: cause.remedy,
          cause: thrown,
        }),
      );
    }
  }
  if (pod.damaged.length > 0) {
    const which = pod.damaged.map((index) => `element ${index}`).join(", ");
    node.log("error", `"${pod.path}" stays: ${which} cannot be read, so what Multus attached there is not known`);
  } else if (failures.length === 0) unlink(pod.path);
  return failures;
}

function deleteFormer(former: FormerDelegate, invocation: DeleteInvocation, node: Node): void {
  const { list } = former;
  const context = { node, network: list.name, author: { node: true } as const };
  const delegates = list.plugins.map((plugin) => binaryDelegate(typeOf(plugin), invocation.path, node));
  const version = chooseVersion(
    list.name,
    list.cniVersion,
    delegates.map((d) => ({ type: d.type, supported: d.versions() })),
  );
  const result = former.cached?.result;
  const requests = { ...(former.mac && { mac: former.mac }), ...(former.ips && { ips: former.ips }) };
  for (const [plugin, delegate] of [...delegates.entries()].toReversed()) {
    const conf = deriveRequest(list, plugin, version, {
      runtimeConfig: former.cached?.capabilityValues ?? {},
      ...(result && { prevResult: result }),
    });
    const target = {
      containerId: invocation.containerId,
      ifname: former.ifname,
      netns: invocation.netns ?? "",
      args: delegateArgs(invocation.args, requests),
      path: invocation.path,
    };
    delegate.run({ command: "DEL", target, plugin, conf }, context);
  }
}

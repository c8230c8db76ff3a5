/** Which pod a call is about, as far as the runtime says. */
import {
  type PodName,
  type PodNamespace,
  type PodUid,
  parsePodName,
  parsePodNamespace,
  parsePodUid,
} from "../base/brand.ts";
import type { CniArgs } from "../cni/env.ts";

export interface Pod {
  readonly namespace: PodNamespace;
  readonly name: PodName;
  readonly uid?: PodUid;
}

/**
 * The pod of `K8S_POD_NAMESPACE`, `K8S_POD_NAME` and `K8S_POD_UID`; `undefined` when the caller is no Kubernetes runtime,
 * such as podman or cnitool.
 *
 * @throws {CniError} 4 when one of them is no such name.
 */
export function podOf(args: CniArgs): Pod | undefined {
  const namespace = args.get("K8S_POD_NAMESPACE") ?? "";
  const name = args.get("K8S_POD_NAME") ?? "";
  const uid = args.get("K8S_POD_UID") ?? "";
  if (namespace === "" || name === "") return undefined;
  return {
    namespace: parsePodNamespace(namespace),
    name: parsePodName(name),
    ...(uid === "" ? {} : { uid: parsePodUid(uid) }),
  };
}

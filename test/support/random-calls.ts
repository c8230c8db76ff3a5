/** Random host calls, the same in every run: what a guest that means harm, or none, may try. */
import type { JsonObject } from "../../core/base/json.ts";
import { hostCalls } from "../../core/host/calls.ts";

/** Random numbers that are the same in every run. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const texts: Readonly<Record<string, readonly unknown[]>> = {
  in: ["pod", "host"],
  name: ["eth0", "can1", "lo", "br9", "uplink", "x1", "br9.7", undefined],
  address: ["10.9.0.5/24", "10.9.0.1/24", "172.20.1.1/24", "10.9.0.5", "172.20.1.1"],
  addresses: [["10.9.0.5/24"], ["172.20.1.1/24"], ["10.9.0.5"]],
  dst: ["0.0.0.0/0", "10.9.0.5/32", "172.21.1.0/24"],
  gateway: ["10.9.0.1", "172.20.1.1", undefined],
  key: ["net/ipv4/ip_forward", "net/ipv4/conf/<link>/arp_notify", "net/ipv4/conf/all/arp_notify", "kernel/hostname"],
  value: ["1", "0"],
  kind: ["veth", "bridge", "macvlan", "dummy", "ifb"],
  from: ["10.9.0.5/32", "172.20.1.0/24"],
  mac: ["02:00:00:00:00:05", undefined],
  up: [false], // two ends of one veth as ports of one bridge would be a loop
  peer: [{ in: "host" }, { in: "pod", name: "p1" }, undefined],
  scope: ["network", "attachment", undefined],
  vlans: [[{ first: 1, last: 10 }]],
  rule: ["masquerade", "mac_check", "limit", "redirect"],
  to: ["pod", "host", 1, 2],
  for: ["running"],
  timeoutMs: [0],
  message: ["x"],
  pool: ["p"],
};

/** A request with members that exist, some of them with a meaning; handles are small numbers. */
export function randomCall(random: () => number): { readonly name: string; readonly request: JsonObject } {
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const call = pick(hostCalls);
  const request: { [key: string]: never } = {};
  for (const [key, schema] of Object.entries(call.request)) {
    if (!schema.required && key !== "timeoutMs" && random() < 0.4) continue;
    const known = texts[key];
    const isHandle = key === "link" || key === "parent" || key === "master";
    const value = isHandle
      ? 1 + Math.floor(random() * 8)
      : known !== undefined
        ? pick(known)
        : schema.type === "boolean"
          ? random() < 0.5
          : schema.type === "integer"
            ? pick([0, 100, 1500])
            : undefined;
    if (value !== undefined) request[key] = value as never;
  }
  return { name: call.name, request };
}

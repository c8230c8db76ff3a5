/**
 * Whether a plugin may make a call: one pure function, so that every cell of plugin × call × target can be listed in
 * a test. What a target is (whose link a handle names) is worked out by the host, from the journal and the
 * configuration, never from what the guest says.
 */
import { Code } from "../base/error.ts";
import { coversSysctl, type Manifest, type ManifestLimits, type NamedRole, type Role, roles } from "./manifest.ts";
import type { PluginGrant, Policy } from "./policy.ts";
import type { SysctlWord } from "./sysctl-list.ts";

export type Operation = "ADD" | "DEL" | "CHECK" | "GC" | "STATUS";

/** What the manifest and the administrator's policy leave together: never more than either. */
export interface Grants {
  readonly plugin: string;
  readonly calls: ReadonlyMap<string, readonly Role[]>;
  readonly sysctls: ReadonlySet<string>;
  readonly limits: ManifestLimits;
}

/** The part of a row of the call table that decides: nothing in a manifest can widen it. */
export interface CallRule {
  readonly name: string;
  /** Operations in which the call may run at all. */
  readonly operations: readonly Operation[];
  /** The roles that any manifest can ask for. Empty for a call without a link as its target. */
  readonly roles: readonly Role[];
}

/**
 * What one effect of a call is on.
 *
 * - `own`: made by this attachment, or the link named CNI_IFNAME in its pod, or that link's other end on the node.
 * - `granted`: named by the configuration, and by the policy where that has a say.
 * - `other`: of another attachment, in this pod or another, or made by nobody we know in this pod.
 * - `host`: any other object of the node.
 * - `sysctl`: a name of the manifest's list; `pattern` is `pod:` or `host:` and the key with `<link>`. `word` is what the
 *   administrator says of it, for a plugin whose manifest leaves open which it sets.
 */
export type Target =
  | { readonly whose: "own"; readonly role: "pod-link" | "own" | "peer" }
  | { readonly whose: "granted"; readonly role: NamedRole }
  | { readonly whose: "other" }
  | { readonly whose: "host" }
  | { readonly whose: "sysctl"; readonly pattern: string; readonly word?: SysctlWord };

export type Verdict =
  | { readonly allow: true }
  | { readonly allow: false; readonly code: Code; readonly reason: string; readonly remedy: string };

export interface DecideState {
  readonly operation: Operation;
  readonly grants: Grants;
}

const allow: Verdict = { allow: true };

/** @param target Left out for the question whether the call may be made at all, which comes before the request is read. */
export function decide(state: DecideState, call: CallRule, target?: Target): Verdict {
  const { grants, operation } = state;
  const granted = grants.calls.get(call.name);
  if (granted === undefined) {
    return {
      allow: false,
      code: Code.NotGranted,
      reason: `no grant "${call.name}"`,
      remedy: `Name "${call.name}" in the calls of the plugin's manifest, and in the policy file if that lists the plugin`,
    };
  }
  if (!call.operations.includes(operation)) {
    return {
      allow: false,
      code: Code.NotInThisOperation,
      reason: `the call is not available in ${operation}`,
      remedy: `Make this call in ${call.operations.join(", ")} only`,
    };
  }
  if (target === undefined) return allow;
  if (target.whose === "sysctl") {
    const { pattern, word } = target;
    if (word === "omitted") {
      return {
        allow: false,
        code: Code.NotGranted,
        reason: `the administrator's list of sysctls does not name "${pattern}"`,
        remedy: "Set another sysctl, or have a line for it added to the list",
      };
    }
    if (grants.sysctls.has(pattern)) return allow;
    const open = word === "named" || word === "free";
    if (open && [...grants.sysctls].some((granted) => coversSysctl(granted, pattern))) return allow;
    return {
      allow: false,
      code: Code.NotGranted,
      reason: `no grant for the sysctl "${pattern}"`,
      remedy:
        word === "unlisted"
          ? "Have a line for it added to the administrator's list of sysctls"
          : `Name "${pattern}" in the sysctls of the plugin's manifest`,
    };
  }
  if (target.whose === "other" || target.whose === "host") {
    return {
      allow: false,
      code: Code.NotGranted,
      reason:
        target.whose === "host"
          ? "the target is the node's and no key of the configuration names it"
          : "the target is not this attachment's",
      remedy: "Use what this attachment made, or what its configuration and the policy file name",
    };
  }
  if (granted.includes(target.role) && call.roles.includes(target.role)) return allow;
  return {
    allow: false,
    code: Code.NotGranted,
    reason: `no grant "${call.name}" on "${target.role}"`,
    remedy: call.roles.includes(target.role)
      ? `Name "${target.role}" under "${call.name}" in the calls of the plugin's manifest`
      : `Use the call on ${call.roles.length === 0 ? "no link" : call.roles.map((r) => `"${r}"`).join(", ")}`,
  };
}

/** Intersection only: a policy that names a call the manifest does not have gives nothing. */
export function effectiveGrants(manifest: Manifest, grant: PluginGrant | undefined): Grants {
  const calls = new Map<string, readonly Role[]>();
  for (const [name, asked] of manifest.calls) {
    const given = grant?.calls === undefined ? roles : grant.calls[name];
    if (given !== undefined) {
      calls.set(
        name,
        asked.filter((role) => given.includes(role)),
      );
    }
  }
  const sysctls = both(manifest.sysctls, grant?.sysctls);
  return { plugin: manifest.name, calls, sysctls: new Set(sysctls), limits: lesser(manifest.limits, grant?.limits) };
}

/** What both lists mean; of a wildcard and a name below it the name. */
function both(asked: readonly string[], given: readonly string[] | undefined): readonly string[] {
  if (given === undefined) return asked;
  return [
    ...asked.filter((a) => given.some((g) => coversSysctl(g, a))),
    ...given.filter((g) => asked.some((a) => coversSysctl(a, g))),
  ];
}

/** Member by member the smaller of two. */
function lesser(ours: ManifestLimits, theirs: PluginGrant["limits"]): ManifestLimits {
  const min = (of: keyof ManifestLimits): number => Math.min(ours[of], theirs?.[of] ?? Number.POSITIVE_INFINITY);
  return {
    memoryBytes: min("memoryBytes"),
    cpuMs: min("cpuMs"),
    wallMs: min("wallMs"),
    calls: min("calls"),
    stdoutBytes: min("stdoutBytes"),
    logBytes: min("logBytes"),
  };
}

/**
 * What a plugin may do under a policy. A built-in needs no line in the policy; a plugin from outside has the calls
 * that its line gives, and without a line none.
 *
 * @param sha256 Of the module, for a plugin from outside.
 */
export function grantsOf(policy: Policy, manifest: Manifest, origin: { builtIn: true } | { sha256: string }): Grants {
  const line = policy.plugins[manifest.name];
  if ("builtIn" in origin) return effectiveGrants(manifest, line);
  const trusted = line !== undefined && line.sha256 === origin.sha256;
  return effectiveGrants(manifest, trusted ? line : { calls: {}, sysctls: [] });
}

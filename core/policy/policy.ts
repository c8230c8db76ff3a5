/**
 * The administrator's policy: one file, read by whoever has the process (it must be root's and nobody else's to
 * write). Absent means `open`: what users of a CNI meta-plugin know. `"strict": true` is one key for everything that
 * does not trust the author of a NetworkAttachmentDefinition.
 *
 * Every question the rest of the program has for the policy is one pure function here.
 */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import type { Json } from "../base/json.ts";
import { roles } from "./manifest.ts";
import { checkClosed, type Keys, SchemaError, type ValueOfKeys } from "./schema.ts";

const names = { type: "array", items: { type: "string", maxLength: 253 }, maxItems: 1024 } as const;

export const policySchema = {
  strict: {
    type: "boolean",
    default: false,
    doc: "Refuse what a network of an untrusted namespace must not do: host links, CNI binaries, chosen addresses and files of the node, unless a line below gives it",
  },
  trustedNamespaces: { ...names, doc: "Namespaces whose networks are the administrator's own" },
  hostLinks: {
    type: "array",
    maxItems: 256,
    items: {
      type: "object",
      keys: {
        links: { ...names, required: true, doc: "Names; a `*` at the end stands for any rest" },
        namespaces: { ...names, doc: "Whose networks may name them; absent for all" },
      },
    },
    doc: "Links of the node that networks may name, as a master or as a bridge",
  },
  binaries: {
    type: "array",
    maxItems: 256,
    items: {
      type: "object",
      keys: { types: { ...names, required: true }, namespaces: names },
    },
    doc: "CNI binaries that networks of untrusted namespaces may run",
  },
  chosenAddresses: { ...names, doc: "Namespaces whose pods may choose IP and MAC addresses" },
  plugins: {
    type: "map",
    maxKeys: 256,
    values: {
      type: "object",
      keys: {
        sha256: { type: "string", maxLength: 64, doc: "Of the module; needed for a plugin from outside" },
        calls: { type: "map", values: { type: "array", items: { type: "string", enum: roles } }, maxKeys: 64 },
        sysctls: names,
        limits: {
          type: "object",
          keys: {
            memoryBytes: { type: "integer", min: 1 << 16 },
            cpuMs: { type: "integer", min: 1 },
            wallMs: { type: "integer", min: 1 },
            calls: { type: "integer", min: 1 },
            stdoutBytes: { type: "integer", min: 256 },
            logBytes: { type: "integer", min: 0 },
          },
        },
      },
    },
    doc: "What each plugin may do, by its name; never more than its manifest asks for",
  },
} as const satisfies Keys;

type PolicyFile = ValueOfKeys<typeof policySchema>;
export type PluginGrant = NonNullable<PolicyFile["plugins"]>[string];
export interface Policy {
  readonly strict: boolean;
  readonly trustedNamespaces: readonly string[];
  readonly hostLinks: NonNullable<PolicyFile["hostLinks"]> | undefined;
  readonly binaries: NonNullable<PolicyFile["binaries"]>;
  readonly chosenAddresses: readonly string[];
  readonly plugins: { readonly [name: string]: PluginGrant };
}

/** What holds when there is no policy file. */
export const openPolicy: Policy = {
  strict: false,
  trustedNamespaces: [],
  hostLinks: undefined,
  binaries: [],
  chosenAddresses: [],
  plugins: {},
};

/** @throws {CniError} 7, naming the member that is wrong. */
export function parsePolicy(doc: Json): Policy {
  try {
    const file = checkClosed(policySchema, doc);
    return {
      strict: file.strict,
      trustedNamespaces: file.trustedNamespaces ?? [],
      hostLinks: file.hostLinks,
      binaries: file.binaries ?? [],
      chosenAddresses: file.chosenAddresses ?? [],
      plugins: file.plugins ?? {},
    };
  } catch (thrown) {
    if (!(thrown instanceof SchemaError)) throw thrown;
    throw new CniError(Code.InvalidConfig, `Cannot use the policy file: ${thrown.member}: ${thrown.message}`, {
      remedy: "Correct the policy file",
      cause: thrown,
    });
  }
}

/**
 * Who wrote a network's configuration: the node's administrator in a file, or whoever may write
 * NetworkAttachmentDefinitions in a namespace. With `nodeFile` the definition only stands for a file of the node: what
 * is in it is the administrator's, that it is used here the namespace's.
 */
export type Author = { readonly node: true } | { readonly namespace: string; readonly nodeFile?: true };

/** Whether the text of the configuration is the node administrator's, so that paths in it may be followed. */
export const isOfNode = (author: Author): boolean => "node" in author || author.nodeFile === true;

/** Undefined when it is allowed, else the error to answer with. */
export type Refusal = CniError | undefined;

const trusts = (policy: Policy, author: Author): boolean =>
  !policy.strict || "node" in author || policy.trustedNamespaces.includes(author.namespace);
const matches = (pattern: string, name: string): boolean =>
  pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name;
const covers = (line: { readonly namespaces?: readonly string[] | undefined }, author: Author): boolean =>
  line.namespaces === undefined || ("namespace" in author && line.namespaces.includes(author.namespace));

function refuse(what: string, author: Author, remedy: string): CniError {
  const who = "node" in author ? "a network of the node" : `a network of namespace ${show(author.namespace)}`;
  return new CniError(Code.NotAllowed, `Cannot ${what} for ${who}: the policy does not allow it`, { remedy });
}

/**
 * Whether a network may name a link of the node. In strict only what `hostLinks` lists; otherwise a list that is
 * there narrows what untrusted authors may name, and without one any link goes.
 */
export function refuseHostLink(policy: Policy, author: Author, link: string): Refusal {
  if (trusts(policy, author) && (policy.hostLinks === undefined || "node" in author)) return undefined;
  if ("namespace" in author && policy.trustedNamespaces.includes(author.namespace)) return undefined;
  for (const line of policy.hostLinks ?? []) {
    if (covers(line, author) && line.links.some((pattern) => matches(pattern, link))) return undefined;
  }
  return refuse(`use the host link ${show(link)}`, author, `Add ${show(link)} to "hostLinks" of the policy file`);
}

/** Whether a network may set any sysctl of its pods' own network where no list of the administrator's says which. */
export function trustsSysctls(policy: Policy, author: Author): boolean {
  return trusts(policy, author);
}

/** Whether a network may run a CNI binary of the node. */
export function refuseBinary(policy: Policy, author: Author, type: string): Refusal {
  if (trusts(policy, author)) return undefined;
  if (policy.binaries.some((line) => covers(line, author) && line.types.includes(type))) return undefined;
  return refuse(`run the CNI binary ${show(type)}`, author, `Add ${show(type)} to "binaries" of the policy file`);
}

/**
 * Whether the leases of a network are its namespace's own. In `open` networks of one name share them whoever wrote
 * them: two namespaces that name one bridge and one range must not give an address twice.
 */
export function hasLeasesApart(policy: Policy, author: Author): boolean {
  return !trusts(policy, author);
}

/** Whether a pod of `namespace` may choose its IP or MAC address. */
export function refuseChosenAddress(policy: Policy, namespace: string): Refusal {
  if (!policy.strict || policy.trustedNamespaces.includes(namespace) || policy.chosenAddresses.includes(namespace)) {
    return undefined;
  }
  return refuse("choose an address", { namespace }, `Add ${show(namespace)} to "chosenAddresses" of the policy file`);
}

/** Whether a pod of `namespace` may name the device that it gets. */
export function refuseChosenDevice(policy: Policy, namespace: string): Refusal {
  if (!policy.strict || policy.trustedNamespaces.includes(namespace)) return undefined;
  const remedy = `Let the pod ask for the network's resource, or add ${show(namespace)} to "trustedNamespaces"`;
  return refuse("choose a device", { namespace }, remedy);
}

/** Whether a definition without a configuration may stand for a file of the node with its name. */
export function refuseNodeFile(policy: Policy, author: Author, name: string): Refusal {
  if (trusts(policy, author)) return undefined;
  return refuse(
    `use the node's configuration file of network ${show(name)}`,
    author,
    'Write the configuration into the definition, or add the namespace to "trustedNamespaces" of the policy file',
  );
}

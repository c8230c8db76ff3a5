/**
 * A CNI binary may run us for a network that a namespace wrote: its configuration reaches us on stdin, where nothing
 * tells it from the administrator's. A variable says whose it is. It only ever takes rights away, so whoever may have
 * set it is believed.
 */
import { isDnsName } from "../base/brand.ts";
import { isObject, type Json } from "../base/json.ts";
import type { Author } from "../policy/policy.ts";
import type { DelegateNode } from "./node.ts";

export const AUTHOR = "PATCHBAY_AUTHOR";

/** What a process above us said of the configuration that we get. */
export interface AuthorAbove {
  readonly author: Author;
  /** The policy that holds for it. */
  readonly policyFile: string | undefined;
}

/** The variables for a CNI binary that runs a network of this author; none for the node's own. */
export function tellAuthor(author: Author, node: Pick<DelegateNode, "policyFile">): Record<string, string> {
  if ("node" in author) return {};
  return { [AUTHOR]: JSON.stringify({ ...author, ...(node.policyFile && { policyFile: node.policyFile }) }) };
}

/** @returns `undefined` when nobody said anything: the configuration is the node's. */
export function authorAbove(environment: Readonly<Record<string, string | undefined>>): AuthorAbove | undefined {
  const text = environment[AUTHOR];
  if (text === undefined) return undefined;
  const said = parse(text);
  const told = isObject(said) ? said : {};
  const { namespace, nodeFile, policyFile } = told;
  return {
    author: {
      // What cannot be read is nobody's whom a policy names.
      namespace: typeof namespace === "string" && isDnsName(namespace, "label") ? namespace : "",
      ...(nodeFile === true && { nodeFile }),
    },
    policyFile: typeof policyFile === "string" ? policyFile : undefined,
  };
}

function parse(text: string): Json {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

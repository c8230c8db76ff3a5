/**
 * What forwards packets on the node, and what drops them: accepts for an attachment in the chain that would drop, and
 * networks kept apart. What these are in the kernel's terms is `core/kernel/filter.ts` and `core/kernel/isolation.ts`.
 */
import { CniError, Code } from "../../base/error.ts";
import { formatIp, type Ip, parseIp } from "../../base/ip.ts";
import { isObject, type Json } from "../../base/json.ts";
import { ADMIN_CHAIN, accept, droppers, isAccepted, withdraw, withdrawAll } from "../../kernel/filter.ts";
import { isolate, policyOf } from "../../kernel/isolation.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { UndoStep } from "../../state/entries.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";

type FilterStep = Extract<UndoStep, { readonly do: "filter" }>;

const addresses = {
  type: "array",
  items: { type: "string", format: "ip" },
  maxItems: 64,
  required: true,
  doc: "Addresses of the attachment",
} as const;

const acceptRequest = {
  addresses,
  adminChain: {
    type: "string",
    format: "key",
    default: ADMIN_CHAIN,
    doc: "Chain of the administrator's own rules, which come first; at most 28 characters",
  },
} as const satisfies Keys;

/** A chain's name as iptables takes it. */
const MAX_CHAIN_CHARACTERS = 28;
/** What iptables has for itself: a jump there would be a verdict, or a loop. */
const taken = /^(INPUT|FORWARD|OUTPUT|PREROUTING|POSTROUTING|CNI-FORWARD|ACCEPT|DROP|RETURN|QUEUE|REJECT|LOG)$/;

function bad(call: string, member: string, why: string): CniError {
  return new CniError(Code.BadRequest, `Cannot make the call "${call}": "${member}": ${why}`, {
    remedy: `Correct "${member}" of the request`,
  });
}

/** @throws {CniError} 121 for an address that is not the attachment's. */
export function ownAddresses(guest: GuestContext, texts: readonly string[], doing: string): Ip[] {
  const all = texts.flatMap((text) => parseIp(text) ?? []);
  const foreign = all.find((ip) => !guest.isOwnAddress(ip));
  if (foreign === undefined) return all;
  throw new CniError(Code.NotGranted, `Cannot ${doing} "${formatIp(foreign)}": it is not this attachment's`, {
    remedy: "Use the addresses of the previous result",
  });
}

function acceptance(guest: GuestContext, call: string, r: ValueOfKeys<typeof acceptRequest>) {
  if (r.adminChain.length > MAX_CHAIN_CHARACTERS) {
    throw bad(call, "adminChain", `expected 1 to ${MAX_CHAIN_CHARACTERS} characters`);
  }
  if (taken.test(r.adminChain)) throw bad(call, "adminChain", `"${r.adminChain}" has a meaning already`);
  return { key: guest.nftKey(), addresses: ownAddresses(guest, r.addresses, "accept packets of") };
}

export const filterAdd = hostCall({
  name: "filter_add",
  operations: creating,
  roles: [],
  doc: "Accepts what the attachment sends, and the answers, in iptables-nft's FORWARD; again for the same does nothing",
  request: acceptRequest,
  answer: {},
  run(guest, r) {
    const own = acceptance(guest, "filter_add", r);
    guest.intend({ do: "filter", key: own.key, addresses: own.addresses.map(formatIp) });
    accept(guest.kernel("host"), own, r.adminChain);
    return {};
  },
});

export const filterCheck = hostCall({
  name: "filter_check",
  operations: ["ADD", "CHECK"],
  roles: [],
  doc: "Whether what filter_add adds for the same request is there",
  request: acceptRequest,
  answer: { present: { type: "boolean", required: true } },
  run: (guest, r) => ({
    present: isAccepted(guest.kernel("host"), acceptance(guest, "filter_check", r), r.adminChain),
  }),
});

export const filterDrops = hostCall({
  name: "filter_drops",
  operations: ["ADD", "CHECK", "STATUS"],
  roles: [],
  doc: "Lists the base chains of the node that drop forwarded packets which nothing in them accepts",
  request: {},
  answer: {
    chains: {
      type: "array",
      required: true,
      items: {
        type: "object",
        keys: {
          name: { type: "string", required: true, doc: "For people" },
          table: { type: "string", required: true },
          ipv4: { type: "boolean", required: true, doc: "It sees packets of IPv4" },
          ipv6: { type: "boolean", required: true },
          by: {
            type: "string",
            enum: ["policy", "rule"],
            required: true,
            doc: "`rule`: one without conditions, in it or in a chain that it leads to, takes all that is left",
          },
          writable: { type: "boolean", required: true, doc: "filter_add accepts in it" },
        },
      },
    },
  },
  run: (guest) => ({
    chains: droppers(guest.kernel("host")).map(({ name, table, families, by, ours }) => ({
      name,
      table,
      ipv4: families.includes(4),
      ipv6: families.includes(6),
      by,
      writable: ours,
    })),
  }),
});

// --- Isolation -------------------------------------------------------------------------------------------------------

const isolationRequest = {
  name: {
    type: "string",
    format: "ifname",
    required: true,
    doc: "A link of the node that the previous result names: a bridge, or a veth's end",
  },
  policy: {
    type: "string",
    enum: ["same-bridge", "isolated"],
    required: true,
    doc: "`same-bridge`: nothing to or from other isolated links; `isolated`: nor between attachments of this one",
  },
} as const satisfies Keys;

/** What the plugins before made for the attachment is in the previous result; anything else is not its to isolate. */
function requireNamed(guest: GuestContext, name: string): void {
  const previous = guest.setup.conf.prevResult;
  const links: readonly Json[] = isObject(previous) && Array.isArray(previous.interfaces) ? previous.interfaces : [];
  const isIt = (link: Json): boolean =>
    isObject(link) && link.name === name && (link.sandbox === undefined || link.sandbox === "");
  if (links.some(isIt)) return;
  throw new CniError(Code.NotGranted, `Cannot isolate "${name}": the previous result names no such link of the node`, {
    remedy: "Isolate what the plugin before made on the node",
  });
}

export const isolationApply = hostCall({
  name: "isolation_apply",
  operations: creating,
  roles: [],
  doc: "Keeps what a link of the node carries apart from other isolated links, until its last attachment goes",
  request: isolationRequest,
  answer: {},
  run(guest, { name, policy }) {
    requireNamed(guest, name);
    guest.share("isolation", name, { made: true });
    isolate(guest.kernel("host"), name, policy);
    return {};
  },
});

export const isolationCheck = hostCall({
  name: "isolation_check",
  operations: ["ADD", "CHECK"],
  roles: [],
  doc: "Whether a link is isolated at least as the policy asks",
  request: isolationRequest,
  answer: { present: { type: "boolean", required: true } },
  run(guest, { name, policy }) {
    requireNamed(guest, name);
    const found = policyOf(guest.kernel("host"), name);
    return { present: found === policy || found === "isolated" };
  },
});

// --- Undo ------------------------------------------------------------------------------------------------------------

/** Removes what `filter_add` added; what is gone already is no failure. */
export function removeFilter(host: Kernel, { key, addresses }: FilterStep): void {
  withdraw(host, { key, addresses: addresses.flatMap((text) => parseIp(text) ?? []) });
}

/** The same, when no record of the attachment is left. */
export const salvageFilter = (host: Kernel, key: string): void => withdrawAll(host, key);

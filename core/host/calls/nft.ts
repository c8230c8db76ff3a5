/**
 * Typed rules in tables of our own, on the node; what they are in the kernel's terms is `core/kernel/nft.ts`. Each
 * attachment has a chain of its own, reached by an element of a map: so what it added is removed by name, and no rule of
 * anybody else's is ever looked at.
 */
import { CniError, Code } from "../../base/error.ts";
import { formatIp, parseCidr, parseMac } from "../../base/ip.ts";
import { type Kernel, KernelError } from "../../kernel/kernel.ts";
import {
  isPresent,
  MASQUERADE_LAYERS,
  macCheck,
  masquerade,
  masqueradeMaps,
  type NftFeature,
  removal,
  sparing,
} from "../../kernel/nft.ts";
import type { NftChange } from "../../kernel/nftables.ts";
import type { Target } from "../../policy/decide.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import type { UndoStep } from "../../state/entries.ts";
import { Errno, SysError } from "../../sys/error.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";

type NftStep = Extract<UndoStep, { readonly do: "nft" }>;

const request = {
  rule: { type: "string", enum: ["masquerade", "mac_check"], required: true },
  addresses: {
    type: "array",
    items: { type: "string", format: "cidr" },
    maxItems: 64,
    doc: "`masquerade`: addresses of the attachment; what leaves their networks gets the node's address",
  },
  link: { type: "integer", min: 1, doc: "`mac_check`: own link of the node, a port of a bridge" },
  mac: { type: "string", format: "mac", doc: "`mac_check`: the only source address that may come in there" },
} as const satisfies Keys;
type Request = ValueOfKeys<typeof request>;

function bad(member: string, why: string): CniError {
  return new CniError(Code.BadRequest, `Cannot make the call "nft_apply": "${member}": ${why}`, {
    remedy: `Correct "${member}" of the request`,
  });
}

/** What the request means, and where something of it is another attachment's, where else it could go. */
function featuresFor(guest: GuestContext, r: Request): readonly NftFeature[] {
  const key = guest.nftKey();
  if (r.rule === "mac_check") {
    if (r.link === undefined) throw bad("link", "expected the handle of a bridge port");
    if (r.mac === undefined || parseMac(r.mac)?.length !== 6) throw bad("mac", "expected a MAC address");
    const link = guest.handles.link(r.link);
    if (link.in !== "host") throw bad("link", "expected a link of the node");
    return [macCheck(key, link.name, r.mac)];
  }
  const addresses = (r.addresses ?? []).flatMap((text) => parseCidr(text) ?? []);
  if (addresses.length === 0) throw bad("addresses", "expected at least one");
  const foreign = addresses.find((a) => !guest.isOwnAddress(a.ip));
  if (foreign !== undefined) {
    throw new CniError(Code.NotGranted, `Cannot masquerade "${formatIp(foreign.ip)}": it is not this attachment's`, {
      remedy: "Call ipam_add first, and use its addresses",
    });
  }
  return Array.from({ length: MASQUERADE_LAYERS }, (_, i) => masquerade(key, addresses, i + 1));
}

/** Removes what `nft_apply` added, by name; what is gone already is no failure. */
export function removeNft(host: Kernel, { family, table, chain, elements }: NftStep): void {
  host.nft.change(removal({ family: family === "bridge" ? "bridge" : "inet", table, chain, elements }));
}

/** Removes an attachment's part when no record of it is left, found by the names that its chains have. */
export function salvageNft(host: Kernel, key: string): void {
  const table = "patchbay";
  const parts = [
    { family: "inet", chain: `masq-${key}`, maps: masqueradeMaps },
    { family: "bridge", chain: `mac-${key}`, maps: ["macs"] },
  ] as const;
  for (const { family, chain, maps } of parts) {
    if (!host.nft.chains(family, table).includes(chain)) continue;
    const elements = maps.flatMap((map) =>
      (host.nft.elements(family, table, map) ?? [])
        .filter((element) => element.chain === chain)
        .map(({ key }): NftChange => ({ op: "delete", what: "element", family, table, map, key, chain })),
    );
    host.nft.change([...elements, { op: "delete", what: "chain", family, table, chain }]);
  }
}

const targets = (guest: GuestContext, r: Request): readonly Target[] =>
  r.link === undefined ? [] : [guest.handles.link(r.link).target];

export const nftApply = hostCall({
  name: "nft_apply",
  operations: creating,
  roles: ["own"],
  doc: "Adds a rule to a chain of the attachment's own on the node; again with the same `rule` replaces it",
  request,
  answer: {},
  targets,
  run(guest, r) {
    for (const { add, undo } of featuresFor(guest, r)) {
      const id = guest.intend({ do: "nft", ...undo, family: String(undo.family) });
      try {
        const host = guest.kernel("host");
        host.nft.change(sparing(host, add, undo.chain));
        return {};
      } catch (thrown) {
        if (!(thrown instanceof KernelError) || thrown.errno !== Errno.EEXIST) throw thrown;
        guest.undone(id); // the transaction did nothing
      }
    }
    const taken = r.rule === "mac_check" ? "the link" : (r.addresses ?? []).map((text) => `"${text}"`).join(", ");
    throw new CniError(
      Code.InterfaceTaken,
      `Cannot apply the rule "${r.rule}" for ${taken}: other attachments on this node have it`,
      { remedy: "Give networks with ipMasq on one node subnets that do not overlap" },
    );
  },
});

export const nftCheck = hostCall({
  name: "nft_check",
  operations: ["ADD", "CHECK"],
  roles: ["own"],
  doc: "Whether what nft_apply adds for the same request is there",
  request,
  answer: { present: { type: "boolean", required: true } },
  targets,
  run: (guest, r) => ({ present: featuresFor(guest, r).some((f) => isPresent(guest.kernel("host"), f)) }),
});

/** A read: nothing is made for it, so the answer holds until somebody changes the kernel. */
export const nftReady = hostCall({
  name: "nft_ready",
  operations: ["STATUS"],
  roles: [],
  doc: "Whether the node's kernel has nftables, and lets us read them",
  request: {},
  answer: { ready: { type: "boolean", required: true } },
  run(guest) {
    try {
      guest.kernel("host").nft.chains("inet", "patchbay");
      return { ready: true };
    } catch (thrown) {
      if (!(thrown instanceof KernelError) && !(thrown instanceof SysError)) throw thrown;
      return { ready: false };
    }
  },
});

/** Addresses of an attachment in a zone of firewalld. A zone knows nothing of attachments, so the network's records do. */
import { CniError, Code } from "../../base/error.ts";
import { type Firewalld, refusalOf, sourceOf } from "../../dbus/firewalld.ts";
import type { Keys } from "../../policy/schema.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";
import { ownAddresses } from "./filter.ts";

const request = {
  zone: { type: "string", maxLength: 64, required: true },
  addresses: {
    type: "array",
    items: { type: "string", format: "ip" },
    maxItems: 64,
    required: true,
    doc: "Addresses of the attachment",
  },
} as const satisfies Keys;

/** Works with firewalld. @throws {CniError} what it, or the way to it, refuses */
function withFirewalld<T>(guest: GuestContext, work: (firewalld: Firewalld | undefined) => T): T {
  try {
    using firewalld = guest.setup.firewalld();
    return work(firewalld);
  } catch (cause) {
    if (cause instanceof CniError) throw cause;
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new CniError(Code.TryAgainLater, `Cannot ask firewalld: ${why}`, { remedy: "Look at its log", cause });
  }
}

function running(firewalld: Firewalld | undefined): Firewalld {
  if (firewalld !== undefined) return firewalld;
  throw new CniError(Code.TryAgainLater, "Cannot ask firewalld: it does not run", {
    remedy: 'Start firewalld, or set "backend" to "iptables"',
  });
}

function refused(zone: string, source: string, cause: unknown): unknown {
  const why = refusalOf(cause);
  const what = `Cannot put "${source}" into zone "${zone}" of firewalld`;
  if (why === "INVALID_ZONE") {
    const remedy = "Make the zone, or name another";
    return new CniError(Code.InvalidConfig, `${what}: there is no such zone`, { remedy, cause });
  }
  if (why === "ZONE_CONFLICT") {
    const words = cause instanceof Error ? cause.message.replace(/^[A-Z_]+: /, "") : "";
    const remedy = "Take it out of the other zone, or name that one";
    return new CniError(Code.InterfaceTaken, `${what}: ${words}`, { remedy, cause });
  }
  return cause;
}

function add(guest: GuestContext, firewalld: Firewalld, zone: string, sources: readonly string[]): void {
  for (const source of sources) {
    const there = hasSource(firewalld, zone, source);
    // What was there before any attachment of ours stays when the last one goes.
    guest.share("firewalld", `${zone} ${source}`, { made: !there });
    if (there) continue;
    try {
      firewalld.addSource(zone, source);
    } catch (thrown) {
      if (refusalOf(thrown) !== "ZONE_ALREADY_SET") throw refused(zone, source, thrown);
    }
  }
}

function hasSource(firewalld: Firewalld, zone: string, source: string): boolean {
  try {
    return firewalld.hasSource(zone, source);
  } catch (thrown) {
    throw refused(zone, source, thrown);
  }
}

export const firewalldFind = hostCall({
  name: "firewalld_find",
  operations: ["ADD", "CHECK", "STATUS"],
  roles: [],
  doc: "Whether firewalld runs; it is not started",
  waits: true,
  request: {},
  answer: { running: { type: "boolean", required: true } },
  run: (guest) => ({ running: withFirewalld(guest, (firewalld) => firewalld !== undefined) }),
});

export const firewalldAdd = hostCall({
  name: "firewalld_add",
  operations: creating,
  roles: [],
  doc: "Puts addresses into a zone of firewalld, until the last attachment that has them goes",
  waits: true,
  request,
  answer: {},
  run(guest, r) {
    const sources = ownAddresses(guest, r.addresses, "accept packets of").map(sourceOf);
    withFirewalld(guest, (firewalld) => add(guest, running(firewalld), r.zone, sources));
    return {};
  },
});

export const firewalldCheck = hostCall({
  name: "firewalld_check",
  operations: ["ADD", "CHECK"],
  roles: [],
  doc: "Whether the addresses are in the zone",
  waits: true,
  request,
  answer: { present: { type: "boolean", required: true } },
  run(guest, r) {
    const sources = ownAddresses(guest, r.addresses, "look for").map(sourceOf);
    return {
      present: withFirewalld(
        guest,
        (firewalld) => firewalld !== undefined && sources.every((source) => hasSource(firewalld, r.zone, source)),
      ),
    };
  },
});

/** What is not the kernel's: addresses from IPAM, reserved numbers, notes, log lines. */
import { CniError, Code } from "../../base/error.ts";
import type { Json } from "../../base/json.ts";
import { always, changing, creating, hostCall, reading } from "../call.ts";
import type { GuestContext, IpamAnswer } from "../context.ts";

const cidr = { type: "string", format: "cidr", required: true } as const;
const ip = { type: "string", format: "ip" } as const;
const any = { type: "any" } as const;

function asAnswer(result: IpamAnswer | undefined) {
  return {
    ips: (result?.ips ?? []).map((i) => ({ address: i.address, gateway: i.gateway })),
    routes: (result?.routes ?? []) as unknown as Json,
    dns: (result?.dns ?? {}) as unknown as Json,
  };
}

export const ipamAdd = hostCall({
  name: "ipam_add",
  operations: creating,
  waits: true,
  roles: [],
  doc: "Runs the network's IPAM. A configuration without one answers no addresses",
  request: {},
  answer: {
    ips: { type: "array", required: true, items: { type: "object", keys: { address: cidr, gateway: ip } } },
    routes: { ...any, required: true, doc: "Array of CNI routes: dst, gw, mtu, advmss, priority, table, scope" },
    dns: { ...any, required: true, doc: "CNI dns: nameservers, domain, search, options" },
  },
  run(guest) {
    const result = guest.setup.runIpam("ADD");
    if (result !== undefined) guest.takeIpam(result);
    return asAnswer(result);
  },
});

/** Those without an answer differ in name and operation only. */
const ipamCall = (name: string, operation: "DEL" | "CHECK" | "STATUS" | "GC", doc: string) =>
  hostCall({
    name,
    operations: [operation],
    waits: true,
    roles: [],
    doc,
    request: {},
    answer: {},
    run(guest) {
      guest.setup.runIpam(operation);
      return {};
    },
  });

export const ipamDelete = ipamCall(
  "ipam_delete",
  "DEL",
  "Gives the attachment's addresses back; the host does so itself for plugins that are not run on DEL",
);
export const ipamCheck = ipamCall(
  "ipam_check",
  "CHECK",
  "Asks the network's IPAM whether the attachment still has its addresses",
);
export const ipamStatus = ipamCall("ipam_status", "STATUS", "Asks the network's IPAM whether it can give addresses");

export const ipamGc = ipamCall("ipam_gc", "GC", "Lets the network's IPAM free what no valid attachment has");

const pool = { type: "string", format: "key", required: true, doc: "Of this plugin; no other can reach it" } as const;
const leaseKey = { type: "string", format: "key", required: true } as const;

/** Plugins cannot reach one another's pools, nor those of addresses: no network's name has an "@". */
const poolOf = (guest: GuestContext, name: string): string => `plugin@${guest.setup.manifest.name}.${name}`;

export const leaseAcquire = hostCall({
  name: "lease_acquire",
  operations: creating,
  roles: [],
  doc: "Reserves a name on this node for the attachment, such as the number of a routing table",
  request: { pool, key: leaseKey },
  answer: { acquired: { type: "boolean", required: true, doc: "False when another attachment has it" } },
  run(guest, r) {
    const name = poolOf(guest, r.pool);
    guest.intend({ do: "lease", pool: name, address: r.key });
    return { acquired: guest.setup.leases.acquire(name, r.key) };
  },
});

export const leaseRelease = hostCall({
  name: "lease_release",
  operations: changing,
  roles: [],
  doc: "Gives a reserved name back",
  request: { pool, key: leaseKey },
  answer: { was: { type: "boolean", required: true, doc: "Whether the attachment had it" } },
  run: (guest, r) => ({ was: guest.setup.leases.release(poolOf(guest, r.pool), r.key) }),
});

export const noteSet = hostCall({
  name: "note_set",
  operations: ["ADD", "DEL"],
  roles: [],
  doc: "Keeps a value in the attachment's journal, for a later run of the same plugin",
  request: {
    key: { type: "string", format: "key", required: true },
    value: { type: "string", maxLength: 16_384, required: true },
  },
  answer: {},
  run(guest, r) {
    const { journal, plugin } = guest.setup;
    if (journal === undefined) {
      throw new CniError(Code.NotInThisOperation, `Cannot keep the note "${r.key}": the operation has no journal`, {
        remedy: "Set notes in ADD",
      });
    }
    journal.append({ is: "note", plugin, key: r.key, value: r.value });
    return {};
  },
});

export const noteGet = hostCall({
  name: "note_get",
  operations: reading,
  roles: [],
  doc: "Reads a note of this plugin",
  request: { key: { type: "string", format: "key", required: true } },
  answer: { value: { type: "string", doc: "Absent when there is no such note" } },
  run(guest, r) {
    let value: string | undefined;
    for (const e of guest.setup.journal?.entries ?? []) {
      if (e.is === "note" && e.plugin === guest.setup.plugin && e.key === r.key) value = e.value;
    }
    return { value };
  },
});

export const log = hostCall({
  name: "log",
  operations: always,
  roles: [],
  doc: "Writes a line to the log. Past the limit of bytes lines are dropped",
  request: {
    level: { type: "string", enum: ["debug", "info", "warn", "error"], default: "info" },
    message: { type: "string", maxLength: 4096, required: true },
  },
  answer: {},
  run(guest, r) {
    guest.loggedBytes += r.message.length;
    if (guest.loggedBytes <= guest.setup.grants.limits.logBytes) guest.setup.log(r.level, r.message);
    return {};
  },
});

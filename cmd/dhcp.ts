/** `patchbay dhcp`: renews the DHCP leases of the node's pods until it is asked to stop. */
import { writeSync } from "node:fs";
import { BuiltIns } from "../core/attach/built-ins.ts";
import { LeaseKeeper } from "../core/attach/dhcp.ts";
import { Node } from "../core/attach/node.ts";
import { CniError, Code } from "../core/base/error.ts";
import { timeOf } from "../core/ipam/dhcp/lease.ts";
import type { FoundDhcpRecord } from "../core/state/dhcp.ts";
import { bootTimeMs } from "../core/sys/clock.ts";
import { StopSignal } from "../core/sys/stop.ts";
import { embedded } from "./embedded.ts";
import type { Level } from "./log.ts";
import type { Values } from "./options.ts";
import { table } from "./table.ts";

export function dhcp(values: Values): number {
  using builtIns = new BuiltIns(embedded, embedded.plugins);
  using node = new Node({ environment: process.env, builtIns });
  if (values.list === true) return list(node, values.json === true);
  const { dhcp: leases } = node.store;
  using only = leases.becomeRenewer();
  if (only === undefined) {
    throw new CniError(Code.Busy, "Cannot renew DHCP leases: another process on this node does", {
      remedy: "Stop that one first, or leave it to it",
    });
  }
  using stop = StopSignal.install();
  say("info", `renewing ${leases.list().length} DHCP leases`);
  new LeaseKeeper({ leases, log: say, stop }).run();
  say("info", "stopped; leases stay and are taken up by the next start");
  return 0;
}

/** Written at once: a unit's journal is where people look when a pod lost its address. */
function say(level: Level, message: string): void {
  writeSync(2, `${JSON.stringify({ time: new Date().toISOString(), level, msg: message })}\n`);
}

function list(node: Node, json: boolean): number {
  const records = node.store.dhcp.list();
  const now = bootTimeMs();
  const rows = records.map((record) => ({
    container: record.container,
    network: record.network,
    interface: record.ifname,
    address: record.address,
    server: record.server,
    state: stateOf(record, now),
    ...leftOf(record, now),
    timeServers: record.timeServers,
  }));
  if (json) writeSync(1, `${JSON.stringify(rows, null, 2)}\n`);
  else if (rows.length === 0) writeSync(1, "No DHCP leases\n");
  else {
    const columns = ["CONTAINER", "NETWORK", "INTERFACE", "ADDRESS", "SERVER", "STATE", "SECONDS LEFT"];
    const cells = rows.map((row) => [
      row.container.slice(0, 13),
      row.network,
      row.interface,
      row.address,
      row.server,
      row.state,
      "secondsLeft" in row ? String(row.secondsLeft) : "-",
    ]);
    writeSync(1, table(columns, cells));
  }
  return 0;
}

function stateOf(record: FoundDhcpRecord, now: number): string {
  if (record.earlierBoot) return "of an earlier boot";
  if (record.state !== "bound") return record.state;
  if (now >= timeOf(record, "lease")) return "over";
  if (now >= timeOf(record, "rebind")) return "rebinding";
  return now >= timeOf(record, "renew") ? "renewing" : "bound";
}

function leftOf(record: FoundDhcpRecord, now: number): { readonly secondsLeft?: number } {
  const end = timeOf(record, "lease");
  if (record.earlierBoot || record.state !== "bound" || !Number.isFinite(end)) return {};
  return { secondsLeft: Math.max(0, Math.round((end - now) / 1000)) };
}

/** `patchbay status`: what is attached on this node, from the journals alone. */
import { writeSync } from "node:fs";
import { BuiltIns } from "../core/attach/built-ins.ts";
import { Node } from "../core/attach/node.ts";
import { isObject, type Json, type JsonObject } from "../core/base/json.ts";
import type { Journal } from "../core/state/journal.ts";
import { embedded } from "./embedded.ts";
import type { Values } from "./options.ts";
import { table } from "./table.ts";

interface Row {
  readonly container: string;
  readonly pod: string;
  readonly interface: string;
  readonly network: string;
  readonly ips: readonly string[];
  readonly mac: string;
  readonly state: "attached" | "half made";
  readonly status: JsonObject | undefined;
}

export function status(values: Values): number {
  using builtIns = new BuiltIns(embedded, embedded.plugins);
  using node = new Node({ environment: process.env, builtIns });
  if (values.networks === true) return showNetworks(node, values.json === true);
  const rows = node.store
    .containers()
    .filter((id) => values.container === undefined || id === values.container)
    .flatMap((id) => node.store.peek(id).flatMap(rowsOf));
  if (values.json === true) writeSync(1, `${JSON.stringify(pods(rows), null, 2)}\n`);
  else if (rows.length === 0) writeSync(1, "Nothing is attached on this node\n");
  else writeSync(1, showRows(rows));
  return 0;
}

function rowsOf(journal: Journal): Row[] {
  const { container, pod, ifname, label } = journal.header;
  const base = { container, pod: pod === undefined ? "-" : `${pod.namespace}/${pod.name}`, network: label };
  if (journal.done === undefined) {
    return [{ ...base, interface: ifname, ips: [], mac: "", state: "half made", status: undefined }];
  }
  return journal.done.status.filter(isObject).map((entry) => ({
    ...base,
    interface: text(entry.interface) || ifname,
    ips: Array.isArray(entry.ips) ? entry.ips.map(String) : [],
    mac: text(entry.mac),
    state: "attached",
    status: entry,
  }));
}

const text = (value: Json | undefined): string => (typeof value === "string" ? value : "");

/** One object a pod, with its network-status list as the annotation has it. */
function pods(rows: readonly Row[]): JsonObject[] {
  const containers = [...new Set(rows.map((row) => row.container))];
  return containers.map((container) => {
    const own = rows.filter((row) => row.container === container);
    const pod = own[0]?.pod ?? "-";
    return {
      container,
      ...(pod === "-" ? {} : { pod }),
      complete: own.every((row) => row.state === "attached"),
      status: own.flatMap((row) => (row.status === undefined ? [] : [row.status])),
    };
  });
}

function showRows(rows: readonly Row[]): string {
  return table(
    ["POD", "CONTAINER", "INTERFACE", "NETWORK", "ADDRESSES", "MAC", "STATE"],
    rows.map((row) => [
      row.pod,
      row.container.slice(0, 13),
      row.interface,
      row.network,
      row.ips.join(" ") || "-",
      row.mac || "-",
      row.state,
    ]),
  );
}

function showNetworks(node: Node, json: boolean): number {
  const objects = node.store.networks.list();
  if (json) {
    const list = objects.map(({ kind, name, facts, attachments }) => ({
      kind,
      name,
      facts,
      attachments: attachments.length,
    }));
    writeSync(1, `${JSON.stringify(list, null, 2)}\n`);
  } else if (objects.length === 0) writeSync(1, "No network has objects of its own on this node\n");
  else {
    const rows = objects.map((o) => [o.kind, o.name, text(o.facts.network) || "-", String(o.attachments.length)]);
    writeSync(1, table(["KIND", "NAME", "NETWORK", "ATTACHMENTS"], rows));
  }
  return 0;
}

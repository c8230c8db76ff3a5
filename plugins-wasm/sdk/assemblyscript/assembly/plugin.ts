import { Json, parse } from "./json";
import { env, fail, readStdin, stdinLength, stdinStart } from "./process";

let read: Json | null = null;

/** The network configuration: the host has checked it against the manifest's schema and filled in the defaults. */
export function conf(): Json {
  let doc = read;
  if (!doc) {
    readStdin();
    doc = parse(stdinStart, stdinLength, "the network configuration");
    read = doc;
  }
  return doc;
}

/** What a plugin does beside ADD. */
export class Operations {
  /** Runs only for a plugin whose manifest says `"undo": "guest"`; else the host undoes by its journal. */
  del: (() => void) | null = null;
  check: (() => void) | null = null;
  status: (() => void) | null = null;
  gc: (() => void) | null = null;
}

/** Runs the operation that `CNI_COMMAND` names; one that the plugin does not have succeeds without output. */
export function plugin(add: () => void, operations: Operations = {}): void {
  const command = env("CNI_COMMAND");
  let run: (() => void) | null = null;
  if (command == "ADD") run = add;
  else if (command == "DEL") run = operations.del;
  else if (command == "CHECK") run = operations.check;
  else if (command == "STATUS") run = operations.status;
  else if (command == "GC") run = operations.gc;
  else fail(4, 'Cannot do "' + command + '": expected ADD, DEL, CHECK, STATUS or GC', "Set CNI_COMMAND to an operation");
  if (run) run(); // returning is exit code 0, at less cost than saying so
}

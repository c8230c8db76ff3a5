/** A guest in the sandbox as a delegate. */

import { CniError, Code } from "../base/error.ts";
import { isObject } from "../base/json.ts";
import { normaliseCapabilities } from "../cni/capability.ts";
import { formatCniArgs } from "../cni/env.ts";
import { canonicalRequest } from "../cni/request.ts";
import { formatResult, parseResult } from "../cni/result.ts";
import type { NetConf, Result } from "../cni/types.ts";
import { NEWEST, SUPPORTED } from "../cni/version.ts";
import { Firewalld } from "../dbus/firewalld.ts";
import { canonical } from "../host/conf.ts";
import { GuestContext, type JournalSink } from "../host/context.ts";
import { runGuest } from "../host/run.ts";
import { grantsOf } from "../policy/decide.ts";
import { refuseHostLink } from "../policy/policy.ts";
import type { DeviceOwner } from "../state/devices.ts";
import type { Journal } from "../state/journal.ts";
import type { Delegate, DelegateCall } from "./delegate.ts";
import { runIpam } from "./ipam.ts";
import type { AttachmentContext, BuiltIn, DelegateNode } from "./node.ts";
import { ownerOf } from "./owner.ts";
import { recordId } from "./record.ts";
import { sysctlWord } from "./sysctls.ts";

/** What a guest said, or was stopped for, unlike what keeps the host from running it. */
export class GuestError extends CniError {
  constructor(error: CniError) {
    super(error.code, error.message, { remedy: error.remedy, cause: error.cause });
  }
}

export function guestDelegate(plugin: BuiltIn): Delegate {
  const { manifest } = plugin;
  return {
    type: manifest.name,
    how: manifest.undo === "guest" ? "guest-undo" : "guest",
    sha256: plugin.sha256,
    versions: () => SUPPORTED,
    run: (call, context) => run(plugin, call, context),
  };
}

function run(plugin: BuiltIn, call: DelegateCall, context: AttachmentContext): Result | undefined {
  const { manifest } = plugin;
  const { node, identity, journal, pod } = context;
  const { target, command } = call;
  const conf = canonical(manifest, asGuestsRead(canonicalRequest(call.conf)));
  const guest = new GuestContext({
    operation: command,
    manifest,
    grants: grantsOf(node.policy, manifest, { builtIn: true }),
    attachment: { container: identity?.container ?? "", network: context.network, ifname: identity?.ifname ?? "" },
    plugin: call.plugin,
    conf,
    netnsPath: target.netns,
    pod,
    host: node.host(),
    refuseHostLink: (link) => (context.settled ? undefined : refuseHostLink(node.policy, context.author, link)),
    sysctlWord: (key, link) => (context.settled ? "free" : sysctlWord(key, link, node.policy, context.author)),
    journal:
      context.notes ?? (manifest.undo === "guest" && journal ? durableNotes(journal, call.plugin, node) : journal),
    useNetworkObject(kind, name, facts) {
      if (journal === undefined) return;
      const ref = { container: journal.header.container, key: journal.key };
      node.store.networks.use(kind, name, ref, { ...facts, keep: manifest.keepNetworkObjects });
    },
    ownerOf: (key) => ownerOf(node.store, key),
    firewalld: () => Firewalld.open(node.environment.DBUS_SYSTEM_BUS_ADDRESS),
    leases: {
      acquire(pool, key) {
        using reserved = node.store.leases.open(pool, { create: true });
        return reserved?.acquire(key, owner(context)) ?? false;
      },
      release(pool, key) {
        return node.store.leases.release(pool, key, owner(context)) === "released";
      },
    },
    devices: () => ({ node: node.devices(), owner: borrower(context) }),
    runIpam: (operation) => runIpam(operation, call, context),
    log: (level, message) => node.log(level, `${manifest.name}: ${message}`),
  });
  const { stop } = node;
  const outcome = runGuest({
    ...(stop && { stopRequested: () => stop.requested }),
    engine: node.engine(),
    module: node.module(plugin),
    guest,
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: target.containerId,
      CNI_NETNS: target.netns,
      CNI_IFNAME: target.ifname,
      CNI_ARGS: formatCniArgs(target.args),
      CNI_PATH: "",
    },
  });
  const log = new TextDecoder().decode(outcome.stderr).trim();
  if (log !== "") node.log("info", `${manifest.name}: ${log}`);
  if ("error" in outcome) throw new GuestError(outcome.error);
  if (outcome.result === undefined) return undefined;
  const version = typeof call.conf.cniVersion === "string" ? call.conf.cniVersion : "";
  return parseResult(outcome.result, version, `the result of plugin "${manifest.name}"`);
}

/**
 * What differs between versions and runtimes is gone before a guest reads it: the previous result is in the newest
 * form, and the values of capabilities have one spelling.
 */
function asGuestsRead(conf: NetConf): NetConf {
  const { runtimeConfig, prevResult, cniVersion } = conf;
  const version = typeof cniVersion === "string" ? cniVersion : "";
  return {
    ...conf,
    ...(isObject(runtimeConfig) && { runtimeConfig: normaliseCapabilities(runtimeConfig) }),
    ...(isObject(prevResult) && { prevResult: formatResult(parseResult(prevResult, version, "prevResult"), NEWEST) }),
  };
}

/** The journal of a guest that undoes itself: its notes go to the disk too, since what they speak of outlives a boot. */
function durableNotes(journal: Journal, plugin: number, { store }: DelegateNode): JournalSink {
  return {
    get entries() {
      return journal.entries;
    },
    append(entry) {
      journal.append(entry);
      if (entry.is !== "note") return;
      const notes = journal.entries.filter((e) => e.is === "note").filter((e) => e.plugin === plugin);
      store.durable.putNotes(recordId(journal, plugin), Object.fromEntries(notes.map((e) => [e.key, e.value])));
    },
  };
}

/** Whose a borrowed device is. */
function borrower({ journal, network }: AttachmentContext): DeviceOwner {
  if (journal === undefined) {
    throw new CniError(Code.NotInThisOperation, "Cannot borrow a device: the operation has no attachment", {
      remedy: "Borrow devices in ADD",
    });
  }
  const { container, ifname, netns, pod } = journal.header;
  return { container, network, ifname, key: journal.key, netns, ...(pod && { pod }) };
}

/** Whose the reservations and leases of this attachment are. */
export function owner(context: AttachmentContext): { container: string; ifname: string; cookie: string } {
  return {
    container: context.identity?.container ?? "",
    ifname: context.identity?.ifname ?? "",
    cookie: context.journal?.header.netns.cookie ?? "",
  };
}

/** One run of one guest: who it runs for, what it may do, what it did. */
import { CniError, Code } from "../base/error.ts";
import { derive } from "../base/hash.ts";
import { type Cidr, contains, type Ip, networkOf, parseCidr, parseIp, sameIp } from "../base/ip.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import type { Result } from "../cni/types.ts";
import type { Firewalld } from "../dbus/firewalld.ts";
import type { Kernel, Link } from "../kernel/kernel.ts";
import { type CallRule, decide, type Grants, type Operation, type Target } from "../policy/decide.ts";
import { isWildcard, type Manifest, type NamedLink, type NamedRole } from "../policy/manifest.ts";
import type { SysctlWord } from "../policy/sysctl-list.ts";
import type { DeviceOwner } from "../state/devices.ts";
import type { Entry, Place, UndoStep } from "../state/entries.ts";
import type { DeviceNode } from "./device-find.ts";
import { isMade, nextUndo, ownLinks } from "./facts.ts";
import { Handles, type LinkHandle } from "./handles.ts";

/** What an IPAM gives an attachment. */
export type IpamAnswer = Pick<Result, "ips" | "routes" | "dns">;

/** What the host needs of the journal of the attachment. */
export interface JournalSink {
  readonly entries: readonly Entry[];
  append(entry: Entry): void;
}

/** What a call came to, for a trace that a person can read. */
export interface CallTrace {
  readonly plugin: string;
  readonly call: string;
  readonly request: string;
  /** 0, or the code of the refusal. */
  readonly code: number;
}

export interface GuestSetup {
  readonly operation: Operation;
  readonly manifest: Manifest;
  readonly grants: Grants;
  readonly attachment: { readonly container: string; readonly network: string; readonly ifname: string };
  /** Index among the network's plugins: notes are kept by it. */
  readonly plugin: number;
  /** As `canonical()` gave it. */
  readonly conf: JsonObject;
  /** CNI_NETNS, which the result names; empty when there is none. */
  readonly netnsPath: string;
  readonly pod: Kernel | undefined;
  readonly host: Kernel;
  /** Whether the policy keeps the network from naming this link of the node. */
  refuseHostLink(link: string): CniError | undefined;
  /** What the administrator says of a sysctl of the pod; `key` with `<link>`, which stands for `link`. */
  sysctlWord(key: string, link: string | undefined): SysctlWord;
  /** Undefined when the operation has no attachment (STATUS, GC) or leaves none behind. */
  readonly journal: JournalSink | undefined;
  /** Notes that the attachment uses an object of the network; its undo step is in the journal by then. */
  useNetworkObject(kind: string, name: string, facts: JsonObject): void;
  /**
   * Whose attachment on this node a key of `nftKey()` names.
   *
   * @returns undefined when nothing is known of it; `alive` while its namespace exists
   */
  ownerOf?(key: string): { readonly label: string; readonly alive: boolean } | undefined;
  /** firewalld, by a connection that is the caller's to close; undefined when it does not run. */
  firewalld(): Firewalld | undefined;
  /** Numbers and names that a plugin reserves on this node. */
  readonly leases: {
    acquire(pool: string, key: string): boolean;
    release(pool: string, key: string): boolean;
  };
  /** What borrowing a device takes, and who borrows it; asked for by calls on devices alone. */
  devices(): { readonly node: DeviceNode; readonly owner: DeviceOwner };
  /** Runs the IPAM of the network, whatever that is. @throws {CniError} its own error. */
  runIpam(command: Operation): IpamAnswer | undefined;
  log(level: "debug" | "info" | "warn" | "error", message: string): void;
  trace?(call: CallTrace): void;
}

/** In the names of an attachment's nft chains. */
export function nftKey(of: { readonly container: string; readonly network: string; readonly ifname: string }): string {
  return derive(24, of.container, of.network, of.ifname);
}

/** The one device of an attachment, as this run knows it. */
export interface BorrowedDevice {
  /** Of its record. */
  readonly key: string;
  /** Such as its PCI address; "" for a link that is no device's. */
  readonly id: string;
  /** The undo step that gives it back. */
  readonly undo?: number | undefined;
  readonly virtualFunction?: { readonly of: string; readonly number: number } | undefined;
  /** Its interface on the node, until it is moved. */
  readonly handle?: LinkHandle | undefined;
  /** Without an interface: the addresses that a result may claim for it. */
  readonly macs?: string[] | undefined;
}

export class GuestContext {
  readonly setup: GuestSetup;
  readonly handles = new Handles();
  /** What IPAM and the plugins before gave the attachment: the addresses that may appear on the node and in a result. */
  readonly addresses: Cidr[] = [];
  readonly gateways: Ip[] = [];
  /** What this run put on links of the pod. */
  readonly configured: Cidr[] = [];
  /** The borrowed device, once it was asked for. */
  device: BorrowedDevice | undefined;
  calls = 0;
  denied = 0;
  loggedBytes = 0;
  /** The last answer, until the next call. */
  answer: Uint8Array = new Uint8Array(0);
  /** Why the run is being ended, when a call ended it. */
  stop: CniError | undefined;

  constructor(setup: GuestSetup) {
    this.setup = setup;
    const before = setup.conf.prevResult;
    if (isObject(before)) this.#takeAddresses(before.ips);
  }

  /** The pod's or the node's kernel. @throws {CniError} 122 when the pod's namespace is gone or was never there. */
  kernel(where: Place): Kernel {
    const kernel = where === "pod" ? this.setup.pod : this.setup.host;
    if (kernel !== undefined) return kernel;
    throw new CniError(Code.NotInThisOperation, 'Cannot use "in":"pod": the operation has no network namespace', {
      remedy: "Skip what concerns the pod's namespace",
    });
  }

  /** @throws {CniError} 121 or 122 */
  permit(rule: CallRule, target?: Target): void {
    const verdict = decide(this.setup, rule, target);
    if (verdict.allow) return;
    this.denied++;
    throw new CniError(
      verdict.code,
      `Cannot make the call "${rule.name}" for plugin "${this.setup.manifest.name}": ${verdict.reason}`,
      { remedy: verdict.remedy },
    );
  }

  /** As `permit()`; of what may be left undone it answers whether it is granted. @throws {CniError} 121 or 122 */
  may(rule: CallRule, target: Target, optional: boolean): boolean {
    if (optional && !decide(this.setup, rule, target).allow) {
      this.denied++;
      return false;
    }
    this.permit(rule, target);
    return true;
  }

  /** Takes what an IPAM answered as the attachment's. */
  takeIpam(result: IpamAnswer): void {
    this.#takeAddresses(result.ips as unknown as Json);
  }

  #takeAddresses(ips: Json | undefined): void {
    if (!Array.isArray(ips)) return;
    for (const ip of ips as readonly Json[]) {
      if (!isObject(ip) || typeof ip.address !== "string") continue;
      const address = parseCidr(ip.address);
      if (address !== undefined) this.addresses.push(address);
      const gateway = typeof ip.gateway === "string" ? parseIp(ip.gateway) : undefined;
      if (gateway !== undefined) this.gateways.push(gateway);
    }
  }

  /** Whether an address is one of the attachment's own. */
  isOwnAddress(ip: Ip): boolean {
    return this.addresses.some((a) => sameIp(a.ip, ip));
  }

  /** Whether an address may stand on the node for this attachment: a gateway, or another of a network it is on. */
  isNetworkAddress(ip: Ip): boolean {
    return this.gateways.some((g) => sameIp(g, ip)) || this.addresses.some((a) => contains(networkOf(a), ip));
  }

  /** A sysctl as a target. Only of a plugin that may set any the administrator is asked. */
  sysctl(where: Place, key: string, link: string | undefined): Target {
    const { manifest } = this.setup;
    const target = { whose: "sysctl", pattern: `${where}:${key}` } as const;
    if (where !== "pod" || !manifest.sysctls.some(isWildcard)) return target;
    return { ...target, word: this.setup.sysctlWord(key, link) };
  }

  // --- whose a link is -------------------------------------------------------------------------------------------

  /** The name that the configuration gives for a role, and where that link is. */
  #named(role: NamedRole, rule: NamedLink): { readonly name: string; readonly in: Place } | undefined {
    const conf = this.setup.conf;
    const chosen = rule.inPodWhen !== undefined && conf[rule.inPodWhen] === true;
    const where: Place = rule.inPod === true || chosen ? "pod" : "host";
    const name = conf[rule.key];
    if (typeof name === "string" && name !== "") return { name, in: where };
    if (role !== "parent") return undefined;
    // Later operations get the result of the whole list, in which that interface no longer stands.
    if (rule.orPreviousInterface && this.setup.operation === "ADD" && isObject(conf.prevResult)) {
      const before = conf.prevResult.interfaces;
      const [only, ...others] = Array.isArray(before) ? (before as readonly Json[]) : [];
      if (others.length > 0 || !isObject(only) || typeof only.name !== "string") return undefined;
      return { name: only.name, in: where };
    }
    if (!rule.orDefaultRoute) return undefined;
    const link = this.defaultRouteLink(where);
    return link === undefined ? undefined : { name: link.name, in: where };
  }

  /** The link that carries the default route, IPv4 first, as the reference plugins choose a master. */
  defaultRouteLink(where: Place): Link | undefined {
    const kernel = this.kernel(where);
    for (const family of [4, 6] as const) {
      const all = kernel.routes({ family }).filter((r) => r.dst === undefined && r.index !== undefined);
      const main = all.filter((r) => r.table === undefined || r.table === 254);
      const best = main.toSorted((a, b) => (a.priority ?? 0) - (b.priority ?? 0))[0];
      if (best?.index !== undefined) return kernel.linkByIndex(best.index);
    }
    return undefined;
  }

  /** The role that the configuration gives a link of that name, before the policy is asked. */
  namedRole(where: Place, name: string): NamedRole | undefined {
    for (const [role, rule] of this.setup.manifest.links) {
      const named = this.#named(role, rule);
      if (named === undefined || named.in !== where) continue;
      if (named.name === name) return role;
      // A network's bridge has companions of its own, one a VLAN: "cni0.100".
      if (
        role === "bridge" &&
        name.startsWith(`${named.name}.`) &&
        /^\d{1,4}$/.test(name.slice(named.name.length + 1))
      ) {
        return role;
      }
    }
    return undefined;
  }

  /** Whose a link of that name would be on the node. @throws {CniError} 101 when the policy keeps it from the network. */
  grantedName(where: Place, name: string): Target {
    const role = this.namedRole(where, name);
    if (role === undefined) return where === "host" ? { whose: "host" } : { whose: "other" };
    const refusal = where === "host" ? this.setup.refuseHostLink(name) : undefined;
    if (refusal !== undefined) throw refusal;
    return { whose: "granted", role };
  }

  /** Whose a link of the kernel is: by the journal, then by the configuration. */
  whose(where: Place, link: Link): { readonly target: Target; readonly undo?: number } {
    const own = ownLinks(this.setup.journal?.entries ?? []).find((o) => isMade(o, where, link));
    const undo = own === undefined ? {} : { undo: own.id };
    if (where === "pod" && link.name === (this.setup.manifest.podLink ?? this.setup.attachment.ifname)) {
      return { target: { whose: "own", role: "pod-link" }, ...undo };
    }
    if (own !== undefined) return { target: { whose: "own", role: "own" }, ...undo };
    return { target: this.grantedName(where, link.name) };
  }

  /**
   * The node's end of a veth in the pod. The kernel knows both ends, so neither a name nor a number that the pod could
   * give something else decides.
   */
  peerOf(link: LinkHandle): Link | undefined {
    if (link.in !== "pod") return undefined;
    const { host } = this.setup;
    const pod = this.kernel("pod");
    const end = pod.linkByIndex(link.index);
    if (end?.kind !== "veth" || end.parent === undefined || end.parentNetnsId === undefined) return undefined;
    const other = host.linkByIndex(end.parent);
    if (other?.kind !== "veth" || other.parent !== end.index || other.parentNetnsId === undefined) return undefined;
    return other.parentNetnsId === host.netnsIdOf(pod) ? other : undefined;
  }

  /** Whose the answer of `peerOf()` is: ours by the journal, else of the plugin that made the pod's interface. */
  whosePeer(link: Link): { readonly target: Target; readonly undo?: number } {
    const own = ownLinks(this.setup.journal?.entries ?? []).find((o) => isMade(o, "host", link));
    if (own !== undefined) return { target: { whose: "own", role: "own" }, undo: own.id };
    return { target: { whose: "own", role: "peer" } };
  }

  /** Gives a handle for a link. */
  open(
    where: Place,
    link: Link,
    known?: { readonly target: Target; readonly undo?: number; readonly borrowed?: true },
  ): number {
    const { target, undo, borrowed } = known ?? { borrowed: undefined, ...this.whose(where, link) };
    const { index, name, mac, kind, mtu } = link;
    const added = { ...(undo ? { undo } : {}), ...(borrowed ? { borrowed } : {}) };
    return this.handles.add({ is: "link", in: where, index, name, mac, kind, mtu, target, ...added });
  }

  // --- journal before effect -------------------------------------------------------------------------------------

  /** Writes the intent. Nothing may touch the kernel before this returned. @returns The step's number. */
  intend(step: UndoStep): number {
    const journal = this.setup.journal;
    if (journal === undefined) {
      throw new CniError(Code.NotInThisOperation, "Cannot change anything: the operation has no journal", {
        remedy: "Make changes in ADD",
      });
    }
    const id = nextUndo(journal.entries);
    journal.append({ is: "undo", id, step });
    return id;
  }

  /** Writes what the kernel said of a link that was made, moved or changed. */
  made(id: number, where: Place, link: Pick<Link, "index" | "name" | "kind" | "mac">): void {
    const { index, name, kind, mac } = link;
    this.setup.journal?.append({ is: "made", id, facts: { in: where, index, name, kind, mac } });
  }

  /** Notes that the attachment uses what belongs to the network on this node: once, and before it is touched. */
  share(kind: string, name: string, facts: JsonObject): void {
    const known = (this.setup.journal?.entries ?? []).some(
      (e) => e.is === "undo" && e.step.do === "network-object" && e.step.kind === kind && e.step.name === name,
    );
    if (known) return;
    this.intend({ do: "network-object", kind, name });
    this.setup.useNetworkObject(kind, name, { network: this.setup.attachment.network, ...facts });
  }

  undone(id: number): void {
    this.setup.journal?.append({ is: "undone", id });
  }

  /** True when what is set on the link goes with it, because this attachment made it. */
  goesWithLink(link: LinkHandle): boolean {
    return link.undo !== undefined;
  }

  // --- names -----------------------------------------------------------------------------------------------------

  /** A name on the node that no configuration gives: the same in every process, before and after a crash. */
  derivedName(prefix: string, digits: number): string {
    const { container, network, ifname } = this.setup.attachment;
    const begun = (this.setup.journal?.entries ?? []).filter((e) => e.is === "undo" && e.step.do === "link").length;
    return prefix + derive(digits, container, network, ifname, String(begun));
  }

  /** Names the attachment's nft chains. */
  nftKey(): string {
    return nftKey(this.setup.attachment);
  }

  /** What people read in `ip link` on the node; nothing of ours reads it. */
  alias(): string {
    const { container, network, ifname } = this.setup.attachment;
    return `patchbay ${container}/${network}/${ifname}`.slice(0, 255);
  }
}

import { CniError, Code } from "../base/error.ts";
import { derive } from "../base/hash.ts";
import { formatIp, type Ip, parseCidr, parseIp } from "../base/ip.ts";
import { type JsonObject, member } from "../base/json.ts";
import type { Document } from "../cni/document.ts";
import type { Dns, ResultIp, ResultRoute } from "../cni/types.ts";
import type { UndoLog } from "../state/journal.ts";
import { type LeaseBackend, type LeaseOwner, type LeasePool, sameOwner } from "../state/leases.ts";
import {
  type IpamConf,
  ipamDocument,
  ipamObject,
  parseAddress,
  parseRoutes,
  previousIps,
  requestedByArgs,
  requestedByRuntime,
  requireExpressible,
} from "./conf.ts";
import { DIFFERENT, type GarbageQuestion, type Ipam, type IpamRequest, type IpamResult } from "./ipam.ts";
import { candidates, capacity, parseRangeSets, type RangeSet, rangeOf, spell } from "./ranges.ts";
import { readResolvConf } from "./resolv-conf.ts";

/** Where the reference keeps its files, and the pool that needs no other name than the network's. */
export const REFERENCE_DATA_DIR = "/var/lib/cni/networks";

/** The directory that a configuration names for leases in the reference's own files. @throws {CniError} 7 */
export function dataDirOf(request: IpamConf): string {
  const d = ipamDocument(request);
  const dataDir = member(ipamObject(d, request), "dataDir");
  if (dataDir === undefined || dataDir === "") return REFERENCE_DATA_DIR;
  const path = d.text("dataDir", dataDir);
  if (path.startsWith("/")) return path;
  throw d.refuse("dataDir", "an absolute path", dataDir);
}

/** So many looks at single names, then the directory is read once. */
const SINGLE_LOOKS = 32;

interface Conf {
  readonly sets: readonly RangeSet[];
  readonly routes: readonly ResultRoute[];
  readonly resolvConf: string | undefined;
  readonly requested: readonly Ip[];
}

function parseConf(request: IpamRequest): Conf {
  const d = ipamDocument(request);
  const ipam = ipamObject(d, request);
  const sets = parseRangeSets(d, ipam, member(request.runtimeConfig, "ipRanges"));
  requireExpressible(
    d,
    request,
    sets.map((set) => set[0].subnet.ip.family),
  );
  const resolvConf = member(ipam, "resolvConf");
  return {
    sets,
    routes: parseRoutes(d, ipam),
    resolvConf: resolvConf === undefined || resolvConf === "" ? undefined : d.text("resolvConf", resolvConf),
    requested: request.command === "ADD" ? parseRequested(d, request) : [],
  };
}

/** What is asked for in any of the three ways, each address once. A prefix length with it says nothing here. */
function parseRequested(d: Document, request: IpamRequest): Ip[] {
  const texts: (readonly [string, string])[] = [];
  const argument = request.args.get("IP");
  if (argument !== undefined && argument !== "") {
    for (const text of argument.split(",")) texts.push(["CNI_ARGS IP", text]);
  }
  for (const text of requestedByArgs(d, request)) texts.push(["args.cni.ips", text]);
  for (const text of requestedByRuntime(d, request)) texts.push(["runtimeConfig.ips", text]);
  const requested = new Map<string, Ip>();
  for (const [path, text] of texts) {
    const ip = parseCidr(text.trim())?.ip ?? parseAddress(d, path, text);
    requested.set(formatIp(ip), ip);
  }
  return [...requested.values()];
}

/**
 * The pool of a network's addresses. `dataDir` is no path here: another one than the default only makes another pool.
 * A name that a directory entry could not carry is shortened to one that no network can have.
 */
export function poolName(network: string, ipam: JsonObject): string {
  const dataDir = member(ipam, "dataDir");
  const usual = typeof dataDir !== "string" || dataDir === "" || dataDir.replace(/\/+$/, "") === REFERENCE_DATA_DIR;
  if (usual && network.length <= 200) return network;
  return `${network.slice(0, 200)}@${derive(16, network, usual ? "" : dataDir)}`;
}

/** The pool that a network leases from; what the one beside it has counts as taken there. */
interface Pools {
  readonly name: string;
  readonly beside?: string;
}

/**
 * A namespace's own pool is beside the shared one of that name, and the other way round: a policy that is made strict,
 * or open again, must not give an address a second time.
 */
function poolsOf(request: IpamRequest, leases: LeaseBackend): Pools {
  if (leases.usesPaths && request.nodeFiles) return { name: request.network };
  const shared = poolName(request.network, ipamObject(ipamDocument(request), request));
  if (request.pool === undefined) return { name: shared };
  const own = ownPoolName(request.pool.namespace, shared);
  return request.pool.apart ? { name: own, beside: shared } : { name: shared, beside: own };
}

/** Neither a namespace nor a network can have a colon in its name. */
function ownPoolName(namespace: string, shared: string): string {
  const name = shared.length <= 180 ? shared : `${shared.slice(0, 150)}@${derive(16, shared)}`;
  return `${namespace}:${name}`;
}

const namesOf = ({ name, beside }: Pools): string[] => (beside === undefined ? [name] : [name, beside]);

function open(pools: Pools, leases: LeaseBackend): LeasePool | undefined {
  return leases.open(pools.name, { create: false, beside: pools.beside });
}

/** The pool, made if it is absent: an effect, which the journal has to know before. */
function openForAdd(request: IpamRequest, leases: LeaseBackend, journal: UndoLog | undefined): LeasePool {
  const pools = poolsOf(request, leases);
  const there = open(pools, leases);
  if (there !== undefined) return there;
  journal?.intend({ do: "pool", pool: pools.name });
  const made = leases.open(pools.name, { create: true, beside: pools.beside });
  if (made === undefined) throw new TypeError(`Cannot open the pool "${pools.name}"`);
  return made;
}

const ownerOf = (request: IpamRequest): LeaseOwner => ({
  container: request.containerId,
  ifname: request.ifname,
  cookie: request.cookie,
});

export const hostLocal: Ipam = { type: "host-local", add, del, check, gc, status };

function add(request: IpamRequest, journal: UndoLog | undefined, leases: LeaseBackend): IpamResult {
  const conf = parseConf(request);
  const dns: Dns = conf.resolvConf === undefined ? {} : readDns(request, conf.resolvConf);
  using pool = openForAdd(request, leases, journal);
  const taking = new Taking(request, pool, journal);
  try {
    const wanted = [...conf.requested];
    const ips = conf.sets.map((set, i) => {
      const at = wanted.findIndex((ip) => rangeOf(set, ip) !== undefined);
      const [ip] = at < 0 ? [] : wanted.splice(at, 1);
      return ip === undefined ? taking.next(set, i) : taking.requested(set, i, ip);
    });
    if (wanted.length > 0) throw unsatisfied(request, conf, wanted);
    return { ips, routes: conf.routes, dns };
  } catch (cause) {
    taking.giveBack();
    throw cause;
  }
}

function readDns(request: IpamRequest, path: string): Dns {
  if (request.nodeFiles) return readResolvConf(path);
  throw new CniError(
    Code.NotAllowed,
    `Cannot read "${path}" for network "${request.network}": "resolvConf" is for configurations on the node`,
    { remedy: 'Leave out "resolvConf", or put the configuration into a file on the node' },
  );
}

/** One ADD's leases: taken one after the other, or all given back. */
class Taking {
  readonly #request: IpamRequest;
  readonly #pool: LeasePool;
  readonly #journal: UndoLog | undefined;
  readonly #owner: LeaseOwner;
  readonly #taken: { readonly address: string; readonly id: number | undefined }[] = [];
  /** What the owner had before, as addresses; found when first needed. */
  #earlier: readonly Ip[] | undefined;

  constructor(request: IpamRequest, pool: LeasePool, journal: UndoLog | undefined) {
    this.#request = request;
    this.#pool = pool;
    this.#journal = journal;
    this.#owner = ownerOf(request);
  }

  requested(set: RangeSet, index: number, ip: Ip): ResultIp {
    const range = rangeOf(set, ip);
    const address = formatIp(ip);
    if (range === undefined || address === formatIp(range.gateway)) {
      throw new CniError(Code.InvalidConfig, `${this.#sentence(address)}: it is the gateway of its subnet`, {
        remedy: "Ask for another address",
      });
    }
    this.#refuseSecond(set);
    if (this.#pool.taken(address) || !this.#take(address)) throw this.#occupied(address);
    this.#pool.setLast(index, address);
    return { address: `${address}/${range.subnet.prefix}`, gateway: formatIp(range.gateway) };
  }

  next(set: RangeSet, index: number): ResultIp {
    this.#refuseSecond(set);
    const last = this.#pool.last(index);
    let looks = 0;
    let all: Set<string> | undefined;
    for (const { ip, range } of candidates(set, last === undefined ? undefined : parseIp(last))) {
      const address = formatIp(ip);
      if (++looks > SINGLE_LOOKS) all ??= this.#pool.addresses();
      if (all?.has(address) ?? this.#pool.taken(address)) continue;
      if (!this.#take(address)) continue;
      this.#pool.setLast(index, address);
      return { address: `${address}/${range.subnet.prefix}`, gateway: formatIp(range.gateway) };
    }
    throw this.#exhausted(set);
  }

  /** The undo step first, then the lease. @returns false when another has the address after all */
  #take(address: string): boolean {
    const id = this.#journal?.intend({ do: "lease", pool: this.#pool.name, address });
    if (this.#pool.acquire(address, this.#owner)) {
      this.#taken.push({ address, id });
      return true;
    }
    if (id !== undefined) this.#journal?.undone(id);
    return false;
  }

  /** One owner has one address of a set. A second ADD without a DEL is refused, and takes nothing. */
  #refuseSecond(set: RangeSet): void {
    const taken = this.#taken.map(({ address }) => address);
    this.#earlier ??= this.#findEarlier().flatMap((address) => parseIp(address) ?? []);
    const had = this.#earlier.find((ip) => rangeOf(set, ip) !== undefined && !taken.includes(formatIp(ip)));
    if (had === undefined) return;
    const { network, containerId, ifname } = this.#request;
    throw new CniError(
      Code.InvalidEnvironment,
      `Cannot lease a second address of network "${network}" to "${ifname}" of container "${containerId}": it has "${formatIp(had)}"`,
      { remedy: "Delete the attachment before adding it again" },
    );
  }

  #findEarlier(): string[] {
    const mine = (address: string): boolean => {
      const owner = this.#pool.owner(address)?.owner;
      return owner !== undefined && sameOwner(owner, this.#owner);
    };
    if (this.#journal === undefined) return leasesOf(this.#pool, this.#owner);
    const undone = new Set(this.#journal.entries.flatMap((entry) => (entry.is === "undone" ? [entry.id] : [])));
    return this.#journal.entries.flatMap((entry) => {
      if (entry.is !== "undo" || entry.step.do !== "lease" || undone.has(entry.id)) return [];
      return entry.step.pool === this.#pool.name && mine(entry.step.address) ? [entry.step.address] : [];
    });
  }

  /** What cannot be given back here stays in the journal for DEL; the first failure is what the caller hears of. */
  giveBack(): void {
    for (const { address, id } of this.#taken.reverse()) {
      try {
        this.#pool.release(address, this.#owner);
        if (id !== undefined) this.#journal?.undone(id);
      } catch {
        // Named by its undo step, which is not marked undone.
      }
    }
  }

  #sentence(address: string): string {
    return `Cannot lease "${address}" of network "${this.#request.network}" to container "${this.#request.containerId}"`;
  }

  #occupied(address: string): CniError {
    const owner = this.#pool.owner(address)?.owner;
    const who = owner === undefined ? "another" : `"${owner.ifname}" of container "${owner.container}"`;
    return new CniError(Code.TryAgainLater, `${this.#sentence(address)}: ${who} has it`, {
      remedy: "Ask for another address, or wait until that container is deleted",
    });
  }

  #exhausted(set: RangeSet): CniError {
    const { network } = this.#request;
    return new CniError(
      Code.TryAgainLater,
      `Cannot lease an address of network "${network}": all ${capacity(set)} of ${set.map(spell).join(", ")} are taken`,
      { remedy: `Delete pods on this node, or add a range to network "${network}"` },
    );
  }
}

function unsatisfied(request: IpamRequest, conf: Conf, wanted: readonly Ip[]): CniError {
  const asked = wanted.map((ip) => `"${formatIp(ip)}"`).join(", ");
  const fits = wanted.some((ip) => conf.sets.some((set) => rangeOf(set, ip) !== undefined));
  const why = fits ? "a range set gives one address only" : "it is in none of the network's ranges";
  const ranges = conf.sets.flat().map(spell).join(", ");
  return new CniError(Code.InvalidConfig, `Cannot lease ${asked} of network "${request.network}": ${why}`, {
    remedy: `Ask for one address in each of these: ${ranges}`,
  });
}

function leasesOf(pool: LeasePool, owner: Pick<LeaseOwner, "container" | "ifname">): string[] {
  return pool.list().flatMap((lease) => (lease.owner && sameOwner(lease.owner, owner) ? [lease.address] : []));
}

function hasLease(name: string, owner: LeaseOwner, leases: LeaseBackend): boolean {
  using pool = leases.open(name, { create: false });
  return pool !== undefined && leasesOf(pool, owner).length > 0;
}

function del(request: IpamRequest, leases: LeaseBackend): void {
  const failures: unknown[] = [];
  for (const name of namesOf(poolsOf(request, leases))) {
    using pool = leases.open(name, { create: false });
    if (pool !== undefined) failures.push(...releaseAll(pool, ownerOf(request)));
  }
  if (failures.length > 0) throw failures[0];
}

/** @returns What could not be released. */
function releaseAll(pool: LeasePool, owner: LeaseOwner): unknown[] {
  const failures: unknown[] = [];
  // Damaged files, and those that an old release of the reference wrote, are the owner's by what can be read of them:
  // `release()` looks.
  for (const address of pool.addresses()) {
    if (parseIp(address) === undefined) continue;
    try {
      pool.release(address, owner);
    } catch (cause) {
      failures.push(cause);
    }
  }
  return failures;
}

function check(request: IpamRequest, leases: LeaseBackend): void {
  const conf = parseConf(request);
  const owner = ownerOf(request);
  const pools = poolsOf(request, leases);
  const lost = (what: string): CniError =>
    new CniError(
      DIFFERENT,
      `Cannot find ${what} of network "${request.network}" for "${request.ifname}" of container "${request.containerId}"`,
      { remedy: "Delete the pod, so that its controller makes it anew" },
    );
  const previous = previousIps(request);
  if (previous === undefined) {
    if (!namesOf(pools).some((name) => hasLease(name, owner, leases))) throw lost("a lease");
    return;
  }
  using pool = open(pools, leases) ?? ((pools.beside && leases.open(pools.beside, { create: false })) || undefined);
  const has = (address: string): boolean => {
    const found = pool?.owner(address)?.owner;
    return found !== undefined && sameOwner(found, owner);
  };
  const ours = previous.flatMap(({ address }) => {
    const ip = parseCidr(address)?.ip;
    return ip !== undefined && conf.sets.some((set) => rangeOf(set, ip) !== undefined) ? [formatIp(ip)] : [];
  });
  const missing = ours.find((address) => !has(address));
  if (missing !== undefined) throw lost(`the lease of "${missing}"`);
  if (ours.length === 0) throw lost("an address");
}

function gc(request: IpamRequest, leases: LeaseBackend): void {
  const question = request.gc;
  using pool = question && open(poolsOf(request, leases), leases);
  if (question === undefined || pool === undefined) return;
  let first: unknown;
  for (const { address, owner } of pool.list()) {
    const kept = owner === undefined ? question.isNamed(pool.name, address) : isKept(owner, question);
    if (kept) continue;
    try {
      pool.reclaim(address);
    } catch (cause) {
      first ??= cause;
    }
  }
  if (first !== undefined) throw first;
}

/**
 * The list names containers that live, whatever their interfaces. An owner that it does not name is kept while its
 * namespace exists; where that cannot be known, only a list that names somebody is taken for evidence.
 */
function isKept(owner: LeaseOwner, question: GarbageQuestion): boolean {
  if (question.valid.some(({ containerID }) => containerID === owner.container)) return true;
  return question.isAlive(owner) ?? question.valid.length === 0;
}

function status(request: IpamRequest, leases: LeaseBackend): void {
  const conf = parseConf(request);
  if (conf.resolvConf !== undefined) readDns(request, conf.resolvConf);
  leases.probe();
}

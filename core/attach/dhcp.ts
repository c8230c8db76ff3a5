/**
 * Keeps the DHCP leases of the node's pods alive: asks the server at T1, any server at T2, and sets the interface down
 * when a lease is over. It goes by the records alone, so it can be ended and started at any time, and holds nothing of
 * a pod between two exchanges: an open namespace would outlive its pod, with all that is in it.
 */
import { Exchange, type Held, type Lease, type Outcome, type Surroundings } from "../ipam/dhcp/client.ts";
import { CLIENT_PORT } from "../ipam/dhcp/frame.ts";
import { clientOf, heldOf, isKernels, linkOf, prolonged, realWorld, timeOf } from "../ipam/dhcp/lease.ts";
import type { PodNetwork } from "../ipam/ipam.ts";
import type { DhcpLeases, DhcpRecord, FoundDhcpRecord } from "../state/dhcp.ts";
import { deadlineIn, monotonicMs, sleepMs } from "../sys/clock.ts";
import type { Packets } from "../sys/packet.ts";
import { POLLIN, Poll, pollOne } from "../sys/poll.ts";
import type { StopSignal } from "../sys/stop.ts";
import type { Log } from "./node.ts";
import { openPodOf } from "./pod.ts";

/** So many leases are asked for at once; the others wait for the next round. */
const AT_ONCE = 32;
/** How long the answers of a round are waited for. */
const ANSWER_MS = 2500;
/** How often the records are looked at for new ones. */
const LOOK_MS = 1000;
/** The records are read anew this often, whether or not they seem to have changed. */
const RELOAD_MS = 10_000;
/** RFC 2131 section 4.4.5: half of what is left, and at least this. */
const AGAIN_MS = 60_000;
/** A namespace that cannot be found is looked for again after this; doing so looks at every process. */
const GONE_MS = 60_000;
/** For asking anew for an address that a server has just refused to prolong. */
const ANEW_MS = 5000;

/** The namespace of a pod, for one exchange. */
export interface OpenPod extends Disposable {
  readonly kernel: PodNetwork;
}

export interface KeeperOptions {
  readonly leases: DhcpLeases;
  readonly log: Log;
  readonly stop: Pick<StopSignal, "requested" | "fd"> | undefined;
  openPod?(netns: DhcpRecord["netns"]): OpenPod | undefined;
  readonly world?: Surroundings;
}

interface Kept {
  record: FoundDhcpRecord;
  /** When something is to be done, on the clock of `Surroundings`. */
  nextMs: number;
  /** When it was last tried. */
  triedMs: number;
  /** It was said that its namespace cannot be found. */
  missed: boolean;
}

/** An exchange that waits for its answer. */
interface Pending {
  readonly kept: Kept;
  readonly held: Held;
  readonly exchange: Exchange;
  readonly packets: Packets;
  readonly pod: OpenPod;
  readonly askedMs: number;
  outcome: Outcome | undefined;
}

export class LeaseKeeper {
  readonly #leases: DhcpLeases;
  readonly #log: Log;
  readonly #stop: KeeperOptions["stop"];
  readonly #openPod: NonNullable<KeeperOptions["openPod"]>;
  readonly #world: Surroundings;
  #kept = new Map<string, Kept>();
  #version = "";
  #reloadMs = 0;

  constructor(o: KeeperOptions) {
    this.#leases = o.leases;
    this.#log = o.log;
    this.#stop = o.stop;
    this.#openPod = o.openPod ?? openPodOf;
    this.#world = o.world ?? realWorld(o.stop);
  }

  /** Works until the process is asked to stop. */
  run(): void {
    while (this.#stop?.requested !== true) {
      const idleMs = Math.min(this.round(), LOOK_MS);
      if (idleMs > 0) this.#sleep(idleMs);
    }
  }

  /** Does what is due. @returns the milliseconds until something is again; infinite for nothing in sight. */
  round(): number {
    this.#reload();
    const now = this.#world.nowMs();
    const due = [...this.#kept.values()].filter((kept) => kept.nextMs <= now);
    due.sort((a, b) => timeOf(a.record, "lease") - timeOf(b.record, "lease"));
    this.#ask(due.slice(0, AT_ONCE));
    const next = Math.min(Number.POSITIVE_INFINITY, ...[...this.#kept.values()].map((kept) => kept.nextMs));
    return Math.max(0, next - this.#world.nowMs());
  }

  #sleep(ms: number): void {
    if (this.#stop === undefined) sleepMs(Math.ceil(ms));
    else pollOne(this.#stop.fd, POLLIN, Math.ceil(ms));
  }

  /** Takes up new records, forgets removed ones, and leaves alone what is only the same again. */
  #reload(): void {
    const version = this.#leases.version();
    if (version === this.#version && monotonicMs() < this.#reloadMs) return;
    this.#version = version;
    this.#reloadMs = deadlineIn(RELOAD_MS);
    const before = this.#kept;
    this.#kept = new Map();
    for (const record of this.#leases.list()) {
      const key = `${record.container}/${record.network}/${record.ifname}`;
      const known = before.get(key);
      const same = known?.record.askedMs === record.askedMs && known.record.state === record.state;
      this.#kept.set(
        key,
        same && known !== undefined ? known : { record, nextMs: firstMs(record), triedMs: 0, missed: false },
      );
    }
  }

  #ask(due: readonly Kept[]): void {
    using open = new DisposableStack();
    const pending: Pending[] = [];
    for (const kept of due) {
      const begun = this.#attempt(kept, () => this.#begin(kept));
      if (begun === undefined) continue;
      open.use(begun.packets);
      open.use(begun.pod);
      pending.push(begun);
    }
    this.#await(pending);
    for (const one of pending) this.#attempt(one.kept, () => this.#conclude(one));
  }

  /** What fails for one lease does not keep the others; it is tried again. */
  #attempt<T>(kept: Kept, work: () => T): T | undefined {
    const { record } = kept;
    try {
      return work();
    } catch (thrown) {
      this.#again(kept);
      const words = thrown instanceof Error ? thrown.message : String(thrown);
      this.#log(isKernels(thrown) ? "warn" : "error", `${named(record)}: ${words}`, thrown);
      return undefined;
    }
  }

  /** Sends the request of a lease that is due. @returns undefined when there is no answer to wait for */
  #begin(kept: Kept): Pending | undefined {
    const { record } = kept;
    const askedMs = this.#world.nowMs();
    kept.triedMs = askedMs;
    const pod = this.#openPod(record.netns);
    const link = pod && linkOf(record, pod.kernel);
    using guard = new DisposableStack();
    if (pod !== undefined) guard.use(pod);
    if (pod === undefined || link === undefined) {
      this.#miss(kept);
      return undefined;
    }
    kept.missed = false;
    if (record.state === "expired" || askedMs >= timeOf(record, "lease")) {
      this.#end(kept, pod.kernel, "it ran out");
      return undefined;
    }
    if (!link.up) {
      this.#again(kept); // somebody set it down: nothing can be sent
      return undefined;
    }
    const packets = guard.use(pod.kernel.openPackets(link.index, CLIENT_PORT));
    const exchange = new Exchange(clientOf(record, link), packets, this.#world);
    const held = heldOf(record);
    let sent = false;
    this.#leases.alone(record, (now) => {
      if (now.state !== "bound" || now.askedMs !== record.askedMs) return undefined;
      exchange.askAgain(held, askedMs < timeOf(record, "rebind") ? "renew" : "rebind");
      sent = true;
      return undefined;
    });
    if (!sent) {
      this.#reloadMs = 0; // given back, or made anew, since we read it
      kept.nextMs = Number.POSITIVE_INFINITY;
      return undefined;
    }
    guard.move();
    return { kept, held, exchange, packets, pod, askedMs, outcome: undefined };
  }

  #await(pending: readonly Pending[]): void {
    const deadline = this.#world.nowMs() + ANSWER_MS;
    for (;;) {
      const open = pending.filter((one) => one.outcome === undefined);
      const leftMs = Math.ceil(deadline - this.#world.nowMs());
      if (open.length === 0 || leftMs <= 0 || this.#world.stopped) return;
      const poll = new Poll(open.length + 1);
      if (this.#stop !== undefined) poll.add(this.#stop.fd, POLLIN);
      for (const { packets } of open) poll.add(packets.fd, POLLIN);
      poll.wait(leftMs);
      for (const one of open) {
        this.#attempt(one.kept, () => {
          one.outcome = one.exchange.answered(one.held, one.askedMs);
        });
      }
    }
  }

  #conclude({ kept, held, exchange, pod, outcome }: Pending): void {
    if (outcome?.is === "bound") this.#prolong(kept, outcome.lease);
    else if (outcome?.is === "refused") this.#askAnew(kept, held, exchange, pod, outcome.words);
    else this.#again(kept);
  }

  /** A server that has lost its memory refuses what it will give again when it is asked for as if it were new. */
  #askAnew(kept: Kept, held: Held, exchange: Exchange, pod: OpenPod, words: string): void {
    const said = words === "" ? "" : `, ${JSON.stringify(words)}`;
    this.#log("warn", `${named(kept.record)}: the server refused to prolong it${said}; asking anew`);
    const anew = exchange.acquire(this.#world.nowMs() + ANEW_MS, () => {}, held.address);
    if (anew.is === "bound") this.#prolong(kept, anew.lease);
    else if (anew.is !== "stopped") this.#end(kept, pod.kernel, "the server refused it");
  }

  #prolong(kept: Kept, lease: Lease): void {
    let next: DhcpRecord | undefined;
    this.#leases.alone(kept.record, (now) => {
      if (now.state === "bound") next = prolonged(now, lease);
      return next;
    });
    if (next === undefined) return; // given back meanwhile, after our request: the server has heard both in that order
    kept.record = { ...kept.record, ...next };
    kept.nextMs = timeOf(kept.record, "renew");
    const { lease: seconds } = kept.record.times;
    this.#log("info", `${named(kept.record)}: prolonged for ${seconds} s by ${kept.record.server}`);
  }

  /** The next attempt: half way to the next stage from now, unless that is soon; at once, when that has come meanwhile. */
  #again(kept: Kept): void {
    const { record, triedMs } = kept;
    const now = this.#world.nowMs();
    const stages = [timeOf(record, "rebind"), timeOf(record, "lease")];
    const stage = stages.find((at) => at > triedMs) ?? Number.POSITIVE_INFINITY;
    const least = Math.min(AGAIN_MS, Math.max(1000, record.times.lease * 25)); // a fortieth of a short lease
    const half = Number.isFinite(stage) ? (stage - now) / 2 : 0;
    kept.nextMs = Math.min(stage, now + Math.max(half, least));
  }

  /** Written down first, so that whoever starts after us does it if we do not come to it. */
  #end(kept: Kept, pod: PodNetwork, why: string): void {
    const { record } = kept;
    kept.nextMs = Number.POSITIVE_INFINITY;
    let mine = false;
    this.#leases.alone(record, (now) => {
      mine = now.state !== "asked";
      return now.state === "bound" ? { ...now, state: "expired" } : undefined;
    });
    const link = linkOf(record, pod);
    if (!mine || link === undefined || !link.up) return;
    this.#log("error", `${named(record)}: ${why}, so "${link.name}" is set down`);
    pod.setLink(link.index, { up: false });
  }

  /** Its namespace, or its link, is not to be found. While it could still be somewhere, the record stays. */
  #miss(kept: Kept): void {
    const { record } = kept;
    const now = this.#world.nowMs();
    kept.nextMs = now + GONE_MS;
    if (record.earlierBoot || now >= timeOf(record, "lease")) {
      this.#leases.alone(record, () => "remove");
      this.#log("info", `${named(record)}: forgotten, since its interface is gone`);
    } else if (!kept.missed) this.#log("info", `${named(record)}: its interface is gone`);
    kept.missed = true;
  }
}

function firstMs(record: FoundDhcpRecord): number {
  if (record.state === "asked") return Number.POSITIVE_INFINITY; // an ADD is at it, or a DEL will be
  if (record.state === "expired" || record.earlierBoot) return 0;
  return timeOf(record, "renew");
}

function named({ container, network, ifname, address }: DhcpRecord): string {
  return `lease ${address} of "${ifname}" of container ${container.slice(0, 13)} in network "${network}"`;
}

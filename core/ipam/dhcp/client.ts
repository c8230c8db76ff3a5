/**
 * The client's side of RFC 2131 on one link: what is sent when, what counts as an answer, when it gives up. It keeps
 * nothing; time and chance come from outside, so that a test has both in its hand.
 */

import type { Dns, ResultRoute } from "../../cni/types.ts";
import type { Packets } from "../../sys/packet.ts";
import { WireError } from "../../wire/buffer.ts";
import {
  BROADCAST_ADDRESS,
  BROADCAST_MAC,
  CLIENT_PORT,
  decodeFrame,
  encodeFrame,
  type Frame,
  SERVER_PORT,
} from "./frame.ts";
import { BOOTREPLY, BOOTREQUEST, BROADCAST_FLAG, MessageType, OptionCode, type Options } from "./message.ts";
import {
  dnsOf,
  formatAddress,
  fromNumber,
  gatewayOf,
  isUsable,
  messageType,
  number32,
  prefixOf,
  routesOf,
  type Times,
  textOf,
  timeServersOf,
  timesOf,
} from "./options.ts";

const ETHERNET = 1;
/** Waits for the answer to each request; the last is repeated. The first are short: a switch's port may have only just opened. */
const PATIENCE_MS = [400, 800, 1600, 3000, 4000] as const;
/** Servers that take back what they have offered are not asked for ever. */
const MAX_REFUSALS = 3;
/** How often a chosen server is asked before the search begins anew. */
const REQUESTS = 3;
/** So often it is asked whether to stop. */
const SLICE_MS = 200;
/** What lies in the socket's queue is looked at even when the time is over, but not for ever. */
const MAX_LATE = 256;
/** Headers of IP and UDP, and the least that a host has to take in, RFC 2132 section 9.10. */
const HEADER_BYTES = 28;
const MIN_MESSAGE_BYTES = 576;

/** Who asks, the same at each exchange. */
export interface Client {
  readonly mac: Uint8Array;
  /** Option 61. */
  readonly id: Uint8Array;
  /** Option 55. */
  readonly requested: readonly number[];
  /** Further options of each request. */
  readonly provided: readonly (readonly [number, Uint8Array])[];
  /** Answers have to be broadcast: unicast ones do not reach the link before it has its address. */
  readonly broadcast: boolean;
  readonly mtu: number;
}

/** A point of time is on the clock of `nowMs()`. */
export interface Surroundings {
  nowMs(): number;
  /** From 0 to just below 1. */
  random(): number;
  readonly stopped: boolean;
}

/** What a server gave. */
export interface Lease {
  readonly address: number;
  readonly prefix: number;
  readonly server: number;
  /** Where its frames came from: the server, or the relay or router before it. */
  readonly serverMac: Uint8Array;
  readonly times: Times;
  /** When the request was sent that it answers: the times count from there. */
  readonly askedMs: number;
  readonly gateway?: string;
  readonly routes: readonly ResultRoute[];
  readonly dns: Dns;
  readonly timeServers: readonly string[];
}

/** What an exchange came to. */
export type Outcome =
  | { readonly is: "bound"; readonly lease: Lease }
  /** A server says that the address must not be used. */
  | { readonly is: "refused"; readonly words: string }
  | { readonly is: "silent"; readonly sent: number; readonly unusable: string | undefined }
  | { readonly is: "stopped" };

/** A lease that is asked for again, or given back. */
export type Held = Pick<Lease, "address" | "server" | "serverMac">;

export class Exchange {
  readonly #client: Client;
  readonly #packets: Packets;
  readonly #world: Surroundings;
  readonly #startMs: number;
  #xid: number;
  #sent = 0;
  /** Why the last answer was not one, for people. */
  #unusable: string | undefined;

  constructor(client: Client, packets: Packets, world: Surroundings) {
    this.#client = client;
    this.#packets = packets;
    this.#world = world;
    this.#startMs = world.nowMs();
    this.#xid = this.#draw();
  }

  #draw(): number {
    return Math.floor(this.#world.random() * 2 ** 32) >>> 0;
  }

  // --- from nothing to a lease -------------------------------------------------------------------------------------

  /**
   * DISCOVER, OFFER, REQUEST, ACK, as often as there is time for.
   *
   * @param wanted An address that is asked for, and the only one that is taken.
   * @param onOffer Before a server is asked for what it offered: from there on it may have leased it to us.
   */
  acquire(deadlineMs: number, onOffer: (lease: Lease) => void, wanted?: number): Outcome {
    let refusals = 0;
    this.#xid = this.#draw();
    for (let attempt = 0; ; attempt++) {
      // Under the same number: a server that first looks whether the address is in use offers it late.
      const offer = this.#discover(attempt, deadlineMs, wanted);
      if (offer === "stopped") return { is: "stopped" };
      if (offer === undefined) {
        if (this.#world.nowMs() >= deadlineMs) return this.#silent();
        continue;
      }
      onOffer(offer);
      const outcome = this.#request(offer, deadlineMs);
      const again = outcome.is === "silent" || (outcome.is === "refused" && ++refusals < MAX_REFUSALS);
      if (!again || this.#world.nowMs() >= deadlineMs) return outcome;
      this.#xid = this.#draw();
    }
  }

  #discover(attempt: number, deadlineMs: number, wanted: number | undefined): Lease | "stopped" | undefined {
    const options: [number, Uint8Array][] =
      wanted === undefined ? [] : [[OptionCode.REQUESTED_ADDRESS, fromNumber(wanted)]];
    const askedMs = this.#world.nowMs();
    this.#send(MessageType.DISCOVER, options, {});
    return this.#await(this.#patience(attempt, deadlineMs), (type, frame) => {
      if (type !== MessageType.OFFER) return undefined;
      const lease = this.#leaseOf(frame, askedMs);
      if (lease === undefined || wanted === undefined || lease.address === wanted) return lease;
      this.#unusable = `a server offered ${formatAddress(lease.address)}`;
      return undefined;
    });
  }

  /** In state SELECTING: to all, so that the servers whose offers were not taken hear of it. */
  #request(offer: Lease, deadlineMs: number): Outcome {
    const options: [number, Uint8Array][] = [
      [OptionCode.REQUESTED_ADDRESS, fromNumber(offer.address)],
      [OptionCode.SERVER, fromNumber(offer.server)],
    ];
    for (let attempt = 0; attempt < REQUESTS && this.#world.nowMs() < deadlineMs; attempt++) {
      const askedMs = this.#world.nowMs();
      this.#send(MessageType.REQUEST, options, {});
      const answer = this.#await(this.#patience(attempt, deadlineMs), (type, frame) => {
        if (number32(frame.message.options, OptionCode.SERVER) !== offer.server) return undefined;
        return this.#verdict(type, frame, askedMs);
      });
      if (answer === "stopped") return { is: "stopped" };
      if (answer !== undefined) return answer;
    }
    return this.#silent();
  }

  // --- keeping a lease ---------------------------------------------------------------------------------------------

  /**
   * Asks once whether the lease is prolonged, and does not wait: the answers of many leases are waited for at once.
   * In state RENEWING it is the server that is asked, in REBINDING any.
   */
  askAgain(held: Held, how: "renew" | "rebind"): void {
    this.#xid = this.#draw();
    const near = how === "renew" && held.serverMac.length === 6;
    this.#send(MessageType.REQUEST, [], {
      ...(near && { to: held.serverMac, destination: held.server }),
      source: held.address,
      clientAddress: held.address,
    });
  }

  /**
   * What has come in answer to `askAgain()` so far; `undefined` when nothing has.
   *
   * @param askedMs When that was.
   */
  answered(held: Held, askedMs: number): Outcome | undefined {
    const answer = this.#await(this.#world.nowMs(), (type, frame) => {
      const outcome = this.#verdict(type, frame, askedMs);
      if (outcome?.is !== "bound" || outcome.lease.address === held.address) return outcome;
      this.#unusable = `a server gave ${formatAddress(outcome.lease.address)} in answer`;
      return undefined;
    });
    return answer === "stopped" ? { is: "stopped" } : answer;
  }

  /** Gives a lease back. There is no answer to it. */
  release(held: Held): void {
    this.#xid = this.#draw();
    const near = held.serverMac.length === 6;
    this.#send(MessageType.RELEASE, [[OptionCode.SERVER, fromNumber(held.server)]], {
      ...(near && { to: held.serverMac }),
      destination: held.server,
      source: held.address,
      clientAddress: held.address,
    });
  }

  // --- one message -------------------------------------------------------------------------------------------------

  #send(
    type: number,
    own: readonly (readonly [number, Uint8Array])[],
    where: { to?: Uint8Array; destination?: number; source?: number; clientAddress?: number },
  ): void {
    const { mac, id, requested, provided, broadcast, mtu } = this.#client;
    const { to = BROADCAST_MAC, destination = BROADCAST_ADDRESS, source = 0, clientAddress = 0 } = where;
    const size = Math.max(MIN_MESSAGE_BYTES, Math.min(mtu, 1500)) - HEADER_BYTES;
    const options = new Map<number, Uint8Array>([
      [OptionCode.MESSAGE_TYPE, Uint8Array.of(type)],
      [OptionCode.CLIENT_ID, id],
    ]);
    for (const [code, content] of own) options.set(code, content);
    if (type !== MessageType.RELEASE) {
      options.set(OptionCode.MAX_SIZE, Uint8Array.of(size >> 8, size));
      if (requested.length > 0) options.set(OptionCode.REQUEST_LIST, Uint8Array.from(requested));
      for (const [code, content] of provided) options.set(code, content);
    } else {
      const ownId = provided.findLast(([code]) => code === OptionCode.CLIENT_ID);
      if (ownId !== undefined) options.set(...ownId); // by which the server knows the lease
    }
    const seconds = Math.min(0xffff, Math.floor((this.#world.nowMs() - this.#startMs) / 1000));
    this.#sent++;
    this.#packets.send(
      encodeFrame({
        from: mac,
        to,
        source,
        destination,
        sourcePort: CLIENT_PORT,
        destinationPort: SERVER_PORT,
        message: {
          op: BOOTREQUEST,
          hardwareType: ETHERNET,
          hardwareLength: 6,
          xid: this.#xid,
          seconds,
          flags: broadcast && clientAddress === 0 ? BROADCAST_FLAG : 0,
          clientAddress,
          hardware: mac,
          options,
        },
      }),
    );
  }

  /** The time until when the answer to a request is waited for: longer with each, and never the same for two clients. */
  #patience(attempt: number, deadlineMs: number): number {
    const ms = PATIENCE_MS[Math.min(attempt, PATIENCE_MS.length - 1)] ?? 0;
    return Math.min(deadlineMs, this.#world.nowMs() + ms * (0.875 + 0.25 * this.#world.random()));
  }

  /** Takes what comes until `accept` has an answer of it. Frames that are not for us, or no answers, are passed over. */
  #await<T>(untilMs: number, accept: (type: number, frame: Frame) => T | undefined): T | "stopped" | undefined {
    for (let late = 0; ; ) {
      if (this.#world.stopped) return "stopped";
      const leftMs = Math.max(0, untilMs - this.#world.nowMs());
      const bytes = this.#packets.receive(Math.min(leftMs, SLICE_MS));
      const frame = bytes && this.#read(bytes);
      const answer = frame && accept(messageType(frame.message.options), frame);
      if (answer !== undefined) return answer;
      if (this.#world.nowMs() < untilMs) continue;
      if (bytes === undefined || ++late > MAX_LATE) return undefined;
    }
  }

  /** An answer to our last request: that is all that is known of it. */
  #read(bytes: Uint8Array): Frame | undefined {
    let frame: Frame;
    try {
      frame = decodeFrame(bytes);
    } catch (thrown) {
      if (!(thrown instanceof WireError)) throw thrown;
      this.#unusable = thrown.message;
      return undefined;
    }
    const { message, sourcePort, destinationPort } = frame;
    if (sourcePort !== SERVER_PORT || destinationPort !== CLIENT_PORT || message.op !== BOOTREPLY) return undefined;
    const ours =
      message.xid === this.#xid && message.hardware.subarray(0, 6).every((b, i) => b === this.#client.mac[i]);
    return ours ? frame : undefined;
  }

  #verdict(type: number, frame: Frame, askedMs: number): Outcome | undefined {
    if (type === MessageType.NAK) {
      return { is: "refused", words: textOf(frame.message.options, OptionCode.MESSAGE) };
    }
    if (type !== MessageType.ACK) return undefined;
    const lease = this.#leaseOf(frame, askedMs);
    return lease && { is: "bound", lease };
  }

  /** What an OFFER or an ACK says, if it says enough. */
  #leaseOf(frame: Frame, askedMs: number): Lease | undefined {
    const { options, yourAddress } = frame.message;
    const fault = faultOf(yourAddress, options);
    if (fault !== undefined) {
      this.#unusable = fault;
      return undefined;
    }
    const gateway = gatewayOf(options);
    return {
      address: yourAddress,
      prefix: prefixOf(number32(options, OptionCode.SUBNET_MASK)) ?? 32,
      server: number32(options, OptionCode.SERVER) ?? 0,
      serverMac: frame.from,
      times: timesOf(options),
      askedMs,
      ...(gateway !== undefined && { gateway }),
      routes: routesOf(options),
      dns: dnsOf(options),
      timeServers: timeServersOf(options),
    };
  }

  #silent(): Outcome {
    return { is: "silent", sent: this.#sent, unusable: this.#unusable };
  }
}

/** Why an OFFER or an ACK cannot be used, in words that follow "because". */
function faultOf(address: number, options: Options): string | undefined {
  if (!isUsable(address)) return `a server gave ${formatAddress(address)}, which no host can have`;
  const server = number32(options, OptionCode.SERVER);
  if (server === undefined || !isUsable(server)) return "a server did not say who it is (option 54)";
  if (prefixOf(number32(options, OptionCode.SUBNET_MASK)) === undefined) {
    return "a server gave no subnet mask, or none that is one (option 1)";
  }
  if (timesOf(options).lease === 0) return "a server gave a lease of no time (option 51)";
  return undefined;
}

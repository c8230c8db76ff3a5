/** firewalld, as far as pods' addresses are concerned: a source in a zone is accepted or not as the zone says. */
import { formatIp, type Ip } from "../base/ip.ts";
import { Errno, isErrno } from "../sys/error.ts";
import { DbusError, SystemBus } from "./bus.ts";

const NAME = "org.fedoraproject.FirewallD1";
const PATH = "/org/fedoraproject/FirewallD1";
const ZONES = "org.fedoraproject.FirewallD1.zone";
/** A reload of many rules takes seconds, and answers nobody meanwhile. */
const TIMEOUT_MS = 15_000;
const ECONNREFUSED = 111;

/** How firewalld writes one address. */
export const sourceOf = (ip: Ip): string => `${formatIp(ip)}/${ip.family === 4 ? 32 : 128}`;

/** What it refused: the first word of its message is a name for it, such as INVALID_ZONE. */
export const refusalOf = (thrown: unknown): string | undefined =>
  thrown instanceof DbusError ? /^([A-Z_]+)\b/.exec(thrown.message)?.[1] : undefined;

export class Firewalld implements Disposable {
  readonly #bus: SystemBus;

  private constructor(bus: SystemBus) {
    this.#bus = bus;
  }

  /**
   * @param address DBUS_SYSTEM_BUS_ADDRESS, if that is set.
   * @returns undefined when it does not run, or there is no bus
   * @throws {SysError} ETIMEDOUT. {DbusError}, {DbusProtocolError}
   */
  static open(address: string | undefined): Firewalld | undefined {
    let bus: SystemBus;
    try {
      bus = SystemBus.connect(address, TIMEOUT_MS);
    } catch (thrown) {
      if (isErrno(thrown, Errno.ENOENT, Errno.ENOTDIR, ECONNREFUSED)) return undefined;
      throw thrown;
    }
    try {
      if (bus.hasOwner(NAME)) return new Firewalld(bus);
    } catch (thrown) {
      bus[Symbol.dispose]();
      throw thrown;
    }
    bus[Symbol.dispose]();
    return undefined;
  }

  #zone(member: string, zone: string, source: string): string | boolean | undefined {
    return this.#bus.call({ destination: NAME, path: PATH, interface: ZONES, member, args: [zone, source] });
  }

  /** Until firewalld starts or loads its rules anew. @throws {DbusError} INVALID_ZONE, ZONE_CONFLICT, ZONE_ALREADY_SET */
  addSource(zone: string, source: string): void {
    this.#zone("addSource", zone, source);
  }

  /** @returns whether it was there. */
  removeSource(zone: string, source: string): boolean {
    try {
      this.#zone("removeSource", zone, source);
      return true;
    } catch (thrown) {
      if (["UNKNOWN_SOURCE", "INVALID_ZONE", "ZONE_CONFLICT"].includes(refusalOf(thrown) ?? "")) return false;
      throw thrown;
    }
  }

  hasSource(zone: string, source: string): boolean {
    return this.#zone("querySource", zone, source) === true;
  }

  [Symbol.dispose](): void {
    this.#bus[Symbol.dispose]();
  }
}

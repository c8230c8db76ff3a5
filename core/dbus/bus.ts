/** A client of the system's D-Bus that waits for each answer, with a deadline. */
import { deadlineIn } from "../sys/clock.ts";
import { UnixStream } from "../sys/unix-socket.ts";
import {
  DbusProtocolError,
  decodeMessage,
  encodeCall,
  MessageType,
  type MethodCall,
  messageLength,
} from "./message.ts";

const DEFAULT_ADDRESS = "unix:path=/var/run/dbus/system_bus_socket";
const BUS = "org.freedesktop.DBus";
const MAX_LINE_BYTES = 4096;

/** What the other side answered in place of a value. */
export class DbusError extends Error {
  override readonly name = "DbusError";
  /** Such as "org.freedesktop.DBus.Error.ServiceUnknown". */
  readonly error: string;
  constructor(error: string, message: string) {
    super(message);
    this.error = error;
  }
}

/**
 * The socket that an address of D-Bus names, as `UnixStream.connect()` takes it: the first of the list that is one.
 *
 * @throws {DbusProtocolError} for an address without a socket of this node
 */
export function socketOf(address: string): string {
  for (const one of address.split(";")) {
    const [transport, keys = ""] = one.split(":", 2);
    if (transport !== "unix") continue;
    for (const key of keys.split(",")) {
      const at = key.indexOf("=");
      const value = decodeURIComponent(key.slice(at + 1));
      if (key.slice(0, at) === "path") return value;
      if (key.slice(0, at) === "abstract") return `@${value}`;
    }
  }
  throw new DbusProtocolError(`no socket of this node in the address "${address}"`);
}

export class SystemBus implements Disposable {
  readonly #stream: UnixStream;
  readonly #deadlineMs: number;
  #pending = new Uint8Array(0);
  #serial = 0;

  private constructor(stream: UnixStream, deadlineMs: number) {
    this.#stream = stream;
    this.#deadlineMs = deadlineMs;
  }

  /**
   * @param address DBUS_SYSTEM_BUS_ADDRESS, if that is set.
   * @param timeoutMs For all that is said over this connection.
   * @throws {SysError} ENOENT, ECONNREFUSED: there is no bus; ETIMEDOUT. {DbusError}, {DbusProtocolError}
   */
  static connect(address: string | undefined, timeoutMs: number): SystemBus {
    const deadlineMs = deadlineIn(timeoutMs);
    const stream = UnixStream.connect(socketOf(address || DEFAULT_ADDRESS), deadlineMs);
    try {
      const bus = new SystemBus(stream, deadlineMs);
      bus.#authenticate();
      bus.callBus("Hello");
      return bus;
    } catch (thrown) {
      stream[Symbol.dispose]();
      throw thrown;
    }
  }

  /** EXTERNAL: the kernel tells the bus who we are. */
  #authenticate(): void {
    const uid = new TextEncoder().encode(String(process.geteuid?.() ?? 0)).toHex();
    this.#write(`\0AUTH EXTERNAL ${uid}\r\n`);
    const line = this.#line();
    if (!line.startsWith("OK ")) throw new DbusError(`${BUS}.Error.AuthFailed`, `the bus answered "${line}"`);
    this.#write("BEGIN\r\n");
  }

  #write(text: string): void {
    this.#stream.send(new TextEncoder().encode(text), this.#deadlineMs);
  }

  #line(): string {
    for (;;) {
      const end = this.#pending.indexOf(10);
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#pending.subarray(0, end)).trimEnd();
        this.#pending = this.#pending.slice(end + 1);
        return line;
      }
      if (this.#pending.length > MAX_LINE_BYTES) throw new DbusProtocolError("an answer without end");
      this.#more();
    }
  }

  #more(): void {
    const got = this.#stream.receive(this.#deadlineMs);
    if (got.length === 0) throw new DbusProtocolError("the bus has closed the connection");
    const all = new Uint8Array(this.#pending.length + got.length);
    all.set(this.#pending);
    all.set(got, this.#pending.length);
    this.#pending = all;
  }

  /** @returns the first value of the answer. @throws {DbusError} what the other side refused. {SysError} ETIMEDOUT */
  call(call: MethodCall): string | boolean | undefined {
    const serial = ++this.#serial;
    this.#stream.send(encodeCall(call, serial), this.#deadlineMs);
    for (;;) {
      const length = messageLength(this.#pending);
      if (length === undefined || this.#pending.length < length) {
        this.#more();
        continue;
      }
      const message = decodeMessage(this.#pending.subarray(0, length));
      this.#pending = this.#pending.slice(length);
      if (message.replySerial !== serial) continue; // a signal, such as NameAcquired
      if (message.type === MessageType.ERROR) {
        throw new DbusError(message.errorName ?? "", typeof message.value === "string" ? message.value : "");
      }
      return message.value;
    }
  }

  /** A method of the bus itself. */
  callBus(member: string, ...args: readonly string[]): string | boolean | undefined {
    return this.call({ destination: BUS, path: "/org/freedesktop/DBus", interface: BUS, member, args });
  }

  /** Whether a service runs; none is started. */
  hasOwner(name: string): boolean {
    return this.callBus("NameHasOwner", name) === true;
  }

  [Symbol.dispose](): void {
    this.#stream[Symbol.dispose]();
  }
}

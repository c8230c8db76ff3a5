/** CNI error codes: those of the specification, our own refusals (100 and up) and the host's answers to a guest (120 and up). */
export const Code = {
  IncompatibleVersion: 1,
  UnsupportedField: 2,
  UnknownContainer: 3,
  InvalidEnvironment: 4,
  IoFailure: 5,
  Decode: 6,
  InvalidConfig: 7,
  InvalidNetns: 8,
  TryAgainLater: 11,
  NotAvailable: 50,
  NotAvailableImpaired: 51,
  NetworkNotFound: 100,
  NotAllowed: 101,
  InterfaceTaken: 102,
  CapabilityMissing: 103,
  Busy: 104,
  BadRequest: 120,
  NotGranted: 121,
  NotInThisOperation: 122,
  Kernel: 123,
  NoSuchHandle: 124,
  Limit: 125,
  TimedOut: 126,
  Internal: 999,
} as const;
/** Any CNI code; a delegate's own codes pass through, so the type is open. */
export type Code = number;

/** The wire form of a failure. Source: CNI SPEC.md, section "Error" */
export interface CniErrorDocument {
  readonly cniVersion?: string;
  readonly code: Code;
  readonly msg: string;
  readonly details?: string;
}

/**
 * What the runtime sees when a call fails, and what an operator reads in the pod's events.
 *
 * `message` says what we could not do, for whom: it starts with "Cannot", names the thing in quotes and has no full
 * stop. `remedy` says what to do next, in the imperative. The cause stays attached for the log and never reaches the
 * wire.
 */
export class CniError extends Error {
  override readonly name = "CniError";
  readonly code: Code;
  readonly remedy: string;

  constructor(code: Code, message: string, options: { remedy: string; cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.remedy = options.remedy;
  }

  /** The only way from `unknown` to an answer: a `CniError` keeps its code, anything else is our bug, 999. */
  static from(thrown: unknown): CniError {
    if (thrown instanceof CniError) return thrown;
    // What a `using` threw on the way out came later, and only because of the first failure.
    if (thrown instanceof SuppressedError) return CniError.from(thrown.suppressed);
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new CniError(Code.Internal, `Internal error: ${message}`, {
      remedy: "Report this with the log lines of the same container",
      cause: thrown,
    });
  }

  toJSON(): CniErrorDocument {
    return { code: this.code, msg: this.message, details: this.remedy };
  }
}

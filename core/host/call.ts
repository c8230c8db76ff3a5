/**
 * A host call is a row: what it is called, when it may run, on whose links, what it takes, what it answers, what it
 * does. One function runs rows, so no row can forget a check.
 */
import { show } from "../base/brand.ts";
import { CniError, Code } from "../base/error.ts";
import { type Json, JsonError, parseJson } from "../base/json.ts";
import { KernelError } from "../kernel/kernel.ts";
import type { CallRule, Operation, Target } from "../policy/decide.ts";
import type { Role } from "../policy/manifest.ts";
import { checkClosed, type Keys, SchemaError, type ValueOfKeys } from "../policy/schema.ts";
import { SysError } from "../sys/error.ts";
import type { GuestContext } from "./context.ts";

export const maxRequestBytes = 256 << 10;
export const maxAnswerBytes = 1 << 20;

/** Operations in which a call may run. Nothing that creates runs in DEL or GC. */
export const creating: readonly Operation[] = ["ADD"];
export const changing: readonly Operation[] = ["ADD", "DEL", "GC"];
export const reading: readonly Operation[] = ["ADD", "DEL", "CHECK", "GC"];
export const always: readonly Operation[] = ["ADD", "DEL", "CHECK", "GC", "STATUS"];

export interface HostCall extends CallRule {
  /** The ABI that it came with. */
  readonly since: 1;
  /** One line for the reference page. */
  readonly doc: string;
  /** It has a deadline of its own, which is not taken from the guest's time. */
  readonly waits: boolean;
  readonly request: Keys;
  readonly answer: Keys;
  /** Reads the request, asks for every target, and does it. */
  serve(guest: GuestContext, request: Json): object;
}

interface Row<Q extends Keys, A extends Keys> extends CallRule {
  readonly doc: string;
  readonly waits?: true;
  readonly request: Q;
  readonly answer: A;
  /** What the call is on; each is asked for before `run`. */
  targets?(guest: GuestContext, request: ValueOfKeys<Q>): readonly Target[];
  run(guest: GuestContext, request: ValueOfKeys<Q>): ValueOfKeys<A>;
}

export function hostCall<const Q extends Keys, const A extends Keys>(row: Row<Q, A>): HostCall {
  const { name, operations, roles, doc, request, answer } = row;
  return {
    name,
    since: 1,
    operations,
    roles,
    doc,
    waits: row.waits ?? false,
    request,
    answer,
    serve(guest, json) {
      const read = checkClosed(request, json);
      for (const target of row.targets?.(guest, read) ?? []) guest.permit(row, target);
      return row.run(guest, read);
    },
  };
}

/** A broken guest, or one over a limit: the run is ended by a trap and the error says why. */
export class GuestStop extends Error {
  readonly error: CniError;
  constructor(error: CniError) {
    super(error.message);
    this.error = error;
  }
}

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** What goes to the guest for whatever a row threw. */
function refusal(guest: GuestContext, call: string, thrown: unknown): CniError {
  if (thrown instanceof CniError) return thrown;
  const what = `Cannot make the call "${call}" for plugin "${guest.setup.manifest.name}"`;
  if (thrown instanceof SchemaError) {
    return new CniError(Code.BadRequest, `${what}: "${thrown.member}": ${thrown.message}`, {
      remedy: `Correct "${thrown.member}" of the request`,
    });
  }
  if (thrown instanceof KernelError) {
    const more = thrown.extack === undefined ? "" : `: ${thrown.extack}`;
    return new CniError(Code.Kernel, `${what}: ${thrown.message}`, {
      remedy: `${thrown.errnoName} (${thrown.errno})${more}`,
      cause: thrown,
    });
  }
  if (thrown instanceof SysError) {
    return new CniError(Code.Kernel, `${what}: ${thrown.message}`, {
      remedy: `${thrown.errnoName} (${thrown.errno})`,
      cause: thrown,
    });
  }
  return CniError.from(thrown);
}

function stop(guest: GuestContext, code: Code, why: string, remedy: string): never {
  const plugin = guest.setup.manifest.name;
  guest.stop = new CniError(code, `Cannot run plugin "${plugin}" to its end: ${why}`, { remedy });
  throw new GuestStop(guest.stop);
}

/**
 * Runs one call of a guest. The answer waits in `guest.answer`.
 *
 * @returns The answer's length in bytes, negative when the answer is a CNI error document.
 * @throws {GuestStop} for a request that no correct guest makes, and past the limit of calls.
 */
export function invoke(guest: GuestContext, row: HostCall, request: Uint8Array): number {
  const { setup } = guest;
  if (++guest.calls > setup.grants.limits.calls) {
    stop(
      guest,
      Code.Limit,
      `more than ${setup.grants.limits.calls} host calls`,
      "Make fewer calls, or raise the limit",
    );
  }
  if (request.length > maxRequestBytes) {
    stop(
      guest,
      Code.BadRequest,
      `a request of ${request.length} bytes to "${row.name}"`,
      "Keep requests below 256 KiB",
    );
  }
  let code = 0;
  let answer: Uint8Array;
  try {
    guest.permit(row);
    answer = encoder.encode(JSON.stringify(row.serve(guest, parseJson(request, { maxBytes: maxRequestBytes }))));
    if (answer.length > maxAnswerBytes) {
      throw new CniError(
        Code.Limit,
        `Cannot answer the call "${row.name}": ${answer.length} bytes, 1 MiB is the most`,
        {
          remedy: "Ask for less",
        },
      );
    }
  } catch (thrown) {
    if (thrown instanceof GuestStop) throw thrown;
    if (thrown instanceof JsonError) {
      stop(guest, Code.BadRequest, `the request to "${row.name}" is not JSON: ${thrown.message}`, "Send strict JSON");
    }
    const error = refusal(guest, row.name, thrown);
    code = error.code;
    if (code === Code.Internal) setup.log("error", `${row.name}: ${show(error.message)}`);
    answer = encoder.encode(JSON.stringify(error));
  }
  guest.answer = answer;
  setup.trace?.({
    plugin: setup.manifest.name,
    call: row.name,
    request: decoder.decode(request.subarray(0, 1024)),
    code,
  });
  return code === 0 ? answer.length : -answer.length;
}

/** `own` targets of a handle's link, for the rows whose target is just that. */
export const onLink = (guest: GuestContext, request: { readonly link: number }): readonly Target[] => [
  guest.handles.link(request.link).target,
];

export const linkRoles = ["pod-link", "own", "bridge"] as const satisfies readonly Role[];

/**
 * Why a guest was stopped.
 *
 * - `trap`: the guest's own fault, as WebAssembly defines it: unreachable code, an access outside its memory, a division
 *   by zero, a call stack that is too deep, no `_start`.
 * - `memory`, `cpu`, `wall`, `output`: a limit of the run.
 * - `pointer`: it handed the host a range outside its memory.
 * - `host`: a host function refused to go on with it, such as one call too many.
 * - `stopped`: we were asked to end.
 */
export type FaultKind = "trap" | "memory" | "cpu" | "wall" | "output" | "pointer" | "host" | "stopped";

/** Thrown by a host function to end the guest that called it. Anything else it throws is a bug of ours. */
export class GuestFault extends Error {
  override readonly name = "GuestFault";
  readonly fault: FaultKind;

  constructor(fault: FaultKind, detail: string) {
    super(detail);
    this.fault = fault;
  }
}

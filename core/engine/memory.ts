import type { RawMemory } from "../sys/wasmtime.ts";
import { GuestFault } from "./fault.ts";

/** The memory of the guest that called us, for the time of its run. Offsets are taken as unsigned 32-bit numbers. */
export interface GuestMemory {
  /** A copy. @throws {GuestFault} `pointer` for a range outside the guest's memory. */
  read(offset: number, length: number): Uint8Array;
  /** @throws {GuestFault} `pointer`, and then nothing was written. */
  write(offset: number, bytes: Uint8Array): void;
}

const range = (offset: number, length: number): GuestFault =>
  new GuestFault("pointer", `${length >>> 0} bytes at 0x${(offset >>> 0).toString(16)} are outside the guest's memory`);

export function guestMemory(raw: RawMemory): GuestMemory {
  return {
    read(offset, length) {
      const bytes = raw.read(offset >>> 0, length >>> 0);
      if (bytes === undefined) throw range(offset, length);
      return bytes;
    },
    write(offset, bytes) {
      if (!raw.write(offset >>> 0, bytes)) throw range(offset, bytes.length);
    },
  };
}

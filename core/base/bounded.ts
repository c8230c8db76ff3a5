import { readSync } from "node:fs";
import { CniError, Code } from "./error.ts";

/**
 * Reads a descriptor to its end, and no more than `maxBytes`.
 *
 * @param what Names the input in the error, such as "the configuration on stdin".
 * @throws {CniError} 6 when there is more, 5 when the read fails.
 */
export function readBounded(fd: number, maxBytes: number, what: string): Uint8Array {
  let buffer = new Uint8Array(Math.min(maxBytes + 1, 16_384));
  let length = 0;
  for (;;) {
    if (length > maxBytes) {
      throw new CniError(Code.Decode, `Cannot read ${what}: more than ${maxBytes} bytes`, {
        remedy: "Send a smaller document",
      });
    }
    if (length === buffer.length) {
      const larger = new Uint8Array(Math.min(maxBytes + 1, buffer.length * 4));
      larger.set(buffer);
      buffer = larger;
    }
    let count: number;
    try {
      count = readSync(fd, buffer, length, buffer.length - length, null);
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "EAGAIN") continue;
      throw new CniError(Code.IoFailure, `Cannot read ${what}: ${cause instanceof Error ? cause.message : cause}`, {
        remedy: "Check what started this process and how it passes the input",
        cause,
      });
    }
    if (count === 0) return buffer.subarray(0, length);
    length += count;
  }
}

/**
 * The form in which compiled modules are kept: a header of ours, then what the library serialised.
 *
 * ```
 * 8 bytes  "patchbay"
 * 4 bytes  length of the header, little-endian
 * header   JSON: { "engine": fingerprint, "imports": [[module, name], …] }
 * rest     native code
 * ```
 * The header tells which imports to define before the module is instantiated, and refuses code of another engine with a
 * message that a person understands. It is no protection: whoever can write the file can run code as us.
 */
import { isObject } from "../base/json.ts";

const magic = new TextEncoder().encode("patchbay");

export interface Artifact {
  readonly engine: string;
  readonly imports: readonly (readonly [module: string, name: string])[];
  readonly native: Uint8Array;
}

export function encodeArtifact({ engine, imports, native }: Artifact): Uint8Array {
  const header = new TextEncoder().encode(JSON.stringify({ engine, imports }));
  const bytes = new Uint8Array(magic.length + 4 + header.length + native.length);
  bytes.set(magic);
  new DataView(bytes.buffer).setUint32(magic.length, header.length, true);
  bytes.set(header, magic.length + 4);
  bytes.set(native, magic.length + 4 + header.length);
  return bytes;
}

/** Undefined for bytes of another form. */
export function decodeArtifact(bytes: Uint8Array): Artifact | undefined {
  const start = magic.length + 4;
  if (bytes.length < start || magic.some((byte, i) => bytes[i] !== byte)) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(magic.length, true);
  if (length > bytes.length - start) return undefined;
  const header: unknown = JSON.parse(new TextDecoder().decode(bytes.subarray(start, start + length)));
  if (!isObject(header) || typeof header.engine !== "string" || !Array.isArray(header.imports)) return undefined;
  const imports: (readonly [string, string])[] = [];
  for (const item of header.imports) {
    if (!Array.isArray(item) || typeof item[0] !== "string" || typeof item[1] !== "string") return undefined;
    imports.push([item[0], item[1]]);
  }
  return { engine: header.engine, imports, native: bytes.subarray(start + length) };
}

/** What a guest reads on stdin: the configuration, checked, completed and written so that any reader reads the same. */
import { CniError, Code } from "../base/error.ts";
import { isObject, type JsonObject, withoutNulls } from "../base/json.ts";
import type { Manifest } from "../policy/manifest.ts";
import { checkOpen, SchemaError } from "../policy/schema.ts";

export const maxConfigBytes = 256 << 10;

/**
 * The configuration that a plugin runs with: no nulls, the manifest's defaults filled in, every other key kept.
 *
 * @throws {CniError} 7, naming the key.
 */
export function canonical(manifest: Manifest, conf: JsonObject): JsonObject {
  try {
    const plain = withoutNulls(conf);
    return checkOpen(manifest.schema, isObject(plain) ? plain : {});
  } catch (thrown) {
    if (!(thrown instanceof SchemaError)) throw thrown;
    throw new CniError(
      Code.InvalidConfig,
      `Cannot use the configuration of plugin "${manifest.name}": "${thrown.member}": ${thrown.message}`,
      { remedy: `Correct "${thrown.member}" of the network's configuration`, cause: thrown },
    );
  }
}

/** The bytes for stdin. @throws {CniError} 7 over 256 KiB. */
export function configBytes(manifest: Manifest, canonicalConf: JsonObject): Uint8Array {
  const bytes = new TextEncoder().encode(JSON.stringify(canonicalConf));
  if (bytes.length <= maxConfigBytes) return bytes;
  throw new CniError(
    Code.InvalidConfig,
    `Cannot give plugin "${manifest.name}" its configuration: ${bytes.length} bytes, 256 KiB is the most`,
    { remedy: "Make the network's configuration smaller" },
  );
}

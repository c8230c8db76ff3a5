/** The document on stdin, before anybody knows whose configuration it is. */
import { CniError, Code } from "../core/base/error.ts";
import { isObject, type Json, JsonError, member, parseJson } from "../core/base/json.ts";
import type { ValidAttachment } from "../core/cni/request.ts";

/** A runtime's list of valid attachments can be long; everything else is far below. */
const LIMITS = { maxBytes: 4 << 20, maxTokens: 400_000 } as const;

/**
 * DEL takes what any parser takes: a document that ADD refused must not keep the pod from going, and DEL goes by the
 * records.
 *
 * @throws {CniError} 6
 */
export function parseConf(bytes: Uint8Array, command: string): Json {
  try {
    return command === "DEL" ? parseAny(bytes) : parseJson(bytes, LIMITS);
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause;
    throw new CniError(Code.Decode, `Cannot read the network configuration for ${command} on stdin: ${cause.message}`, {
      remedy: "Send one JSON document, as CNI has it",
      cause,
    });
  }
}

function parseAny(bytes: Uint8Array): Json {
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new JsonError(cause instanceof Error ? cause.message : String(cause));
  }
}

/** Of a GC. @returns `undefined` when there is no list, or `null`. @throws {CniError} 7 */
export function validAttachments(doc: Json): readonly ValidAttachment[] | undefined {
  const list = isObject(doc) ? member(doc, "cni.dev/valid-attachments") : undefined;
  if (list === undefined) return undefined;
  const bad = new CniError(
    Code.InvalidConfig,
    'Cannot use "cni.dev/valid-attachments": expected a list of objects with "containerID" and "ifname"',
    { remedy: "Send the list as CNI 1.1.0 has it" },
  );
  if (!Array.isArray(list)) throw bad;
  return list.map((item: Json) => {
    const containerID = isObject(item) ? member(item, "containerID") : undefined;
    const ifname = isObject(item) ? member(item, "ifname") : undefined;
    if (typeof containerID !== "string" || typeof ifname !== "string") throw bad;
    return { containerID, ifname };
  });
}

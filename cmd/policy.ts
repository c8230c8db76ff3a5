import { CniError, Code } from "../core/base/error.ts";
import { JsonError, parseJson } from "../core/base/json.ts";
import { openPolicy, type Policy, parsePolicy } from "../core/policy/policy.ts";
import { readFileIfThere } from "../core/sys/files.ts";
import { requireTrusted } from "../core/sys/trust.ts";

/** As long as a document may be at all. */
const MAX_POLICY_BYTES = 1 << 20;

/** @throws {CniError} 7 when the file is there and cannot be obeyed: not root's alone, not JSON, a wrong member. */
export function readPolicy(path: string): Policy {
  let bytes: Uint8Array | undefined;
  try {
    bytes = readFileIfThere(path, MAX_POLICY_BYTES);
  } catch (cause) {
    throw new CniError(
      Code.InvalidConfig,
      `Cannot read the policy file "${path}": ${cause instanceof Error ? cause.message : cause}`,
      {
        remedy: `Check "${path}"`,
        cause,
      },
    );
  }
  if (bytes === undefined) return openPolicy;
  requireTrusted(path, "the policy file", Code.InvalidConfig);
  try {
    return parsePolicy(parseJson(bytes));
  } catch (cause) {
    if (!(cause instanceof JsonError)) throw cause;
    throw new CniError(Code.InvalidConfig, `Cannot use the policy file "${path}": ${cause.message}`, {
      remedy: `Correct "${path}"`,
      cause,
    });
  }
}

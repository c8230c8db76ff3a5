/** Which sysctls the administrator lets networks set, where a plugin leaves that open. */
import { CniError, Code } from "../base/error.ts";
import { type Author, type Policy, trustsSysctls } from "../policy/policy.ts";
import { isListed, parseSysctlList, type SysctlWord } from "../policy/sysctl-list.ts";
import { readFileIfThere } from "../sys/files.ts";
import { requireTrusted } from "../sys/trust.ts";

/** Where the reference plugin has it. */
const LIST = "/etc/cni/tuning/allowlist.conf";
const MAX_BYTES = 256 << 10;

/** @throws {CniError} 7 when there is a list that cannot be obeyed */
export function sysctlWord(key: string, link: string | undefined, policy: Policy, author: Author): SysctlWord {
  let bytes: Uint8Array | undefined;
  try {
    bytes = readFileIfThere(LIST, MAX_BYTES);
  } catch (cause) {
    throw new CniError(Code.InvalidConfig, `Cannot read the list of sysctls "${LIST}"`, {
      remedy: `Check "${LIST}"`,
      cause,
    });
  }
  if (bytes === undefined) return trustsSysctls(policy, author) ? "free" : "unlisted";
  requireTrusted(LIST, "the list of sysctls", Code.InvalidConfig);
  return isListed(parseSysctlList(new TextDecoder().decode(bytes), LIST), key, link) ? "named" : "omitted";
}

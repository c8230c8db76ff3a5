import { CniError, Code } from "../base/error.ts";
import type { Dns } from "../cni/types.ts";
import { Fd } from "../sys/fd.ts";
import { readBounded } from "../sys/files.ts";
import { Open, stat } from "../sys/libc.ts";

const MAX_BYTES = 64 << 10;

/** Reads the file that `resolvConf` names. @throws {CniError} 7 when it cannot be read, or is no regular file. */
export function readResolvConf(path: string): Dns {
  const refuse = (why: string, cause?: unknown): CniError =>
    new CniError(Code.InvalidConfig, `Cannot read "${path}", the "resolvConf" of the network: ${why}`, {
      remedy: `Make it a file in the form of resolv.conf(5), or correct "resolvConf"`,
      cause,
    });
  let opened: Fd;
  try {
    opened = Fd.open(path, Open.READ | Open.NONBLOCK); // a FIFO would block for ever
  } catch (cause) {
    throw refuse(cause instanceof Error ? cause.message : String(cause), cause);
  }
  using fd = opened;
  if (!stat(fd.raw, "").isFile) throw refuse("it is no regular file");
  return parseResolvConf(new TextDecoder().decode(readBounded(fd.raw, MAX_BYTES, `"${path}"`)));
}

/** `nameserver`, `domain`, `search`, `options`; other lines, comments and keywords without a value are passed over. */
export function parseResolvConf(text: string): Dns {
  const nameservers: string[] = [];
  const search: string[] = [];
  const options: string[] = [];
  let domain: string | undefined;
  for (const line of text.split("\n")) {
    const [keyword = "", first, ...more] = line.trim().split(/\s+/);
    if (first === undefined || keyword.startsWith("#") || keyword.startsWith(";")) continue;
    if (keyword === "nameserver") nameservers.push(first);
    else if (keyword === "domain") domain = first;
    else if (keyword === "search") search.push(first, ...more);
    else if (keyword === "options") options.push(first, ...more);
  }
  return {
    ...(nameservers.length > 0 && { nameservers }),
    ...(domain !== undefined && { domain }),
    ...(search.length > 0 && { search }),
    ...(options.length > 0 && { options }),
  };
}

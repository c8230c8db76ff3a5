/** IP addresses, prefixes and hardware addresses as values. Text forms are those of Go's `net` package. */

export interface Ip {
  readonly family: 4 | 6;
  /** 4 or 16 bytes, network order. */
  readonly bytes: Uint8Array;
}

/** An address with a prefix length; host bits are kept. */
export interface Cidr {
  readonly ip: Ip;
  readonly prefix: number;
}

/** Decimal digits only, no leading zero, at most `max`; -1 otherwise. */
function decimal(text: string, max: number): number {
  if (text.length === 0 || text.length > 3 || (text.length > 1 && text.charCodeAt(0) === 48)) return -1;
  let value = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i) - 48;
    if (c < 0 || c > 9) return -1;
    value = value * 10 + c;
  }
  return value <= max ? value : -1;
}

function parseIp4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== 4) return undefined;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const value = decimal(parts[i] ?? "", 255);
    if (value < 0) return undefined;
    bytes[i] = value;
  }
  return bytes;
}

function parseIp6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const groups = (half: string): number[] | undefined => {
    const out: number[] = [];
    if (half === "") return out;
    const parts = half.split(":");
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i] ?? "";
      if (part.includes(".")) {
        const v4 = i === parts.length - 1 ? parseIp4(part) : undefined;
        if (v4 === undefined) return undefined;
        out.push(((v4[0] ?? 0) << 8) | (v4[1] ?? 0), ((v4[2] ?? 0) << 8) | (v4[3] ?? 0));
        continue;
      }
      if (part.length === 0 || part.length > 4) return undefined;
      let value = 0;
      for (let k = 0; k < part.length; k++) {
        const digit = hexDigit(part.charCodeAt(k));
        if (digit < 0) return undefined;
        value = (value << 4) | digit;
      }
      out.push(value);
    }
    return out;
  };
  const head = groups(halves[0] ?? "");
  const tail = halves.length === 2 ? groups(halves[1] ?? "") : [];
  if (head === undefined || tail === undefined) return undefined;
  const gap = 8 - head.length - tail.length;
  if (halves.length === 2 ? gap < 1 : gap !== 0) return undefined;
  const bytes = new Uint8Array(16);
  const put = (list: readonly number[], at: number): void => {
    for (const [k, group] of list.entries()) {
      bytes[at + 2 * k] = group >> 8;
      bytes[at + 2 * k + 1] = group & 255;
    }
  };
  put(head, 0);
  put(tail, 16 - 2 * tail.length);
  return bytes;
}

const hexDigit = (c: number): number =>
  c >= 48 && c <= 57 ? c - 48 : c >= 97 && c <= 102 ? c - 87 : c >= 65 && c <= 70 ? c - 55 : -1;

/** An IPv4-mapped IPv6 address becomes IPv4, as Go has it. `undefined` when the text is no address. */
export function parseIp(text: string): Ip | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(":")) {
    const bytes = parseIp4(text);
    return bytes && { family: 4, bytes };
  }
  const bytes = parseIp6(text);
  if (bytes === undefined) return undefined;
  const mapped = bytes[10] === 255 && bytes[11] === 255 && bytes.subarray(0, 10).every((b) => b === 0);
  return mapped ? { family: 4, bytes: bytes.slice(12) } : { family: 6, bytes };
}

/** RFC 5952: lower case, no leading zeros, the first longest run of two or more zero groups shortened. */
export function formatIp(ip: Ip): string {
  if (ip.family === 4) return ip.bytes.join(".");
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((ip.bytes[i] ?? 0) << 8) | (ip.bytes[i + 1] ?? 0));
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > bestLength) [best, bestLength] = [i, end - i];
    i = end === i ? i + 1 : end;
  }
  const hex = (list: readonly number[]): string => list.map((g) => g.toString(16)).join(":");
  return best < 0 ? hex(groups) : `${hex(groups.slice(0, best))}::${hex(groups.slice(best + bestLength))}`;
}

export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const ip = parseIp(text.slice(0, slash));
  if (ip === undefined) return undefined;
  const prefix = decimal(text.slice(slash + 1), ip.family === 4 ? 32 : 128);
  return prefix < 0 ? undefined : { ip, prefix };
}

export function formatCidr(cidr: Cidr): string {
  return `${formatIp(cidr.ip)}/${cidr.prefix}`;
}

/** The bits of `bytes` from `prefix` on set to 0 or to 1. */
function withHostBits(ip: Ip, prefix: number, ones: boolean): Ip {
  const bytes = ip.bytes.slice();
  for (let i = prefix >> 3; i < bytes.length; i++) {
    const mask = i === prefix >> 3 ? 255 >> (prefix & 7) : 255;
    bytes[i] = ones ? (bytes[i] ?? 0) | mask : (bytes[i] ?? 0) & ~mask;
  }
  return { family: ip.family, bytes };
}

/** The prefix with its host bits cleared. */
export function networkOf(cidr: Cidr): Cidr {
  return { ip: withHostBits(cidr.ip, cidr.prefix, false), prefix: cidr.prefix };
}

/** The highest address of the prefix: for IPv4 its broadcast address. */
export function lastIp(cidr: Cidr): Ip {
  return withHostBits(cidr.ip, cidr.prefix, true);
}

export function contains(network: Cidr, ip: Ip): boolean {
  return (
    network.ip.family === ip.family &&
    compareIp(withHostBits(ip, network.prefix, false), withHostBits(network.ip, network.prefix, false)) === 0
  );
}

/** Orders by family, then by value: negative, 0 or positive. */
export function compareIp(a: Ip, b: Ip): number {
  if (a.family !== b.family) return a.family - b.family;
  for (let i = 0; i < a.bytes.length; i++) {
    const difference = (a.bytes[i] ?? 0) - (b.bytes[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export function sameIp(a: Ip, b: Ip): boolean {
  return compareIp(a, b) === 0;
}

/** The address `n` further on, `n` negative to go back; it wraps at the family's end. */
export function addIp(ip: Ip, n: number | bigint): Ip {
  const bytes = ip.bytes.slice();
  let carry = BigInt(n);
  for (let i = bytes.length - 1; i >= 0 && carry !== 0n; i--) {
    const sum = BigInt(bytes[i] ?? 0) + carry;
    bytes[i] = Number(sum & 255n);
    carry = sum >> 8n;
  }
  return { family: ip.family, bytes };
}

/** 6, 8 or 20 bytes as hexadecimal pairs joined by ':' or by '-'; `undefined` for any other text. */
export function parseMac(text: string): Uint8Array | undefined {
  const separator = text.charAt(2);
  if (separator !== ":" && separator !== "-") return undefined;
  const parts = text.split(separator);
  if (parts.length !== 6 && parts.length !== 8 && parts.length !== 20) return undefined;
  const bytes = new Uint8Array(parts.length);
  for (const [i, part] of parts.entries()) {
    const high = hexDigit(part.charCodeAt(0));
    const low = hexDigit(part.charCodeAt(1));
    if (part.length !== 2 || high < 0 || low < 0) return undefined;
    bytes[i] = (high << 4) | low;
  }
  return bytes;
}

/** Lower-case hexadecimal pairs joined by ':'. */
export function formatMac(bytes: Uint8Array): string {
  let text = "";
  for (const [i, byte] of bytes.entries()) text += `${i === 0 ? "" : ":"}${byte < 16 ? "0" : ""}${byte.toString(16)}`;
  return text;
}

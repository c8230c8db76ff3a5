// Addresses as text in, arithmetic in between, text out.
import { fail } from "./process";
import { decimal } from "./writer";

/** An IPv4 address in the low 32 bits of `low`, or an IPv6 address in both halves. */
export class Ip {
  constructor(
    public family: i32,
    public high: u64,
    public low: u64,
  ) {}

  @operator("==")
  equals(other: Ip): bool {
    return this.family == other.family && this.high == other.high && this.low == other.low;
  }

  /** 32 or 128. */
  get bits(): i32 {
    return this.family == 4 ? 32 : 128;
  }

  /** The address after this one. */
  next(): Ip {
    const low = this.low + 1;
    return new Ip(this.family, this.high + (low == 0 ? 1 : 0), this.family == 4 ? low & 0xffff_ffff : low);
  }

  /** This address with all bits behind the prefix cleared. */
  masked(prefix: i32): Ip {
    if (this.family == 4) return new Ip(4, 0, prefix == 0 ? 0 : (this.low >> (32 - prefix)) << (32 - prefix));
    const high = prefix >= 64 ? this.high : prefix == 0 ? 0 : (this.high >> (64 - prefix)) << (64 - prefix);
    const low = prefix <= 64 ? 0 : (this.low >> (128 - prefix)) << (128 - prefix);
    return new Ip(6, high, low);
  }

  private group(i: i32): u32 {
    return <u32>((i < 4 ? this.high >> (48 - 16 * i) : this.low >> (112 - 16 * i)) & 0xffff);
  }

  /** As RFC 5952 writes it. */
  toString(): string {
    if (this.family == 4) {
      const v = <u32>this.low;
      return decimal(v >> 24) + "." + decimal((v >> 16) & 255) + "." + decimal((v >> 8) & 255) + "." + decimal(v & 255);
    }
    let from = -1; // the first longest run of two or more zero groups
    let length = 1;
    for (let i = 0; i < 8; i++) {
      let n = 0;
      while (i + n < 8 && this.group(i + n) == 0) n++;
      if (n > length) {
        from = i;
        length = n;
      }
    }
    let out = "";
    for (let i = 0; i < 8; i++) {
      if (i == from) {
        out += "::";
        i += length - 1;
        continue;
      }
      if (i > 0 && i != from + length) out += ":";
      const g = this.group(i);
      for (let shift = g > 0xfff ? 12 : g > 0xff ? 8 : g > 0xf ? 4 : 0; shift >= 0; shift -= 4) {
        const d = (g >> shift) & 15;
        out += String.fromCharCode(d < 10 ? 0x30 + d : 0x57 + d);
      }
    }
    return out;
  }
}

/** An address with its prefix length. */
export class Cidr {
  constructor(
    public ip: Ip,
    public prefix: i32,
  ) {}

  /** The subnet. */
  get network(): Ip {
    return this.ip.masked(this.prefix);
  }

  contains(ip: Ip): bool {
    return ip.family == this.ip.family && ip.masked(this.prefix) == this.network;
  }

  toString(): string {
    return this.ip.toString() + "/" + decimal(this.prefix);
  }
}

/** Parts of an IPv4 address at `from`; -1 when it is none. */
function parseIpv4(text: string, from: i32): i64 {
  let value: i64 = 0;
  let parts = 0;
  for (let i = from; parts < 4; parts++) {
    let part = 0;
    let digits = 0;
    for (; i < text.length && digits < 4; i++, digits++) {
      const d = text.charCodeAt(i) - 0x30;
      if (<u32>d > 9) break;
      part = part * 10 + d;
    }
    if (digits == 0 || part > 255 || (digits > 1 && text.charCodeAt(i - digits) == 0x30)) return -1;
    value = (value << 8) | part;
    if (parts < 3) {
      if (i >= text.length || text.charCodeAt(i) != 0x2e) return -1;
      i++;
    } else if (i != text.length) {
      return -1;
    }
  }
  return value;
}

/** Reads an address; null when the text is none. */
export function parseIp(text: string): Ip | null {
  if (text.indexOf(":") < 0) {
    const v4 = parseIpv4(text, 0);
    return v4 < 0 ? null : new Ip(4, 0, v4);
  }
  const groups = new StaticArray<u16>(8);
  let count = 0;
  let gap = -1;
  let i = 0;
  if (text.startsWith("::")) {
    gap = 0;
    i = 2;
  }
  while (i < text.length) {
    if (count == 8) return null;
    if (count <= 6 && text.indexOf(".", i) > 0 && text.indexOf(":", i) < 0) {
      const v4 = parseIpv4(text, i);
      if (v4 < 0) return null;
      groups[count++] = <u16>(v4 >> 16);
      groups[count++] = <u16>v4;
      break;
    }
    let v = 0;
    let digits = 0;
    for (; i < text.length && digits < 5; i++, digits++) {
      const c = text.charCodeAt(i);
      const letter = (c | 0x20) - 0x61;
      if (<u32>(c - 0x30) <= 9) v = (v << 4) | (c - 0x30);
      else if (<u32>letter < 6) v = (v << 4) | (letter + 10);
      else break;
    }
    if (digits == 0 || digits > 4) return null;
    groups[count++] = <u16>v;
    if (i == text.length) break;
    if (text.charCodeAt(i) != 0x3a || ++i == text.length) return null;
    if (text.charCodeAt(i) == 0x3a) {
      if (gap >= 0) return null;
      gap = count;
      i++;
    }
  }
  if (gap < 0 ? count != 8 : count == 8) return null;
  let high: u64 = 0;
  let low: u64 = 0;
  for (let g = 0; g < 8; g++) {
    const tail = g - (8 - count);
    const v: u64 = gap < 0 || g < gap ? groups[g] : tail >= gap ? groups[tail] : 0;
    if (g < 4) high = (high << 16) | v;
    else low = (low << 16) | v;
  }
  if (high == 0 && low >> 32 == 0xffff) return new Ip(4, 0, low & 0xffff_ffff); // IPv4 within IPv6 is IPv4, as Go has it
  return new Ip(6, high, low);
}

/** Reads an address with a prefix length; null when the text is none. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf("/");
  const ip = parseIp(text.substring(0, slash)); // without a slash that is "", which is none
  if (!ip) return null;
  const digits = text.length - slash - 1;
  let prefix = 0;
  for (let i = slash + 1; i < text.length; i++) {
    const d = text.charCodeAt(i) - 0x30;
    if (<u32>d > 9 || digits > 3) return null;
    prefix = prefix * 10 + d;
  }
  if (digits == 0 || prefix > ip.bits || (digits > 1 && text.charCodeAt(slash + 1) == 0x30)) return null;
  return new Cidr(ip, prefix);
}

/** Reads an address that IPAM or an earlier result gave. Ends the run with error 200 when it is none. */
export function ipOf(text: string, what: string): Ip {
  const ip = parseIp(text);
  if (!ip) unreadable(text, what, "an IP address");
  return ip!;
}

/** Reads an address with prefix length that IPAM or an earlier result gave. Ends the run with error 200 if it is none. */
export function cidrOf(text: string, what: string): Cidr {
  const cidr = parseCidr(text);
  if (!cidr) unreadable(text, what, "an IP address with a prefix length");
  return cidr!;
}

function unreadable(text: string, what: string, expected: string): void {
  fail(200, 'Cannot use "' + text + '" as ' + what + ": expected " + expected, "Look at what the IPAM plugin answers");
}

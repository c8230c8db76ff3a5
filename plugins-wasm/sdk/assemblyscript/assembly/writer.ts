/** The value of an integer member that is to be left out of a request. */
export const ABSENT: i64 = i64.MIN_VALUE;
/** The value of a boolean member that is to be left out of a request; `true` and `false` go as they are. */
export const UNSET: i32 = -1;

/**
 * Writes JSON as UTF-8 into memory that grows. A member without a key is an element of an array; one whose value is
 * null, `ABSENT` or `UNSET` is left out.
 */
export class Writer {
  start: usize = heap.alloc(512);
  length: i32 = 0;
  private room: i32 = 512;
  private fresh: bool = true; // nothing stands before the next value at this level

  private need(bytes: i32): void {
    if (this.length + bytes <= this.room) return;
    let room = this.room << 1;
    while (room < this.length + bytes) room <<= 1;
    this.start = heap.realloc(this.start, room);
    this.room = room;
  }

  /** One byte as it is. */
  byte(b: i32): void {
    this.need(1);
    store<u8>(this.start + this.length++, <u8>b);
  }

  private unit(c: u32, escape: bool): void {
    if (c < 0x80) {
      if (escape && (c < 0x20 || c == 0x22 || c == 0x5c)) {
        this.byte(0x5c);
        if (c >= 0x20) return this.byte(c);
        this.byte(0x75);
        this.byte(0x30);
        this.byte(0x30);
        this.byte(0x30 + (c >> 4));
        const low = c & 15;
        return this.byte(low < 10 ? 0x30 + low : 0x57 + low);
      }
      return this.byte(c);
    }
    if (c < 0x800) {
      this.byte(0xc0 | (c >> 6));
    } else {
      if (c < 0x10000) {
        this.byte(0xe0 | (c >> 12));
      } else {
        this.byte(0xf0 | (c >> 18));
        this.byte(0x80 | ((c >> 12) & 63));
      }
      this.byte(0x80 | ((c >> 6) & 63));
    }
    this.byte(0x80 | (c & 63));
  }

  private units(text: string, escape: bool): void {
    this.need(text.length + 2);
    for (let i = 0; i < text.length; i++) {
      let c: u32 = text.charCodeAt(i);
      if ((c & 0xf800) == 0xd800) {
        const low: u32 = c < 0xdc00 && i + 1 < text.length ? text.charCodeAt(i + 1) : 0;
        if ((low & 0xfc00) == 0xdc00) {
          c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
          i++;
        } else {
          c = 0xfffd; // half a pair is no character
        }
      }
      this.unit(c, escape);
    }
  }

  /** Text as it is, without quotes. */
  plain(text: string): void {
    this.units(text, false);
  }

  /** Digits, without a key. */
  decimal(value: i64): void {
    let rest: u64 = value < 0 ? 0 - <u64>value : <u64>value;
    if (value < 0) this.byte(0x2d);
    let digits = 1;
    for (let r = rest; r >= 10; r /= 10) digits++;
    this.need(digits);
    this.length += digits;
    let at = this.start + this.length;
    do {
      store<u8>(--at, 0x30 + <u8>(rest % 10));
      rest /= 10;
    } while (rest != 0);
  }

  private quoted(text: string): void {
    this.byte(0x22);
    this.units(text, true);
    this.byte(0x22);
  }

  private key(name: string | null): void {
    if (!this.fresh) this.byte(0x2c);
    this.fresh = false;
    if (name === null) return;
    this.quoted(name);
    this.byte(0x3a);
  }

  beginObject(name: string | null = null): void {
    this.key(name);
    this.byte(0x7b);
    this.fresh = true;
  }

  endObject(): void {
    this.byte(0x7d);
    this.fresh = false;
  }

  beginArray(name: string | null = null): void {
    this.key(name);
    this.byte(0x5b);
    this.fresh = true;
  }

  endArray(): void {
    this.byte(0x5d);
    this.fresh = false;
  }

  text(name: string | null, value: string | null): void {
    if (value === null) return;
    this.key(name);
    this.quoted(value);
  }

  integer(name: string | null, value: i64): void {
    if (value == ABSENT) return;
    this.key(name);
    this.decimal(value);
  }

  flag(name: string | null, value: i32): void {
    if (value < 0) return;
    this.key(name);
    this.plain(value != 0 ? "true" : "false");
  }

  texts(name: string | null, values: string[] | null): void {
    if (values === null) return;
    this.beginArray(name);
    for (let i = 0; i < values.length; i++) this.text(null, unchecked(values[i]));
    this.endArray();
  }

  /** UTF-8 that is JSON already. */
  raw(name: string | null, at: usize, length: i32): void {
    this.key(name);
    this.need(length);
    memory.copy(this.start + this.length, at, length);
    this.length += length;
  }

  toString(): string {
    return String.UTF8.decodeUnsafe(this.start, this.length);
  }
}

/** An integer as text, for messages. */
export function decimal(value: i64): string {
  const out = new Writer();
  out.decimal(value);
  return out.toString();
}

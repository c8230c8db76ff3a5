/** The two ends of a codec: one growing buffer to write into, one bounded view to read from. */

/** Bytes that are not what the layout says: a kernel we do not understand, or not a kernel at all. */
export class WireError extends Error {
  override readonly name = "WireError";
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Collects messages in one buffer that grows by doubling. Numbers are little-endian, as netlink is on our targets. */
export class Writer {
  bytes: Uint8Array;
  view: DataView;
  length = 0;

  constructor(capacity = 4096) {
    this.bytes = new Uint8Array(capacity);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes room for `count` bytes and answers where they begin; the caller writes every one of them. */
  reserve(count: number): number {
    const at = this.length;
    const end = at + count;
    if (end > this.bytes.length) this.#grow(end);
    this.length = end;
    return at;
  }

  append(bytes: Uint8Array): void {
    // In two steps, here and below: `reserve()` may put another buffer in place of the one at hand.
    const at = this.reserve(bytes.length);
    this.bytes.set(bytes, at);
  }

  /** Text without a terminator. ASCII, which names are, takes the short way. */
  appendText(text: string): void {
    const start = this.reserve(text.length);
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i);
      if (c >= 128) {
        this.length = start;
        this.append(encoder.encode(text));
        return;
      }
      this.bytes[start + i] = c;
    }
  }

  appendZero(): void {
    const at = this.reserve(1);
    this.bytes[at] = 0;
  }

  /** Zeros up to the next multiple of four. */
  align(): void {
    while ((this.length & 3) !== 0) this.appendZero();
  }

  /** What was written, as a view that the next write may change. */
  written(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }

  reset(): void {
    this.length = 0;
  }

  #grow(needed: number): void {
    let capacity = this.bytes.length * 2;
    while (capacity < needed) capacity *= 2;
    const bytes = new Uint8Array(capacity);
    bytes.set(this.bytes.subarray(0, this.length));
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }
}

/** Received bytes. Codecs read between the bounds they are given and copy what they keep. */
export class Source {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Whether attributes that no layout names are kept in `other`; a reader that only looks drops them, for speed. */
  readonly keepUnknown: boolean;

  constructor(bytes: Uint8Array, keepUnknown = true) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.keepUnknown = keepUnknown;
  }

  /** Text from `start` to the first NUL or `end`. Bytes that are not UTF-8 become U+FFFD. */
  text(start: number, end: number): string {
    let text = "";
    for (let i = start; i < end; i++) {
      const c = this.bytes[i] ?? 0;
      if (c === 0) return text;
      if (c >= 128) {
        const nul = this.bytes.indexOf(0, i);
        return decoder.decode(this.bytes.subarray(start, nul >= 0 && nul < end ? nul : end));
      }
      text += String.fromCharCode(c);
    }
    return text;
  }
}

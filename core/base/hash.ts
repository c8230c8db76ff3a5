/** Names derived from an attachment: the same input gives the same name in every process, before and after a crash. */

/**
 * The first `digits` hexadecimal digits of SHA-256 over the parts, each preceded by its length so that no two lists of
 * parts collide.
 */
export function derive(digits: number, ...parts: readonly string[]): string {
  const hasher = new Bun.CryptoHasher("sha256");
  for (const part of parts) hasher.update(`${part.length}:${part}`);
  return hasher.digest("hex").slice(0, digits);
}

/** SHA-256 of bytes, 64 hexadecimal digits. */
export function sha256(bytes: Uint8Array | string): string {
  return new Bun.CryptoHasher("sha256").update(bytes).digest("hex");
}

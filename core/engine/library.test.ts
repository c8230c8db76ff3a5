import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { sha256 } from "../base/hash.ts";
import { type EmbeddedLibrary, findLibrary, installLibrary } from "./library.ts";

let scratch: string;
let embedded: EmbeddedLibrary;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "patchbay-library-"));
  // Two small files in the place of the real ones.
  const file = (name: string) => {
    const content = name.repeat(1000);
    const path = join(scratch, name);
    writeFileSync(path, content);
    return { path, sha256: sha256(content), bytes: content.length };
  };
  embedded = { inBinary: true, libwasmtime: file("wasmtime"), libgcc: file("gcc") };
});
afterAll(() => rmSync(scratch, { recursive: true }));

let count = 0;
const fresh = (): string => join(scratch, `dir${count++}`);
const nowhere = "/proc/self/nowhere";

describe("findLibrary()", () => {
  test("takes the plain files of a checkout", () => {
    using found = findLibrary({ ...embedded, inBinary: false });
    expect(found).toMatchObject({
      source: "checkout",
      path: embedded.libwasmtime.path,
      libgccPath: embedded.libgcc.path,
    });
  });

  test("makes copies in the cache, once, that only the owner can read", () => {
    const cache = fresh();
    using found = findLibrary(embedded, { beside: nowhere, cache });
    expect(found.source).toBe("cache");
    expect(dirname(found.path)).toBe(cache);
    expect(readFileSync(found.path).equals(readFileSync(embedded.libwasmtime.path))).toBe(true);
    expect(statSync(found.path).mode & 0o777).toBe(0o600);
    const inode = statSync(found.path).ino;
    using again = findLibrary(embedded, { beside: nowhere, cache });
    expect(again.path).toBe(found.path);
    expect(statSync(again.path).ino).toBe(inode);
    expect(readdirSync(cache)).toHaveLength(2);
  });

  test("does not read what it carries when a copy is there", () => {
    const cache = fresh();
    findLibrary(embedded, { beside: nowhere, cache })[Symbol.dispose]();
    const lost = (file: EmbeddedLibrary["libgcc"]) => ({ ...file, path: nowhere });
    using found = findLibrary(
      { ...embedded, libwasmtime: lost(embedded.libwasmtime), libgcc: lost(embedded.libgcc) },
      { beside: nowhere, cache },
    );
    expect(found.source).toBe("cache");
  });

  test("prefers what patchbay install put beside the executable", () => {
    const beside = fresh();
    installLibrary(embedded, beside);
    installLibrary(embedded, beside);
    using found = findLibrary(embedded, { beside, cache: fresh() });
    expect(found.source).toBe("beside");
    expect(dirname(found.path)).toBe(beside);
  });

  test("another release's copies stand beside ours", () => {
    const cache = fresh();
    findLibrary(embedded, { beside: nowhere, cache })[Symbol.dispose]();
    const content = "newer";
    const path = join(scratch, content);
    writeFileSync(path, content);
    const newer = { path, sha256: sha256(content), bytes: content.length };
    using found = findLibrary({ ...embedded, libwasmtime: newer }, { beside: nowhere, cache });
    expect(readFileSync(found.path, "utf8")).toBe(content);
    expect(readdirSync(cache)).toHaveLength(3);
  });

  test.each([
    ["a directory that others can write to", (dir: string) => chmodSync(dir, 0o777)],
    ["a file that others can write to", (dir: string) => eachFile(dir, (file) => chmodSync(file, 0o666))],
    ["a file that was cut short", (dir: string) => eachFile(dir, (file) => writeFileSync(file, "short"))],
  ])("does not use %s", (_, spoil) => {
    const beside = fresh();
    installLibrary(embedded, beside);
    spoil(beside);
    using found = findLibrary(embedded, { beside, cache: undefined });
    expect(found.source).toBe("memory");
    expect(readFileSync(found.path).equals(readFileSync(embedded.libwasmtime.path))).toBe(true);
  });

  test("holds it in memory where no directory can be written, and lets go of it", () => {
    const found = findLibrary(embedded, { beside: nowhere, cache: "/proc/patchbay" });
    expect(found.source).toBe("memory");
    expect(readFileSync(found.libgccPath).equals(readFileSync(embedded.libgcc.path))).toBe(true);
    found[Symbol.dispose]();
    expect(existsSync(found.path)).toBe(false);
  });

  test("does not copy what is damaged", () => {
    const cache = fresh();
    mkdirSync(cache);
    const damaged = { ...embedded, libgcc: { ...embedded.libgcc, sha256: sha256("other") } };
    findLibrary(damaged, { beside: nowhere, cache })[Symbol.dispose]();
    expect(readdirSync(cache)).toEqual([]);
    expect(() => installLibrary(damaged, cache)).toThrow("is damaged");
  });
});

/** Each file of a directory. */
function eachFile(dir: string, work: (file: string) => void): void {
  for (const name of readdirSync(dir)) work(join(dir, name));
}

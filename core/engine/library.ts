/**
 * Where libwasmtime is loaded from. Our binary carries it; the loader wants a file. Reading and writing 24 MB costs more
 * than a whole ADD, so a copy is kept where one may be, and the embedded bytes are read only when there is none yet.
 */
import { Code } from "../base/error.ts";
import { sha256 } from "../base/hash.ts";
import { Dir } from "../sys/dir.ts";
import type { Fd } from "../sys/fd.ts";
import { readEmbedded, statOf } from "../sys/files.ts";
import { mapsExecutable, memoryFile } from "../sys/shared-object.ts";
import { inUserNamespace, requireTrusted } from "../sys/trust.ts";
import { wasmtimeVersion } from "../sys/wasmtime.ts";

/** A file that the binary carries, as the build knows it. */
export interface EmbeddedFile {
  readonly path: string;
  readonly sha256: string;
  readonly bytes: number;
}
export interface EmbeddedLibrary {
  /** False when Bun runs the sources: the paths are then those of plain files. */
  readonly inBinary: boolean;
  readonly libwasmtime: EmbeddedFile;
  readonly libgcc: EmbeddedFile;
}

/** Disposed once the library is loaded: the loader keeps what it needs. */
export interface Library extends Disposable {
  readonly path: string;
  readonly libgccPath: string;
  /** For `doctor` and the operations log. */
  readonly source: "checkout" | "beside" | "cache" | "memory";
}

/** Where `patchbay install` puts copies: beside our own executable. */
export const besideExecutable = (executable = process.execPath): string =>
  `${executable.slice(0, executable.lastIndexOf("/"))}/.patchbay`;

const systemCache = "/var/lib/patchbay/cache";

interface Named {
  readonly file: EmbeddedFile;
  /** Version and hash: two releases of ours can share a directory. */
  readonly name: string;
}

/** The small one first: it tells whether the directory is one where code can run. */
const named = (embedded: EmbeddedLibrary): readonly [Named, Named] => [
  { file: embedded.libgcc, name: `libgcc_s-${embedded.libgcc.sha256.slice(0, 16)}.so.1` },
  { file: embedded.libwasmtime, name: `libwasmtime-${wasmtimeVersion}-${embedded.libwasmtime.sha256.slice(0, 16)}.so` },
];

/**
 * Finds the library, or puts a copy in the first directory of `places.cache` that takes it, or holds it in memory.
 *
 * @throws {SysError} when not even memory can be had.
 */
export function findLibrary(
  embedded: EmbeddedLibrary,
  places: { readonly beside?: string; readonly cache?: string | undefined } = {},
): Library {
  if (!embedded.inBinary) return inFiles(embedded.libwasmtime.path, embedded.libgcc.path, "checkout");
  const files = named(embedded);
  const [libgcc, libwasmtime] = files;
  const beside = places.beside ?? besideExecutable();
  if (files.every((file) => isUsable(beside, file))) return inDirectory(beside, files, "beside");
  const cache = "cache" in places ? places.cache : cacheDirectory();
  if (cache !== undefined && files.every((file) => isUsable(cache, file) || isUsableAfterCopy(cache, file))) {
    return inDirectory(cache, files, "cache");
  }
  return inMemory(libwasmtime, libgcc);
}

/** Puts copies into a directory, for `patchbay install`. @throws {SysError | CniError} */
export function installLibrary(embedded: EmbeddedLibrary, directory = besideExecutable()): void {
  using dir = Dir.open(directory, { create: true });
  for (const { file, name } of named(embedded)) dir.createWhole(name, readWhole(file), { durable: true });
}

/** Root's is the system's. Another user's, or that of root in a user namespace, is below its home. */
function cacheDirectory(): string | undefined {
  if (process.geteuid?.() === 0 && !inUserNamespace()) return systemCache;
  const { XDG_CACHE_HOME: caches, HOME: home } = process.env;
  const base =
    caches?.startsWith("/") === true ? caches : home?.startsWith("/") === true ? `${home}/.cache` : undefined;
  return base === undefined ? undefined : `${base}/patchbay/lib`;
}

/** The hash is checked when a copy is made; after that, the directory's owner and the file's length must do. */
function isUsable(directory: string, { file, name }: Named): boolean {
  const path = `${directory}/${name}`;
  const stat = statOf(path);
  if (stat?.isFile !== true || stat.size !== file.bytes) return false;
  try {
    requireTrusted(directory, "the directory", Code.NotAllowed);
    requireTrusted(path, "the library", Code.NotAllowed);
    return mapsExecutable(path);
  } catch {
    return false;
  }
}

/** Another process may make the same copy at the same time: whose it is in the end does not matter. */
function isUsableAfterCopy(directory: string, file: Named): boolean {
  try {
    using dir = Dir.open(directory, { create: true });
    dir.createWhole(file.name, readWhole(file.file), { durable: true });
  } catch {
    return false; // a read-only file system, no space, a directory that others can write to
  }
  return isUsable(directory, file);
}

function readWhole(file: EmbeddedFile): Uint8Array {
  const bytes = readEmbedded(file.path);
  if (bytes.length !== file.bytes || sha256(bytes) !== file.sha256) throw new Error(`embedded ${file.path} is damaged`);
  return bytes;
}

function inFiles(path: string, libgccPath: string, source: Library["source"]): Library {
  return { path, libgccPath, source, [Symbol.dispose]() {} };
}

function inDirectory(
  directory: string,
  [libgcc, libwasmtime]: readonly [Named, Named],
  source: Library["source"],
): Library {
  return inFiles(`${directory}/${libwasmtime.name}`, `${directory}/${libgcc.name}`, source);
}

function inMemory(libwasmtime: Named, libgcc: Named): Library {
  const held: Fd[] = [];
  const release = (): void => {
    for (const file of held) file[Symbol.dispose]();
  };
  const hold = ({ file, name }: Named): string => {
    const made = memoryFile(name, readEmbedded(file.path));
    held.push(made);
    return `/proc/self/fd/${made.raw}`;
  };
  try {
    return { libgccPath: hold(libgcc), path: hold(libwasmtime), source: "memory", [Symbol.dispose]: release };
  } catch (thrown) {
    release();
    throw thrown;
  }
}

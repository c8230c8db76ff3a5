/** Loading native code: the dynamic loader, and the two questions to ask of a file before it is handed one. */
import { dlopen, FFIType, type Pointer } from "bun:ffi";
import { Fd } from "./fd.ts";
import { check, cstring, Open, writeAll } from "./libc.ts";

const PROT_READ = 1;
const PROT_EXEC = 4;
const MAP_PRIVATE = 2;
const MFD_CLOEXEC = 1;
const RTLD_NOW = 2;
const RTLD_GLOBAL = 0x100;

const table = {
  // void *dlopen(const char *path, int flags)
  dlopen: { args: ["buffer", "i32"], returns: "ptr" },
  // void *dlsym(void *handle, const char *symbol)
  dlsym: { args: ["ptr", "buffer"], returns: "ptr" },
  // char *dlerror(void)
  dlerror: { args: [], returns: "cstring" },
  // void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
  mmap: { args: ["ptr", "u64", "i32", "i32", "i32", "i64"], returns: FFIType.i64_fast },
  // int munmap(void *at, size_t length)
  munmap: { args: ["u64", "u64"], returns: "i32" },
  // int memfd_create(const char *name, unsigned int flags)
  memfd_create: { args: ["buffer", "u32"], returns: "i32" },
} as const;

const open = () => dlopen("libc.so.6", table).symbols;
let symbols: ReturnType<typeof open> | undefined;
function loader() {
  symbols ??= open();
  return symbols;
}

/** Why the dynamic loader refused a file, in its own words. */
export class LoaderError extends Error {
  override readonly name = "LoaderError";
}

/**
 * Loads a shared object for the rest of the process's life.
 *
 * @param o.global What is loaded later finds it by its own name (`DT_SONAME`), wherever the file lies.
 * @throws {LoaderError}
 */
export function loadShared(path: string, o: { global?: boolean } = {}): Pointer {
  const handle = loader().dlopen(cstring(path), RTLD_NOW | (o.global === true ? RTLD_GLOBAL : 0));
  if (handle === null) throw new LoaderError(loader().dlerror() ?? `dlopen of ${path} failed`);
  return Number(handle) as Pointer;
}

/** The address of a function. @returns undefined when the object has none of that name */
export function symbolOf(handle: Pointer, name: string): Pointer | undefined {
  const found = loader().dlsym(handle, cstring(name));
  return found === null ? undefined : (Number(found) as Pointer);
}

/**
 * Whether code in the file could run: not on a file system mounted `noexec`, and not where a security module forbids it.
 * The loader asks the kernel for the same mapping.
 */
export function mapsExecutable(path: string): boolean {
  using file = Fd.open(path, Open.READ);
  const at = loader().mmap(null, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file.raw, 0);
  if (Number(at) === -1) return false;
  loader().munmap(at, 4096);
  return true;
}

/** A file that lives in memory and has no name; it is gone when the last descriptor and mapping are. @throws {SysError} */
export function memoryFile(name: string, bytes: Uint8Array): Fd {
  const file = Fd.adopt(check(loader().memfd_create(cstring(name), MFD_CLOEXEC), "memfd_create"), name);
  try {
    writeAll(file.raw, bytes, name);
    return file;
  } catch (thrown) {
    file[Symbol.dispose]();
    throw thrown;
  }
}

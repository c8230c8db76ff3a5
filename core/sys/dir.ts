import { CniError, Code } from "../base/error.ts";
import { leftMs, monotonicMs, sleepMs } from "./clock.ts";
import { Errno, SysError } from "./error.ts";
import { Fd } from "./fd.ts";
import {
  At,
  check,
  cstring,
  errno,
  fileSystemOf,
  libc,
  namesIn,
  Open,
  openat2,
  Resolve,
  readAll,
  restart,
  type Stat,
  stat,
  statIfThere,
  tryOpenat2,
  writeAll,
} from "./libc.ts";
import { type ProcessId, processStat } from "./process-id.ts";

const BENEATH = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS;
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const SEEK_CUR = 1;

/** File systems where a lock may mean nothing or block for ever. Source: linux/magic.h, and the file systems' own. */
const NETWORK_FILE_SYSTEMS: ReadonlyArray<readonly [number, string]> = [
  [0x6969, "nfs"],
  [0x517b, "smb"],
  [0xff534d42, "cifs"],
  [0xfe534d42, "smb2"],
  [0x65735546, "fuse"],
  [0x01021997, "9p"],
  [0x00c36400, "ceph"],
  [0x5346414f, "afs"],
];

/**
 * One name in a directory. A leading dot is ours: names of files that are not yet complete begin so.
 *
 * @throws {SysError} EINVAL
 */
function component(name: string): string {
  const good = name.length > 0 && name.length <= 240 && !name.startsWith(".") && !name.includes("/");
  if (!good || name.includes("\0")) throw new SysError("name", Errno.EINVAL, name);
  return name;
}

/**
 * A directory held by its descriptor. Names are single components, and no link is followed anywhere below it, so
 * nobody can make us read or write elsewhere. What it creates is for its owner only, whatever the umask.
 */
export class Dir implements Disposable {
  readonly path: string;
  readonly #fd: Fd;

  private constructor(fd: Fd, path: string) {
    this.#fd = fd;
    this.path = path;
  }

  /**
   * Links in the parents of `path` are the administrator's and followed; its last part may not be one.
   *
   * @param o.create Makes it and its missing parents, mode 0700.
   * @throws {SysError} ENOENT and the like
   * @throws {CniError} 5 if others can write to it, or if it is on a network file system
   */
  static open(path: string, o: { create?: boolean } = {}): Dir {
    const cut = path.replace(/\/+$/, "");
    if (!cut.startsWith("/")) throw new SysError("open", Errno.EINVAL, path);
    const fd = openTree(cut, o.create === true);
    try {
      requireOwn(stat(fd.raw, ""), path);
      requireLocal(fd.raw, path);
      return new Dir(fd, cut);
    } catch (thrown) {
      fd[Symbol.dispose]();
      throw thrown;
    }
  }

  /** @returns undefined when it is absent and not to be created. @throws {SysError} */
  sub(name: string, o: { create?: boolean } = {}): Dir | undefined {
    const path = this.#path(component(name));
    const fd = openBelow(this.#fd.raw, name, path, o.create === true);
    return fd === undefined ? undefined : new Dir(fd, path);
  }

  /**
   * The whole content of a regular file.
   *
   * @returns undefined when it is absent
   * @throws {SysError} EFBIG for one of more than `maxBytes`, ELOOP for a link, EINVAL for what is no regular file
   */
  read(name: string, maxBytes: number): Uint8Array | undefined {
    const path = this.#path(component(name));
    using file = this.#find(name, Open.READ | Open.NONBLOCK);
    if (file === undefined) return undefined;
    if (!stat(file.raw, "").isFile) throw new SysError("read", Errno.EINVAL, path);
    return readAll(file.raw, maxBytes, path);
  }

  /**
   * Creates a file that appears under its name complete or not at all: it is written without a name first.
   *
   * @param o.durable It is on the disk, under its name, when this returns.
   * @param o.unnamed false does without `O_TMPFILE`, as it is done by itself on a file system that lacks it.
   * @returns false if the name is taken
   * @throws {SysError}
   */
  createWhole(name: string, bytes: Uint8Array, o: { durable?: boolean; unnamed?: boolean } = {}): boolean {
    const path = this.#path(component(name));
    const unnamed = o.unnamed === false ? undefined : this.#createUnnamed(name, path, bytes, o);
    const made = unnamed ?? this.#createAside(name, path, bytes, o);
    if (made && o.durable) this.#sync();
    return made;
  }

  /** By `O_TMPFILE`. @returns undefined where the file system (an old overlayfs) or a missing /proc prevents it */
  #createUnnamed(name: string, path: string, bytes: Uint8Array, o: { durable?: boolean }): boolean | undefined {
    const raw = libc().openat(this.#fd.raw, cstring("."), Open.UNNAMED | Open.WRITE | Open.CLOEXEC, 0o600);
    if (raw < 0) {
      const code = errno();
      if (code === Errno.EOPNOTSUPP || code === Errno.EISDIR) return undefined;
      throw new SysError("open", code, path);
    }
    using file = Fd.adopt(raw, path);
    this.#fill(file, path, bytes, o.durable === true);
    const self = cstring(`/proc/self/fd/${file.raw}`);
    if (libc().linkat(At.CWD, self, this.#fd.raw, cstring(name), At.SYMLINK_FOLLOW) === 0) return true;
    const code = errno();
    if (code === Errno.EEXIST) return false;
    if (code === Errno.ENOENT) return undefined;
    throw new SysError("link", code, path);
  }

  /** By a name of this process's own that is linked to the final one and removed. */
  #createAside(name: string, path: string, bytes: Uint8Array, o: { durable?: boolean }): boolean {
    const aside = `.${name}.${process.pid}`;
    libc().unlinkat(this.#fd.raw, cstring(aside), 0); // left by an earlier process with our pid, if any
    using file = this.#create(aside, Open.WRITE | Open.CREATE | Open.EXCLUSIVE);
    try {
      this.#fill(file, path, bytes, o.durable === true);
      if (libc().linkat(this.#fd.raw, cstring(aside), this.#fd.raw, cstring(name), 0) === 0) return true;
      const code = errno();
      if (code === Errno.EEXIST) return false;
      throw new SysError("link", code, path);
    } finally {
      libc().unlinkat(this.#fd.raw, cstring(aside), 0);
    }
  }

  /**
   * Gives a file new content, whether it exists or not: readers see the old content or the new. One writer at a time:
   * what a writer that was killed has left is written over by the next.
   *
   * @throws {SysError}
   */
  replace(name: string, bytes: Uint8Array, o: { durable?: boolean } = {}): void {
    const path = this.#path(component(name));
    const aside = `.${name}.new`;
    using file = this.#create(aside, Open.WRITE | Open.CREATE | Open.TRUNCATE);
    try {
      this.#fill(file, path, bytes, o.durable === true);
      const [from, to] = [cstring(aside), cstring(name)];
      check(libc().renameat(this.#fd.raw, from, this.#fd.raw, to), "rename", path);
    } catch (thrown) {
      libc().unlinkat(this.#fd.raw, cstring(aside), 0);
      throw thrown;
    }
    if (o.durable) this.#sync();
  }

  /**
   * Writes a file in place, for what may be lost: a reader can find it empty, or one text on top of another.
   * It takes half the time of `replace()`.
   *
   * @throws {SysError}
   */
  overwrite(name: string, bytes: Uint8Array): void {
    const path = this.#path(component(name));
    using file = this.#create(name, Open.WRITE | Open.CREATE);
    writeAll(file.raw, bytes, path);
    check(libc().ftruncate(file.raw, bytes.length), "ftruncate", path);
  }

  #fill(file: Fd, path: string, bytes: Uint8Array, durable: boolean): void {
    check(libc().fchmod(file.raw, 0o600), "fchmod", path);
    writeAll(file.raw, bytes, path);
    if (durable) check(libc().fdatasync(file.raw), "fdatasync", path);
  }

  /** Opens a file at its end, and creates it if it is absent. @throws {SysError} */
  openAppend(name: string): Appender {
    const path = this.#path(component(name));
    const found = this.#find(name, Open.WRITE | Open.APPEND);
    if (found !== undefined) return new Appender(found, path);
    const made = this.#create(name, Open.WRITE | Open.APPEND | Open.CREATE);
    libc().fchmod(made.raw, 0o600);
    return new Appender(made, path);
  }

  /** Removes a file. @returns false if it was absent. @throws {SysError} */
  remove(name: string, o: { durable?: boolean } = {}): boolean {
    const path = this.#path(component(name));
    if (libc().unlinkat(this.#fd.raw, cstring(name), 0) !== 0) {
      const code = errno();
      if (code === Errno.ENOENT) return false;
      throw new SysError("unlink", code, path);
    }
    if (o.durable) this.#sync();
    return true;
  }

  /** Removes a file that `replace()` writes, and what a killed writer left beside it. As `remove()`. */
  removeReplaced(name: string): boolean {
    libc().unlinkat(this.#fd.raw, cstring(`.${component(name)}.new`), 0);
    return this.remove(name);
  }

  /** Removes a directory. @returns false if it is absent or not empty. @throws {SysError} */
  removeDir(name: string): boolean {
    const path = this.#path(component(name));
    if (libc().unlinkat(this.#fd.raw, cstring(name), At.REMOVEDIR) === 0) return true;
    const code = errno();
    if (code === Errno.ENOENT || code === Errno.ENOTEMPTY || code === Errno.EEXIST) return false;
    throw new SysError("rmdir", code, path);
  }

  /** Gives a file or directory of ours another name, in this directory or `to`, in place of what has it. */
  rename(name: string, newName: string, to: Dir = this): void {
    const [from, onto] = [cstring(component(name)), cstring(component(newName))];
    check(libc().renameat(this.#fd.raw, from, to.#fd.raw, onto), "rename", this.#path(name));
  }

  /** The names in it, sorted; without those that begin with a dot, which are not complete. @throws {SysError} */
  list(): string[] {
    using again = this.#reopen(); // reads from the start, and leaves the offset of others alone
    return namesIn(again.raw, this.path)
      .filter((name) => !name.startsWith("."))
      .sort();
  }

  /** When it was last written: wall clock, milliseconds since 1970. @returns undefined when it is absent */
  mtimeMs(name: string): number | undefined {
    return this.#stat(component(name))?.mtimeMs;
  }

  /**
   * Takes the lock on the directory, which ends with the process at the latest.
   *
   * @param o.deadlineMs On the clock of `monotonicMs()`.
   * @param o.shared Several may hold it shared, none then alone.
   * @param o.stop Asked between two attempts; true gives up.
   * @returns undefined when the deadline passed
   * @throws {SysError}
   */
  lock(o: { deadlineMs: number; shared?: boolean; stop?: { readonly requested: boolean } }): Disposable | undefined {
    const file = this.#reopen();
    const operation = (o.shared === true ? LOCK_SH : LOCK_EX) | LOCK_NB;
    for (let pause = 1; ; pause = Math.min(pause * 2, 20)) {
      if (libc().flock(file.raw, operation) === 0) return file;
      const code = errno();
      if (code === Errno.EAGAIN && monotonicMs() < o.deadlineMs && o.stop?.requested !== true) {
        sleepMs(leftMs(o.deadlineMs, pause));
        continue;
      }
      if (code === Errno.EINTR) continue;
      file[Symbol.dispose]();
      if (code === Errno.EAGAIN) return undefined;
      throw new SysError("flock", code, this.path);
    }
  }

  /** Who holds the lock on this directory now, as far as they are visible to us. Reads /proc/locks. */
  lockHolders(): ProcessId[] {
    const { device, inode } = stat(this.#fd.raw, "");
    using file = Fd.open("/proc/locks", Open.READ);
    const holders: ProcessId[] = [];
    // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
    for (const line of new TextDecoder().decode(readAll(file.raw, 16 * 1024 * 1024, "/proc/locks")).split("\n")) {
      const [, kind, , , pid, where] = line.split(/\s+/);
      if (kind !== "FLOCK" || where !== `${device}:${inode}`) continue;
      const found = processStat(Number(pid));
      if (found !== undefined) holders.push({ pid: found.pid, startTime: found.startTime });
    }
    return holders;
  }

  /** True while `name` in `parent` is this very directory: to be asked after its lock was taken. */
  stillNamed(parent: Dir, name: string): boolean {
    const there = parent.#stat(component(name));
    return there?.isSame(stat(this.#fd.raw, "")) === true;
  }

  [Symbol.dispose](): void {
    this.#fd[Symbol.dispose]();
  }

  #path(name: string): string {
    return `${this.path}/${name}`;
  }

  #stat(name: string): Stat | undefined {
    return statIfThere(this.#fd.raw, name);
  }

  #find(name: string, flags: number): Fd | undefined {
    const found = tryOpenat2(this.#fd.raw, name, flags | Open.NOFOLLOW, BENEATH);
    if (found >= 0) return Fd.adopt(found, this.#path(name));
    if (found === -Errno.ENOENT) return undefined;
    throw new SysError("openat2", -found, name);
  }

  #create(name: string, flags: number): Fd {
    return Fd.adopt(openat2(this.#fd.raw, name, flags | Open.NOFOLLOW, BENEATH, 0o600), this.#path(name));
  }

  #reopen(): Fd {
    const raw = libc().openat(this.#fd.raw, cstring("."), Open.READ | Open.DIRECTORY | Open.CLOEXEC, 0);
    return Fd.adopt(check(raw, "open", this.path), this.path);
  }

  #sync(): void {
    check(libc().fsync(this.#fd.raw), "fsync", this.path);
  }
}

/** A file that is only ever added to. */
export class Appender implements Disposable {
  readonly path: string;
  readonly #file: Fd;

  constructor(file: Fd, path: string) {
    this.#file = file;
    this.path = path;
  }

  /**
   * Adds all of `bytes`, or nothing and throws: what a full disk let through is cut off again, unless another process
   * has added to the file since.
   *
   * @throws {SysError} ENOSPC and the like
   */
  write(bytes: Uint8Array): void {
    const raw = this.#file.raw;
    const wrote = restart("write", () => libc().write(raw, bytes, bytes), this.path);
    if (wrote === bytes.length) return;
    const end = check(libc().lseek(raw, 0, SEEK_CUR), "lseek", this.path);
    if (stat(raw, "").size === end) check(libc().ftruncate(raw, end - wrote), "ftruncate", this.path);
    throw new SysError("write", Errno.ENOSPC, this.path);
  }

  /** The length of the file in bytes. */
  get size(): number {
    return stat(this.#file.raw, "").size;
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Opens a directory by path; with `create` makes what is missing of it. */
function openTree(path: string, create: boolean): Fd {
  const cut = path.lastIndexOf("/");
  const name = path.slice(cut + 1);
  const parentPath = cut <= 0 ? "/" : path.slice(0, cut);
  if (name === "") return Fd.open("/", Open.READ | Open.DIRECTORY);
  using parent = openParent(parentPath, create);
  const fd = openBelow(parent.raw, name, path, create);
  if (fd === undefined) throw new SysError("open", Errno.ENOENT, path);
  return fd;
}

function openParent(path: string, create: boolean): Fd {
  const found = tryOpenat2(At.CWD, path, Open.PATH | Open.DIRECTORY, Resolve.NO_MAGICLINKS);
  if (found >= 0) return Fd.adopt(found, path);
  if (create && found === -Errno.ENOENT) return openTree(path, true);
  throw new SysError("openat2", -found, path);
}

function openBelow(dirfd: number, name: string, path: string, create: boolean): Fd | undefined {
  const found = tryOpenat2(dirfd, name, Open.READ | Open.DIRECTORY, BENEATH);
  if (found >= 0) return Fd.adopt(found, path);
  if (found !== -Errno.ENOENT) throw new SysError("openat2", -found, name);
  if (!create) return undefined;
  const open = (): Fd => Fd.adopt(openat2(dirfd, name, Open.READ | Open.DIRECTORY, BENEATH), path);
  if (libc().mkdirat(dirfd, cstring(name), 0o700) !== 0) {
    const code = errno();
    if (code !== Errno.EEXIST) throw new SysError("mkdir", code, path);
    return open(); // another process was faster
  }
  const made = open();
  libc().fchmod(made.raw, 0o700);
  return made;
}

function requireOwn({ uid, mode }: Stat, path: string): void {
  if ((uid === 0 || uid === process.geteuid?.()) && (mode & 0o022) === 0) return;
  throw new CniError(Code.IoFailure, `Cannot keep state in "${path}": others than root can write to it`, {
    remedy: `Run "chown root:root ${path}; chmod go-w ${path}"`,
  });
}

function requireLocal(fd: number, path: string): void {
  const magic = fileSystemOf(fd, path);
  const kind = NETWORK_FILE_SYSTEMS.find(([number]) => number === magic)?.[1];
  if (kind === undefined) return;
  throw new CniError(Code.IoFailure, `Cannot keep state in "${path}": it is on a network file system (${kind})`, {
    remedy: "Put the directory on a disk or a tmpfs of the node",
  });
}

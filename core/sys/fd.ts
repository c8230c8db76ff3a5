import { Owned } from "../base/owned.ts";
import { At, cstring, libc, Open, restart } from "./libc.ts";

function close(fd: number): void {
  // EINTR included: Linux has released the descriptor by then, and closing again could hit another's.
  libc().close(fd);
}

/** An open file descriptor, closed by its owner. */
export class Fd extends Owned<number> {
  /**
   * open(2) with `O_CLOEXEC`, relative paths to the working directory.
   *
   * @param flags `Open.*`
   * @throws {SysError}
   */
  static open(path: string, flags: number, mode = 0): Fd {
    const name = cstring(path);
    return Fd.adopt(
      restart("open", () => libc().openat(At.CWD, name, flags | Open.CLOEXEC, mode), path),
      path,
    );
  }

  /** Takes over a descriptor that somebody else opened. */
  static adopt(raw: number, what: string): Fd {
    return new Fd(what, raw, close);
  }
}

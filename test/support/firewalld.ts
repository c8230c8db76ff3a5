/** Debian's firewalld in a namespace of the test, on a bus of its own. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sh, type TestNetns } from "./netns.ts";
import { peerFile } from "./peers.ts";

const NAME = "org.fedoraproject.FirewallD1";
const STARTS_MS = 30_000;

export class TestFirewalld implements Disposable {
  readonly #netns: TestNetns;
  readonly #directory = mkdtempSync(join(tmpdir(), "pbt-firewalld-"));
  readonly #bus: Bun.Subprocess;
  #daemon: Bun.Subprocess | undefined;

  private constructor(netns: TestNetns) {
    this.#netns = netns;
    const socket = join(this.#directory, "bus");
    writeFileSync(
      join(this.#directory, "bus.conf"),
      `<busconfig><type>system</type><listen>unix:path=${socket}</listen><auth>EXTERNAL</auth>
       <policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
       <allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`,
    );
    cpSync(peerFile("firewalld", "etc/firewalld"), join(this.#directory, "etc"), { recursive: true });
    const config = `--config-file=${join(this.#directory, "bus.conf")}`;
    this.#bus = this.#spawn(peerFile("firewalld", "usr/bin/dbus-daemon"), config, "--nofork", "--nopidfile");
  }

  static async start(netns: TestNetns): Promise<TestFirewalld> {
    const made = new TestFirewalld(netns);
    try {
      await made.#until("the bus", () => existsSync(join(made.#directory, "bus")));
      await made.run();
      return made;
    } catch (thrown) {
      made[Symbol.dispose]();
      throw thrown;
    }
  }

  /** DBUS_SYSTEM_BUS_ADDRESS */
  get address(): string {
    return `unix:path=${join(this.#directory, "bus")}`;
  }

  get #env(): Record<string, string> {
    const libraries = peerFile("firewalld", `usr/lib/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`);
    return {
      ...(process.env as Record<string, string>),
      LD_LIBRARY_PATH: libraries,
      GI_TYPELIB_PATH: join(libraries, "girepository-1.0"),
      PYTHONPATH: peerFile("firewalld", "usr/lib/python3/dist-packages"),
      DBUS_SYSTEM_BUS_ADDRESS: this.address,
    };
  }

  #spawn(...command: readonly string[]): Bun.Subprocess {
    const stderr = Bun.file(join(this.#directory, "stderr"));
    return Bun.spawn(this.#netns.argv(...command), { env: this.#env, stdin: "ignore", stdout: "ignore", stderr });
  }

  /** Starts the daemon; its own rules are there then. */
  async run(): Promise<void> {
    const at = (name: string): string => join(this.#directory, name);
    const defaults = peerFile("firewalld", "usr/lib/firewalld");
    const program = peerFile("firewalld", "usr/sbin/firewalld");
    const paths = ["--system-config", at("etc"), "--default-config", defaults, "--log-file", at("log")];
    this.#daemon = this.#spawn("/usr/bin/python3", program, "--nofork", "--nopid", "--log-target", "file", ...paths);
    // It has its name before it has its rules.
    const path = "/org/fedoraproject/FirewallD1";
    const isUp = (): boolean =>
      this.#send("org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", NAME).includes("true") &&
      this.#send(NAME, path, "org.freedesktop.DBus.Properties.Get", NAME, "state").includes("RUNNING");
    await this.#until("firewalld", isUp);
  }

  /** Ends the daemon, which takes its rules away. */
  async stop(): Promise<void> {
    this.#daemon?.kill();
    await this.#daemon?.exited;
    this.#daemon = undefined;
  }

  #send(destination: string, path: string, method: string, ...args: readonly string[]): string {
    const command = [
      peerFile("firewalld", "usr/bin/dbus-send"),
      `--bus=${this.address}`,
      "--print-reply",
      `--dest=${destination}`,
    ];
    return sh([...command, path, method, ...args.map((arg) => `string:${arg}`)], { env: this.#env });
  }

  /** A method of a zone, as another program of the node calls it. */
  zone(method: string, ...args: readonly string[]): string {
    return this.#send(NAME, "/org/fedoraproject/FirewallD1", `${NAME}.zone.${method}`, ...args);
  }

  /** Addresses in a zone. */
  sources(zone = "trusted"): string[] {
    return [...this.zone("getSources", zone).matchAll(/string "([^"]+)"/g)].map(([, source = ""]) => source).sort();
  }

  async #until(what: string, done: () => boolean): Promise<void> {
    const end = performance.now() + STARTS_MS;
    while (!done()) {
      if (performance.now() > end) {
        const told = ["stderr", "log"].map((name) => join(this.#directory, name)).filter(existsSync);
        throw new Error(`${what} did not start: ${told.map((path) => readFileSync(path, "utf8")).join("\n")}`);
      }
      await Bun.sleep(50);
    }
  }

  [Symbol.dispose](): void {
    this.#daemon?.kill("SIGKILL");
    this.#bus.kill("SIGKILL");
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

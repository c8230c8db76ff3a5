/** A network card of the guest of `test/vm`, with virtual functions: what it is like, and what a test does to it. */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { parseIpJson, sh } from "./netns.ts";

const PCI = "/sys/bus/pci";
const PATIENCE_MS = 20_000;

export interface VfState {
  readonly vf: number;
  readonly mac: string;
  readonly vlan: number;
  readonly qos: number;
  readonly spoofchk: boolean;
  readonly trust: boolean;
  readonly maxRate: number;
}

/** Waits until `look` gives something. @throws {Error} after 20 s */
export async function until<T>(what: string, look: () => T | undefined | false): Promise<T> {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const found = look();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`${what}: not after ${PATIENCE_MS} ms`);
    await Bun.sleep(100);
  }
}

export class Card {
  /** The interface of the physical function. */
  readonly name: string;
  /** Its PCI address. */
  readonly physical: string;
  /** PCI addresses of the virtual functions. */
  readonly vfs: readonly string[];

  private constructor(name: string, physical: string, vfs: readonly string[]) {
    this.name = name;
    this.physical = physical;
    this.vfs = vfs;
  }

  /** The first card, up, with so many functions, each with an interface. */
  static async create(functions: number): Promise<Card> {
    for (const module of ["igb", "igbvf", "vfio-pci"]) sh(["modprobe", module]);
    const physical = await until("the card", () =>
      readdirSync(`${PCI}/drivers/igb`).find((n) => n.startsWith("0000:")),
    );
    const name = await until("its interface", () => readdirSync(`${PCI}/devices/${physical}/net`)[0]);
    sh(["ip", "link", "set", name, "up"]);
    const number = `${PCI}/devices/${physical}/sriov_numvfs`;
    if (readFileSync(number, "utf8").trim() !== String(functions)) {
      writeFileSync(number, "0");
      writeFileSync(number, String(functions));
    }
    const vfs = Array.from({ length: functions }, (_, i) => {
      return basename(readlinkSync(`${PCI}/devices/${physical}/virtfn${i}`));
    });
    const card = new Card(name, physical, vfs);
    for (let i = 0; i < functions; i++) {
      const own = await until(`the interface of function ${i}`, () => card.interfaceOf(i));
      // Some drivers tell the card their address only then, and a later look would find it changed.
      for (const state of ["up", "down"]) sh(["ip", "link", "set", own, state]);
    }
    return card;
  }

  address(vf: number): string {
    const found = this.vfs[vf];
    if (found === undefined) throw new Error(`the card has no function ${vf}`);
    return found;
  }

  /** The interface of a function, if it is on the node. */
  interfaceOf(vf: number): string | undefined {
    const directory = `${PCI}/devices/${this.address(vf)}/net`;
    return existsSync(directory) ? readdirSync(directory)[0] : undefined;
  }

  /** The name of a function's driver, "" while it has none. */
  driverOf(vf: number): string {
    const driver = `${PCI}/devices/${this.address(vf)}/driver`;
    return existsSync(driver) ? basename(readlinkSync(driver)) : "";
  }

  /** The path of a function below /sys/devices. */
  pathOf(vf: number): string {
    return join(`${PCI}/devices`, readlinkSync(`${PCI}/devices/${this.address(vf)}`));
  }

  state(): readonly VfState[] {
    const [link] = parseIpJson(sh(["ip", "-j", "-d", "link", "show", this.name]));
    const list = (link?.vfinfo_list ?? []) as readonly Record<string, unknown>[];
    return list.map((vf) => {
      const [vlan] = (vf.vlan_list ?? []) as readonly { vlan?: number; qos?: number }[];
      return {
        vf: Number(vf.vf),
        mac: String(vf.address),
        vlan: vlan?.vlan ?? 0,
        qos: vlan?.qos ?? 0,
        spoofchk: vf.spoofchk === true,
        trust: vf.trust === true,
        maxRate: Number((vf.rate as { max_tx?: number } | undefined)?.max_tx ?? 0),
      };
    });
  }

  /** All that a pod could leave changed: the functions, the links of the node, what is in the records of devices. */
  snapshot(): unknown {
    const links = parseIpJson(sh(["ip", "-j", "link"])).map((l) => {
      return { name: l.ifname, mac: l.address, mtu: l.mtu, up: (l.flags as string[]).includes("UP"), alt: l.altnames };
    });
    const records = "/var/lib/patchbay/devices";
    return {
      functions: this.state(),
      links: links.toSorted((a, b) => String(a.name).localeCompare(String(b.name))),
      records: existsSync(records) ? readdirSync(records) : [],
    };
  }

  /** Gives a function to another driver, or back to its own. */
  bind(vf: number, driver: "vfio-pci" | "igbvf"): void {
    const device = `${PCI}/devices/${this.address(vf)}`;
    if (existsSync(`${device}/driver`)) writeFileSync(`${device}/driver/unbind`, this.address(vf));
    writeFileSync(`${device}/driver_override`, driver);
    writeFileSync(`${PCI}/drivers_probe`, this.address(vf));
    writeFileSync(`${device}/driver_override`, "\n");
  }
}

/** A directory of plugins in which the binary has these names. */
export function pluginDirectory(program: string, names: readonly string[]): string {
  const directory = "/tmp/pbt-plugins";
  mkdirSync(directory, { recursive: true });
  const whole = join(directory, "patchbay");
  // Out of the files of the machine outside, which are slow, into memory.
  if (!existsSync(whole)) sh(["cp", program, whole]);
  for (const name of names) if (!existsSync(join(directory, name))) sh(["ln", whole, join(directory, name)]);
  return directory;
}

/** A built-in plugin's module and the real call table, on any kernel: what core/delegate does, without the engine. */
import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type JsonObject, parseJson } from "../../core/base/json.ts";
import { type IpamAnswer, nftKey } from "../../core/host/context.ts";
import { checkHonest } from "../../core/host/result.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { parseManifest } from "../../core/policy/manifest.ts";
import { compileGuest, type GuestEnd, runGuest } from "../../plugins-wasm/testing.ts";
import { MemoryJournal, TestGuest } from "./guest.ts";
import { undoKernelSteps } from "./undo.ts";

const plugins = join(import.meta.dir, "../../plugins-wasm");
let containers = 0;
/** By the key of the names that a pod has in nftables. */
const living = new Map<string, PluginPod>();

/** One attachment to one pod, with a journal of its own. */
export class PluginPod {
  readonly journal: MemoryJournal;
  readonly container: string;
  readonly ifname: string;
  readonly host: Kernel;
  readonly kernel: Kernel;
  /** Whether its namespace went without a DEL. */
  gone = false;

  constructor(
    host: Kernel,
    kernel: Kernel,
    o: { readonly container?: string; readonly ifname?: string; readonly journal?: MemoryJournal } = {},
  ) {
    this.host = host;
    this.kernel = kernel;
    this.container = o.container ?? `c${containers++}`;
    this.ifname = o.ifname ?? "eth0";
    this.journal = o.journal ?? new MemoryJournal();
    living.set(this.nftKey, this);
  }

  /** As the host makes it. */
  get nftKey(): string {
    return nftKey({ container: this.container, network: "n", ifname: this.ifname });
  }

  #run(
    operation: "ADD" | "CHECK",
    plugin: string,
    conf: JsonObject,
    ipam: IpamAnswer | undefined,
  ): [GuestEnd, TestGuest] {
    const manifest = parseManifest(parseJson(readFileSync(join(plugins, plugin, "plugin.json"), "utf8")));
    const ifname = plugin === "loopback" ? "lo" : this.ifname;
    const guest = new TestGuest({
      operation,
      manifest,
      pod: this.kernel,
      host: this.host,
      journal: this.journal,
      conf: { cniVersion: "1.1.0", name: "n", type: plugin, ...(ipam ? { ipam: { type: "t" } } : {}), ...conf },
      attachment: { container: this.container, network: "n", ifname },
      ...(ipam ? { ipam } : {}),
      ownerOf(key) {
        const pod = living.get(key);
        return pod && { label: `container "${pod.container}"`, alive: !pod.gone };
      },
    });
    const end = runGuest(compileGuest(`plugins-wasm/${plugin}/assembly/index.ts`), {
      env: { CNI_COMMAND: operation, CNI_CONTAINERID: this.container, CNI_NETNS: "/run/netns/pod", CNI_IFNAME: ifname },
      stdin: JSON.stringify(guest.context.setup.conf),
      answer(call, request) {
        const said = guest.call(call, request);
        return typeof said.code === "number" ? { error: said } : said;
      },
    });
    return [end, guest];
  }

  /** @returns the result, which the host found honest. */
  add(plugin: string, conf: JsonObject, ipam?: IpamAnswer): JsonObject {
    const [end, guest] = this.#run("ADD", plugin, conf, ipam);
    expect(end.exit, end.stdout).toBe(0);
    const result = parseJson(end.stdout) as JsonObject;
    checkHonest(guest.context, result);
    return result;
  }

  /** @returns the message of the error. */
  refused(plugin: string, conf: JsonObject, ipam?: IpamAnswer): string {
    const [end] = this.#run("ADD", plugin, conf, ipam);
    expect(end.exit).toBe(1);
    return JSON.parse(end.stdout).msg;
  }

  /** @returns "" when all is in place, else the difference. */
  check(plugin: string, conf: JsonObject, result: JsonObject, ipam?: IpamAnswer): string {
    const [end] = this.#run("CHECK", plugin, { ...conf, prevResult: result }, ipam);
    return end.exit === 0 ? end.stdout : JSON.parse(end.stdout).msg.replace("Cannot confirm the attachment: ", "");
  }

  undo(): void {
    expect(undoKernelSteps([{ entries: this.journal.entries }], { pod: this.kernel, host: this.host })).toEqual([]);
  }

  names(): string[] {
    return this.kernel.links().map((l) => l.name);
  }
}

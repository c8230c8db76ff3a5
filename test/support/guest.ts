/** A guest's side of the call table without WebAssembly: requests go in as objects, answers come out as objects. */
import type { JsonObject } from "../../core/base/json.ts";
import { parseJson } from "../../core/base/json.ts";
import { invoke } from "../../core/host/call.ts";
import { hostCalls } from "../../core/host/calls.ts";
import { canonical } from "../../core/host/conf.ts";
import { type CallTrace, GuestContext, type GuestSetup, type IpamAnswer } from "../../core/host/context.ts";
import type { DeviceNode } from "../../core/host/device-find.ts";
import type { Kernel } from "../../core/kernel/kernel.ts";
import { grantsOf, type Operation } from "../../core/policy/decide.ts";
import { type Manifest, parseManifest, roles } from "../../core/policy/manifest.ts";
import { type Author, openPolicy, type Policy, refuseHostLink } from "../../core/policy/policy.ts";
import type { SysctlWord } from "../../core/policy/sysctl-list.ts";
import type { Entry } from "../../core/state/entries.ts";

/** A journal in memory. `lose()` makes it forget what a killed process would not have written. */
export class MemoryJournal {
  readonly entries: Entry[] = [];
  append(entry: Entry): void {
    this.entries.push(structuredClone(entry));
  }
  /** The first `n` entries alone, as after a kill. */
  upTo(n: number): readonly Entry[] {
    return this.entries.slice(0, n);
  }
}

/** The journal of a process that ends before a write, after `left` of them. */
export class DyingJournal extends MemoryJournal {
  #left: number;
  constructor(left: number) {
    super();
    this.#left = left;
  }
  override append(entry: Entry): void {
    if (this.#left-- <= 0) throw new Error("killed");
    super.append(entry);
  }
}

/** A manifest that asks for all that any plugin can have, so that only the call table and the targets refuse. */
export function wideManifest(more: JsonObject = {}): Manifest {
  const calls = Object.fromEntries(hostCalls.map((c) => [c.name, roles.filter((r) => c.roles.includes(r))]));
  return parseManifest({
    name: "wide",
    abi: 1,
    version: "1",
    calls,
    links: {
      bridge: { key: "bridge" },
      parent: { key: "master", orDefaultRoute: true, inPodWhen: "linkInContainer" },
      vrf: { key: "vrfname", inPod: true },
    },
    sysctls: ["pod:net/ipv4/conf/<link>/arp_notify", "pod:net/ipv4/conf/all/arp_notify", "host:net/ipv4/ip_forward"],
    schema: { bridge: { type: "string", format: "ifname" }, master: { type: "string", format: "ifname" } },
    ...more,
  });
}

/** A member that is undefined is left out, as JSON does. */
export type Request = Readonly<Record<string, unknown>>;

export interface TestGuestOptions {
  readonly pod?: Kernel | undefined;
  readonly host: Kernel;
  readonly operation?: Operation;
  readonly conf?: JsonObject;
  readonly manifest?: Manifest;
  readonly journal?: MemoryJournal;
  readonly ipam?: IpamAnswer;
  readonly devices?: DeviceNode;
  readonly policy?: Policy;
  readonly author?: Author;
  readonly attachment?: Partial<GuestSetup["attachment"]>;
  /** What the administrator says of every sysctl of the pod; "free" unless told. */
  readonly sysctls?: SysctlWord;
  readonly ownerOf?: GuestSetup["ownerOf"];
}

function noDevices(): never {
  throw new Error("this test has no devices");
}

export const someIpam: IpamAnswer = {
  ips: [{ address: "10.9.0.5/24", gateway: "10.9.0.1" }],
  routes: [{ dst: "0.0.0.0/0" }],
  dns: {},
};

export class TestGuest {
  readonly journal: MemoryJournal;
  readonly context: GuestContext;
  readonly traces: CallTrace[] = [];
  readonly logged: string[] = [];
  readonly shared: string[] = [];
  readonly ipamRuns: Operation[] = [];

  constructor(o: TestGuestOptions) {
    this.journal = o.journal ?? new MemoryJournal();
    const manifest = o.manifest ?? wideManifest();
    const taken = new Set<string>();
    this.context = new GuestContext({
      operation: o.operation ?? "ADD",
      manifest,
      grants: grantsOf(o.policy ?? openPolicy, manifest, { builtIn: true }),
      attachment: { container: "c1", network: "net1", ifname: "eth0", ...o.attachment },
      plugin: 0,
      conf: canonical(manifest, o.conf ?? {}),
      netnsPath: "/run/netns/pod",
      pod: o.pod,
      host: o.host,
      sysctlWord: () => o.sysctls ?? "free",
      refuseHostLink: (link) => refuseHostLink(o.policy ?? openPolicy, o.author ?? { node: true }, link),
      journal: this.journal,
      ...(o.ownerOf && { ownerOf: o.ownerOf }),
      useNetworkObject: (kind, name) => void this.shared.push(`${kind} ${name}`),
      firewalld: () => undefined,
      leases: {
        acquire: (pool, key) => !taken.has(`${pool}/${key}`) && taken.add(`${pool}/${key}`).size > 0,
        release: (pool, key) => taken.delete(`${pool}/${key}`),
      },
      devices: () => ({
        node: o.devices ?? noDevices(),
        owner: {
          container: "c1",
          network: "net1",
          ifname: "eth0",
          ...o.attachment,
          key: `key-${o.attachment?.container ?? "c1"}`,
          netns: { path: "/run/netns/pod", cookie: String(o.pod?.cookie ?? 0) },
        },
      }),
      runIpam: (command) => {
        this.ipamRuns.push(command);
        return command === "ADD" ? (o.ipam ?? someIpam) : undefined;
      },
      log: (level, message) => void this.logged.push(`${level} ${message}`),
      trace: (call) => void this.traces.push(call),
    });
  }

  /** The raw form: any bytes. @returns what the import returns. */
  raw(name: string, request: Uint8Array): number {
    const row = hostCalls.find((c) => c.name === name);
    if (row === undefined) throw new Error(`no call ${name}`);
    return invoke(this.context, row, request);
  }

  /** @returns the answer, or the error document when the call failed. */
  call(name: string, request: Request = {}): JsonObject {
    const length = this.raw(name, new TextEncoder().encode(JSON.stringify(request)));
    const answer = parseJson(this.context.answer) as JsonObject;
    if (Math.abs(length) !== this.context.answer.length) throw new Error("the length is not the answer's");
    if (length < 0 !== (typeof answer.code === "number")) throw new Error("the sign does not tell a failure");
    return answer;
  }

  /** @throws {Error} when the call fails. */
  must(name: string, request: Request = {}): JsonObject {
    const answer = this.call(name, request);
    if (typeof answer.code === "number") throw new Error(`${name}: ${answer.code} ${answer.msg} (${answer.details})`);
    return answer;
  }

  /** The code of the refusal, 0 for none. */
  code(name: string, request: Request = {}): number {
    const { code } = this.call(name, request);
    return typeof code === "number" ? code : 0;
  }
}

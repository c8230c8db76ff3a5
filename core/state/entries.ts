/** What a journal says. Everything here is plain data: DEL needs nothing else, and the next version can read it. */
import type { Json, JsonObject } from "../base/json.ts";
import type { ProcessId } from "../sys/process-id.ts";

/** The first line of a journal: whose it is. */
export interface AttachmentHeader {
  readonly format: 1;
  /** Position among the attachments of its container, from 1, in the order of their ADD. */
  readonly seq: number;
  readonly container: string;
  /** The name of the network's configuration. */
  readonly network: string;
  readonly ifname: string;
  /** "patchbay", or the link name that we were called by, such as "bridge". */
  readonly type: string;
  /** What the runtime asked for; its DEL undoes this attachment too. */
  readonly call: { readonly network: string; readonly ifname: string };
  /** The name that the status document shows: "namespace/name", or the default network's name. */
  readonly label: string;
  readonly isDefault: boolean;
  readonly netns: { readonly path: string /** Decimal digits. */; readonly cookie: string };
  readonly pod?: { readonly namespace: string; readonly name: string; readonly uid?: string };
  /** Who wrote the configuration, where that is not the node's administrator. */
  readonly author?: { readonly namespace: string; readonly nodeFile?: true };
  /** Of the network's configuration: CHECK, and GC, pass the attachment over. */
  readonly disableCheck?: boolean;
  readonly disableGC?: boolean;
  /** The operation's id, as errors and the operations log show it. */
  readonly operation: string;
  /** Wall clock; for people only, nothing is decided by it. */
  readonly createdMs: number;
}

export type Place = "pod" | "host";
interface LinkRef {
  readonly name: string;
  readonly index: number;
}

/** How to take one effect back. Written before the effect, so it may name what was never made. */
export type UndoStep =
  | {
      readonly do: "link";
      readonly in: Place;
      readonly name: string;
      readonly kind: string;
      readonly mac: string;
      /** The name that it has between its birth and its rename. */
      readonly temporary?: string;
      /** Drawn for a kind that takes its parent's address; it has it until `made` is written. */
      readonly group?: number;
      readonly index?: number;
    }
  | { readonly do: "unset"; readonly in: Place; readonly link: LinkRef; readonly former: JsonObject }
  | { readonly do: "address"; readonly in: Place; readonly link: LinkRef; readonly address: string }
  | { readonly do: "route"; readonly in: Place; readonly route: JsonObject }
  | { readonly do: "rule"; readonly in: Place; readonly rule: JsonObject }
  /** A link of the pod that several of its attachments use: each says so, and it goes with the last. */
  | {
      readonly do: "pod-link";
      readonly in: "pod";
      readonly kind: string;
      readonly name: string;
      readonly mac: string;
    }
  /** What a link had that is not ours, and loses by what we do with it. */
  | {
      readonly do: "restore";
      readonly in: Place;
      readonly link: LinkRef;
      readonly addresses: readonly string[];
      /** In the order in which they can be put back. */
      readonly routes: readonly JsonObject[];
    }
  | { readonly do: "neighbour"; readonly in: Place; readonly link: LinkRef; readonly neighbour: JsonObject }
  | { readonly do: "sysctl"; readonly in: Place; readonly key: string; readonly former: string }
  | {
      readonly do: "tc";
      readonly in: Place;
      readonly link: LinkRef & { readonly mac: string };
      readonly rule: "limit" | "redirect";
    }
  | {
      readonly do: "nft";
      readonly family: string;
      readonly table: string;
      readonly chain: string;
      readonly elements: readonly { readonly map: string; readonly key: string }[];
    }
  /** Ports of the node that lead to the attachment. */
  | {
      readonly do: "ports";
      /** In the names of what is in the kernel. */
      readonly key: string;
      /** With prefix length. */
      readonly addresses: readonly string[];
      readonly snat: "none" | "local" | "all";
      readonly markBit: number;
      readonly loopback: boolean;
      readonly conditions: readonly {
        readonly side: "source" | "destination";
        readonly not: boolean;
        readonly network: string;
      }[];
      readonly mappings: readonly {
        readonly protocol: "tcp" | "udp" | "sctp";
        readonly hostPort: number;
        readonly containerPort: number;
        readonly length: number;
        readonly hostIP?: string;
        /** The one family that it is for; both when absent. */
        readonly family?: 4 | 6;
      }[];
    }
  /** Accepted in the node's packet filter. */
  | { readonly do: "filter"; readonly key: string; readonly addresses: readonly string[] }
  /** A device of the node that the attachment borrows; what it was is in the device's own record. */
  | { readonly do: "device"; readonly device: string }
  /** The file in which the network's device is described to the pod's programs. */
  | { readonly do: "device-info"; readonly name: string }
  /** A pool's directory, made for a lease whose address is not known yet. */
  | { readonly do: "pool"; readonly pool: string }
  | { readonly do: "lease"; readonly pool: string; readonly address: string }
  /** The DHCP lease of the attachment: given back while its link is still there. */
  | { readonly do: "dhcp" }
  | { readonly do: "network-object"; readonly kind: string; readonly name: string }
  | { readonly do: "delegate"; readonly plugin: number };

export type Entry =
  /** The intent, before the effect. */
  | { readonly is: "undo"; readonly id: number; readonly step: UndoStep }
  /** What the kernel made of it: index, kind, MAC. */
  | { readonly is: "made"; readonly id: number; readonly facts: JsonObject }
  | { readonly is: "undone"; readonly id: number }
  | { readonly is: "note"; readonly plugin: number; readonly key: string; readonly value: string }
  /** Before a delegate runs: what its DEL needs. */
  | {
      readonly is: "delegate";
      readonly plugin: number;
      readonly type: string;
      readonly how: "guest" | "binary" | "ipam";
      readonly sha256?: string;
      readonly config: JsonObject;
      readonly durable: boolean;
    }
  /** Before anything is written to the delegate's process. */
  | { readonly is: "running"; readonly plugin: number; readonly process: ProcessId }
  | { readonly is: "ended"; readonly plugin: number }
  | { readonly is: "result"; readonly plugin: number; readonly result: JsonObject }
  /** ADD succeeded. Without this entry the attachment is half made. */
  | { readonly is: "done"; readonly result: JsonObject; readonly status: readonly Json[] };

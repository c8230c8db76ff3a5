/**
 * The connection tracking table over nfnetlink. Numbers are big-endian, but for the flags of a filter.
 * Source: linux/netfilter/nfnetlink_conntrack.h
 */
import { attrs, body, bytes, type Into, NESTED, type Of, struct, u8, u16be, u32, u32be } from "../wire/codec.ts";

/** `struct nfgenmsg`, 4 bytes */
const nfgenmsg = struct({ family: u8, version: u8, resource: u16be });

const SUBSYSTEM = 1 << 8;
/** `IPCTNL_MSG_CT_*`, with the subsystem's number */
export const ConntrackMessage = { GET: SUBSYSTEM | 1, DELETE: SUBSYSTEM | 2 } as const;

/** `CTA_IP_*` */
const addresses = attrs({ source4: [1, bytes], target4: [2, bytes], source6: [3, bytes], target6: [4, bytes] });
/** `CTA_PROTO_*` */
const protocol = attrs({ number: [1, u8], sourcePort: [2, u16be], targetPort: [3, u16be] });
/** `CTA_TUPLE_*`: one direction of a connection. */
const tuple = attrs({ addresses: [1 | NESTED, addresses], protocol: [2 | NESTED, protocol], zone: [3, u16be] });
/** `CTA_FILTER_*` */
const filter = attrs({ original: [1, u32], reply: [2, u32] });

/** `CTA_*` */
export const connection = body(
  nfgenmsg,
  attrs({
    original: [1 | NESTED, tuple],
    reply: [2 | NESTED, tuple],
    id: [12, u32be],
    zone: [18, u16be],
    filter: [25 | NESTED, filter], // of a dump; Linux before 5.8 answers with everything
  }),
);
export type ConnectionMessage = Of<typeof connection>;
export type ConnectionRequest = Into<typeof connection>;

/** `CTA_FILTER_FLAG()`: which fields of a tuple have to be equal. */
export const TupleFilter = { SOURCE: 0x1, TARGET: 0x2, PROTOCOL: 0x8, SOURCE_PORT: 0x10, TARGET_PORT: 0x20 } as const;

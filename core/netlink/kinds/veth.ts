import { attrs, body, bytes, cstr, u32 } from "../../wire/codec.ts";
import { ifinfomsg } from "../link-header.ts";

/**
 * `IFLA_INFO_DATA` of a veth: `VETH_INFO_PEER` holds a whole link message, so the peer is born in its own namespace
 * with its final name and address. The kernel never sends it back. Source: linux/veth.h
 */
export const veth = attrs({
  peer: [
    1,
    body(
      ifinfomsg,
      attrs({
        address: [1, bytes],
        name: [3, cstr],
        mtu: [4, u32],
        txQueueLength: [13, u32],
        group: [27, u32],
        netnsFd: [28, u32],
      }),
    ),
  ],
});

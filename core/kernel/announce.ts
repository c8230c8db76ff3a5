/** The frames that tell a network's neighbours where an address is now. */
import type { Ip } from "../base/ip.ts";

export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;

const BROADCAST = new Uint8Array(6).fill(0xff);
/** 33:33:00:00:00:01, all nodes of the link */
const ALL_NODES_MAC = Uint8Array.of(0x33, 0x33, 0, 0, 0, 1);
/** ff02::1 */
const ALL_NODES = Uint8Array.of(0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1);

function ethernet(destination: Uint8Array, source: Uint8Array, etherType: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(14 + payload.length);
  frame.set(destination);
  frame.set(source, 6);
  frame.set([etherType >> 8, etherType & 0xff], 12);
  frame.set(payload, 14);
  return frame;
}

/** A gratuitous ARP request, RFC 5227 section 3: sender and target are the address itself. */
export function arpAnnouncement(mac: Uint8Array, ip: Ip): Uint8Array {
  const frame = new Uint8Array(28);
  // Ethernet, IPv4, 6 and 4 bytes, request
  frame.set([0, 1, 8, 0, 6, 4, 0, 1]);
  frame.set(mac, 8);
  frame.set(ip.bytes, 14);
  frame.set(ip.bytes, 24);
  return ethernet(BROADCAST, mac, ETHERTYPE_ARP, frame);
}

/** An unsolicited neighbour advertisement to all nodes, RFC 4861 section 7.2.6, that overrides what they know. */
export function neighbourAdvertisement(mac: Uint8Array, ip: Ip): Uint8Array {
  const frame = new Uint8Array(72);
  const view = new DataView(frame.buffer);
  // IPv6, 32 bytes of ICMPv6 (next header 58), hop limit 255
  view.setUint32(0, 0x60000000);
  view.setUint16(4, 32);
  frame[6] = 58;
  frame[7] = 255;
  frame.set(ip.bytes, 8);
  frame.set(ALL_NODES, 24);
  // type 136, flag "override", target, option 2 (target's link-layer address, one unit of 8 bytes)
  frame[40] = 136;
  frame[44] = 0x20;
  frame.set(ip.bytes, 48);
  frame[64] = 2;
  frame[65] = 1;
  frame.set(mac, 66);
  view.setUint16(42, checksum(frame));
  return ethernet(ALL_NODES_MAC, mac, ETHERTYPE_IPV6, frame);
}

/** The Internet checksum over pseudo header and message, RFC 8200 section 8.1. */
function checksum(frame: Uint8Array): number {
  let sum = 32 + 58;
  for (let i = 8; i < frame.length; i += 2) sum += ((frame[i] ?? 0) << 8) | (frame[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/**
 * The frame around a DHCP message: Ethernet, IPv4, UDP. A client without an address cannot use the kernel's own, and one
 * with an address must reach the server that gave it, whatever the pod's routes are.
 */
import { Source, WireError, Writer } from "../../wire/buffer.ts";
import { decode, struct, u8, u16be, u32be } from "../../wire/codec.ts";
import { type Message, message } from "./message.ts";

export const SERVER_PORT = 67;
export const CLIENT_PORT = 68;
export const BROADCAST_ADDRESS = 0xffffffff;
export const BROADCAST_MAC = new Uint8Array(6).fill(0xff);

const ETHERNET_BYTES = 14;
const ETHERTYPE_IPV4 = 0x0800;
const UDP = 17;
const DONT_FRAGMENT = 0x4000;
const FRAGMENT = 0x3fff; // "more fragments" and the offset
const TTL = 64;

/** RFC 791 section 3.1, without options */
const ip = struct({
  versionAndLength: u8,
  service: u8,
  length: u16be,
  id: u16be,
  fragment: u16be,
  ttl: u8,
  protocol: u8,
  checksum: u16be,
  source: u32be,
  destination: u32be,
});
/** RFC 768 */
const udp = struct({ source: u16be, destination: u16be, length: u16be, checksum: u16be });

export interface Frame {
  /** Hardware addresses, 6 bytes each. */
  readonly from: Uint8Array;
  readonly to: Uint8Array;
  readonly source: number;
  readonly destination: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly message: Message;
}

export function encodeFrame(frame: Omit<Frame, "message"> & { readonly message: Partial<Message> }): Uint8Array {
  const to = new Writer(512);
  to.append(frame.to);
  to.append(frame.from);
  u16be.write(to, ETHERTYPE_IPV4);
  const ipAt = to.length;
  const { source, destination } = frame;
  ip.write(to, { versionAndLength: 0x45, fragment: DONT_FRAGMENT, ttl: TTL, protocol: UDP, source, destination });
  const udpAt = to.length;
  udp.write(to, { source: frame.sourcePort, destination: frame.destinationPort });
  message.write(to, frame.message);
  const bytes = to.written();
  to.view.setUint16(ipAt + 2, bytes.length - ipAt);
  to.view.setUint16(ipAt + 10, ~sumOf(bytes.subarray(ipAt, udpAt), 0) & 0xffff);
  const length = bytes.length - udpAt;
  to.view.setUint16(udpAt + 4, length);
  // 0 says that there is no checksum, so a sum of 0 is sent as its other form.
  const checksum = ~sumOf(bytes.subarray(udpAt), pseudoHeader(source, destination, length)) & 0xffff;
  to.view.setUint16(udpAt + 6, checksum || 0xffff);
  return bytes.slice();
}

/** @throws {WireError} for anything that is not a whole DHCP message in a frame of its own. */
export function decodeFrame(bytes: Uint8Array): Frame {
  const from = new Source(bytes);
  const end = bytes.length;
  if (end < ETHERNET_BYTES || from.view.getUint16(12) !== ETHERTYPE_IPV4)
    throw new WireError("Cannot read a frame: not IPv4");
  const packet = ip.read(from, ETHERNET_BYTES, end);
  const headerBytes = (packet.versionAndLength & 15) * 4;
  const udpAt = ETHERNET_BYTES + headerBytes;
  const packetEnd = ETHERNET_BYTES + packet.length;
  const whole = packet.versionAndLength >> 4 === 4 && headerBytes >= ip.size && packetEnd <= end && udpAt <= packetEnd;
  if (!whole || packet.protocol !== UDP || (packet.fragment & FRAGMENT) !== 0) {
    throw new WireError("Cannot read a packet: no whole UDP datagram");
  }
  if (sumOf(bytes.subarray(ETHERNET_BYTES, udpAt), 0) !== 0xffff)
    throw new WireError("Cannot read a packet: wrong checksum");
  const datagram = udp.read(from, udpAt, packetEnd);
  const datagramEnd = udpAt + datagram.length;
  if (datagram.length < udp.size || datagramEnd > packetEnd)
    throw new WireError("Cannot read a datagram: wrong length");
  if (!isIntact(bytes.subarray(udpAt, datagramEnd), packet, datagram)) {
    throw new WireError("Cannot read a datagram: wrong checksum");
  }
  return {
    to: bytes.slice(0, 6),
    from: bytes.slice(6, 12),
    source: packet.source,
    destination: packet.destination,
    sourcePort: datagram.source,
    destinationPort: datagram.destination,
    message: decode(message, bytes.subarray(udpAt + udp.size, datagramEnd)),
  };
}

/**
 * A sender on this machine leaves the checksum to a network card that its frame never meets: there it is the sum of the
 * pseudo header alone.
 */
function isIntact(
  datagram: Uint8Array,
  { source, destination }: { readonly source: number; readonly destination: number },
  { length, checksum }: { readonly length: number; readonly checksum: number },
): boolean {
  if (checksum === 0) return true;
  const pseudo = pseudoHeader(source, destination, length);
  return checksum === folded(pseudo) || sumOf(datagram, pseudo) === 0xffff;
}

function pseudoHeader(source: number, destination: number, length: number): number {
  return (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + UDP + length;
}

/** RFC 1071: the sum in ones' complement, not inverted. */
function sumOf(bytes: Uint8Array, start: number): number {
  let sum = start;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0);
  return folded(sum);
}

function folded(sum: number): number {
  let left = sum;
  while (left > 0xffff) left = (left & 0xffff) + Math.floor(left / 0x10000);
  return left;
}

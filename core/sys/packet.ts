import { Fd } from "./fd.ts";
import { check, libc, Open, restart } from "./libc.ts";
import { inNetns, type Netns } from "./netns.ts";

const AF_PACKET = 17;
const SOCK_RAW = 3;

/**
 * Sends whole Ethernet frames out of a link, by a packet socket that receives nothing.
 *
 * @param ns The caller's namespace if absent.
 * @param ethertype As in the frame: 0x0806 ARP, 0x86dd IPv6.
 * @throws {SysError} ENXIO for no such link, ENETDOWN for one that is down
 */
export function sendRaw(ns: Netns | undefined, ifindex: number, ethertype: number, ...frames: Uint8Array[]): void {
  const open = (): number => check(libc().socket(AF_PACKET, SOCK_RAW | Open.CLOEXEC, 0), "socket", "packet");
  using socket = Fd.adopt(ns === undefined ? open() : inNetns(ns, open), "packet socket");
  // struct sockaddr_ll { u16 family; be16 protocol; i32 ifindex; u16 hatype; u8 pkttype; u8 halen; u8 addr[8] }
  const to = new DataView(new ArrayBuffer(20));
  to.setUint16(0, AF_PACKET, true);
  to.setUint16(2, ethertype, false);
  to.setInt32(4, ifindex, true);
  for (const frame of frames) {
    restart("send", () => libc().sendto(socket.raw, frame, frame, 0, to, to), `link ${ifindex}`);
  }
}

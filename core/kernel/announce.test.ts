import { expect, test } from "bun:test";
import { arpAnnouncement, neighbourAdvertisement } from "./announce.ts";

const hex = (text: string): Uint8Array => Uint8Array.fromHex(text.replaceAll(/\s/g, ""));
const mac = hex("020000000007");

test("arpAnnouncement() is a broadcast request for the address itself", () => {
  expect(arpAnnouncement(mac, { family: 4, bytes: hex("0a010005") }).toHex()).toBe(
    hex(`ffffffffffff 020000000007 0806  0001 0800 06 04 0001
         020000000007 0a010005 000000000000 0a010005`).toHex(),
  );
});

test("neighbourAdvertisement() overrides, goes to all nodes and has a checksum that adds up", () => {
  const frame = neighbourAdvertisement(mac, { family: 6, bytes: hex("fd000000000000000000000000000005") });
  expect(frame.toHex()).toBe(
    hex(`333300000001 020000000007 86dd  60000000 0020 3a ff
         fd000000000000000000000000000005 ff020000000000000000000000000001
         88 00 ${checksum(frame)} 20000000 fd000000000000000000000000000005 02 01 020000000007`).toHex(),
  );
  // RFC 1071: the sum over everything, the checksum and the pseudo header included, is all ones.
  const view = new DataView(frame.buffer);
  let sum = 32 + 58;
  for (let i = 22; i < frame.length; i += 2) sum += view.getUint16(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  expect(sum).toBe(0xffff);
});

const checksum = (frame: Uint8Array): string => frame.subarray(56, 58).toHex();

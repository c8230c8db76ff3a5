/** The process of `ScriptedServer`: argv is the directory with its script. */
import { createSocket } from "node:dgram";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { BOOTREPLY, type Message, MessageType, message, OptionCode } from "../../core/ipam/dhcp/message.ts";
import { fromNumber, messageType, number32, parseAddress4 } from "../../core/ipam/dhcp/options.ts";
import { decode, encode } from "../../core/wire/codec.ts";
import type { Script } from "./dhcp.ts";

const [directory = ""] = process.argv.slice(2);
const script = (): Script => JSON.parse(readFileSync(join(directory, "script.json"), "utf8"));
const heard = (words: string): void => appendFileSync(join(directory, "heard"), `${words}\n`);
const number = (text: string): number => parseAddress4(text) ?? 0;

const socket = createSocket({ type: "udp4", reuseAddr: true });

function optionsOf(s: Script, type: number): Map<number, Uint8Array> {
  const options = new Map<number, Uint8Array>([
    [OptionCode.MESSAGE_TYPE, Uint8Array.of(type)],
    [OptionCode.SERVER, fromNumber(number(s.server))],
  ]);
  if (type === MessageType.NAK) return options.set(OptionCode.MESSAGE, new TextEncoder().encode("not yours"));
  const seconds = s.leaseSeconds ?? 3600;
  options.set(OptionCode.LEASE_TIME, fromNumber(seconds));
  if (s.renewSeconds !== undefined) options.set(OptionCode.RENEWAL_TIME, fromNumber(s.renewSeconds));
  if (s.rebindSeconds !== undefined) options.set(OptionCode.REBINDING_TIME, fromNumber(s.rebindSeconds));
  options.set(OptionCode.SUBNET_MASK, fromNumber(0xffffff00));
  options.set(OptionCode.ROUTER, fromNumber(number(s.server)));
  return options;
}

function answer(to: Message, type: number, s: Script, address: string): void {
  const yourAddress = type === MessageType.NAK ? 0 : number(address);
  const reply: Message = { ...to, op: BOOTREPLY, hops: 0, seconds: 0, yourAddress, options: optionsOf(s, type) };
  let bytes = encode(message, reply);
  if (s.raw !== undefined) bytes = Buffer.concat([bytes.subarray(0, 240), Buffer.from(s.raw, "hex")]);
  socket.send(bytes, 68, "255.255.255.255");
}

socket.on("message", (bytes) => {
  const s = script();
  const asked = decode(message, bytes);
  const type = messageType(asked.options);
  const toMe = number32(asked.options, OptionCode.SERVER) === number(s.server);
  if (type === MessageType.DISCOVER) {
    heard("DISCOVER");
    if (s.discover === "silent") return;
    if (s.discover === "garbage")
      for (let n = 1; n < 400; n += 40) socket.send(crypto.getRandomValues(new Uint8Array(n)), 68, "255.255.255.255");
    else answer(asked, MessageType.OFFER, s, s.address);
  } else if (type === MessageType.REQUEST) {
    const held = asked.clientAddress === 0 ? "" : " again";
    heard(`REQUEST${held}${asked.clientAddress === 0 && !toMe ? " of another" : ""}`);
    if (s.request === "nak" || (s.request === "forgetful" && asked.clientAddress !== 0))
      answer(asked, MessageType.NAK, s, s.address);
    else if (s.request === "other-address") answer(asked, MessageType.ACK, s, s.address.replace(/\d+$/, "99"));
    else if (s.request !== "silent") answer(asked, MessageType.ACK, s, s.address);
  } else heard(type === MessageType.RELEASE ? "RELEASE" : `type ${type}`);
});
socket.bind(67, "0.0.0.0", () => {
  socket.setBroadcast(true);
  heard("ready");
});

/** A guest's result is a claim. What it names must be the attachment's, or granted to it, or what the plugins before said. */
import { CniError, Code } from "../base/error.ts";
import { parseCidr, sameIp } from "../base/ip.ts";
import { isObject, type Json, type JsonObject } from "../base/json.ts";
import type { GuestContext } from "./context.ts";

const list = (value: Json | undefined): readonly Json[] => (Array.isArray(value) ? (value as readonly Json[]) : []);

/** @throws {CniError} 101 naming the plugin and what it claims without having it. */
export function checkHonest(guest: GuestContext, result: JsonObject): void {
  const { setup } = guest;
  const lie = (what: string): CniError =>
    new CniError(Code.NotAllowed, `Cannot accept the result of plugin "${setup.manifest.name}": it claims ${what}`, {
      remedy: "Report this to the author of the plugin",
    });
  const before = isObject(setup.conf.prevResult) ? setup.conf.prevResult : {};
  const links = guest.handles.links();
  for (const claim of list(result.interfaces)) {
    if (!isObject(claim) || typeof claim.name !== "string") throw lie("an interface without a name");
    const sandbox = typeof claim.sandbox === "string" ? claim.sandbox : "";
    // What the plugins before said is handed on, in whichever sandbox they said it is.
    const known = list(before.interfaces).some(
      (i) => isObject(i) && i.name === claim.name && (typeof i.sandbox === "string" ? i.sandbox : "") === sandbox,
    );
    if (known) continue;
    if (sandbox !== "" && sandbox !== setup.netnsPath) throw lie(`an interface in "${sandbox}", which is not the pod`);
    const where = sandbox === "" ? "host" : "pod";
    const { device } = guest;
    if (typeof claim.pciID === "string" && claim.pciID !== device?.id) throw lie(`the device "${claim.pciID}"`);
    if (where === "pod" && device?.macs !== undefined && claim.name === setup.attachment.ifname) {
      const said = typeof claim.mac === "string" ? claim.mac.toLowerCase() : undefined;
      if (said === undefined || device.macs.includes(said)) continue;
      throw lie(`the address "${claim.mac}" for "${claim.name}", whose device has another`);
    }
    const named = links.filter((l) => l.in === where && l.name === claim.name);
    const held = named.filter((l) => l.target.whose === "own" || l.target.whose === "granted");
    const [first] = held;
    if (first === undefined) throw lie(`the interface "${claim.name}"`);
    // Opened more than once, it may have had another address then: a bridge follows its ports.
    const mac = claim.mac;
    if (typeof mac === "string" && !held.some((l) => l.mac.toLowerCase() === mac.toLowerCase())) {
      throw lie(`the address "${mac}" for "${claim.name}", which has "${first.mac}"`);
    }
  }
  for (const claim of list(result.ips)) {
    const text = isObject(claim) && typeof claim.address === "string" ? claim.address : "";
    const address = parseCidr(text);
    const held = (c: { readonly ip: { readonly family: 4 | 6; readonly bytes: Uint8Array } }): boolean =>
      address !== undefined && sameIp(c.ip, address.ip);
    if (guest.addresses.some(held) || guest.configured.some(held)) continue;
    // What nobody configured may be there all the same: the addresses of a loopback interface.
    const there = links.some(
      (l) =>
        l.in === "pod" &&
        l.target.whose === "own" &&
        guest
          .kernel("pod")
          .addresses(l.index)
          .some((a) => held(a.address)),
    );
    if (!there) throw lie(`the IP address "${text}"`);
  }
}

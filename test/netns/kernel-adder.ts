/**
 * Adds and removes rules of an attachment in a namespace, again and again, and leaves them there at the end. Run by
 * `kernel-nft.test.ts` in several processes at once: `kernel-adder.ts NETNS KEY ADDRESS ROUNDS`.
 */
import { parseNetnsPath } from "../../core/base/brand.ts";
import { parseCidr } from "../../core/base/ip.ts";
import { isPresent, macCheck, masquerade, removal } from "../../core/kernel/nft.ts";
import { openKernel } from "../../core/kernel/real.ts";
import { Netns } from "../../core/sys/netns.ts";

const [path = "", key = "", text = "", rounds = "1"] = process.argv.slice(2);
const address = parseCidr(text);
if (address === undefined) throw new TypeError(`"${text}" is no address`);
using ns = Netns.open(parseNetnsPath(path));
using kernel = openKernel(ns, { host: true });
const features = [masquerade(key, [address]), macCheck(key, `veth${key}`, "02:00:00:00:00:07")];
for (let round = 0; round < Number(rounds); round++) {
  for (const feature of features) {
    kernel.nft.change(removal(feature.undo));
    kernel.nft.change(feature.add);
    if (!isPresent(kernel, feature)) throw new Error(`round ${round}: "${feature.undo.chain}" is not there`);
  }
}

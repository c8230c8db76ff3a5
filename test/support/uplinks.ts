/**
 * A node with two uplinks, `upa` and `upb`, each to a router of its own, and behind both routers one client: what comes
 * to the pod by one uplink and leaves by the other, a router throws away.
 */
import { TestNetns, veth } from "./netns.ts";

/** The client's, which both routers lead to. */
export const CLIENT = ["203.0.113.9", "2001:db8:9::9"] as const;

export interface Uplink {
  /** The node's link. */
  readonly link: "upa" | "upb";
  readonly subnets: readonly [string, string];
  readonly gateways: readonly [string, string];
  /** The pod's address with this last part, in both families. */
  readonly addresses: (last: number) => readonly [string, string];
}

export const uplinks: readonly [Uplink, Uplink] = [uplink("upa", 1), uplink("upb", 2)];

function uplink(link: "upa" | "upb", n: number): Uplink {
  return {
    link,
    subnets: [`10.${n}.0.0/24`, `fd00:${n}::/64`],
    gateways: [`10.${n}.0.1`, `fd00:${n}::1`],
    addresses: (last) => [`10.${n}.0.${last}/24`, `fd00:${n}::${last}/64`],
  };
}

/** @returns the routers and the client, to be disposed of */
export function uplinkTo(node: TestNetns): { readonly client: TestNetns } & Disposable {
  using stack = new DisposableStack();
  const client = stack.use(TestNetns.create("client"));
  client.ip("link", "set", "lo", "up");
  for (const address of CLIENT) client.ip("address", "add", address, "dev", "lo");
  for (const [n, up] of uplinks.entries()) {
    const router = stack.use(TestNetns.create("router"));
    router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding");
    veth({ in: node, name: up.link }, { in: router, name: "in" });
    // Without a link-local address, which would appear in the middle of a test.
    node.ip("link", "set", up.link, "addrgenmode", "none");
    node.ip("-6", "address", "flush", "dev", up.link);
    veth({ in: router, name: "out" }, { in: client, name: up.link });
    for (const [i, family] of ["-4", "-6"].entries()) {
      const [of, between] = [i === 0 ? 24 : 64, i === 0 ? `172.16.${n}` : `fd00:16${n}:`];
      router.ip("address", "add", `${up.gateways[i]}/${of}`, "dev", "in", ...(i === 0 ? [] : ["nodad"]));
      const ends = i === 0 ? [`${between}.1`, `${between}.2`] : [`${between}:1`, `${between}:2`];
      for (const [e, [at, link]] of (
        [
          [router, "out"],
          [client, up.link],
        ] as const
      ).entries()) {
        at.ip("address", "add", `${ends[e]}/${of}`, "dev", link, ...(i === 0 ? [] : ["nodad"]));
      }
      router.ip(family, "route", "add", CLIENT[i] ?? "", "via", ends[1] ?? "");
      client.ip(family, "route", "add", up.subnets[i] ?? "", "via", ends[0] ?? "", "src", CLIENT[i] ?? "");
      const other = uplinks[1 - n] ?? up;
      router.ip(family, "rule", "add", "from", other.subnets[i] ?? "", "blackhole");
    }
  }
  const all = stack.move();
  return { client, [Symbol.dispose]: () => all.dispose() };
}

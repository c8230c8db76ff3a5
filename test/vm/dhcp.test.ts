/** dhcp on links that the machine of a developer may lack: an ipvlan, which shares its parent's address, and a VLAN. */
import { expect, test } from "bun:test";
import { call, DhcpSite, macvlan, SERVER } from "../support/dhcp-site.ts";
import { guestMachine, oldestKernel } from "../support/guest-machine.ts";
import { TestNetns } from "../support/netns.ts";
import { until } from "../support/node.ts";
import { built, has, requires } from "../support/requires.ts";

// Slow, and nothing in it depends on the kernel's age.
if (!guestMachine[1] || !oldestKernel) {
  requires(...guestMachine, built, ["dnsmasq", has("dnsmasq")])("dhcp", () => {
    test.each(["ipvlan", "vlan"])("on an interface of kind %s", async (type) => {
      using site = await DhcpSite.create();
      if (type === "vlan") {
        site.lan.ip("link", "add", "link", "eth0", "name", "eth0.7", "type", "vlan", "id", "7");
        site.lan.ip("addr", "del", `${SERVER}/24`, "dev", "eth0");
        site.lan.ip("addr", "add", `${SERVER}/24`, "dev", "eth0.7");
        site.lan.ip("link", "set", "eth0.7", "up");
      }
      const server = await site.dnsmasq(
        "--dhcp-option=option:T1,3",
        ...(type === "vlan" ? ["--interface=eth0.7"] : []),
      );
      const conf = macvlan({ cniVersion: "1.0.0", type, vlanId: 7 });
      using one = TestNetns.create("one");
      using two = TestNetns.create("two");
      for (const [container, pod] of [
        ["one", one],
        ["two", two],
      ] as const) {
        if (type === "vlan" && container === "two") continue; // one VLAN of a link has one interface
        const { result } = site.node.ok("ADD", call(pod, { container, conf }));
        expect(server.leases).toContain(result?.ips?.[0]?.address?.replace("/24", "") ?? "");
        expect(pod.run("ping", "-c1", "-W2", SERVER)).toContain("1 received");
      }
      await until(() => site.log.includes("prolonged"));
      site.node.ok("DEL", call(one, { container: "one", conf }));
      if (type === "ipvlan") site.node.ok("DEL", call(two, { container: "two", conf }));
      await until(() => server.leases.length === 0);
      expect(site.records()).toEqual([]);
    });
  });
}

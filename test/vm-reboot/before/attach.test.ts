/** Pods are attached, and the machine is switched off with them. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, writeFileSync } from "node:fs";
import { Card } from "../../support/card.ts";
import { guestMachine } from "../../support/guest-machine.ts";
import { TestNetns } from "../../support/netns.ts";
import { built, requires } from "../../support/requires.ts";
import { attachments, call, plugins, rents } from "../life.ts";

setDefaultTimeout(180_000);

requires(...guestMachine, built)("before a reboot", () => {
  test("pods have a lease, somebody else's address, and a virtual function", async () => {
    const card = await Card.create(2);
    const directory = plugins();
    for (const [container, conf] of attachments(card.address(0))) {
      const answer = call(directory, "ADD", container, conf, TestNetns.create(container));
      expect(answer.exit, `${container}: ${answer.stdout}`).toBe(0);
    }
    expect(rents()).toBe("ADD rents");
    expect(card.state()[0]).toMatchObject({ vlan: 100 });
    expect(readdirSync("/var/lib/patchbay").length).toBeGreaterThan(0);
    writeFileSync("/var/lib/patchbay/.function", card.address(0));
  });
});

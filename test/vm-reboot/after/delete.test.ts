/** The same machine, booted again: the runtime deletes the pods of before, whose namespaces are long gone. */
import { expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync, readFileSync, rmSync } from "node:fs";
import { Card } from "../../support/card.ts";
import { guestMachine } from "../../support/guest-machine.ts";
import { TestNetns } from "../../support/netns.ts";
import { built, requires } from "../../support/requires.ts";
import { attachments, call, plugins, rents } from "../life.ts";

setDefaultTimeout(180_000);

const files = (): string[] =>
  readdirSync("/var/lib/patchbay", { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && !entry.parentPath.includes("/cache"))
    .map((entry) => `${entry.parentPath}/${entry.name}`);

requires(...guestMachine, built)("after a reboot", () => {
  test("DEL frees what outlived it, and the function is there for the next pod", async () => {
    const vf = readFileSync("/var/lib/patchbay/.function", "utf8");
    rmSync("/var/lib/patchbay/.function");
    const card = await Card.create(2); // the functions are gone with the boot, and made again by the administrator
    expect(card.address(0)).toBe(vf);
    expect(files()).not.toEqual([]);
    const directory = plugins();
    const all = attachments(vf);
    for (const [container, conf] of all) {
      for (const _ of [1, 2]) {
        const answer = call(directory, "DEL", container, conf, "");
        expect(answer.exit, `${container}: ${answer.stdout}`).toBe(0);
      }
    }
    expect(rents()).toBe("DEL rents");
    expect(files()).toEqual([]);
    expect(card.state()[0]).toMatchObject({ vlan: 0 });

    using pod = TestNetns.create("pod");
    const [, conf = {}] = all[2] ?? [];
    for (const command of ["ADD", "DEL"] as const) {
      const answer = call(directory, command, "next", conf, pod);
      expect(answer.exit, answer.stdout).toBe(0);
    }
    expect(files()).toEqual([]);
  });
});

/** How fast TCP gets from one namespace to another. */
import { join } from "node:path";
import type { TestNetns } from "./netns.ts";

const program = join(import.meta.dir, "traffic-process.ts");
const PORT = 5201;
/** What was saved up is let pass, so that the rate alone is measured. */
const SKIP_MS = 400;
const MEASURE_MS = 1200;

/** @param address Of the receiving side. @returns bytes a second */
export async function throughput(from: TestNetns, to: TestNetns, address: string): Promise<number> {
  const bun = process.execPath;
  const times = [String(SKIP_MS), String(MEASURE_MS)];
  const receiver = Bun.spawn(to.argv(bun, program, "receive", address, String(PORT), ...times), {
    stdout: "pipe",
    stderr: "inherit",
    timeout: 20_000,
  });
  const lines = receiver.stdout.getReader();
  await lines.read(); // it listens
  const sender = Bun.spawn(from.argv(bun, program, "send", address, String(PORT)), {
    stderr: "inherit",
    timeout: 20_000,
  });
  try {
    let text = "";
    for (let part = await lines.read(); !part.done; part = await lines.read()) {
      text += new TextDecoder().decode(part.value);
    }
    await receiver.exited;
    if (text === "") throw new Error("Cannot measure: the receiver ended without a number");
    return Number(text);
  } finally {
    sender.kill();
    receiver.kill();
  }
}

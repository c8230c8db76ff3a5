import { describe, expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { Dir } from "../sys/dir.ts";
import type { AttachmentHeader, Entry } from "./entries.ts";
import { attachmentKey, Journal, journalFileName, MAX_JOURNAL_BYTES, parseJournal } from "./journal.ts";
import { formatLine } from "./line.ts";
import { header, Scratch } from "./support.ts";

const head: AttachmentHeader = { ...header(), format: 1, seq: 1 };
const link = { do: "link", in: "host", name: "veth1", kind: "veth", mac: "02:00:00:00:00:01" } as const;

/** A journal of an ADD, as bytes, with its entries. */
function written(): { bytes: Uint8Array; entries: readonly Entry[] } {
  using scratch = new Scratch();
  using dir = Dir.open(scratch.path);
  using journal = Journal.begin(dir, head);
  journal.append({
    is: "delegate",
    plugin: 0,
    type: "bridge",
    how: "guest",
    config: { name: "Grüße 🌍" },
    durable: false,
  });
  journal.made(journal.intend(link), { index: 7 });
  journal.intend({ do: "lease", pool: "net", address: "10.1.0.2" });
  journal.append({ is: "result", plugin: 0, result: { ips: [] } });
  journal.commit({ ips: [] }, []);
  return { bytes: readFileSync(`${scratch.path}/${journal.fileName}`), entries: [...journal.entries] };
}

describe("parseJournal()", () => {
  const { bytes, entries } = written();

  test("reads back what was written", () => {
    expect(parseJournal(bytes)).toEqual({ header: head, entries, wholeBytes: bytes.length, torn: false });
  });

  test("after a kill at any byte, what is there is a prefix of what was written", () => {
    const firstLine = bytes.indexOf(10) + 1;
    let most = 0;
    for (let length = 0; length <= bytes.length; length++) {
      const parsed = parseJournal(bytes.subarray(0, length));
      if ("damage" in parsed) {
        expect(length).toBeLessThan(firstLine); // the header is made whole, so no kill leaves this
        continue;
      }
      expect(parsed.entries).toEqual(entries.slice(0, parsed.entries.length));
      expect(parsed.entries.length).toBeGreaterThanOrEqual(most);
      most = parsed.entries.length;
    }
    expect(most).toBe(entries.length);
  });

  test("with any one byte changed, it is damaged or torn, never different", () => {
    for (let at = 0; at < bytes.length; at++) {
      const changed = bytes.slice();
      changed[at] = (changed[at] ?? 0) ^ 0x11;
      const parsed = parseJournal(changed);
      if (!("damage" in parsed)) expect(parsed.entries).toEqual(entries.slice(0, parsed.entries.length));
    }
  });

  test.each([
    ["an empty file", new Uint8Array(), "it has no header"],
    ["a later format", formatLine({ ...head, format: 2 }), "its format is 2, not 1"],
    ["a header that is a list", formatLine([]), "its header is no object"],
    ["an entry without a kind", new Uint8Array([...formatLine(head), ...formatLine({})]), "an entry has no kind"],
  ])("finds damage in %s", (_, input, damage) => {
    expect(parseJournal(input)).toMatchObject({ damage });
  });
});

describe("Journal", () => {
  test("the key tells attachments apart, whatever stands in their parts", () => {
    const keys = [
      header(),
      header({ ifname: "net1" }),
      header({ network: "net2" }),
      header({ container: "c2" }),
      header({ type: "bridge" }),
      header({ network: "nete", ifname: "th0" }),
    ].map(attachmentKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(keys[0]).toMatch(/^[0-9a-f]{16}$/);
  });

  test("pending() gives the undo steps with their facts, latest first, less those undone", () => {
    using scratch = new Scratch();
    using dir = Dir.open(scratch.path);
    using journal = Journal.begin(dir, head);
    const one = journal.intend(link);
    const two = journal.intend({ do: "lease", pool: "net", address: "10.1.0.2" });
    journal.made(one, { index: 7 });
    journal.made(one, { mac: "x" });
    const three = journal.intend({ do: "network-object", kind: "bridge", name: "cni0" });
    journal.undone(two);
    expect(journal.pending()).toEqual([
      { id: three, step: { do: "network-object", kind: "bridge", name: "cni0" }, facts: undefined },
      { id: one, step: link, facts: { index: 7, mac: "x" } },
    ]);
    using again = Journal.open(dir, journal.fileName) as Journal;
    expect(again.pending()).toEqual(journal.pending());
    expect(again.intend(link)).toBe(three + 1);
  });

  test("an entry after a torn line is readable", () => {
    using scratch = new Scratch();
    using dir = Dir.open(scratch.path);
    const path = `${scratch.path}/${journalFileName(head)}`;
    {
      using journal = Journal.begin(dir, head);
      journal.intend(link);
    }
    writeFileSync(path, new Uint8Array([...readFileSync(path), ...formatLine({ is: "undone", id: 1 }).subarray(0, 9)]));
    using journal = Journal.open(dir, journalFileName(head)) as Journal;
    expect(journal.entries.length).toBe(1);
    journal.append({ is: "note", plugin: 0, key: "k", value: "v" });
    const parsed = parseJournal(readFileSync(path));
    expect(parsed).toMatchObject({ entries: [{ is: "undo" }, { is: "note" }], torn: false });
    expect(scratch.files()).toEqual([journalFileName(head)]);
  });

  test("a journal grows to its limit and no further, and undo goes on after it", () => {
    using scratch = new Scratch();
    using dir = Dir.open(scratch.path);
    using journal = Journal.begin(dir, head);
    const id = journal.intend(link);
    const value = "x".repeat(MAX_JOURNAL_BYTES / 2);
    journal.append({ is: "note", plugin: 0, key: "k", value });
    expect(() => journal.append({ is: "note", plugin: 0, key: "k", value })).toThrow(/^Cannot record .* would pass/);
    journal.undone(id);
    expect(journal.pending()).toEqual([]);
  });

  test("a file under another attachment's name is damage", () => {
    using scratch = new Scratch();
    using dir = Dir.open(scratch.path);
    const name = journalFileName({ ...head, ifname: "net1" });
    writeFileSync(`${scratch.path}/${name}`, formatLine(head));
    expect(Journal.open(dir, name)).toEqual({ damage: "its header belongs to another file" });
  });

  test("begin() refuses a journal that is there already", () => {
    using scratch = new Scratch();
    using dir = Dir.open(scratch.path);
    using _ = Journal.begin(dir, head);
    expect(() => Journal.begin(dir, head)).toThrow(/is there already/);
  });

  test("remove() is the last act, and harmless twice", () => {
    using scratch = new Scratch();
    using dir = Dir.open(scratch.path);
    using journal = Journal.begin(dir, head);
    journal.remove();
    journal.remove();
    expect(scratch.files()).toEqual([]);
    expect(() => journal.append({ is: "undone", id: 1 })).toThrow(TypeError);
  });
});

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SysError } from "../sys/error.ts";
import { SystemBus, socketOf } from "./bus.ts";
import { Firewalld, refusalOf, sourceOf } from "./firewalld.ts";
import { DbusProtocolError } from "./message.ts";

const directory = mkdtempSync(join(tmpdir(), "pbt-bus-"));
afterAll(() => rmSync(directory, { recursive: true }));

test.each([
  ["unix:path=/run/dbus/system_bus_socket", "/run/dbus/system_bus_socket"],
  ["unix:path=/a%20b,guid=00ff", "/a b"],
  ["tcp:host=x,port=1;unix:guid=1,path=/x", "/x"],
  ["unix:abstract=/tmp/dbus-1,guid=1", "@/tmp/dbus-1"],
])("socketOf(%p)", (address, socket) => {
  expect(socketOf(address)).toBe(socket);
});

test("an address without a socket of this node is refused", () => {
  expect(() => socketOf("tcp:host=x,port=1")).toThrow(DbusProtocolError);
});

test("no bus, and one that nobody listens at: firewalld does not run", async () => {
  const path = join(directory, "gone");
  expect(Firewalld.open(`unix:path=${path}`)).toBeUndefined();
  expect(Firewalld.open(`unix:path=${path}/below`)).toBeUndefined();
  Bun.listen({ unix: path, socket: { data() {} } }).stop(true);
  expect(Firewalld.open(`unix:path=${path}`)).toBeUndefined();
});

test("a bus that never answers is given up", () => {
  const path = join(directory, "silent");
  // In this very thread: it cannot answer while we wait.
  using _listener = Bun.listen({ unix: path, socket: { data() {} } });
  const began = performance.now();
  expect(() => SystemBus.connect(`unix:path=${path}`, 200)).toThrow(SysError);
  expect(performance.now() - began).toBeWithin(190, 2000);
});

test("a path that no address has room for", () => {
  expect(() => SystemBus.connect(`unix:path=/${"x".repeat(200)}`, 200)).toThrow("ENAMETOOLONG");
});

test("names of sources and of refusals", () => {
  expect(sourceOf({ family: 4, bytes: Uint8Array.of(10, 0, 0, 1) })).toBe("10.0.0.1/32");
  expect(sourceOf({ family: 6, bytes: new Uint8Array(16) })).toBe("::/128");
  expect(refusalOf(new Error("ZONE_CONFLICT: x"))).toBeUndefined();
});

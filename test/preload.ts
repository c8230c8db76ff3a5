import { afterAll, expect, setDefaultTimeout } from "bun:test";
import { leaks, trackLeaks } from "../core/base/owned.ts";

trackLeaks();
// No test asserts on time by it: it only ends what hangs, on a machine that may be busy.
setDefaultTimeout(60_000);

// After every test file: a handle still open is a bug in the code under test, whatever the assertions said.
afterAll(() => expect(leaks(), "handles left open").toEqual([]));

import { afterAll, expect } from "bun:test";
import { leaks, trackLeaks } from "../core/base/owned.ts";

trackLeaks();

// After every test file: a handle still open is a bug in the code under test, whatever the assertions said.
afterAll(() => expect(leaks(), "handles left open").toEqual([]));

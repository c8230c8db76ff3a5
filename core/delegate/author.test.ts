import { expect, test } from "bun:test";
import type { Author } from "../policy/policy.ts";
import { AUTHOR, authorAbove, tellAuthor } from "./author.ts";

const policyFile = "/etc/patchbay/policy.json";

test.each([[{ namespace: "team-a" }], [{ namespace: "team-a", nodeFile: true }]] as [Author][])(
  "what is told of %j is read below",
  (author) => {
    expect(authorAbove(tellAuthor(author, { policyFile }))).toEqual({ author, policyFile });
  },
);

test("of the node's own nothing is told, and what was told above stays as it is", () => {
  expect(tellAuthor({ node: true }, { policyFile })).toEqual({});
  expect(authorAbove({})).toBeUndefined();
});

test.each(["", "{", "[]", "null", '{"node":true}', '{"namespace":"../x"}', '{"namespace":7,"policyFile":8}'])(
  "%p gives no rights",
  (text) => expect(authorAbove({ [AUTHOR]: text })).toEqual({ author: { namespace: "" }, policyFile: undefined }),
);

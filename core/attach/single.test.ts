import { expect, test } from "bun:test";
import { parseIfName } from "../base/brand.ts";
import { parseNetworkList } from "../cni/list.ts";
import { deriveRequest } from "../cni/request.ts";
import { soleAttachment } from "./add.ts";

test.each([
  ["as libcni sends it", { capabilities: { mac: true } }],
  ["as flannel sends it", {}],
])("a built-in called by its name gets the capability values of its caller: %s", (_, more) => {
  const runtimeConfig = { mac: "02:00:00:00:00:01", dns: null };
  const doc = { cniVersion: "1.0.0", name: "n", type: "bridge", ...more, runtimeConfig };
  const invocation = { ifname: parseIfName("eth0"), args: new Map() };
  const { list, capabilityValues } = soleAttachment(parseNetworkList(doc), invocation, runtimeConfig);
  const request = deriveRequest(list, 0, "1.0.0", { runtimeConfig: capabilityValues });
  expect(request.runtimeConfig).toEqual({ mac: "02:00:00:00:00:01" });
});

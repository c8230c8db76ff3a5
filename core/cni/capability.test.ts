import { describe, expect, test } from "bun:test";
import type { Json } from "../base/json.ts";
import { normaliseCapabilities, normaliseCapability, POD_ANNOTATIONS } from "./capability.ts";

describe("normaliseCapability()", () => {
  test.each<[string, string, Json, Json | undefined]>([
    [
      "containerd's ports",
      "portMappings",
      [{ HostPort: 80, ContainerPort: 8080, Protocol: "TCP", HostIP: "" }],
      [{ hostPort: 80, containerPort: 8080, protocol: "tcp" }],
    ],
    [
      "ports with an address",
      "portMappings",
      [{ hostPort: 53, containerPort: 53, protocol: "udp", hostIP: "::ffff:1.2.3.4" }],
      [{ hostPort: 53, containerPort: 53, protocol: "udp", hostIP: "1.2.3.4" }],
    ],
    [
      "a range of ports",
      "portMappings",
      [{ hostPort: 5000, containerPort: 6000, Length: 10 }],
      [{ hostPort: 5000, containerPort: 6000, length: 10, protocol: "tcp" }],
    ],
    ["an entry without host port", "portMappings", [{ containerPort: 8080, hostPort: 0 }, { ContainerPort: 1 }], []],
    [
      "containerd's bandwidth",
      "bandwidth",
      { IngressRate: 8, IngressBurst: 4294967295, EgressRate: 0, EgressBurst: 0 },
      { ingressRate: 8, ingressBurst: 4294967295, egressRate: 0, egressBurst: 0 },
    ],
    ["an empty bandwidth", "bandwidth", { IngressRate: 0 }, undefined],
    [
      "containerd's dns",
      "dns",
      { Servers: ["10.0.0.1"], Searches: ["a.b"], Options: null },
      { servers: ["10.0.0.1"], searches: ["a.b"] },
    ],
    ["ranges", "ipRanges", [[{ Subnet: "10.0.0.0/8", Gateway: null }]], [[{ subnet: "10.0.0.0/8" }]]],
    ["addresses", "ips", ["10.0.0.1/8"], ["10.0.0.1/8"]],
    ["a hardware address", "mac", "02-00-00-00-00-0A", "02:00:00:00:00:0a"],
    ["an empty text", "mac", "", undefined],
    ["a cgroup", "cgroupPath", "/kubepods/x", "/kubepods/x"],
    ["annotations", POD_ANNOTATIONS, { "A.B/c": "d", e: null }, { "A.B/c": "d" }],
    ["null", "portMappings", null, undefined],
    ["one that we do not know", "aliases", { Net: ["a"], b: null }, { Net: ["a"] }],
  ])("%s", (_, name, value, want) => expect(normaliseCapability(name, value)).toEqual(want as never));
  test.each<[string, Json, string]>([
    [
      "portMappings",
      [{ hostPort: 70_000, containerPort: 1 }],
      "[0].hostPort: expected an integer from 0 to 65535, found 70000",
    ],
    ["portMappings", {}, "expected a list of port mappings, found {}"],
    ["portMappings", [{ hostPort: 1, containerPort: 1, length: 0 }], "[0].length: expected"],
    ["portMappings", [{ hostPort: 1, containerPort: 1, hostIP: "x" }], "[0].hostIP: expected an IP address"],
    ["bandwidth", { ingressRate: "8" }, "ingressRate: expected an integer"],
    ["mac", "x", "expected a hardware address"],
    ["ips", "10.0.0.1", "expected a list of addresses"],
  ])("refuses %s %j", (name, value, message) => {
    expect(() => normaliseCapability(name, value)).toThrow(message);
  });
});

test("normaliseCapabilities() leaves out what is null", () => {
  expect(normaliseCapabilities({ mac: null, ips: ["10.0.0.1"] })).toEqual({ ips: ["10.0.0.1"] });
});

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { isDeepStrictEqual } from "node:util";
import type { Kernel } from "../kernel/kernel.ts";
import { SimulatedNode } from "../kernel/simulated.ts";
import { openPolicy } from "../policy/policy.ts";
import type { ContainerState } from "../state/container.ts";
import type { Journal } from "../state/journal.ts";
import type { Store } from "../state/store.ts";
import { container, header, options, Scratch } from "../state/support.ts";
import { deadlineIn } from "../sys/clock.ts";
import { combined, type UndoContext, undoAttachments } from "./undo.ts";

const EBUSY = 16;

let scratch: Scratch;
let store: Store;
let state: ContainerState;
let simulated: SimulatedNode;
let pod: Kernel;
let context: UndoContext;

const unused = (): never => {
  throw new Error("no delegate runs here");
};

beforeEach(() => {
  scratch = new Scratch();
  store = scratch.store();
  const opened = store.container(container(), options());
  if (opened === undefined) throw new Error("not opened");
  state = opened;
  simulated = new SimulatedNode();
  const host = simulated.netns("host", { host: true });
  pod = simulated.netns("pod");
  context = {
    node: {
      store,
      host: () => host,
      devices: unused,
      builtIn: () => undefined,
      engine: unused,
      module: unused,
      policy: openPolicy,
      environment: {},
      delegateTimeoutMs: 1000,
      deadlineMs: deadlineIn(10_000),
      stop: undefined,
      versions: { get: unused, put: unused },
      log: () => {},
    },
    pod,
    netns: "/run/netns/pod",
    path: [],
  };
});
afterEach(() => {
  state[Symbol.dispose]();
  scratch[Symbol.dispose]();
});

let macs = 0;

/** An attachment as a guest and its IPAM leave it: journal first, then lease, then link. */
function attach(network: string, ifname: string): Journal {
  const journal = state.begin(header({ network, ifname, label: network }));
  const address = `10.0.0.${++macs}`;
  const owner = { container: "c1", ifname, cookie: "77" };
  journal.intend({ do: "lease", pool: network, address });
  store.leases.acquire(network, address, owner);
  const mac = `02:00:00:00:00:${macs.toString(16).padStart(2, "0")}`;
  const id = journal.intend({ do: "link", in: "pod", name: ifname, kind: "dummy", mac });
  const { index, name, kind } = pod.createLink({ kind: "dummy", name: ifname, mac });
  journal.made(id, { in: "pod", index, name, kind, mac });
  journal.commit({ cniVersion: "1.1.0" }, []);
  return journal;
}

const links = (): string[] => pod.links().map((link) => link.name);
const messages = (journals: readonly Journal[]): string[] =>
  undoAttachments(journals, context).map((failure) => failure.message);

describe("undoAttachments()", () => {
  test("deletes the links of all at once, with their leases still held, then frees these and drops the journals", () => {
    const journals = [attach("a", "eth0"), attach("b", "net1"), attach("c", "net2")];
    const held: number[] = [];
    simulated.fault = ({ call }) => {
      if (call === "deleteLink") held.push(store.leases.pools().length);
      return undefined;
    };
    expect(messages(journals)).toEqual([]);
    expect(held).toEqual([3, 3, 3]);
    expect(links()).toEqual(["lo"]);
    expect(store.leases.pools()).toEqual([]);
    expect(state.attachments()).toEqual([]);
  });

  test("an address is free only when no link has it", () => {
    const journal = attach("a", "eth0");
    simulated.fault = (call) => (call.call === "deleteLink" ? EBUSY : undefined);
    expect(messages([journal])).toEqual([expect.stringMatching(/^Cannot detach "eth0" from network "a": .*EBUSY/)]);
    expect(store.leases.ofContainer("c1")).toHaveLength(1);
    simulated.fault = undefined;
    expect(messages(state.attachments())).toEqual([]);
    expect(store.leases.pools()).toEqual([]);
  });

  test("one that fails keeps its journal and address; the others go", () => {
    const journals = [attach("a", "eth0"), attach("b", "net1"), attach("c", "net2")];
    const stuck = pod.linkByName("net1")?.index;
    simulated.fault = ({ call, argument }) =>
      call === "deleteLink" && isDeepStrictEqual(argument, { index: stuck }) ? EBUSY : undefined;
    expect(messages(journals)).toEqual([expect.stringContaining('"net1" from network "b"')]);
    expect(links()).toEqual(["lo", "net1"]);
    expect(state.attachments().map((journal) => journal.header.network)).toEqual(["b"]);
    expect(store.leases.pools()).toEqual(["b"]);
  });

  test("a lease that another has by now is left to it", () => {
    const journal = attach("a", "eth0");
    const [lease] = store.leases.ofContainer("c1");
    const address = lease?.address ?? "";
    store.leases.release("a", address, { container: "c1", ifname: "eth0" });
    store.leases.acquire("a", address, { container: "c2", ifname: "eth0", cookie: "78" });
    expect(messages([journal])).toEqual([]);
    expect(store.leases.ofContainer("c2")).toHaveLength(1);
  });

  test("a link that is gone, and another under its name, are no failure and no prey", () => {
    const journal = attach("a", "eth0");
    pod.deleteLink(pod.linkByName("eth0")?.index ?? 0);
    pod.createLink({ kind: "dummy", name: "eth0", mac: "02:00:00:00:02:00" });
    expect(messages([journal])).toEqual([]);
    expect(links()).toEqual(["lo", "eth0"]);
  });

  test("without the pod's namespace the rest goes all the same", () => {
    const journal = attach("a", "eth0");
    expect(undoAttachments([journal], { ...context, pod: undefined, netns: "" })).toEqual([]);
    expect(store.leases.pools()).toEqual([]);
    expect(state.attachments()).toEqual([]);
  });

  test("what a network owns stays, or goes with its last attachment where the plugin says so", () => {
    const host = context.node.host();
    const use = (network: string, ifname: string, keep: boolean): Journal => {
      const journal = state.begin(header({ network, ifname, label: network }));
      journal.intend({ do: "network-object", kind: "bridge", name: network });
      const facts = { made: true, keep };
      store.networks.use("bridge", network, { container: "c1", key: journal.key }, facts);
      if (host.linkByName(network) === undefined)
        host.createLink({ kind: "bridge", name: network, mac: "02:00:00:00:01:00" });
      return journal;
    };
    const kept = use("br-kept", "eth0", true);
    const [first, last] = [use("br-gone", "net1", false), use("br-gone", "net2", false)];
    expect(messages([kept, first])).toEqual([]);
    expect(host.links().map((link) => link.name)).toEqual(["lo", "br-kept", "br-gone"]);
    expect(messages([last])).toEqual([]);
    expect(host.links().map((link) => link.name)).toEqual(["lo", "br-kept"]);
  });
});

describe("combined()", () => {
  test("has the first one's code and all sentences", () => {
    const [a, b] = [attach("a", "eth0"), attach("b", "net1")];
    simulated.fault = ({ call }) => (call === "deleteLink" ? EBUSY : undefined);
    const failures = undoAttachments([a, b], context);
    const error = combined(failures);
    expect(error.code).toBe(failures[0]?.code as number);
    expect(error.message).toMatch(/"net1" from network "b".*; .*"eth0" from network "a"/);
  });
});

/**
 * dhcp: the address that a DHCP server of the interface's own network leases. The exchange is made here, in ADD, from
 * the pod's interface; a process that runs for as long as the node keeps the lease alive.
 */
import { show } from "../../base/brand.ts";
import { CniError, Code } from "../../base/error.ts";
import { formatIp, parseCidr } from "../../base/ip.ts";
import type { UndoLog } from "../../state/journal.ts";
import { deadlineIn, leftMs } from "../../sys/clock.ts";
import { previousIps } from "../conf.ts";
import { DIFFERENT, type Ipam, type IpamNode, type IpamRequest, type IpamResult, type PodLink } from "../ipam.ts";
import { Exchange, type Lease, type Outcome } from "./client.ts";
import { clientIdOf, type DhcpConf, parseDhcpConf } from "./conf.ts";
import { CLIENT_PORT } from "./frame.ts";
import { type Asking, clientOf, giveBack, isKernels, isOver, linkOf, realWorld, recordOf } from "./lease.ts";

/** For the whole exchange of an ADD: what the reference waits for one answer. */
const EXCHANGE_MS = 10_000;
/** Of that, for the interface to come up. */
const RUNNING_MS = 2000;

export const dhcp: Ipam = { type: "dhcp", add, del, check, gc, status };

function nodeOf(request: IpamRequest): IpamNode {
  if (request.node !== undefined) return request.node;
  throw new TypeError("Cannot run dhcp: it was not told where");
}

const sentence = ({ network, ifname, containerId }: IpamRequest): string =>
  `Cannot lease an address of network ${show(network)} for "${ifname}" of container "${containerId}"`;

const identity = ({ containerId, network, ifname }: IpamRequest) => ({ container: containerId, network, ifname });

function requireRenewed(request: IpamRequest, { dhcp }: IpamNode): void {
  if (dhcp.isRenewed) return;
  throw new CniError(Code.TryAgainLater, `${sentence(request)}: nothing on this node would renew it`, {
    remedy: 'Start "patchbay dhcp", as a unit or by hand: it keeps the leases of the node\'s pods',
  });
}

function add(request: IpamRequest, journal: UndoLog | undefined): IpamResult {
  const conf = parseDhcpConf(request);
  const node = nodeOf(request);
  requireRenewed(request, node);
  const link = requireLink(request, node);
  const known = knownLease(request, node, link);
  if (known !== undefined) return known;
  const deadlineMs = Math.min(deadlineIn(EXCHANGE_MS), node.deadlineMs);
  try {
    return lease(request, conf, node, link, journal, deadlineMs);
  } catch (thrown) {
    if (!isKernels(thrown)) throw thrown;
    throw new CniError(Code.TryAgainLater, `${sentence(request)}: ${thrown.message}`, {
      remedy: "Look whether the interface can be brought up",
      cause: thrown,
    });
  }
}

function requireLink(request: IpamRequest, { pod }: IpamNode): PodLink {
  const link = pod?.linkByName(request.ifname);
  if (pod === undefined || link === undefined) {
    throw new CniError(Code.InvalidConfig, `${sentence(request)}: the interface is not there`, {
      remedy: "Use dhcp with a plugin that makes the interface before it asks for its addresses, such as macvlan",
    });
  }
  if (/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(link.mac)) return link;
  throw new CniError(Code.InvalidConfig, `${sentence(request)}: it is no Ethernet interface`, {
    remedy: "Use another IPAM for this network",
  });
}

/** What the attachment has already, by a plugin before in the list or an ADD that is made again. */
function knownLease(request: IpamRequest, { dhcp, pod }: IpamNode, link: PodLink): IpamResult | undefined {
  const record = dhcp.get(identity(request));
  if (record === undefined || pod === undefined || record.state !== "bound") return undefined;
  const isMine = !record.earlierBoot && !isOver(record) && linkOf(record, pod)?.index === link.index;
  return isMine ? (record.result as unknown as IpamResult) : undefined;
}

function lease(
  request: IpamRequest,
  conf: DhcpConf,
  node: IpamNode,
  link: PodLink,
  journal: UndoLog | undefined,
  deadlineMs: number,
): IpamResult {
  const { pod, dhcp, netnsPath } = node;
  if (pod === undefined) throw new TypeError("Cannot lease without a namespace");
  if (!link.up) pod.setLink(link.index, { up: true });
  const running = pod.waitRunning(link.index, leftMs(deadlineMs, RUNNING_MS));
  const asking: Asking = {
    ...identity(request),
    journal: journal !== undefined,
    netns: { path: netnsPath, cookie: String(pod.cookie) },
    link: { index: link.index, mac: link.mac },
    client: {
      id: clientIdOf(request).toHex(),
      requested: conf.requested,
      provided: conf.provided.map(([code, content]) => [code, content.toHex()] as const),
    },
  };
  const world = realWorld(node.stop);
  using packets = pod.openPackets(link.index, CLIENT_PORT);
  const exchange = new Exchange(clientOf(asking, link), packets, world);
  let intent: number | undefined;
  let begun = false;
  const onOffer = (offer: Lease): void => {
    if (!begun) intent = journal?.intend({ do: "dhcp" });
    begun = true;
    dhcp.put(recordOf(asking, "asked", offer, conf.priority));
  };
  try {
    const outcome = exchange.acquire(world.nowMs() + leftMs(deadlineMs), onOffer);
    if (outcome.is !== "bound") throw failure(request, outcome, running);
    const record = recordOf(asking, "bound", outcome.lease, conf.priority);
    dhcp.put(record);
    return record.result as unknown as IpamResult;
  } catch (thrown) {
    if (begun) undo(request, node, journal, intent);
    throw thrown;
  }
}

/** What cannot be given back here stays in the journal for DEL; the first failure is what the caller hears of. */
function undo(request: IpamRequest, node: IpamNode, journal: UndoLog | undefined, intent: number | undefined): void {
  try {
    giveBack(identity(request), node.dhcp, node.pod);
    if (intent !== undefined) journal?.undone(intent);
  } catch {
    // Its undo step is not marked undone.
  }
}

function failure(request: IpamRequest, outcome: Exclude<Outcome, { is: "bound" }>, running: boolean): CniError {
  const error = (why: string, remedy: string): CniError =>
    new CniError(Code.TryAgainLater, `${sentence(request)}: ${why}`, { remedy });
  if (outcome.is === "stopped") return error("the operation was asked to stop", "Try again");
  if (outcome.is === "refused") {
    const words = outcome.words === "" ? "" : `, and says ${show(outcome.words)}`;
    return error(`the DHCP server takes back what it offers${words}`, "Look into the log of the DHCP server");
  }
  if (!running) {
    return error(
      `the interface does not come up, and no DHCP server answered ${outcome.sent} requests`,
      "Look whether the link that it is built upon is up and connected",
    );
  }
  if (outcome.unusable !== undefined) {
    return error(
      `no answer to ${outcome.sent} requests could be used, because ${outcome.unusable}`,
      "Correct the DHCP server",
    );
  }
  return error(
    `no DHCP server answered ${outcome.sent} requests`,
    "Look whether a DHCP server serves the network of this interface and has addresses left",
  );
}

function del(request: IpamRequest): void {
  const { dhcp, pod } = nodeOf(request);
  giveBack(identity(request), dhcp, pod);
}

function check(request: IpamRequest): void {
  parseDhcpConf(request);
  const node = nodeOf(request);
  const record = node.dhcp.get(identity(request));
  const lost = (why: string): CniError =>
    new CniError(
      DIFFERENT,
      `Cannot confirm "${request.ifname}" of container "${request.containerId}" in network ${show(request.network)}: ${why}`,
      { remedy: "Delete the pod, so that its controller makes it anew" },
    );
  if (record === undefined || record.earlierBoot || record.state === "asked") throw lost("it has no DHCP lease");
  if (record.state === "expired" || isOver(record)) throw lost(`its lease of ${record.address} is over`);
  if (node.pod !== undefined && linkOf(record, node.pod) === undefined) {
    throw lost(`the interface that leased ${record.address} is not there`);
  }
  const same = (text: string): boolean => {
    const [a, b] = [parseCidr(text), parseCidr(record.address)];
    return a !== undefined && b !== undefined && formatIp(a.ip) === formatIp(b.ip) && a.prefix === b.prefix;
  };
  const previous = previousIps(request);
  if (previous !== undefined && !previous.some((ip) => same(ip.address))) {
    throw lost(`"prevResult" lacks its leased address ${record.address}`);
  }
  requireRenewed(request, node);
}

/** What a CNI binary leased through us and never gave back. Of what a journal names, the journal decides. */
function gc(request: IpamRequest): void {
  const question = request.gc;
  const node = nodeOf(request);
  if (question === undefined || question.valid.length === 0) return;
  for (const record of node.dhcp.list()) {
    if (record.journal || record.network !== request.network) continue;
    const listed = question.valid.some(({ containerID }) => containerID === record.container);
    if (listed || (!record.earlierBoot && node.isNetnsAlive(record.netns))) continue;
    giveBack(record, node.dhcp, undefined);
  }
}

function status(request: IpamRequest): void {
  parseDhcpConf(request);
  if (nodeOf(request).dhcp.isRenewed) return;
  throw new CniError(
    Code.NotAvailable,
    `Cannot lease addresses of network ${show(request.network)}: nothing renews them`,
    {
      remedy: 'Start "patchbay dhcp", as a unit or by hand',
    },
  );
}

/**
 * Everything a guest can ask for. The linker, the reference page, the golden file and the SDK's bindings are made from
 * this table; a call that is not in it does not exist.
 */
import type { HostCall } from "./call.ts";
import * as address from "./calls/address.ts";
import * as device from "./calls/device.ts";
import * as filter from "./calls/filter.ts";
import * as firewalld from "./calls/firewalld.ts";
import * as link from "./calls/link.ts";
import { linkCreate } from "./calls/link-create.ts";
import * as nft from "./calls/nft.ts";
import * as node from "./calls/node.ts";
import * as port from "./calls/port.ts";
import * as route from "./calls/route.ts";
import * as service from "./calls/service.ts";
import * as traffic from "./calls/traffic.ts";

/** Number of the ABI, which is the number in the import module's name. */
export const abi = 1;
export const importModule = `patchbay_${abi}`;

export const hostCalls: readonly HostCall[] = [
  linkCreate,
  link.linkOpen,
  link.linkList,
  link.linkSet,
  link.linkConfigure,
  link.linkMove,
  link.linkDelete,
  link.linkWait,
  address.addrAdd,
  address.addrDelete,
  address.addrList,
  route.routeAdd,
  route.routeDelete,
  route.routeList,
  route.ruleAdd,
  route.ruleDelete,
  route.ruleList,
  route.tableFind,
  address.neighAdd,
  node.bridgeVlanSet,
  node.sysctlGet,
  node.sysctlSet,
  nft.nftApply,
  nft.nftCheck,
  nft.nftReady,
  port.portMap,
  port.portCheck,
  port.conntrackFlush,
  traffic.tcApply,
  traffic.tcCheck,
  filter.filterAdd,
  filter.filterCheck,
  filter.filterDrops,
  firewalld.firewalldFind,
  firewalld.firewalldAdd,
  firewalld.firewalldCheck,
  filter.isolationApply,
  filter.isolationCheck,
  address.announce,
  device.deviceTake,
  device.deviceGet,
  device.vfSet,
  device.deviceInfo,
  service.ipamAdd,
  service.ipamCheck,
  service.ipamDelete,
  service.ipamGc,
  service.ipamStatus,
  service.leaseAcquire,
  service.leaseRelease,
  service.noteSet,
  service.noteGet,
  service.log,
];

// Generated from the call table: do not edit.
import { Answer } from "./answer";
import { Json } from "./json";
import { ABSENT, UNSET, Writer } from "./writer";

@external("patchbay_1", "addr_add")
declare function import_addr_add(request: usize, length: i32): i32;

/** Request of `addr_add`. */
export class AddrAdd {
  /** Handle of the link */
  link: i64 = ABSENT;
  /** With prefix length, host bits kept */
  address: string | null = null;
  /** No duplicate address detection */
  noDad: i32 = UNSET;
  /** No route to the address's network */
  noPrefixRoute: i32 = UNSET;
  /** `network`: an address of the network's own link, kept with it and there before is no failure */
  scope: string | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("address", this.address);
    w.flag("noDad", this.noDad);
    w.flag("noPrefixRoute", this.noPrefixRoute);
    w.text("scope", this.scope);
  }
}

/** Adds an address to a link */
export function addrAdd(request: AddrAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_addr_add(w.start, w.length));
}

@external("patchbay_1", "addr_delete")
declare function import_addr_delete(request: usize, length: i32): i32;

/** Request of `addr_delete`. */
export class AddrDelete {
  /** Handle of the link */
  link: i64 = ABSENT;
  address: string | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("address", this.address);
  }
}

/** Removes an address from a link */
export function addrDelete(request: AddrDelete): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_addr_delete(w.start, w.length));
}

@external("patchbay_1", "addr_list")
declare function import_addr_list(request: usize, length: i32): i32;

/** Request of `addr_list`. */
export class AddrList {
  /** Handle of the link */
  link: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
  }
}

/** Lists the addresses of a link */
export function addrList(request: AddrList): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_addr_list(w.start, w.length));
}

@external("patchbay_1", "announce")
declare function import_announce(request: usize, length: i32): i32;

/** Request of `announce`. */
export class Announce {
  /** Handle of the link */
  link: i64 = ABSENT;
  addresses: string[] | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.texts("addresses", this.addresses);
  }
}

/** Tells the neighbours of a link its addresses: a gratuitous ARP or an unsolicited neighbour advertisement each */
export function announce(request: Announce): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_announce(w.start, w.length));
}

@external("patchbay_1", "bridge_vlan_set")
declare function import_bridge_vlan_set(request: usize, length: i32): i32;

export class BridgeVlanSetVlan {
  first: i64 = ABSENT;
  /** For a range */
  last: i64 = ABSENT;
  /** Frames without a tag belong to it */
  pvid: i32 = UNSET;
  /** Frames leave without a tag */
  untagged: i32 = UNSET;

  write(w: Writer): void {
    w.integer("first", this.first);
    w.integer("last", this.last);
    w.flag("pvid", this.pvid);
    w.flag("untagged", this.untagged);
  }
}

/** Request of `bridge_vlan_set`. */
export class BridgeVlanSet {
  /** Handle of the link */
  link: i64 = ABSENT;
  vlans: BridgeVlanSetVlan[] | null = null;
  mode: string | null = null;
  /** The link is the bridge and not a port of it */
  self: i32 = UNSET;

  write(w: Writer): void {
    w.integer("link", this.link);
    const vlans_ = this.vlans;
    if (vlans_) {
      w.beginArray("vlans");
      for (let i = 0; i < vlans_.length; i++) {
        w.beginObject();
        vlans_[i].write(w);
        w.endObject();
      }
      w.endArray();
    }
    w.text("mode", this.mode);
    w.flag("self", this.self);
  }
}

/** Adds VLANs to a bridge port, or with `self` to the bridge itself, or takes them away */
export function bridgeVlanSet(request: BridgeVlanSet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_bridge_vlan_set(w.start, w.length));
}

@external("patchbay_1", "conntrack_flush")
declare function import_conntrack_flush(request: usize, length: i32): i32;

/** Request of `conntrack_flush`. */
export class ConntrackFlush {

  write(w: Writer): void {
  }
}

/** Forgets the UDP flows to the ports that port_map gave the attachment, so that their next packet is translated */
export function conntrackFlush(request: ConntrackFlush): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_conntrack_flush(w.start, w.length));
}

@external("patchbay_1", "device_get")
declare function import_device_get(request: usize, length: i32): i32;

/** Request of `device_get`. */
export class DeviceGet {

  write(w: Writer): void {
  }
}

/** Shows the device that this attachment has taken, and its interface in the pod */
export function deviceGet(request: DeviceGet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_device_get(w.start, w.length));
}

@external("patchbay_1", "device_info")
declare function import_device_info(request: usize, length: i32): i32;

/** Request of `device_info`. */
export class DeviceInfo {

  write(w: Writer): void {
  }
}

/** Writes what the taken device is into the file that the runtime named for that, if it named one and nobody has written it */
export function deviceInfo(request: DeviceInfo): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_device_info(w.start, w.length));
}

@external("patchbay_1", "device_take")
declare function import_device_take(request: usize, length: i32): i32;

/** Request of `device_take`. */
export class DeviceTake {

  write(w: Writer): void {
  }
}

/** Takes the device that the configuration names for this attachment. One that another attachment has is refused; what it was before is on the disk, for DEL */
export function deviceTake(request: DeviceTake): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_device_take(w.start, w.length));
}

@external("patchbay_1", "filter_add")
declare function import_filter_add(request: usize, length: i32): i32;

/** Request of `filter_add`. */
export class FilterAdd {
  /** Addresses of the attachment */
  addresses: string[] | null = null;
  /** Chain of the administrator's own rules, which come first; at most 28 characters */
  adminChain: string | null = null;

  write(w: Writer): void {
    w.texts("addresses", this.addresses);
    w.text("adminChain", this.adminChain);
  }
}

/** Accepts what the attachment sends, and the answers, in iptables-nft's FORWARD; again for the same does nothing */
export function filterAdd(request: FilterAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_filter_add(w.start, w.length));
}

@external("patchbay_1", "filter_check")
declare function import_filter_check(request: usize, length: i32): i32;

/** Request of `filter_check`. */
export class FilterCheck {
  /** Addresses of the attachment */
  addresses: string[] | null = null;
  /** Chain of the administrator's own rules, which come first; at most 28 characters */
  adminChain: string | null = null;

  write(w: Writer): void {
    w.texts("addresses", this.addresses);
    w.text("adminChain", this.adminChain);
  }
}

/** Whether what filter_add adds for the same request is there */
export function filterCheck(request: FilterCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_filter_check(w.start, w.length));
}

@external("patchbay_1", "filter_drops")
declare function import_filter_drops(request: usize, length: i32): i32;

/** Request of `filter_drops`. */
export class FilterDrops {

  write(w: Writer): void {
  }
}

/** Lists the base chains of the node that drop forwarded packets which nothing in them accepts */
export function filterDrops(request: FilterDrops): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_filter_drops(w.start, w.length));
}

@external("patchbay_1", "firewalld_add")
declare function import_firewalld_add(request: usize, length: i32): i32;

/** Request of `firewalld_add`. */
export class FirewalldAdd {
  zone: string | null = null;
  /** Addresses of the attachment */
  addresses: string[] | null = null;

  write(w: Writer): void {
    w.text("zone", this.zone);
    w.texts("addresses", this.addresses);
  }
}

/** Puts addresses into a zone of firewalld, until the last attachment that has them goes */
export function firewalldAdd(request: FirewalldAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_firewalld_add(w.start, w.length));
}

@external("patchbay_1", "firewalld_check")
declare function import_firewalld_check(request: usize, length: i32): i32;

/** Request of `firewalld_check`. */
export class FirewalldCheck {
  zone: string | null = null;
  /** Addresses of the attachment */
  addresses: string[] | null = null;

  write(w: Writer): void {
    w.text("zone", this.zone);
    w.texts("addresses", this.addresses);
  }
}

/** Whether the addresses are in the zone */
export function firewalldCheck(request: FirewalldCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_firewalld_check(w.start, w.length));
}

@external("patchbay_1", "firewalld_find")
declare function import_firewalld_find(request: usize, length: i32): i32;

/** Request of `firewalld_find`. */
export class FirewalldFind {

  write(w: Writer): void {
  }
}

/** Whether firewalld runs; it is not started */
export function firewalldFind(request: FirewalldFind): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_firewalld_find(w.start, w.length));
}

@external("patchbay_1", "ipam_add")
declare function import_ipam_add(request: usize, length: i32): i32;

/** Request of `ipam_add`. */
export class IpamAdd {

  write(w: Writer): void {
  }
}

/** Runs the network's IPAM. A configuration without one answers no addresses */
export function ipamAdd(request: IpamAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_ipam_add(w.start, w.length));
}

@external("patchbay_1", "ipam_check")
declare function import_ipam_check(request: usize, length: i32): i32;

/** Request of `ipam_check`. */
export class IpamCheck {

  write(w: Writer): void {
  }
}

/** Asks the network's IPAM whether the attachment still has its addresses */
export function ipamCheck(request: IpamCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_ipam_check(w.start, w.length));
}

@external("patchbay_1", "ipam_delete")
declare function import_ipam_delete(request: usize, length: i32): i32;

/** Request of `ipam_delete`. */
export class IpamDelete {

  write(w: Writer): void {
  }
}

/** Gives the attachment's addresses back; the host does so itself for plugins that are not run on DEL */
export function ipamDelete(request: IpamDelete): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_ipam_delete(w.start, w.length));
}

@external("patchbay_1", "ipam_gc")
declare function import_ipam_gc(request: usize, length: i32): i32;

/** Request of `ipam_gc`. */
export class IpamGc {

  write(w: Writer): void {
  }
}

/** Lets the network's IPAM free what no valid attachment has */
export function ipamGc(request: IpamGc): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_ipam_gc(w.start, w.length));
}

@external("patchbay_1", "ipam_status")
declare function import_ipam_status(request: usize, length: i32): i32;

/** Request of `ipam_status`. */
export class IpamStatus {

  write(w: Writer): void {
  }
}

/** Asks the network's IPAM whether it can give addresses */
export function ipamStatus(request: IpamStatus): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_ipam_status(w.start, w.length));
}

@external("patchbay_1", "isolation_apply")
declare function import_isolation_apply(request: usize, length: i32): i32;

/** Request of `isolation_apply`. */
export class IsolationApply {
  /** A link of the node that the previous result names: a bridge, or a veth's end */
  name: string | null = null;
  /** `same-bridge`: nothing to or from other isolated links; `isolated`: nor between attachments of this one */
  policy: string | null = null;

  write(w: Writer): void {
    w.text("name", this.name);
    w.text("policy", this.policy);
  }
}

/** Keeps what a link of the node carries apart from other isolated links, until its last attachment goes */
export function isolationApply(request: IsolationApply): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_isolation_apply(w.start, w.length));
}

@external("patchbay_1", "isolation_check")
declare function import_isolation_check(request: usize, length: i32): i32;

/** Request of `isolation_check`. */
export class IsolationCheck {
  /** A link of the node that the previous result names: a bridge, or a veth's end */
  name: string | null = null;
  /** `same-bridge`: nothing to or from other isolated links; `isolated`: nor between attachments of this one */
  policy: string | null = null;

  write(w: Writer): void {
    w.text("name", this.name);
    w.text("policy", this.policy);
  }
}

/** Whether a link is isolated at least as the policy asks */
export function isolationCheck(request: IsolationCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_isolation_check(w.start, w.length));
}

@external("patchbay_1", "lease_acquire")
declare function import_lease_acquire(request: usize, length: i32): i32;

/** Request of `lease_acquire`. */
export class LeaseAcquire {
  /** Of this plugin; no other can reach it */
  pool: string | null = null;
  key: string | null = null;

  write(w: Writer): void {
    w.text("pool", this.pool);
    w.text("key", this.key);
  }
}

/** Reserves a name on this node for the attachment, such as the number of a routing table */
export function leaseAcquire(request: LeaseAcquire): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_lease_acquire(w.start, w.length));
}

@external("patchbay_1", "lease_release")
declare function import_lease_release(request: usize, length: i32): i32;

/** Request of `lease_release`. */
export class LeaseRelease {
  /** Of this plugin; no other can reach it */
  pool: string | null = null;
  key: string | null = null;

  write(w: Writer): void {
    w.text("pool", this.pool);
    w.text("key", this.key);
  }
}

/** Gives a reserved name back */
export function leaseRelease(request: LeaseRelease): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_lease_release(w.start, w.length));
}

@external("patchbay_1", "link_configure")
declare function import_link_configure(request: usize, length: i32): i32;

export class LinkConfigureSysctl {
  /** As the manifest lists it, with `<link>` in it */
  key: string | null = null;
  value: string | null = null;
  /** What is not granted or cannot be set is left as it is */
  optional: i32 = UNSET;

  write(w: Writer): void {
    w.text("key", this.key);
    w.text("value", this.value);
    w.flag("optional", this.optional);
  }
}

export class LinkConfigureAddress {
  /** With prefix length, host bits kept */
  address: string | null = null;
  /** No duplicate address detection */
  noDad: i32 = UNSET;
  /** No route to the address's network */
  noPrefixRoute: i32 = UNSET;

  write(w: Writer): void {
    w.text("address", this.address);
    w.flag("noDad", this.noDad);
    w.flag("noPrefixRoute", this.noPrefixRoute);
  }
}

export class LinkConfigureRoute {
  /** `0.0.0.0/0` or `::/0` for a default route */
  dst: string | null = null;
  gateway: string | null = null;
  /** Address that packets get by preference */
  source: string | null = null;
  /** 0 universe, 253 link, 254 host */
  scope: i64 = ABSENT;
  /** Metric */
  priority: i64 = ABSENT;
  /** 254, main, when absent */
  table: i64 = ABSENT;
  /** Bytes */
  mtu: i64 = ABSENT;
  /** Bytes */
  advmss: i64 = ABSENT;
  /** The gateway is on the link, whatever the routes say */
  onlink: i32 = UNSET;
  /** Who made it: 2 the kernel, 3 boot; 3 when absent */
  protocol: i64 = ABSENT;

  write(w: Writer): void {
    w.text("dst", this.dst);
    w.text("gateway", this.gateway);
    w.text("source", this.source);
    w.integer("scope", this.scope);
    w.integer("priority", this.priority);
    w.integer("table", this.table);
    w.integer("mtu", this.mtu);
    w.integer("advmss", this.advmss);
    w.flag("onlink", this.onlink);
    w.integer("protocol", this.protocol);
  }
}

/** Request of `link_configure`. */
export class LinkConfigure {
  /** Handle of the link */
  link: i64 = ABSENT;
  sysctls: LinkConfigureSysctl[] | null = null;
  addresses: LinkConfigureAddress[] | null = null;
  routes: LinkConfigureRoute[] | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    const sysctls_ = this.sysctls;
    if (sysctls_) {
      w.beginArray("sysctls");
      for (let i = 0; i < sysctls_.length; i++) {
        w.beginObject();
        sysctls_[i].write(w);
        w.endObject();
      }
      w.endArray();
    }
    const addresses_ = this.addresses;
    if (addresses_) {
      w.beginArray("addresses");
      for (let i = 0; i < addresses_.length; i++) {
        w.beginObject();
        addresses_[i].write(w);
        w.endObject();
      }
      w.endArray();
    }
    const routes_ = this.routes;
    if (routes_) {
      w.beginArray("routes");
      for (let i = 0; i < routes_.length; i++) {
        w.beginObject();
        routes_[i].write(w);
        w.endObject();
      }
      w.endArray();
    }
  }
}

/** Gives a link in the pod that the attachment made or borrowed its sysctls, then its addresses, brings it up, and adds its routes beside those there are */
export function linkConfigure(request: LinkConfigure): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_configure(w.start, w.length));
}

@external("patchbay_1", "link_create")
declare function import_link_create(request: usize, length: i32): i32;

export class LinkCreatePeer {
  in: string | null = null;
  /** In the pod */
  name: string | null = null;
  /** Bytes; 0 is the kernel's choice */
  mtu: i64 = ABSENT;
  mac: string | null = null;
  /** Handle of a bridge that it becomes a port of */
  master: i64 = ABSENT;
  up: i32 = UNSET;
  /** Of a port: send frames back where they came from */
  hairpin: i32 = UNSET;
  /** Of a port: no traffic with other isolated ports */
  isolated: i32 = UNSET;

  write(w: Writer): void {
    w.text("in", this.in);
    w.text("name", this.name);
    w.integer("mtu", this.mtu);
    w.text("mac", this.mac);
    w.integer("master", this.master);
    w.flag("up", this.up);
    w.flag("hairpin", this.hairpin);
    w.flag("isolated", this.isolated);
  }
}

/** Request of `link_create`. */
export class LinkCreate {
  kind: string | null = null;
  /** Where it is made */
  in: string | null = null;
  /** In the pod, CNI_IFNAME when absent. On the node only with `"scope":"network"`; an attachment's own links there get derived names */
  name: string | null = null;
  /** `network`, `pod`: made if absent, verified if there, never changed in kind; of a pod, a VRF, which goes with the last attachment that uses it */
  scope: string | null = null;
  /** Bytes; 0 is the kernel's choice */
  mtu: i64 = ABSENT;
  /** Random, locally administered, when absent */
  mac: string | null = null;
  up: i32 = UNSET;
  /** Handle of the lower link, of a macvlan, an ipvlan or a VLAN */
  parent: i64 = ABSENT;
  /** Of a macvlan, `bridge` when absent; or of an ipvlan, `l2` when absent, and then that of all ipvlans on the lower link */
  mode: string | null = null;
  /** Length of a macvlan's broadcast queue */
  broadcastQueue: i64 = ABSENT;
  /** Number of a VLAN */
  vlan: i64 = ABSENT;
  /** Routing table of a VRF */
  table: i64 = ABSENT;
  /** Of a bridge */
  vlanFiltering: i32 = UNSET;
  /** Of a tap */
  multiQueue: i32 = UNSET;
  /** User id that may open a tap */
  owner: i64 = ABSENT;
  /** Group id that may open a tap */
  ownerGroup: i64 = ABSENT;
  /** Label of a tap */
  selinuxContext: string | null = null;
  /** The other end of a veth */
  peer: LinkCreatePeer | null = null;

  write(w: Writer): void {
    w.text("kind", this.kind);
    w.text("in", this.in);
    w.text("name", this.name);
    w.text("scope", this.scope);
    w.integer("mtu", this.mtu);
    w.text("mac", this.mac);
    w.flag("up", this.up);
    w.integer("parent", this.parent);
    w.text("mode", this.mode);
    w.integer("broadcastQueue", this.broadcastQueue);
    w.integer("vlan", this.vlan);
    w.integer("table", this.table);
    w.flag("vlanFiltering", this.vlanFiltering);
    w.flag("multiQueue", this.multiQueue);
    w.integer("owner", this.owner);
    w.integer("ownerGroup", this.ownerGroup);
    w.text("selinuxContext", this.selinuxContext);
    const peer_ = this.peer;
    if (peer_) {
      w.beginObject("peer");
      peer_.write(w);
      w.endObject();
    }
  }
}

/** Makes a link. It belongs to the attachment, or with `scope` to the network on this node or to the pod */
export function linkCreate(request: LinkCreate): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_create(w.start, w.length));
}

@external("patchbay_1", "link_delete")
declare function import_link_delete(request: usize, length: i32): i32;

/** Request of `link_delete`. */
export class LinkDelete {
  /** Handle of the link */
  link: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
  }
}

/** Deletes a link that the attachment made */
export function linkDelete(request: LinkDelete): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_delete(w.start, w.length));
}

@external("patchbay_1", "link_list")
declare function import_link_list(request: usize, length: i32): i32;

/** Request of `link_list`. */
export class LinkList {
  in: string | null = null;

  write(w: Writer): void {
    w.text("in", this.in);
  }
}

/** Lists the links of the pod, or those of the node that are the attachment's or that the configuration names */
export function linkList(request: LinkList): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_list(w.start, w.length));
}

@external("patchbay_1", "link_move")
declare function import_link_move(request: usize, length: i32): i32;

/** Request of `link_move`. */
export class LinkMove {
  /** Handle of the link */
  link: i64 = ABSENT;
  to: string | null = null;
  name: string | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("to", this.to);
    w.text("name", this.name);
  }
}

/** Moves an own link into the other namespace, or the borrowed device into the pod, and answers a new handle for it */
export function linkMove(request: LinkMove): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_move(w.start, w.length));
}

@external("patchbay_1", "link_open")
declare function import_link_open(request: usize, length: i32): i32;

/** Request of `link_open`. */
export class LinkOpen {
  in: string | null = null;
  /** In the pod CNI_IFNAME when absent */
  name: string | null = null;
  /** The link of the default route in place of a name */
  defaultRoute: i32 = UNSET;
  /** With `"in":"host"`, in place of a name: the other end of the veth in the pod that has this handle */
  peerOf: i64 = ABSENT;

  write(w: Writer): void {
    w.text("in", this.in);
    w.text("name", this.name);
    w.flag("defaultRoute", this.defaultRoute);
    w.integer("peerOf", this.peerOf);
  }
}

/** Gives a handle for a link that is the attachment's or that the configuration names */
export function linkOpen(request: LinkOpen): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_open(w.start, w.length));
}

@external("patchbay_1", "link_set")
declare function import_link_set(request: usize, length: i32): i32;

/** Request of `link_set`. */
export class LinkSet {
  /** Handle of the link */
  link: i64 = ABSENT;
  up: i32 = UNSET;
  /** Bytes */
  mtu: i64 = ABSENT;
  mac: string | null = null;
  /** Of an own link in the pod */
  name: string | null = null;
  /** Handle of the bridge or VRF; 0 for none */
  master: i64 = ABSENT;
  promisc: i32 = UNSET;
  allmulti: i32 = UNSET;
  /** Of a bridge port: send frames back where they came from */
  hairpin: i32 = UNSET;
  /** Of a bridge port: no traffic with other isolated ports */
  isolated: i32 = UNSET;
  /** Of a bridge */
  vlanFiltering: i32 = UNSET;
  /** Packets */
  txQueueLength: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.flag("up", this.up);
    w.integer("mtu", this.mtu);
    w.text("mac", this.mac);
    w.text("name", this.name);
    w.integer("master", this.master);
    w.flag("promisc", this.promisc);
    w.flag("allmulti", this.allmulti);
    w.flag("hairpin", this.hairpin);
    w.flag("isolated", this.isolated);
    w.flag("vlanFiltering", this.vlanFiltering);
    w.integer("txQueueLength", this.txQueueLength);
  }
}

/** Changes a link. What it was before is kept for DEL, unless the link goes with the attachment or is the network's */
export function linkSet(request: LinkSet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_set(w.start, w.length));
}

@external("patchbay_1", "link_wait")
declare function import_link_wait(request: usize, length: i32): i32;

/** Request of `link_wait`. */
export class LinkWait {
  /** Handle of the link */
  link: i64 = ABSENT;
  for: string | null = null;
  /** Milliseconds */
  timeoutMs: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("for", this.for);
    w.integer("timeoutMs", this.timeoutMs);
  }
}

/** Waits until a link runs, or until duplicate address detection is done with its IPv6 addresses */
export function linkWait(request: LinkWait): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_link_wait(w.start, w.length));
}

@external("patchbay_1", "log")
declare function import_log(request: usize, length: i32): i32;

/** Request of `log`. */
export class Log {
  level: string | null = null;
  message: string | null = null;

  write(w: Writer): void {
    w.text("level", this.level);
    w.text("message", this.message);
  }
}

/** Writes a line to the log. Past the limit of bytes lines are dropped */
export function log(request: Log): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_log(w.start, w.length));
}

@external("patchbay_1", "neigh_add")
declare function import_neigh_add(request: usize, length: i32): i32;

/** Request of `neigh_add`. */
export class NeighAdd {
  /** Handle of the link */
  link: i64 = ABSENT;
  address: string | null = null;
  mac: string | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("address", this.address);
    w.text("mac", this.mac);
  }
}

/** Adds a permanent neighbour to a link */
export function neighAdd(request: NeighAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_neigh_add(w.start, w.length));
}

@external("patchbay_1", "nft_apply")
declare function import_nft_apply(request: usize, length: i32): i32;

/** Request of `nft_apply`. */
export class NftApply {
  rule: string | null = null;
  /** `masquerade`: addresses of the attachment; what leaves their networks gets the node's address */
  addresses: string[] | null = null;
  /** `mac_check`: own link of the node, a port of a bridge */
  link: i64 = ABSENT;
  /** `mac_check`: the only source address that may come in there */
  mac: string | null = null;

  write(w: Writer): void {
    w.text("rule", this.rule);
    w.texts("addresses", this.addresses);
    w.integer("link", this.link);
    w.text("mac", this.mac);
  }
}

/** Adds a rule to a chain of the attachment's own on the node; again with the same `rule` replaces it */
export function nftApply(request: NftApply): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_nft_apply(w.start, w.length));
}

@external("patchbay_1", "nft_check")
declare function import_nft_check(request: usize, length: i32): i32;

/** Request of `nft_check`. */
export class NftCheck {
  rule: string | null = null;
  /** `masquerade`: addresses of the attachment; what leaves their networks gets the node's address */
  addresses: string[] | null = null;
  /** `mac_check`: own link of the node, a port of a bridge */
  link: i64 = ABSENT;
  /** `mac_check`: the only source address that may come in there */
  mac: string | null = null;

  write(w: Writer): void {
    w.text("rule", this.rule);
    w.texts("addresses", this.addresses);
    w.integer("link", this.link);
    w.text("mac", this.mac);
  }
}

/** Whether what nft_apply adds for the same request is there */
export function nftCheck(request: NftCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_nft_check(w.start, w.length));
}

@external("patchbay_1", "nft_ready")
declare function import_nft_ready(request: usize, length: i32): i32;

/** Request of `nft_ready`. */
export class NftReady {

  write(w: Writer): void {
  }
}

/** Whether the node's kernel has nftables, and lets us read them */
export function nftReady(request: NftReady): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_nft_ready(w.start, w.length));
}

@external("patchbay_1", "note_get")
declare function import_note_get(request: usize, length: i32): i32;

/** Request of `note_get`. */
export class NoteGet {
  key: string | null = null;

  write(w: Writer): void {
    w.text("key", this.key);
  }
}

/** Reads a note of this plugin */
export function noteGet(request: NoteGet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_note_get(w.start, w.length));
}

@external("patchbay_1", "note_set")
declare function import_note_set(request: usize, length: i32): i32;

/** Request of `note_set`. */
export class NoteSet {
  key: string | null = null;
  value: string | null = null;

  write(w: Writer): void {
    w.text("key", this.key);
    w.text("value", this.value);
  }
}

/** Keeps a value in the attachment's journal, for a later run of the same plugin */
export function noteSet(request: NoteSet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_note_set(w.start, w.length));
}

@external("patchbay_1", "port_check")
declare function import_port_check(request: usize, length: i32): i32;

/** Request of `port_check`. */
export class PortCheck {

  write(w: Writer): void {
  }
}

/** Whether the ports that port_map gave the attachment still lead to it */
export function portCheck(request: PortCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_port_check(w.start, w.length));
}

@external("patchbay_1", "port_map")
declare function import_port_map(request: usize, length: i32): i32;

export class PortMapMapping {
  protocol: string | null = null;
  /** Port of the node */
  hostPort: i64 = ABSENT;
  /** Port of the pod */
  containerPort: i64 = ABSENT;
  /** Ports in a row */
  length: i64 = ABSENT;
  /** Address of the node that it is for; unspecified (`0.0.0.0`, `::`) for all of that family, absent for all */
  hostIP: string | null = null;

  write(w: Writer): void {
    w.text("protocol", this.protocol);
    w.integer("hostPort", this.hostPort);
    w.integer("containerPort", this.containerPort);
    w.integer("length", this.length);
    w.text("hostIP", this.hostIP);
  }
}

export class PortMapCondition {
  side: string | null = null;
  not: i32 = UNSET;
  network: string | null = null;

  write(w: Writer): void {
    w.text("side", this.side);
    w.flag("not", this.not);
    w.text("network", this.network);
  }
}

/** Request of `port_map`. */
export class PortMap {
  mappings: PortMapMapping[] | null = null;
  /** Addresses of the attachment that the ports lead to, one of a family; with the prefix length of its network */
  addresses: string[] | null = null;
  /** Whose connections get the node's address: those from the pod's own network and from 127.0.0.1, or all */
  snat: string | null = null;
  /** Bit of the packet's mark that `snat` uses */
  markBit: i64 = ABSENT;
  /** Of each family, what a connection has to fulfil; others find the port as if it were not mapped */
  conditions: PortMapCondition[] | null = null;

  write(w: Writer): void {
    const mappings_ = this.mappings;
    if (mappings_) {
      w.beginArray("mappings");
      for (let i = 0; i < mappings_.length; i++) {
        w.beginObject();
        mappings_[i].write(w);
        w.endObject();
      }
      w.endArray();
    }
    w.texts("addresses", this.addresses);
    w.text("snat", this.snat);
    w.integer("markBit", this.markBit);
    const conditions_ = this.conditions;
    if (conditions_) {
      w.beginArray("conditions");
      for (let i = 0; i < conditions_.length; i++) {
        w.beginObject();
        conditions_[i].write(w);
        w.endObject();
      }
      w.endArray();
    }
  }
}

/** Has ports of the node lead to the attachment; again in place of the former ones. A port is one attachment's */
export function portMap(request: PortMap): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_port_map(w.start, w.length));
}

@external("patchbay_1", "route_add")
declare function import_route_add(request: usize, length: i32): i32;

/** Request of `route_add`. */
export class RouteAdd {
  /** Handle of the link */
  link: i64 = ABSENT;
  /** `0.0.0.0/0` or `::/0` for a default route */
  dst: string | null = null;
  gateway: string | null = null;
  /** Address that packets get by preference */
  source: string | null = null;
  /** 0 universe, 253 link, 254 host */
  scope: i64 = ABSENT;
  /** Metric */
  priority: i64 = ABSENT;
  /** 254, main, when absent */
  table: i64 = ABSENT;
  /** Bytes */
  mtu: i64 = ABSENT;
  /** Bytes */
  advmss: i64 = ABSENT;
  /** The gateway is on the link, whatever the routes say */
  onlink: i32 = UNSET;
  /** Who made it: 2 the kernel, 3 boot; 3 when absent */
  protocol: i64 = ABSENT;
  /** `append`: beside one that is there */
  mode: string | null = null;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("dst", this.dst);
    w.text("gateway", this.gateway);
    w.text("source", this.source);
    w.integer("scope", this.scope);
    w.integer("priority", this.priority);
    w.integer("table", this.table);
    w.integer("mtu", this.mtu);
    w.integer("advmss", this.advmss);
    w.flag("onlink", this.onlink);
    w.integer("protocol", this.protocol);
    w.text("mode", this.mode);
  }
}

/** Adds a route over a link. On the node: only to an address of the attachment */
export function routeAdd(request: RouteAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_route_add(w.start, w.length));
}

@external("patchbay_1", "route_delete")
declare function import_route_delete(request: usize, length: i32): i32;

/** Request of `route_delete`. */
export class RouteDelete {
  /** Handle of the link */
  link: i64 = ABSENT;
  /** `0.0.0.0/0` or `::/0` for a default route */
  dst: string | null = null;
  gateway: string | null = null;
  /** Address that packets get by preference */
  source: string | null = null;
  /** 0 universe, 253 link, 254 host */
  scope: i64 = ABSENT;
  /** Metric */
  priority: i64 = ABSENT;
  /** 254, main, when absent */
  table: i64 = ABSENT;
  /** Bytes */
  mtu: i64 = ABSENT;
  /** Bytes */
  advmss: i64 = ABSENT;
  /** The gateway is on the link, whatever the routes say */
  onlink: i32 = UNSET;
  /** Who made it: 2 the kernel, 3 boot; 3 when absent */
  protocol: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("dst", this.dst);
    w.text("gateway", this.gateway);
    w.text("source", this.source);
    w.integer("scope", this.scope);
    w.integer("priority", this.priority);
    w.integer("table", this.table);
    w.integer("mtu", this.mtu);
    w.integer("advmss", this.advmss);
    w.flag("onlink", this.onlink);
    w.integer("protocol", this.protocol);
  }
}

/** Removes a route over a link. One in the pod that the attachment did not make comes back with DEL */
export function routeDelete(request: RouteDelete): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_route_delete(w.start, w.length));
}

@external("patchbay_1", "route_list")
declare function import_route_list(request: usize, length: i32): i32;

/** Request of `route_list`. */
export class RouteList {
  /** Handle of the link */
  link: i64 = ABSENT;
  table: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.integer("table", this.table);
  }
}

/** Lists the routes over a link; those of the kernel's own for local and broadcast addresses are left out */
export function routeList(request: RouteList): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_route_list(w.start, w.length));
}

@external("patchbay_1", "rule_add")
declare function import_rule_add(request: usize, length: i32): i32;

/** Request of `rule_add`. */
export class RuleAdd {
  /** Source */
  from: string | null = null;
  /** Destination */
  to: string | null = null;
  table: i64 = ABSENT;
  /** The next below the lowest when absent; the answer has it */
  priority: i64 = ABSENT;

  write(w: Writer): void {
    w.text("from", this.from);
    w.text("to", this.to);
    w.integer("table", this.table);
    w.integer("priority", this.priority);
  }
}

/** Adds a policy routing rule in the pod */
export function ruleAdd(request: RuleAdd): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_rule_add(w.start, w.length));
}

@external("patchbay_1", "rule_delete")
declare function import_rule_delete(request: usize, length: i32): i32;

/** Request of `rule_delete`. */
export class RuleDelete {
  /** Source */
  from: string | null = null;
  /** Destination */
  to: string | null = null;
  table: i64 = ABSENT;
  /** The next below the lowest when absent; the answer has it */
  priority: i64 = ABSENT;

  write(w: Writer): void {
    w.text("from", this.from);
    w.text("to", this.to);
    w.integer("table", this.table);
    w.integer("priority", this.priority);
  }
}

/** Removes a policy routing rule that the attachment added */
export function ruleDelete(request: RuleDelete): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_rule_delete(w.start, w.length));
}

@external("patchbay_1", "rule_list")
declare function import_rule_list(request: usize, length: i32): i32;

/** Request of `rule_list`. */
export class RuleList {

  write(w: Writer): void {
  }
}

/** Lists the policy routing rules that the attachment added and that are there still */
export function ruleList(request: RuleList): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_rule_list(w.start, w.length));
}

@external("patchbay_1", "sysctl_get")
declare function import_sysctl_get(request: usize, length: i32): i32;

/** Request of `sysctl_get`. */
export class SysctlGet {
  in: string | null = null;
  /** As the manifest lists it: `net/ipv4/conf/<link>/arp_notify` */
  key: string | null = null;
  /** Handle of the link that `<link>` stands for */
  link: i64 = ABSENT;

  write(w: Writer): void {
    w.text("in", this.in);
    w.text("key", this.key);
    w.integer("link", this.link);
  }
}

/** Reads a sysctl that the manifest lists, or that sysctl_set could write */
export function sysctlGet(request: SysctlGet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_sysctl_get(w.start, w.length));
}

@external("patchbay_1", "sysctl_set")
declare function import_sysctl_set(request: usize, length: i32): i32;

/** Request of `sysctl_set`. */
export class SysctlSet {
  in: string | null = null;
  /** As the manifest lists it: `net/ipv4/conf/<link>/arp_notify` */
  key: string | null = null;
  /** Handle of the link that `<link>` stands for */
  link: i64 = ABSENT;
  value: string | null = null;
  /** No failure when this kernel has no such sysctl */
  optional: i32 = UNSET;

  write(w: Writer): void {
    w.text("in", this.in);
    w.text("key", this.key);
    w.integer("link", this.link);
    w.text("value", this.value);
    w.flag("optional", this.optional);
  }
}

/** Writes a sysctl that the manifest lists, and in the pod with `pod:net/*` any that the administrator allows. One of the whole node stays, like the network's objects */
export function sysctlSet(request: SysctlSet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_sysctl_set(w.start, w.length));
}

@external("patchbay_1", "table_find")
declare function import_table_find(request: usize, length: i32): i32;

/** Request of `table_find`. */
export class TableFind {
  /** The lowest number that is good */
  from: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("from", this.from);
  }
}

/** Finds a routing table of the pod that no route, no rule and no VRF uses */
export function tableFind(request: TableFind): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_table_find(w.start, w.length));
}

@external("patchbay_1", "tc_apply")
declare function import_tc_apply(request: usize, length: i32): i32;

/** Request of `tc_apply`. */
export class TcApply {
  /** Handle of the link */
  link: i64 = ABSENT;
  /** `limit`: a token bucket on what leaves over the link; `redirect`: what comes in over it leaves over `to` */
  rule: string | null = null;
  /** `limit`: bytes a second */
  rate: i64 = ABSENT;
  /** `limit`: bytes at once after a pause; at most what passes in 274 s at `rate` */
  burst: i64 = ABSENT;
  /** `limit`: bytes that may wait */
  limit: i64 = ABSENT;
  /** `redirect`: handle of a link that the attachment made */
  to: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("rule", this.rule);
    w.integer("rate", this.rate);
    w.integer("burst", this.burst);
    w.integer("limit", this.limit);
    w.integer("to", this.to);
  }
}

/** Limits what leaves over a link, or sends what comes in over it elsewhere */
export function tcApply(request: TcApply): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_tc_apply(w.start, w.length));
}

@external("patchbay_1", "tc_check")
declare function import_tc_check(request: usize, length: i32): i32;

/** Request of `tc_check`. */
export class TcCheck {
  /** Handle of the link */
  link: i64 = ABSENT;
  /** `limit`: a token bucket on what leaves over the link; `redirect`: what comes in over it leaves over `to` */
  rule: string | null = null;
  /** `limit`: bytes a second */
  rate: i64 = ABSENT;
  /** `limit`: bytes at once after a pause; at most what passes in 274 s at `rate` */
  burst: i64 = ABSENT;
  /** `limit`: bytes that may wait */
  limit: i64 = ABSENT;
  /** `redirect`: handle of a link that the attachment made */
  to: i64 = ABSENT;

  write(w: Writer): void {
    w.integer("link", this.link);
    w.text("rule", this.rule);
    w.integer("rate", this.rate);
    w.integer("burst", this.burst);
    w.integer("limit", this.limit);
    w.integer("to", this.to);
  }
}

/** Whether what tc_apply does for the same request is there */
export function tcCheck(request: TcCheck): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_tc_check(w.start, w.length));
}

@external("patchbay_1", "vf_set")
declare function import_vf_set(request: usize, length: i32): i32;

/** Request of `vf_set`. */
export class VfSet {
  mac: string | null = null;
  /** 0 for none */
  vlan: i64 = ABSENT;
  qos: i64 = ABSENT;
  protocol: string | null = null;
  spoofCheck: i32 = UNSET;
  trust: i32 = UNSET;
  linkState: string | null = null;
  /** Mbit/s; 0 for none */
  minTxRate: i64 = ABSENT;
  /** Mbit/s; 0 for none */
  maxTxRate: i64 = ABSENT;

  write(w: Writer): void {
    w.text("mac", this.mac);
    w.integer("vlan", this.vlan);
    w.integer("qos", this.qos);
    w.text("protocol", this.protocol);
    w.flag("spoofCheck", this.spoofCheck);
    w.flag("trust", this.trust);
    w.text("linkState", this.linkState);
    w.integer("minTxRate", this.minTxRate);
    w.integer("maxTxRate", this.maxTxRate);
  }
}

/** Sets the virtual function that was taken, by its physical function. What it is already is not set again; what it was before is in its record */
export function vfSet(request: VfSet): Answer {
  const w = new Writer();
  w.beginObject();
  request.write(w);
  w.endObject();
  return Answer.take(import_vf_set(w.start, w.length));
}

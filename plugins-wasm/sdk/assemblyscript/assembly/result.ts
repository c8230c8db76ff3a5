import { Answer } from "./answer";
import { ipOf } from "./ip";
import { absent, Json } from "./json";
import { CNI_VERSION, env, stdout } from "./process";
import { ABSENT, Writer } from "./writer";

/** One element of `interfaces`. */
export class Interface {
  mtu: i64 = ABSENT;
  socketPath: string = "";
  /** The PCI address of the device that it is the interface of; "" for none. */
  pciID: string = "";
  constructor(
    public name: string,
    public mac: string,
    /** "" for a link of the node. */
    public sandbox: string,
  ) {}
}

/** One element of `ips`. */
export class Address {
  constructor(
    /** With prefix length. */
    public address: string,
    /** "" for none. */
    public gateway: string,
    /** Index into `interfaces`; -1 when the result does not say. */
    public index: i64,
  ) {}
}

/** One element of `routes`; integers are `ABSENT` when not given. */
export class Route {
  gateway: string = "";
  mtu: i64 = ABSENT;
  advmss: i64 = ABSENT;
  priority: i64 = ABSENT;
  table: i64 = ABSENT;
  scope: i64 = ABSENT;
  constructor(public dst: string) {}

  get isDefault(): bool {
    return this.dst == "0.0.0.0/0" || this.dst == "::/0";
  }

  /** The same route in another table. */
  inTable(table: i64): Route {
    const copy = new Route(this.dst);
    copy.gateway = this.gateway;
    copy.mtu = this.mtu;
    copy.advmss = this.advmss;
    copy.priority = this.priority;
    copy.table = table;
    copy.scope = this.scope;
    return copy;
  }
}

/** A CNI result, built up and then written once by `emit()`. */
export class Result {
  interfaces: Interface[] = [];
  ips: Address[] = [];
  routes: Route[] = [];
  dns: Json = absent;

  /** Names a link of the node. */
  hostLink(link: Json): this {
    this.interfaces.push(new Interface(link.str("name"), link.str("mac"), ""));
    return this;
  }

  /** Names a link in the pod. */
  link(link: Json): this {
    this.interfaces.push(new Interface(link.str("name"), link.str("mac"), env("CNI_NETNS")));
    return this;
  }

  /** Takes addresses, routes and DNS of IPAM's answer; the addresses belong to the interface named last. */
  addresses(ipam: Json): this {
    this.take(ipam);
    for (let i = 0; i < this.ips.length; i++) this.ips[i].index = this.interfaces.length - 1;
    return this;
  }

  /** Takes addresses and routes of another result; the addresses belong to the interface named last. */
  addressesFrom(other: Result): this {
    for (let i = 0; i < other.ips.length; i++) {
      const ip = other.ips[i];
      this.ips.push(new Address(ip.address, ip.gateway, this.interfaces.length - 1));
    }
    for (let i = 0; i < other.routes.length; i++) this.routes.push(other.routes[i]);
    return this;
  }

  /** Adds what a document says, as it says it. */
  private take(doc: Json): void {
    for (let e = doc.arr("interfaces").first; e.here; e = e.next) {
      const known = new Interface(e.str("name"), e.str("mac"), e.str("sandbox"));
      known.mtu = e.int("mtu", ABSENT);
      known.socketPath = e.str("socketPath");
      known.pciID = e.str("pciID");
      this.interfaces.push(known);
    }
    for (let e = doc.arr("ips").first; e.here; e = e.next) {
      this.ips.push(new Address(e.str("address"), e.str("gateway"), e.int("interface", -1)));
    }
    for (let e = doc.arr("routes").first; e.here; e = e.next) {
      const route = new Route(e.str("dst"));
      route.gateway = e.str("gw");
      route.mtu = e.int("mtu", ABSENT);
      route.advmss = e.int("advmss", ABSENT);
      route.priority = e.int("priority", ABSENT);
      route.table = e.int("table", ABSENT);
      route.scope = e.int("scope", ABSENT);
      this.routes.push(route);
    }
    this.dns = doc.obj("dns");
  }

  /** Reads a result such as `prevResult`. */
  static of(doc: Json): Result {
    const result = new Result();
    result.take(doc);
    return result;
  }

  /** The first gateway of a family among the addresses of an interface; "" for none. */
  gateway(family: i32): string {
    for (let i = 0; i < this.ips.length; i++) {
      const ip = this.ips[i];
      if (ip.index >= 0 && ip.gateway != "" && ipOf(ip.gateway, "a gateway").family == family) return ip.gateway;
    }
    return "";
  }

  /** Puts the configuration's `dns` in the place of IPAM's, if it says anything. */
  preferDns(dns: Json): this {
    if (dns.arr("nameservers").exists || dns.arr("search").exists || dns.arr("options").exists || dns.str("domain") != "") {
      this.dns = dns;
    }
    return this;
  }

  /** Writes the result: the one document that the run answers. */
  emit(): void {
    const out = new Writer();
    out.beginObject();
    out.text("cniVersion", CNI_VERSION);
    if (this.interfaces.length > 0) {
      out.beginArray("interfaces");
      for (let i = 0; i < this.interfaces.length; i++) {
        const e = this.interfaces[i];
        out.beginObject();
        out.text("name", e.name);
        if (e.mac != "") out.text("mac", e.mac);
        out.integer("mtu", e.mtu);
        if (e.sandbox != "") out.text("sandbox", e.sandbox);
        if (e.socketPath != "") out.text("socketPath", e.socketPath);
        if (e.pciID != "") out.text("pciID", e.pciID);
        out.endObject();
      }
      out.endArray();
    }
    this.writeAddresses(out);
    this.writeRoutes(out);
    if (this.dns.first.here) this.dns.copyTo(out, "dns");
    out.endObject();
    stdout(out);
  }

  private writeAddresses(out: Writer): void {
    if (this.ips.length == 0) return;
    out.beginArray("ips");
    for (let i = 0; i < this.ips.length; i++) {
      const e = this.ips[i];
      out.beginObject();
      if (e.index >= 0) out.integer("interface", e.index);
      out.text("address", e.address);
      if (e.gateway != "") out.text("gateway", e.gateway);
      out.endObject();
    }
    out.endArray();
  }

  private writeRoutes(out: Writer): void {
    if (this.routes.length == 0) return;
    out.beginArray("routes");
    for (let i = 0; i < this.routes.length; i++) {
      const e = this.routes[i];
      out.beginObject();
      out.text("dst", e.dst);
      if (e.gateway != "") out.text("gw", e.gateway);
      out.integer("mtu", e.mtu);
      out.integer("advmss", e.advmss);
      out.integer("priority", e.priority);
      out.integer("table", e.table);
      out.integer("scope", e.scope);
      out.endObject();
    }
    out.endArray();
  }

  /** Writes what the plugin before answered, but with the addresses and routes of this result. */
  emitOver(previous: Json): void {
    const out = new Writer();
    out.beginObject();
    for (let e = previous.first; e.here; e = e.next) {
      if (e.key != "ips" && e.key != "routes") e.copyTo(out, e.key);
    }
    this.writeAddresses(out);
    this.writeRoutes(out);
    out.endObject();
    stdout(out);
  }
}

/** An empty result. */
export function result(): Result {
  return new Result();
}

/** Answers with what the plugin before answered, unchanged. */
export function emitPrevious(previous: Json): void {
  const out = new Writer();
  previous.copyTo(out, null);
  stdout(out);
}

// What the runtime asks for, checked: the host has written each mapping in one form already.
import { decimal, fail, Json, parseIp, PortMapMapping } from "../../sdk/assemblyscript/assembly";

const LAST_PORT = 65535;
const MAX_PORTS = 1024;

export class Mapping {
  constructor(
    public protocol: string,
    public hostPort: i64,
    public containerPort: i64,
    public length: i64,
    /** "" for all of the node's addresses. */
    public hostIP: string,
    /** 0 for both. */
    public family: i32,
  ) {}

  /** Whether it is for every address of its family, or of both. */
  get isEverywhere(): bool {
    return this.hostIP == "" || this.hostIP == "0.0.0.0" || this.hostIP == "::";
  }

  /** As messages name it. */
  get name(): string {
    const last = this.length > 1 ? "-" + decimal(this.hostPort + this.length - 1) : "";
    const where = this.hostIP == "" ? "" : ' of "' + this.hostIP + '"';
    return "port " + decimal(this.hostPort) + last + "/" + this.protocol + where;
  }

  toRequest(): PortMapMapping {
    return {
      protocol: this.protocol,
      hostPort: this.hostPort,
      containerPort: this.containerPort,
      length: this.length,
      hostIP: this.hostIP == "" ? null : this.hostIP,
    };
  }

  /** Whether some packet could mean both. */
  meets(other: Mapping): bool {
    if (this.protocol != other.protocol) return false;
    if (this.hostPort >= other.hostPort + other.length || other.hostPort >= this.hostPort + this.length) return false;
    if (this.family != 0 && other.family != 0 && this.family != other.family) return false;
    return this.isEverywhere || other.isEverywhere || this.hostIP == other.hostIP;
  }

  /** Whether it says all that the other one says. */
  covers(other: Mapping): bool {
    if (this.protocol != other.protocol || this.containerPort - this.hostPort != other.containerPort - other.hostPort) return false;
    if (this.hostPort > other.hostPort || this.hostPort + this.length < other.hostPort + other.length) return false;
    if (!this.isEverywhere) return this.hostIP == other.hostIP;
    return this.family == 0 || this.family == other.family;
  }
}

function read(e: Json): Mapping {
  const hostIP = e.str("hostIP");
  let family = 0;
  if (hostIP != "") {
    const ip = parseIp(hostIP);
    if (ip) family = ip.family;
  }
  const mapping = new Mapping(e.str("protocol"), e.int("hostPort"), e.int("containerPort"), e.int("length", 1), hostIP, family);
  const protocol = mapping.protocol;
  if (protocol != "tcp" && protocol != "udp" && protocol != "sctp") {
    fail(7, "Cannot map " + mapping.name + ': "' + protocol + '" is no protocol with ports', 'Use "tcp", "udp" or "sctp"');
  }
  const last = (mapping.hostPort > mapping.containerPort ? mapping.hostPort : mapping.containerPort) + mapping.length - 1;
  if (last > LAST_PORT) {
    fail(7, "Cannot map " + mapping.name + ": the range ends behind port 65535", 'Correct "length"');
  }
  return mapping;
}

/** The mappings, each once. Two that lead the same packet to different ports are an error. */
export function readMappings(list: Json): Mapping[] {
  const mappings: Mapping[] = [];
  let total: i64 = 0;
  for (let e = list.first; e.here; e = e.next) {
    const next = read(e);
    let known = false;
    for (let i = 0; i < mappings.length && !known; i++) {
      const other = mappings[i];
      if (!other.meets(next)) continue;
      if (other.covers(next)) known = true;
      else if (next.covers(other)) {
        total -= other.length;
        mappings.splice(i--, 1);
      } else {
        fail(7, "Cannot map " + next.name + " to " + decimal(next.containerPort) + ": the pod maps " + other.name + " to " + decimal(other.containerPort), "Map each port of the node once");
      }
    }
    if (known) continue;
    mappings.push(next);
    total += next.length;
  }
  if (total > MAX_PORTS) {
    fail(7, "Cannot map " + decimal(total) + " ports to one pod: 1024 are the most", 'Correct "length"');
  }
  return mappings;
}

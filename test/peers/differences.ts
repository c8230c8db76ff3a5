/**
 * Differences from the reference plugins that are allowed. Each has a heading in docs/differences.md, and a story that
 * shows it: one that no story shows any more fails the suite.
 */
import type { Part } from "../support/peers.ts";

export interface Difference {
  /** The heading in docs/differences.md. */
  readonly heading: string;
  /** Of stories, by what they are about; all unless told. */
  readonly stories?: RegExp;
  /** Lines of `differences()`: "-" is the reference's, "+" ours. */
  readonly line: RegExp;
  /** Which release shows it; both unless told. */
  readonly only?: Part;
  /** Shown by the stories that are told in the guests of `test/vm`. */
  readonly guest?: true;
}

const link = "<veth of [^>]*>";

export const allowed: readonly Difference[] = [
  { heading: "Lengths of queues", line: new RegExp(`node links: ${link} txqlen: 1000$`) },
  { heading: "Lengths of queues", only: "debian-cni", line: /pod1? links: (eth0|net1) txqlen: 1000$/ },
  { heading: "Lengths of queues", stories: /^bandwidth/, line: /node links: <queue> txqlen: 32$/ },
  {
    heading: "Lengths of queues",
    stories: /queueing discipline/,
    line: /the queue is as it was: seen: /,
  },
  {
    heading: "DEL forgives its configuration",
    stories: /refused: |parent gone/,
    line: / DEL: answer: exit: failed beside 0/,
  },
  {
    heading: "What is refused is refused first",
    stories: /refused: a MAC address that is none/,
    line: /^- 2 DEL: node .*\bbr0\b/,
  },
  {
    heading: "CHECK sees routes of all tables and by several gateways",
    stories: /priority and table|two gateways/,
    line: / CHECK: answer: exit: failed beside 0/,
  },
  {
    heading: "CHECK sees routes of all tables and by several gateways",
    stories: /the priority of a route/,
    line: / CHECK: answer: exit: 0 beside failed/,
  },
  {
    heading: "CHECK bears a bridge that somebody listens on",
    stories: /bridge's promiscuity/,
    line: / CHECK: answer: exit: failed beside 0/,
  },
  { heading: "DEL removes what ADD made", stories: /tampering with the kind/, line: /^\+ 4 DEL: pod / },
  { heading: "DEL without the pod's namespace", stories: /gone, and held/, line: /^[-+] 3 DEL: node / },
  {
    heading: "Routes without a gateway",
    stories: /routes with scope/,
    line: /^[-+] 1 ADD: pod routes: .*198\.51\.100/,
  },
  {
    heading: "Routes without a gateway",
    stories: /only a route reaches/,
    line: / ADD: answer: exit: failed beside 0/,
  },
  { heading: "mtu and advmss of routes", stories: /mtu and advmss/, line: /^\+ 1 ADD: pod metrics: / },
  { heading: "The IPv6 gateway of ptp", stories: /^ptp/, line: /: node (addresses|routes): .*fd00:9::1\b/ },
  { heading: "The IPv6 gateway of ptp", stories: /gateway answers/, line: /fd00:9::1 at once: seen: / },
  {
    heading: "loopback in the versions before 1.0.0",
    stories: /^loopback, version 0/,
    line: / ADD: answer: (interfaces|ips|ip4|ip6): /,
  },
  { heading: "macvlan without its address", stories: /nobody calls DEL/, line: /the pod is as it was: seen: / },
  {
    heading: "Limits on a link of others",
    stories: /^bandwidth/,
    line: /^- \d DEL: node qdiscs: (cali[01]|<veth of \w+>) (root|ffff:fff1): /,
  },
  { heading: "Older versions of CNI", stories: /VERSION$/, line: / VERSION: versions: supported: / },
  { heading: "A queue for each interface", stories: /two interfaces/, line: /^2 ADD: answer: exit: failed beside 0/ },
  { heading: "A queue for each interface", stories: /^bandwidth, two interfaces/, line: /^[-+] [34] DEL: node / },
  {
    heading: "CHECK looks at both limits and at what leads to them",
    stories: /^bandwidth, CHECK after tampering/,
    line: / CHECK: answer: exit: 0 beside failed/,
  },
  {
    heading: "Bursts beyond 32 bits",
    stories: /containerd writes them|the longest burst/,
    line: /^[-+] 1 ADD: node qdiscs: cali0 root: /,
  },
  {
    heading: "Sysctls come back",
    stories: /^tuning/,
    line: /^[-+] \d DEL: pod sysctls: net\/ipv[46]\/conf\/(all|eth0)\/(log_martians|arp_announce|hop_limit): /,
  },
  { heading: "A second ADD", stories: /^tuning, ADD twice/, line: /^2 ADD: answer: exit: 0 beside failed/ },
  {
    heading: "A second ADD",
    stories: /^tuning, ADD twice/,
    line: /^[-+] 3 DEL: pod (links|sysctls): .*\bmtu: 1[45]00$/,
  },
  { heading: "The MTU in the result", stories: /^tuning/, line: /^[-+] \d ADD: answer: interfaces: / },
  {
    heading: "Sysctls that only the pod asks for",
    stories: /args without a list/,
    line: /^\d (ADD|CHECK|DEL): answer: exit: failed beside 0/,
  },
  {
    heading: "CHECK reads what it compares",
    stories: /^tuning, (a sysctl with several numbers|CHECK with somebody)/,
    line: / CHECK: answer: exit: failed beside 0/,
  },
  {
    heading: "A tap that was not finished",
    stories: /^tap, (ADD twice|refused: )/,
    line: /^- [23] DEL: pod (links|sysctls|kinds): .*<veth of nothing>/,
  },
  {
    heading: "CHECK of tap looks at the link",
    stories: /^tap, CHECK after tampering with the MAC address/,
    line: / CHECK: answer: exit: 0 beside failed/,
  },
  {
    heading: "CHECK of ipvlan without master",
    guest: true,
    stories: /^ipvlan, (the default route's device|in a chain)/,
    line: /^2 CHECK: answer: exit: failed beside 0/,
  },
  {
    heading: "DEL of vlan and ipvlan without what they were on",
    guest: true,
    stories: /the parent gone$|no default route/,
    line: / DEL: answer: exit: failed beside 0/,
  },
  { heading: "GC", stories: /GC of a pod/, line: / ADD of pod 1: answer: exit: failed beside 0/ },
  {
    heading: "Debian's release is of 2022",
    only: "debian-cni",
    line: /net\/ipv6\/conf\/eth0\/(keep_addr_on_down|ndisc_notify): [01]$/,
  },
  {
    heading: "Debian's release is of 2022",
    only: "debian-cni",
    stories: /^tuning, (sysctls|behind bridge)/,
    line: / CHECK: answer: exit: failed beside 0/,
  },
  { heading: "Debian's release is of 2022", only: "debian-cni", stories: /^bridge/, line: /^\+ 1 ADD: answer: dns: / },
  { heading: "sbr says where the routes are", stories: /^sbr/, line: / ADD: answer: routes: / },
  { heading: "DEL of sbr gives the routes back", stories: /^sbr/, line: / DEL: pod routes: table (main|10\d): / },
  {
    heading: "DEL of sbr needs neither namespace nor interface",
    stories: /^sbr, the (pod's namespace|interface) gone/,
    line: / DEL: (answer: exit: failed beside 0|pod rules: )/,
  },
  {
    heading: "CHECK of sbr",
    stories: /^sbr, tampered/,
    line: / CHECK: answer: exit: 0 beside failed/,
  },
  {
    heading: "Routes of one family stay with its addresses",
    stories: /^sbr/,
    line: /^- \d ADD: pod routes: table 100: unicast fd00:9::\/64 /,
  },
  {
    heading: "sbr loses no route",
    stories: /^sbr, a default route that stands on no subnet/,
    line: /^\+ 1 ADD: pod routes: table 100: unicast default /,
  },
  {
    heading: "gateways and addSourceHints",
    stories: /^sbr, (gateways|source hints)/,
    line: / ADD: pod routes: table (main|100): /,
  },
  {
    heading: "Packets that are dropped elsewhere",
    stories: /^firewall, refused: .* drops/,
    line: / ADD: answer: exit: 0 beside failed/,
  },
  {
    heading: "What firewall does not know is refused",
    stories: /^firewall, refused: a backend/,
    line: / ADD: answer: exit: 0 beside failed/,
  },
  {
    heading: "Firewall rules belong to an attachment",
    stories: /^firewall, (an address that is used again|DEL without the result)/,
    line: /CNI-FORWARD accepts from 10\.9\.0\.2: seen: /,
  },
  {
    heading: "Pods of one bridge kept apart",
    stories: /^firewall, isolated/,
    line: /node kinds: <veth of br[89]> info_slave_data isolated: (true|false)$/,
  },
  {
    heading: "A policy goes with its last pod",
    stories: /^firewall, a policy of pods that have gone/,
    line: /pod 0 reaches 10\.8\.0\.3: seen: /,
  },
  {
    heading: "127.0.0.1 where a port can mean it",
    stories: /^portmap, /,
    line: /sysctls: net\/ipv4\/conf\/(uplink|br0)\/route_localnet: [01]$/,
  },
  {
    heading: "A port of the node is one pod's",
    stories: /^portmap, a port that another pod has/,
    line: / ADD of pod 1: answer: exit: 0 beside failed/,
  },
  {
    heading: "Ports that lead nowhere",
    stories: /^portmap, (a pod without an address|an address of a family that the pod lacks)/,
    line: / ADD: answer: exit: 0 beside failed/,
  },
  {
    heading: "Port 0 of the node",
    stories: /^portmap, port 0 of the node/,
    line: / (ADD|DEL): answer: exit: failed beside 0/,
  },
  {
    heading: "Debian's release is of 2022",
    only: "debian-cni",
    stories: /^portmap, /,
    line: / CHECK: answer: exit: failed beside 0/,
  },
  {
    heading: "externalSetMarkChain",
    stories: /^portmap, a chain of iptables for marks/,
    line: /node asks tcp 127\.0\.0\.1 8080 .*: seen: /,
  },
  {
    heading: "Neighbours of a pod with ports",
    stories: /^portmap, nftables/,
    line: /pod1 asks .*: seen: /,
  },
  {
    heading: "Conditions of ports are addresses",
    stories: /^portmap, refused: another condition/,
    line: / (ADD): answer: exit: 0 beside failed/,
  },
  {
    heading: "UDP flows of ports",
    stories: /^portmap, a flow that outlives its pod/,
    line: /the flow is known: seen: /,
  },
  { heading: "Ranges of ports", stories: /^portmap, a range/, line: /asks tcp 192\.0\.2\.10 8081 .*: seen: / },
  {
    heading: "host-device is deleted as often as one likes",
    stories: /^host-device/,
    line: / DEL( of pod 1)?: answer: exit: failed beside 0/,
  },
  {
    heading: "host-device without its address",
    stories: /^host-device, IPAM fails/,
    line: /the device is at home: seen: /,
  },
  { heading: "A device goes home up", stories: /^host-device, up before/, line: / DEL: node links: dev0 flags: / },
];

/**
 * Headings about dhcp, whose stories need a server. `dhcp.test.ts` tells the first four; of the rest
 * `test/netns/dhcp-renewal.test.ts` and `test/netns/dhcp.test.ts` show what ours does.
 */
export const dhcpHeadings = {
  requested: "What dhcp asks for",
  dns: "Name servers by DHCP",
  released: "DHCP leases are given back by every plugin",
  onLink: "CHECK of a route on the link",
  restart: "dhcp and a restart",
  namespaces: "dhcp and namespaces",
  refused: "A refused renewal",
} as const;

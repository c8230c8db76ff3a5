// vlan: an interface of the pod for the frames with one VLAN tag of a link of the node.
import {
  ABSENT,
  addressesOf,
  checkAddresses,
  checkIpam,
  checkOnParent,
  checkRoutes,
  conf,
  configureInterface,
  decimal,
  differs,
  fail,
  gcOfIpam,
  ipamAdd,
  linkCreate,
  mtuOn,
  needAddresses,
  needIpam,
  openParent,
  plugin,
  podInterface,
  previousResult,
  result,
  statusOfIpam,
} from "../../sdk/assemblyscript/assembly";

function needMaster(): string {
  const master = conf().str("master");
  if (master == "") fail(7, 'Cannot make a VLAN: "master" is missing', 'Name the link that has the VLAN in "master"');
  return master;
}

function add(): void {
  const master = needMaster();
  needIpam();
  const parent = openParent(master).must();
  const mtu = mtuOn(parent);
  if (!parent.bool("up")) {
    fail(221, 'Cannot bring up a VLAN of "' + master + '": that link is down', 'Bring "' + master + '" up');
  }
  const vlan = conf().int("vlanId");
  const link = linkCreate({
    kind: "vlan",
    "in": "pod",
    parent: parent.link,
    vlan: vlan,
    mtu: mtu > 0 ? mtu : ABSENT,
  });
  if (link.failed && link.str("details").startsWith("EEXIST") && link.str("msg").includes("VLAN device")) {
    fail(
      220,
      "Cannot give the pod VLAN " + decimal(vlan) + ' of "' + master + '": another link, here or in another pod, has it',
      "A VLAN of a link can be had once: put a bridge or macvlan on it to share it, or choose another",
    );
  }
  const answer = result().link(link.must()).addresses(needAddresses(ipamAdd({})));
  configureInterface(link, answer);
  answer.dns = conf().obj("dns");
  answer.emit();
}

function check(): void {
  checkIpam();
  const before = previousResult();
  const inPod = podInterface(before);
  const link = checkOnParent(before.interfaces[inPod], "vlan", openParent(needMaster()));
  const vlan = conf().int("vlanId");
  const found = link.obj("data").int("vlanId", vlan);
  if (found != vlan) {
    differs('interface "' + link.str("name") + '" is of VLAN ' + decimal(found) + ", expected " + decimal(vlan));
  }
  const mtu = conf().int("mtu");
  if (mtu > 0 && link.int("mtu") != mtu) {
    differs('interface "' + link.str("name") + '" has the MTU ' + decimal(link.int("mtu")) + ", expected " + decimal(mtu));
  }
  checkAddresses(link, addressesOf(before, inPod));
  checkRoutes(link, before);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

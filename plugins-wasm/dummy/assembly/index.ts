// dummy: an interface that carries addresses and no traffic.
import {
  addressesOf,
  checkAddresses,
  checkIpam,
  checkLink,
  checkRoutes,
  checkUp,
  configureInterface,
  gcOfIpam,
  ipamAdd,
  linkCreate,
  needAddresses,
  needIpam,
  plugin,
  podInterface,
  previousResult,
  result,
  statusOfIpam,
} from "../../sdk/assemblyscript/assembly";

function add(): void {
  needIpam();
  const link = linkCreate({ kind: "dummy", "in": "pod" }).must();
  const answer = result().link(link).addresses(needAddresses(ipamAdd({})));
  configureInterface(link, answer);
  answer.emit();
}

function check(): void {
  checkIpam();
  const before = previousResult();
  const inPod = podInterface(before);
  const link = checkLink("pod", before.interfaces[inPod], "dummy");
  checkUp(link);
  checkAddresses(link, addressesOf(before, inPod));
  checkRoutes(link, before);
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam }); // no del: the journal undoes what ADD made

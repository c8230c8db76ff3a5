// host-device: a device of the node becomes the pod's interface, and goes home with DEL.
import {
  Answer,
  checkDevice,
  conf,
  configureInterface,
  deviceInfo,
  deviceInterface,
  deviceTake,
  gcOfIpam,
  hasIpam,
  ipamAdd,
  linkConfigure,
  moveIn,
  needAddresses,
  plugin,
  Result,
  statusOfIpam,
} from "../../sdk/assemblyscript/assembly";

function add(): void {
  const device = deviceTake({}).must();
  let link: Answer | null = null;
  if (!device.bool("program")) link = moveIn(device);
  deviceInfo({}).must();

  const result = new Result();
  result.interfaces.push(deviceInterface(device, link, link ? link.str("mac") : ""));
  if (hasIpam()) {
    result.addresses(needAddresses(ipamAdd({})));
    result.dns = conf().obj("dns");
    if (link) configureInterface(link, result);
  } else if (link) {
    linkConfigure({ link: link.link }).must();
  }
  result.emit();
}

function check(): void {
  checkDevice();
}

plugin(add, { check: check, status: statusOfIpam, gc: gcOfIpam });

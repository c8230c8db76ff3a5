// What plugins share that borrow a device of the node for the pod.
import { Answer } from "./answer";
import { deviceGet, linkMove } from "./calls.generated";
import { checkAddresses, checkIpam, checkRoutes, differs, addressesOf, podInterface, previousResult } from "./check";
import { Json } from "./json";
import { env, fail, ifname } from "./process";
import { Interface, Result } from "./result";

/** Moves the interface of a device that was taken into the pod, under the name that was asked for. */
export function moveIn(device: Json): Answer {
  const link = device.obj("link");
  if (!link.exists) {
    fail(
      7,
      'Cannot move device "' + device.str("id") + '" into the pod: it has no interface',
      "Bind it to its network driver, or to one for programs in the pod such as vfio-pci",
    );
  }
  return linkMove({ link: link.int("link"), to: "pod", name: ifname() }).must();
}

/** The interface of a result that stands for the device. @param link Absent for a device that a program drives. */
export function deviceInterface(device: Json, link: Json | null, mac: string): Interface {
  const shown = new Interface(link ? link.str("name") : ifname(), mac, env("CNI_NETNS"));
  if (device.str("bus") == "pci") shown.pciID = device.str("id");
  return shown;
}

/** CHECK of a borrowed device: it is the attachment's, and its interface is in the pod with what the result says. */
export function checkDevice(): Answer {
  checkIpam();
  const before: Result = previousResult();
  const inPod = podInterface(before);
  const expected = before.interfaces[inPod];
  const device = deviceGet({}).must();
  if (!device.bool("taken")) differs('the device "' + device.str("id") + '" is no longer the pod\'s');
  if (device.bool("program")) return device;

  const link = device.obj("link");
  const name = expected.name;
  if (!link.exists) differs('interface "' + name + '" is not there: the device has no interface in the pod');
  if (link.str("name") != name) differs('the device is called "' + link.str("name") + '", expected "' + name + '"');
  const mac = link.str("mac");
  if (expected.mac != "" && expected.mac != mac) {
    differs('interface "' + name + '" has MAC address "' + mac + '", expected "' + expected.mac + '"');
  }
  if (!link.bool("up")) differs('interface "' + name + '" is down');
  checkAddresses(link, addressesOf(before, inPod));
  checkRoutes(link, before);
  return device;
}

// What plugins share that make an interface of the pod on another link, the parent: `master` of the configuration.
import { Answer } from "./answer";
import { linkOpen } from "./calls.generated";
import { checkLink, differs } from "./check";
import { Json } from "./json";
import { conf } from "./plugin";
import { fail } from "./process";
import { Interface } from "./result";
import { decimal } from "./writer";

/**
 * Opens the link to build upon. It is in the pod when `linkInContainer` says so.
 *
 * @param name "" for the link of the default route.
 */
export function openParent(name: string): Answer {
  const place = conf().bool("linkInContainer") ? "pod" : "host";
  return name == "" ? linkOpen({ "in": place, defaultRoute: 1 }) : linkOpen({ "in": place, name: name });
}

/** `mtu` of the configuration, 0 for the parent's. More than the parent's is an error: what is larger would be lost. */
export function mtuOn(parent: Json): i64 {
  const mtu = conf().int("mtu");
  const most = parent.int("mtu");
  if (mtu < 0 || mtu > most) {
    fail(
      7,
      'Cannot use "mtu" ' + decimal(mtu) + ": expected 0 to " + decimal(most) + ', the MTU of "' + parent.str("name") + '"',
      'Lower "mtu", or leave it out to have that of "master"',
    );
  }
  return mtu;
}

/**
 * The pod's interface: it has to be there, of a kind, up, and on the parent.
 *
 * @param parent As `openParent()` answers; null where nobody can tell any more which it was.
 */
export function checkOnParent(expected: Interface, kind: string, parent: Answer | null): Answer {
  if (parent != null && parent.failed) {
    differs('the link that "master" names is not there: ' + parent.str("msg"));
  }
  const link = checkLink("pod", expected, kind);
  if (parent != null && link.int("parent") != parent.int("index")) {
    differs('interface "' + link.str("name") + '" is not on "' + parent.str("name") + '"');
  }
  checkUp(link);
  return link;
}

/** The interface must have the mode that the configuration names. */
export function checkMode(link: Answer, wanted: string): void {
  const mode = link.obj("data").str("mode", wanted);
  if (mode == wanted) return;
  differs('interface "' + link.str("name") + '" has the mode "' + mode + '", expected "' + wanted + '"');
}

export function checkUp(link: Answer): void {
  if (!link.bool("up")) differs('interface "' + link.str("name") + '" is down');
}

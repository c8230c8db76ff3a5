// A guest for tests: does with its configuration what CNI_COMMAND asks, and answers what it got.
import {
  cidrOf,
  cniArg,
  conf,
  env,
  fail,
  linkCreate,
  parseCidr,
  parseIp,
  plugin,
  requestedMac,
  stderr,
  sysctlGet,
  Writer,
} from "../../../assembly";
import { stdout } from "../../../assembly/process";

function answer(name: string, value: string): void {
  const out = new Writer();
  out.beginObject();
  out.text(name, value);
  out.endObject();
  stdout(out);
}

function add(): void {
  const what = conf().str("do");
  if (what == "int") {
    const out = new Writer();
    out.beginObject();
    out.integer("value", conf().int("value", -7));
    out.endObject();
    stdout(out);
  } else if (what == "bool") answer("value", conf().bool("value", true) ? "yes" : "no");
  else if (what == "str") answer("value", conf().str("value", "none"));
  else if (what == "deep") answer("value", conf().obj("a").obj("b").arr("c").first.str("d"));
  else if (what == "ip") {
    const ip = parseIp(conf().str("value"));
    answer("value", ip ? ip.toString() : "none");
  } else if (what == "cidr") {
    const cidr = parseCidr(conf().str("value"));
    answer("value", cidr ? cidr.toString() + " " + cidr.network.toString() + " " + cidr.network.next().toString() : "none");
  } else if (what == "contains") {
    const inner = cidrOf(conf().str("ip") + "/32", "an address").ip;
    answer("value", cidrOf(conf().str("value"), "a subnet").contains(inner) ? "yes" : "no");
  } else if (what == "env") answer("value", env(conf().str("value")));
  else if (what == "arg") answer("value", cniArg(conf().str("value")));
  else if (what == "mac") answer("value", requestedMac(conf().str("mac"), conf().bool("args")));
  else if (what == "fail") fail(203, 'Cannot do "it"\n', "Do\tsomething else");
  else if (what == "abort") unchecked(new Array<i32>(1)).at(5);
  else if (what == "throw") throw new Error("on purpose");
  else if (what == "call") linkCreate({ kind: "dummy", "in": "pod", mtu: 1500 }).must();
  else if (what == "code") answer("value", sysctlGet({ key: "net/x" }).str("msg"));
  else if (what == "log") stderr("one line");
}

plugin(add);

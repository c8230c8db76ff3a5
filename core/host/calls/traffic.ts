/** What may leave over a link of the node, and where what comes in over it goes. */
import { CniError, Code } from "../../base/error.ts";
import { KernelError, type TokenBucket } from "../../kernel/kernel.ts";
import type { Target } from "../../policy/decide.ts";
import type { Keys, ValueOfKeys } from "../../policy/schema.ts";
import { Errno } from "../../sys/error.ts";
import { creating, hostCall } from "../call.ts";
import type { GuestContext } from "../context.ts";
import type { LinkHandle } from "../handles.ts";
import { bad, handle } from "./link-common.ts";

const u32 = { type: "integer", min: 1, max: 4_294_967_295 } as const;
const request = {
  link: handle,
  rule: {
    type: "string",
    enum: ["limit", "redirect"],
    required: true,
    doc: "`limit`: a token bucket on what leaves over the link; `redirect`: what comes in over it leaves over `to`",
  },
  rate: { type: "integer", min: 1, doc: "`limit`: bytes a second" },
  burst: { ...u32, doc: "`limit`: bytes at once after a pause; at most what passes in 274 s at `rate`" },
  limit: { ...u32, doc: "`limit`: bytes that may wait" },
  to: { type: "integer", min: 1, doc: "`redirect`: handle of a link that the attachment made" },
} as const satisfies Keys;
type Request = ValueOfKeys<typeof request>;

/** The kernel is told a burst by its time at the rate, in 32 bits of ticks of 64 ns. */
const TICKS_PER_US = 15.625;
const MOST_TICKS = 0xffff_ffff;

/** In whole microseconds first, as every tool that speaks of token buckets to Linux rounds. */
function bucketOf(r: Request): TokenBucket {
  const { rate, burst, limit } = r;
  if (rate === undefined) throw bad("tc_apply", "rate", "expected bytes a second");
  if (burst === undefined) throw bad("tc_apply", "burst", "expected bytes");
  if (limit === undefined) throw bad("tc_apply", "limit", "expected bytes");
  const microseconds = Math.floor((burst * 1e6) / rate);
  if (microseconds === 0) throw bad("tc_apply", "burst", "it is used up within 1 µs at this rate");
  return { rate, limit, buffer: Math.min(Math.floor(microseconds * TICKS_PER_US), MOST_TICKS) };
}

/** Both links of a redirection. */
function redirection(guest: GuestContext, r: Request): { readonly from: LinkHandle; readonly to: LinkHandle } {
  if (r.to === undefined) throw bad("tc_apply", "to", "expected the handle of a link");
  const [from, to] = [guest.handles.link(r.link), guest.handles.link(r.to)];
  if (!guest.goesWithLink(to) || to.in !== from.in) {
    throw bad("tc_apply", "to", "expected a link of the same namespace that the attachment made");
  }
  if (to.index === from.index) throw bad("tc_apply", "to", "expected another link");
  return { from, to };
}

const targets = (guest: GuestContext, r: Request): readonly Target[] =>
  [r.link, ...(r.to === undefined ? [] : [r.to])].map((number) => guest.handles.link(number).target);

export const tcApply = hostCall({
  name: "tc_apply",
  operations: creating,
  roles: ["own", "peer"],
  doc: "Limits what leaves over a link, or sends what comes in over it elsewhere",
  request,
  answer: {},
  targets,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const kernel = guest.kernel(link.in);
    const { index, name, mac } = link;
    let effect: () => void;
    if (r.rule === "limit") {
      const bucket = bucketOf(r);
      effect = () => kernel.limitRate(index, bucket);
    } else {
      const { to } = redirection(guest, r);
      effect = () => kernel.redirectIngress(index, to.index);
    }
    const undo = guest.goesWithLink(link)
      ? undefined
      : guest.intend({ do: "tc", in: link.in, link: { name, index, mac }, rule: r.rule });
    try {
      effect();
    } catch (thrown) {
      if (!(thrown instanceof KernelError) || thrown.errno !== Errno.EEXIST) throw thrown;
      if (undo !== undefined) guest.undone(undo); // what is there is another's, and stays
      const what = r.rule === "limit" ? "a queueing discipline" : "filters on what comes in";
      throw new CniError(Code.Kernel, `Cannot apply the rule "${r.rule}" to "${name}": it has ${what} already`, {
        remedy: `EEXIST (17): see who made it with: tc qdisc show dev ${name}`,
        cause: thrown,
      });
    }
    return {};
  },
});

export const tcCheck = hostCall({
  name: "tc_check",
  operations: ["ADD", "CHECK"],
  roles: ["own", "peer"],
  doc: "Whether what tc_apply does for the same request is there",
  request,
  answer: { present: { type: "boolean", required: true } },
  targets,
  run(guest, r) {
    const link = guest.handles.link(r.link);
    const kernel = guest.kernel(link.in);
    if (r.rule === "redirect") {
      return { present: kernel.ingressRedirect(link.index) === redirection(guest, r).to.index };
    }
    const [wanted, found] = [bucketOf(r), kernel.rateLimit(link.index)];
    return {
      present: found?.rate === wanted.rate && found.limit === wanted.limit && found.buffer === wanted.buffer,
    };
  },
});

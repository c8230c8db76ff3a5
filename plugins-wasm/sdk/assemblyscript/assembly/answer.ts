import { Json, parse } from "./json";
import { exit, stdout } from "./process";
import { Writer } from "./writer";

@external("patchbay_1", "answer_read")
declare function answer_read(to: usize, capacity: i32): i32;

/** What a host call answered: its document, or, when it failed, a CNI error that can be passed on as it is. */
export class Answer extends Json {
  failed: bool = false;
  private document: usize = 0;
  private length: i32 = 0;

  /** Takes the answer of the call that just returned `length`, which is negative for a failure. */
  static take(length: i32): Answer {
    const answer = new Answer();
    answer.failed = length < 0;
    answer.length = abs(length);
    answer.document = heap.alloc(answer.length);
    if (length == 2) {
      store<u16>(answer.document, 0x7d7b); // "{}": no other answer is as short, so there is nothing to fetch
    } else answer_read(answer.document, answer.length);
    parse(answer.document, answer.length, "the host's answer", answer);
    return answer;
  }

  /** Ends the run with the error that the host gave. */
  emit(): void {
    const out = new Writer();
    out.raw(null, this.document, this.length);
    stdout(out);
    exit(1);
  }

  /** This answer, if it is one; a failed one ends the run. */
  must(): this {
    if (this.failed) this.emit();
    return this;
  }

  /** The CNI code of a failed answer, such as 123 for a refusal of the kernel. */
  get code(): i64 {
    return this.int("code");
  }

  /** The handle that a call on links answered. */
  get link(): i64 {
    return this.int("link");
  }
}

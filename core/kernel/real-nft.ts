/** The nf_tables objects of one network namespace over netlink. */
import type { Conversation, Request } from "../netlink/conversation.ts";
import {
  chain as chainMessage,
  type ElementsMessage,
  elements as elementsMessage,
  type NftFamily,
  NftMessage,
  rule as ruleMessage,
  table as tableMessage,
} from "../netlink/nft.ts";
import { deadlineIn } from "../sys/clock.ts";
import { Errno } from "../sys/error.ts";
import { KernelError, refuse } from "./kernel.ts";
import {
  batchEnds,
  describe,
  generationRequest,
  inFamily,
  isForward,
  probeRequest,
  requestsOf,
  toBaseChains,
  toRuleThere,
} from "./nft-messages.ts";
import type { Nftables, NftBaseChain, NftChange, NftMapElement, NftRule, NftTableContent } from "./nftables.ts";

/** The kernel answers so to a batch that was made for an older generation of the rules. */
const ERESTART = 85;
/** How often a delete is made anew because somebody else changed the rules between look and act. */
const GENERATIONS = 50;
const GENERATIONS_TIMEOUT_MS = 10_000;

export class RealNftables implements Nftables {
  readonly #connect: () => Conversation;

  /** @param connect The namespace's conversation with nfnetlink, opened when first asked for. */
  constructor(connect: () => Conversation) {
    this.#connect = connect;
  }

  get #netlink(): Conversation {
    return this.#connect();
  }

  change(changes: readonly NftChange[]): void {
    // What is not there is left out, and what is left holds only for the generation that was looked at: together that
    // is a delete that tolerates absence and never takes another's element, on any kernel.
    this.#transact(() => this.#present(changes));
  }

  revise(decide: () => readonly NftChange[]): void {
    this.#transact(() => {
      const answer = this.#netlink.ask(generationRequest);
      refuse("read the generation of the nft rules", answer);
      const generation = answer.reply?.id;
      return { present: decide(), ...(generation === undefined ? {} : { generation }) };
    });
  }

  #transact(look: () => { readonly present: readonly NftChange[]; readonly generation?: number }): void {
    const deadline = deadlineIn(GENERATIONS_TIMEOUT_MS);
    for (let attempt = 1; ; attempt++) {
      const { present, generation } = look();
      if (present.length === 0) return;
      const { begin, end } = batchEnds(generation);
      const requests = requestsOf(present);
      const verdict = this.#netlink.batch(
        begin,
        requests.map((r) => r.request),
        end,
      );
      if (verdict.errno === 0) return;
      if (verdict.errno === ERESTART && attempt < GENERATIONS) {
        if (this.#netlink.pause(Math.min(attempt - 6, 0), deadline)) continue;
      }
      const failed = requests[verdict.index]?.change;
      const doing = failed === undefined ? "change nft rules" : describe(failed);
      // Linux before 5.15 calls an element that is there with another verdict busy.
      const clash = failed?.op === "add" && failed.what === "element" && verdict.errno === Errno.EBUSY;
      throw new KernelError(doing, clash ? Errno.EEXIST : verdict.errno, verdict.text);
    }
  }

  #present(changes: readonly NftChange[]): { present: readonly NftChange[]; generation?: number } {
    const deletes = changes.filter((change) => change.op === "delete");
    if (deletes.length === 0) return { present: changes };
    const answers = this.#netlink.askAll([generationRequest, ...deletes.map(probeRequest)]);
    const [first] = answers;
    if (first === undefined) return { present: changes };
    refuse("read the generation of the nft rules", first);
    const absent = new Set<NftChange>();
    for (const [i, change] of deletes.entries()) {
      const answer = answers[i + 1];
      if (answer === undefined) continue;
      if (answer.errno === Errno.ENOENT) absent.add(change);
      else refuse(describe(change), answer);
      if (change.what === "element" && answer.reply !== undefined) {
        const [found] = (answer.reply as ElementsMessage).elements ?? [];
        if ((found?.data?.verdict?.chain ?? "") !== change.chain) absent.add(change);
      }
    }
    for (const change of deletes) {
      if (change.what !== "element" || change.unlessIn === undefined || absent.has(change)) continue;
      const going = deletes.filter((d) => d.what === "element" && d.map === change.unlessIn && !absent.has(d));
      const { family, table, unlessIn } = change;
      const users = (this.elements(family, table, unlessIn) ?? []).filter(({ key }) => beginsWith(key, change.key));
      if (users.some(({ key }) => !going.some((d) => d.what === "element" && sameBytes(d.key, key))))
        absent.add(change);
    }
    const { id } = first.reply as { id?: number };
    const present = changes.filter((change) => !absent.has(change));
    return { present, ...(id === undefined ? {} : { generation: id }) };
  }

  chains(family: NftFamily, table: string): string[] {
    const value = { family: inFamily(family) };
    const request = { type: NftMessage.GETCHAIN, codec: chainMessage, value, reply: chainMessage };
    const found = this.#dump(`list nft chains of "${family} ${table}"`, request);
    return found.filter((m) => m.table === table).map((m) => m.name ?? "");
  }

  rules(family: NftFamily, table: string, name: string): NftRule[] | undefined {
    const inTable = { family: inFamily(family), table };
    const doing = `list nft rules of "${family} ${table} ${name}"`;
    const request = {
      type: NftMessage.GETRULE,
      codec: ruleMessage,
      value: { ...inTable, chain: name },
      reply: ruleMessage,
    };
    const found = this.#dump(doing, request).filter((m) => m.table === table && m.chain === name);
    if (found.length > 0) return found.map(toRuleThere);
    const value = { ...inTable, name };
    const there = this.#netlink.ask({ type: NftMessage.GETCHAIN, codec: chainMessage, value, reply: chainMessage });
    if (there.errno === Errno.ENOENT) return undefined;
    refuse(doing, there);
    return [];
  }

  forwardChains(): NftBaseChain[] {
    const request = { type: NftMessage.GETCHAIN, codec: chainMessage, value: { family: 0 }, reply: chainMessage };
    const chains = this.#dump("list nft chains", request).filter(isForward);
    if (chains.length === 0) return [];
    const tables = { type: NftMessage.GETTABLE, codec: tableMessage, value: { family: 0 }, reply: tableMessage };
    return toBaseChains(chains, this.#dump("list nft tables", tables));
  }

  table(family: NftFamily, name: string): NftTableContent | undefined {
    const inTable = { family: inFamily(family), table: name };
    const doing = `list nft table "${family} ${name}"`;
    const value = { family: inTable.family, name };
    const there = this.#netlink.ask({ type: NftMessage.GETTABLE, codec: tableMessage, value, reply: tableMessage });
    if (there.errno === Errno.ENOENT) return undefined;
    refuse(doing, there);
    const request = { type: NftMessage.GETRULE, codec: ruleMessage, value: inTable, reply: ruleMessage };
    const rules = this.#dump(doing, request).filter((m) => m.table === name);
    return { chains: this.chains(family, name), rules: rules.map(toRuleThere) };
  }

  elements(family: NftFamily, table: string, map: string): NftMapElement[] | undefined {
    const doing = `list nft map "${family} ${table} ${map}"`;
    const value = { family: inFamily(family), table, set: map };
    const answer = this.#netlink.dump({
      type: NftMessage.GETELEMENT,
      codec: elementsMessage,
      value,
      reply: elementsMessage,
    });
    if (answer.errno === Errno.ENOENT) return undefined;
    refuse(doing, answer);
    const out: NftMapElement[] = [];
    for (const message of answer.replies) {
      for (const { key, data } of message.elements ?? []) {
        if (key?.value === undefined) continue;
        const value = data?.value === undefined ? {} : { value: data.value };
        out.push({ key: key.value, chain: data?.verdict?.chain ?? "", ...value });
      }
    }
    return out;
  }

  #dump<Reply>(doing: string, request: Request<Reply>): readonly Reply[] {
    const answer = this.#netlink.dump(request);
    if (answer.errno === Errno.ENOENT) return [];
    refuse(doing, answer);
    return answer.replies;
  }
}

const beginsWith = (bytes: Uint8Array, start: Uint8Array): boolean => start.every((byte, i) => byte === bytes[i]);
const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && beginsWith(a, b);

import { attrs, bytes, cstr, type Into, i32be, NESTED } from "../wire/codec.ts";

/** `NFTA_VERDICT_*` */
const verdict = attrs({ code: [1, i32be], chain: [2, cstr] });

/** `NFTA_DATA_*`: bytes for a register, or what becomes of a packet. */
export const data = attrs({ value: [1, bytes], verdict: [2 | NESTED, verdict] });
export type NftData = Into<typeof data>;

/** `NF_*` and `NFT_*` verdicts */
export const Verdict = { DROP: 0, ACCEPT: 1, JUMP: -3, GOTO: -4, RETURN: -5 } as const;

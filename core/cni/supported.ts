/** What we read and write, ascending. It imports nothing: the answer to VERSION needs no more than this. */
export const SUPPORTED = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] as const;
export type Version = (typeof SUPPORTED)[number];
export const NEWEST: Version = "1.1.0";

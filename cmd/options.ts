/** Options of the command line, as the commands read them. */
import { show } from "../core/base/brand.ts";
import { CniError, Code } from "../core/base/error.ts";

export type Values = { readonly [name: string]: string | boolean | undefined };

/** A whole number of seconds from an option. @throws {CniError} 7 */
export function seconds(text: string | boolean | undefined, otherwise: number, option: string): number {
  if (typeof text !== "string") return otherwise;
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new CniError(Code.InvalidConfig, `Cannot use ${show(text)} for ${option}: expected a whole number of seconds`, {
    remedy: `Write, for example, ${option} 60`,
  });
}

/**
 * Log lines on stderr by pino, which is loaded when there is something to say: an operation that goes well says
 * nothing there, because runtimes show a plugin's stderr only when it fails.
 */

export type Level = "debug" | "info" | "warn" | "error";

interface Line {
  readonly level: Level;
  readonly bindings: Readonly<Record<string, string>>;
  readonly message: string;
  readonly cause: unknown;
}

const LEVELS: readonly Level[] = ["debug", "info", "warn", "error"];
const waiting: Line[] = [];

/**
 * Below a warning nothing is kept, unless `PATCHBAY_LOG=debug` is in the environment.
 *
 * @param environment Of whoever asked for the operation.
 * @param bindings In every line.
 */
export function logTo(
  environment: Readonly<Record<string, string | undefined>>,
  bindings: Readonly<Record<string, string>>,
): (level: Level, message: string, cause?: unknown) => void {
  waiting.length = 0; // of an operation that went well, which has nothing to say
  const least = LEVELS.indexOf(environment.PATCHBAY_LOG === "debug" ? "debug" : "warn");
  return (level, message, cause) => {
    if (LEVELS.indexOf(level) >= least) waiting.push({ level, bindings, message, cause });
  };
}

/** What was said, as lines of JSON. */
export async function takeLog(): Promise<string> {
  if (waiting.length === 0) return "";
  const { pino } = await import("pino");
  let text = "";
  const write = (line: string): void => {
    text += line;
  };
  const logger = pino({ level: "debug", base: null }, { write });
  for (const { level, bindings, message, cause } of waiting.splice(0)) {
    logger[level]({ ...bindings, ...(cause instanceof Error && { err: cause }) }, message);
  }
  return text;
}

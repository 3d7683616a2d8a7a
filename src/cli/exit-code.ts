/** What a command's end means to whoever called it. */
import { AppError, describeError, isAbort } from "../base/errors.ts";

export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

/** Faults of what was typed, rather than of the world. */
const USAGE: ReadonlySet<string> = new Set([
  "USAGE",
  "CONFIG_INVALID",
  "INPUT_INVALID",
  "NAME_AMBIGUOUS",
  "SERVER_URL_INVALID",
  "INVALID_JSON",
  "INVALID_BODY",
  "INVALID_ID",
  "BODY_TOO_LARGE",
  "PLAN_REFUSED",
]);

export interface End {
  readonly exitCode: number;
  /** For standard error; undefined when everything was said. */
  readonly message?: string | undefined;
}

/** @param interrupted whether the user asked to stop @param isRole what ended is a role that was up, rather than a command */
export function endOf(error: unknown, interrupted: boolean, isRole = false): End {
  // Who interrupts a command knows why it failed; a role that fails while it stops must say so.
  if (interrupted && (!isRole || isAbort(error))) return { exitCode: EXIT.interrupted };
  // Commander has printed its message, and throws for --help and --version as well.
  if (isCommander(error)) return { exitCode: error.exitCode === 0 ? EXIT.ok : EXIT.usage };
  const code = error instanceof AppError ? error.code : "";
  return { exitCode: USAGE.has(code) ? EXIT.usage : EXIT.failed, message: `oak: ${explain(error)}` };
}

/** The common faults of a machine, with their remedy. */
function explain(error: unknown): string {
  const text = describeError(error);
  const codes = codesOf(error);
  if (codes.includes("EADDRINUSE"))
    return `${text}\nSomething else listens there: find it with "ss -ltnp", or choose another port (oak up --help)`;
  if (codes.includes("RUNTIME_UNAVAILABLE"))
    return `${text}\nIs containerd running? "npm start" starts one, --containerd-socket names another`;
  if (codes.includes("ENOSPC")) return `${text}\nThe disk is full: make room, and try again`;
  if (codes.includes("EACCES") || codes.includes("EPERM")) return `${text}\nroot may do that: use sudo`;
  return text;
}

function codesOf(error: unknown): unknown[] {
  const codes: unknown[] = [];
  for (let current = error; current instanceof Error && codes.length < 10; current = current.cause)
    codes.push((current as { code?: unknown }).code);
  return codes;
}

function isCommander(error: unknown): error is { exitCode: number } {
  const code = error instanceof Error ? (error as { code?: unknown }).code : undefined;
  return typeof code === "string" && code.startsWith("commander.");
}

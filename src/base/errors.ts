/**
 * A failure with a stable code. Callers match `code`, never the message; `cause` is always kept.
 * The message says action + quoted value + state: `Cannot start instance "a1": image "x" not found`.
 */
export class AppError<Code extends string = string> extends Error {
  readonly code: Code;
  /** Machine-readable particulars for the caller (field, value, holder …); must be free of secrets. */
  readonly details: Readonly<Record<string, unknown>>;

  constructor(code: Code, message: string, options: { cause?: unknown; details?: Record<string, unknown> } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "AppError";
    this.code = code;
    this.details = options.details ?? {};
  }
}

export function hasCode(error: unknown, code: string): boolean {
  return typeof error === "object" && error !== null && (error as { code?: unknown }).code === code;
}

/** True for the quiet end of aborted work; a timeout is a real failure and is not one. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && (error.name === "AbortError" || hasCode(error, "ABORT_ERR"));
}

/** What set off all that an error tells of. */
export function rootCause(error: unknown): unknown {
  let current = error;
  for (let depth = 0; depth < 5 && current instanceof Error && current.cause != null; depth++) current = current.cause;
  return current;
}

/** One line for logs and for `status_detail`: the message followed by those of its causes. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  let current: unknown = error;
  while (current !== undefined && current !== null && parts.length < 5) {
    const text = current instanceof Error ? current.message || current.name : String(current);
    if (!parts.some((part) => part.includes(text))) parts.push(text);
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join(": ");
}

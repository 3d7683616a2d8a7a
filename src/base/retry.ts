import { type Clock, systemClock } from "./clock.ts";
import { jitter } from "./random.ts";

export interface Backoff {
  readonly firstMs: number;
  readonly maxMs: number;
}

/** Exponential delay before try `attempt` (1 = the first retry), without jitter. Pure. */
export function backoffMs(attempt: number, { firstMs, maxMs }: Backoff): number {
  return Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30));
}

/**
 * Calls `fn` until it succeeds, with exponential back-off and jitter between tries.
 * Gives up with the last error after `attempts` (default: never) and at once on abort.
 */
export async function retry<T>(
  fn: (attempt: number) => Promise<T>,
  options: {
    backoff: Backoff;
    signal: AbortSignal;
    attempts?: number;
    clock?: Clock;
    onRetry?: (error: unknown, delayMs: number) => void;
    isFinal?: (error: unknown) => boolean;
  },
): Promise<T> {
  const { backoff, signal, attempts = Number.POSITIVE_INFINITY, clock = systemClock } = options;
  for (let attempt = 1; ; attempt++) {
    signal.throwIfAborted();
    try {
      return await fn(attempt);
    } catch (error) {
      if (signal.aborted || attempt >= attempts || options.isFinal?.(error)) throw error;
      const delayMs = jitter(backoffMs(attempt, backoff));
      options.onRetry?.(error, delayMs);
      await clock.sleep(delayMs, { signal });
    }
  }
}

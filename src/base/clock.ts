/** The only door to time; everything that waits or stamps takes a Clock, so that tests own time. */
export interface Clock {
  /** Epoch milliseconds, UTC. May jump: a stored stamp is a hint, never a proof of order. */
  now(): number;
  /** Milliseconds that never go backwards; for measuring spans and deadlines. */
  monotonic(): number;
  /** Resolves after `ms`, rejects with the signal's reason when it aborts. */
  sleep(ms: number, options?: { signal?: AbortSignal | undefined }): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: (ms, { signal } = {}) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => {
        clearTimeout(timer);
        reject(signal?.reason);
      };
      const timer = setTimeout(() => {
        signal?.removeEventListener("abort", onAbort);
        resolve();
      }, ms);
      signal?.addEventListener("abort", onAbort, { once: true });
    }),
};

/** Nanoseconds of the kernel's CLOCK_MONOTONIC: the same for it and for every process. */
export const kernelTime = (): bigint => process.hrtime.bigint();

/**
 * The clock as it was when this was called, going on without jumps: for what one process both stamps and checks, and what a
 * clock that is set must not end.
 */
export function steady(clock: Pick<Clock, "now" | "monotonic">): Pick<Clock, "now"> {
  const startedAt = clock.now() - clock.monotonic();
  return { now: () => Math.round(startedAt + clock.monotonic()) };
}

/** A signal that aborts with the parent, or with a TimeoutError after `timeoutMs`. */
export function deadline(timeoutMs: number, signal?: AbortSignal): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal ? AbortSignal.any([signal, timeout]) : timeout;
}

/** Calls `onEnd` after `ms`, unless the function that it returns is called before. For limits set thousands of times: a signal costs kilobytes. */
export function startTimer(ms: number, onEnd: () => void): () => void {
  const timer = setTimeout(onEnd, ms);
  return () => clearTimeout(timer);
}

/** Calls `work` in the next turn of the event loop, after all that has come in by then. */
export function inNextTurn(work: () => void): void {
  setImmediate(work);
}

/** Waits `ms`, or less when the signal aborts; never rejects. For loops that look at the signal themselves. */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  try {
    await clock.sleep(ms, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

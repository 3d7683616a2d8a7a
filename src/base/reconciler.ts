/**
 * The loop that every tier repeats: observe → plan → apply, single flight.
 * `trigger()` asks for a pass (bursts are debounced into one), a pass also runs every `resyncMs`,
 * and a failed pass is repeated with back-off and jitter. Nothing starts before `run()`.
 */
import { type Clock, pause, systemClock } from "./clock.ts";
import type { Logger } from "./log.ts";
import { jitter } from "./random.ts";
import { type Backoff, backoffMs } from "./retry.ts";

export interface ReconcilerOptions {
  readonly name: string;
  /** One pass. May return when it wants the next pass although nothing triggers one. */
  readonly pass: (signal: AbortSignal) => Promise<{ againInMs: number } | undefined>;
  readonly log: Logger;
  readonly resyncMs: number;
  readonly debounceMs?: number;
  /** The part of the time that passes may take, above 0 to 1: after a long one the next waits a while. Default 1. */
  readonly maxShare?: number;
  readonly backoff?: Backoff;
  readonly clock?: Clock;
}

/** One for all: making an error costs more than many a pass. */
const WOKEN = new Error("woken");
/** However long a pass took. */
const MAX_REST_MS = 500;

export class Reconciler {
  readonly #options: ReconcilerOptions;
  readonly #clock: Clock;
  #wanted = true;
  #wake: (() => void) | undefined;

  constructor(options: ReconcilerOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
  }

  trigger(): void {
    this.#wanted = true;
    this.#wake?.();
  }

  /** Runs passes until `signal` aborts, then resolves; a pass in flight gets the same signal. */
  async run(signal: AbortSignal): Promise<void> {
    const { name, pass, log, resyncMs, debounceMs = 0, backoff = { firstMs: 200, maxMs: 15_000 } } = this.#options;
    const { maxShare = 1 } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      const startedAt = this.#clock.monotonic();
      let pauseMs = resyncMs;
      try {
        this.#wanted = false;
        const result = await pass(signal);
        failures = 0;
        if (result) pauseMs = Math.min(pauseMs, result.againInMs);
      } catch (error) {
        if (signal.aborted) break;
        failures += 1;
        pauseMs = jitter(backoffMs(failures, backoff));
        log.warn({ loop: name, failures, retryInMs: pauseMs, error }, "reconcile pass failed");
        // A trigger must not defeat the back-off: the failing pass would spin.
        await pause(this.#clock, pauseMs, signal);
        this.#wanted = true;
        continue;
      }
      const restMs = Math.min(MAX_REST_MS, (this.#clock.monotonic() - startedAt) * (1 / maxShare - 1));
      if (restMs >= 1) await pause(this.#clock, restMs, signal);
      await this.#pause(Math.max(0, pauseMs - restMs), signal);
      if (debounceMs > 0 && !signal.aborted) await pause(this.#clock, debounceMs, signal);
    }
  }

  /** Waits for a trigger, for `ms`, or for abort, whichever is first. */
  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#wanted || signal.aborted) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort(WOKEN);
    await pause(this.#clock, ms, AbortSignal.any([signal, woken.signal]));
    this.#wake = undefined;
  }
}

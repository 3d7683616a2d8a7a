/**
 * Time by which a busy process may judge the silence of others: while its event loop is held up it hears nobody, so of each such
 * while only a moment counts. The same holds for a machine that was suspended.
 */
import { type Clock, pause } from "./clock.ts";

const LOOK_MS = 500;
/** Of the time between two looks no more counts. */
const MAX_STEP_MS = 1_000;

export class Attention implements Pick<Clock, "now" | "monotonic"> {
  readonly #clock: Clock;
  #counted: number;
  #lookedAt: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#counted = clock.monotonic();
    this.#lookedAt = this.#counted;
  }

  now(): number {
    return this.#clock.now();
  }

  /** Milliseconds that go on only while somebody listens; they need `run()`. */
  monotonic(): number {
    return this.#counted + Math.min(this.#clock.monotonic() - this.#lookedAt, MAX_STEP_MS);
  }

  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.look();
      await pause(this.#clock, LOOK_MS, signal);
    }
  }

  look(): void {
    this.#counted = this.monotonic();
    this.#lookedAt = this.#clock.monotonic();
  }
}

import type { Clock } from "../base/clock.ts";

/** Counts failures by key (an address) in fixed windows. */
export class AttemptLimit {
  readonly #max: number;
  readonly #windowMs: number;
  readonly #clock: Clock;
  readonly #byKey = new Map<string, { since: number; count: number }>();

  constructor(options: { readonly max: number; readonly windowMs: number; readonly clock: Clock }) {
    this.#max = options.max;
    this.#windowMs = options.windowMs;
    this.#clock = options.clock;
  }

  isExceeded(key: string): boolean {
    const entry = this.#byKey.get(key);
    return entry !== undefined && this.#isFresh(entry) && entry.count >= this.#max;
  }

  count(key: string): void {
    // Now and then is enough: entries are small.
    if (this.#byKey.size >= 1000) {
      for (const [other, entry] of this.#byKey) if (!this.#isFresh(entry)) this.#byKey.delete(other);
    }
    const entry = this.#byKey.get(key);
    if (entry && this.#isFresh(entry)) entry.count += 1;
    else this.#byKey.set(key, { since: this.#clock.monotonic(), count: 1 });
  }

  #isFresh({ since }: { since: number }): boolean {
    return this.#clock.monotonic() - since < this.#windowMs;
  }
}

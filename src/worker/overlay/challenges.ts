/**
 * Tells an introduction that is made now from a recorded one: a cookie is good for a moment, for one address and for one nonce, and
 * counts once. Nothing is kept of those who only ask for one.
 */
import { createHmac, randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";

/** A cookie is good for one to two of these. */
const PERIOD_MS = 10_000;
const COOKIE_BYTES = 8;

export interface Proof {
  readonly workerId: string;
  /** Where it came from. */
  readonly source: string;
  readonly nonce: string;
  readonly cookie: string;
}

export class Challenges {
  readonly #clock: Clock;
  readonly #secret = randomBytes(32);
  /** Nonces that have counted, while their cookies are good: who, and the monotonic ms; oldest first. */
  readonly #used = new Map<string, { readonly workerId: string; readonly at: number }>();
  /** The last of each worker. */
  readonly #last = new Map<string, string>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  cookieFor(source: string, nonce: string): string {
    return this.#cookie(source, nonce, this.#period());
  }

  /** The last proof of a worker may be repeated, since the answer may have been lost; an earlier one may not. */
  accepts({ workerId, source, nonce, cookie }: Proof): boolean {
    const now = this.#period();
    if (![now, now - 1].some((period) => this.#cookie(source, nonce, period) === cookie)) return false;
    this.#expire();
    if (this.#used.has(nonce) && this.#last.get(workerId) !== nonce) return false;
    this.#used.set(nonce, { workerId, at: this.#clock.monotonic() });
    this.#last.set(workerId, nonce);
    return true;
  }

  #period(): number {
    return Math.floor(this.#clock.monotonic() / PERIOD_MS);
  }

  #cookie(source: string, nonce: string, period: number): string {
    const digest = createHmac("sha256", this.#secret).update(`${period} ${source} ${nonce}`).digest();
    return digest.toString("hex", 0, COOKIE_BYTES);
  }

  #expire(): void {
    const oldest = this.#clock.monotonic() - 2 * PERIOD_MS;
    for (const [nonce, { workerId, at }] of this.#used) {
      if (at >= oldest) return;
      this.#used.delete(nonce);
      if (this.#last.get(workerId) === nonce) this.#last.delete(workerId);
    }
  }
}

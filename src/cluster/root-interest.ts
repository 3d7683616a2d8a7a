/**
 * What the root is told of our workers' interest. A key that nobody wants any more is kept, and kept up to date, for a moment:
 * workers that reconnect, or tell a wide interest in parts, must not make the root withdraw and repeat everything.
 */
import type { Interest, InterestKey } from "../protocol/route.ts";
import type { RouteBook } from "./route-book.ts";

const LINGER_MS = 2_000;
/** After a start, workers need a while to be back. */
const RETURN_MS = 60_000;

export class RootInterest {
  readonly #book: Pick<RouteBook, "keys" | "answer">;
  /** Unwanted keys, with the monotonic ms at which they are given up. */
  readonly #lingering = new Map<InterestKey, number>();
  /** Of those, the ones that we never told the root of. */
  readonly #offered = new Set<InterestKey>();
  readonly #added = new Set<InterestKey>();
  readonly #removed = new Set<InterestKey>();
  #isFull = true;

  constructor(book: Pick<RouteBook, "keys" | "answer">) {
    this.#book = book;
  }

  /** What was known before the start lingers until workers want it again. */
  load(now: number): void {
    for (const key of this.#book.keys()) this.#lingering.set(key, now + RETURN_MS);
  }

  startSession(): void {
    this.#isFull = true;
  }

  want(key: InterestKey): void {
    const isKept = this.#lingering.delete(key);
    // The root may have heard of our withdrawal meanwhile: telling it once more is never wrong.
    if (this.#offered.delete(key) || (!isKept && !this.#removed.delete(key))) this.#added.add(key);
  }

  /** The root has answered a key that nobody wants: the worker that will may be about to be chosen. */
  offered(key: InterestKey, now: number): void {
    if (this.#lingering.has(key)) return;
    this.#lingering.set(key, now + LINGER_MS);
    this.#offered.add(key);
  }

  unwant(key: InterestKey, now: number): void {
    // Of what the root has not answered there is nothing to keep.
    if (this.#book.answer(key) === undefined) this.#giveUp(key);
    else this.#lingering.set(key, now + LINGER_MS);
  }

  /** Keys to be forgotten, in order of their end. */
  expire(now: number): InterestKey[] {
    const expired = [...this.#lingering].filter(([, end]) => end <= now).map(([key]) => key);
    for (const key of expired) {
      this.#lingering.delete(key);
      this.#giveUp(key);
    }
    return expired;
  }

  untilNextMs(now: number): number {
    return [...this.#lingering.values()].reduce((first, end) => Math.min(first, end - now), Number.POSITIVE_INFINITY);
  }

  /** The message that the link needs now, taken as sent; undefined when it needs none. @param wanted all that somebody wants */
  next(wanted: Iterable<InterestKey>): Interest | undefined {
    const full = this.#isFull;
    const add = full ? [...wanted, ...this.#lingering.keys()] : [...this.#added];
    const remove = full ? [] : [...this.#removed];
    this.#isFull = false;
    if (full) this.#offered.clear();
    this.#added.clear();
    this.#removed.clear();
    return full || add.length + remove.length > 0 ? { full, add, remove } : undefined;
  }

  #giveUp(key: InterestKey): void {
    this.#offered.delete(key);
    if (!this.#added.delete(key)) this.#removed.add(key);
  }
}

/**
 * Who may have one of a bounded number of places: nobody keeps others out. A source has at most its share, and where all places are
 * taken, who has most gives one up to who has less. Pure.
 */
export interface FairShareOptions {
  readonly max: number;
  /** Of one source. */
  readonly share: number;
  /** What becomes of a source's next one beyond its share: refused, or in the place of its oldest. */
  readonly beyond: "refuse" | "replace";
}

export interface Admission<T> {
  readonly isAdmitted: boolean;
  /** Has lost its place. */
  readonly evicted?: T | undefined;
}

export class FairShare<T> {
  readonly #options: FairShareOptions;
  /** Oldest first. */
  readonly #held = new Map<string, Set<T>>();
  readonly #sources = new Map<T, string>();

  constructor(options: FairShareOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#sources.size;
  }

  items(): Iterable<T> {
    return this.#sources.keys();
  }

  /** @param item that has no place yet */
  add(source: string, item: T): Admission<T> {
    const { max, share, beyond } = this.#options;
    const own = this.#held.get(source)?.size ?? 0;
    if (own >= share && beyond === "refuse") return { isAdmitted: false };
    const isFull = this.#sources.size >= max;
    const loser = own >= share ? source : isFull ? this.#biggest(own) : undefined;
    if (isFull && loser === undefined) return { isAdmitted: false };
    const evicted = loser === undefined ? undefined : oldest(this.#held.get(loser)!);
    if (evicted !== undefined) this.delete(evicted);
    this.#held.set(source, (this.#held.get(source) ?? new Set()).add(item));
    this.#sources.set(item, source);
    return { isAdmitted: true, evicted };
  }

  /** Without a place: nothing happens. */
  delete(item: T): void {
    const source = this.#sources.get(item);
    if (source === undefined) return;
    this.#sources.delete(item);
    const held = this.#held.get(source)!;
    held.delete(item);
    if (held.size === 0) this.#held.delete(source);
  }

  /** The source that has most, and more than one more than `count`: or the two would take turns. */
  #biggest(count: number): string | undefined {
    let [found, most] = [undefined as string | undefined, count + 1];
    for (const [source, { size }] of this.#held) if (size > most) [found, most] = [source, size];
    return found;
  }
}

function oldest<T>(held: ReadonlySet<T>): T {
  const [first] = held;
  return first!;
}

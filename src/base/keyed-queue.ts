/** Runs jobs of one key one after the other, jobs of different keys side by side. A failed job does not stop its key. */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<unknown>>();

  run<T>(key: string, job: () => Promise<T>): Promise<T> {
    const tail = this.#tails.get(key) ?? Promise.resolve();
    const next = tail.then(job, job);
    const settled: Promise<void> = next.then(
      () => this.#forget(key, settled),
      () => this.#forget(key, settled),
    );
    this.#tails.set(key, settled);
    return next;
  }

  #forget(key: string, settled: Promise<unknown>): void {
    if (this.#tails.get(key) === settled) this.#tails.delete(key);
  }
}

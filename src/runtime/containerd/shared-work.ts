/** Work that several callers want at once is done once: it ends early only when every caller has gone. */
export class SharedWork<T> {
  readonly #running = new Map<string, { result: Promise<T>; waiting: number; cancel: AbortController }>();

  async run(key: string, signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    const entry = this.#running.get(key) ?? this.#begin(key, work);
    entry.waiting += 1;
    const leave = () => {
      entry.waiting -= 1;
      if (entry.waiting > 0) return;
      entry.cancel.abort(signal.reason);
      // Who comes now must not join what is being cancelled.
      if (this.#running.get(key) === entry) this.#running.delete(key);
    };
    return new Promise<T>((resolve, reject) => {
      const onAbort = () => {
        leave();
        reject(signal.reason);
      };
      signal.addEventListener("abort", onAbort, { once: true });
      entry.result.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
    });
  }

  #begin(key: string, work: (signal: AbortSignal) => Promise<T>) {
    const cancel = new AbortController();
    const entry = { result: work(cancel.signal), waiting: 0, cancel };
    this.#running.set(key, entry);
    const forget = () => {
      if (this.#running.get(key) === entry) this.#running.delete(key);
    };
    entry.result.then(forget, forget);
    return entry;
  }
}
